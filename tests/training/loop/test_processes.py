"""Several processes train as one does with the batch of all, and end together, whatever ends one of them."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.training.feature_data import NETWORKS, SMALL, make_feature_set
from tests.training.ranks import ROOT, Ranks, Server, forking
from tests.training.small import small_config, small_dataset
from training.checkpoints.files import load_checkpoint
from training.loop.processes import Process, this_process

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")

FRAMES = (
    "model.num_classes=3", "model.clip_length=32", "model.crop_size=32", "model.backbone_multiplier=0.125",
    "model.head_channels=64", "model.num_levels=3", "model.level_units=[4, 8, 16]", "data.frame_size=36",
    "data.clip_stride=8", "data.test_stride=16", "data.workers=0", "data.classes=[a, b]", "data.train_subset=training",
    "run.max_steps=2", "run.log_every=1", "run.accelerator=cpu", "model.freeze_batch_norm=true",
    "loss.consistency=both", "optimiser.learning_rate=1e-4",
)  # fmt: skip
SAME_GRADIENTS = 2e-3
"""Largest difference, as a share, of Adam's means of the gradients: ten times what rounding makes of them."""
WITHOUT_DRAWS = {
    "gtea": ("model.dropout=0", "model.standardise=false"),
    "a2net_gtea": ("a2net.dropout=0", "a2net.standardise=false"),
    "two_stage_gtea": ("a2net.dropout=0", "a2net.standardise=false", "two_stage.dropout=0"),
}
"""Network on features → settings without what each process draws, or averages over clips, for itself."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with forking() as server:
        yield server


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Data of frames, in which clips have none, one or two actions, and of features."""
    frames = tmp_path_factory.mktemp("frames")
    (frames / "frames").mkdir()
    small_dataset(frames / "frames", small_config(), videos=4)
    database = {}
    for k in range(4):
        segments = [[2.0 + k / 10, 3.2 + k / 10], *([[4.0, 5.5]] if k == 1 else [])]
        actions = [{"label": "ab"[k % 2], "segment": segment} for segment in segments]
        database[f"video_{k}"] = {"subset": "training", "duration": 6.4, "annotations": actions}
    (frames / "annotations.json").write_text(json.dumps({"database": database}))
    return {"frames": frames, "features": make_feature_set(tmp_path_factory.mktemp("features") / "set")}


def words(network: str, roots: dict[str, Path], out: Path, *settings: str) -> list[str]:
    if network == "frames":
        given = [f"data.root={roots['frames']}", *FRAMES]
    else:
        own = (
            "data.fold=b",
            "run.max_steps=6",
            "run.log_every=1",
            "optimiser.learning_rate=1e-4",
            *WITHOUT_DRAWS[network],
        )
        given = [f"data.root={roots['features']}", *SMALL, *NETWORKS[network], *own]
    flags = [word for setting in (*given, *settings) for word in ("--set", setting)]
    return ["synthetic" if network == "frames" else network, "--out", str(out), *flags]


def rows(out: Path) -> list[dict[str, float]]:
    """Rows of the table of losses, without times."""
    with (out / "metrics.csv").open() as file:
        return [{k: float(v) for k, v in row.items() if v and k != "seconds"} for row in csv.DictReader(file)]


def wait_for_rows(out: Path, count: int) -> None:
    end = time.monotonic() + 30
    while not (out / "metrics.csv").exists() or len((out / "metrics.csv").read_text().splitlines()) <= count:
        assert time.monotonic() < end
        time.sleep(0.01)


def said(ranks: Ranks) -> str:
    """What all processes printed as errors."""
    return "".join(ranks.printed("err"))


def moments(out: Path) -> dict[int, Any]:
    """Adam's mean of the gradients of a run, by the number of the weight."""
    states = load_checkpoint(out / "last.ckpt").training["optimizer"]["state"]
    return {number: state["exp_avg"].double() for number, state in states.items()}


def largest_difference(one: dict[int, Any], other: dict[int, Any]) -> float:
    """Largest difference between the gradients of a weight, as a share of their length."""
    assert one.keys() == other.keys()
    floor = max(float(value.norm()) for value in one.values()) * 1e-4  # below, rounding is all there is
    return max(float((value - other[number]).norm()) / max(float(value.norm()), floor) for number, value in one.items())


@pytest.mark.thorough
@pytest.mark.parametrize("network", ["frames", *NETWORKS])
def test_two_processes_are_one_with_twice_the_batch(
    network: str, server: Server, roots: dict[str, Path], tmp_path: Path
) -> None:
    """Losses and gradients, where the processes have different numbers of actions and rearranged clips."""
    for count, batch in ((1, 4), (2, 2)):
        given = words(network, roots, tmp_path / str(count), f"optimiser.batch_size={batch}")
        statuses, ranks = server.run(count, given, tmp_path / f"said{count}")
        assert statuses == [0] * count, said(ranks)
    assert said(ranks) == ""
    assert ranks.printed("out") == [
        f"2 processes with 2 clips each: batches of 4\n{tmp_path / '2' / 'last.ckpt'}\n", ""
    ]  # fmt: skip
    one, two = rows(tmp_path / "1"), rows(tmp_path / "2")
    assert len(one) == (2 if network == "frames" else 6)
    for expected, found in zip(one, two, strict=True):
        assert found == pytest.approx(expected, rel=2e-3, abs=1e-4)
    assert two[0] == pytest.approx(one[0], rel=2e-5)  # before Adam magnifies what rounding does
    assert largest_difference(moments(tmp_path / "1"), moments(tmp_path / "2")) < SAME_GRADIENTS


