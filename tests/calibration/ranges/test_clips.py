"""Which windows are drawn, and the table of what was measured on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from calibration.quantise.placement import Placement
from calibration.ranges.clips import Clips, draw_clips
from calibration.ranges.collect import collect_histograms
from calibration.ranges.table import PointMeasurement, RangeTable, load_table, make_table
from runtime.engines import open_engine
from runtime.errors import InputError, VideoError
from runtime.inputs import make_engine_inputs
from runtime.spec.model import ModelSpec
from runtime.timing import Timing
from runtime.video.names import video_digest
from runtime.video.rgb_and_flow import open_streams
from runtime.windows import Window
from tests.conftest import Exported
from tests.videos import write_video


@pytest.fixture(scope="module")
def spec(exported: Exported) -> ModelSpec:
    return open_engine(exported.onnx).spec


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four videos of 4 windows each, dark to bright, one of them still."""
    folder = tmp_path_factory.mktemp("videos")
    return [
        write_video(folder / f"{name}.avi", frames=80, level=level, speed=speed)
        for name, level, speed in (("dark", 40, 1.0), ("grey", 90, 3.0), ("light", 150, 2.0), ("still", 120, 0.0))
    ]


def test_the_draw_is_by_seed_and_spread(videos: list[Path], spec: ModelSpec) -> None:
    drawn: dict[int, Clips] = {}
    for seed in (0, 0, 1, 2):
        with draw_clips(videos, spec, 8, seed) as clips:
            assert len(clips) == len(list(clips)) == 8
            names = [clip.video for clip in clips.clips]
            assert {name: names.count(name) for name in names} == dict.fromkeys(("dark", "grey", "light", "still"), 2)
            if seed in drawn:
                assert (clips.clips, clips.sha256) == (drawn[seed].clips, drawn[seed].sha256)
            drawn[seed] = clips
    assert len({clips.sha256 for clips in drawn.values()}) > 1
    assert all(clip.brightness < 80 for clip in drawn[0].clips if clip.video == "dark")
    still = [clip.motion for clip in drawn[0].clips if clip.video == "still"]
    moving = [clip.motion for clip in drawn[0].clips if clip.video == "grey"]
    assert max(still) < min(moving)


def test_clips_are_the_detectors_windows(videos: list[Path], spec: ModelSpec) -> None:
    with draw_clips(videos[:1], spec, 99) as clips:
        assert [clip.window for clip in clips.clips] == [0, 1, 2, 3]
        given = list(clips)
    with open_streams(str(videos[0]), spec, Timing(spec.sample_fps)) as stream:
        frames = np.stack(list(stream))
    for clip, inputs in zip(clips.clips, given, strict=True):
        length, stride = spec.window_length, spec.window_stride
        assert clip.offset == clip.window * stride
        window = Window(clip.offset, frames[clip.offset : clip.offset + length], length)
        for name, expected in make_engine_inputs([window], 1, spec).items():
            np.testing.assert_array_equal(inputs[name], expected)


def test_few_clips_of_many_videos(videos: list[Path], spec: ModelSpec) -> None:
    said: list[str] = []
    with draw_clips(videos, spec, 2, say=said.append) as clips:
        assert len({clip.video for clip in clips.clips}) == 2
        assert set(clips.videos.values()) <= {video_digest(path) for path in videos}
    assert said == ["2 of 4 videos drawn"]
    with draw_clips(videos, spec, 99, say=said.append) as clips:
        assert len(list(clips.first(3))) == 3
        assert len(list(clips.first(99))) == len(clips) == 16
    assert said[-1] == "the videos have 16 windows, all are taken"


def test_no_videos_no_clips(spec: ModelSpec, videos: list[Path]) -> None:
    with pytest.raises(InputError, match="got no videos, expected at least one"):
        draw_clips([], spec, 4)
    with pytest.raises(InputError, match="got 0 clips, expected at least 1"):
        draw_clips(videos, spec, 0)


def test_black_videos(spec: ModelSpec, videos: list[Path], tmp_path: Path) -> None:
    black = write_video(tmp_path / "black.avi", level=0, speed=0, noise=0)
    with pytest.raises(InputError, match=r"all 3 windows of 1 video\(s\) show a single colour"):
        draw_clips([black], spec, 4)
    said: list[str] = []
    with draw_clips([black, videos[0]], spec, 8, say=said.append) as clips:
        assert clips.videos.keys() == {"dark"}
    assert "3 windows show a single colour and are left out" in said
    (tmp_path / "broken.avi").write_bytes(black.read_bytes()[:200])
    with pytest.raises(VideoError, match=r"broken\.avi"):
        draw_clips([tmp_path / "broken.avi"], spec, 4)


@pytest.fixture(scope="module")
def measured(exported: Exported, spec: ModelSpec, videos: list[Path]) -> tuple[Placement, RangeTable]:
    placement = Placement(onnx.load(exported.onnx), "small")
    with draw_clips(videos, spec, 4) as clips:
        histograms = collect_histograms(placement, clips)
        return placement, make_table(placement, histograms, clips, equalised=False, seed=0, network=placement.sha256)


