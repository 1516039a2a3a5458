"""Run `afsd demo`: make synthetic videos, export the shipped checkpoint, detect, evaluate, draw a timeline."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from runtime.annotations.activitynet import VideoAnnotation, load_annotations
from runtime.benchmark.speed import format_report, run_benchmark
from runtime.common.files import require_writable_folder
from runtime.common.overwriting import require_own_file
from runtime.common.tables import align
from runtime.common.text import counted
from runtime.detector import Detector
from runtime.engines import open_engine
from runtime.evaluation import evaluate, evaluate_thresholds, format_table
from runtime.evaluation.annotated_videos import detect_annotated
from runtime.report.evaluation_report import write_evaluation_report
from runtime.report.options import ReportOptions
from runtime.results.detections import FILMSTRIP, Detection, Detections, write_results
from runtime.results.timeline import draw_timeline, save_image
from runtime.results.writers import FORMATS
from runtime.segments import tiou
from runtime.video.names import find_video
from runtime.video.thumbnails import read_thumbnails

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "training" / "pretrained" / "synthetic.ckpt"
"""Checkpoint of the small AFSD that this project trained; `make train-demo` trains it again."""

SEED, SUBSET = 2026, "testing"
"""Seed and subset of synthetic videos that no training or validation run has seen."""

RESULTS = ("detections.json", "timeline.png")
"""Files that are written anew each time."""

NEXT_STEPS = """where to go next
  your own video       .venv/bin/afsd detect {engine} VIDEO --format html --out DIR   (these six motions only)
  your own actions     docs/own_data.md: a folder of videos and one annotation file
  published weights    .venv/bin/afsd export checkpoint-15.ckpt --to openvino
  full-size speed      make benchmark
  more engines         docs/engines.md"""


def demo(out: Path, videos: int) -> int:
    """Make videos, export, detect, evaluate, draw and measure, and print what each stage does.

    Videos and exported files that this code made before are used again.
    """
    print("six stages, one to two minutes on two idle cores; half of that when run again: videos and models are kept")
    require_writable_folder(out, "choose another --out")
    for name in RESULTS:
        require_own_file(out / name, FORMATS[name.rpartition(".")[2]].recognise, "choose another --out")
    truth = _make_videos(out, videos)
    model, engine_file = _export(out)
    _step(3, "finding actions with OpenVINO, from video files to detections")
    began = time.perf_counter()
    with Detector(engine_file) as detector:
        found = detect_annotated(detector, truth, [find_video(out / "data" / "videos", video.name) for video in truth])
        point = detector.spec.operating_point
    assert point is not None  # of the shipped checkpoint
    wall, length = time.perf_counter() - began, sum(video.duration_s or 0.0 for video in truth)
    print(f"{length:.0f} s of video in {wall:.1f} s, {length / wall:.0f} times real time")
    write_results(out / "detections.json", found)
    _step(4, f"truth beside detections in {truth[0].name}, from the model's own threshold on (docs/scores.md)")
    print(f"{point}, as measured on {point.judged_on}")
    print(_side_by_side(truth[0], found[0].above(point.threshold)))
    quality = evaluate_thresholds(found, truth, point.tiou, point.threshold).chosen
    print(
        f"in all {counted(len(truth), 'video')}: {counted(quality.shown, 'detection')} for "
        f"{counted(quality.instances, 'action')}, precision {quality.precision:.2f}, recall {quality.recall:.2f}"
    )
    _draw(out, truth[0], found[0].above(point.threshold))
    files = {video.name: find_video(out / "data" / "videos", video.name) for video in truth}
    options = ReportOptions(threshold=point.threshold, tiou=point.tiou, embed=True, model=engine_file.name)
    page = write_evaluation_report(out / "report", found, truth, options, videos=files, title="Demo")
    print(f"  to look at and play, in a browser: {page}")
    _step(5, "how good is that? Mean average precision on all of them (ActivityNet rule)")
    print(format_table(evaluate(found, truth), per_class=True))
    _step(6, "how fast is that? The paper's measure, beside its Table 3 (this network is small: see `make benchmark`)")
    _benchmark(model, engine_file, out / "data" / "videos" / f"{truth[0].name}.mp4")
    print(f"\nwritten: {out}/detections.json, {out}/timeline.png, {out}/report/index.html, {model}, {engine_file}\n")
    print(NEXT_STEPS.format(engine=engine_file))
    return 0


def _make_videos(out: Path, videos: int) -> Sequence[VideoAnnotation]:
    """Make the synthetic videos and return their annotations."""
    from training.synthetic.scene import VideoSeed
    from training.synthetic.videos import make_synthetic

    _step(1, f"making {videos} videos that the network has never seen ({out}/data)")
    annotations = out / "data" / "annotations.json"
    files = [out / "data" / "videos" / f"{VideoSeed(SEED, SUBSET, index).name}.mp4" for index in range(videos)]
    make_once(
        out / ".videos",
        [annotations, *files],
        lambda: make_synthetic(out / "data", videos=videos, seed=SEED, subset=SUBSET, progress=True, overwrite=True),
        str(videos),
    )
    return load_annotations(annotations, SUBSET)


def _export(out: Path) -> tuple[Path, Path]:
    """Export the shipped checkpoint to ONNX and OpenVINO, each compared with what it was made from."""
    from export.to_onnx import export_onnx
    from export.to_openvino import export_openvino

    _step(2, "exporting the shipped checkpoint to ONNX and OpenVINO, each checked before it is written")
    model, engine_file = out / "synthetic.onnx", out / "synthetic.xml"
    make_once(
        out / ".exported",
        [model, engine_file, engine_file.with_suffix(".bin")],
        lambda: (export_onnx(SHIPPED, model), export_openvino(model, engine_file)),
    )
    return model, engine_file


def make_once(stamp: Path, files: Sequence[Path], make: Callable[[], object], options: str = "") -> None:
    """Call `make` unless its files exist and were made by the same code, checkpoint, libraries and options.

    Args:
        stamp: file that keeps the fingerprint of code, checkpoint, libraries and options.
        files: all files that `make` writes.
        make: function that writes the files.
        options: options that the files depend on.
    """
    now = _fingerprint(options)
    if all(file.is_file() for file in files) and stamp.is_file() and stamp.read_text(encoding="utf-8") == now:
        print(f"  kept from an earlier run of this code with these libraries (to start over: rm -r {stamp.parent})")
        return
    stamp.unlink(missing_ok=True)
    make()
    stamp.write_text(now, encoding="utf-8")


def _fingerprint(options: str) -> str:
    """Return a SHA-256 over code, checkpoint, versions of libraries, and options."""
    digest = hashlib.sha256(options.encode())
    for package in ("runtime", "training", "export"):
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    digest.update(SHIPPED.read_bytes())
    for library in ("torch", "onnx", "openvino", "opencv-python-headless", "numpy"):
        try:
            digest.update(f"{library} {version(library)}\0".encode())
        except PackageNotFoundError:  # another package may bring it, as opencv-contrib-python does
            continue
    return digest.hexdigest()


def _benchmark(model: Path, engine_file: Path, video: Path) -> None:
    engines = [
        ("synthetic.ckpt", open_engine(SHIPPED)),
        (model.name, open_engine(model)),
        (engine_file.name, open_engine(engine_file)),
    ]
    print(format_report(run_benchmark(engines, video=str(video))))


def _side_by_side(truth: VideoAnnotation, shown: Detections) -> str:
    """Return one line per true action with the detection that fits best, then the detections that fit none."""
    shown = shown.sorted("start")
    rows = [["truth", "", "detection", "", "score", "tIoU"]]
    used = set()
    for instance in sorted(truth.instances, key=lambda i: i.start_s):
        same = [k for k, d in enumerate(shown) if d.label == instance.label and k not in used]
        overlap = tiou(np.array([instance.start_s, instance.end_s]), shown.segments[same]) if same else np.zeros(1)
        true = [instance.label, f"{instance.start_s:.1f} – {instance.end_s:5.1f} s"]
        if overlap.max() <= 0:
            rows.append([*true, "missed", "", "", ""])
            continue
        best = same[int(overlap.argmax())]
        used.add(best)
        rows.append([*true, *_describe(shown[best]), f"{overlap.max():.2f}"])
    rows += [["no truth of its own", "", *_describe(d), "–"] for k, d in enumerate(shown) if k not in used]
    return align(rows, "lrlrrr", indent=2)


def _describe(one: Detection) -> list[str]:
    return [one.label, f"{one.start_s:.1f} – {one.end_s:5.1f} s", f"{one.score:.2f}"]


def _draw(out: Path, truth: VideoAnnotation, found: Detections) -> None:
    """Draw the timeline of one video with frames from it."""
    frames = read_thumbnails(find_video(out / "data" / "videos", truth.name), FILMSTRIP, truth.duration_s or 0.0)
    image = draw_timeline(found, duration_s=truth.duration_s, truth=truth, thumbnails=frames)
    save_image(image, out / "timeline.png")
    print(f"  drawn as a timeline: {out}/timeline.png")


def _step(number: int, text: str) -> None:
    print(f"\n[{number}/6] {text}", flush=True)
