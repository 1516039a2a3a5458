"""Build the arrays of a data set on Ray: a pool of actors, on one machine or on a cluster."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from pathlib import Path

from runtime.errors import AfsdError, VideoError
from runtime.fleet.options import FleetOptions
from runtime.fleet.outcome import Work
from runtime.fleet.places import first_relative, require_shared, shared_folder
from runtime.fleet.running import connected, run_on_actors
from training.stores.frame_store import StoredVideo
from training.stores.store_building import BuildOne, attempt_build


class StoreWorker:
    """Builds arrays in an actor."""

    def __init__(self, build: BuildOne, mark: str) -> None:
        """Take the function that builds an array; `mark` lies in the folder of the data set (see `shared_folder`)."""
        require_shared(mark)
        self._build = build

    def work(self, item: tuple[str, Path]) -> Work:
        """Build the array of a video (name, file)."""
        _, stored = attempt_build(self._build, item)
        if isinstance(stored, AfsdError):
            raise stored
        return Work("done", stored)


def build_on_ray(
    fleet: FleetOptions, out: Path, build: BuildOne, todo: Mapping[str, Path]
) -> Generator[tuple[str, StoredVideo | AfsdError], None, None]:
    """Build the arrays of videos in actors and yield each when it is complete, or what keeps it from being built.

    Args:
        fleet: see `FleetOptions`.
        out: folder of the data set, which every machine sees, as it sees the videos.
        build: function that builds an array.
        todo: files of the videos, by name.

    Raises:
        InputError: an actor does not see the folder; more than `max_errors` videos failed.
        MissingDependencyError: Ray is not installed.
        AfsdError: Ray lost the job.
    """
    items = list(todo.items())
    relative = first_relative([out, *todo.values()])
    with (
        shared_folder(out) as mark,
        connected(fleet.address),
        closing(
            run_on_actors(items, StoreWorker, {"build": build, "mark": mark}, fleet, relative=relative)
        ) as outcomes,
    ):
        for outcome in outcomes:
            name, _ = items[outcome.key]
            yield name, VideoError(outcome.work.error) if outcome.work.state == "failed" else outcome.work.content
