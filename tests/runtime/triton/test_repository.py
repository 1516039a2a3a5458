"""The repository of `afsd triton`: what Triton would read, and what is not written over."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.cli import main
from runtime.common.locks import lock_folder
from runtime.engines import open_engine
from runtime.errors import ConfigError, InputError
from runtime.spec.model import spec_from_json
from runtime.triton import exchanging
from runtime.triton.pbtxt import Enum, to_pbtxt
from runtime.triton.settings import Settings, from_parameters, to_parameters
from tests.fake_tensorrt import write_tiny_plan
from tests.runtime.triton.text_format import parameters, read
from tests.tiny import CROP, LENGTH, tiny_spec, write_tiny_onnx, write_tiny_openvino
from tests.tiny_backbone import feature_model_spec, write_tiny_backbone

Config = dict[str, list[Any]]


def config_of(repository: Path, model: str) -> Config:
    return read((repository / model / "config.pbtxt").read_text(encoding="utf-8"))


def tensors(entries: list[dict[str, Any]]) -> dict[str, tuple[str, list[int]]]:
    """Type and dims by name."""
    return {one["name"][0]: (one["data_type"][0], one["dims"]) for one in entries}


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_onnx(tmp_path_factory.mktemp("model") / "tiny.onnx", None)


def write(*words: object) -> int:
    return main(["triton", *map(str, words)])


def test_the_text_of_protobuf() -> None:
    hostile = 'a "quoted" \\ back\nslash\ttab\x01\x7f ü 行 # {'
    message = {"name": hostile, "on": True, "dims": [-1, 3], "none": [], "kind": Enum("KIND_CPU"), "share": 0.5}
    text = to_pbtxt({**message, "input": [{"name": "a"}, {"name": "b", "reshape": {"shape": []}}], "empty": {}})
    found = read(text)
    assert found["name"] == [hostile]
    assert (found["on"], found["dims"], found["none"], found["share"]) == ([True], [-1, 3], [], [0.5])
    assert found["input"] == [{"name": ["a"]}, {"name": ["b"], "reshape": [{"shape": []}]}]
    assert found["empty"] == [{}]
    with pytest.raises(InputError, match="no UTF-8"):
        to_pbtxt({"name": "a\udcff"})


def test_what_an_onnx_model_becomes(onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert write(onnx, "--out", tmp_path, "--max-batch", 4, "--instances", 2, "--queue", 9) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.txt", "afsd", "afsd_network", "afsd_stream"]
    network = config_of(tmp_path, "afsd_network")
    assert (network["name"], network["backend"], network["max_batch_size"]) == (["afsd_network"], ["onnxruntime"], [4])
    assert tensors(network["input"]) == {
        "frames": ("TYPE_UINT8", [LENGTH, *CROP, 3]), "lengths": ("TYPE_INT32", [1]),
    }  # fmt: skip
    assert tensors(network["output"])["conf"] == ("TYPE_FP32", [7, 3])
    (lengths,) = [one for one in network["input"] if one["name"] == ["lengths"]]
    assert lengths["reshape"] == [{"shape": []}]
    assert network["instance_group"] == [{"count": [2], "kind": ["KIND_CPU"]}]
    (batching,) = network["dynamic_batching"]
    assert batching["default_queue_policy"] == [{"max_queue_size": [9]}]
    assert (tmp_path / "afsd_network/1/model.onnx").read_bytes() == onnx.read_bytes()
    assert (tmp_path / "afsd_network/warmup/lengths").read_bytes() == np.array([LENGTH], "<i4").tobytes()
    (warm,) = network["model_warmup"]
    filled = {one["key"][0]: one["value"][0] for one in warm["inputs"]}
    assert filled["frames"]["zero_data"] == [True]
    assert (filled["lengths"]["input_data_file"], filled["lengths"]["dims"]) == (["lengths"], [1])
    video, stream = config_of(tmp_path, "afsd"), config_of(tmp_path, "afsd_stream")
    assert (video["backend"], video["max_batch_size"]) == (["python"], [0])
    assert tensors(video["output"])["SEGMENTS"] == ("TYPE_FP32", [-1, 2])
    assert stream["model_transaction_policy"] == [{"decoupled": [True]}]
    (sequences,) = stream["sequence_batching"]
    assert sequences["oldest"][0]["max_candidate_sequences"][0] > 64  # the model refuses what is too much, at once
    kinds = {one["name"][0]: one["control"][0]["kind"][0] for one in sequences["control_input"]}
    assert kinds == {name: f"CONTROL_SEQUENCE_{name}" for name in ("START", "END", "CORRID")}
    assert open_engine(tmp_path / "afsd/1/tiny.onnx").spec == tiny_spec()
    for model in ("afsd", "afsd_stream"):
        compile((tmp_path / model / "1/model.py").read_text(), "model.py", "exec")
    assert parameters(video)["engine"] == "tiny.onnx"
    assert "root" not in parameters(video)
    said = capsys.readouterr().out
    assert "afsd_network: the network alone; needs Triton's backend onnxruntime" in said
    assert "--load-model=afsd_network --load-model=afsd" in (tmp_path / "README.txt").read_text()


@pytest.mark.parametrize("how", ["openvino", "tensorrt", "python", "none"])
def test_other_engines_and_who_runs_them(how: str, onnx: Path, tmp_path: Path) -> None:
    flags: list[object] = []
    model = onnx
    if how == "openvino":
        model = write_tiny_openvino(tmp_path / "m.xml")
    elif how == "tensorrt":
        model = write_tiny_plan(tmp_path / "m.engine")
        flags = ["--device", "gpu:1,gpu:0", "--max-batch", 1000]
    else:
        flags = ["--network", how]
    repository = tmp_path / "repository"
    assert write(model, "--out", repository, "--name", "x", *flags) == 0
    if how == "none":
        assert not (repository / "x_network").exists()
        return
    network = config_of(repository, "x_network")
    assert network["backend"] == [how]
    files = {path.name for path in (repository / "x_network/1").iterdir()}
    assert files == {
        "openvino": {"model.xml", "model.bin"}, "tensorrt": {"model.plan"}, "python": {"model.py", "tiny.onnx"},
    }[how]  # fmt: skip
    if how == "tensorrt":
        assert network["instance_group"] == [{"count": [1], "kind": ["KIND_GPU"], "gpus": [1, 0]}]
        assert config_of(repository, "x")["instance_group"] == network["instance_group"]
        assert network["max_batch_size"][0] < 1000  # the engine's profile
        assert {path.name for path in (repository / "x/1").iterdir()} == {"model.py", "m.engine", "m.json"}


def test_a_batch_that_is_fixed_is_part_of_the_shape(tmp_path: Path) -> None:
    fixed = write_tiny_onnx(tmp_path / "fixed.onnx", tiny_spec(batch=2))
    assert write(fixed, "--out", tmp_path / "repository", "--batch", 2, "--queue", 7) == 0
    network = config_of(tmp_path / "repository", "afsd_network")
    assert network["max_batch_size"] == [0]
    assert tensors(network["input"]) == {
        "frames": ("TYPE_UINT8", [2, LENGTH, *CROP, 3]), "lengths": ("TYPE_INT32", [2]),
    }  # fmt: skip
    lengths = tmp_path / "repository/afsd_network/warmup/lengths"
    assert lengths.read_bytes() == np.array([LENGTH, LENGTH], "<i4").tobytes()
    (batching,) = network["dynamic_batching"]  # each request alone, and no more of them than wait at most
    assert batching == {"default_queue_policy": [{"max_queue_size": [7]}]}


@pytest.mark.parametrize("model", ["afsd", "afsd_network"])
def test_a_request_waits_at_most_so_long(model: str, onnx: Path, tmp_path: Path) -> None:
    assert write(onnx, "--out", tmp_path, "--queue", 3, "--max-wait", 1.5) == 0
    (policy,) = config_of(tmp_path, model)["dynamic_batching"][0]["default_queue_policy"]
    assert policy == {
        "max_queue_size": [3], "default_timeout_microseconds": [1_500_000], "allow_timeout_override": [True],
    }  # fmt: skip


def test_the_network_in_the_server(onnx: Path, tmp_path: Path) -> None:
    assert write(onnx, "--out", tmp_path, "--network-in-triton") == 0
    assert {path.name for path in (tmp_path / "afsd/1").iterdir()} == {"model.py", "tiny.spec.json"}
    text = (tmp_path / "afsd/1/tiny.spec.json").read_text(encoding="utf-8")
    assert spec_from_json(text, "spec") == tiny_spec()
    told = parameters(config_of(tmp_path, "afsd_stream"))
    assert (told["engine"], told["network"]) == ("tiny.spec.json", "afsd")


def test_no_window_of_a_video_that_has_begun_is_refused(onnx: Path, tmp_path: Path) -> None:
    flags = ["--queue", 3, "--max-wait", 2, "--instances", 2, "--max-sequences", 5]
    assert write(onnx, "--out", tmp_path, "--network-in-triton", *flags) == 0
    (policy,) = config_of(tmp_path, "afsd_network")["dynamic_batching"][0]["default_queue_policy"]
    assert policy == {"max_queue_size": [3 + 2 * (5 + 1)]}  # two instances, each of five streams and a video
    (policy,) = config_of(tmp_path, "afsd")["dynamic_batching"][0]["default_queue_policy"]
    assert (policy["max_queue_size"], policy["default_timeout_microseconds"]) == ([3], [2_000_000])


def test_a_model_of_whole_videos_has_no_stream(tmp_path: Path) -> None:
    whole = write_tiny_onnx(tmp_path / "whole.onnx", tiny_spec(sampling="whole_video"))
    assert write(whole, "--out", tmp_path / "repository") == 0
    assert not (tmp_path / "repository/afsd_stream").exists()


def test_a_model_on_features_follows_frames_with_its_backbone(tmp_path: Path) -> None:
    model = write_tiny_plan(tmp_path / "m.engine", feature_model_spec("afsd"))
    assert write(model, "--out", tmp_path / "alone") == 0
    assert {path.name for path in (tmp_path / "alone").iterdir()} == {"README.txt", "afsd", "afsd_network"}
    backbone = write_tiny_backbone(tmp_path / "i3d.onnx")
    assert write(model, "--out", tmp_path / "both", "--backbone", backbone) == 0
    assert {path.name for path in (tmp_path / "both").iterdir()} == {
        "README.txt", "afsd", "afsd_network", "afsd_backbone", "afsd_stream",
    }  # fmt: skip
    assert {path.name for path in (tmp_path / "both/afsd_stream/1").iterdir()} == {
        "model.py", "m.engine", "m.json", "i3d.onnx",
    }  # fmt: skip
    assert parameters(config_of(tmp_path / "both", "afsd"))["backbone"] == "i3d.onnx"
    snippets = config_of(tmp_path / "both", "afsd_backbone")
    assert tensors(snippets["output"]) == {"features": ("TYPE_FP32", [3])}
    assert not (tmp_path / "both/afsd_backbone/warmup").exists()


def test_own_models_are_replaced_and_others_stay(
    onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "resnet/config.pbtxt"
    other.parent.mkdir()
    other.write_text('name: "resnet"')
    assert write(onnx, "--out", tmp_path, "--network", "python") == 0
    assert write(onnx, "--out", tmp_path, "--network", "none", "--score", 0.25) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.txt", "afsd", "afsd_stream", "resnet"]
    assert json.loads(parameters(config_of(tmp_path, "afsd"))["detector"])["min_score"] == 0.25
    assert other.read_text() == 'name: "resnet"'
    capsys.readouterr()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert write(onnx, "--out", tmp_path, "--name", "resnet") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no model of afsd triton, so it is not written over" in line
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("able", [True, False])
@pytest.mark.parametrize("calls", [1, 2, 3])
def test_a_kill_between_two_renames_loses_no_model(
    able: bool, calls: int, onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system exchanges folders, and where a model lies aside for a moment."""
    if able and sys.platform != "linux":
        pytest.skip("only Linux exchanges folders")
    flags = ("--out", tmp_path, "--network", "none")
    assert write(onnx, *flags) == 0
    config, replace, done = tmp_path / "afsd/config.pbtxt", Path.replace, []
    whole = config.read_bytes()

    def dies(path: Path, target: Path) -> Path:
        done.append(path)
        if len(done) >= calls:
            raise Killed
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dies)
        if not able:
            patch.setattr(exchanging, "exchange", lambda *_: False)
        with suppress(Killed):
            write(onnx, *flags, "--score", 0.5)
    if able:
        assert config.is_file()
    else:
        assert config.is_file() is (calls != 2)  # what the next start mends
    readme = tmp_path / "README.txt"
    readme.write_text("mine")
    assert write(onnx, *flags) == 2
    assert config.is_file()
    assert able or calls > 2 or config.read_bytes() == whole
    readme.unlink()
    assert write(onnx, *flags) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.txt", "afsd", "afsd_stream"]


