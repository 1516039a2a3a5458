"""Read feature files from object stores."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.common.temporaries import scratch_folder
from runtime.common.text import one_line
from runtime.errors import InputError, VideoError
from runtime.features.files import read_features
from runtime.features.video_features import Features
from runtime.video.sources import name_of
from runtime.video.stores import open_store


def fetch_features(url: str, fps: float | None = None) -> Features:
    """Return the features of an .npy or .npz in an object store, which is fetched whole, into memory.

    Args:
        url: address, such as s3://bucket/features/clip.npy.
        fps: frames per second of the video.

    Raises:
        VideoError: the store does not give it.
        InputError: it is no feature file, see `read_features`.
        MissingDependencyError: fsspec, or the store's own package, is not installed.
    """
    name, label = name_of(url)
    filesystem, path = open_store(url, f"reading {label}")
    with scratch_folder() as scratch:
        file = scratch / f"features{PurePosixPath(path).suffix}"
        try:
            filesystem.get_file(path, str(file))
        except Exception as error:  # each store has errors of its own
            text = one_line(getattr(error, "strerror", None) or error)
            raise VideoError(f"{label}: cannot be read ({text}); check the address and the access") from None
        return Features(_read(file, label), name, fps=fps)


def _read(file: Path, label: str) -> NDArray[Any]:
    try:
        return np.array(read_features(file))  # no map, which would keep the file
    except InputError as error:
        raise InputError(str(error).replace(str(file), label)) from None
