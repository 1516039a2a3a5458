"""Measure mAP on videos that are not trained on: the network's deployment view, run and judged by the runtime.

The numbers are those of `afsd evaluate CHECKPOINT`: the same view of the same weights (averaged, if the run averages)
goes through the runtime's detector, and its detections through the runtime's evaluation. Frames come from the frame
store, where they were sampled and resized as in detection, so that no video is decoded in every epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from runtime.annotations.activitynet import VideoAnnotation, load_annotations
from runtime.annotations.ground_truth import load_ground_truth
from runtime.common.log import LOGGER
from runtime.detector import Detector
from runtime.errors import ConfigError, InputError
from runtime.evaluation import EvaluationResult, evaluate
from runtime.evaluation.annotated_videos import warn_unknown
from runtime.evaluation.matching import checked_thresholds, judged_classes
from runtime.evaluation.number_lists import parse_tious
from runtime.features.feature_set import FeatureSet, open_features
from runtime.results.detections import Detections
from runtime.video.names import find_name
from training.checkpoints.files import Checkpoint
from training.config.settings import Config
from training.data.folds import Fold, make_folds
from training.deployment.views import make_torch_engine, model_spec
from training.stores.frame_store import FrameStore
from training.training_set import TrainingSet, annotations_path, choose_fold, config_folds, content_of, open_store

HELD_OUT = "held_out"
"""Value of `data.val_subset` for the videos that the fold of a feature set holds out."""
TEST_NAMES = ("test", "testing")
"""Names of subsets that are meant for judging."""

Progress = Callable[[int, int], None]
"""Function called with the number of videos that are done, and of all."""


@dataclass(frozen=True)
class Validator:
    """Measures mAP of a network in training on annotated videos, by ActivityNet's rule."""

    videos: Sequence[VideoAnnotation]
    """Annotations of the videos."""
    source: FrameStore | FeatureSet
    """Frames or features of the videos."""
    tious: tuple[float, ...]
    """Thresholds of the tIoU."""
    subset: str
    """Setting that named the videos."""
    contents: Mapping[str, str] = field(default_factory=dict)
    """Videos → digests, see `TrainingVideos`."""

    def __call__(
        self, checkpoint: Checkpoint, device: str = "cpu", progress: Progress = lambda done, of: None
    ) -> EvaluationResult:
        """Run a checkpoint's network on the videos and judge what it finds; random numbers are left as they were.

        Args:
            checkpoint: weights, configuration and classes.
            device: device of the network, "cpu" or "cuda:INDEX".
            progress: see `Progress`.

        Raises:
            CheckpointError: a weight is NaN or infinite.
            InputError: frames or features cannot be read.
            EngineError: the network gave NaN.
        """
        found: list[Detections] = []
        with torch.random.fork_rng(devices=[]):  # building a network draws its initial weights
            engine = make_torch_engine(checkpoint, "the network in training", device)
        with Detector(engine) as detector:
            for done, video in enumerate(self.videos):
                progress(done, len(self.videos))
                found.append(replace(self._run(detector, video.name), video=video.name))
        engine.close()
        progress(len(self.videos), len(self.videos))
        return evaluate(found, self.videos, self.tious)

    def _run(self, detector: Detector, video: str) -> Detections:
        if isinstance(self.source, FrameStore):
            return detector.run(self.source[video], fps=self.source.sample_fps(video))
        return detector.run(self.source.features(video))


def open_validator(found: TrainingSet) -> Validator | None:
    """Open the videos of `data.val_subset`, and complete the frame store with them; None: the setting is empty.

    Warns where these are the test videos: the weights that are chosen on them look better there than they are.

    Raises:
        ConfigError: videos that are trained on, or thresholds that are none.
        AnnotationError: the subset has no video or no action.
        InputError, VideoError: frames or features are missing or cannot be read.
    """
    config, subset = found.config, found.config.data.val_subset
    if not subset:
        return None
    videos, source = _open_features(found) if config.stream == "features" else _open_frames(found)
    judged_classes(videos)  # an AnnotationError where there is no action
    warn_unknown(model_spec(config, found.classes), videos)
    contents = content_of(source, [video.name for video in videos])
    return Validator(videos, source, _read_tious(config.run.val_tiou), subset, contents)


def require_apart(subset: str, names: Iterable[str], trained: Iterable[str]) -> None:
    """Raise a ConfigError if videos of `data.val_subset` are trained on, under any spelling of their names."""
    names, known = list(names), set(trained)
    both = sorted(name for name in names if find_name(name, known) is not None)
    if both:
        raise ConfigError(
            f"data.val_subset {subset!r}: {len(both)} of its {len(names)} videos are trained on, the first is "
            f"{both[0]!r}; expected others: a subset of their own, or {HELD_OUT} with data.inner_group"
        )


def _open_frames(found: TrainingSet) -> tuple[Sequence[VideoAnnotation], FrameStore]:
    config, data = found.config, found.config.data
    videos = load_ground_truth(Path(data.root) / data.annotations, data.val_subset)
    require_apart(data.val_subset, (video.name for video in videos), (video.name for video in found.annotated))
    if data.val_subset.lower() in TEST_NAMES:
        LOGGER.warning(
            f"data.val_subset is {data.val_subset!r}: the best weights are chosen on the test videos, so their mAP "
            "there is too good; keep some training videos apart in a subset of their own"
        )
    return videos, open_store(config, [video.name for video in videos])


def _open_features(found: TrainingSet) -> tuple[Sequence[VideoAnnotation], FeatureSet]:
    data = found.config.data
    fold = choose_fold(config_folds(found.config), data)
    names = fold.test if data.val_subset == HELD_OUT else _list_subset(found.config)
    require_apart(data.val_subset, names, fold.train)
    outer = next(whole for whole in make_folds(annotations_path(data), data.split) if _is_inside(fold, whole))
    tested = set(names) & set(outer.test)
    if tested:
        LOGGER.warning(
            f"data.val_subset {data.val_subset!r}: {len(tested)} of its {len(names)} videos are test videos of fold "
            f"{outer.name}, so mAP of the best weights there is too good; hold out training videos (data.inner_group)"
        )
    source, videos = open_features(data.features_path, names=names, fold=fold.feature_fold, streams=data.streams)
    return videos, source


def _list_subset(config: Config) -> tuple[str, ...]:
    videos = load_annotations(annotations_path(config.data), config.data.val_subset)
    return tuple(video.name for video in videos)


def _is_inside(fold: Fold, whole: Fold) -> bool:
    return fold.name == whole.name or fold.name.startswith(f"{whole.name}/")


def _read_tious(text: str) -> tuple[float, ...]:
    try:
        return checked_thresholds(parse_tious(text))
    except InputError as error:
        raise ConfigError(f"run.val_tiou: {str(error).removeprefix('--tiou: ')}") from None
