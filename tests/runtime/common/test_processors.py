"""What of the machine a process may use, with the limits that Linux's control groups give a container."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from runtime.common import processors
from runtime.engines import EngineOptions, open_engine
from runtime.engines.openvino.engine import settings_of
from runtime.video.readers.pyav import PyAVReader
from tests.tiny import write_tiny_onnx
from tests.videos import write_video

V2 = "0::/kubepods/pod1/app\n"
V1 = "7:memory:/docker/ab\n4:cpu,cpuacct:/docker/ab\n1:name=systemd:/docker/ab\n"
OLDER = "cpu,cpuacct/docker/ab/cpu.cfs"


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for /sys/fs/cgroup, on a machine of 16 cores."""
    monkeypatch.setattr(processors, "CONTAINER", tmp_path)
    monkeypatch.setattr(processors, "GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(processors, "MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(processors, "_cores", lambda: 16)
    return tmp_path


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("", {}, 16),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),  # rounded up
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
        ("0::/\n", {"cpu.max": "3200000 100000\n"}, 16),  # more than there are
        (V2, {"kubepods/cpu.max": "800000 100000", "kubepods/pod1/app/cpu.max": "400000 100000"}, 4),
        (V2, {"kubepods/cpu.max": "200000 100000", "kubepods/pod1/app/cpu.max": "max 100000"}, 2),  # a parent's
        (V2, {"cpu.max": "300000 100000"}, 3),  # the path is the machine's, the root the container's
        ("0::/../../other\n", {"cpu.max": "300000 100000"}, 3),
        (V1, {f"{OLDER}_quota_us": "250000", f"{OLDER}_period_us": "50000"}, 5),
        (V1, {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 16),
        ("nonsense\n", {"cpu.max": ""}, 16),
    ],
)  # fmt: skip
def test_a_share_of_processor_time_counts(container: Path, groups: str, files: dict[str, str], cores: int) -> None:
    write(container, {"cgroup": groups, **files})
    assert processors.usable_cores() == cores
    assert processors.limited_cores() == (None if cores == 16 else cores)


def test_memory_is_that_of_the_group_and_its_parents(container: Path) -> None:
    group = {"kubepods/memory.max": "9000", "kubepods/memory.current": "2000"}
    write(container, {"cgroup": V2, "meminfo": "MemAvailable: 20 kB\n", **group})
    assert processors.free_memory() == 7000
    older = {"memory/docker/ab/memory.limit_in_bytes": "5000", "memory/docker/ab/memory.usage_in_bytes": "1000"}
    write(container, {"cgroup": V1, **older})
    assert processors.free_memory() == 4000


def test_engines_start_no_more_threads_than_a_container_has_time_for(container: Path, tmp_path: Path) -> None:
    model = write_tiny_onnx(tmp_path / "m.onnx", None)

    def threads(options: EngineOptions) -> tuple[object, object]:
        engine = open_engine(model, device="cpu", threads=options.threads)
        settings = settings_of(options, "fp32", "CPU")
        return engine._session.get_session_options().intra_op_num_threads, settings.get("INFERENCE_NUM_THREADS")  # type: ignore[attr-defined]

    assert threads(EngineOptions()) == (0, None)  # as the library has it
    write(container, {"cpu.max": "150000 100000"})
    assert threads(EngineOptions()) == (2, 2)
    assert threads(EngineOptions(threads=3)) == (3, 3)
    assert "INFERENCE_NUM_THREADS" not in settings_of(EngineOptions(), "fp32", "GPU")


def test_ffmpeg_decodes_with_as_many_threads(container: Path, tmp_path: Path) -> None:
    pytest.importorskip("av")
    video = write_video(tmp_path / "v.mp4", frames=5)
    write(container, {"cpu.max": "250000 100000"})
    with closing(PyAVReader(str(video))) as reader:
        assert reader._codec.thread_count == 3
