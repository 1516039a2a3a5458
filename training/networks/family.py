"""What a family of networks has to say of itself to be trained, recognised and exported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor, nn

from runtime.errors import ConfigError
from runtime.spec.anchors import A2NetLayout
from runtime.spec.constants import A2NetDecoding, Decoding, TwoStageDecoding
from runtime.spec.model import TensorSpec
from training.checkpoints.weights import load_weights
from training.config.settings import Config, RunConfig

Weights = Mapping[str, Tensor]
"""A state dict."""
N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True)
class FamilySpec:
    """The fields of a ModelSpec that differ from family to family, under the names they have there."""

    outputs: tuple[TensorSpec, ...]
    level_lengths: tuple[int, ...]
    decoding: Decoding
    a2net: A2NetLayout | None = None
    a2net_decoding: A2NetDecoding | None = None
    two_stage: TwoStageDecoding | None = None


def name_outputs(names: Sequence[str], sizes: Iterable[tuple[int, int]]) -> tuple[TensorSpec, ...]:
    """Describe the raw outputs float32 [batch, *size] of a network; an output without a row is not there."""
    named = zip(names, sizes, strict=True)
    return tuple(TensorSpec(name, ("batch", *size), "float32") for name, size in named if size[0])


def load_whole(network: nn.Module, weights: Weights, run: RunConfig) -> str:
    """Start a network on features from a checkpoint of its kind (see `TrainingFamily.load_initial`)."""
    if run.init_part == "backbone":
        raise ConfigError("run.init_part is 'backbone', expected 'all': a network on features has no backbone")
    load_weights(network, weights, run.init)
    return f"started from {run.init}"


@dataclass(frozen=True)
class TrainingFamily(Generic[N]):
    """One family of networks; `training.families.FAMILIES` has them all, `Config` their settings."""

    build: Callable[[Config], N]
    """Builds the network with its initial weights; its number of classes and its width of features must be known."""
    make_step: Callable[[N, Config], nn.Module]
    """Joins network and criterion into one module: a `Batch` → a named tuple of losses, the total first."""
    losses: tuple[str, ...]
    """Names in that tuple."""
    describe: Callable[[Config], FamilySpec]
    """Says what the deployed network gives and how that is decoded."""
    recognise: Callable[[Weights, str], Config | None] = lambda weights, origin: None
    """Finds the configuration of a published state dict, or None: of no network of this family. The file's name is for
    errors (CheckpointError)."""
    load_initial: Callable[[N, Weights, RunConfig], str] = load_whole
    """Starts a network from the weights that `run.init` has, and says what was loaded (CheckpointError, ConfigError:
    they do not fit)."""
    needs_rearranged: Callable[[Config], bool] = lambda config: False
    """Whether the criterion wants rearranged clips beside the others (AFSD, section 3.4)."""
    takes_lengths: bool = False
    """Whether the network takes the number of valid steps of each window as its second argument."""
    has_proposals: bool = False
    """Whether proposals without a class are ranked before detections, so that their recall is measured too."""
