"""Feature files and their time: against numpy's own files, the formulas of others, and a list of damaged files."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
