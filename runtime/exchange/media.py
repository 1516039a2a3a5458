"""Look up what a file of segments leaves open in the videos themselves: frame rate, length, size of the picture."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.errors import InputError, VideoError
from runtime.exchange.record import VideoSegments
from runtime.video.names import find_video
from runtime.video.readers.choice import open_reader
from runtime.video.sampling import MAX_FPS


@dataclass(frozen=True)
class FileFacts:
    """Holds what a video's file says about itself."""

    path: Path
    duration_s: float | None
    fps: float | None
    """Mean rate; frame numbers of a video whose rate varies are those of this rate, not counted frames."""
    size: tuple[int, int] | None


class VideoFolder:
    """Finds the videos of a folder by their names, and opens each at most once."""

    def __init__(self, folder: Path | None) -> None:
        """Take a folder; None: nothing is found."""
        self._folder = folder
        self._facts: dict[str, FileFacts | None] = {}
        self.missing: list[str] = []
        """Names of the videos that were looked for and not found, or cannot be opened."""

    def find(self, name: str) -> FileFacts | None:
        """Return the facts of a video; None if no file of its name is there, or can be."""
        if self._folder is None:
            return None
        if name not in self._facts:
            try:
                self._facts[name] = read_facts(find_video(self._folder, name))
            except (VideoError, InputError):  # the name may be none that a file can have
                self._facts[name] = None
                self.missing.append(name)
        return self._facts[name]

    def complete(self, video: VideoSegments) -> VideoSegments:
        """Return a video with path, length, rate and size from its file, where they were unknown."""
        facts = self.find(video.name)
        if facts is None:
            return video
        return replace(
            video,
            path=str(facts.path),
            duration_s=facts.duration_s if video.duration_s is None else video.duration_s,
            fps=facts.fps if video.fps is None else video.fps,
            size=facts.size if video.size is None else video.size,
        )


def read_facts(path: Path) -> FileFacts:
    """Read what a video says about itself (VideoError: it cannot be opened)."""
    with closing(open_reader(path)) as reader:
        duration = reader.duration
        if duration is None:
            scanned = reader.scan()
            duration = None if scanned is None else scanned[1]
        fps = reader.fps if reader.fps is not None and reader.fps < MAX_FPS else None
        size = None
        if reader.grab():
            height, width = reader.hold()().shape[:2]
            size = (width, height)
        return FileFacts(path, duration, fps, size)
