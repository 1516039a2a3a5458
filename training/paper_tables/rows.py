"""What the rows of A2Net's and AFSD's tables are: which networks are trained, and how their candidates are joined."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from runtime.errors import ConfigError
from training.config.files import apply_overrides
from training.config.settings import Config

Measure = Literal["precision", "durations", "proposals", "two-stage"]

LEVELS = (3, 4, 5, 6)
"""Levels of Table VI."""
BALANCES = (0.2, 0.4, 0.5, 0.6, 0.8)
"""λ of Table V."""
NO_POOLING = ("model.refinement=naive", "loss.consistency=none")
"""AFSD's second stage without boundary features, which leaves nothing to teach by consistency (its Table 2 d)."""


@dataclass(frozen=True)
class Network:
    """One cross-validation: a configuration, and the folder of its runs."""

    key: str
    """Name of the folder; networks of one key are trained once, for all tables."""
    config: Config


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    label: str
    networks: tuple[Network, ...]
    """Several: fused late, their candidates in one NMS."""
    balance: float | None = None
    """λ of the decoding, where it is not the configuration's."""
    weights: tuple[float, ...] = ()
    """Factors of the networks' scores; empty: all 1."""


@dataclass(frozen=True)
class Configs:
    """The networks that the tables vary."""

    a2net: Config
    afsd: Config
    two_stage: Config
    """A two-stage detector, whose proposal network is to have both modules."""
    stream_weights: tuple[float, ...] = ()
    """Late fusion of streams (A2Net, Table VII): factors of their scores; empty: all 1."""
    streams: int = 1
    """Streams of the feature set."""


def modules(configs: Configs) -> tuple[Row, ...]:
    """A2Net, Tables I, III and XIII: either module alone, both late, both trained together."""
    af, ab = (_change(configs.a2net, key, f"a2net.modules={name}") for key, name in ALONE.items())
    return (
        Row("anchor-free", (af,)),
        Row("anchor-based", (ab,)),
        Row("late fusion", (af, ab)),
        Row("joint", (Network("joint", configs.a2net),)),
    )


def balances(configs: Configs) -> tuple[Row, ...]:
    """A2Net, Table V: λ of the jointly trained network."""
    joint = (Network("joint", configs.a2net),)
    return tuple(Row(f"λ = {balance:g}", joint, balance) for balance in BALANCES)


def levels(configs: Configs) -> tuple[Row, ...]:
    """A2Net, Table VI and Fig. 6: the finest 3, 4, 5 and 6 levels, as far as the configuration has them."""
    assert configs.a2net.a2net is not None
    channels = configs.a2net.a2net.level_channels
    rows = []
    for count in (count for count in LEVELS if count <= len(channels)):
        key = "joint" if count == len(channels) else f"levels-{count}"
        rows.append(Row(f"{count} levels", (_change(configs.a2net, key, *_of_levels(configs.a2net, count)),)))
    return tuple(rows)


def streams(configs: Configs) -> tuple[Row, ...]:
    """A2Net, Table VII: each stream alone, early fusion (joined channels), late fusion of networks on one stream each.

    Raises:
        ConfigError: the feature set has one stream.
    """
    if configs.streams < 2:
        raise ConfigError(f"{configs.a2net.data.root}: features of one stream, expected two or more for this table")
    alone = [
        _change(configs.a2net, f"stream-{number}", f"data.streams=[{number}]") for number in range(configs.streams)
    ]
    return (
        *(Row(f"stream {number}", (network,)) for number, network in enumerate(alone)),
        Row("early fusion", (Network("joint", configs.a2net),)),
        Row("late fusion", tuple(alone), weights=configs.stream_weights),
    )


def afsd(configs: Configs) -> tuple[Row, ...]:
    """AFSD on features: without boundary pooling, without consistency learning, and whole."""
    return (
        Row("AFSD without boundary pooling", (_change(configs.afsd, "afsd-no-pooling", *NO_POOLING),)),
        Row(
            "AFSD without consistency",
            (_change(configs.afsd, "afsd-no-consistency", "loss.consistency=none"),),
        ),
        Row("AFSD", (Network("afsd", configs.afsd),)),
    )


def two_stage(configs: Configs) -> tuple[Row, ...]:
    """Section III-G: a two-stage detector whose proposals are those of anchors alone, and of both modules."""
    alone = _change(configs.two_stage, "two-stage-anchors", "a2net.modules=anchor-based")
    return Row("two-stage, anchors", (alone,)), Row("with anchor-free", (Network("two-stage", configs.two_stage),))


def methods(configs: Configs) -> tuple[Row, ...]:
    """Both papers' networks in one table."""
    return tuple(Row(f"A2Net {row.label}", row.networks) for row in modules(configs)) + afsd(configs)


def single(configs: Configs) -> tuple[Row, ...]:
    """A2Net, Table XI: networks that run once for a window."""
    return tuple(row for row in methods(configs) if len(row.networks) == 1)


def custom(label: str, config: Config) -> Row:
    """A row of any configuration."""
    key = re.sub(r"[^\w.-]+", "-", label.lower()).strip("-.")
    if not key:
        raise ConfigError(f"row {label!r}: expected a label with a letter or a digit")
    return Row(label, (Network(key, config),))


ALONE: Mapping[str, str] = {"af": "anchor-free", "ab": "anchor-based"}
"""Folder → the module that is trained alone."""


def _change(config: Config, key: str, *settings: str) -> Network:
    return Network(key, apply_overrides(config, settings, f"{config.name}, {key}"))


def _of_levels(config: Config, count: int) -> Sequence[str]:
    assert config.a2net is not None
    ratios = config.a2net.anchor_ratios
    chosen = ratios if len(ratios) == 1 else ratios[:count]
    return (
        f"a2net.level_channels={list(config.a2net.level_channels[:count])}",
        f"a2net.anchor_ratios={[list(each) for each in chosen]}",
        f"a2net.point_levels={min(config.a2net.point_levels, count)}",
    )
