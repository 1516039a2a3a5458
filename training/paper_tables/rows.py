"""Define the rows of A2Net's and AFSD's tables: networks to train, and how their candidates are joined."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from runtime.errors import ConfigError
from training.config.files import apply_overrides
from training.config.settings import Config

Measure = Literal["mean_ap", "durations", "proposals", "two-stage"]

LEVELS = (3, 4, 5, 6)
"""Numbers of levels in Table VI."""
BALANCES = (0.2, 0.4, 0.5, 0.6, 0.8)
"""Values of λ in Table V."""
NO_POOLING = ("model.refinement=naive", "loss.consistency=none")
"""Settings of AFSD's second stage without boundary features, and so without consistency learning (its Table 2 d)."""


@dataclass(frozen=True)
class Network:
    """Describes one cross-validation: a configuration, and the folder of its runs."""

    key: str
    """Name of the folder; networks with equal keys are trained once, for all tables."""
    config: Config


@dataclass(frozen=True)
class Row:
    """Describes one row of a table."""

    label: str
    networks: tuple[Network, ...]
    """Networks of the row; several are fused late, with their candidates in one NMS."""
    balance: float | None = None
    """λ of the decoding; None: the configuration's."""
    weights: tuple[float, ...] = ()
    """Factors on the networks' scores; empty: all 1."""


@dataclass(frozen=True)
class Configs:
    """Holds the configurations that the tables vary."""

    a2net: Config
    afsd: Config
    two_stage: Config
    """Configuration of a two-stage detector whose proposal network has both modules."""
    stream_weights: tuple[float, ...] = ()
    """Factors on the streams' scores in late fusion (A2Net, Table VII); empty: all 1."""
    streams: int = 1
    """Number of streams of the feature set."""


def compare_modules(configs: Configs) -> tuple[Row, ...]:
    """Return the rows of A2Net's Tables I, III and XIII: each module alone, late fusion, joint training."""
    af, ab = (_change(configs.a2net, key, f"a2net.modules={name}") for key, name in ALONE.items())
    return (
        Row("anchor-free", (af,)),
        Row("anchor-based", (ab,)),
        Row("late fusion", (af, ab)),
        Row("joint", (Network("joint", configs.a2net),)),
    )


def compare_balances(configs: Configs) -> tuple[Row, ...]:
    """Return the rows of A2Net's Table V: values of λ for the jointly trained network."""
    joint = (Network("joint", configs.a2net),)
    return tuple(Row(f"λ = {balance:g}", joint, balance) for balance in BALANCES)


def compare_levels(configs: Configs) -> tuple[Row, ...]:
    """Return the rows of A2Net's Table VI and Fig. 6: the finest 3, 4, 5 and 6 levels, as many as there are."""
    assert configs.a2net.a2net is not None
    channels = configs.a2net.a2net.level_channels
    rows = []
    for count in (count for count in LEVELS if count <= len(channels)):
        key = "joint" if count == len(channels) else f"levels-{count}"
        rows.append(Row(f"{count} levels", (_change(configs.a2net, key, *_keep_levels(configs.a2net, count)),)))
    return tuple(rows)


def compare_streams(configs: Configs) -> tuple[Row, ...]:
    """Return the rows of A2Net's Table VII: each stream alone, early fusion (joined channels), late fusion.

    Raises:
        ConfigError: the feature set has one stream.
    """
    if configs.streams < 2:
        raise ConfigError(f"{configs.a2net.data.root}: got features of one stream, expected two or more for this table")
    alone = [
        _change(configs.a2net, f"stream-{number}", f"data.streams=[{number}]") for number in range(configs.streams)
    ]
    return (
        *(Row(f"stream {number}", (network,)) for number, network in enumerate(alone)),
        Row("early fusion", (Network("joint", configs.a2net),)),
        Row("late fusion", tuple(alone), weights=configs.stream_weights),
    )


def compare_afsd(configs: Configs) -> tuple[Row, ...]:
    """Return the rows of AFSD on features: without boundary pooling, without consistency learning, and complete."""
    return (
        Row("AFSD without boundary pooling", (_change(configs.afsd, "afsd-no-pooling", *NO_POOLING),)),
        Row(
            "AFSD without consistency",
            (_change(configs.afsd, "afsd-no-consistency", "loss.consistency=none"),),
        ),
        Row("AFSD", (Network("afsd", configs.afsd),)),
    )


def compare_two_stages(configs: Configs) -> tuple[Row, ...]:
    """Return the rows of section III-G: two-stage detectors with proposals of anchors alone, and of both modules."""
    alone = _change(configs.two_stage, "two-stage-anchors", "a2net.modules=anchor-based")
    return Row("two-stage, anchors", (alone,)), Row("with anchor-free", (Network("two-stage", configs.two_stage),))


def compare_methods(configs: Configs) -> tuple[Row, ...]:
    """Return the rows of both papers' networks."""
    return tuple(Row(f"A2Net {row.label}", row.networks) for row in compare_modules(configs)) + compare_afsd(configs)


def compare_single_networks(configs: Configs) -> tuple[Row, ...]:
    """Return the rows of A2Net's Table XI: methods with one network per window."""
    return tuple(row for row in compare_methods(configs) if len(row.networks) == 1)


def make_row(label: str, config: Config) -> Row:
    """Make a row of any configuration."""
    key = re.sub(r"[^\w.-]+", "-", label.lower()).strip("-.")
    if not key:
        raise ConfigError(f"row {label!r}: expected a label with a letter or a digit")
    return Row(label, (Network(key, config),))


ALONE: Mapping[str, str] = {"af": "anchor-free", "ab": "anchor-based"}
"""Modules that are trained alone, by folder."""


def _change(config: Config, key: str, *settings: str) -> Network:
    return Network(key, apply_overrides(config, settings, f"{config.name}, {key}"))


def _keep_levels(config: Config, count: int) -> Sequence[str]:
    assert config.a2net is not None
    ratios = config.a2net.anchor_ratios
    chosen = ratios if len(ratios) == 1 else ratios[:count]
    return (
        f"a2net.level_channels={list(config.a2net.level_channels[:count])}",
        f"a2net.anchor_ratios={[list(each) for each in chosen]}",
        f"a2net.point_levels={min(config.a2net.point_levels, count)}",
    )
