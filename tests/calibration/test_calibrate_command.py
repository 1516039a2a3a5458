"""`afsd calibrate` on small videos, from a float file to engines; and everything it refuses."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from calibration.calibrate import calibrate
from calibration.judging.sensitivity import Cost
from calibration.options import CalibrationOptions, TestSet
from calibration.ranges.table import load_table
from export.graph.files import save_graph
from export.graph.precision import precision_of, require_symmetric
from runtime.cli import main
from runtime.engines import open_engine
from runtime.errors import InputError
from runtime.spec.model import Quantization
from tests.conftest import Exported
from tests.videos import write_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, exported: Exported) -> Path:
    """model.onnx; training/ with three videos; test/ with two and annotations.json."""
    root = tmp_path_factory.mktemp("work")
    shutil.copy(exported.onnx, root / "model.onnx")
    for name, levels in (("training", (50, 110, 150)), ("test", (80, 130))):
        (root / name).mkdir()
        for k, level in enumerate(levels):
            write_video(root / name / f"{name}_{k}.avi", level=level, speed=1 + k)
    database = {
        f"test_{k}": {"subset": "test", "fps": 10 - k, "annotations": [{"label": "a", "segment": [1.0 + k, 3.0 + k]}]}
        for k in range(2)
    }
    (root / "annotations.json").write_text(json.dumps({"database": database}))
    return root


def recorded(path: Path) -> Quantization:
    record = open_engine(path).spec.quantization
    assert record is not None
    return record


@pytest.mark.parametrize("target", ["openvino", pytest.param("tensorrt", marks=pytest.mark.thorough)])
def test_one_command_from_videos_to_a_file(
    folder: Path, tmp_path: Path, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made" / "model.int8.onnx"
    arguments = ["calibrate", str(folder / "model.onnx"), "-o", str(out), "--target", target, "--clips", "5"]
    assert main([*arguments, "--videos", str(folder / "training"), "--seed", "3"]) == 0
    assert {path.name for path in out.parent.iterdir()} == {
        out.name, f"{out.name}.ranges.json", f"{out.name}.calibration.json",
    }  # fmt: skip
    assert precision_of(onnx.load(out)) == open_engine(out).precision == "int8"
    record = recorded(out)
    table = load_table(out.with_name(f"{out.name}.ranges.json"))
    assert (record.target, record.method, record.clips, record.kept) == (target, "minmax", 5, ())
    assert record.table_sha256 == table.sha256
    assert record.clips_sha256 == table.clips_sha256
    assert record.videos.keys() == {"training_0", "training_1", "training_2"}
    assert table.seed == 3
    assert "measuring ranges" in capsys.readouterr().out
    if target == "tensorrt":
        require_symmetric(onnx.load(out), "made")


@pytest.mark.thorough
def test_a_table_serves_both_targets(folder: Path, tmp_path: Path) -> None:
    source, first = folder / "model.onnx", tmp_path / "a.onnx"
    calibrate(source, first, CalibrationOptions(clips=4), videos=sorted((folder / "training").iterdir()))
    table = tmp_path / "a.onnx.ranges.json"
    options = CalibrationOptions(target="tensorrt", method="entropy")
    done = calibrate(source, tmp_path / "b.onnx", options, table=table, say=lambda _: None)
    assert recorded(done.onnx).table_sha256 == recorded(first).table_sha256
    assert recorded(done.onnx).method == "entropy"
    require_symmetric(onnx.load(done.onnx), "b")
    graph = onnx.load(source)
    weight = next(w for w in graph.graph.initializer if w.name.endswith("loc_tower.0.0.conv1d.weight"))
    weight.CopyFrom(onnx.numpy_helper.from_array(1.1 * onnx.numpy_helper.to_array(weight), weight.name))
    save_graph(graph, tmp_path / "other.onnx")
    with pytest.raises(InputError, match=r"a\.onnx\.ranges\.json: is a table of another network"):
        calibrate(tmp_path / "other.onnx", tmp_path / "c.onnx", options, table=table)
    with pytest.raises(InputError, match="was measured on the plain network; leave out --equalise"):
        calibrate(
            source, tmp_path / "c.onnx", CalibrationOptions(equalise=True), table=table,
            videos=sorted((folder / "training").iterdir()),
        )  # fmt: skip
    options = CalibrationOptions(equalise=True, clips=3)
    calibrate(source, tmp_path / "e.onnx", options, videos=sorted((folder / "training").iterdir()))
    with pytest.raises(InputError, match="the table was measured on others"):
        calibrate(
            source, tmp_path / "c.onnx", options, table=tmp_path / "e.onnx.ranges.json",
            videos=sorted((folder / "training").iterdir())[1:],
        )  # fmt: skip
    test = TestSet((folder / "training" / "training_0.avi",))  # a table knows its own videos
    with pytest.raises(InputError, match=r"training_0 is a test video too \(1 of 3 are\)"):
        calibrate(source, tmp_path / "c.onnx", CalibrationOptions(), table=tmp_path / "a.onnx.ranges.json", test=test)
    with pytest.raises(InputError, match='method "output" searches ranges on clips: give --videos as well'):
        calibrate(source, tmp_path / "c.onnx", CalibrationOptions(method="output"), table=table)
    assert not (tmp_path / "c.onnx").exists()


@pytest.mark.slow
def test_the_budget_is_kept_and_the_path_shown(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole path: float to float; its end has no drop, its beginning the most work in 8 bit."""
    monkeypatch.setattr("calibration.judging.budget.RUNS", 1)
    monkeypatch.setattr("calibration.judging.budget.restored_counts", lambda layers: iter([0, 5, layers]))
    out = tmp_path / "m.onnx"
    arguments = [
        "calibrate",
        str(folder / "model.onnx"),
        "-o",
        str(out),
        "--clips",
        "3",
        "--correct-bias",
        "--trade-off",
    ]
    arguments += ["--videos", str(folder / "training"), "--test", str(folder / "test"), "--max-drop", "100"]
    assert main([*arguments, "--annotations", str(folder / "annotations.json")]) == 0
    printed, warned = capsys.readouterr()
    assert "1 of 2 videos have another frame rate than their annotations say: test_1 is annotated with 9 fps" in warned
    assert "against labels" in printed
    assert "conv" in printed  # the dearest layers by name
    assert out.with_name("m.onnx.png").stat().st_size > 1000
    report = json.loads(out.with_name("m.onnx.calibration.json").read_text())
    steps = report["path"]["steps"]
    assert [len(step["restored"]) for step in steps][:2] == [0, 5]
    assert steps[0]["share"] > steps[1]["share"] > steps[2]["share"] == 0
    assert steps[2]["drop"] == pytest.approx(0, abs=1e-6)
    assert steps[2]["logits"] < 1e-4
    assert report["path"]["chosen"] == 0
    assert len(report["costs"]) == len(steps[2]["restored"])
    assert recorded(out).remedies == ("bias corrected",)
    found = next(line for line in printed.splitlines() if line.startswith("8 bit against float32 on 2 videos: "))
    best = steps[0]["detections"]
    assert f"{best['followed'] - best['lost']} of the best {best['followed']} detections kept, {best['moved']}" in found
    _, _, found = found.partition("on 2 videos")
    assert_export_says(out, capsys, f"as afsd calibrate measured on 2 videos{found}; mAP {-steps[0]['drop']:+.2f}")
    test = str(folder / "test" / "test_0.avi")
    assert_export_says(out, capsys, "openvino .* against onnxruntime .* on 1 video: .* detections kept", test)
    graph = onnx.load(out)
    graph.producer_name = "another"  # another file than the report's
    save_graph(graph, out)
    assert_export_says(out, capsys, "what 8 bit does to detections is not known")


