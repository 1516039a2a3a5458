"""Compare all INT8 methods on the shipped network, for both targets and several seeds of the draw: `make int8`.

python -m calibration.method_table --out runs/int8

Ranges are measured on training videos once per seed, for both targets and all methods; mAP is that of unseen videos.
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
from calibration.options import NUMBERS, SEARCH_CLIPS
from calibration.quantise.placement import Placement
from calibration.quantise.qdq import insert_qdq
from calibration.quantise.remedies import correct_biases, equalise, search_ranges
from calibration.ranges.choose import METHODS, make_quantiser
from calibration.ranges.clips import draw_clips
from calibration.ranges.collect import collect_histograms
from calibration.ranges.table import make_table
from export.demo import SHIPPED
from export.graph.carried_spec import read_carried_spec
from export.graph.files import load_graph
from export.studies.train_demo import make_data
from export.to_onnx import export_onnx
from runtime.annotations.activitynet import load_annotations
from runtime.common.console import run_script
from runtime.common.files import read_json, write_json, write_text
from runtime.common.tables import align
from runtime.common.text import counted
from runtime.errors import InputError
from runtime.video.names import find_video

PLAIN = "minmax"
"""Method with which the remedies are combined."""

Graphs = Iterator[tuple[str, onnx.ModelProto]]
"""Pairs of a title (target, method, remedy) and its quantised graph."""


def build_method_table(out: Path, seeds: list[int], clips: int, say: Callable[[str], None] = print) -> str:
    """Calibrate and judge what is missing and return the table (also written to <out>/methods.md).

    Args:
        out: folder of data and results; finished runs are not repeated.
        seeds: seeds of the draw of clips.
        clips: number of windows to draw.
        say: receives progress.
    """
    data = make_data(out)
    network = out / "shipped.onnx"
    if not network.is_file():
        export_onnx(SHIPPED, network, say=say)
    placement = Placement(load_graph(network), str(network))
    truth = load_annotations(data / "annotations.json", "testing")
    videos = [find_video(data / "videos", video.name) for video in truth]
    results: dict[str, list[float]] = {}
    plain = open_graph(placement.graph)
    judge = Judge(plain, videos, truth)
    plain.close()
    for seed in seeds:
        stored = out / f"seed-{seed}-{clips}.json"
        if not stored.is_file():
            done = {name: _judge(judge, graph) for name, graph in _graphs(placement, data, seed, clips, say)}
            write_json(stored, done)
        for name, value in read_json(stored, "file of results", InputError).items():
            results.setdefault(name, []).append(value)
    text = _format(judge.map, results)
    write_text(out / "methods.md", text + "\n")
    return text


def _graphs(placement: Placement, data: Path, seed: int, clips: int, say: Callable[[str], None]) -> Graphs:
    """Yield the graphs of every method for both targets, and of min–max with each remedy."""
    spec = read_carried_spec(placement.graph, "the network")
    training = sorted((data / "videos").glob("training_*"))
    with draw_clips(training, spec, clips, seed, say) as drawn:
        say(f"seed {seed}: {counted(len(drawn), 'clip')}")
        some: list[Mapping[str, Any]] = list(drawn.first(SEARCH_CLIPS))
        table = make_table(
            placement, collect_histograms(placement, drawn), drawn, equalised=False, seed=seed, network=placement.sha256
        )
        even = Placement(equalise(placement, some), "equalised")
        flat = make_table(
            even, collect_histograms(even, drawn), drawn, equalised=True, seed=seed, network=placement.sha256
        )
        for target, numbers in NUMBERS.items():
            for method in METHODS:
                if method == "output":
                    ranges = search_ranges(placement, table, numbers, some)
                    rounding: Any = {name: make_quantiser(*ends, numbers) for name, ends in ranges.items()}
                else:
                    rounding = table.quantisers(method, numbers)
                yield f"{target}, {method}", insert_qdq(placement, rounding)
                if method == PLAIN:
                    biases = correct_biases(placement, rounding, some)
                    yield f"{target}, {method}, bias corrected", insert_qdq(placement, rounding, biases=biases)
                    yield f"{target}, {method}, equalised", insert_qdq(even, flat.quantisers(method, numbers))


def _judge(judge: Judge, graph: onnx.ModelProto) -> float:
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
    sys.exit(run_script(lambda: build_method_table(given.out, given.seeds, given.clips)))
