"""Load training clips as tensors: cut from the frame store, cropped, flipped, rearranged; and collate batches.

Samples of features (feature_dataset.py) have [C,T] float32 in place of pixels [C,T,H,W].
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
"""Whether short clips are padded before normalisation (with −1, as published) or after it (with 0, as at test)."""


@dataclass(frozen=True)
class RearrangedClip:
    """Holds the rearranged clip of boundary contrastive learning (AFSD, section 3.4)."""

    frames: Tensor
    """Pixels uint8 [C,T,H,W], or features float32 [C,T]."""
    valid: Tensor
    """Whether each frame is not padding, bool [T]."""
    segments: Tensor
    """Spans float32 [3,2], frames: A1 and A2, the parts of the action around the moved background, and Bg, that
    piece."""


@dataclass(frozen=True)
class Sample:
    """Holds one training clip; C = 3 (RGB), 2 (flow x, y) or the features' width, T frames or steps, N ≥ 1
    instances."""

    frames: Tensor
    """Pixels uint8 [C,T,H,W], 0–255, channels last in memory, normalised later on the device
    (`training.networks.normalisation`), T longer by what the dataset adds at both ends; or features float32 [C,T]."""
    valid: Tensor
    """Mask bool [T], false for padding that becomes 0 when the clip is normalised; for features, for all padding."""
    targets: Tensor
    """Targets float32 [N,3]: start and end as fractions of the clip length, class (1 … K−1)."""
    boundaries: Tensor
    """Start and end maps float32 [2,T] of zeros and ones."""
    rearranged: RearrangedClip | None
    """Rearranged clip; None if not drawn, or if the clip has no action and background that are long enough."""


class Batch(NamedTuple):
    """Holds B samples, M ≤ B of them with a rearranged clip, as a tuple that loaders can pin and move to a device."""

    frames: Tensor
    """Pixels uint8 [B,C,T,H,W], channels last in memory (torch.channels_last_3d), or features float32 [B,C,T]."""
    valid: Tensor
    """Masks bool [B,T], as in `Sample`."""
    targets: tuple[Tensor, ...]
    """Targets float32 [N,3] of each sample, as in `Sample`."""
    boundaries: Tensor
    """Start and end maps float32 [B,2,T]."""
    rearranged: Tensor
    """Rearranged clips uint8 [M,C,T,H,W], or float32 [M,C,T]."""
    rearranged_valid: Tensor
    """Masks of the rearranged clips, bool [M,T]."""
    rearranged_segments: Tensor
    """Spans float32 [M,3,2], frames, as in `RearrangedClip`."""


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples, and the rearranged clips of those that have one; targets stay a tuple, as their number differs."""
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
    """Stack tensors, none to [0, *like.shape]; clips [C,T,H,W] stay channels last in memory."""
    if not tensors:
        return like.new_empty((0, *like.shape))
    if like.dim() == 4:
        return torch.stack([clip.permute(1, 2, 3, 0) for clip in tensors]).permute(0, 4, 1, 2, 3)
    return torch.stack(tensors)