def assert_export_says(source: Path, capsys: pytest.CaptureFixture[str], expected: str, *videos: str) -> None:
    """The export to OpenVINO of a calibrated file says what happens to detections, and no drift of made-up windows."""
    pytest.importorskip("openvino")
    flags = ["--videos", *videos] if videos else []
    assert main(["export", str(source), "--to", "openvino", *flags]) == 0
    printed = capsys.readouterr().out
    pattern = expected if videos else re.escape(expected)
    assert re.search(pattern, printed), printed
    assert "drift of" not in printed


@pytest.mark.thorough
@pytest.mark.usefixtures("without_openvino")
def test_without_labels_the_float_networks_detections_judge(folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    test = TestSet(tuple(sorted((folder / "test").iterdir())))
    options = CalibrationOptions(target="tensorrt", clips=3, method="mse", keep=("backbone._model.Mixed_3b",))
    done = calibrate(
        folder / "model.onnx", tmp_path / "m.onnx", options, videos=sorted((folder / "training").iterdir()), test=test,
        say=said.append,
    )  # fmt: skip
    assert done.path is not None
    assert not done.path.labelled
    assert done.path.float_map == pytest.approx(1.0)
    assert any("against the float network's own detections" in text for text in said)
    kept = recorded(done.onnx).kept
    assert len(kept) == 6
    assert all(name.startswith("backbone._model.Mixed_3b") for name in kept)
    halves = {w.name for w in onnx.load(done.onnx).graph.initializer if w.data_type == onnx.TensorProto.FLOAT16}
    assert len(halves) == 12  # TensorRT: what is restored is float16


@pytest.mark.thorough
def test_equalised_fp8_and_searched(folder: Path, tmp_path: Path) -> None:
    videos = sorted((folder / "training").iterdir())
    options = CalibrationOptions(target="tensorrt", numbers="fp8", method="output", clips=2, equalise=True)
    done = calibrate(folder / "model.onnx", tmp_path / "m.fp8.onnx", options, videos=videos, say=lambda _: None)
    assert precision_of(onnx.load(done.onnx)) == open_engine(done.onnx).precision == "fp8"
    assert recorded(done.onnx).remedies == ("equalised",)
    assert done.table.chosen["fp8"].keys() == done.table.points.keys()
    engine, plain = open_engine(done.onnx), open_engine(folder / "model.onnx")
    from export.comparison.drift import measure_drift_on_windows

    drift = {output.name: output.relative for output in measure_drift_on_windows(plain, engine).outputs}
    assert 0 < drift["conf"] < 1


@pytest.mark.thorough
@pytest.mark.usefixtures("without_openvino")
def test_a_video_that_judges_is_not_calibrated_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = tmp_path / "training"
    shutil.copytree(folder / "training", both)
    shutil.copy(folder / "test" / "test_0.avi", both / "another_name.avi")
    arguments = ["calibrate", str(folder / "model.onnx"), "-o", str(tmp_path / "m.onnx"), "--clips", "4"]
    arguments += ["--videos", str(both), "--test", str(folder / "test")]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "another_name.avi is a test video too (1 of 4 are)" in error
    assert error.count("\n") == 1
    assert main([*arguments, "--force"]) == 0
    assert "another_name" in recorded(tmp_path / "m.onnx").videos
    capsys.readouterr()
    evaluate = [
        "evaluate",
        str(tmp_path / "m.onnx"),
        str(folder / "annotations.json"),
        "--videos",
        str(folder / "test"),
    ]
    assert main(evaluate) == 2
    error = capsys.readouterr().err
    assert "calibrated on 1 of the 2 videos, test_0 (another_name there) among them" in error
    assert main([*evaluate, "--force"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "got neither videos nor a table; give --videos FILE or FOLDER, or --table FILE"),
        (["--videos", "none.mp4"], "--videos none.mp4: no such video file"),
        (["--videos", "s3://bucket/a.mp4"], "--videos s3://bucket/a.mp4: an address; copy the videos to a folder here"),
        (["--videos", "training", "--clips", "0"], "clips: got 0, expected 1 … "),
        (["--videos", "training", "--max-drop", "1"], "judged on test videos: give --test"),
        (["--videos", "training", "--max-drop", "-1", "--test", "test"], "max_drop: got -1"),
        (["--videos", "training", "--annotations", "annotations.json"], "--annotations are for test videos"),
        (["--videos", "training", "--numbers", "int8"], "numbers: got int8, OpenVINO computes in uint8"),
        (
            ["--videos", "training", "--target", "tensorrt", "--numbers", "uint8"],
            "got uint8, TensorRT takes only int8 or fp8",
        ),
        (["--videos", "training", "--test", "test", "--max-drop", "nan"], "max_drop: got nan"),
        (["--videos", "training", "--seed", "-1"], "seed: got -1, expected 0 … 4294967295"),
        (
            ["--videos", "training", "--keep", "backbone", "coarse_pyramid_detection"],
            "layers are kept in floating point; quantise at least one",
        ),
        (
            ["--videos", "training", "-o", "model.onnx/m.onnx"],
            "got a file where a folder is needed for",
        ),
        (
            ["--videos", "training", "--method", "percentile", "--percentile", "12"],
            "percentile: got 12.0, expected above 50, up to 100 percent",
        ),
        (["--videos", "training", "--keep", ""], "--keep : no such layer"),
        (["--videos", "training", "--keep", "backbone._model.Mixed_3"], "no such layer"),
        (["--videos", "training", "--keep", "backbone.nothing"], "--keep backbone.nothing: no such layer"),
        (["--table", "annotations.json"], "annotations.json: not a table of ranges of this release"),
        (["--table", "training/training_0.avi"], "expected a table of ranges"),
        (["--videos", "training", "-o", "model.onnx"], "model.onnx: expected the name of another file"),
        (["--videos", "training", "-o", "m.xml"], "m.xml: expected the name of another file, ending in .onnx"),
        (["--videos", "training", "--test", "test", "--annotations", "wrong.json"], "names none of the 2 test videos"),
    ],
)
def test_what_is_refused(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    Path("wrong.json").write_text('{"database": {"x": {"subset": "test", "annotations": []}}}')
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert main(["calibrate", "model.onnx", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_sources_that_are_none(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", str(tmp_path / "none.onnx"), "--videos", str(folder / "training")]) == 2
    assert "none.onnx" in capsys.readouterr().err
    made = tmp_path / "m.onnx"
    arguments = ["--videos", str(folder / "training"), "--clips", "2"]
    assert main(["calibrate", str(folder / "model.onnx"), "-o", str(made), *arguments]) == 0
    assert main(["calibrate", str(made), *arguments]) == 2
    assert "is int8 already; calibrate the float32 ONNX file" in capsys.readouterr().err
    bare = onnx.load(folder / "model.onnx")
    del bare.metadata_props[:]
    onnx.save(bare, tmp_path / "bare.onnx")
    assert main(["calibrate", str(tmp_path / "bare.onnx"), *arguments]) == 2
    assert "holds no ModelSpec, so it is cut off or no model of this project" in capsys.readouterr().err


def test_an_input_that_is_always_zero_stays_float(folder: Path, tmp_path: Path) -> None:
    """A dead unit: nothing was seen, so any range would be made up."""
    graph = onnx.load(folder / "model.onnx")
    for weight in graph.graph.initializer:
        if "Mixed_4b.b1a" in weight.name:
            values = np.zeros_like(onnx.numpy_helper.to_array(weight))
            weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    save_graph(graph, tmp_path / "dead.onnx")
    said: list[str] = []
    videos = sorted((folder / "training").iterdir())
    done = calibrate(
        tmp_path / "dead.onnx", tmp_path / "m.onnx", CalibrationOptions(clips=2), videos=videos, say=said.append
    )
    assert recorded(done.onnx).kept == ("backbone._model.Mixed_4b.b1b.conv3d",)
    assert any("reads only zeros on all clips" in text for text in said)


@pytest.mark.slow
def test_fine_tuning_ends_in_a_quantised_file(
    folder: Path, exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two steps of the project's own training, then export and the same ranges."""
    data = tmp_path / "data"
    (data / "videos").mkdir(parents=True)
    database = {}
    for k, level in enumerate((60, 120)):
        write_video(data / "videos" / f"v{k}.avi", frames=96, level=level)
        actions = [{"label": "ab"[k], "segment": [1.0, 3.0]}, {"label": "ab"[1 - k], "segment": [5.0, 6.5]}]
        database[f"v{k}"] = {"subset": "training", "annotations": actions}
    (data / "annotations.json").write_text(json.dumps({"database": database}))
    out = tmp_path / "m.int8.onnx"
    arguments = ["calibrate", str(folder / "model.onnx"), "-o", str(out), "--clips", "2", "--data", str(data)]
    arguments += ["--videos", str(folder / "training"), "--steps", "2", "--learning-rate", "1e-3", "--fine-tune"]
    assert main([*arguments, str(exported.checkpoint)]) == 0
    tuned = tmp_path / "m.int8.onnx.tuning" / "last.ckpt"
    record, spec = recorded(out), open_engine(out).spec
    assert record.remedies == ("fine-tuned",)
    assert spec.checkpoint_sha256 != open_engine(folder / "model.onnx").spec.checkpoint_sha256
    plain, after = (onnx.load(path) for path in (folder / "model.onnx", tuned.with_name("tuned.onnx")))
    name = next(w.name for w in plain.graph.initializer if w.name.endswith("loc_tower.0.0.conv1d.weight"))
    weights = [next(w for w in graph.graph.initializer if w.name == name) for graph in (plain, after)]
    moved = np.abs(onnx.numpy_helper.to_array(weights[0]) - onnx.numpy_helper.to_array(weights[1]))
    assert 0 < moved.max() < 0.01
    capsys.readouterr()
    assert main([*arguments, str(tuned)]) == 2
    assert "last.ckpt: is not the checkpoint that the ONNX file was exported from" in capsys.readouterr().err


@pytest.mark.thorough
@pytest.mark.usefixtures("without_openvino")
def test_a_budget_that_no_layer_fits_in(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every network but the float one is reported to be 50 points worse; layers are restored in any order."""
    from calibration import calibrate as module
    from calibration.judging.judge import Judge

    class Strict(Judge):
        @property
        def map(self) -> float:
            return 0.5 + self._found

        @map.setter
        def map(self, value: float) -> None:
            self._found = value

    monkeypatch.setattr(module, "Judge", Strict)
    monkeypatch.setattr(
        module,
        "measure_sensitivity",
        lambda placement, *_, **__: [Cost(layer.name, layer.multiply_adds, {}, 0.0) for layer in placement.layers],
    )
    monkeypatch.setattr("calibration.judging.budget.restored_counts", lambda layers: iter([0, layers]))
    options = CalibrationOptions(target="tensorrt", clips=2, max_drop=0.5)
    test = TestSet(tuple(sorted((folder / "test").iterdir())))

    def fail(options: CalibrationOptions) -> None:
        with pytest.raises(InputError, match=r"no layer can stay in 8 bit within 0\.5 points of mAP; give a larger"):
            calibrate(
                folder / "model.onnx",
                tmp_path / "m.onnx",
                options,
                videos=sorted((folder / "training").iterdir()),
                test=test,
            )

    fail(options)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx.ranges.json"]  # minutes of measuring are not lost
    shutil.copy(folder / "model.onnx", tmp_path / "m.onnx")  # an older network keeps its own table
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    fail(replace(options, clips=3))
    (new,) = set(tmp_path.iterdir()) - set(before)
    assert new.name == "m.onnx.measured.ranges.json"
    assert len(load_table(new).clips) == 3
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("suffix", [".ranges.json", ".calibration.json", ".png"])
def test_files_of_others_beside_the_new_one_stay(
    suffix: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.onnx"
    mine = tmp_path / f"m.onnx{suffix}"
    mine.write_text('{"mine": 1}')
    arguments = ["calibrate", str(folder / "model.onnx"), "-o", str(out), "--videos", str(folder / "training")]
    assert main(arguments) == 2
    assert f"{mine}: is there already and no result of afsd" in capsys.readouterr().err
    assert mine.read_text() == '{"mine": 1}'
    assert not out.exists()
    if suffix == ".ranges.json":
        for more in (["--overwrite"], []):  # and then its own may be written again
            assert main([*arguments, "--clips", "2", *more]) == 0
