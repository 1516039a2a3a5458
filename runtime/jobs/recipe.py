"""Say on what the detections of a video depend beside the video: models, options, release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import runtime
from runtime.common.files import file_sha256
from runtime.common.mappings import to_mapping
from runtime.common.ranges import Share
from runtime.engines.artifact import READERS, read_artifact
from runtime.errors import EngineError, InputError
from runtime.jobs.settings import JobSettings
from runtime.video.flow import FlowEstimator
from runtime.video.readers.choice import resolve_reader

APART = ("batch_size", "min_score", "timing", "reader", "flow_method")
"""Options of the detector that a recipe does not hold as they are: the first changes no result, the others are held
as what they come to."""


@dataclass(frozen=True)
class Recipe:
    """Holds all on which the detections of a video depend beside the video. Two that are equal give the same results.

    The engine's library, its release and the processor are not in it: they change the last digits of scores and times.
    """

    version: str
    """Release of this project."""
    models: Mapping[str, str]
    """Role of a model, "engine", "flow_engine", "backbone 1" …, and its SHA-256."""
    options: Mapping[str, Any]
    """Options by name, as JSON has them."""
    lowest: Share
    """Lowest score of the detections."""
    selects: bool = False
    """Whether some detections are left out because of others, so that no others can be had from those that are kept."""
    labels: Mapping[str, Any] = field(default_factory=dict)
    """SHA-256 of a classifier's scores, and the number of labels per video; empty: none."""

    def covers(self, wanted: Recipe) -> bool:
        """Return whether results of this recipe have those of another, of which they may be more."""
        return self._rest() == wanted._rest() and (
            self.lowest == wanted.lowest or (not self.selects and self.lowest < wanted.lowest)
        )

    def _rest(self) -> tuple[Any, ...]:
        return self.version, dict(self.models), dict(self.options), self.selects, dict(self.labels)


def make_recipe(settings: JobSettings) -> Recipe:
    """Return the recipe of a job, reading the files of its models.

    Raises:
        EngineError, SpecError: a model is missing, or no model.
        OSError: a file cannot be read.
    """
    given = settings.options
    models = _models(settings)
    sees_flow = any(map(_sees_flow, models.values()))
    options = {key: value for key, value in to_mapping(given).items() if key not in APART}
    options |= {
        "timing": given.frame_timing,
        "reader": resolve_reader(given.reader),
        "flow_method": FlowEstimator(given.flow_method).name if sees_flow else "",
        "fps": settings.fps,
        "precision": settings.engine_options.precision,
        "provider": settings.engine_options.provider,
    }
    labels: dict[str, Any] = {}
    if settings.video_scores is not None:
        labels = {"sha256": file_sha256(Path(settings.video_scores)), "per_video": settings.labels_per_video}
    return Recipe(
        runtime.__version__,
        {role: model_digest(path) for role, path in models.items()},
        options,
        given.min_score,
        settings.selects,
        labels,
    )


def require_same_models(recipe: Recipe, settings: JobSettings, advice: str) -> None:
    """Check that the models of a job are those of its recipe, from which its records say what was done with which.

    Args:
        recipe: recipe of the job.
        settings: its settings, whose models are looked at now.
        advice: what happened, and what to do, in the error.

    Raises:
        InputError: a model is another one.
        EngineError, SpecError, OSError: see `make_recipe`.
    """
    for role, path in _models(settings).items():
        if model_digest(path) != recipe.models.get(role):
            raise InputError(f"{role} {path}: {advice}")


def _models(settings: JobSettings) -> dict[str, Path]:
    """Return the files of the models by their roles."""
    roles = {"engine": settings.engine, "flow_engine": settings.flow_engine}
    roles |= {f"backbone {number}": path for number, path in enumerate(settings.backbones, 1)}
    return {role: Path(path) for role, path in roles.items() if path is not None}


def model_digest(path: Path) -> str:
    """Return the SHA-256 that identifies a model: the one that its files carry, or that of their bytes.

    Raises:
        EngineError, SpecError: the model is missing, or no model.
        OSError: a file cannot be read.
    """
    if not path.is_file():
        raise EngineError(f"{path}: file not found; expected an engine file (.onnx, .xml or .engine)")
    if path.suffix.lower() not in READERS:
        return file_sha256(path)
    artifact = read_artifact(path, verify=False)
    if artifact.sha256:
        return artifact.sha256
    digests = [file_sha256(file) for file in artifact.files]
    return digests[0] if len(digests) == 1 else sha256(" ".join(digests).encode()).hexdigest()


def _sees_flow(path: Path) -> bool:
    """Return whether a model sees optical flow, or nobody knows, so that the method matters."""
    return path.suffix.lower() not in READERS or "flow" in read_artifact(path, verify=False).spec.stream
