"""INT8 of the shipped network by every method, for both targets, over seeds of the draw: `make int8`.

python -m calibration.method_table --out runs/int8

Ranges are measured on training videos, once a seed, and serve both targets and all methods; mAP is of unseen videos.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from calibration.judging.judge import Judge, open_graph
from calibration.options import NUMBERS, SEARCHED
from calibration.quantise.placement import Layout
from calibration.quantise.qdq import quantised
from calibration.quantise.remedies import corrected_biases, equalised, searched_ranges
from calibration.ranges.choose import METHODS, quantiser
from calibration.ranges.clips import draw_clips
from calibration.ranges.collect import collect_histograms
from calibration.ranges.table import make_table
from export.demo import SHIPPED
from export.graph.carried_spec import read_carried_spec
from export.studies.train_demo import make_data
from export.to_onnx import export_onnx
from runtime.annotations.activitynet import load_annotations
from runtime.common.console import run_script
from runtime.common.files import read_json, write_json, write_text
from runtime.common.tables import align
from runtime.errors import InputError
from runtime.video.names import find_video

PLAIN = "minmax"
"""Method beside which the remedies are shown."""

Graphs = Iterator[tuple[str, onnx.ModelProto]]
"""What was done, and the graph."""


def method_table(out: Path, seeds: list[int], clips: int, say: Callable[[str], None] = print) -> str:
    """Calibrate and judge what is missing and return the table (also written to <out>/methods.md).

    Args:
        out: folder of data and results; finished runs are not done again.
        seeds: of the draw of clips.
        clips: windows to draw.
        say: receives progress.
    """
    data = make_data(out)
    source = out / "shipped.onnx"
    if not source.is_file():
        export_onnx(SHIPPED, source, say=say)
    layout = Layout(onnx.load(source), str(source))
    truth = load_annotations(data / "annotations.json", "testing")
    videos = [find_video(data / "videos", video.name) for video in truth]
    results: dict[str, list[float]] = {}
    plain = open_graph(layout.graph)
    judge = Judge(plain, videos, truth)
    plain.close()
    for seed in seeds:
        stored = out / f"seed-{seed}-{clips}.json"
        if not stored.is_file():
            done = {name: _judged(judge, graph) for name, graph in _graphs(layout, data, seed, clips, say)}
            write_json(stored, done)
        for name, value in read_json(stored, "file of results", InputError).items():
            results.setdefault(name, []).append(value)
    text = _format(judge.map, results)
    write_text(out / "methods.md", text + "\n")
    return text


def _graphs(layout: Layout, data: Path, seed: int, clips: int, say: Callable[[str], None]) -> Graphs:
    """Every method for both targets, and min–max with each remedy."""
    spec = read_carried_spec(layout.graph, "the network")
    training = sorted((data / "videos").glob("training_*"))
    with draw_clips(training, spec, clips, seed, say) as drawn:
        say(f"seed {seed}: {len(drawn)} clips")
        some: list[Mapping[str, Any]] = list(drawn.first(SEARCHED))
        table = make_table(
            layout, collect_histograms(layout, drawn), drawn, equalised=False, seed=seed, network=layout.sha256
        )
        even = Layout(equalised(layout, some), "equalised")
        flat = make_table(
            even, collect_histograms(even, drawn), drawn, equalised=True, seed=seed, network=layout.sha256
        )
        for target, numbers in NUMBERS.items():
            for method in METHODS:
                if method == "output":
                    ranges = searched_ranges(layout, table, numbers, some)
                    rounding: Any = {name: quantiser(*ends, numbers) for name, ends in ranges.items()}
                else:
                    rounding = table.quantisers(method, numbers)
                yield f"{target}, {method}", quantised(layout, rounding)
                if method == PLAIN:
                    biases = corrected_biases(layout, rounding, some)
                    yield f"{target}, {method}, bias corrected", quantised(layout, rounding, biases=biases)
                    yield f"{target}, {method}, equalised", quantised(even, flat.quantisers(method, numbers))


def _judged(judge: Judge, graph: onnx.ModelProto) -> float:
    engine = open_graph(graph)
    try:
        return judge(engine).map
    finally:
        engine.close()


def _format(float_map: float, results: Mapping[str, list[float]]) -> str:
    rows = [["target, method", "mAP mean", "± seeds", "drop", "worst drop"]]
    rows.append(["float", f"{100 * float_map:.2f}", "", "", ""])
    for name, values in results.items():
        points = 100 * np.array(values)
        spread = points.std(ddof=1) if len(points) > 1 else float("nan")
        drop = 100 * float_map - points
        rows.append([name, f"{points.mean():.2f}", f"{spread:.2f}", f"{drop.mean():+.2f}", f"{drop.max():+.2f}"])
    return align(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--clips", type=int, default=64)
    given = parser.parse_args()
    sys.exit(run_script(lambda: method_table(given.out, given.seeds, given.clips)))
