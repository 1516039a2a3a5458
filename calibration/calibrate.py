"""From a float ONNX file and videos to a quantised one, judged: everything `afsd calibrate` does, as a function."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.judging.budget import BudgetPath, walk
from calibration.judging.judge import Judge, has_openvino, open_graph
from calibration.judging.plot import draw_path
from calibration.judging.sensitivity import Cost, format_costs, sensitivity
from calibration.options import COMPARED, SEARCHED, CalibrationOptions, TestSet
from calibration.quantise.placement import Layout
from calibration.quantise.qdq import quantised
from calibration.quantise.remedies import corrected_biases, equalised, searched_ranges
from calibration.ranges.clips import Clips, draw_clips
from calibration.ranges.collect import collect_histograms
from calibration.ranges.table import RangeTable, load_table, make_table
from calibration.tuning.tune import tuned
from export.comparison.quantised import REPORT, describe_on_videos
from export.graph.carried_spec import read_carried_spec
from export.graph.export_input import load_graph, require_writable
from export.graph.precision import require_symmetric
from runtime.common.console import ProgressLine
from runtime.common.files import atomic_path, file_sha256, write_text
from runtime.errors import InputError
from runtime.features.video_features import Video, identify_video
from runtime.results.timeline import save_image
from runtime.spec.model import Quantization


@dataclass(frozen=True)
class Calibrated:
    """What came of it."""

    onnx: Path
    table: RangeTable
    path: BudgetPath | None
    """None without test videos."""
    costs: tuple[Cost, ...]
    """Empty when no layer had to be weighed."""
    files: tuple[Path, ...] = field(default=())
    """All files that were written."""


def calibrate(
    source: Path,
    out: Path,
    options: CalibrationOptions,
    *,
    videos: Sequence[Video] = (),
    table: Path | None = None,
    test: TestSet | None = None,
    say: Callable[[str], None] = print,
) -> Calibrated:
    """Write <out> and, beside it, the table of ranges (.ranges.json), a report (.calibration.json) and a plot (.png).

    Args:
        source: float32 ONNX file of this project.
        out: ONNX file to write.
        options: see `CalibrationOptions`.
        videos: from which clips are drawn; of a model on features, `Features`.
        table: ranges that were measured before, in place of measuring; searching and correcting still need `videos`.
        test: what it is judged on; needed for a budget.
        say: receives progress and reports.

    Raises:
        InputError: options, videos or a table that do not fit; clips that are of test videos; NaN activations; a budget
            that no 8-bit layer fits in (the table of ranges is kept).
        ExportError: the file is not float32, or `out` cannot be written.
        EngineError, SpecError, VideoError: a file cannot be read.
    """
    if out.suffix != ".onnx" or out.resolve() == source.resolve():
        raise InputError(f"{out}: expected the name of another file, ending in .onnx")
    if test is None and (options.max_drop is not None or options.trade_off):
        raise InputError("a budget or trade-off is judged on test videos: give --test, best with --annotations")
    if not videos and table is None:
        raise InputError("calibration: got neither videos nor a table; give --videos FILE or FOLDER, or --table FILE")
    weighed = options.max_drop is not None or options.trade_off
    if not videos and (options.correct_bias or options.equalise or weighed):
        raise InputError("correcting, equalising and weighing layers need clips: give --videos as well")
    require_writable(out)
    work = _Work(source, options, load_table(table) if table else None, str(table), say)
    work.require_apart(videos, test)
    if not videos:
        return work.run(out, test)
    with draw_clips(videos, work.spec, options.clips, options.seed, say) as work.clips:
        return work.run(out, test)


RANGES = ".ranges.json"
"""End of the name of a table, behind that of the ONNX file."""


def _beside(out: Path, end: str) -> Path:
    return out.with_name(f"{out.name}{end}")


class _Work:
    """One calibration."""

    def __init__(
        self,
        source: Path,
        options: CalibrationOptions,
        table: RangeTable | None,
        named: str,
        say: Callable[[str], None],
    ) -> None:
        self.source, self.options, self.given = source, options, table
        self.clips: Clips | None = None
        self.line = ProgressLine()
        self.say = self._above(say)
        graph = load_graph(source)
        self.plain = self.layout = Layout(graph, str(source))
        self.spec = read_carried_spec(graph, str(source))
        if self.spec.is_backbone:
            raise InputError(f"{source}: is a backbone; only networks that detect are calibrated so far")
        if self.spec.stream == "features" and options.tune:
            raise InputError(
                f"{source}: is a model on features, fine-tuning is for frame models; leave out --fine-tune"
            )
        if table is not None:
            table.require_fit(self.layout, named)
            if table.equalised != options.equalise:
                state = "equalised" if table.equalised else "plain"
                raise InputError(f"{named}: was measured on the {state} network; give or leave out --equalise likewise")
        self.asked = self._asked()

    def require_apart(self, videos: Sequence[Video], test: TestSet | None) -> None:
        """Clips of test videos would make the judgement too good.

        Raises:
            InputError: a video is in both, under whatever name.
        """
        if test is None or self.options.force:
            return
        judged = {identify_video(video) for video in test.videos}
        used = {str(video): identify_video(video) for video in videos} | (self.given.videos if self.given else {})
        both = [name for name, digest in used.items() if digest in judged]
        if both:
            raise InputError(
                f"calibration: {both[0]} is a test video too ({len(both)} of {len(used)} are), so the judgement would "
                "be too good; calibrate on training videos, or say --force"
            )

    def run(self, out: Path, test: TestSet | None) -> Calibrated:
        """Measure, mend, judge and write."""
        options = self.options
        if options.equalise:
            if self.given and self.given.clips_sha256 != self._drawn().sha256:
                raise InputError(
                    "--equalise: channels are equalised by the clips, and the table was measured on others; give the "
                    "same --videos, --clips and --seed, or measure anew without --table"
                )
            self.layout = Layout(equalised(self.layout, self._drawn().first(SEARCHED)), str(self.source))
        self.table = self._searched(self.given or self._measured())
        self.table.write(_beside(out, RANGES))  # before what may take long, or find that nothing fits
        self.rounding = self.table.quantisers(options.method, options.stored, options.percentile)
        self.kept = self._kept()
        if options.tune:
            self.layout = tuned(self.layout, self.spec, self.rounding, self.kept, options.tune, out, self.say)
        self.biases: Mapping[str, NDArray[np.float32]] = {}
        if options.correct_bias:
            self.biases = corrected_biases(self.layout, self.rounding, self._drawn().first(SEARCHED), self.kept)
        self.costs: tuple[Cost, ...] = ()
        path = self._judged(test) if test is not None else None
        if path is not None and (not path.met or not path.chosen.share):
            raise InputError(
                f"{self.source}: no layer can stay in 8 bit within {path.max_drop:g} points of mAP; give a larger "
                "--max-drop, another --method, --fine-tune, or take half precision (afsd export --precision)"
            )
        graph = self._graph(path.chosen.restored if path else ())
        return self._write(out, graph, path, len(test.videos) if test else 0)

    def _drawn(self) -> Clips:
        if self.clips is None:
            raise InputError("calibration: this needs clips: give --videos as well")
        return self.clips

    def _above(self, say: Callable[[str], None]) -> Callable[[str], None]:
        def said(text: str) -> None:
            self.line.clear()
            say(text)

        return said

    def _measured(self) -> RangeTable:
        clips = self._drawn()
        self.say(
            f"measuring ranges of {len(self.layout.points)} points on {len(clips)} clips of {len(clips.videos)} videos"
        )
        histograms = collect_histograms(
            self.layout, clips, lambda done: self.line.show(f"measuring: clip {done} of {len(clips)}")
        )
        network, options = self.plain.sha256, self.options
        return make_table(
            self.layout, histograms, clips, equalised=options.equalise, seed=options.seed, network=network
        )

    def _searched(self, table: RangeTable) -> RangeTable:
        """The table, with ranges for method "output" if they are wanted and not there yet."""
        numbers = self.options.stored
        if self.options.method != "output" or table.chosen.get(numbers):
            return table
        if self.clips is None:
            raise InputError('method "output" searches ranges on clips: give --videos as well')
        self.say("searching ranges by the error of the outputs")
        found = searched_ranges(self.layout, table, numbers, list(self.clips.first(SEARCHED)))
        return replace(table, chosen=table.chosen | {numbers: found})

    def _asked(self) -> list[str]:
        """Layers that shall stay float."""
        kept: list[str] = []
        for wanted in self.options.keep:
            found = [layer.name for layer in self.layout.layers if f"{layer.name}.".startswith(f"{wanted}.")]
            if not found:
                raise InputError(f"--keep {wanted}: no such layer; see the table of ranges for their names")
            kept += found
        self._require_some(kept)
        return kept

    def _require_some(self, kept: Sequence[str]) -> None:
        if len(set(kept)) == len(self.layout.layers):
            raise InputError(f"{self.source}: all layers are kept in floating point; quantise one at least")

    def _kept(self) -> tuple[str, ...]:
        """Layers that stay float from the beginning: those asked for, and those that read nothing but zeros."""
        measured = self.table.points
        zero = [p for p in self.layout.points if measured[p.name].low == measured[p.name].high == 0]
        silent = dict.fromkeys(self.layout.layer_of[node].name for point in zero for node in point.nodes)
        for layer in silent:
            self.say(f"{layer}: reads nothing but zeros on all clips, so it has no range; it stays in floating point")
        kept = tuple(dict.fromkeys((*self.asked, *silent)))
        self._require_some(kept)
        return kept

    def _judged(self, test: TestSet) -> BudgetPath:
        self.say(f"judging on {len(test.videos)} test videos")
        plain = open_graph(self.plain.graph)
        try:
            judge = Judge(plain, test.videos, test.truth)
        finally:
            plain.close()
        options = self.options
        if options.max_drop is not None and not judge.map:
            raise InputError("the float network finds nothing of what the annotations name, so no drop can be judged")
        timed = options.target == "openvino" and has_openvino()
        path = walk(
            self.layout, self._graph, judge, self._weighed, kept=self.kept,
            max_drop=options.max_drop, whole=options.trade_off, timed=timed, say=self.say,
        )  # fmt: skip
        self.say(path.table())
        return path

    def _weighed(self) -> Sequence[Cost]:
        """Every layer that is not kept already, the dearest first."""
        clips = list(self._drawn().first(COMPARED))
        self.costs = sensitivity(
            self.layout,
            self.rounding,
            clips,
            way=self.options.way,
            kept=self.kept,
            biases=self.biases,
            say=self.line.show,
        )
        self.say(format_costs(self.costs))
        return [cost for cost in self.costs if cost.layer not in self.kept]

    def _graph(self, restored: tuple[str, ...]) -> onnx.ModelProto:
        """The quantised network with some layers restored."""
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
        graph = quantised(self.layout, self.rounding, kept=kept, biases=self.biases, half=half, record=record)
        if options.target == "tensorrt":
            require_symmetric(graph, str(self.source))
        return graph

    def _write(self, out: Path, graph: onnx.ModelProto, path: BudgetPath | None, judged: int) -> Calibrated:
        ranges, report, plot = (_beside(out, end) for end in (RANGES, REPORT, ".png"))
        drawn = path is not None and len(path.steps) > 1
        if path is not None and drawn:
            save_image(draw_path(path, f"{self.source.name} for {self.options.target}"), plot)
        content: dict[str, Any] = {
            "options": asdict(self.options),
            "path": asdict(path) | {"chosen": len(path.chosen.restored)} if path else None,
            "costs": [asdict(cost) for cost in self.costs],
            "test_videos": judged,
        }
        with atomic_path(out) as network:
            onnx.save(graph, network)
            content["sha256"] = file_sha256(network)
            write_text(report, json.dumps(content, indent=1, default=str) + "\n")
        if path:
            self.say(f"8 bit against float32 {describe_on_videos(path.chosen.detections, judged)}")
        else:
            self.say("what 8 bit does to detections was not looked at: give --test VIDEO for that")
        files = (out, ranges, report, *([plot] if drawn else []))
        self.say(f"wrote {', '.join(str(file) for file in files)} ({out.stat().st_size / 1e6:.1f} MB)")
        return Calibrated(out, self.table, path, self.costs, files)
