"""Feature files and their time: against numpy's own files, the formulas of others, and a list of damaged files."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.common import limits
from runtime.common.text import one_line
from runtime.errors import InputError
from runtime.features.files import read_features, read_header, require_finite, resize_steps
from runtime.spec.time_axis import FeatureSampling, TimeAxis

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_and_npz_are_read_in_both_layouts(tmp_path: Path, dtype: str, order: str) -> None:
    stored = np.asarray(RNG.normal(0, 9, (7, 3)), dtype, order=order)  # type: ignore[call-overload]
    np.save(tmp_path / "a.npy", stored)
    np.savez(tmp_path / "b.npz", feats=stored, other=np.zeros(2))
    np.savez_compressed(tmp_path / "c.npz", anything=stored)
    for name in ("a.npy", "b.npz", "c.npz"):
        header = read_header(tmp_path / name)
        assert (header.shape, header.dtype) == ((7, 3), np.dtype(dtype))
        assert (header.steps("channels_first"), header.width("channels_first")) == (3, 7)
        np.testing.assert_array_equal(read_features(tmp_path / name), stored)
        np.testing.assert_array_equal(read_features(tmp_path / name, "channels_first"), stored.T)
    values = require_finite(read_features(tmp_path / "a.npy"), "a")
    assert values.dtype == np.float32
    assert values.flags.c_contiguous


def test_an_npy_is_mapped_and_an_empty_one_is_empty(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((5, 2), np.float32))
    assert isinstance(read_features(tmp_path / "a.npy"), np.memmap)
    np.save(tmp_path / "empty.npy", np.ones((0, 2), np.float32))
    assert read_features(tmp_path / "empty.npy").shape == (0, 2)


class Trap:
    """Shouts when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("unpickled",)


def damage(folder: Path, kind: str) -> Path:
    """A file that cannot be used."""
    path = folder / ("x.npz" if "zip" in kind else "x.npy")
    array = RNG.normal(size=(200, 8)).astype(np.float32)
    if "zip" in kind:
        np.savez_compressed(path, **({"a": array, "b": array} if kind == "two in a zip" else {"feats": array}))
        if kind == "cut zip":
            path.write_bytes(path.read_bytes()[:900])
        if kind == "spoiled zip":
            content = bytearray(path.read_bytes())
            content[300:600] = bytes(300)
            path.write_bytes(bytes(content))
        if kind == "zip of objects":
            np.savez(path, feats=np.array([Trap()], dtype=object))
        if kind == "zip of text":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("readme.txt", "no array")
        return path
    np.save(path, array)
    content = path.read_bytes()
    if kind == "objects":
        np.save(path, np.array([[Trap()]], dtype=object), allow_pickle=True)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps([1.0]))
    elif kind == "vector":
        np.save(path, array[0])
    elif kind == "text":
        np.save(path, np.array([["a"]]))
    else:
        path.write_bytes({"cut": content[:-1], "cut header": content[:40], "nothing": b""}[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("cut", r"cut off: holds 6399 bytes of \[200, 8\], expected 6400"),
        ("cut header", "cannot be read"),
        ("nothing", "cannot be read"),
        ("pickle", "cannot be read"),
        ("objects", "Python objects, which are never loaded"),
        ("vector", r"got float32 \[8\], expected numbers \[T,C\]"),
        ("text", r"got <U1 \[1, 1\], expected numbers"),
        ("cut zip", "cannot be read"),
        ("spoiled zip", "cannot be read"),
        ("two in a zip", "the arrays are 'a', 'b'; expected one named 'feats'"),
        ("zip of objects", "Python objects, which are never loaded"),
        ("zip of text", "the arrays are none"),
    ],
)
def test_damaged_files_are_one_line(tmp_path: Path, kind: str, said: str) -> None:
    path = damage(tmp_path, kind)
    with pytest.raises(InputError, match=said) as caught:
        read_features(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="feature file not found"):
        read_header(tmp_path / "gone.npy")
    with pytest.raises(InputError, match=r"feature file not found"):
        read_header(tmp_path / "gone.npz")
    with pytest.raises(InputError, match=r"got .pkl, expected a feature file .npy or .npz"):
        read_header(tmp_path / "a.pkl")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_no_float32_are_told_with_their_place(value: float) -> None:
    features = np.zeros((4, 3))
    features[2, 1] = value
    with pytest.raises(InputError, match=r"v\.npy: step 24, channel 1 is .* \(1 such values\)"):
        require_finite(features, "v.npy", first_step=10, every=2)
    assert require_finite(features[:2], "v.npy").shape == (2, 3)


