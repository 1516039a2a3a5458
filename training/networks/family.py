"""Define what a family of networks provides to be trained, recognised and exported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor, nn

from runtime.errors import ConfigError
from runtime.spec.anchors import A2NetLayout
from runtime.spec.decoding_constants import A2NetDecoding, Decoding, TwoStageDecoding
from runtime.spec.tensors import TensorSpec
from training.checkpoints.weights import load_weights
from training.config.settings import Config, RunConfig

Weights = Mapping[str, Tensor]
"""State dict of a network."""
N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True)
class FamilySpec:
    """Holds the fields of a ModelSpec that differ from family to family, under their names in ModelSpec."""

    outputs: tuple[TensorSpec, ...]
    level_lengths: tuple[int, ...]
    decoding: Decoding
    a2net: A2NetLayout | None = None
    a2net_decoding: A2NetDecoding | None = None
    two_stage: TwoStageDecoding | None = None


def name_outputs(names: Sequence[str], sizes: Iterable[tuple[int, int]]) -> tuple[TensorSpec, ...]:
    """Describe the raw outputs float32 [batch, *size] of a network; outputs with 0 rows are left out."""
    named = zip(names, sizes, strict=True)
    return tuple(TensorSpec(name, ("batch", *size), "float32") for name, size in named if size[0])


def load_whole(network: nn.Module, weights: Weights, run: RunConfig) -> str:
    """Load all weights of a checkpoint of the same family (see `TrainingFamily.load_initial`)."""
    if run.init_part == "backbone":
        raise ConfigError("run.init_part is 'backbone', expected 'all': a network on features has no backbone")
    load_weights(network, weights, run.init)
    return f"started from {run.init}"


@dataclass(frozen=True)
class TrainingFamily(Generic[N]):
    """Describes one family of networks; `training.families.FAMILIES` lists all families, `Config` has their
    settings."""

    build: Callable[[Config], N]
    """Builds the network with its initial weights; the configuration must give number of classes and feature width."""
    make_step: Callable[[N, Config], nn.Module]
    """Joins network and criterion into one module that maps a `Batch` to a named tuple of losses, the total first."""
    losses: tuple[str, ...]
    """Names of the losses in the named tuple that the module of `make_step` returns."""
    describe: Callable[[Config], FamilySpec]
    """Describes the outputs of the deployed network and their decoding."""
    recognise: Callable[[Weights, str], Config | None] = lambda weights, origin: None
    """Finds the configuration of a published state dict, or None if no network of this family has such entries; the
    string names the file in a CheckpointError."""
    load_initial: Callable[[N, Weights, RunConfig], str] = load_whole
    """Loads the weights of `run.init` into a network and returns a line that reports it (CheckpointError, ConfigError:
    they do not fit)."""
    needs_rearranged: Callable[[Config], bool] = lambda config: False
    """Whether the criterion needs rearranged clips too (AFSD, section 3.4)."""
    uses_all_weights: bool = False
    """Whether every trained weight has a gradient in every batch, whatever the settings."""
    takes_lengths: bool = False
    """Whether the network takes the number of valid steps of each window as its second argument."""
    has_proposals: bool = False
    """Whether the network outputs ranked proposals without a class, whose recall is measured too."""
