"""Render synthetic videos: textured blobs over a textured, slowly moving background."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.synthetic.motion import Floats, Pose
from training.synthetic.scene import Scene, Stream

Image = NDArray[np.uint8]

SPRITE = 96
"""Edge of an object's texture, pixels; the object is drawn in the middle and covers most of the texture."""
FIELD = 384
"""Edge of the background texture, pixels."""
SIZE_RANGE = (0.25, 0.36)
"""Diameter of an object at rest, as a fraction of the frame width."""


@dataclass(frozen=True)
class Sprite:
    """Holds an object's look: colour float32 [SPRITE, SPRITE, 3] RGB 0–255 times alpha, alpha float32 [..., 1] 0–1."""

    colour: NDArray[np.float32]
    alpha: NDArray[np.float32]
    size: float


def render(scene: Scene, size: int) -> Iterator[Image]:
    """Yield the frames of the scene, uint8 [size, size, 3] RGB."""
    rng = scene.seed.rng(Stream.LOOKS)
    field = draw_field(rng)
    sprites = [_draw_sprite(rng) for _ in scene.objects]
    times = scene.times()
    poses, pan, shake = scene.poses(), scene.camera.pan.pose(times), scene.camera.shake.pose(times)
    brightness = scene.camera.brightness(times)
    for i in range(scene.frames):
        frame = _render_background(field, pan, shake, i, size)
        for sprite, pose in zip(sprites, poses, strict=True):
            _paste(frame, sprite, pose, i)
        yield np.clip(frame * np.float32(brightness[i]), 0, 255).astype(np.uint8)


def _draw_smooth_noise(rng: np.random.Generator, edge: int, cells: int) -> NDArray[np.float32]:
    """Draw noise in about [−1, 1] with features of about edge/cells pixels, float32 [edge, edge, 3]."""
    grid = rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
    return np.asarray(cv2.resize(grid, (edge, edge), interpolation=cv2.INTER_CUBIC), np.float32)


def draw_field(rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw a background texture, float32 [FIELD, FIELD, 3] RGB, 0–255."""
    base = rng.uniform(80, 170, 3)
    noise = 35 * _draw_smooth_noise(rng, FIELD, 9) + 22 * _draw_smooth_noise(rng, FIELD, 30)
    noise += 10 * _draw_smooth_noise(rng, FIELD, 96)
    return np.asarray(np.clip(base + noise, 0, 255), np.float32)


def _draw_sprite(rng: np.random.Generator) -> Sprite:
    """Draw an irregular blob in a strong colour with a few large spots in others, so that rotation is visible."""
    y, x = np.mgrid[:SPRITE, :SPRITE].astype(np.float32) / (SPRITE / 2) - 1 + 1 / SPRITE
    theta, radius = np.arctan2(y, x), np.hypot(x, y)
    outline = 0.72 + sum(rng.uniform(0.03, 0.12) * np.cos(k * theta + rng.uniform(0, 2 * np.pi)) for k in (2, 3))
    alpha = np.clip((outline - radius) * 16, 0, 1)
    colour = np.empty((SPRITE, SPRITE, 3), np.float32)
    colour[:] = _draw_colour(rng)
    turn = rng.uniform(0, 2 * np.pi)
    for spot in range(3):
        where = turn + 2 * np.pi * spot / 3 + rng.uniform(-0.5, 0.5)
        distance = np.hypot(x - 0.42 * np.cos(where), y - 0.42 * np.sin(where))
        colour[distance < rng.uniform(0.18, 0.34)] = _draw_colour(rng)
    colour += 18 * _draw_smooth_noise(rng, SPRITE, 10)
    edge = np.clip((outline - radius - 0.06) * 16, 0, 1)[..., None]  # a dark rim, visible on the background
    alpha = alpha[..., None].astype(np.float32)
    return Sprite(np.clip(colour * edge, 0, 255) * alpha, alpha, float(rng.uniform(*SIZE_RANGE)))


def _draw_colour(rng: np.random.Generator) -> Floats:
    """Draw a saturated RGB colour: one channel high, one low, one between."""
    return rng.permutation([rng.uniform(200, 255), rng.uniform(0, 255), rng.uniform(0, 50)])


def _render_background(field: NDArray[np.float32], pan: Pose, shake: Pose, i: int, size: int) -> NDArray[np.float32]:
    zoom = float(np.exp(pan.log_size[i])) * 0.9
    cx = FIELD / 2 + (pan.x[i] * 4 - shake.x[i] * zoom) * size
    cy = FIELD / 2 + (pan.y[i] * 4 - shake.y[i] * zoom) * size
    half = zoom * (size - 1) / 2
    # With WARP_INVERSE_MAP the matrix takes a pixel of the frame to its place in the field.
    matrix = np.array([[zoom, 0, cx - half], [0, zoom, cy - half]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(field, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT_101))


def _paste(frame: NDArray[np.float32], sprite: Sprite, pose: Pose, i: int) -> None:
    """Blend the object into the frame in place, within the square it covers."""
    size = frame.shape[0]
    width = sprite.size / 0.72 * size * float(np.exp(pose.log_size[i]))  # of the whole sprite texture, in pixels
    cx, cy = pose.x[i] * size - 0.5, pose.y[i] * size - 0.5
    left, top = max(0, int(cx - width / 2)), max(0, int(cy - width / 2))
    right, bottom = min(size, int(cx + width / 2) + 2), min(size, int(cy + width / 2) + 2)
    if right <= left or bottom <= top:
        return
    scale = SPRITE / width
    cos, sin = scale * np.cos(pose.angle[i]), scale * np.sin(pose.angle[i])
    dx, dy, middle = left - cx, top - cy, (SPRITE - 1) / 2
    matrix = np.array([[cos, sin, middle + cos * dx + sin * dy], [-sin, cos, middle - sin * dx + cos * dy]])
    shape, flags = (right - left, bottom - top), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    colour = cv2.warpAffine(sprite.colour, matrix, shape, flags=flags)
    alpha = cv2.warpAffine(sprite.alpha, matrix, shape, flags=flags)
    window = frame[top:bottom, left:right]
    window *= 1 - alpha[..., None]
    window += colour
