"""Calibrate a float ONNX file on videos and judge the quantised network: `afsd calibrate` as a function."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.judging.budget import BudgetPath, restore_layers
from calibration.judging.judge import Judge, has_openvino, open_graph
from calibration.judging.plot import draw_path
from calibration.judging.sensitivity import Cost, format_costs, measure_sensitivity
from calibration.options import COST_CLIPS, SEARCH_CLIPS, CalibrationOptions, TestSet
from calibration.quantise.placement import Placement
from calibration.quantise.qdq import insert_qdq
from calibration.quantise.remedies import correct_biases, equalise, search_ranges
from calibration.ranges.clips import Clips, draw_clips
from calibration.ranges.collect import collect_histograms
from calibration.ranges.table import RangeTable, load_table, make_table
from calibration.tuning.tune import tune
from export.comparison.quantisation import REPORT, describe_on_videos
from export.graph.carried_spec import read_carried_spec
from export.graph.export_input import ELSEWHERE
from export.graph.files import load_graph, save_graph
from export.graph.precision import require_symmetric
from runtime.common.console import ProgressLine
from runtime.common.files import file_sha256, require_writable_folder, synchronise, write_text
from runtime.common.overwriting import json_with, require_own_file
from runtime.common.sizes import file_size
from runtime.common.temporaries import scratch_folder
from runtime.common.text import counted
from runtime.engines.artifact import require_own_engine
from runtime.engines.two_files import settle, staged_path
from runtime.errors import InputError
from runtime.features.video_features import Video, identify_video
from runtime.results.picture_mark import is_picture
from runtime.results.timeline import save_image
from runtime.spec.model import Quantization


@dataclass(frozen=True)
class CalibrationResult:
    """Holds the results of a calibration."""

    onnx: Path
    """Quantised ONNX file."""
    table: RangeTable
    path: BudgetPath | None
    """Judgements on the test videos; None without test videos."""
    costs: tuple[Cost, ...]
    """Cost of every layer; empty if no costs were needed."""
    files: tuple[Path, ...] = field(default=())
    """All files that were written."""


def calibrate(
    path: Path,
    out: Path,
    options: CalibrationOptions,
    *,
    videos: Sequence[Video] = (),
    table: Path | None = None,
    test: TestSet | None = None,
    say: Callable[[str], None] = print,
) -> CalibrationResult:
    """Write <out> and, beside it, the table of ranges (.ranges.json), a report (.calibration.json) and a plot (.png).

    Args:
        path: float32 ONNX file of this project.
        out: ONNX file to write.
        options: see `CalibrationOptions`.
        videos: videos from which clips are drawn; `Features` for a model on features.
        table: table of ranges that were measured before; searching and correcting still need `videos`.
        test: test videos to judge on; needed for a budget.
        say: receives progress and reports.

    Raises:
        InputError: options, videos or a table that do not fit; clips from test videos; NaN activations; a budget that
            allows no 8-bit layer (the table of ranges is kept).
        ExportError: the file is not float32, or `out` cannot be written.
        EngineError, SpecError, VideoError: a file cannot be read.
    """
    if out.suffix != ".onnx" or out.resolve() == path.resolve():
        raise InputError(f"{out}: expected the name of another file, ending in .onnx")
    if test is None and (options.max_drop is not None or options.trade_off):
        raise InputError("a budget or trade-off is judged on test videos: give --test, best with --annotations")
    if not videos and table is None:
        raise InputError("calibration: got neither videos nor a table; give --videos FILE or FOLDER, or --table FILE")
    needs_costs = options.max_drop is not None or options.trade_off
    if not videos and (options.correct_bias or options.equalise or needs_costs):
        raise InputError("--correct-bias, --equalise, --max-drop and --trade-off need clips: give --videos as well")
    require_own_engine(out)
    require_writable_folder(out.parent, ELSEWHERE)
    settle_side_files(out)
    work = _Work(path, options, load_table(table) if table else None, str(table), say)
    work.require_apart(videos, test)
    if not videos:
        return work.run(out, test)
    with draw_clips(videos, work.spec, options.clips, options.seed, say) as work.clips:
        return work.run(out, test)


RANGES = ".ranges.json"
"""Suffix that is appended to the name of the ONNX file for its table of ranges."""


def _append(out: Path, suffix: str) -> Path:
    return out.with_name(f"{out.name}{suffix}")


def replace_with_side_files(network: Path, out: Path, sides: Sequence[Path]) -> None:
    """Put a new network and its side files, which lie beside it under their names, in the place of older ones as one.

    The side files wait beside the old ones, under names with the network's SHA-256 (`staged_path`), until the network
    is in its place; whatever ends this function in between, `find_report` and `settle_side_files` find those that fit.
    """
    sha256, folder = file_sha256(network), out.parent
    for file in sides:
        synchronise(network.with_name(file.name))
        network.with_name(file.name).replace(staged_path(file, sha256))
    synchronise(network)
    synchronise(folder)
    network.replace(out)
    synchronise(folder)
    for file in sides:
        staged_path(file, sha256).replace(file)
    synchronise(folder)


def settle_side_files(out: Path) -> None:
    """End what a calibration that was killed has left: side files of the network get their names, others go."""
    sha256 = file_sha256(out) if out.is_file() else None
    for suffix in (RANGES, REPORT, ".png"):
        settle(_append(out, suffix), sha256)


def _early_table(out: Path) -> Path:
    """Return where the table lies while the network is judged: beside an older network, which keeps its own table."""
    return _append(out, f".measured{RANGES}" if out.exists() else RANGES)


def require_own_side_files(out: Path) -> None:
    """Raise an InputError if a file that is written beside `out` is there and somebody else's."""
    own = {RANGES: json_with("schema", "points"), REPORT: json_with("options", "costs"), ".png": is_picture}
    for suffix, recognise in own.items():
        require_own_file(_append(out, suffix), recognise)


