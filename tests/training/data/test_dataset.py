"""Samples and batches: pixels, targets, padding, and independence of order and workers."""

from __future__ import annotations

import pickle
from random import Random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from runtime.annotations.activitynet import Instance, VideoAnnotation
from runtime.errors import AnnotationError, InputError
from training.data.annotations import FrameAnnotation, FrameInstance
from training.data.augmentation import draw_rearrangement
from training.data.clips import Clip, boundary_maps, cut_clips
from training.data.dataset import Batch, ClipDataset, Sample, collate, frame_annotations
from training.networks.normalisation import normalise
from training.stores.frame_store import FrameStore, index_arrays

T, SIZE, CROP = 64, 12, 8
LONG = FrameAnnotation("long", 100, (FrameInstance(20, 45, 1), FrameInstance(60.5, 64.5, 2)))
SHORT = FrameAnnotation("short", 50, (FrameInstance(5, 30, 2), FrameInstance(35, 40, 1)))
BARE = FrameAnnotation("bare", 64, (FrameInstance(1, 63, 1),))
HAS_REARRANGED = [True, True, False, False, True, False]
"""Of the clips: not where no action is long enough (the last two of LONG) or there is no background (BARE)."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FrameStore:
    folder = tmp_path_factory.mktemp("store")
    rng = np.random.default_rng(0)
    for video in (LONG, SHORT, BARE):
        np.save(folder / f"{video.name}.npy", rng.integers(1, 256, (video.frames, SIZE, SIZE, 3), dtype=np.uint8))
    return index_arrays(folder, sample_fps=10, frame_size=SIZE)


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return cut_clips([LONG, SHORT, BARE], clip_length=T, stride=16, window="reference")


def dataset(clips: list[Clip], store: FrameStore, **options: object) -> ClipDataset:
    return ClipDataset(clips, store, clip_length=T, crop_size=CROP, **{"seed": 5, "background": "reference", **options})  # type: ignore[arg-type]


def test_no_clips_or_too_large_a_crop_is_an_error(clips: list[Clip], store: FrameStore) -> None:
    with pytest.raises(InputError, match="no clip to train on"):
        dataset([], store)
    with pytest.raises(InputError, match="crop_size is 13, expected 1 to 12"):
        ClipDataset(clips, store, clip_length=T, crop_size=13)


def test_augmentation_follows_the_published_order_of_draws(clips: list[Clip], store: FrameStore) -> None:
    data = dataset(clips, store)
    data.set_epoch(3)
    for index, clip in enumerate(clips):
        rng = Random(f"5 3 {index}")
        top, left, flip = rng.randint(0, 4), rng.randint(0, 4), rng.random() < 0.5
        frames = np.zeros((T, CROP, CROP, 3), np.uint8)
        window = store[clip.video][clip.offset : clip.offset + T, top : top + CROP, left : left + CROP]
        frames[: clip.length] = np.flip(window, 2) if flip else window
        sample = data[index]
        assert sample.frames.dtype == torch.uint8
        np.testing.assert_array_equal(sample.frames, np.moveaxis(frames, 3, 0))
        targets = [[i.start / T, i.end / T, i.label] for i in clip.instances]
        np.testing.assert_array_equal(sample.targets, np.array(targets, np.float32))
        np.testing.assert_array_equal(sample.boundaries, boundary_maps(clip.instances, T))
        want = draw_rearrangement(clip.instances, clip.background_length, T, rng, background="reference")
        assert (want is None) == (sample.rearranged is None) == (not HAS_REARRANGED[index])
        if want and sample.rearranged:
            np.testing.assert_array_equal(sample.rearranged.frames, np.moveaxis(want.apply(frames), 3, 0))
            spans = np.array([want.first, want.second, want.background], np.float32)
            np.testing.assert_array_equal(sample.rearranged.segments, spans)


def test_flip_and_contrastive_can_be_off(clips: list[Clip], store: FrameStore) -> None:
    data = dataset(clips[:1], store, flip=False, contrastive=0.0)
    window = torch.from_numpy(store["long"][clips[0].offset : clips[0].offset + T].copy()).permute(3, 0, 1, 2)
    for epoch in range(12):
        data.set_epoch(epoch)
        sample = data[0]
        assert sample.rearranged is None
        crops = (window[:, :, y : y + CROP, x : x + CROP] for y in range(5) for x in range(5))
        assert any(torch.equal(sample.frames, crop) for crop in crops)


def test_padding_becomes_minus_one_or_zero(store: FrameStore) -> None:
    clips = cut_clips([SHORT], clip_length=T, stride=16)
    for padding, value in (("before", -1.0), ("after", 0.0)):
        sample = dataset(clips, store, padding=padding)[0]
        frames = normalise(sample.frames[None], sample.valid[None])[0]
        assert (frames[:, 50:] == value).all()
        np.testing.assert_allclose(frames[:, :50], sample.frames[:, :50].double() / 127.5 - 1, atol=1e-6)


def test_padding_that_is_moved_stays_padding(store: FrameStore) -> None:
    clips = cut_clips([FrameAnnotation("short", 50, (FrameInstance(1, 49, 1), FrameInstance(2, 5, 2)))],
                      clip_length=T, stride=16)  # fmt: skip
    data = dataset(clips, store, padding="after")
    moved = 0
    for epoch in range(40):
        data.set_epoch(epoch)
        rearranged = data[0].rearranged
        assert rearranged is not None
        np.testing.assert_array_equal(rearranged.valid, rearranged.frames.any(dim=0).any(dim=1).any(dim=1))
        moved += not bool(rearranged.valid[:50].all())
    assert moved  # the padding counts as background, as published


@pytest.mark.parametrize("padding", ["before", "after"])
def test_a_clip_between_its_neighbours(store: FrameStore, padding: str) -> None:
    """Beyond a clip's ends are the video's frames, at the same crop and flip; beyond the video's, frames of 0."""
    border = 24
    clips = cut_clips([LONG, SHORT, BARE], clip_length=T, stride=16)
    plain, wide = (dataset(clips, store, padding=padding, border=b) for b in (0, border))
    seen = 0
    for index, clip in enumerate(clips):
        for epoch in range(4):
            plain.set_epoch(epoch)
            wide.set_epoch(epoch)
            one, other = plain[index], wide[index]
            assert other.frames.shape == (3, T + 2 * border, CROP, CROP)
            for name in ("targets", "boundaries"):
                assert torch.equal(getattr(one, name), getattr(other, name))
            rng = Random(f"5 {epoch} {index}")
            top, left, flip = rng.randint(0, 4), rng.randint(0, 4), rng.random() < 0.5
            expected = np.zeros((T + 2 * border, CROP, CROP, 3), np.uint8)
            for place in range(T + 2 * border):
                at = clip.offset - border + place
                if 0 <= at < len(store[clip.video]):
                    frame = store[clip.video][at, top : top + CROP, left : left + CROP]
                    expected[place] = np.flip(frame, 1) if flip else frame
                    seen += not border <= place < border + T
            np.testing.assert_array_equal(other.frames, np.moveaxis(expected, 3, 0))
            shown = expected.any(axis=(1, 2, 3))
            inside = slice(border, border + T)
            np.testing.assert_array_equal(other.valid[:border], shown[:border])
            np.testing.assert_array_equal(other.valid[-border:], shown[-border:])
            assert torch.equal(other.valid[inside], one.valid)
            if one.rearranged and other.rearranged:
                assert torch.equal(other.rearranged.frames[:, inside], one.rearranged.frames)
                assert torch.equal(other.rearranged.frames[:, :border], other.frames[:, :border])
                assert torch.equal(other.rearranged.valid[inside], one.rearranged.valid)
                assert torch.equal(other.rearranged.segments, one.rearranged.segments)
    assert seen


