"""Write docs/speed.md and its figures from the JSON of a study, without measuring anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from export.studies.speed.bars import Bar, draw_bars
from export.studies.speed.measure import describe_length
from export.studies.speed.study import Study
from runtime.benchmark.report import Measurement, Report, clip_fps_spread
from runtime.benchmark.spread import STABLE_PASSES, STABLE_SHARE, quartiles
from runtime.common.files import write_text
from runtime.results.timeline import save_image

BEGINNING = "# Speed, and what it depends on"
"""First line of the page, by which it is recognised."""

DEFINITIONS = f"""## How each number is defined

**Clip fps** is the measure of the paper's Table 3: frames of a window / median time of the forward pass alone, on
random frames, batch 1 unless said otherwise.

**Video fps** is what users get: sampled frames of the video, each counted once, / wall time from opening the file to
the last detection. Decoding, sampling, resizing, the network, suppression and all waiting are in it, loading the
network is not. A file of 30 frames per second is sampled at the model's rate (THUMOS14: 10), so that 100 video fps
are ten times real time. Windows overlap by half, so most frames go through the network twice; at a stride of 32,
eight times. A streaming network, which computes each frame once, has video fps alone, since it has no windows to time.

Untrained weights leave more candidates to suppress than trained ones, so video fps of the full-size network is lower
than with its published weights.

**Turns.** All engines of a table take turns, pass by pass, in one process: what else the machine does meets all
alike. A figure in a table is a median, in brackets the first and the third quartile. Where the quartiles of two rows
overlap, this run does not show that they differ.

**Warm-up.** An engine's passes are not counted until the median of its latest {STABLE_PASSES} differs by less than
{STABLE_SHARE:.0%} from that of the {STABLE_PASSES} before, or a largest number is reached; a \\* then says that it
had not become stable. PyTorch's compilation lies before the warm-up. Before runs from a file, each engine detects
once in random frames, so that a streaming network has compiled its steps.

**Ceiling.** The operations per second of the whole machine that nothing exceeds, for fp32, bf16 and int8 (two
operations per multiply-add; at int8 integer operations): the fastest pass of the faster of two kernels, a matrix
product 4096×1024×1024 and three 3-D convolutions 3×3×3 of 128 channels, both in OpenVINO, one pass of each in every
turn of the engines. The fastest pass is taken, since other work can only slow one down; a network's median on a busy
machine therefore stays further below its bound than on a quiet one.

