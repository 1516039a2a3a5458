"""Training clips as tensors: cut from the frame store, cropped, flipped, rearranged; and batches of them.

A sample of features has the same form (feature_dataset.py): [C,T] float32 in place of pixels [C,T,H,W].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from runtime.annotations.activitynet import VideoAnnotation
from runtime.errors import InputError
from runtime.windows import pad
from training.data.annotations import FrameAnnotation, to_sampled_frames
from training.data.augmentation import (
    BackgroundRule,
    Rearrangement,
    Span,
    draw_rearrangement,
    random_crop,
    random_flip,
)
from training.data.clips import Clip, boundary_maps
from training.stores.frame_store import FrameStore

PaddingOrder = Literal["before", "after"]
"""Short clips are padded before normalisation (with −1, as published) or after it (with 0, as at test)."""


@dataclass(frozen=True)
class RearrangedClip:
    """The clip of boundary contrastive learning (AFSD, section 3.4)."""

    frames: Tensor
    """uint8 [C,T,H,W], or float32 [C,T]"""
    valid: Tensor
    """bool [T]"""
    segments: Tensor
    """float32 [3,2], frames: A1 and A2, the parts of the action around the moved background, and Bg, that piece."""


@dataclass(frozen=True)
class Sample:
    """One training clip. C = 3 (RGB), 2 (flow x, y) or a feature's width, T = clip length, N ≥ 1 = its instances."""

    frames: Tensor
    """uint8 [C,T,H,W], 0–255, channels last in memory; normalised later, on the device (models/normalisation.py).
    Features: float32 [C,T]."""
    valid: Tensor
    """bool [T]: false only for padding that is to become 0 when the clip is normalised. Features: for all padding."""
    targets: Tensor
    """float32 [N,3]: start and end as fractions of the clip length, class (1 … K−1)."""
    boundaries: Tensor
    """float32 [2,T]: start and end maps of zeros and ones."""
    rearranged: RearrangedClip | None
    """None when not asked for, or when the clip offers no action and background long enough."""


class Batch(NamedTuple):
    """B samples, M ≤ B of them with a rearranged clip. A tuple, so that loaders can pin it and move it to a device."""

    frames: Tensor
    """uint8 [B,C,T,H,W], channels last in memory (torch.channels_last_3d), or float32 [B,C,T]"""
    valid: Tensor
    """bool [B,T]"""
    targets: tuple[Tensor, ...]
    """B times float32 [N,3], as in Sample."""
    boundaries: Tensor
    """float32 [B,2,T]"""
    rearranged: Tensor
    """uint8 [M,C,T,H,W], or float32 [M,C,T]"""
    rearranged_valid: Tensor
    """bool [M,T]"""
    rearranged_segments: Tensor
    """float32 [M,3,2], frames, as in RearrangedClip."""


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples; targets stay apart, as each clip has its own number. Only the rearranged clips there are count."""
    rearranged = [s.rearranged for s in samples if s.rearranged is not None]
    like = samples[0]
    return Batch(
        frames=_stack([s.frames for s in samples], like.frames),
        valid=torch.stack([s.valid for s in samples]),
        targets=tuple(s.targets for s in samples),
        boundaries=torch.stack([s.boundaries for s in samples]),
        rearranged=_stack([r.frames for r in rearranged], like.frames),
        rearranged_valid=_stack([r.valid for r in rearranged], like.valid),
        rearranged_segments=_stack([r.segments for r in rearranged], torch.zeros(3, 2)),
    )


def _stack(tensors: list[Tensor], like: Tensor) -> Tensor:
    """`torch.stack`, also of none: then [0, *like.shape]. Clips [C,T,H,W] stay channels last in memory."""
    if not tensors:
        return like.new_empty((0, *like.shape))
    if like.dim() == 4:
        return torch.stack([clip.permute(1, 2, 3, 0) for clip in tensors]).permute(0, 4, 1, 2, 3)
    return torch.stack(tensors)


def frame_annotations(
    videos: Iterable[VideoAnnotation], store: FrameStore, classes: Sequence[str], *, class_agnostic: bool = False
) -> list[FrameAnnotation]:
    """Annotations in the sampled frames of the store; input of `cut_clips`.

    Raises:
        InputError: a video that is not in the store.
        AnnotationError: a label that is not among the classes.
    """
    videos = list(videos)
    missing = [video.name for video in videos if video.name not in store.videos]
    if missing:
        raise InputError(
            f"{store.folder}: {len(missing)} of {len(videos)} annotated videos are not in the frame store, "
            f"the first is {missing[0]!r}; build the frame store with them"
        )
    return [
        to_sampled_frames(
            video,
            frames=store.videos[video.name].frames,
            sample_fps=store.sample_fps(video.name),
            classes=classes,
            class_agnostic=class_agnostic,
        )
        for video in videos
    ]


class WindowDataset(Dataset[Sample], ABC):
    """Clips, each drawn anew in every epoch; a subclass knows where what they show comes from.

    All that is random in a sample comes from a generator seeded with (seed, epoch, index), in the published order:
    crop row, crop column, flip, rearrangement. So a sample is the same for any number of workers, any order, and
    after a resume. (The published code seeds its workers alike in every epoch, which repeats their draws.)
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        *,
        clip_length: int,
        contrastive: float,
        background: BackgroundRule,
        seed: int,
    ) -> None:
        """
        Args:
            clips: of `cut_clips` with the same clip_length.
            clip_length: T, frames or steps.
            contrastive: share of the clips for which a rearranged one is tried, 0 (never) to 1 (always, as published).
            background: which frames the rearranged clip may take as background.
            seed: of the run.

        Raises:
            InputError: no clips.
        """
        if not clips:
            raise InputError("no clip to train on: no annotated action lies completely within a window")
        self._clips = clips
        self._clip_length = clip_length
        self._contrastive = contrastive
        self._background = background
        self._seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]  # seen by persistent workers too

    def __len__(self) -> int:
        return len(self._clips)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose samples are drawn; call it before iterating the DataLoader."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> Sample:
        clip = self._clips[index]
        rng = Random(f"{self._seed} {int(self._epoch)} {index}")
        frames = self._load(clip, rng)
        valid = np.arange(self._clip_length) < self._valid_length(clip)
        tried = self._contrastive >= 1 or (self._contrastive > 0 and rng.random() < self._contrastive)
        rearrangement = self._draw(clip, rng) if tried else None
        T = self._clip_length
        return Sample(
            frames=_channels_first(frames),
            valid=torch.from_numpy(valid),
            targets=torch.tensor([[i.start / T, i.end / T, i.label] for i in clip.instances]),
            boundaries=torch.from_numpy(boundary_maps(clip.instances, self._clip_length)),
            rearranged=_rearrange(frames, valid, rearrangement) if rearrangement else None,
        )

    @abstractmethod
    def _load(self, clip: Clip, rng: Random) -> NDArray[Any]:
        """What the clip shows, padded to T: [T, …, C], newly allocated."""

    def _valid_length(self, clip: Clip) -> int:
        """Frames of the clip that are not marked as padding."""
        return clip.length

    def _draw(self, clip: Clip, rng: Random) -> Rearrangement | None:
        return draw_rearrangement(
            clip.instances,
            clip.background_length,
            self._clip_length,
            rng,
            background=self._background,
            frames=clip.length,
        )