def frame_annotations(
    videos: Iterable[VideoAnnotation], store: FrameStore, classes: Sequence[str], *, class_agnostic: bool = False
) -> list[FrameAnnotation]:
    """Convert annotations to the sampled frames of the store, for `cut_clips`.

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
    """Augments clips anew in every epoch; subclasses load their frames or features.

    All random numbers of a sample come from a generator seeded with (seed, epoch, index), in the published order: crop
    row, crop column, flip, rearrangement. A sample therefore does not depend on the number of workers, the order, or a
    resume. (The published code seeds its workers equally in every epoch, which repeats their draws.)
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
        """Check that there are clips.

        Args:
            clips: clips from `cut_clips` with an equal clip_length.
            clip_length: T, frames or steps.
            contrastive: share of the clips for which a rearranged clip is drawn, 0 to 1 (as published).
            background: frames that the rearranged clip may take as background.
            seed: seed of the run.

        Raises:
            InputError: no clips.
        """
        if not clips:
            raise InputError("no clip to train on: no annotated action lies completely within a window")
        self._clips = clips
        self._clip_length = clip_length
        self._contrastive = contrastive
        self._background = background
        self._border = 0
        self._seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]  # seen by persistent workers too

    def __len__(self) -> int:
        return len(self._clips)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch whose samples are drawn; call before iterating the DataLoader."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> Sample:
        clip = self._clips[index]
        rng = Random(f"{self._seed} {int(self._epoch)} {index}")
        frames, valid = self._load(clip, rng), self._valid(clip)
        tried = self._contrastive >= 1 or (self._contrastive > 0 and rng.random() < self._contrastive)
        rearrangement = self._draw(clip, rng) if tried else None
        T = self._clip_length
        return Sample(
            frames=_channels_first(frames),
            valid=torch.from_numpy(valid),
            targets=torch.tensor([[i.start / T, i.end / T, i.label] for i in clip.instances]),
            boundaries=torch.from_numpy(boundary_maps(clip.instances, self._clip_length)),
            rearranged=_rearrange(frames, valid, rearrangement, self._border) if rearrangement else None,
        )

    @abstractmethod
    def _load(self, clip: Clip, rng: Random) -> NDArray[Any]:
        """Load the frames or features of a clip, padded to T, between its borders: [b+T+b, …, C], newly allocated."""

    def _valid(self, clip: Clip) -> NDArray[np.bool_]:
        """Return which frames of the clip are not marked as padding, bool [b+T+b]."""
        return np.arange(self._clip_length) < clip.length

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
    """Loads the clips of a frame store."""

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
        border: int = 0,
        background: BackgroundRule = "correct",
        flow_flip: Literal["correct", "reference"] = "correct",
        seed: int = 0,
    ) -> None:
        """Open the clips of a frame store.

        Args:
            clips, clip_length, contrastive, background, seed: see `WindowDataset`.
            store: frames of the clips' videos.
            crop_size: side of the square the network sees, pixels.
            flip: mirror half of the clips; off where left and right mean different classes.
            padding: when clips shorter than T are padded, see `PaddingOrder`.
            border: number b of frames of the video that a sample has beyond either end of its clip.
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
        self._padding, self._border = padding, border
        self._negate_x = flow_flip == "correct" and store.sampling.channels == 2

    def _valid(self, clip: Clip) -> NDArray[np.bool_]:
        at = np.arange(-self._border, self._clip_length + self._border)
        shown = (at >= -clip.offset) & (at < self._store.videos[clip.video].frames - clip.offset)
        return shown if self._padding == "after" else shown | ((at >= 0) & (at < self._clip_length))

    def _load(self, clip: Clip, rng: Random) -> NDArray[np.uint8]:
        """Slice, crop and flip as views of the memory map, then copy the pixels once: uint8 [b+T+b,H,W,C]."""
        before = min(clip.offset, self._border)
        end = clip.offset + self._clip_length + self._border
        stored = self._store[clip.video][clip.offset - before : end]
        view = random_crop(stored, self._crop_size, rng)
        view = random_flip(view, rng, negate_x=self._negate_x) if self._flip else view
        missing = self._border - before
        if not missing:
            return pad(view, self._clip_length + 2 * self._border)
        frames = np.zeros((self._clip_length + 2 * self._border, *view.shape[1:]), view.dtype)
        frames[missing : missing + len(view)] = view
        return frames


def _rearrange(
    frames: NDArray[Any], valid: NDArray[np.bool_], rearrangement: Rearrangement, border: int
) -> RearrangedClip:
    """Rearrange a clip between its borders, which stay."""

    def apply(values: NDArray[Any]) -> NDArray[Any]:
        new, inside = values.copy(), slice(border, len(values) - border)
        new[inside] = rearrangement.apply(values[inside])
        return new

    spans: tuple[Span, ...] = (rearrangement.first, rearrangement.second, rearrangement.background)
    return RearrangedClip(
        frames=_channels_first(apply(frames)),
        valid=torch.from_numpy(apply(valid)),
        segments=torch.tensor(spans, dtype=torch.float32),
    )


def _channels_first(frames: NDArray[Any]) -> Tensor:
    """Permute [T,H,W,C] to [C,T,H,W] as a view, channels last in memory: the fast layout for 3-D convolutions."""
    return torch.from_numpy(frames).movedim(-1, 0)