@pytest.mark.parametrize(("length", "steps"), [(5, 9), (9, 5), (1, 4), (4, 1), (6, 6), (100, 128)])
def test_resizing_is_torch_interpolation(length: int, steps: int) -> None:
    features = RNG.normal(size=(length, 3)).astype(np.float32)
    torch = pytest.importorskip("torch")
    expected = torch.nn.functional.interpolate(torch.from_numpy(features.T)[None], size=steps, mode="linear")
    np.testing.assert_allclose(resize_steps(features, steps), expected[0].numpy().T, atol=1e-5)


numbers = st.floats(0.5, 64)


@given(stride=numbers, window=numbers, fps=st.floats(5, 60), seconds=st.floats(0, 1e4), every=st.integers(1, 4))
def test_time_is_what_actionformer_and_opentad_compute(
    stride: float, window: float, fps: float, seconds: float, every: int
) -> None:
    timing = FeatureSampling(stride=stride, window=window, every=every).time_axis("v", 9, fps=fps)
    centre = (seconds * fps - 0.5 * window) / (stride * every)  # ActionFormer: grid of centres
    assert timing.position(seconds) - 0.5 == pytest.approx(centre)
    opentad = FeatureSampling(stride=stride, offset=window / 2, every=every).time_axis("v", 9, fps=fps)
    assert (centre * stride * every + window / 2) / fps == pytest.approx(seconds, abs=1e-9)
    assert opentad == timing
    assert timing.seconds(timing.position(seconds)) == pytest.approx(seconds, abs=1e-6)


def test_time_of_a2net_single_frames_and_whole_videos() -> None:
    a2net = FeatureSampling(stride=4, window=16, offset=2).time_axis("v", 9, fps=30)
    assert [a2net.seconds(x) for x in (0, 1, 128)] == pytest.approx([0, 4 / 30, 512 / 30])
    frames = FeatureSampling().time_axis("v", 790, fps=15)
    assert frames.position(52.0) == pytest.approx(780)
    assert frames.extent_s(790) == pytest.approx(790 / 15)
    snippets = FeatureSampling(stride=4, window=16, fps=30).time_axis("v", 22, fps=25)  # 16 + 21 · 4 = 100 frames
    assert snippets == TimeAxis(30, 4, 8)
    assert snippets.extent_s(22) == pytest.approx(100 / 30)
    assert snippets.seconds(0.5) == pytest.approx(8 / 30)
    whole = FeatureSampling(whole_video=True).time_axis("v", 128, duration_s=64)
    assert [whole.seconds(x) for x in (0, 64, 128)] == pytest.approx([0, 32, 64])
    assert whole.extent_s(128) == pytest.approx(64)


def test_unknown_rates_and_durations() -> None:
    with pytest.raises(InputError, match=r"v: no frames per second: give one for all videos .*, or add fps"):
        FeatureSampling().time_axis("v", 5)
    with pytest.raises(InputError, match="v: no duration"):
        FeatureSampling(whole_video=True, fps=30).time_axis("v", 5)


@pytest.mark.parametrize(
    "wrong", [{"stride": 0}, {"window": -1}, {"fps": 0}, {"offset": -1}, {"every": 0}, {"stride": float("nan")}]
)
def test_samplings_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}: got"):
        FeatureSampling(**wrong)  # type: ignore[arg-type]


