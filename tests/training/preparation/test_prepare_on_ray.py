"""`prepare` on a local Ray: the arrays, the index and the report are those of processes of this machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.fleet.options import FleetOptions
from tests.local_ray import local_ray
from tests.videos import write_video
from training.preparation import fleet
from training.preparation.prepare import StoreOptions, Stream, prepare_own

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    with local_ray() as ray:
        yield ray


def content(folder: Path) -> dict[str, object]:
    """What the files below a folder hold: JSON, whose order is free, and bytes."""
    return {
        str(path.relative_to(folder)): json.loads(path.read_bytes()) if path.suffix == ".json" else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize("streams", [("rgb",), pytest.param(("rgb", "flow"), marks=pytest.mark.slow)], ids="+".join)
def test_prepare_on_ray_makes_what_processes_make(
    streams: tuple[Stream, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = StoreOptions(frame_size=20, streams=streams, flow_method="dis", workers=1, progress=False)
    videos = tmp_path / "ray/data/videos"
    videos.mkdir(parents=True)
    for number, name in enumerate("abc"):
        write_video(videos / f"{name}.avi", level=60 + 40 * number, frames=30)
    (videos / "d.avi").write_bytes(b"RIFF" + bytes(range(256)) * 8)
    database = {name: {"subset": "training", "annotations": []} for name in "abcd"}
    (videos.parent / "annotations.json").write_text(json.dumps({"database": database}))
    shutil.copytree(tmp_path / "ray", tmp_path / "plain")  # with the times of the videos, which the index has

    monkeypatch.chdir(tmp_path / "plain")
    assert list(prepare_own(Path("data"), options=options).findings.failures) == ["d"]
    monkeypatch.chdir(tmp_path / "ray")
    on_ray = replace(options, fleet=FleetOptions(actors=2, cpus_per_actor=0.5))
    assert list(prepare_own(Path("data"), options=on_ray).findings.failures) == ["d"]
    plain, ours = content(tmp_path / "plain"), content(tmp_path / "ray")
    assert {"data/frames/a.npy", "data/frames/index.json", "data/prepare_report.json"} < plain.keys()
    assert ("data/flow/c.npy" in plain) == ("flow" in streams)
    assert ours == plain

    begun: list[int] = []
    run = fleet.run_on_actors
    monkeypatch.setattr(fleet, "run_on_actors", lambda items, *rest: begun.append(len(items)) or run(items, *rest))
    (videos / "d.avi").unlink()
    prepare_own(Path("data"), options=on_ray)
    assert not begun  # all that is there is done
