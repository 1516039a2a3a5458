"""Build flow stores: optical flow of the arrays of an RGB store, with the name of its method."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.common.npy_writer import grow_npy
from runtime.video.flow import FlowEstimator, FlowMethod
from training.stores.frame_store import INDEX, FrameStore, Sampling, StoredVideo, StoreIndex, open_array, read_index
from training.stores.store_building import BuildAll, OnFailure, complete_store, find_index, is_complete

FLOW_STORE = "flow"
"""Name of the folder of a data set's flow arrays."""
FLOW_CHANNELS = 2
THROUGH_JPEG = ", through JPEG"
"""Suffix of a flow method's name if frames and flow are compressed by JPEG."""


def build_flow_store(
    rgb: FrameStore,
    names: Iterable[str],
    out_dir: str | os.PathLike[str],
    *,
    method: FlowMethod = "auto",
    jpeg: bool = False,
    workers: int | None = None,
    progress: bool = True,
    on_failure: OnFailure | None = None,
    build_all: BuildAll | None = None,
) -> FrameStore:
    """Compute the optical flow of an RGB store's arrays, with as many frames (AFSD's .npy; see `runtime.video.flow`).

    Args:
        rgb: the store with the videos `names`.
        names: names of the videos.
        out_dir: folder of the flow store; its index holds the method's name.
        method: see `runtime.video.flow.FlowMethod`.
        jpeg: compress frames and flow by JPEG, as the published arrays were.
        workers, progress, on_failure, build_all: see `build_frame_store`.

    Raises:
        InputError: `out_dir` holds a store of another sampling or of another method's flow.
        MissingDependencyError: this OpenCV lacks the method.
    """
    s = rgb.sampling
    sampling = replace(rgb.sampling, channels=FLOW_CHANNELS)
    names = list(names)
    arrays = {name: rgb.folder / f"{name}.npy" for name in names}
    out = Path(out_dir)
    if _has_published_flow(out, names):
        return FrameStore(out)
    flow_name = FlowEstimator(method, jpeg=jpeg).name + (THROUGH_JPEG if jpeg else "")
    index = find_index(out, StoreIndex(sampling, flow_method=flow_name))
    stored = {name: rgb.videos[name] for name in names}
    build = partial(_build_flow, out, s, stored, method, jpeg)

    def is_current(name: str, _: Path, flow: StoredVideo) -> bool:
        origin = stored[name]
        return flow.source_bytes is None or (
            flow.source_bytes == _origin_bytes(origin) and flow.source_digest == origin.source_digest
        )

    return complete_store(out, index, arrays, build, workers, progress, on_failure, is_current, build_all)


def _has_published_flow(folder: Path, names: Iterable[str]) -> bool:
    """Return whether a store of flow by an unknown method, as `index_arrays` makes it, has all these videos."""
    if not (folder / INDEX).exists():
        return False
    index = read_index(folder / INDEX)
    return not index.flow_method and all(is_complete(folder, name, index.videos.get(name)) for name in names)


def _origin_bytes(rgb: StoredVideo) -> int:
    """Return the size that identifies an RGB array, to notice when it is replaced: its video file's, or its own."""
    return rgb.array_bytes if rgb.source_bytes is None else rgb.source_bytes


def flow_method_of(folder: Path) -> tuple[FlowMethod, bool]:
    """Return method and JPEG flag of a flow store in `folder`, with which it is completed; ("auto", False) if none."""
    if not (folder / INDEX).exists():
        return "auto", False
    name = read_index(folder / INDEX).flow_method
    method: FlowMethod = "dis" if name.startswith("DIS") else "tvl1" if name.startswith("TV-L1") else "auto"
    return method, name.endswith(THROUGH_JPEG)


def _build_flow(
    folder: Path,
    sampling: Sampling,
    rgb: Mapping[str, StoredVideo],
    method: FlowMethod,
    jpeg: bool,
    name: str,
    rgb_array: Path,
) -> StoredVideo:
    path, size, count = folder / f"{name}.npy", sampling.frame_size, 0
    frames = open_array(rgb_array, sampling, rgb[name].frames)
    with grow_npy(path, (size, size, FLOW_CHANNELS), "|u1") as append:
        for flow in _compute_flow(frames, FlowEstimator(method, jpeg=jpeg)):
            count = append(flow[None])
    origin = rgb[name]
    return StoredVideo(
        frames=count,
        array_bytes=path.stat().st_size,
        source_bytes=_origin_bytes(origin),
        source_digest=origin.source_digest,
        sample_fps=origin.sample_fps,
    )


def _compute_flow(frames: NDArray[np.uint8], estimator: FlowEstimator) -> Iterator[NDArray[np.uint8]]:
    for frame in frames:
        yield from estimator.push(frame)
    yield from estimator.finish()
