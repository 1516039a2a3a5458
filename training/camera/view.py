"""Show one shot of an edit: its footage through a moving camera, objects that pass before it, light and grain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.camera.edit import Edit, Shot
from training.camera.footage import Footage
from training.camera.moves import Floats, Pose, compute_move
from training.synthetic.render import draw_field

Picture = NDArray[np.float32]

LAYER_EDGE = 96
"""Edge of an object's texture, pixels."""
CLIP_SHARE, LIVELY_CLIP_SHARE, TEXTURE_SHARE = 0.3, 0.55, 0.12
"""Shares of the shots that show a clip, where there is one (of lively shots), or a made texture; the others show a
picture."""
VIEW_SHARE = (0.35, 0.75)
"""Range of the part of a picture that the frame shows at first."""
SLOW_SHARE, SLOW_RATES = 0.18, (6.0, 13.0)
"""Share of the shots that were taken at fewer frames per second than the video has, and the range of their rates."""
WRAP = 1.6
"""Width and height, in frames, of the region around which objects pass."""


@dataclass(frozen=True, eq=False)
class Layer:
    """Holds an object before the background, and its path; lengths in frame widths, speeds in widths per second.

    colour float32 [LAYER_EDGE, LAYER_EDGE, 3] times alpha, alpha float32 [..., 1].
    """

    colour: Picture
    alpha: Picture
    size: float
    place: tuple[float, float]
    speed: tuple[float, float]
    parallax: float
    """How far the object moves in the picture when the background moves by 1."""
    wobble: tuple[float, float, float]
    """Amplitudes of a swing in y (heights), log size and angle, each of `period_s`."""
    period_s: float
    phase: float


