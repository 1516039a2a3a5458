"""Feature sets: what is read, in which order and layout, and each fault told in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.annotations.activitynet import Instance, VideoAnnotation, load_annotations
from runtime.errors import AnnotationError, InputError
from runtime.features.axes import axis_orders_by_width, find_axis_order
from runtime.features.description import FeatureDescription, StreamFolder, read_description, write_description
from runtime.features.feature_set import FeatureSet
from runtime.features.files import resize_steps
from runtime.spec.time_axis import FeatureSampling
from tests.shared import shared
from training.data.annotations import step_annotations
from training.data.folds import FoldRule, make_folds

RNG = np.random.default_rng(1)
STEPS = {"a": 40, "b": 55, "c": 21}
VIDEOS = [VideoAnnotation(name, "", steps / 10, 10.0, ()) for name, steps in STEPS.items()]


def save(folder: Path, width: int = 6, **steps: int) -> dict[str, NDArray[np.float32]]:
    """An .npy [T,C] for each of the videos."""
    folder.mkdir(exist_ok=True)
    arrays = {name: RNG.normal(size=(n, width)).astype(np.float32) for name, n in (STEPS | steps).items()}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return arrays


def source(*folders: str, **options: object) -> FeatureDescription:
    return FeatureDescription("a.json", tuple(StreamFolder(folder) for folder in folders), **options)  # type: ignore[arg-type]


def test_one_stream_is_read_slice_by_slice(tmp_path: Path) -> None:
    arrays = save(tmp_path / "rgb")
    features = FeatureSet(source("rgb"), tmp_path, VIDEOS)
    assert (features.width, features.steps("b")) == (6, 55)
    for bounds in ((0, None), (3, 9), (50, 70), (-4, None), (55, 60)):
        np.testing.assert_array_equal(features.read("b", *bounds), arrays["b"][slice(*bounds)])
    features.require_width(6)
    with pytest.raises(InputError, match="rgb: features of 6 channels, the model takes 8; use the features that"):
        features.require_width(8)


def test_two_streams_follow_one_another_and_are_cut_to_the_shorter(tmp_path: Path) -> None:
    rgb, flow = save(tmp_path / "rgb"), save(tmp_path / "flow", 4, b=54)
    features = FeatureSet(source("rgb", "flow"), tmp_path, VIDEOS)
    assert (features.widths, features.steps("b")) == ((6, 4), 54)
    np.testing.assert_array_equal(features.read("b"), np.hstack([rgb["b"][:54], flow["b"]]))
    np.testing.assert_array_equal(features.read("b", 50, 99), np.hstack([rgb["b"][50:54], flow["b"][50:]]))
    both = source("rgb", "flow", width=10)
    np.testing.assert_array_equal(FeatureSet(both.take_streams(1), tmp_path, VIDEOS).read("b"), flow["b"])
    swapped = FeatureSet(both.take_streams(1, 0), tmp_path, VIDEOS).read("a")
    np.testing.assert_array_equal(swapped, np.hstack([flow["a"], rgb["a"]]))
    with pytest.raises(InputError, match=r"streams \(2,\): expected numbers from 0 to 1"):
        both.take_streams(2)
    with pytest.raises(InputError, match=r"features of 6 \+ 4 channels, the model takes 6"):
        features.require_width(6)


def test_streams_are_stretched_to_the_longer_as_opentad_does(tmp_path: Path) -> None:
    rgb, flow = save(tmp_path / "rgb"), save(tmp_path / "flow", 4, b=30)
    with pytest.raises(InputError, match="streams of 55 and 30 steps, expected a difference of at most 2"):
        FeatureSet(source("rgb", "flow"), tmp_path, VIDEOS)
    sampling = FeatureSampling(every=2)
    features = FeatureSet(source("rgb", "flow", uneven="stretch", sampling=sampling), tmp_path, VIDEOS)
    expected = np.hstack([rgb["b"], resize_steps(flow["b"], 55)])[::2]
    assert features.steps("b") == 28
    np.testing.assert_array_equal(features.read("b"), expected)
    np.testing.assert_array_equal(features.read("b", 5, 9), expected[5:9])


def test_only_every_nth_step_and_whole_videos_resized(tmp_path: Path) -> None:
    arrays = save(tmp_path / "rgb")
    features = FeatureSet(source("rgb", sampling=FeatureSampling(stride=4, every=3)), tmp_path, VIDEOS)
    assert features.steps("a") == 14
    assert features.time_axis("a").stride == 12
    np.testing.assert_array_equal(features.read("a", 2, 4), arrays["a"][6:12:3])
    whole = FeatureSet(source("rgb", sampling=FeatureSampling(whole_video=True), resize=16), tmp_path, VIDEOS)
    assert [whole.steps(name) for name in STEPS] == [16] * 3
    np.testing.assert_array_equal(whole.read("c"), resize_steps(arrays["c"], 16))
    assert whole.time_axis("a").seconds(16) == pytest.approx(4.0)


def test_features_of_each_fold_are_its_own(tmp_path: Path) -> None:
    arrays = {fold: save(tmp_path / f"split{fold}") for fold in "12"}
    for fold in "12":
        features = FeatureSet(source("split{fold}"), tmp_path, VIDEOS, fold=fold)
        np.testing.assert_array_equal(features.read("a"), arrays[fold]["a"])
    with pytest.raises(InputError, match=r"split\{fold\}: features made for every fold; give the fold"):
        FeatureSet(source("split{fold}"), tmp_path, VIDEOS)
    with pytest.raises(InputError, match="split3: folder not found"):
        FeatureSet(source("split{fold}"), tmp_path, VIDEOS, fold="3")


def test_names_of_files_and_activitynets_two_names(tmp_path: Path) -> None:
    arrays = save(tmp_path / "f")
    for name in STEPS:
        (tmp_path / "f" / f"{name}.npy").rename(tmp_path / "f" / f"v_{name}-i3d.npy")
    for prefix in ("v_", ""):
        described = FeatureDescription("a.json", (StreamFolder("f", prefix=prefix, suffix="-i3d"),))
        np.testing.assert_array_equal(FeatureSet(described, tmp_path, VIDEOS).read("a"), arrays["a"])


def test_videos_without_features_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "f")
    (tmp_path / "f" / "b.npy").unlink()
    (tmp_path / "f" / "c.npy").unlink()
    with pytest.raises(InputError, match=r"b\.npy: no features of 'b'; extract them.* \(2 of 3 videos have a fault\)"):
        FeatureSet(source("f"), tmp_path, VIDEOS)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("width", r"b\.npy: 5 channels in \[55, 5\], most others have 6"),
        ("none", r"b\.npy: no steps at all"),
        ("twice", "features of 'b' exist twice, as b.npy and b.npz"),
        ("cut", r"b\.npy: cut off"),
        ("told", r"f: features of 6 channels, expected 7; correct one"),
        ("fps", "b: no frames per second"),
    ],
)
def test_faults_of_a_video(tmp_path: Path, fault: str, said: str) -> None:
    save(tmp_path / "f")
    path = tmp_path / "f" / "b.npy"
    videos, options = list(VIDEOS), {}
    if fault == "width":
        np.save(path, np.ones((55, 5)))
    elif fault == "none":
        np.save(path, np.ones((0, 6)))
    elif fault == "twice":
        np.savez(path.with_suffix(".npz"), feats=np.ones((55, 6)))
    elif fault == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif fault == "told":
        options = {"width": 7, "layout": "steps_first"}
    else:
        videos[1] = VideoAnnotation("b", "", None, None, ())
    with pytest.raises(InputError, match=said):
        FeatureSet(source("f", **options), tmp_path, videos)


@pytest.mark.parametrize("form", ["npy", "npz"])
def test_values_that_are_not_finite_name_file_and_step(tmp_path: Path, form: str) -> None:
    arrays = save(tmp_path / "f")
    arrays["b"][31, 2] = np.nan
    (tmp_path / "f" / "b.npy").unlink()
    if form == "npy":
        np.save(tmp_path / "f" / "b.npy", arrays["b"])
    else:
        np.savez(tmp_path / "f" / "b.npz", feats=arrays["b"])
    features = FeatureSet(source("f", sampling=FeatureSampling(every=1)), tmp_path, VIDEOS)
    features.read("b", 0, 31)
    with pytest.raises(InputError, match=rf"b\.{form}: step 31, channel 2 is nan"):
        features.read("b", 20, 40)


@pytest.mark.parametrize(
    ("shapes", "steps", "expected"),
    [
        ([(9, 6), (7, 6)], None, "steps_first"),
        ([(6, 9), (6, 7)], None, "channels_first"),
        ([(9, 6), (7, 6), (8, 5)], None, "steps_first"),
        ([(100, 400)], [100.0], "steps_first"),
        ([(100, 400)], [390.0], "channels_first"),
        ([(100, 400), (100, 400)], None, None),
        ([(9, 9)], [9.0], None),
        ([(9, 6)], None, None),
    ],
)
def test_the_axis_order_is_found_where_there_is_no_doubt(
    shapes: list[tuple[int, int]], steps: list[float] | None, expected: str | None
) -> None:
    named = {f"v{number}": shape for number, shape in enumerate(shapes)}
    counts = {f"v{number}": count for number, count in enumerate(steps or [])}
    if expected is not None:
        assert find_axis_order(named, "f", counts) == expected
        return
    with pytest.raises(
        InputError, match=r"f: cannot find which axis is time: v0 is \[.*layout: steps_first for \[T,C\]"
    ):
        find_axis_order(named, "f", counts)


FIRST, LAST = "steps_first", "channels_first"


@pytest.mark.parametrize(
    ("shapes", "width", "expected"),
    [
        ([[(9, 6)]], 6, [(FIRST,)]),
        ([[(9, 6)]], 9, [(LAST,)]),
        ([[(6, 9)], [(6, 7)]], 9, []),
        ([[(100, 400)], [(100, 400)]], 400, [(FIRST,)]),
        ([[(9, 9)]], 9, [(FIRST,), (LAST,)]),
        ([[(40, 6), (4, 40)]], 10, [(FIRST, LAST)]),  # each stream has an order of its own
        ([[(40, 6), (40, 4)], [(7, 6), (7, 4)]], 10, [(FIRST, FIRST)]),
        ([[(6, 4), (4, 6)]], 10, [(FIRST, FIRST), (LAST, LAST)]),
    ],
)
def test_the_width_of_all_streams_tells_their_axis_orders(
    shapes: list[list[tuple[int, int]]], width: int, expected: list[tuple[str, ...]]
) -> None:
    assert axis_orders_by_width(shapes, width) == expected


def test_channels_first_arrays_are_turned(tmp_path: Path) -> None:
    arrays = save(tmp_path / "f")
    for name, array in arrays.items():
        np.save(tmp_path / "f" / f"{name}.npy", array.T)
    for layout in ("auto", "channels_first"):
        np.testing.assert_array_equal(FeatureSet(source("f", layout=layout), tmp_path, VIDEOS).read("b"), arrays["b"])


def test_the_description_is_written_and_read(tmp_path: Path) -> None:
    described = source("rgb", "flow", sampling=FeatureSampling(stride=4, window=16, fps=30), layout="steps_first")
    write_description(tmp_path / "features.json", described)
    assert read_description(tmp_path / "features.json") == described
    with pytest.raises(InputError, match="file not found; expected a description of a feature set; afsd prepare"):
        read_description(tmp_path / "gone.json")
    for text in (
        "{",
        '{"annotations": "a"}',
        '{"annotations": "a", "streams": []}',
        '{"annotations": 1, "streams": []}',
    ):
        (tmp_path / "features.json").write_text(text)
        with pytest.raises(InputError, match=r"not the description of a feature set|not JSON"):
            read_description(tmp_path / "features.json")
    with pytest.raises(ValueError, match="resize is 5"):
        source("rgb", resize=5)


def annotated(*instances: tuple[float, float, str]) -> list[VideoAnnotation]:
    return [VideoAnnotation("a", "", 4.0, 10.0, tuple(Instance(*instance) for instance in instances))]


def test_annotations_in_steps_are_clipped_to_the_features(tmp_path: Path) -> None:
    save(tmp_path / "f")
    sampling = FeatureSampling(stride=4, window=16)  # at 10 fps: step i stands for second (4 i + 8) / 10; 17.2 s
    videos = annotated((0.8, 1.2, "x"), (0.0, 0.7, "y"), (16.0, 17.2, "x"), (16.0, 99.0, "x"), (30, 31, "x"))
    features = FeatureSet(source("f", sampling=sampling, layout="steps_first"), tmp_path, videos)
    (video,) = step_annotations(videos, features, ["x", "y"])
    found = [(i.start, i.end, i.label) for i in video.instances]
    assert found == [pytest.approx(row) for row in [(0.5, 1.5, 1), (0, 0.25, 2), (38.5, 40, 1), (38.5, 40, 1)]]
    with pytest.raises(AnnotationError, match="label 'y' is not one of the classes x"):
        step_annotations(videos, features, ["x"])
    with pytest.raises(InputError, match="b: not in the feature set"):
        step_annotations([VIDEOS[1]], features, ["x"])


def test_gtea_as_its_readme_says() -> None:
    root = shared("data/gtea")
    videos = load_annotations(root / "gtea.json")
    assert len(videos) == 28
    assert sum(len(video.instances) for video in videos) == 526
    seconds = sorted(i.end_s - i.start_s for video in videos for i in video.instances)
    assert np.median(seconds) == pytest.approx(2.0)
    classes = sorted({i.label for video in videos for i in video.instances})
    assert len(classes) == 10
    described = source("split{fold}")
    for fold in make_folds(root / "gtea.json", FoldRule(by="splits")):
        chosen = [video for video in videos if video.name in {*fold.train, *fold.test}]
        features = FeatureSet(described, root, chosen, fold=fold.feature_fold)
        assert (len(chosen), features.width, features.orders) == (28, 128, ("steps_first",))
        annotations = {video.name: video for video in step_annotations(chosen, features, classes)}
        assert sum(len(video.instances) for video in annotations.values()) == 526
        for video in chosen:
            steps = features.steps(video.name)
            assert features.time_axis(video.name).extent_s(steps) == pytest.approx(video.duration_s)
            assert features.read(video.name).shape == (steps, 128)
            along = annotations[video.name].instances
            assert max(i.end for i in along) <= steps
            for instance, second in zip(along, video.instances, strict=True):
                assert instance.end - instance.start == pytest.approx((second.end_s - second.start_s) * 15, abs=1e-2)
