"""From a float ONNX file and videos to a quantised one, judged: everything `afsd calibrate` does, as a function."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.budget import Path as BudgetPath
from calibration.budget import walk
from calibration.clips import Clips, draw_clips
from calibration.collect import collect_histograms
from calibration.judge import Judge, open_graph
from calibration.layout import Layout
from calibration.options import COMPARED, SEARCHED, CalibrationOptions, TestSet
from calibration.plot import draw_path
from calibration.qdq import quantised
from calibration.ranges import Quantiser
from calibration.remedies import corrected_biases, equalised, searched_ranges
from calibration.sensitivity import Cost, format_costs, sensitivity
from calibration.table import RangeTable, load_table, make_table
from calibration.tuning import tuned
from export.precision import require_symmetric
from export.source import loaded
from runtime.atomic import atomic_path
from runtime.console import ProgressLine
from runtime.errors import InputError
from runtime.report import save_image
from runtime.sources import video_digest
from runtime.spec import METADATA_KEY, ModelSpec, Quantization, spec_from_json


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
    videos: Sequence[Path] = (),
    table: Path | None = None,
    test: TestSet | None = None,
    say: Callable[[str], None] = print,
) -> Calibrated:
    """Write <out> and, beside it, the table of ranges (.ranges.json), a report (.calibration.json) and a plot (.png).

    Args:
        source: float32 ONNX file of this project.
        out: ONNX file to write.
        options: see `CalibrationOptions`.
        videos: from which clips are drawn.
        table: ranges that were measured before, in place of measuring; searching and correcting still need `videos`.
        test: what it is judged on; needed for a budget.
        say: receives progress and reports.

    Raises:
        InputError: options, videos or a table that do not fit; clips that are of test videos; NaN activations.
        ExportError: the file is not float32, or the budget cannot be met.
        EngineError, SpecError, VideoError: a file cannot be read.
    """
    if out.suffix != ".onnx" or out.resolve() == source.resolve():
        raise InputError(f"{out}: expected the name of another file, ending in .onnx")
    if test is None and (options.max_drop is not None or options.trade_off):
        raise InputError("a budget or trade-off is judged on test videos: give --test, best with --annotations")
    if not videos and table is None:
        raise InputError("calibration: got neither videos nor a table; give --videos FILE or FOLDER, or --table FILE")
    needs_clips = options.correct_bias or options.equalise or table is None or options.max_drop is not None
    if needs_clips and not videos:
        raise InputError("correcting, equalising and weighing layers need clips: give --videos as well")
    graph = loaded(source)
    work = _Work(source, graph, options, say)
    if videos:
        _require_apart(videos, test, options.force)
        with draw_clips(videos, work.spec, options.clips, options.seed, say) as clips:
            return work.run(out, clips, load_table(table) if table else None, str(table), test)
    assert table is not None
    return work.run(out, None, load_table(table), str(table), test)


class _Work:
    """One calibration."""

    def __init__(
        self, source: Path, graph: onnx.ModelProto, options: CalibrationOptions, say: Callable[[str], None]
    ) -> None:
        self.source, self.options = source, options
        self.line = ProgressLine()
        self.say = self._above(say)
        self.layout = Layout(graph, str(source))
        self.network = self.layout.sha256
        carried = [entry.value for entry in graph.metadata_props if entry.key == METADATA_KEY]
        if not carried:
            raise InputError(f"{source}: holds no ModelSpec; export it with export/to_onnx.py")
        self.spec: ModelSpec = spec_from_json(carried[0], str(source))
        self.plain = graph

    def run(
        self, out: Path, clips: Clips | None, table: RangeTable | None, named: str, test: TestSet | None
    ) -> Calibrated:
        options = self.options
        if table is not None:
            self._require(table, named)
        if options.equalise:
            assert clips is not None
            self.layout = Layout(equalised(self.layout, clips.first(SEARCHED)), str(self.source))
        if table is None:
            assert clips is not None
            table = self._measured(clips)
        if options.method == "output" and not table.chosen.get(options.stored):
            table = self._searched(table, clips)
        rounding = table.quantisers(options.method, options.stored, options.percentile)
        kept = self._kept(table)
        if options.tune:
            self.layout = tuned(self.layout, self.spec, rounding, kept, options.tune, out, self.say)
        biases = None
        if options.correct_bias:
            assert clips is not None
            biases = corrected_biases(self.layout, rounding, clips.first(SEARCHED), kept)
        costs: list[Cost] = []

        def weigh() -> Sequence[Cost]:
            assert clips is not None
            some = list(clips.first(COMPARED))
            costs.extend(sensitivity(self.layout, rounding, some, way=options.way, biases=biases, say=self._progress))
            self.say(format_costs(costs))
            return [cost for cost in costs if cost.layer not in kept]

        def build(restored: tuple[str, ...]) -> onnx.ModelProto:
            return self._graph(rounding, (*kept, *restored), biases, table)

        path = self._judged(build, test, weigh) if test is not None else None
        if path is not None and not path.met:
            raise InputError(
                f"{self.source}: with every layer restored the drop is {path.chosen.drop:.2f} points, over the budget "
                f"of {path.max_drop:g}; give more test videos, or a larger --max-drop"
            )
        graph = build(path.chosen.restored if path else ())
        return self._write(out, graph, table, path, tuple(costs))

    def _above(self, say: Callable[[str], None]) -> Callable[[str], None]:
        def said(text: str) -> None:
            self.line.clear()
            say(text)

        return said

    def _require(self, table: RangeTable, named: str) -> None:
        if table.network_sha256 != self.network:
            table.require_fit(self.layout, named)
        if table.equalised != self.options.equalise:
            state = "equalised" if table.equalised else "plain"
            raise InputError(f"{named}: was measured on the {state} network; give or leave out --equalise likewise")

    def _measured(self, clips: Clips) -> RangeTable:
        self.say(
            f"measuring ranges of {len(self.layout.points)} points on {len(clips)} clips of {len(clips.videos)} videos"
        )
        histograms = collect_histograms(
            self.layout, clips, lambda done: self._progress(f"measuring: clip {done} of {len(clips)}")
        )
        return make_table(
            self.layout,
            histograms,
            clips,
            equalised=self.options.equalise,
            seed=self.options.seed,
            network=self.network,
        )

    def _searched(self, table: RangeTable, clips: Clips | None) -> RangeTable:
        if clips is None:
            raise InputError('method "output" searches ranges on clips: give --videos as well')
        self.say("searching ranges by the error of the outputs")
        found = searched_ranges(self.layout, table, self.options.stored, list(clips.first(SEARCHED)))
        return replace(table, chosen=table.chosen | {self.options.stored: found})

    def _kept(self, table: RangeTable) -> tuple[str, ...]:
        """Layers that stay float from the beginning: those asked for, and those that read nothing but zeros."""
        kept = []
        for wanted in self.options.keep:
            found = [layer.name for layer in self.layout.layers if layer.name.startswith(wanted)]
            if not found:
                raise InputError(f"--keep {wanted}: no such layer; see the table of ranges for their names")
            kept += found
        silent = [layer for point in table.points.values() if point.low == point.high == 0 for layer in point.layers]
        for layer in silent:
            self.say(f"{layer}: reads nothing but zeros on all clips, so it has no range; it stays in floating point")
        return tuple(dict.fromkeys((*kept, *silent)))

    def _judged(
        self,
        build: Callable[[tuple[str, ...]], onnx.ModelProto],
        test: TestSet,
        weigh: Callable[[], Sequence[Cost]],
    ) -> BudgetPath:
        self.say(f"judging on {len(test.videos)} test videos")
        plain = open_graph(self.plain)
        try:
            judge = Judge(plain, test.videos, test.truth)
        finally:
            plain.close()
        options = self.options
        path = walk(
            self.layout, build, judge, weigh,
            max_drop=options.max_drop, whole=options.trade_off, timed=options.target == "openvino", say=self.say,
        )  # fmt: skip
        self.say(path.table())
        return path

    def _graph(
        self,
        rounding: Mapping[str, Quantiser],
        kept: tuple[str, ...],
        biases: dict[str, NDArray[np.float32]] | None,
        table: RangeTable,
    ) -> onnx.ModelProto:
        options = self.options
        remedies = [
            text
            for text, done in (
                ("equalised", options.equalise),
                ("fine-tuned", options.tune),
                ("bias corrected", options.correct_bias),
            )
            if done
        ]
        record = Quantization(
            target=options.target,
            method=options.method,
            remedies=tuple(remedies),
            clips=len(table.clips),
            videos=table.videos,
            clips_sha256=table.clips_sha256,
            table_sha256=table.sha256,
            kept=kept,
        )
        half: Literal["fp16"] | None = "fp16" if options.target == "tensorrt" else None
        restored = {layer.bias for layer in self.layout.layers if layer.name in kept}
        corrected = {name: values for name, values in (biases or {}).items() if name not in restored}
        graph = quantised(self.layout, rounding, kept=kept, biases=corrected, half=half, record=record)
        if options.target == "tensorrt":
            require_symmetric(graph, str(self.source))
        return graph

    def _write(
        self, out: Path, graph: onnx.ModelProto, table: RangeTable, path: BudgetPath | None, costs: tuple[Cost, ...]
    ) -> Calibrated:
        ranges, report, plot = (
            out.with_name(f"{out.name}{end}") for end in (".ranges.json", ".calibration.json", ".png")
        )
        table.write(ranges)
        if path is not None and len(path.steps) > 1:
            save_image(draw_path(path, f"{self.source.name} for {self.options.target}"), plot)
        content = {
            "options": asdict(self.options),
            "path": asdict(path) | {"chosen": len(path.chosen.restored)} if path else None,
            "costs": [asdict(cost) for cost in costs],
        }
        with atomic_path(report) as unfinished:
            unfinished.write_text(json.dumps(content, indent=1, default=str), encoding="utf-8")
        with atomic_path(out) as unfinished:
            onnx.save(graph, unfinished)
        files = [out, ranges, report, *([plot] if path is not None and len(path.steps) > 1 else [])]
        self.say(f"wrote {', '.join(str(file) for file in files)} ({out.stat().st_size / 1e6:.1f} MB)")
        return Calibrated(out, table, path, costs, tuple(files))

    def _progress(self, text: str) -> None:
        """A step of a long work, on a line that is written over."""
        self.line.show(text)


def _require_apart(videos: Sequence[Path], test: TestSet | None, force: bool) -> None:
    """Clips of test videos would make the judgement too good.

    Raises:
        InputError: a video is in both, under whatever name.
    """
    if test is None or force:
        return
    judged = {video_digest(path): path for path in test.videos}
    both = [path for path in videos if video_digest(path) in judged]
    if both:
        raise InputError(
            f"calibration: {both[0]} is a test video too ({len(both)} of {len(videos)} are), so the judgement would be "
            "too good; calibrate on training videos, or say --force"
        )
