"""A streaming network is the backbone run over the whole video at once, from its first to its last frame."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper

from export.graph.carried_spec import read_carried_spec, write_carried_spec
from export.graph.files import load_graph, save_graph
from export.graph.trace import seeded_batches
from export.streaming.clip_graph import ClipGraph
from export.streaming.graph import to_streaming
from export.streaming.step import write_step
from export.studies.streaming_drift import SCENE, repeat_scene
from export.to_streaming import export_streaming
from runtime.cli import main
from runtime.detector import Detector, DetectorOptions
from runtime.engines import open_engine
from runtime.engines.artifact import read_artifact
from runtime.engines.onnx.parts import cut_part
from runtime.engines.streaming import Run, StreamingEngine
from runtime.errors import ExportError, InputError, SourceLostError, SpecError
from runtime.live.events import Detected, Event, Gap
from runtime.live.watcher import Watcher
from runtime.results.detections import Detections
from runtime.spec.streaming import LIVE_CHUNK
from runtime.windows import window_offsets
from tests.conftest import MadeOnce
from tests.export.streaming.small import (
    WINDOW,
    Networks,
    fresh,
    noise,
    opened,
    padded,
    require_apart,
    require_equal,
    save_sensitive,
    stream_features,
)
from tests.quantise import quantised_graph
from tests.runtime.live.fakes import FakeReader, FakeTime, Shot, shots
from tests.runtime.live.test_watcher import take_all, wait_for
from tests.streaming import cut, peak_memory
from tests.videos import write_video
from training.afsd.network import AFSD
from training.checkpoints.files import build_model, load_checkpoint
from training.networks.i3d import Backbone, Endpoints
from training.networks.multiply_adds import count_multiply_adds
from training.networks.normalisation import normalise


def whole_video(checkpoint: Path, frames: NDArray[np.uint8]) -> tuple[dict[str, NDArray[np.float32]], AFSD]:
    """PyTorch's features of a video, filled up with frames of 0 to a multiple of 8 and to a window, in one pass."""
    network = build_model(load_checkpoint(checkpoint), "").eval()
    assert isinstance(network, AFSD)
    length = max(-(-len(frames) // 8) * 8, WINDOW)
    video = torch.zeros(1, frames.shape[-1], length, *frames.shape[1:3])
    video[:, :, : len(frames)] = normalise(torch.from_numpy(frames).float().permute(3, 0, 1, 2)[None])
    with torch.inference_mode():
        ends = network.backbone(video)
        pyramid = network.coarse_pyramid_detection.pyramids
        levels = [pyramid[k][0](end).flatten(2)[0].numpy() for k, end in enumerate(ends)]
    return {f"level_{k}": level for k, level in enumerate(levels)}, network


@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize("frames", [1, 31, 32, 60, 203])
def test_features_are_those_of_the_whole_video(networks: Networks, to: str, frames: int) -> None:
    video, engine = noise(frames), opened(networks.streams[to])
    expected, _ = whole_video(networks.checkpoint, video)
    for chunk in (16, 64):
        require_equal(stream_features(engine, video, chunk), expected)


def test_every_frame_near_a_feature_counts(networks: Networks) -> None:
    """The comparison above would see a frame that is missing or doubled, far from the ends too."""
    video, engine = noise(203), opened(networks.streams["onnx"])
    changed = video.copy()
    changed[100] = changed[101]
    before, after = (stream_features(engine, v, 64) for v in (video, changed))
    differs = np.abs(before["level_0"] - after["level_0"]).max(axis=0) > 1e-4 * np.abs(before["level_0"]).max()
    assert differs[25]
    assert not differs[:8].any()
    assert not differs[-8:].any()


@pytest.mark.thorough
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_two_thousand_frames_in_five_chunkings(networks: Networks, to: str) -> None:
    video, engine = noise(2003), opened(networks.streams[to])
    expected, _ = whole_video(networks.checkpoint, video)
    for chunk in (8, 16, 40, 128, 256):
        require_equal(stream_features(engine, video, chunk), expected)


@pytest.mark.parametrize("masked", [False, True])
def test_both_endpoints_of_the_backbone(networks: Networks, masked: bool) -> None:
    """The rewriting knows nothing of where it ends: cut at Mixed_4f and Mixed_5c it gives these."""
    graph = load_graph(networks.onnx)
    clip = ClipGraph(graph)
    ends = [
        node.output[0]
        for node in graph.graph.node
        if node.op_type == "Concat" and len(clip.shapes[node.output[0]]) == 5
    ]
    step = write_step(clip, [ends[6], ends[8]], "step", masked=masked)
    assert [(f.rate, f.delay) for f in step.features] == [(4, 8), (8, 6)]  # as measured by hand before
    used = {name for node in step.nodes for name in node.input}
    weights = [weight for weight in graph.graph.initializer if weight.name in used]
    model = helper.make_model(
        helper.make_graph(step.nodes, "step", step.inputs, step.outputs, [*weights, *step.constants.values()]),
        opset_imports=graph.opset_import,
        ir_version=graph.ir_version,
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    video = noise(160)
    network = build_model(load_checkpoint(networks.checkpoint), "").eval()
    assert isinstance(network, AFSD)
    with torch.inference_mode():
        expected = network.backbone(normalise(torch.from_numpy(video).float().permute(3, 0, 1, 2)[None]))
    states = {f"step/state_{k}": np.zeros(state.shape, state.dtype) for k, state in enumerate(step.states)}
    bounds = {f"step/{name}": np.array([value]) for name, value in (("valid", 160), ("end", 160))}
    names, parts = [output.name for output in session.get_outputs()], []
    padded = np.concatenate([np.zeros((step.overlap, *video.shape[1:]), np.uint8), video, np.zeros_like(video[:64])])
    for start in range(0, 224, 32):
        given = {"step/frames": padded[None, start : start + step.overlap + 32], **states}
        given |= {"step/start": np.array([start]), **bounds} if masked else {}
        found = dict(zip(names, session.run(names, given), strict=True))
        states = {name: found[name.replace("state", "next_state")] for name in states}
        parts.append([found[f"step/level_{k}"] for k in range(2)])
    for k, (feature, whole) in enumerate(zip(step.features, expected, strict=True)):
        stream = np.concatenate([part[k] for part in parts], axis=2)[:, :, feature.delay :]
        stream = stream.reshape(*stream.shape[:3], *whole.shape[3:])
        first = 0 if masked else 56 // feature.rate  # without masks, what is outside the video is not zero
        last = 160 // feature.rate - first
        assert last - first > 5
        error = np.abs(stream[:, :, first:last] - whole.numpy()[:, :, first:last]).max()
        assert error <= 1e-5 * float(whole.abs().max())
        if not masked:
            assert np.abs(stream[:, :, 0] - whole.numpy()[:, :, 0]).max() > 1e-3 * float(whole.abs().max())


@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize("frames", [5, 31, 32])
def test_a_short_video_is_detected_in_as_by_the_network_on_windows(networks: Networks, to: str, frames: int) -> None:
    video, options = noise(frames, 36), DetectorOptions(min_score=0.0, score_threshold=0.0)
    on_windows = Detector(networks.onnx, options=options).run(video, fps=10.0)
    streamed = Detector(opened(networks.streams[to]), options=options).run(video, fps=10.0)
    assert len(on_windows)
    assert len(streamed) == len(on_windows)
    np.testing.assert_allclose(streamed.segments, on_windows.segments, atol=1e-3)
    np.testing.assert_allclose(streamed.scores, on_windows.scores, atol=1e-4)
    np.testing.assert_array_equal(streamed.labels, on_windows.labels)


@pytest.mark.parametrize(("stride", "frames"), [(8, 100), (16, 32), (24, 203), (32, 100)])
def test_windows_are_slices_of_the_whole_videos_features(networks: Networks, stride: int, frames: int) -> None:
    video = noise(frames)
    detector = Detector(opened(networks.streams["openvino"]), options=DetectorOptions(stride=stride))
    expected, _ = whole_video(networks.checkpoint, video)
    length = expected["level_1"].shape[1] * 8
    windows = list(detector.open(padded(video), fps=10.0).windows())
    assert [window.offset for window in windows] == window_offsets(length, WINDOW, stride)
    for window in windows:
        assert window.length == min(WINDOW, frames - window.offset)
        for k, rate in enumerate((4, 8)):
            part = expected[f"level_{k}"][:, window.offset // rate : (window.offset + WINDOW) // rate]
            assert np.abs(window.features[f"level_{k}"] - part).max() <= 1e-5 * np.abs(part).max()


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_the_head_says_what_pytorchs_says_of_the_whole_videos_endpoints(networks: Networks, to: str) -> None:
    video = noise(203)
    network = build_model(load_checkpoint(networks.checkpoint), "").eval()
    assert isinstance(network, AFSD)
    whole = torch.zeros(1, 3, 208, 32, 32)
    whole[:, :, :203] = normalise(torch.from_numpy(video).float().permute(3, 0, 1, 2)[None])
    with torch.inference_mode():
        ends = network.backbone(whole)
    assert isinstance(ends, Endpoints)
    detector = Detector(opened(networks.streams[to]), options=DetectorOptions(stride=8, batch_size=3))
    seen = 0
    for window, outputs, index in detector.infer(detector.open(padded(video), fps=10.0)):
        seen += 1
        first, last = window.offset, window.offset + WINDOW
        part = Endpoints(ends.mixed_4f[:, :, first // 4 : last // 4], ends.mixed_5c[:, :, first // 8 : last // 8])
        with torch.inference_mode():
            expected = network.coarse_pyramid_detection(part)[0]._asdict()
        for name in ("loc", "conf"):  # of the first stage: rounding moves no cell that is pooled
            value = expected[name][0].numpy()
            assert np.abs(outputs[name][index] - value).max() <= 1e-4 * np.abs(value).max()
        refined = expected["prop_conf"][0].numpy()
        moved = np.abs(outputs["prop_conf"][index] - refined).max(axis=-1) > 1e-3 * np.abs(refined).max()
        assert moved.mean() <= 0.05
    assert seen == len(window_offsets(208, WINDOW, 8))


def found_in(detector: Detector, source: object) -> Detections:
    return detector.run(source, fps=10.0)  # type: ignore[arg-type]


def test_the_same_bits_however_frames_are_handed_over(networks: Networks) -> None:
    video = padded(noise(203))
    detector = Detector(opened(networks.streams["openvino"]), options=DetectorOptions(score_threshold=0.0))
    whole = found_in(detector, video)
    assert len(whole)
    several = [detector.run(cut(video, seed), fps=10.0) for seed in range(3)]
    for other in several:
        np.testing.assert_array_equal(other.segments, whole.segments)
        np.testing.assert_array_equal(other.scores, whole.scores)
    parts = list(detector.stream(video, fps=10.0))
    assert len(parts) > 1
    np.testing.assert_array_equal(np.concatenate([part.scores for part in parts]), whole.scores)
    np.testing.assert_array_equal(np.concatenate([part.segments for part in parts]), whole.segments)


def test_videos_in_turn_do_not_mix(networks: Networks) -> None:
    """The states are the video's, not the engine's."""
    require_apart(opened(networks.streams["openvino"]))


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_nothing_accumulates(networks: Networks, to: str) -> None:
    """A scene shown again leaves the same states, to the bit: so does one shown for eight hours."""
    scene = list(noise(SCENE))
    shown = repeat_scene(opened(networks.streams[to]), scene, 4)
    assert len(set(shown.states)) == 1
    assert shown.features[0] != shown.features[1] == shown.features[2] == shown.features[3]
    assert shown.settled == 1
    other = repeat_scene(opened(networks.streams[to]), [scene[0], *scene[:-1]], 2)
    assert other.states[0] != shown.states[0]


@pytest.mark.parametrize("to", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_cameras_that_share_the_network_give_what_each_stretch_gives_alone(networks: Networks, to: str) -> None:
    """Two cameras in turn, the second of which is lost and comes back, on one engine that compiles the step once."""
    parts = {"udp://a:1": [noise(150, 36, 1)], "udp://b:1": [noise(70, 36, 2), noise(100, 36, 3)]}
    options = DetectorOptions(score_threshold=0.05, stride=8, batch_size=2)
    engine, silent = fresh(networks.streams[to]), threading.Event()  # of its own, since it is changed
    lengths = count_steady_steps(engine)
    started = threading.Barrier(2)

    def script(part: NDArray[np.uint8], first: bool) -> Iterator[Shot]:
        for number, shot in enumerate(shots(part)):
            if number == 1 and first:
                started.wait(10)  # so that both have frames from then on
            yield shot

    def readers(source: str) -> list[FakeReader]:
        lost, last = SourceLostError("lost"), len(parts[source]) - 1
        return [
            FakeReader(script(part, k == 0), FakeTime(), silent if k == last else lost)
            for k, part in enumerate(parts[source])
        ]

    connections = {source: readers(source) for source in parts}
    waiting = {source: list(several) for source, several in connections.items()}
    watcher = Watcher(
        Detector(engine, options=options),
        list(parts),
        open_source=lambda source: waiting[str(source)].pop(0),
    )
    take_all(watcher)
    events: list[Event] = []
    thread = threading.Thread(target=lambda: events.extend(watcher))
    thread.start()
    assert all(several[-1].exhausted.wait(20) for several in connections.values())
    wait_for(lambda: not any(source.inbox.waiting for source in watcher._sources))
    watcher.stop()
    assert all(source.stopped.wait(10) for source in watcher._sources)
    silent.set()
    thread.join(20)
    assert set(lengths) == ({LIVE_CHUNK} if engine.without_masks else set())
    for source, name in (("udp://a:1", "a_1"), ("udp://b:1", "b_1")):
        gaps = [event for event in events if isinstance(event, Gap) and event.video == name]
        starts = [0.0, *(gap.segment[1] for gap in gaps)]
        found = [event for event in events if isinstance(event, Detected) and event.video == name]
        for start, part in zip(starts, parts[source], strict=True):
            reader = FakeReader(shots(part), FakeTime())
            reader.endless = True  # so that the detector takes short chunks, too
            alone = Detector(networks.streams[to], options=options)
            want = [one for some in alone.stream(reader) for one in some]  # type: ignore[arg-type]
            assert len(want) > 5
            got, found = found[: len(want)], found[len(want) :]
            assert [one.label for one in got] == [one.label for one in want]
            np.testing.assert_allclose([one.score for one in got], [one.score for one in want], atol=1e-5)
            expected = [(start + one.start_s, start + one.end_s) for one in want]
            np.testing.assert_allclose([one.segment for one in got], expected, atol=1e-4)
        assert not found


def count_steady_steps(engine: StreamingEngine) -> list[int]:
    """List to which every step inside a video adds the length of its chunk."""
    lengths: list[int] = []
    part = engine._part

    def noting(name: str, length: int) -> Run:
        if name == "steady":
            lengths.append(length)
        return part(name, length)

    engine._part = noting  # type: ignore[method-assign]
    return lengths


@pytest.mark.thorough
def test_watched_files_are_those_of_detect(
    networks: Networks, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = [str(write_video(tmp_path / f"clip{k}.mp4", frames=420 + 60 * k, level=90 + k)) for k in range(2)]
    flags = ["--stride", "8", "--score", "0.02"]
    assert main(["watch", str(networks.streams["openvino"]), *clips, *flags, "--batch", "1"]) == 0
    watched = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert main(["detect", str(networks.streams["openvino"]), *clips, *flags, "--stream", "--json"]) == 0
    wanted = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(wanted) > 3
    kept = ("video", "label", "score", "segment")
    for name in ("clip0", "clip1"):
        own = [{key: one[key] for key in kept} for one in watched if one["event"] == "detection"]
        assert [one for one in own if one["video"] == name] == [one for one in wanted if one["video"] == name]


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_threads_share_an_engine(networks: Networks, to: str) -> None:
    engine, videos = opened(networks.streams[to]), [noise(203, seed=seed) for seed in range(3)]
    alone = [stream_features(engine, video, 16) for video in videos]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda video: stream_features(engine, video, 16), videos))
    for one, other in zip(alone, together, strict=True):
        for name, value in one.items():
            np.testing.assert_array_equal(other[name], value)


def test_memory_does_not_grow_with_the_video(networks: Networks) -> None:
    detector = Detector(opened(networks.streams["openvino"]), options=DetectorOptions(stride=32, min_score=1.0))
    frame = padded(noise(1))[0]
    short, long = (peak_memory(detector.stream(itertools.repeat(frame, count), fps=10.0)) for count in (400, 1600))
    assert long < short + 300_000


def test_a_position_in_a_stream_of_years(networks: Networks) -> None:
    """Numbers of frames beyond 2^31, at 10 a second seven years: the last chunk still ends where it should."""
    engine = opened(networks.streams["openvino"])
    video, chunk = noise(128), 64
    late = 8 * (2**40 // 8)
    given = {"frames": np.concatenate([np.zeros((engine.streaming.overlap, *video.shape[1:]), np.uint8), video])[None]}
    for states in (engine.empty_states(),):
        first, kept = engine.step({"frames": given["frames"][:, : engine.streaming.overlap + chunk]}, states, start=64)
        late_first, late_kept = engine.step(
            {"frames": given["frames"][:, : engine.streaming.overlap + chunk]}, states, start=late
        )
        for name, value in first.items():
            np.testing.assert_array_equal(late_first[name], value)
        rest = {"frames": given["frames"][:, chunk:]}
        expected, _ = engine.step(rest, kept, start=128, valid=160, end=160)
        found, _ = engine.step(rest, late_kept, start=late + 64, valid=late + 96, end=late + 96)
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("part", ["steady", "edge", "head"])
def test_a_part_is_cut_out_as_the_onnx_library_would(networks: Networks, part: str) -> None:
    whole = onnx.load(networks.streams["onnx"])
    found = onnx.ModelProto.FromString(cut_part(networks.streams["onnx"], part))
    onnx.checker.check_model(found, full_check=True)
    assert list(found.graph.node) == [node for node in whole.graph.node if node.name.startswith(f"{part}/")]
    for values in ("input", "output"):
        own = [value for value in getattr(whole.graph, values) if value.name.startswith(f"{part}/")]
        assert list(getattr(found.graph, values)) == own
    read = {name for node in found.graph.node for name in node.input}
    assert list(found.graph.initializer) == [w for w in whole.graph.initializer if w.name in read]
    assert found.opset_import == whole.opset_import
    assert not found.metadata_props


@pytest.mark.slow  # tracing two networks takes most of a minute
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_two_streams_in_one_file(to: str, made_once: MadeOnce) -> None:
    flow = ("model.stream=flow", "data.frames=flow", "model.stem=random")

    def fill(folder: Path) -> None:
        save_sensitive(folder / "rgb.ckpt")
        save_sensitive(folder / "flow.ckpt", *flow)
        command = ["export", str(folder / "rgb.ckpt"), "--flow", str(folder / "flow.ckpt"), "--to", to]
        assert main([*command, "--stream"]) == 0

    folder = made_once(f"streaming-fused-{to}", fill)
    fused = folder / f"rgb.stream.{'xml' if to == 'openvino' else to}"
    detector = Detector(fused, options=DetectorOptions(stride=8))
    assert [(f.rate, f.delay) for f in detector.spec.streaming.features] == [(4, 8), (8, 6)] * 2  # type: ignore[union-attr]
    report = json.loads(fused.with_name(f"{fused.name}.parity.json").read_text())
    assert report["passed"]
    rgb, motion = padded(noise(70)), padded(noise(70, seed=3))[..., :2]
    windows = list(detector.open(rgb, flow=motion, fps=10.0).windows())
    assert [window.offset for window in windows] == window_offsets(72, WINDOW, 8)
    expected = [
        level
        for name, video in (("rgb", noise(70)), ("flow", noise(70, seed=3)[..., :2]))
        for level in whole_video(folder / f"{name}.ckpt", video)[0].values()
    ]
    for window in windows:
        assert [*window.features] == [f"level_{k}" for k in range(4)]
        for k, (level, found) in enumerate(zip(expected, window.features.values(), strict=True)):
            rate = (4, 8)[k % 2]
            part = level[:, window.offset // rate : (window.offset + WINDOW) // rate]
            assert np.abs(found - part).max() <= 1e-5 * np.abs(part).max()


@pytest.mark.slow
def test_a_calibrated_network_streams_in_eight_bit(networks: Networks, tmp_path: Path) -> None:
    clip = tmp_path / "small.int8.onnx"
    save_graph(quantised_graph(networks.onnx, "uint8", list(seeded_batches(read_artifact(networks.onnx).spec))), clip)
    said: list[str] = []
    stream = export_streaming(clip, to="openvino", say=said.append)
    engine = opened(stream)
    assert engine.precision == "int8"
    assert {state.dtype for state in engine.streaming.states} == {"uint8"}
    video = noise(203)
    exact, _ = whole_video(networks.checkpoint, video)
    found = stream_features(engine, video, 64)
    for name, value in exact.items():
        assert np.abs(found[name] - value).mean() < 0.1 * np.abs(value).mean()


def test_the_work_is_that_of_the_network_on_windows(networks: Networks) -> None:
    on_windows, streaming = (read_artifact(path).spec for path in (networks.onnx, networks.streams["onnx"]))
    assert streaming.streaming is not None
    backbone = streaming.streaming.multiply_adds_per_frame * WINDOW
    counted = count_multiply_adds(lambda: Backbone(3, 0.125, freeze_batch_norm=True), (1, 3, WINDOW, 32, 32))
    assert abs(backbone + streaming.multiply_adds - on_windows.multiply_adds) <= WINDOW
    assert counted < backbone < 1.05 * counted  # and the convolutions that reduce the endpoints over space


class TestMessages:
    def test_a_network_that_cannot_stream(self, networks: Networks) -> None:
        graph = onnx.load(networks.streams["onnx"])
        with pytest.raises(ExportError, match="a streaming network already"):
            to_streaming(graph, "model.onnx")

    def test_a_stride_between_positions(self, networks: Networks) -> None:
        with pytest.raises(InputError, match="stride: got 12, expected a multiple of 8 frames from 8 to 32"):
            Detector(opened(networks.streams["onnx"]), options=DetectorOptions(stride=12))

    def test_watch_with_a_stride_between_positions(
        self, networks: Networks, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["watch", str(networks.streams["onnx"]), "udp://127.0.0.1:1", "--stride", "12"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "stride: got 12, expected a multiple of 8 frames from 8 to 32" in line

    def test_two_engines(self, networks: Networks) -> None:
        with pytest.raises(InputError, match="joined in one file"):
            Detector(networks.streams["onnx"], flow_engine=networks.streams["onnx"])

    def test_a_latency_that_no_stride_keeps(self, networks: Networks) -> None:
        with pytest.raises(InputError, match=r"max_latency: got 1 s, .* need 9\.7 s at least"):
            Detector(opened(networks.streams["onnx"]), options=DetectorOptions(max_latency=1.0))
        detector = Detector(opened(networks.streams["onnx"]), options=DetectorOptions(max_latency=10.0))
        assert detector.spec.window_stride == 8  # (32 + 8 + 48 + 16 − 8 + 1) / 10 s = 9.7; with 16 it is 10.5

    def test_arrays_that_do_not_fit(self, networks: Networks) -> None:
        engine = opened(networks.streams["onnx"])
        states, frames = engine.empty_states(), noise(14)[None]
        for given, kept, start, words in (
            ({"frames": frames[:, :-1]}, states, 0, "a chunk of 7 frames"),
            ({"frames": frames}, states, 4, "from frame 4"),
            ({"frames": frames.astype(np.float32)}, states, 0, "frames: got float32"),
            ({}, states, 0, "a chunk of 0 frames"),
            ({"frames": frames}, {}, 0, "state_0: is not one"),
        ):
            with pytest.raises(InputError, match=words):
                engine.step(given, kept, start=start)
        with pytest.raises(InputError, match="level_1: got nothing"):
            engine.infer({"level_0": np.zeros((1, 64, 8), np.float32)})

    def test_a_spec_of_another_networks_states(self, networks: Networks, tmp_path: Path) -> None:
        graph = load_graph(networks.streams["onnx"])
        spec = read_carried_spec(graph, "")
        assert spec.streaming is not None
        state = replace(spec.streaming.states[0], shape=(1, 8, 3, 8, 8))
        wrong = replace(spec.streaming, states=(state, *spec.streaming.states[1:]))
        write_carried_spec(graph, replace(spec, streaming=wrong))
        save_graph(graph, tmp_path / "wrong.stream.onnx")
        with pytest.raises(SpecError, match="edge/state_0 is"):
            open_engine(tmp_path / "wrong.stream.onnx")
