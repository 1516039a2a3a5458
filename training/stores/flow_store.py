"""Flow stores: optical flow of the arrays of an RGB store, named by the method that made it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.common.npy_writer import grow_npy
from runtime.video.flow import FlowEstimator, FlowMethod
from training.stores.frame_store import INDEX, FrameStore, Sampling, StoredVideo, StoreIndex, open_array, read_index
from training.stores.store_building import OnFailure, complete_store, find_index, is_complete

FLOW_STORE = "flow"
"""Folder of a data set's flow arrays."""
FLOW_CHANNELS = 2
THROUGH_JPEG = ", through JPEG"
"""Added to the name of a flow method whose frames and flow went through JPEG."""


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
) -> FrameStore:
    """Optical flow of the arrays of an RGB store, as many frames as those (AFSD, flow → npy; see `runtime.video.flow`).

    Args:
        rgb: the store with the videos `names`.
        names: videos wanted.
        out_dir: the flow store; its index holds the method's name.
        method: see `runtime.video.flow.FlowMethod`.
        jpeg: send frames and flow through JPEG, as the published arrays went.
        workers, progress, on_failure: as for `build_frame_store`.

    Raises:
        InputError: `out_dir` holds a store of another sampling or of another method's flow.
        MissingDependencyError: a method this OpenCV does not have.
    """
    s = rgb.sampling
    sampling = Sampling(s.fps, s.frame_size, FLOW_CHANNELS, s.whole_frames)
    names = list(names)
    sources = {name: rgb.folder / f"{name}.npy" for name in names}
    out = Path(out_dir)
    if _made_elsewhere(out, names):
        return FrameStore(out)
    flow_name = FlowEstimator(method, jpeg=jpeg).name + (THROUGH_JPEG if jpeg else "")
    index = find_index(out, StoreIndex(sampling, flow_method=flow_name))
    stored = {name: rgb.videos[name] for name in names}
    build = partial(_build_flow, out, s, stored, method, jpeg)

    def made_from(name: str, _: Path) -> int | None:
        return _source_of(stored[name])

    return complete_store(out, index, sources, build, workers, progress, on_failure, made_from)


def _made_elsewhere(folder: Path, names: Iterable[str]) -> bool:
    """Whether a store of flow by an unknown method, as `index_arrays` makes it, has all of these videos."""
    if not (folder / INDEX).exists():
        return False
    index = read_index(folder / INDEX)
    return not index.flow_method and all(is_complete(folder, name, index.videos.get(name)) for name in names)


def _source_of(rgb: StoredVideo) -> int:
    """What tells one RGB array from another made later in its place: the size of its video, or its own."""
    return rgb.array_bytes if rgb.source_bytes is None else rgb.source_bytes


def flow_method_of(folder: Path) -> tuple[FlowMethod, bool]:
    """How a flow store in `folder` was made (method, through JPEG), to complete it alike; ("auto", False) if none."""
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
    source: Path,
) -> StoredVideo:
    path, size, count = folder / f"{name}.npy", sampling.frame_size, 0
    frames = open_array(source, sampling, rgb[name].frames)
    with grow_npy(path, (size, size, FLOW_CHANNELS), "|u1") as append:
        for flow in _compute_flow(frames, FlowEstimator(method, jpeg=jpeg)):
            count = append(flow[None])
    return StoredVideo(count, path.stat().st_size, _source_of(rgb[name]), sample_fps=rgb[name].sample_fps)


def _compute_flow(frames: NDArray[np.uint8], estimator: FlowEstimator) -> Iterator[NDArray[np.uint8]]:
    for frame in frames:
        yield from estimator.push(frame)
    yield from estimator.finish()