def test_one_process_at_a_time_writes(
    onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("runtime.common.locks.PATIENCE_S", 0.3)
    with lock_folder(tmp_path, "afsd triton"):
        assert write(onnx, "--out", tmp_path) == 2
    assert "in use by afsd triton, process" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_somebody_elses_readme_stays(onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "README.txt").write_text("mine")
    assert write(onnx, "--out", tmp_path) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["README.txt"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--name", "../x"), "--name is '../x'"),
        (("--device", "cpu,gpu:0"), "expected cpu, or GPUs as in gpu:0,gpu:1"),
        (("--url", "https://host"), "with a slash behind the host"),
        (("--url", "file:///etc/"), "expected the beginning of addresses"),
        (("--root", "/no/such/folder"), "is no folder"),
        (("--network-in-triton", "--network", "none"), "needs the network's own model"),
        (("--network-in-triton", "--batch", "9"), "would get 9 windows at a time, and takes at most 8"),
        (("--batch", "2", "--stride", "17"), "stride: got 17"),
        (("--backbone", "{model}"), "backbone"),
        (("--instances", "0"), "instances: got 0"),
        (("--max-wait", "0"), "wait_s: got 0"),
        (("--idle", "0"), "idle_s: got 0"),
        (("--max-mb", "0"), "max_bytes: got 0"),
        (("--max-held-mb", "0"), "max_held_bytes: got 0"),
        (("--max-seconds", "0"), "max_video_s: got 0"),
        (("--max-processing", "0"), "max_processing_s: got 0"),
        (("--reader", "opencv"), "opens files that a video names"),
    ],
)
def test_what_is_refused(
    flags: tuple[str, ...], said: str, onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = tmp_path / "copy.onnx"
    copied.write_bytes(onnx.read_bytes())
    words = [flag.format(model=copied) for flag in flags]
    assert write(onnx, "--out", tmp_path / "repository", *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "repository").exists()


def test_a_checkpoint_is_no_engine_of_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert write(tmp_path / "model.ckpt", "--out", tmp_path) == 2
    assert "expected .onnx, .xml or .engine (afsd export)" in capsys.readouterr().err


def test_settings_come_back_from_their_parameters() -> None:
    settings = Settings("m.onnx", root='/a "b"', url_prefixes=("https://host/a/",), threads=3, idle_s=1.5)
    entries = {str(one["key"]): one["value"] for one in to_parameters(settings)}
    assert from_parameters({**entries, "FORCE_CPU_ONLY_INPUT_TENSORS": {"string_value": "no"}}, "m") == settings  # type: ignore[dict-item]
    for wrong, value, said in (("threads", "x y", "no JSON"), ("rot", "1", "unknown key"), ("idle_s", "0", "idle_s")):
        with pytest.raises(ConfigError, match=said):
            from_parameters({**entries, wrong: {"string_value": value}}, "m")  # type: ignore[dict-item]