@pytest.mark.thorough
def test_counts_of_each_process_alone_would_give_other_losses_and_gradients(
    server: Server, roots: dict[str, Path], tmp_path: Path
) -> None:
    totals = []
    for fault in ("", "own counts"):
        given = words("frames", roots, tmp_path / f"run{fault}", "optimiser.batch_size=2", "run.max_steps=1")
        server.run(2, given, tmp_path / f"said{fault}", fault)
        totals.append(rows(tmp_path / f"run{fault}")[0]["loss_l"])
    assert abs(totals[0] - totals[1]) > 1e-3
    assert largest_difference(moments(tmp_path / "run"), moments(tmp_path / "runown counts")) > 10 * SAME_GRADIENTS


@pytest.mark.thorough
def test_a_run_of_two_that_is_ended_goes_on_as_one(server: Server, roots: dict[str, Path], tmp_path: Path) -> None:
    """In the middle of an epoch, with the batch of all; another batch is refused."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    server.run(1, words("a2net_gtea", roots, whole, "optimiser.batch_size=4"), tmp_path / "0")
    ranks = server.start(2, words("a2net_gtea", roots, parts, "optimiser.batch_size=2"), tmp_path / "1", "slow")
    wait_for_rows(parts, 2)
    for rank in (0, 1):
        ranks.signal(rank, signal.SIGTERM)
    assert ranks.wait() == [143, 143]
    assert said(ranks) == "afsd: ended by SIGTERM\n"
    resume = ["--resume", str(parts / "last.ckpt")]
    other = server.run(1, [*words("a2net_gtea", roots, parts, "optimiser.batch_size=3"), *resume], tmp_path / "2")
    assert other[0] == [2]
    assert "made with batches of 4 clips (2 on each of 2 processes), got 3" in said(other[1])
    assert server.run(1, [*words("a2net_gtea", roots, parts, "optimiser.batch_size=4"), *resume], tmp_path / "3")[
        0
    ] == [0]
    assert len(rows(parts)) == 6
    for expected, found in zip(rows(whole), rows(parts), strict=True):
        assert found == pytest.approx(expected, rel=2e-3)


@pytest.mark.thorough
def test_what_one_process_cannot_read_ends_all_with_one_line(
    server: Server, roots: dict[str, Path], tmp_path: Path
) -> None:
    given = words("a2net_gtea", roots, tmp_path / "out", "optimiser.batch_size=2")
    statuses, ranks = server.run(2, given, tmp_path / "said", "unreadable")
    assert statuses == [2, 2]
    assert said(ranks) == "afsd: error: process 2 of 2: video_1.npy: cut off\n"
    assert load_checkpoint(tmp_path / "out" / "last.ckpt").training["progress"]["step"] == len(rows(tmp_path / "out"))


@pytest.mark.thorough
def test_a_process_that_is_killed_ends_the_others_with_a_checkpoint(
    server: Server, roots: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ranks = server.start(2, words("a2net_gtea", roots, out, "optimiser.batch_size=2"), tmp_path / "said", "slow")
    wait_for_rows(out, 2)
    ranks.signal(1, signal.SIGKILL)
    assert ranks.wait() == [2, -9]
    step = load_checkpoint(out / "last.ckpt").training["progress"]["step"]
    assert said(ranks) == (
        f"afsd: error: another process of the run has ended; {out / 'last.ckpt'} has the state after optimiser step "
        f"{step}, to go on from with --resume\n"
    )


@pytest.mark.thorough
def test_a_mistake_of_all_is_said_once(server: Server, roots: dict[str, Path], tmp_path: Path) -> None:
    given = words("a2net_gtea", roots, tmp_path / "out", "optimiser.batch_size=99")
    statuses, ranks = server.run(2, given, tmp_path / "said")
    assert statuses == [2, 2]
    assert said(ranks).count("\n") == 1
    assert "optimiser.batch_size 99 on 2 processes needs that many clips, the data set has" in said(ranks)
    statuses, ranks = server.run(2, [*given, "--check"], tmp_path / "check")
    assert statuses == [2, 2]
    assert said(ranks) == "afsd: error: afsd train --check runs in one process, got 2; start it without torchrun\n"


@pytest.mark.slow
@pytest.mark.parametrize("ended", [False, True])
def test_torchrun_itself(ended: bool, roots: dict[str, Path], tmp_path: Path) -> None:
    """The command of docs/training.md, to its end and ended by SIGTERM."""
    out = tmp_path / "out"
    steps = "run.max_steps=4000" if ended else "run.max_steps=4"
    given = words("a2net_gtea", roots, out, "optimiser.batch_size=2", "optimiser.epochs=3000", steps)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "training"]
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, *given], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        if ended:
            wait_for_rows(out, 3)
            process.terminate()
        printed, errors = process.communicate(timeout=120)
    assert (process.returncode == 0) is not ended, errors
    assert printed.splitlines()[0] == "2 processes with 2 clips each: batches of 4"
    step = load_checkpoint(out / "last.ckpt").training["progress"]["step"]
    assert step == len(rows(out)) if ended else step == 4
    assert errors.count("afsd: ended by SIGTERM") == int(ended)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, Process()),
        ({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, Process(1, 2, 1, 2)),
        (
            {"TORCHELASTIC_RUN_ID": "x", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"},
            Process(5, 8, 1, 4, by_torchrun=True),
        ),
    ],
)
def test_which_process_this_is(variables: dict[str, str], expected: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert this_process() == expected