class _Work:
    """Runs one calibration."""

    def __init__(
        self,
        path: Path,
        options: CalibrationOptions,
        table: RangeTable | None,
        table_name: str,
        say: Callable[[str], None],
    ) -> None:
        self.path, self.options, self.given = path, options, table
        self.clips: Clips | None = None
        self.line = ProgressLine()
        self.say = self._print_above(say)
        graph = load_graph(path)
        self.plain = self.placement = Placement(graph, str(path))
        self.spec = read_carried_spec(graph, str(path))
        if self.spec.streaming is not None:
            raise InputError(f"{path}: is a streaming network; calibrate the one on windows, then afsd export --stream")
        if self.spec.is_backbone:
            raise InputError(f"{path}: is a backbone; only networks that detect are calibrated so far")
        if self.spec.stream == "features" and options.tune:
            raise InputError(f"{path}: is a model on features, fine-tuning is for frame models; leave out --fine-tune")
        if table is not None:
            table.require_fit(self.placement, table_name)
            if table.equalised != options.equalise:
                state, advice = ("equalised", "add") if table.equalised else ("plain", "leave out")
                raise InputError(f"{table_name}: was measured on the {state} network; {advice} --equalise")
        self.asked = self._find_asked()

    def require_apart(self, videos: Sequence[Video], test: TestSet | None) -> None:
        """Raise InputError if a video, under any name, is used for both calibrating and judging."""
        if test is None or self.options.force:
            return
        judged = {identify_video(video) for video in test.videos}
        used = {str(video): identify_video(video) for video in videos} | (self.given.videos if self.given else {})
        both = [name for name, digest in used.items() if digest in judged]
        if both:
            raise InputError(
                f"calibration: {both[0]} is a test video too ({len(both)} of {len(used)} are), so the judgement would "
                "be too good; calibrate on training videos, or add --force"
            )

    def run(self, out: Path, test: TestSet | None) -> CalibrationResult:
        """Measure ranges, apply remedies, judge and write the files."""
        options = self.options
        if options.equalise:
            if self.given and self.given.clips_sha256 != self._require_clips().sha256:
                raise InputError(
                    "--equalise: channels are equalised by the clips, and the table was measured on others; give the "
                    "same --videos, --clips and --seed, or measure again without --table"
                )
            equalised = equalise(self.placement, self._require_clips().first(SEARCH_CLIPS))
            self.placement = Placement(equalised, str(self.path))
        self.table = self._search(self.given or self._measure())
        self.table.write(_early_table(out))  # before the judging, which takes long and may fail
        self.rounding = self.table.quantisers(options.method, options.stored, options.percentile)
        self.kept = self._find_kept()
        if options.tune:
            self.placement = tune(self.placement, self.spec, self.rounding, self.kept, options.tune, out, self.say)
        self.biases: Mapping[str, NDArray[np.float32]] = {}
        if options.correct_bias:
            self.biases = correct_biases(
                self.placement, self.rounding, self._require_clips().first(SEARCH_CLIPS), self.kept
            )
        self.costs: tuple[Cost, ...] = ()
        path = self._judge(test) if test is not None else None
        if path is not None and (not path.met or not path.chosen.share):
            raise InputError(
                f"{self.path}: no layer can stay in 8 bit within {path.max_drop:g} points of mAP; give a larger "
                "--max-drop, another --method, --fine-tune, or take half precision (afsd export --precision)"
            )
        graph = self._quantise(path.chosen.restored if path else ())
        return self._write(out, graph, path, len(test.videos) if test else 0)

    def _require_clips(self) -> Clips:
        if self.clips is None:
            raise InputError("calibration: this needs clips: give --videos as well")
        return self.clips

    def _print_above(self, say: Callable[[str], None]) -> Callable[[str], None]:
        """Return a `say` that clears the progress line first."""

        def clear_and_say(text: str) -> None:
            self.line.clear()
            say(text)

        return clear_and_say

    def _measure(self) -> RangeTable:
        clips = self._require_clips()
        points = len(self.placement.points)
        clips_of = f"{counted(len(clips), 'clip')} of {counted(len(clips.videos), 'video')}"
        self.say(f"measuring ranges of {points} points on {clips_of}")
        histograms = collect_histograms(
            self.placement, clips, lambda done: self.line.show(f"measuring: clip {done} of {len(clips)}")
        )
        network, options = self.plain.sha256, self.options
        return make_table(
            self.placement, histograms, clips, equalised=options.equalise, seed=options.seed, network=network
        )

    def _search(self, table: RangeTable) -> RangeTable:
        """Return the table with searched ranges if the method is "output" and the table has none yet."""
        numbers = self.options.stored
        if self.options.method != "output" or table.chosen.get(numbers):
            return table
        if self.clips is None:
            raise InputError('method "output" searches ranges on clips: give --videos as well')
        self.say("searching ranges by the error of the outputs")
        found = search_ranges(self.placement, table, numbers, list(self.clips.first(SEARCH_CLIPS)))
        return replace(table, chosen=table.chosen | {numbers: found})

    def _find_asked(self) -> list[str]:
        """Return the names of the layers that --keep asks for."""
        kept: list[str] = []
        for wanted in self.options.keep:
            found = [layer.name for layer in self.placement.layers if f"{layer.name}.".startswith(f"{wanted}.")]
            if not found:
                raise InputError(f"--keep {wanted}: no such layer; see the table of ranges for their names")
            kept += found
        self._require_some(kept)
        return kept

    def _require_some(self, kept: Sequence[str]) -> None:
        if len(set(kept)) == len(self.placement.layers):
            raise InputError(f"{self.path}: all layers are kept in floating point; quantise at least one")

    def _find_kept(self) -> tuple[str, ...]:
        """Return the layers that stay float from the beginning: those asked for, and those that read only zeros."""
        measured = self.table.points
        zero = [p for p in self.placement.points if measured[p.name].low == measured[p.name].high == 0]
        silent = dict.fromkeys(self.placement.layer_of[node].name for point in zero for node in point.nodes)
        for layer in silent:
            self.say(f"{layer}: reads only zeros on all clips, so the layer has no range and stays in floating point")
        kept = tuple(dict.fromkeys((*self.asked, *silent)))
        self._require_some(kept)
        return kept

    def _judge(self, test: TestSet) -> BudgetPath:
        self.say(f"judging on {counted(len(test.videos), 'test video')}")
        plain = open_graph(self.plain.graph)
        try:
            judge = Judge(plain, test.videos, test.truth)
        finally:
            plain.close()
        options = self.options
        if options.max_drop is not None and not judge.map:
            raise InputError("the float network finds none of the annotated actions, so no drop can be measured")
        timed = options.target == "openvino" and has_openvino()
        path = restore_layers(
            self.placement, self._quantise, judge, self._measure_costs, kept=self.kept,
            max_drop=options.max_drop, whole=options.trade_off, timed=timed, say=self.say,
        )  # fmt: skip
        self.say(path.table())
        return path

    def _measure_costs(self) -> Sequence[Cost]:
        """Measure the cost of every layer that is not kept, the most costly first."""
        clips = list(self._require_clips().first(COST_CLIPS))
        self.costs = measure_sensitivity(
            self.placement,
            self.rounding,
            clips,
            way=self.options.way,
            kept=self.kept,
            biases=self.biases,
            say=self.line.show,
        )
        self.say(format_costs(self.costs))
        return [cost for cost in self.costs if cost.layer not in self.kept]

    def _quantise(self, restored: tuple[str, ...]) -> onnx.ModelProto:
        """Return the quantised network with some layers restored."""
        options, table = self.options, self.table
        done = {"equalised": options.equalise, "fine-tuned": options.tune, "bias corrected": self.biases}
        kept = (*self.kept, *restored)
        record = Quantization(
            target=options.target,
            method=options.method,
            remedies=tuple(name for name, was in done.items() if was),
            clips=len(table.clips),
            videos=table.videos,
            clips_sha256=table.clips_sha256,
            table_sha256=table.sha256,
            kept=kept,
        )
        half: Literal["fp16"] | None = "fp16" if options.target == "tensorrt" else None
        graph = insert_qdq(self.placement, self.rounding, kept=kept, biases=self.biases, half=half, record=record)
        if options.target == "tensorrt":
            require_symmetric(graph, str(self.path))
        return graph

    def _write(self, out: Path, graph: onnx.ModelProto, path: BudgetPath | None, judged: int) -> CalibrationResult:
        ranges, report, plot = (_append(out, suffix) for suffix in (RANGES, REPORT, ".png"))
        drawn = path is not None and len(path.steps) > 1
        content: dict[str, Any] = {
            "options": asdict(self.options),
            "path": asdict(path) | {"chosen": len(path.chosen.restored)} if path else None,
            "costs": [asdict(cost) for cost in self.costs],
            "test_videos": judged,
        }
        early = _early_table(out)
        with scratch_folder(out.parent) as folder:
            network = folder / out.name
            save_graph(graph, network)
            content["sha256"] = file_sha256(network)
            write_text(folder / report.name, json.dumps(content, indent=1, default=str) + "\n")
            self.table.write(folder / ranges.name)
            if path is not None and drawn:
                save_image(draw_path(path, f"{self.path.name} for {self.options.target}"), folder / plot.name)
            replace_with_side_files(network, out, (report, ranges, *([plot] if drawn else [])))
        if not drawn:  # an older network's
            plot.unlink(missing_ok=True)
        if early != ranges:
            early.unlink(missing_ok=True)
        if path:
            self.say(f"8 bit against float32 {describe_on_videos(path.chosen.detections, judged)}")
        else:
            self.say("what 8 bit does to detections was not measured: give --test VIDEO for that")
        files = (out, ranges, report, *([plot] if drawn else []))
        self.say(f"wrote {', '.join(str(file) for file in files)} ({file_size(out.stat().st_size)})")
        return CalibrationResult(out, self.table, path, self.costs, files)
