"""Draw detections on a timeline: one row per class, detections as bars, ground truth above them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.annotations.activitynet import VideoAnnotation
from runtime.common.files import PathLike, atomic_path
from runtime.common.ranges import Range, Seconds, require_in_range
from runtime.common.text import counted
from runtime.errors import InputError
from runtime.results.canvas import INK, MUTED, Canvas, Colour, blend, readable_on
from runtime.results.colours import PALETTE, class_colour
from runtime.results.picture_mark import mark_png

if TYPE_CHECKING:
    from runtime.results.detections import Detections

TRUTH: Colour = (74, 80, 92)
ZEBRA: Colour = (246, 247, 249)
GRID: Colour = (226, 229, 234)

# Layout, pixels
MARGIN = 28
HEADER = 78
STRIP = 96
TRUTH_HEIGHT = 7
BAR_HEIGHT = 16
BAR_GAP = 3
ROW_PADDING = 8
AXIS = 40
MIN_BAR = 2
LEGEND = 120
MIN_TICK = 90
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE, SCORE_SIZE = 21.0, 14.0, 12.0, 10.5

MAX_LANES = 6
"""Maximum number of lanes for overlapping detections of one class, best first; the rest is counted at the label."""

TIME_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
"""Possible distances in seconds between ticks of the time axis."""


@dataclass(frozen=True)
class _Bar:
    start_s: float
    end_s: float
    score: float
    lane: int


@dataclass(frozen=True)
class _Row:
    name: str
    colour: Colour
    truths: tuple[tuple[float, float], ...]
    bars: tuple[_Bar, ...]
    hidden: int
    """Number of detections for which no lane was free."""

    @property
    def label(self) -> str:
        return f"{self.name}  +{self.hidden}" if self.hidden else self.name

    @property
    def height(self) -> int:
        lanes = max([bar.lane + 1 for bar in self.bars], default=1)
        truth = TRUTH_HEIGHT + BAR_GAP if self.truths else 0
        return 2 * ROW_PADDING + truth + lanes * BAR_HEIGHT + (lanes - 1) * BAR_GAP


@dataclass(frozen=True)
class _Axis:
    """Maps seconds to pixels."""

    left: float
    right: float
    duration_s: float

    def x(self, seconds: float) -> float:
        """Return the pixel of a time, clamped to the plot."""
        return self.left + (self.right - self.left) * min(max(seconds / self.duration_s, 0.0), 1.0)


def draw_timeline(
    detections: Detections,
    *,
    duration_s: float | None = None,
    truth: VideoAnnotation | None = None,
    thumbnails: Sequence[NDArray[np.uint8]] = (),
    width: int = 1600,
) -> NDArray[np.uint8]:
    """Draw detections on a time axis, a row for every class that occurs.

    Args:
        detections: detections of one video; the stronger a bar's colour, the higher its score.
        duration_s: length of the axis in seconds; default: the truth's duration, else the end of the last segment.
        truth: ground truth, drawn as dark bars above the detections of its class.
        thumbnails: frames uint8 [H,W,3] RGB 0–255, evenly spaced over the video, shown above the rows.
        width: width of the image in pixels, at least 640; the height follows from the content.

    Returns:
        The image, uint8 [height,width,3] RGB.

    Raises:
        InputError: a width below 640, a duration that is not above 0, a thumbnail that is not uint8 [H,W,3].
    """
    require_in_range("width", width, Annotated[int, Range(640, 65_500, what="pixels")])
    if any(t.ndim != 3 or t.shape[2] != 3 or t.dtype != np.uint8 or not t.size for t in thumbnails):
        raise InputError("thumbnails: expected frames uint8 [H,W,3]")
    duration = choose_duration(detections, truth, duration_s)
    rows = _rows(detections, truth)
    rows_height = sum(row.height for row in rows) if rows else 2 * BAR_HEIGHT + 2 * ROW_PADDING
    strip = STRIP if len(thumbnails) else 0
    canvas = Canvas(width, HEADER + strip + rows_height + AXIS + MARGIN // 2)
    labels = max([canvas.text_width(row.label, TEXT_SIZE) for row in rows], default=0.0)
    label_size = TEXT_SIZE * min(1.0, 0.35 * width / labels) if labels else TEXT_SIZE
    left = MARGIN + min(labels, 0.35 * width) + 18 if rows else MARGIN
    axis = _Axis(left, width - MARGIN, duration)
    _draw_header(canvas, detections, duration, len(rows), truth is not None)
    if strip:
        _draw_strip(canvas, thumbnails, axis, HEADER)
    top = HEADER + strip
    _draw_axis(canvas, axis, top, top + rows_height, rows)
    for row in rows:
        _draw_row(canvas, row, axis, top, label_size)
        top += row.height
    if not rows:
        canvas.text("nothing detected", (axis.left + axis.right) / 2, top + rows_height / 2, TEXT_SIZE, MUTED, 0.5)
    return canvas.image()


def save_image(image: NDArray[np.uint8], path: PathLike) -> None:
    """Write an image, uint8 [H,W,3] RGB, atomically in the format of the path's suffix.

    Raises:
        InputError: OpenCV does not write this format.
    """
    with atomic_path(path) as temporary:
        try:
            written, data = cv2.imencode(temporary.suffix, np.ascontiguousarray(image[..., ::-1]))
        except cv2.error:
            written = False
        if not written:
            raise InputError(f"{path}: cannot write an image with suffix {temporary.suffix!r}; use .png")
        content = data.tobytes()
        temporary.write_bytes(mark_png(content) if temporary.suffix.lower() == ".png" else content)


def format_time(seconds: float, step_s: float) -> str:
    """Format a time on an axis whose ticks are `step_s` apart: "2.5 s", "40 s", "1:20" or "1:02:00"."""
    if step_s < 1:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60 and step_s < 30:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def assign_lanes(segments: NDArray[np.float64], scores: NDArray[np.float64], lanes: int) -> NDArray[np.intp]:
    """Return the lane of each segment [D,2]: by falling score, the first lane free at its time; −1 if none is free."""
    result = np.full(len(scores), -1)
    for index in np.argsort(-scores, kind="stable"):
        start, end = segments[index]
        clash = (segments[:, 0] < end) & (segments[:, 1] > start) & (result >= 0)
        taken = set(result[clash].tolist())
        result[index] = next((lane for lane in range(lanes) if lane not in taken), -1)
    return result


def choose_duration(detections: Detections, truth: VideoAnnotation | None, duration_s: float | None) -> float:
    """Return the length of the time axis in seconds: as given, as annotated, or up to the end of the last segment.

    Raises:
        InputError: a duration that is not above 0.
    """
    if duration_s is not None:
        require_in_range("duration_s", duration_s, Seconds)
        return duration_s
    if truth is not None and truth.duration_s is not None:
        return truth.duration_s
    ends = [float(detections.segments.max())] if len(detections) else []
    ends += [instance.end_s for instance in truth.instances] if truth is not None else []
    return max([end for end in ends if end > 0], default=1.0)


def _rows(detections: Detections, truth: VideoAnnotation | None) -> list[_Row]:
    instances = truth.instances if truth is not None else ()
    found = {detections.classes[label] for label in np.unique(detections.labels).tolist()}
    named = found | {instance.label for instance in instances}
    order = [name for name in detections.classes if name in named]
    order += sorted(named.difference(order))
    rows = []
    for name in order:
        mine = detections.of_class(name)
        lanes = assign_lanes(mine.segments, mine.scores, MAX_LANES)
        bars = tuple(
            _Bar(d.start_s, d.end_s, d.score, lane) for d, lane in zip(mine, lanes.tolist(), strict=True) if lane >= 0
        )
        truths = tuple((i.start_s, i.end_s) for i in instances if i.label == name)
        hidden = len(mine) - len(bars)
        rows.append(_Row(name, class_colour(name, detections.classes), truths, bars, hidden))
    return rows


def _draw_header(canvas: Canvas, detections: Detections, duration: float, classes: int, with_truth: bool) -> None:
    length = f"{duration:.1f} s" if duration < 60 else format_time(duration, 60)
    subtitle = f"{length}   {counted(len(detections), 'detection')}   {counted(classes, 'class', 'classes')}"
    x = float(canvas.width - MARGIN)
    middle = 50
    x -= canvas.text_width("1", SMALL_SIZE)
    canvas.text("1", x, middle, SMALL_SIZE, MUTED)
    x -= 8 + LEGEND
    for k in range(LEGEND):
        canvas.rectangle(x + k, middle - 6, x + k + 1, middle + 6, blend(PALETTE[0], _strength(k / LEGEND)))
    x -= 8 + canvas.text_width("score 0", SMALL_SIZE)
    canvas.text("score 0", x, middle, SMALL_SIZE, MUTED)
    if with_truth:
        x -= 20 + canvas.text_width("ground truth", SMALL_SIZE)
        canvas.text("ground truth", x, middle, SMALL_SIZE, MUTED)
        canvas.rectangle(x - 36, middle - TRUTH_HEIGHT / 2, x - 8, middle + TRUTH_HEIGHT / 2, TRUTH)
        x -= 36
    title = detections.video or "detections"
    room = canvas.width - 2 * MARGIN
    size = TITLE_SIZE * min(1.0, room / canvas.text_width(title, TITLE_SIZE))
    canvas.text(title, MARGIN, 25, size, INK)
    canvas.text(subtitle, MARGIN, middle, SMALL_SIZE, MUTED)


def _draw_strip(canvas: Canvas, thumbnails: Sequence[NDArray[np.uint8]], axis: _Axis, top: int) -> None:
    """Draw as many thumbnails as fit without overlap, each centred on its time."""
    height = STRIP - 12
    widest = max(t.shape[1] / t.shape[0] for t in thumbnails) * height
    fits = max(1, min(len(thumbnails), int((axis.right - axis.left) // (widest + 4))))
    slot = (axis.right - axis.left) / fits
    for k in range(fits):
        thumbnail = thumbnails[int((k + 0.5) * len(thumbnails) / fits)]
        width = min(height * thumbnail.shape[1] / thumbnail.shape[0], axis.right - axis.left)
        centre = axis.left + (k + 0.5) * slot
        canvas.picture(thumbnail, centre - width / 2, top, width, height)


def _draw_axis(canvas: Canvas, axis: _Axis, top: int, bottom: int, rows: Sequence[_Row]) -> None:
    y = top
    for number, row in enumerate(rows):
        if number % 2 == 0:
            canvas.rectangle(0, y, canvas.width, y + row.height, ZEBRA)
        y += row.height
    pixels_per_second = (axis.right - axis.left) / axis.duration_s
    step = next((s for s in TIME_STEPS if s * pixels_per_second >= MIN_TICK), axis.duration_s)
    for k in range(int(axis.duration_s / step + 1e-6) + 1):
        x = axis.x(k * step)
        canvas.rectangle(x - 0.5, top, x + 0.5, bottom + 5, GRID)
        half = canvas.text_width(format_time(k * step, step), SMALL_SIZE) / 2
        canvas.text(format_time(k * step, step), min(x, canvas.width - 6 - half), bottom + 18, SMALL_SIZE, MUTED, 0.5)
    canvas.rectangle(axis.left, bottom - 0.5, axis.right, bottom + 0.5, MUTED)


def _draw_row(canvas: Canvas, row: _Row, axis: _Axis, top: int, label_size: float) -> None:
    middle = top + row.height / 2
    if row.hidden:
        end = canvas.text(f"  +{row.hidden}", axis.left - 18, middle, label_size, MUTED, 1.0)
        canvas.text(row.name, axis.left - 18 - end, middle, label_size, INK, 1.0)
    else:
        canvas.text(row.name, axis.left - 18, middle, label_size, INK, 1.0)
    y = float(top + ROW_PADDING)
    for start, end in row.truths:
        x0 = axis.x(start)
        canvas.rectangle(x0, y, max(axis.x(end), x0 + MIN_BAR), y + TRUTH_HEIGHT, TRUTH)
    y += TRUTH_HEIGHT + BAR_GAP if row.truths else 0
    for bar in sorted(row.bars, key=lambda bar: bar.score):
        later = (axis.x(other.start_s) for other in row.bars if other.lane == bar.lane and other.start_s > bar.start_s)
        _draw_bar(canvas, bar, row.colour, axis, y + bar.lane * (BAR_HEIGHT + BAR_GAP), min(later, default=axis.right))


def _draw_bar(canvas: Canvas, bar: _Bar, colour: Colour, axis: _Axis, y: float, free_to: float) -> None:
    """Draw a bar with its score: in it, or where it is too short behind it, if the lane is free up to `free_to`."""
    x0 = axis.x(bar.start_s)
    x1 = max(axis.x(bar.end_s), x0 + MIN_BAR)
    fill = blend(colour, _strength(bar.score))
    canvas.rectangle(x0, y, x1, y + BAR_HEIGHT, blend(colour, 0.5 + _strength(bar.score) / 2))
    if x1 - x0 > 4:
        canvas.rectangle(x0 + 1, y + 1, x1 - 1, y + BAR_HEIGHT - 1, fill)
    text = f"{bar.score:.2f}"
    needed = canvas.text_width(text, SCORE_SIZE)
    if needed + 6 <= x1 - x0:
        canvas.text(text, (x0 + x1) / 2, y + BAR_HEIGHT / 2, SCORE_SIZE, readable_on(fill), 0.5)
    elif x1 + needed + 6 <= free_to:
        canvas.text(text, x1 + 3, y + BAR_HEIGHT / 2, SCORE_SIZE, MUTED)


def _strength(score: float) -> float:
    """Return the strength of the class colour for a score, always enough to be visible on white."""
    return 0.12 + 0.88 * min(max(score, 0.0), 1.0)
