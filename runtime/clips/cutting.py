"""Write the clips of a video, or one reel of several videos, by copying packets or encoding frames anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from runtime.clips.copying import CopyWriter, PacketIndex, index_packets
from runtime.clips.encoding import MOST_OPEN, SUFFIX, Encoder, Part, encode_parts, has_sound
from runtime.clips.own_clips import describe_clip, require_own_clip
from runtime.clips.plan import Cut, merge_cuts, name_clips, overlapping_at_most
from runtime.common.files import atomic_path
from runtime.common.names import path_in
from runtime.errors import AfsdError, VideoError
from runtime.video.readers.base import Frame

REEL = "reel"
"""Name of the file of a reel."""


@dataclass(frozen=True)
class Source:
    """Holds a video and the cuts of it, in the order of starts."""

    name: str
    path: Path
    cuts: tuple[Cut, ...]


@dataclass(frozen=True)
class Clip:
    """Holds a file that was written."""

    path: Path
    early_s: float
    """Seconds by which it begins before the cut: where it was copied, at the key frame before."""


def write_clips(
    source: Source, folder: Path, taken: set[str] | None = None, *, exact: bool = False, overwrite: bool = False
) -> list[Clip]:
    """Write a file for each cut of a video.

    Args:
        source: the video and its cuts.
        folder: folder of the clips.
        taken: names of the clips of other videos in the folder, to which this video's are added; two names of videos
            may become the same in a file's name, as "a b" and "a_b" do. None: there are no others.
        exact: encode anew, so that a clip begins and ends at the frame; else packets are copied.
        overwrite: write over files that are no clips of this project.

    Raises:
        VideoError: the video cannot be read, or none of its cuts lies within it.
        InputError: a file of others is there; nothing was written.
        OSError: a file cannot be written.
    """
    if not source.cuts:
        return []
    names = name_clips(source.name, source.cuts, set() if taken is None else taken)
    index = None if exact else index_packets(source.path)
    suffix = SUFFIX if index is None else index.suffix
    paths = {cut.number: path_in(folder, name, suffix) for cut, name in zip(source.cuts, names, strict=True)}
    if not overwrite:
        for path in paths.values():
            require_own_clip(path)
    clips = _encode_clips(source, paths) if index is None else _copy_clips(source, index, paths)
    if not clips:
        raise VideoError(
            f"{source.path}: ends before the first cut, at {source.cuts[0].start_s:.1f} s; is it the right video?"
        )
    return clips


def _part(source: Source, cut: Cut) -> str:
    return f"{source.name}, {cut.start_s:.3f} – {cut.end_s:.3f} s"


def _copy_clips(source: Source, index: PacketIndex, paths: dict[int, Path]) -> list[Clip]:
    clips = []
    for cut in source.cuts:
        if cut.start_s >= index.end_s:
            continue
        metadata = describe_clip(_part(source, cut), cut.labels)
        with atomic_path(paths[cut.number]) as unfinished, CopyWriter(unfinished, metadata) as writer:
            early = writer.add(index, cut.start_s, cut.end_s)
        clips.append(Clip(paths[cut.number], early))
    return clips


def _encode_clips(source: Source, paths: dict[int, Path]) -> list[Clip]:
    sound = has_sound(source.path)
    clips: list[Clip] = []
    for group in overlapping_at_most(source.cuts, MOST_OPEN):
        with ExitStack() as files:
            parts = []
            for cut in group:
                stack = ExitStack()
                files.push(stack)  # what is still open when an error comes is given up
                parts.append(Part(cut.start_s, cut.end_s, _opener(source, cut, paths, sound, stack), stack.close))
            encode_parts(source.path, parts)
        clips += [
            Clip(paths[cut.number], 0.0) for cut, part in zip(group, parts, strict=True) if part.encoder is not None
        ]
    return clips


def _opener(
    source: Source, cut: Cut, paths: dict[int, Path], sound: bool, stack: ExitStack
) -> Callable[[Frame, float | None], Encoder]:
    """Return the function that opens the file of a cut."""

    def open_encoder(image: Frame, fps: float | None) -> Encoder:
        unfinished = stack.enter_context(atomic_path(paths[cut.number]))
        metadata = describe_clip(_part(source, cut), cut.labels)
        size = (image.shape[1], image.shape[0])
        return stack.enter_context(Encoder(unfinished, size, fps, metadata, sound=sound))

    return open_encoder


def write_reel(
    sources: Sequence[Source],
    folder: Path,
    on_failure: Callable[[Source, AfsdError], None],
    *,
    exact: bool = False,
    overwrite: bool = False,
) -> Clip:
    """Write the cuts of all videos one behind the other into one file; cuts that overlap show once.

    Args:
        sources: the videos and their cuts, in the order of the reel.
        folder: folder of the file, reel.mp4 or, of copied packets, of the first video's kind.
        on_failure: called with each video that cannot be cut; the others go on.
        exact: encode anew, at the size of the first video; else packets are copied, and the videos must be coded alike.
        overwrite: write over a file that is no clip of this project.

    Returns:
        The file, and by how much the cut that is furthest from its key frame begins early.

    Raises:
        VideoError: none of the videos could be cut.
        InputError, OSError: as for `write_clips`.
    """
    ready: list[tuple[Source, PacketIndex | None, bool]] = []
    for source in (source for source in sources if source.cuts):
        try:
            ready.append((source, None if exact else index_packets(source.path), exact and has_sound(source.path)))
        except AfsdError as error:
            on_failure(source, error)
    if not ready:
        raise VideoError("none of the videos could be cut, so there is no reel")
    first = ready[0][1]
    path = path_in(folder, REEL, SUFFIX if first is None else first.suffix)
    if not overwrite:
        require_own_clip(path)
    labels = tuple(dict.fromkeys(label for source, _, _ in ready for cut in source.cuts for label in cut.labels))
    metadata = describe_clip(", ".join(source.name for source, _, _ in ready), labels)
    with atomic_path(path) as unfinished, ExitStack() as stack:
        if exact:
            _encode_reel(ready, unfinished, metadata, stack, on_failure)
            early = 0.0
        else:
            early = _copy_reel(ready, unfinished, metadata, on_failure)
    return Clip(path, early)


def _copy_reel(
    ready: Sequence[tuple[Source, PacketIndex | None, bool]],
    unfinished: Path,
    metadata: dict[str, str],
    on_failure: Callable[[Source, AfsdError], None],
) -> float:
    """Copy the cuts of all videos; return the longest time by which one begins early."""
    early: list[float] = []
    with CopyWriter(unfinished, metadata) as writer:
        for source, index, _ in ready:
            assert index is not None
            try:
                for begin, cut in _merge_at_keys(source.cuts, index):
                    writer.add(index, begin, cut.end_s)
                    early.append(max(cut.start_s - begin, 0.0))
            except VideoError as error:
                on_failure(source, error)
        if not early:
            raise VideoError("none of the videos could be cut, so there is no reel")
    return max(early)


def _merge_at_keys(cuts: Sequence[Cut], index: PacketIndex) -> list[tuple[float, Cut]]:
    """Return each cut with the time of the key frame at which it begins; cuts that overlap so are one."""
    found: list[tuple[float, Cut]] = []
    for cut in merge_cuts([cut for cut in cuts if cut.start_s < index.end_s]):
        begin = index.key_before(cut.start_s).time_s
        if found and begin < found[-1][1].end_s:
            begin, before = found.pop()
            cut = merge_cuts([before, Cut(before.end_s, cut.end_s, cut.labels, cut.number)])[0]
        found.append((begin, cut))
    return found


def _encode_reel(
    ready: Sequence[tuple[Source, PacketIndex | None, bool]],
    unfinished: Path,
    metadata: dict[str, str],
    stack: ExitStack,
    on_failure: Callable[[Source, AfsdError], None],
) -> None:
    encoders: list[Encoder] = []
    sound = any(has for _, _, has in ready)

    def open_encoder(image: Frame, fps: float | None) -> Encoder:
        if not encoders:
            size = (image.shape[1], image.shape[0])
            encoders.append(stack.enter_context(Encoder(unfinished, size, fps, metadata, sound=sound)))
        return encoders[0]

    for source, _, _ in ready:
        parts = [Part(cut.start_s, cut.end_s, open_encoder, lambda: None) for cut in merge_cuts(source.cuts)]
        try:
            encode_parts(source.path, parts)
        except VideoError as error:
            on_failure(source, error)
    if not encoders:
        raise VideoError("none of the videos could be cut, so there is no reel")