def test_a_table_is_read_as_it_was_written(measured: tuple[Placement, RangeTable], tmp_path: Path) -> None:
    placement, table = measured
    table.write(tmp_path / "ranges.json")
    read = load_table(tmp_path / "ranges.json")
    assert read == table
    assert read.sha256 == table.sha256
    read.require_fit(placement, "ranges.json")
    frames = read.points[placement.points[0].name]
    assert (frames.low, frames.high) == (pytest.approx(-1, abs=0.7), pytest.approx(1, abs=0.7))
    for point in read.points.values():  # values of every clip, in bins that hold the extremes
        assert sum(point.counts) == point.histogram.total > 0
        assert point.first_bin * point.bin_width <= point.low
        assert (point.first_bin + len(point.counts)) * point.bin_width >= point.high
    lines = (tmp_path / "ranges.json").read_text().splitlines()
    assert sum(line.startswith('  "') and '"tensors"' in line for line in lines) == len(table.points)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("clips"), "not a table of ranges of this release"),
        (lambda t: next(iter(t["points"].values())).update(low="x"), "not a table of ranges"),
        (lambda t: next(iter(t["points"].values())).update(first_bin=5000), "bins or range do not fit"),
        (lambda t: next(iter(t["points"].values())).update(high=float("inf")), "bins or range do not fit"),
        (lambda t: next(iter(t["points"].values())).update(low=-1e3), "bins or range do not fit"),
        (lambda t: next(iter(t["points"].values()))["counts"].__setitem__(0, -1), "bins or range do not fit"),
        (lambda t: next(iter(t["points"].values())).update(bin_width=1e-9), "bins or range do not fit"),
        (lambda t: t.update(schema=9), "schema 9, expected 1"),
        (lambda t: t.update(extra=1), "not a table of ranges of this release"),
    ],
)
def test_files_that_are_no_table(
    measured: tuple[Placement, RangeTable],
    tmp_path: Path,
    change: Callable[[dict[str, Any]], object],
    message: str,
) -> None:
    path = tmp_path / "ranges.json"
    measured[1].write(path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        load_table(path)


def test_a_table_without_all_points(measured: tuple[Placement, RangeTable]) -> None:
    placement, table = measured
    fewer = replace(table, points=dict(list(table.points.items())[1:]))
    with pytest.raises(InputError, match="its points are not those of the network; it was edited, measure again"):
        fewer.require_fit(placement, "t")


def test_videos_of_one_name_are_told_apart(videos: list[Path], spec: ModelSpec, tmp_path: Path) -> None:
    twins = []
    for k in range(2):
        (tmp_path / str(k)).mkdir()
        twins.append(write_video(tmp_path / str(k) / "video.avi", level=60 + 60 * k))
    with draw_clips([*twins, videos[0]], spec, 6) as clips:
        assert len(clips.videos) == 3
        assert {clip.video for clip in clips.clips} == clips.videos.keys()
        assert set(clips.videos.values()) == {video_digest(path) for path in (*twins, videos[0])}


def test_a_table_that_is_missing_or_cut(tmp_path: Path, measured: tuple[Placement, RangeTable]) -> None:
    with pytest.raises(InputError, match="file not found; expected a table of ranges"):
        load_table(tmp_path / "none.json")
    path = tmp_path / "cut.json"
    measured[1].write(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=r"cut\.json: not JSON .*; expected a table of ranges"):
        load_table(path)


def test_a_table_says_which_tensors_and_layers_a_range_is_of(measured: tuple[Placement, RangeTable]) -> None:
    placement, table = measured
    readers = {node.name: list(node.input) for node in placement.graph.graph.node if node.op_type == "Conv"}
    alone = 0
    for point in placement.points:
        found = table.points[point.name]
        assert found.tensors == point.tensors
        assert point.name in found.tensors
        weights = {
            weight.removesuffix(".weight").removeprefix("model.") for n in point.nodes for weight in readers[n][1:2]
        }
        assert set(found.layers) == weights
        alone += len(found.tensors) == 1
    assert alone > 10


@pytest.mark.parametrize(
    ("low", "high", "width", "first", "counts", "valid"),
    [
        (0.0, 3.5, 1.0, 0, (1, 0, 0, 2), True),
        (0.0, 4.0, 1.0, 0, (1, 0, 0, 2), True),  # the bins end with the range
        (0.0, 4.5, 1.0, 0, (1, 0, 0, 2), False),  # beyond the last bin
        (-1.0, 0.5, 1.0, -1, (1, 1), True),
        (-1.5, 0.5, 1.0, -1, (1, 1), False),  # before the first bin
        (0.0, 0.0, 0.0, 0, (7,), True),  # only zeros were seen
        (0.0, 0.0, 0.0, 0, (), False),  # nothing was
        (0.0, 0.5, 1.0, 0, (-1,), False),
        (0.5, 0.5, 1.0, 0, (1,), False),  # a range without 0
        (0.0, float("inf"), 1.0, 0, (1,), False),
        (0.0, 0.5, 1.0, 2048, (1,), False),  # a bin that there is not
    ],
)
def test_measurements_that_are_consistent(
    low: float, high: float, width: float, first: int, counts: tuple[int, ...], valid: bool
) -> None:
    assert PointMeasurement(("x",), ("layer",), low, high, width, first, counts).is_valid == valid


@pytest.mark.parametrize(
    ("broken", "behind"),
    [("Mixed_4b.b1a", r"Mixed_4b\.b1b"), ("conf_tower.0.0", r"conf_tower\.1\.0")],
    ids=["which ONNX Runtime fails on", "which it does not"],
)
def test_broken_activations_are_reported(
    measured: tuple[Placement, RangeTable], spec: ModelSpec, videos: list[Path], broken: str, behind: str
) -> None:
    """Positions that are NaN become indices of boundary pooling, and the run fails; classes alone do not."""
    graph = onnx.ModelProto()
    graph.CopyFrom(measured[0].graph)
    layer = next(layer for layer in measured[0].layers if broken in layer.name)
    weight = next(w for w in graph.graph.initializer if w.name == layer.weight)
    values = np.array(onnx.numpy_helper.to_array(weight))
    values.ravel()[0] = np.nan
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    with (
        draw_clips(videos, spec, 1) as clips,
        pytest.raises(InputError, match=rf"clip 1 gives NaN or infinite numbers in front of .*{behind}"),
    ):
        collect_histograms(Placement(graph, "broken"), clips)