def npy(header: str, data: bytes = bytes(64), version: bytes = b"\1\0") -> bytes:
    """An .npy with a header that numpy would not write."""
    size = struct.pack("<H" if version == b"\1\0" else "<I", len(header))
    return b"\x93NUMPY" + version + size + header.encode("latin-1") + data


def header(shape: str, descr: str = "'<f4'", order: str = "False") -> str:
    """A header whose entries are written by hand."""
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}"


@pytest.mark.parametrize(
    "content",
    [
        npy(header("(10**9, 10**9)")),
        npy(header("(1000000000000, 1000000000000)")),
        npy(header("(99999999999999999999999, 4)")),
        npy(header(f"({'9' * 5000}, 4)")),
        npy(header("(-1, 4)")),
        npy(header("(4, True)")),
        npy(header("(4.0, 4)")),
        npy(header("('a', 4)")),
        npy(header("4")),
        npy(header("[4, 4]")),
        npy(header("(4, 4, 1)")),
        npy(header("()")),
        npy(header("(4, 4)", "'|O'")),
        npy(header("(4, 4)", "[('a', '<f4')]")),
        npy(header("(4, 4)", "[('a', 'O')]")),
        npy(header("(4, 4)", "'<c8'")),
        npy(header("(4, 4)", "'<M8[s]'")),
        npy(header("(4, 4)", "'|b1'")),
        npy(header("(4, 4)", "'|V0'")),
        npy(header("(4, 4)", "'nonsense'")),
        npy(header("(4, 4)", "'f4" + "(1000)" * 100 + "'")),
        npy(header("(4, 4)", "'(1000000000,1000000000)f4'")),
        npy(header("(4, 4)", "None")),
        npy(header("(4, 4)", "{'names': 3}")),
        npy(header("(4, 4)", order="'yes'")),
        npy("__import__('os').system('false')"),
        npy("{"),
        npy("(" * 500),
        npy("(" * 9000 + ")" * 9000),
        npy("-" * 9000 + "1"),
        npy("{" + "[" * 3000),
        npy("'" + "\0" * 100 + "'"),
        npy("{'descr': '<f4'}"),
        npy(""),
        npy("x" * 20_000),
        npy(header("(4, 4)"), version=b"\3\0"),
        npy(header("(4, 4)"), version=b"\xff\xff"),
        npy(header("(10**9, 4)"), version=b"\2\0"),
        b"\x93NUMPY\2\0\xff\xff\xff\xff" + bytes(64),
    ],
    ids=range(39),
)
@pytest.mark.parametrize("packed", [False, True])
def test_headers_written_by_hand_are_one_line(content: bytes, packed: bool, tmp_path: Path) -> None:
    path = tmp_path / ("x.npz" if packed else "x.npy")
    if packed:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("feats.npy", content)
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"^{path}: ") as caught:
        read_features(path)
    assert "\n" not in one_line(caught.value)
    assert len(one_line(caught.value)) < 1100


def test_an_archive_that_unpacks_a_thousandfold_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, feats=np.zeros((1000, 1000), np.float32))
    assert read_header(path).shape == (1000, 1000)
    monkeypatch.setattr(limits, "PACKED_BYTES", 1 << 20)
    with pytest.raises(InputError, match=r"that unpack to 4,000,128, expected at most .*, and 200 times the packed"):
        read_features(path)
    np.savez_compressed(path, feats=np.random.default_rng(0).random((1000, 1000), np.float32))
    assert read_features(path).shape == (1000, 1000)
    monkeypatch.setattr(limits, "FEATURE_BYTES", 1 << 20)
    with pytest.raises(InputError, match=r"bytes that unpack to 4,000,128, expected at most 1,048,576"):
        read_features(path)


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_a_pipe_is_not_waited_for(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match="a pipe, no file"):
        read_header(tmp_path / name)
