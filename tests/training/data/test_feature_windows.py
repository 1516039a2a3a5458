"""Training windows of features: which there are, what they show, and that no action is lost unreported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.annotations.activitynet import Instance, VideoAnnotation, load_annotations
from runtime.errors import InputError
from runtime.features.description import FeatureDescription, StreamFolder
from runtime.features.feature_set import FeatureSet
from tests.shared import shared
from training.data.annotations import FrameAnnotation, FrameInstance, step_annotations
from training.data.clips import cut_clips, find_unseen_instances
from training.data.dataset import Sample, collate
from training.data.feature_dataset import FeatureDataset

FEATURE_IOA = 0.9
"""Both shares for windows of features (A2Net data code)."""


def video(steps: int, *instances: tuple[float, float]) -> FrameAnnotation:
    return FrameAnnotation("v", steps, tuple(FrameInstance(s, e, 1) for s, e in instances))


def test_a2nets_rule_keeps_what_is_visible_by_nine_tenths() -> None:
    clips = cut_clips([video(20, (0, 10), (4, 14), (9, 19), (19, 20))], clip_length=10, stride=5, keep=0.9, store=0.9)
    assert [(clip.offset, [(i.start, i.end) for i in clip.instances]) for clip in clips] == [
        (0, [(0, 10)]),
        (5, [(0, 9)]),
        (10, [(0, 9), (9, 10)]),
    ]
    assert cut_clips([video(20, (0, 12))], clip_length=10, stride=5, keep=0.9, store=0.9) == []
    assert [clip.offset for clip in cut_clips([video(20, (0, 12))], clip_length=10, stride=5, keep=0.5, store=0.5)] == [
        0,
        5,
    ]


segments = st.lists(st.tuples(st.floats(0, 90), st.floats(0.1, 40)), max_size=5)


@settings(max_examples=200, deadline=None)
@given(steps=st.integers(1, 90), length=st.integers(2, 40), overlap=st.integers(0, 30), spans=segments)
def test_every_action_is_visible_in_a_training_window_or_reported(
    steps: int, length: int, overlap: int, spans: list[tuple[float, float]]
) -> None:
    stride = max(1, length - overlap)
    instances = [(min(s, steps - 0.1), min(s + n, steps)) for s, n in spans]
    annotated = video(steps, *instances)
    clips = cut_clips([annotated], clip_length=length, stride=stride, keep=FEATURE_IOA, store=FEATURE_IOA)
    offsets = [o for o in range(steps) if (o % stride == 0 and o + length <= steps) or o == max(steps - length, 0)]
    shares = [max((min(e, o + length) - max(s, o)) / (e - s) for o in offsets) for s, e in instances]
    visible = [span for span, share in zip(instances, shares, strict=True) if share >= FEATURE_IOA]
    unseen = find_unseen_instances(annotated, clip_length=length, stride=stride, keep=FEATURE_IOA)
    assert sorted([*visible, *((i.start, i.end) for i in unseen)]) == sorted(instances)
    assert len({clip.offset for clip in clips}) == len(clips)
    for clip in clips:
        assert clip.instances
        assert clip.length == min(length, steps)
        for i in clip.instances:
            assert 0 <= i.start < i.end <= length
            whole = [(s, e) for s, e in instances if max(s - clip.offset, 0) == i.start]
            assert any(i.length >= FEATURE_IOA * (e - s) - 1e-9 for s, e in whole)
    targets = {i for clip in clips for i in ((j.start + clip.offset, j.end + clip.offset) for j in clip.instances)}
    assert bool(targets) == bool(visible)


@pytest.fixture
def features(tmp_path: Path) -> FeatureSet:
    rng = np.random.default_rng(3)
    for name, steps in (("long", 50), ("short", 12)):
        np.save(tmp_path / f"{name}.npy", rng.normal(size=(steps, 6)).astype(np.float16))
    return FeatureSet(FeatureDescription("a", (StreamFolder("."),)), tmp_path, VIDEOS)


VIDEOS = [
    VideoAnnotation("long", "", None, 1.0, (Instance(2, 12, "x"), Instance(20, 22, "x"), Instance(30, 41, "y"))),
    VideoAnnotation("short", "", None, 1.0, (Instance(3, 8, "y"),)),
]


def dataset(features: FeatureSet, **options: object) -> FeatureDataset:
    annotated = step_annotations(VIDEOS, features, ["x", "y"])
    clips = cut_clips(annotated, clip_length=16, stride=8, keep=FEATURE_IOA, store=FEATURE_IOA)
    return FeatureDataset(clips, features, clip_length=16, **options)  # type: ignore[arg-type]


def test_samples_are_the_features_of_the_window(features: FeatureSet) -> None:
    data = dataset(features)
    samples: list[Sample] = [data[index] for index in range(len(data))]
    assert [tuple(sample.frames.shape) for sample in samples] == [(6, 16)] * 5
    stored = {name: features.read(name) for name in ("long", "short")}
    np.testing.assert_array_equal(samples[0].frames, stored["long"][:16].T)
    np.testing.assert_array_equal(samples[3].frames, stored["long"][24:40].T)
    last = samples[-1]
    np.testing.assert_array_equal(last.frames[:, :12], stored["short"].T)
    np.testing.assert_array_equal(last.frames[:, 12:], np.zeros((6, 4)))
    assert last.valid.tolist() == [True] * 12 + [False] * 4
    assert last.targets.tolist() == [[3 / 16, 8 / 16, 2]]
    batch = collate(samples)
    assert batch.frames.shape == (5, 6, 16)
    assert batch.frames.dtype == torch.float32
    assert batch.rearranged.shape == (0, 6, 16)


def test_rearranged_windows_move_background_into_an_action(features: FeatureSet) -> None:
    """As of frames (AFSD, section 3.4): the same columns in another order, real steps alone."""
    data = dataset(features, contrastive=1.0)
    found = [data[index] for index in range(len(data))]
    moved = [sample for sample in found if sample.rearranged is not None]
    assert len(moved) == 2
    for sample in moved:
        assert sample.rearranged is not None
        columns = sorted(map(tuple, sample.frames.T.tolist()))
        assert sorted(map(tuple, sample.rearranged.frames.T.tolist())) == columns
        assert not torch.equal(sample.rearranged.frames, sample.frames)
        assert sample.rearranged.valid.sum() == sample.valid.sum()


def test_no_window_is_an_error(features: FeatureSet) -> None:
    with pytest.raises(InputError, match="no clip to train on"):
        FeatureDataset([], features, clip_length=16)


def test_gtea_in_windows() -> None:
    """No action of up to half a window is lost, whatever the fold; the longer ones are reported."""
    root = shared("data/gtea")
    videos = load_annotations(root / "gtea.json")
    source = FeatureDescription("gtea.json", (StreamFolder("split1"),))
    found = FeatureSet(source, root, videos)
    annotated = step_annotations(videos, found, sorted({i.label for v in videos for i in v.instances}))
    for length in (128, 256, 512):
        unseen = [
            i for v in annotated for i in find_unseen_instances(v, clip_length=length, stride=length // 2, keep=0.9)
        ]
        assert all(i.length > length / 2 for i in unseen)
        clips = cut_clips(annotated, clip_length=length, stride=length // 2, keep=0.9, store=0.9)
        seen = {(c.video, round(i.start + c.offset), i.label) for c in clips for i in c.instances}
        assert len(seen) >= 526 - len(unseen)
