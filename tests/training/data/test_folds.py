"""Folds by every rule, what is refused, and GTEA's four."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import AfsdError, AnnotationError, InputError
from tests.shared import shared
from training.data.folds import Fold, FoldRule, draw_folds, leave_one_group_out, make_folds, make_inner_folds

NAMES = ["S1_a", "S1_b", "S2_a", "S2_b", "S3_a"]


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    database = {name: {"subset": "Validation" if name < "S2_b" else "test", "annotations": []} for name in NAMES}
    splits = {"1": {"train": NAMES[2:], "test": NAMES[:2]}, "x": {"train": NAMES[:4], "test": NAMES[4:]}}
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"database": database, "splits": splits}))
    for fold, split in splits.items():
        for side, videos in split.items():
            (tmp_path / f"{side}.split{fold}.bundle").write_text("\n".join(f"{v}.txt" for v in videos) + "\n\n")
    return path


def test_by_subset_in_any_case(annotations: Path) -> None:
    (fold,) = make_folds(annotations, FoldRule(train="validation"))
    assert fold == Fold("all", ("S1_a", "S1_b", "S2_a"), ("S2_b", "S3_a"))
    with pytest.raises(AnnotationError, match="no video of subset 'training', or several such; the file has 'Val"):
        make_folds(annotations, FoldRule())


@pytest.mark.parametrize("absolute", [False, True])
def test_by_the_files_splits_and_by_lists_of_file_names(annotations: Path, absolute: bool) -> None:
    by_file = make_folds(annotations, FoldRule(by="splits"))
    assert [fold.name for fold in by_file] == ["1", "x"]
    assert by_file[0] == Fold("1", ("S2_a", "S2_b", "S3_a"), ("S1_a", "S1_b"))
    start = f"{annotations.parent}/" if absolute else ""
    rule = FoldRule(by="lists", train=f"{start}train.split{{fold}}.bundle", test=f"{start}test.split{{fold}}.bundle")
    assert make_folds(annotations, rule) == by_file
    (one,) = make_folds(annotations, FoldRule(by="lists", train="train.splitx.bundle", test="test.splitx.bundle"))
    assert (one.train, one.test) == (by_file[1].train, by_file[1].test)


@pytest.mark.parametrize("group", ["^(S.)_", "^S."])
def test_one_group_is_left_out(annotations: Path, group: str) -> None:
    folds = make_folds(annotations, FoldRule(by="groups", group=group))
    assert folds[1] == Fold("S2", ("S1_a", "S1_b", "S3_a"), ("S2_a", "S2_b"))
    assert [fold.name for fold in folds] == ["S1", "S2", "S3"]
    inner = make_inner_folds(folds[0], group)
    assert inner[0] == Fold("S1/S2", ("S3_a",), ("S2_a", "S2_b"), features="S1")
    assert {fold.feature_fold for fold in inner} == {"S1"}
    assert not any(video.startswith("S1") for fold in inner for video in (*fold.train, *fold.test))


def test_inner_folds_take_features_that_have_not_seen_their_group() -> None:
    """S2 is held out in fold S1: in the features of fold S2, whose network was trained without S2."""
    folds = leave_one_group_out(NAMES, "^S.")
    inner = make_inner_folds(folds[0], "^S.", folds)
    assert inner[0] == Fold("S1/S2", ("S3_a",), ("S2_a", "S2_b"), features="S2")
    assert inner[1] == Fold("S1/S3", ("S2_a", "S2_b"), ("S3_a",), features="S3")
    with pytest.raises(InputError, match=r"group S2: no fold tests all of it; set data\.inner_features to fold"):
        make_inner_folds(folds[0], "^S.", [folds[0]])


@given(count=st.integers(2, 9), extra=st.integers(0, 20), seed=st.integers(0, 9))
def test_chance_tests_every_video_once_in_parts_of_equal_size(count: int, extra: int, seed: int) -> None:
    names = [f"v{number}" for number in range(count + extra)]
    folds = draw_folds(names, count, seed)
    assert sorted(video for fold in folds for video in fold.test) == sorted(names)
    assert all(sorted((*fold.train, *fold.test)) == sorted(names) for fold in folds)
    sizes = {len(fold.test) for fold in folds}
    assert max(sizes) - min(sizes) <= 1
    assert draw_folds(names[::-1], count, seed) == folds


def test_chance_depends_on_the_seed() -> None:
    names = [f"v{number}" for number in range(20)]
    assert len({tuple(draw_folds(names, 4, seed)) for seed in range(5)}) == 5


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        (None, 'no "splits"'),
        ({"1": {"train": ["S1_a"]}}, "splits: 1: expected"),
        ({"1": {"train": ["S1_a"], "test": []}}, "fold 1: no video to test on"),
        ({"1": {"train": ["S1_a"], "test": ["S9"]}}, "fold 1: 'S9' is not among the annotated videos"),
        ({"1": {"train": ["S1_a"], "test": ["S1_a"]}}, "fold 1: 'S1_a' is listed twice"),
        ({"1": {"train": ["S1_b", "S1_b.txt"], "test": ["S1_a"]}}, "fold 1: 'S1_b' is listed twice"),
    ],
)
def test_splits_that_cannot_be(annotations: Path, splits: object, said: str) -> None:
    document = json.loads(annotations.read_text())
    annotations.write_text(json.dumps({**document, "splits": splits}))
    with pytest.raises(AfsdError, match=said):
        make_folds(annotations, FoldRule(by="splits"))


def test_lists_groups_and_counts_that_cannot_be(annotations: Path) -> None:
    with pytest.raises(InputError, match="no list found"):
        make_folds(annotations, FoldRule(by="lists", train="a{fold}", test="b{fold}"))
    with pytest.raises(InputError, match="cannot be read as a list of names"):
        make_folds(annotations, FoldRule(by="lists", train="none", test="b"))
    with pytest.raises(InputError, match="S1_a: the group '_c' is not in the video's name"):
        leave_one_group_out(NAMES, "_c")
    with pytest.raises(InputError, match="gives 1 groups of 5 videos"):
        leave_one_group_out(NAMES, "S")
    with pytest.raises(InputError, match="6 folds of 5 videos"):
        draw_folds(NAMES, 6)
    for wrong in ({"by": "groups"}, {"by": "groups", "group": "("}, {"by": "lists", "train": "a{fold}"}):
        with pytest.raises(ValueError, match=r"expected|not a regular expression"):
            FoldRule(**wrong)  # type: ignore[arg-type]


def test_gteas_folds_leave_one_subject_out() -> None:
    path = shared("data/gtea/gtea.json")
    by_file = make_folds(path, FoldRule(by="splits"))
    assert [fold.name for fold in by_file] == ["1", "2", "3", "4"]
    assert [(len(fold.train), len(fold.test)) for fold in by_file] == [(21, 7)] * 4
    by_subject = make_folds(path, FoldRule(by="groups", group="^S[1-4]"))
    assert [set(fold.test) for fold in by_file] == [set(fold.test) for fold in by_subject]
    assert [len(make_inner_folds(fold, "^S[1-4]")) for fold in by_file] == [3] * 4