class ClipDataset(WindowDataset):
    """The clips of a frame store."""

    def __init__(
        self,
        clips: Sequence[Clip],
        store: FrameStore,
        *,
        clip_length: int,
        crop_size: int,
        flip: bool = True,
        contrastive: float = 1.0,
        padding: PaddingOrder = "before",
        background: BackgroundRule = "correct",
        flow_flip: Literal["correct", "reference"] = "correct",
        seed: int = 0,
    ) -> None:
        """
        Args:
            clips, clip_length, contrastive, background, seed: see `WindowDataset`.
            store: frames of their videos.
            crop_size: pixels of the square the network sees.
            flip: mirror half of the clips; off where left and right mean different classes.
            padding: of clips shorter than T.
            flow_flip: whether the x component of mirrored flow changes its sign ("correct") or not.

        Raises:
            InputError: no clips, or a crop larger than the stored frames.
        """
        super().__init__(clips, clip_length=clip_length, contrastive=contrastive, background=background, seed=seed)
        if not 0 < crop_size <= store.sampling.frame_size:
            raise InputError(f"crop_size is {crop_size}, expected 1 to {store.sampling.frame_size}, the stored frame")
        self._store = store
        self._crop_size = crop_size
        self._flip = flip
        self._padding = padding
        self._negate_x = flow_flip == "correct" and store.sampling.channels == 2

    def _valid_length(self, clip: Clip) -> int:
        return clip.length if self._padding == "after" else self._clip_length

    def _load(self, clip: Clip, rng: Random) -> NDArray[np.uint8]:
        """Slice, crop and flip as views of the memory map, then copy the pixels once: uint8 [T,H,W,C]."""
        stored = self._store[clip.video][clip.offset : clip.offset + self._clip_length]
        view = random_crop(stored, self._crop_size, rng)
        view = random_flip(view, rng, negate_x=self._negate_x) if self._flip else view
        return pad(view, self._clip_length)


def _rearrange(frames: NDArray[Any], valid: NDArray[np.bool_], rearrangement: Rearrangement) -> RearrangedClip:
    spans: tuple[Span, ...] = (rearrangement.first, rearrangement.second, rearrangement.background)
    return RearrangedClip(
        frames=_channels_first(rearrangement.apply(frames)),
        valid=torch.from_numpy(rearrangement.apply(valid)),
        segments=torch.tensor(spans, dtype=torch.float32),
    )


def _channels_first(frames: NDArray[Any]) -> Tensor:
    """[T,H,W,C] → [C,T,H,W] as a view: channels last in memory, the layout that 3-D convolutions want anyway."""
    return torch.from_numpy(frames).movedim(-1, 0)