class View:
    """Renders the frames of one shot, the same whatever is rendered before."""

    def __init__(self, edit: Edit, shot: Shot, background: Footage | None, textures: Sequence[Footage]) -> None:
        """Draw what is seen.

        Args:
            background: picture or clip; None: a made texture.
            textures: footage that objects are cut from.
        """
        rng = np.random.default_rng(shot.seed)
        self._edit, self._shot, self._shown = edit, shot, _draw_shown(edit, shot)
        self._levels = [draw_field(rng).astype(np.uint8)[None]] if background is None else [background.frames]
        self._rate = background.fps * rng.uniform(0.6, 1.3) if background is not None and background.is_clip else 0.0
        self._start = rng.uniform(0, 60)
        height, width = self._levels[0].shape[1:3]
        share = rng.uniform(*VIEW_SHARE) if self._rate == 0 else rng.uniform(0.55, 0.95)
        self._view = share * min(width, height * edit.width / edit.height)
        """Pixels of the picture that the frame's width shows before any zoom."""
        self._centre = (rng.uniform(0.35, 0.65) * width, rng.uniform(0.35, 0.65) * height)
        self._layers = [_draw_layer(rng, textures, shot.lively) for _ in range(_count_layers(rng, shot, self._rate))]
        self._path, self._content_s = _follow(edit, shot)
        self._light = _draw_light(rng, shot, edit)
        self._gain, self._offset = _draw_look(rng)
        self._grain = float(rng.choice([0.0, rng.uniform(1, 7)]))

    def frame(self, index: int) -> Picture:
        """Render frame number `index` of the video, float32 [height, width, 3] RGB, 0–255."""
        at = int(self._shown[index - self._shot.span.first])
        frame = self._render_background(at)
        for layer in self._layers:
            _paste(frame, layer, self._path, at, float(self._content_s[at]))
        frame = (frame @ self._gain + self._offset) * self._light[at]
        if self._grain:
            rng = np.random.default_rng([self._shot.seed, at])
            frame += np.float32(self._grain) * rng.standard_normal((*frame.shape[:2], 1), np.float32)
        return np.asarray(np.clip(frame, 0, 255), np.float32)

    def _render_background(self, at: int) -> Picture:
        magnified = float(np.exp(self._path.log_zoom[at]))
        scale = self._view / magnified / self._edit.width  # pixels of the picture per pixel of the frame
        level = int(np.clip(np.floor(np.log2(max(scale, 1e-6)) + 0.5), 0, 3))
        picture = self._picture(level, float(self._content_s[at]))
        shrink = picture.shape[1] / self._levels[0].shape[2]
        cos = scale * shrink * np.cos(self._path.roll[at])
        sin = scale * shrink * np.sin(self._path.roll[at])
        height = self._edit.height / self._edit.width
        cx = (self._centre[0] + self._path.x[at] * self._view) * shrink
        cy = (self._centre[1] + self._path.y[at] * self._view * height) * shrink
        u, v = (self._edit.width - 1) / 2, (self._edit.height - 1) / 2
        matrix = np.array([[cos, -sin, cx - cos * u + sin * v], [sin, cos, cy - sin * u - cos * v]])
        warped = cv2.warpAffine(
            picture,
            matrix,
            (self._edit.width, self._edit.height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        return np.asarray(warped, np.float32)

    def _picture(self, level: int, content_s: float) -> NDArray[np.uint8]:
        """Return the picture, or the clip's frame, at half its size `level` times."""
        if self._rate:
            frames = self._levels[0]
            turn = int((self._start + content_s) * self._rate) % (2 * len(frames) - 2)  # forth and back
            picture = np.asarray(frames[min(turn, 2 * len(frames) - 2 - turn)])
            return _shrink(picture, level)
        while len(self._levels) <= level:
            self._levels.append(_shrink(np.asarray(self._levels[-1][0]), 1)[None])
        return np.asarray(self._levels[level][0])


def _shrink(picture: NDArray[np.uint8], level: int) -> NDArray[np.uint8]:
    if not level:
        return picture
    size = (max(2, picture.shape[1] >> level), max(2, picture.shape[0] >> level))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _draw_shown(edit: Edit, shot: Shot) -> NDArray[np.int64]:
    """Compute which of the shot's frames each of them shows: an earlier one in freezes and in shots of a lower rate."""
    shown = np.arange(shot.span.end - shot.span.first)
    rng = np.random.default_rng([shot.seed, 1])
    if rng.random() < SLOW_SHARE:
        ticks = np.floor(edit.times(shot.span) * rng.uniform(*SLOW_RATES))
        shown = np.searchsorted(ticks, ticks)
    for freeze in shot.freezes:
        first = freeze.span.first - shot.span.first
        shown[first : freeze.span.end - shot.span.first] = shown[first]
    return shown


def _follow(edit: Edit, shot: Shot) -> tuple[Pose, Floats]:
    """Compute the camera's pose relative to its first, in frames as magnified at first, and the time of the content.

    Both are arrays over the shot's frames. The content's time stands still in freezes that pause it.
    """
    times = edit.times(shot.span)
    moved = [compute_move(move, times) for move in shot.moves]
    content = times.copy()
    for freeze in shot.freezes:
        if freeze.pauses:
            content -= np.clip(
                times - freeze.span.first / edit.fps, 0, (freeze.span.end - freeze.span.first) / edit.fps
            )
    pose = shot.unrest.pose(content)
    for move in moved:
        pose = pose + move
    shrink = np.exp(-pose.log_zoom)  # a frame width is less of the picture when magnified
    x, y = (np.concatenate([[0.0], np.cumsum(np.diff(axis) * shrink[1:])]) for axis in (pose.x, pose.y))
    return Pose(x, y, pose.log_zoom, pose.roll), content - times[0]


def _count_layers(rng: np.random.Generator, shot: Shot, rate: float) -> int:
    if shot.lively:
        return int(rng.integers(3, 6)) if not rate else int(rng.integers(1, 4))
    return int(rng.choice(4, p=(0.45, 0.2, 0.2, 0.15)))


def _draw_layer(rng: np.random.Generator, textures: Sequence[Footage], lively: bool) -> Layer:
    """Cut an irregular piece out of a picture or clip's frame, and draw its path."""
    texture = textures[int(rng.integers(len(textures)))].frames
    picture = np.asarray(texture[int(rng.integers(len(texture)))])
    height, width = picture.shape[:2]
    edge = int(rng.uniform(0.2, 0.6) * min(height, width))
    top, left = int(rng.integers(height - edge)), int(rng.integers(width - edge))
    piece = cv2.resize(picture[top : top + edge, left : left + edge], (LAYER_EDGE, LAYER_EDGE))
    y, x = np.mgrid[:LAYER_EDGE, :LAYER_EDGE].astype(np.float32) / (LAYER_EDGE / 2) - 1 + 1 / LAYER_EDGE
    x = x * rng.uniform(1.0, 1.8)  # people and poles are taller than wide
    theta, radius = np.arctan2(y, x), np.hypot(x, y)
    outline = 0.72 + sum(rng.uniform(0.03, 0.12) * np.cos(k * theta + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 5))
    alpha = np.clip((outline - radius) * 12, 0, 1)[..., None].astype(np.float32)
    tint = rng.uniform(0.6, 1.3, 3) * rng.uniform(0.6, 1.2)
    speed, heading = (
        rng.uniform(0.1 if lively else 0.0, 0.5),
        rng.normal(0, 0.35) + (np.pi if rng.random() < 0.5 else 0),
    )
    return Layer(
        colour=np.asarray(np.clip(piece * tint, 0, 255) * alpha, np.float32),
        alpha=alpha,
        size=float(np.exp(rng.uniform(np.log(0.18 if lively else 0.08), np.log(0.6)))),
        place=(rng.uniform(0, WRAP), rng.uniform(0.5, 1.2)),
        speed=(speed * np.cos(heading), 0.6 * speed * np.sin(heading)),
        parallax=float(rng.uniform(0.9, 1.5)),
        wobble=(rng.uniform(0, 0.04), rng.uniform(0, 0.08), rng.uniform(0, 0.25)),
        period_s=float(rng.uniform(0.6, 3.0)),
        phase=float(rng.uniform(0, 2 * np.pi)),
    )


def _paste(frame: Picture, layer: Layer, path: Pose, at: int, content_s: float) -> None:
    """Blend an object into the frame in place, within the square it covers."""
    height, width = frame.shape[:2]
    magnified = float(np.exp(path.log_zoom[at]))
    swing = float(np.sin(2 * np.pi * content_s / layer.period_s + layer.phase))
    x = (layer.place[0] + layer.speed[0] * content_s - layer.parallax * path.x[at]) % WRAP - (WRAP - 1) / 2
    y = (layer.place[1] + layer.speed[1] * content_s - layer.parallax * path.y[at]) % WRAP - (WRAP - 1) / 2
    cx = ((x - 0.5) * magnified + 0.5) * width - 0.5
    cy = ((y - 0.5) * magnified + 0.5 + layer.wobble[0] * swing) * height - 0.5
    covered = layer.size / 0.72 * width * magnified * float(np.exp(layer.wobble[1] * swing))
    left, top = max(0, int(cx - covered / 2)), max(0, int(cy - covered / 2))
    right, bottom = min(width, int(cx + covered / 2) + 2), min(height, int(cy + covered / 2) + 2)
    if right <= left or bottom <= top:
        return
    scale, angle = LAYER_EDGE / covered, layer.wobble[2] * swing + float(path.roll[at])
    cos, sin, middle = scale * np.cos(angle), scale * np.sin(angle), (LAYER_EDGE - 1) / 2
    dx, dy = left - cx, top - cy
    matrix = np.array([[cos, sin, middle + cos * dx + sin * dy], [-sin, cos, middle - sin * dx + cos * dy]])
    shape, flags = (right - left, bottom - top), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    window = frame[top:bottom, left:right]
    window *= 1 - cv2.warpAffine(layer.alpha, matrix, shape, flags=flags)[..., None]
    window += cv2.warpAffine(layer.colour, matrix, shape, flags=flags)


def _draw_light(rng: np.random.Generator, shot: Shot, edit: Edit) -> Floats:
    """Draw the factor on all pixels of each of the shot's frames: slow drift, at times a step or a flash."""
    times = edit.times(shot.span)
    light = 1 + rng.uniform(0, 0.1) * np.sin(2 * np.pi * (times / rng.uniform(3, 12) + rng.uniform()))
    if rng.random() < 0.2:  # as a camera's automatic exposure does
        began, took, step = rng.uniform(times[0], times[-1] + 1), rng.uniform(0.3, 1.5), rng.uniform(-0.3, 0.3)
        light *= 1 + step * np.clip((times - began) / took, 0, 1)
    if rng.random() < 0.05:
        flash = int(rng.integers(len(times)))
        light[flash : flash + int(rng.integers(1, 3))] *= rng.uniform(1.3, 2.0)
    return light


def _draw_look(rng: np.random.Generator) -> tuple[Picture, Picture]:
    """Draw the colours: a matrix float32 [3,3] applied to RGB rows from the right, and an offset [3]."""
    saturation = float(rng.choice([0.0, rng.uniform(0.5, 1.2)], p=(0.1, 0.9)))
    luma = np.tile(np.array([[0.3], [0.59], [0.11]]), (1, 3))
    matrix = (saturation * np.eye(3) + (1 - saturation) * luma) @ np.diag(rng.uniform(0.8, 1.2, 3))
    contrast = rng.uniform(0.6, 1.3)
    offset = 128 * (1 - contrast) + rng.uniform(-25, 25)
    return (contrast * matrix).astype(np.float32), np.full(3, offset, np.float32)