def test_samples_differ_between_epochs_and_not_between_readings(clips: list[Clip], store: FrameStore) -> None:
    data = dataset(clips, store)
    first = [data[i].frames for i in range(len(data))]
    assert all(torch.equal(a, data[i].frames) for i, a in enumerate(first))
    data.set_epoch(1)
    assert not all(torch.equal(a, data[i].frames) for i, a in enumerate(first))


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.targets, b.targets, strict=True)) and all(
        torch.equal(x, y) for x, y in zip(a[:2] + a[3:], b[:2] + b[3:], strict=True)
    )


def test_workers_change_nothing_and_see_the_epoch(clips: list[Clip], store: FrameStore) -> None:
    data = dataset(clips, store)
    loader = DataLoader(data, 2, collate_fn=collate, num_workers=2, persistent_workers=True)
    for epoch in (0, 1):
        data.set_epoch(epoch)
        got = list(loader)
        want = list(DataLoader(data, 2, collate_fn=collate))
        assert len(got) == len(want) == 3
        assert all(same(a, b) for a, b in zip(got, want, strict=True))


def test_batches_hold_only_the_rearranged_clips_there_are(clips: list[Clip], store: FrameStore) -> None:
    data = dataset(clips, store)
    samples = [data[i] for i in range(len(data))]
    batch = collate(samples)
    made = [s.rearranged for s in samples if s.rearranged is not None]
    assert batch.frames.shape == (6, 3, T, CROP, CROP)
    assert batch.rearranged.shape == (3, 3, T, CROP, CROP)
    assert torch.equal(batch.frames, torch.stack([s.frames for s in samples]))
    for frames in (batch.frames, batch.rearranged):
        assert frames.is_contiguous(memory_format=torch.channels_last_3d)
    assert [len(t) for t in batch.targets] == [len(c.instances) for c in clips]
    for k, one in enumerate(made):
        assert torch.equal(batch.rearranged[k], one.frames)
        assert torch.equal(batch.rearranged_segments[k], one.segments)
    none = collate([s for s in samples if s.rearranged is None])
    assert none.rearranged.shape == (0, 3, T, CROP, CROP)
    assert none.rearranged_valid.shape == (0, T)
    assert none.rearranged_segments.shape == (0, 3, 2)


def test_a_dataset_can_be_sent_to_another_process(clips: list[Clip], store: FrameStore) -> None:
    data = dataset(clips, store)
    copy: ClipDataset = pickle.loads(pickle.dumps(data))
    sample: Sample = copy[2]
    assert torch.equal(sample.frames, data[2].frames)


def test_annotations_meet_the_store(store: FrameStore) -> None:
    video = VideoAnnotation("short", "train", 5, 30, (Instance(0.5, 3, "b"), Instance(3.5, 4, "a")))
    assert frame_annotations([video], store, ("a", "b")) == [SHORT]
    assert frame_annotations([], store, ("a",)) == []
    with pytest.raises(AnnotationError, match="label 'b' is not one of the classes a"):
        frame_annotations([video], store, ("a",))
    with pytest.raises(InputError, match="1 of 2 annotated videos are not in the frame store, the first is 'gone'"):
        frame_annotations([video, VideoAnnotation("gone", "", None, None, ())], store, ("a", "b"))