**Bound of clip fps** = ceiling / operations per frame, the operations of a window divided by its frames.
Multiply-adds are those of convolutions and matrix products (the ModelSpec's `multiply_adds`), all taken at the
engine's number type, though the first and last layers of an INT8 file are wider.

**Bound of video fps** = 1 / (operations per sampled frame / ceiling + decoding / cores). Operations per sampled frame
are those of all windows of the run / sampled frames, so overlap counts; *decoding* is the time of one core, all
threads together (CPU time), that reading the same file without a network takes per sampled frame: decoding, sampling,
resizing, cutting windows; the least of the runs. The bound spreads all of that over the cores without a gap, and
gives memory, other layers, suppression and waiting no time at all: it cannot be reached, only approached.

**Core-milliseconds** are CPU time per sampled frame of everything in a run. Beside video fps they show who waits: fps
× core-milliseconds / 1000 is the mean number of busy cores (threads that spin while they wait count as busy).

**Peak memory** is that of a process of its own (VmHWM), libraries and network included. Videos of more than ten
minutes are frames in memory at the network's size, a window of the real video over and over, so no decoding is in
their figures.
"""


def write_page(study: Study, folder: Path) -> Path:
    """Write speed.md and its figures into `folder`, and return the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [BEGINNING, "", *_opening(study), ""]
    for part in (_engines, _videos, _strides, _resolutions, _lengths, _batches, _threads):
        section = list(part(study, folder))
        lines += [*section, ""] if section else []
    lines += [DEFINITIONS, *_how_to_measure(study)]
    page = folder / "speed.md"
    write_text(page, "\n".join(lines) + "\n")
    return page


def _opening(study: Study) -> Iterable[str]:
    m = study.machine
    parts = [m.processor, f"{m.cores} cores", f"{m.memory_gib:g} GiB", *(word for word in m.instructions)]
    libraries = ", ".join(f"{name} {version}" for name, version in m.libraries.items())
    yield f"{study.network[:1].upper()}{study.network[1:]}; {study.source}."
    yield ""
    yield f"- machine: {', '.join(parts)}; {m.system}, Python {m.python}"
    yield f"- {libraries}"
    load = f"{m.load[0]:g} at the start, " if m.load else ""
    busy = (
        " **The machine had other work: compare rows with each other, not with other pages, and take the shares of "
        "bounds as lower limits.**"
        if m.busy
        else ""
    )
    yield f"- measured {m.started} UTC with load {load}{study.load_at_end:g} at the end.{busy}"
    found = study.reports.get("engines")
    if found is not None:
        ceilings = ", ".join(f"{name} {value:,.0f}" for name, value in found.ceilings.items())
        yield f"- ceilings of the machine in that run, GFLOP/s: {ceilings}"


def _engines(study: Study, folder: Path) -> Iterable[str]:
    report = study.reports.get("engines")
    if report is None:
        return
    yield from ("## Engines, network alone", "")
    rows = [["engine", "ms per window", "clip fps", "against the fastest PyTorch", "bound", "reached"]]
    base = max((m.clip_fps for m in report.measurements if m.name.startswith("PyTorch")), default=0.0)
    for m in report.measurements:
        rows.append(
            [
                _name(m),
                _ms(m),
                f"{m.clip_fps:,.0f}",
                f"{m.clip_fps / base:.2f}" if base else "–",
                _number(m.clip_bound_fps),
                _share(m.ceiling_share),
            ]
        )
    yield from _table(rows)
    bars = [Bar(m.name, *_clip_spread(m), m.clip_bound_fps, _share(m.ceiling_share)) for m in report.measurements]
    yield from _figure(folder, "speed_engines", "Clip fps: the network alone", bars)


def _videos(study: Study, folder: Path) -> Iterable[str]:
    report = study.reports.get("videos")
    if report is None:
        return
    yield from ("## Engines, from a 240p file to detections", "")
    yield from _video_table(report, "engine")
    yield from _figure(folder, "speed_videos", "Video fps: from a 240p file to detections", _video_bars(report))


def _strides(study: Study, folder: Path) -> Iterable[str]:
    report = study.reports.get("strides")
    if report is None:
        return
    yield from ("## Stride", "", "OpenVINO from a 240p file of two minutes.", "")
    yield from _video_table(report, "windows")
    yield from _figure(folder, "speed_strides", "Video fps by stride", _video_bars(report))


def _resolutions(study: Study, folder: Path) -> Iterable[str]:
    reports = [report for name, report in study.reports.items() if name.startswith("resolution ")]
    if not reports:
        return
    yield from (
        "## Resolution of the file",
        "",
        "OpenVINO INT8 from H.264 files of a minute, 30 frames per second.",
        "",
    )
    merged = Report(study.machine, {}, tuple(m for report in reports for m in report.measurements))
    yield from _video_table(merged, "file")
    yield from _figure(folder, "speed_resolutions", "Video fps by resolution of the file, INT8", _video_bars(merged))


def _lengths(study: Study, folder: Path) -> Iterable[str]:
    if not study.lengths:
        return
    yield from ("## Length of the video", "")
    rows = [
        [
            "network",
            "video",
            "source",
            "video fps",
            "core-ms per frame",
            "of it suppression, ms",
            "peak memory",
            "detections",
        ]
    ]
    for run in study.lengths:
        numbers = [f"{run.fps:,.0f}", f"{run.core_ms:.2f}", f"{run.post_ms:.2f}", f"{run.peak_mib:,.0f} MiB"]
        rows.append([run.network, describe_length(run.video_s), run.source, *numbers, f"{run.detections:,}"])
    yield from _table(rows)
    bars = [Bar(f"{r.network}, {describe_length(r.video_s)}", r.peak_mib, note="MiB") for r in study.lengths]
    yield from _figure(folder, "speed_memory", "Peak memory by length of the video", bars, "MiB, one process each")


def _batches(study: Study, folder: Path) -> Iterable[str]:
    report = study.reports.get("batches")
    if report is None:
        return
    yield from ("## Batch", "", "Network alone.", "")
    yield from _clip_table(report, batch=True)


def _threads(study: Study, folder: Path) -> Iterable[str]:
    report = study.reports.get("threads")
    if report is None:
        return
    yield from ("## Threads", "", "Network alone; the bound is that of the whole machine.", "")
    yield from _clip_table(report, batch=False)


def _how_to_measure(study: Study) -> Iterable[str]:
    total = sum(study.seconds.values())
    yield from ("## Measuring again", "")
    yield (
        f"`make benchmark MINUTES={study.minutes:g}` measures all of this on the full-size network and writes this "
        "page and its figures; parts that do not fit the minutes are left out and named. "
        f"`python -m export.studies.speed --from {study.results or 'results.json'}` writes them anew from the JSON of "
        "a run. `--quick` takes the shipped small network. `afsd benchmark A.xml B.xml --json > old.json`, later with "
        "`--compare old.json`, measures single engines and says what changed."
    )
    yield from ("", f"This run took {total / 60:.1f} minutes:", "")
    yield from _table([["part", "seconds"], *([name, f"{value:,.0f}"] for name, value in study.seconds.items())])
    if study.left_out:
        yield from ("", "Left out:", "", *(f"- {reason}" for reason in study.left_out))


def _video_table(report: Report, first: str) -> Iterable[str]:
    rows = [[first, "video fps", "bound", "reached", "core-ms per frame", "of it decoding"]]
    for m in report.measurements:
        cells = [_range(*_video_spread(m)), _number(m.video_bound_fps), _share(m.video_share)]
        rows.append([m.name, *cells, f"{m.video_core_ms:.2f}", f"{m.decoding_core_ms:.2f}"])
    return _table(rows)


def _clip_table(report: Report, *, batch: bool) -> Iterable[str]:
    rows = [["engine", *(["batch"] if batch else []), "ms per pass", "clip fps", "of the bound"]]
    for m in sorted(report.measurements, key=lambda m: m.name if batch else ""):
        sizes = [str(m.batch)] if batch else []
        rows.append([_name(m), *sizes, _ms(m), f"{m.clip_fps:,.0f}", _share(m.ceiling_share)])
    return _table(rows)


def _video_bars(report: Report) -> list[Bar]:
    bars = []
    for m in report.measurements:
        low, median, high = _video_spread(m)
        bars.append(Bar(m.name, median, low, high, m.video_bound_fps, _share(m.video_share)))
    return bars


def _figure(folder: Path, name: str, title: str, bars: Sequence[Bar], note: str = "") -> Iterable[str]:
    """Write a figure beside the page and return the lines that show it."""
    legend = (
        note or "bar: median; dark line: quartiles; orange: bound and, at the right, the share of it that is reached"
    )
    save_image(draw_bars(title, legend, bars), folder / f"{name}.png")
    return ("", f"![{title}]({name}.png)")


def _table(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    head, *body = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in body)


def _clip_spread(m: Measurement) -> tuple[float, float, float]:
    low, median, high = clip_fps_spread(m)
    return median, low, high


def _video_spread(m: Measurement) -> tuple[float, float, float]:
    if not m.video_passes_fps:
        return 0.0, 0.0, 0.0
    low, median, high = quartiles(m.video_passes_fps)
    return low, median, high


def _name(m: Measurement) -> str:
    return m.name if m.settled else f"{m.name} \\*"


def _ms(m: Measurement) -> str:
    return (
        f"{m.median_ms:,.0f} ({m.low_ms:,.0f} – {m.high_ms:,.0f})"
        if m.median_ms >= 100
        else f"{m.median_ms:.1f} ({m.low_ms:.1f} – {m.high_ms:.1f})"
    )


def _range(low: float, median: float, high: float) -> str:
    return f"{median:,.0f} ({low:,.0f} – {high:,.0f})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value else "–"


def _share(value: float) -> str:
    return f"{value:.0%}" if value else "–"
