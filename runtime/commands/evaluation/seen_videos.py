"""Find the videos that a network has seen among those that judge it, and say so.

A network was calibrated, trained or chosen on videos that its ModelSpec lists; on them it is better than on others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from runtime.common.console import print_warning
from runtime.common.files import is_file
from runtime.common.text import some
from runtime.engines.artifact import READERS, read_artifact
from runtime.errors import AfsdError, InputError
from runtime.features.feature_set import FeatureSet
from runtime.features.files import FEATURE_SUFFIXES
from runtime.features.video_features import Features, Video, identify_video
from runtime.results.detections import Detections
from runtime.spec.model import ModelSpec
from runtime.spec.training_videos import TrainingVideos
from runtime.two_streams import AND, is_pair
from runtime.video.names import find_name

CHECKPOINTS = (".ckpt", ".safetensors")
"""Suffixes of models that are opened to be asked, also where a file of detections names them: no code is in them."""


def check_unseen(
    spec: ModelSpec, videos: Mapping[str, Video | None], *, force: bool = False, warn: bool = False
) -> None:
    """Refuse to judge a network on videos that it was calibrated on, and warn of those it was trained or chosen on.

    Args:
        spec: spec of the network.
        videos: videos that judge it, each under its annotated name; of None the name is known and no content.
        force: take videos of the calibration all the same.
        warn: warn of videos of the calibration, too: the network has judged them already.

    Raises:
        InputError: the network was calibrated on one of the videos, under any name, and not `force`.
    """
    calibrated = {} if spec.quantization is None or force else spec.quantization.videos
    record = spec.training_videos or TrainingVideos()
    if not (calibrated or record.trained or record.chosen):
        return
    digests = {name: identify_video(video) for name, video in videos.items() if video is not None}
    both = find_same_content(calibrated, digests)
    if both and warn:
        print_warning(
            f"the model was calibrated on {len(both)} of the {len(videos)} judged videos ({some(both)}), "
            "so the result is somewhat too good; judge on others"
        )
    elif both:
        name, there = next(iter(both.items()))
        raise InputError(
            f"the network was calibrated on {len(both)} of the {len(videos)} videos, {name} ({there} there) among "
            "them, so the result would be too good; judge on others, calibrate on others, or give --force"
        )
    trained = find_trained(record.trained, videos, digests)
    if trained:
        print_warning(
            f"the model was trained on {len(trained)} of the {len(videos)} judged videos ({some(trained)}), so "
            f"the result is far too good; {_advise(record)}"
        )
    chosen = [name for name in find_trained(record.chosen, videos, digests) if name not in trained]
    if chosen:
        print_warning(
            f"the best epoch of the model was chosen on {len(chosen)} of the {len(videos)} judged videos "
            f"({some(chosen)}), so the result is somewhat too good; judge on others"
        )


def find_models(found: Sequence[Detections], written: Path | None = None) -> list[ModelSpec]:
    """Return the specs of the models that made detections, of those that remember the same videos one.

    Args:
        found: the detections; models whose files are not there, or damaged, are left out.
        written: file of a model into which the result is written.
    """
    models = [part.facts.model for part in found if part.facts is not None and part.facts.model]
    named = [Path(model.partition(AND)[0] if is_pair(model) else model) for model in models]
    specs: list[ModelSpec] = []
    for path in dict.fromkeys([*named, *([written] if written else [])]):
        if is_file(path) and path.suffix.lower() in (*READERS, *CHECKPOINTS):
            with suppress(AfsdError, OSError):
                spec = _read_spec(path)
                remembered = (spec.training_videos, spec.quantization)
                if remembered not in [(one.training_videos, one.quantization) for one in specs]:
                    specs.append(spec)
    return specs


def _read_spec(path: Path) -> ModelSpec:
    if path.suffix.lower() in READERS:
        return read_artifact(path).spec
    from runtime.engines.registry import open_engine

    engine = open_engine(path)
    engine.close()
    return engine.spec


def judged_files(
    found: Sequence[Detections], names: Iterable[str], files: Mapping[str, Path]
) -> dict[str, Video | None]:
    """Return the video of each name, of those that judge a model: the file that was read, or one of `files`.

    None stands for a video whose file is not there, and for features, of which the name counts.
    """
    read = {part.video: Path(part.facts.path) for part in found if part.facts is not None and part.facts.path}
    videos: dict[str, Video | None] = {}
    for name in names:
        known = find_name(name, read)
        path = None if known is None else read[known]
        path = path if path is not None and is_file(path) else files.get(name)
        videos[name] = None if path is None or path.suffix.lower() in FEATURE_SUFFIXES else path
    return videos


def find_same_content(record: Mapping[str, str], digests: Mapping[str, str]) -> dict[str, str]:
    """Return the videos whose content is in a record, under any name, with the name that each has there."""
    there = {digest: name for name, digest in record.items() if digest}
    return {name: there[digest] for name, digest in digests.items() if digest in there}


def find_trained(
    record: Mapping[str, str], videos: Mapping[str, Video | None], digests: Mapping[str, str]
) -> list[str]:
    """Return the names of the videos that are in a record of training, by content or by name.

    A name alone counts for features, which may have been made anew of the same video, and where the record has no
    digest or the video has no file here. A video file of the name of a training video, but of other content, is taken
    for another video.
    """
    same = find_same_content(record, digests)

    def is_named(name: str) -> bool:
        known = find_name(name, record)
        return known is not None and (isinstance(videos[name], Features | None) or not record[known])

    return [name for name in videos if name in same or is_named(name)]


def warn_of_other_features(spec: ModelSpec, features: FeatureSet) -> None:
    """Warn if a feature set is not the one that a model was trained on, where every fold has features of its own.

    The fold is compared where the set's folders have one in their names. Otherwise a video of the training set is
    looked for among the features, and its content compared.
    """
    record = spec.training_videos or TrainingVideos()
    if record.feature_fold and features.description.per_fold:
        if features.fold != record.feature_fold:
            print_warning(
                f"the features are those of fold {features.fold}, and the model was trained on those of fold "
                f"{record.feature_fold}: give --feature-fold {record.feature_fold}"
            )
        return
    known = ((name, features.find_files(name)) for name, digest in record.trained.items() if digest)
    name, files = next(((name, files) for name, files in known if files is not None), ("", None))
    if files is not None and identify_video(Features(files, name)) != record.trained[name]:
        print_warning(
            f"the features are not those that the model was trained on (those of {name} differ): they are of "
            f"another fold, or were made anew{_of_fold(record)}"
        )


def describe_training_videos(record: TrainingVideos | None) -> dict[str, object]:
    """Return what a record says in a few words, for `afsd info`; empty where there is none."""
    if record is None or not record.count:
        return {}
    facts: dict[str, object] = {"videos": record.count}
    named = {"fold": record.fold, "features of fold": record.feature_fold}
    return facts | {key: value for key, value in named.items() if value} | _count_chosen(record)


def _count_chosen(record: TrainingVideos) -> dict[str, object]:
    return {"chosen on": len(record.chosen)} if record.chosen else {}


def _advise(record: TrainingVideos) -> str:
    """Return what to do in place of judging on training videos."""
    if record.fold and "/" not in record.fold:  # not an inner fold, which no annotation file has
        return f"--fold {record.fold} judges on the videos that it has not seen"
    return "judge on others (--subset, --fold)"


def _of_fold(record: TrainingVideos) -> str:
    return f"; the model's are those of fold {record.feature_fold}" if record.feature_fold else ""
