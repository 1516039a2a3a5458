"""Add the flags that run a verb on Ray, which several verbs share."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Annotated, Any

from runtime.common.files import read_json
from runtime.common.ranges import Range, require_in_range
from runtime.common.text import quote
from runtime.engines.options import EngineOptions
from runtime.errors import InputError
from runtime.fleet.options import FleetOptions

FLAGS = (
    "actors", "cpus_per_actor", "gpus_per_actor", "memory_per_actor", "resources", "runtime_env", "retries",
)  # fmt: skip
"""Flags that mean nothing without --ray."""
MOST_RESOURCES = 1e12
"""Amount that no resource reaches."""
OWN_FLAGS = {"CPU": "--cpus-per-actor", "GPU": "--gpus-per-actor", "memory": "--memory-per-actor"}
"""Resources that Ray knows, and the flags that ask for them."""
Mebibytes = Annotated[int, Range(0, 2**30, what="MiB")]


def add_ray_flags(parser: argparse.ArgumentParser) -> None:
    """Add --ray and what belongs to it as a group of its own."""
    group = parser.add_argument_group("on Ray (docs/ray.md)")
    group.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="work on a Ray cluster: its address, auto for the one that this machine belongs to, or local to start Ray "
        "on this machine alone",
    )
    group.add_argument(
        "--actors",
        metavar="N",
        help="number of actors, each with its own engines, or the least and the most as in 2-8 (1 to what there is "
        "room for)",
    )
    group.add_argument(
        "--cpus-per-actor",
        metavar="N",
        type=float,
        help="CPUs and engine threads of each actor (1; 4 for a heavy network on the CPU)",
    )
    group.add_argument("--gpus-per-actor", metavar="N", type=float, help="GPUs of each actor, such as 0.25 (0)")
    group.add_argument(
        "--memory-per-actor",
        metavar="MIB",
        type=int,
        help="memory that Ray reserves for each actor, 0: none (512; 2048 for a heavy network)",
    )
    group.add_argument(
        "--resources",
        metavar="NAME=N,…",
        help="further resources of the cluster that each actor needs, such as decoder=1 (none)",
    )
    group.add_argument(
        "--runtime-env",
        metavar="FILE",
        type=Path,
        help="Ray's runtime environment of the actors as JSON: variables, packages, code (that of the job)",
    )
    group.add_argument(
        "--retries", metavar="N", type=int, help="times that a video is begun again when its actor died (2)"
    )


def fleet_options(arguments: argparse.Namespace, **further: Any) -> FleetOptions | None:
    """Return the options of the job on Ray; None without --ray.

    Raises:
        InputError: a flag of Ray without --ray, or one out of range.
    """
    given = {name: value for name in FLAGS if (value := getattr(arguments, name)) is not None}
    if arguments.ray is None:
        if given:
            flag = f"--{next(iter(given)).replace('_', '-')}"
            raise InputError(f"{flag}: belongs to a job on Ray; give --ray ADDRESS with it, or leave it out")
        return None
    if getattr(arguments, "workers", None) is not None:
        raise InputError("--workers: are processes of this machine; with --ray give --actors in its place")
    if getattr(arguments, "stream", False):
        raise InputError("--stream prints what is final at once; leave it out with --ray, or --ray itself")
    if "actors" in given:
        given["actors"] = _parse_actors(given["actors"])
    if "memory_per_actor" in given:
        require_in_range("--memory-per-actor", given["memory_per_actor"], Mebibytes)
        given["memory_per_actor"] <<= 20
    if "resources" in given:
        given["resources"] = _parse_resources(given["resources"])
    if "runtime_env" in given:
        given["runtime_env"] = _read_environment(given["runtime_env"])
    return FleetOptions(address=arguments.ray, **given, **further)


def _parse_actors(text: str) -> int | tuple[int, int | None]:
    """Read "4", "2-8", or "2-" for a pool without a most (InputError: another form)."""
    found = re.fullmatch(r"(\d{1,6})(-(\d{1,6})?)?", text, re.ASCII)
    if found is None:
        raise InputError(f"--actors: got {quote(text)}, expected a number, or the least and the most as in 2-8")
    least = int(found[1])
    if not found[2]:
        return least
    return least, int(found[3]) if found[3] else None


def _parse_resources(text: str) -> dict[str, float]:
    """Read "decoder=1,disk=0.5" (InputError: another form, a name twice, or one that has a flag of its own)."""
    resources: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        name = name.strip()
        try:
            amount = float(number)
        except ValueError:
            amount = -1.0
        if not name or name in resources or not 0 < amount < MOST_RESOURCES:
            raise InputError(f"--resources: got {quote(text)}, expected NAME=N,… with numbers above 0, each name once")
        if name in OWN_FLAGS:
            raise InputError(f"--resources: {name} has a flag of its own; give {OWN_FLAGS[name]}")
        resources[name] = amount
    return resources


def _read_environment(path: Path) -> dict[str, Any]:
    """Read a runtime environment (InputError: unreadable, or no object); what is in it Ray checks."""
    what = 'runtime environment of Ray, such as {"env_vars": {"AWS_REGION": "eu-west-1"}}'
    environment = read_json(path, what, InputError)
    if not isinstance(environment, dict):
        raise InputError(f"--runtime-env {path}: expected a {what}")
    return environment


def engine_options(arguments: argparse.Namespace) -> EngineOptions:
    """Return how the flags of `add_engine_flags` have an engine run."""
    from runtime.engines.openvino.cache import default_folder

    return EngineOptions(
        device=arguments.device,
        threads=arguments.threads,
        precision=arguments.precision,
        provider=arguments.provider,
        cuda_graph=arguments.cuda_graph,
        mode=getattr(arguments, "mode", None) or "latency",
        cache=None if arguments.no_cache else arguments.cache or default_folder(),
        verify=not arguments.no_verify,
    )


def backbone_paths(arguments: argparse.Namespace) -> list[str]:
    """Return the paths of the backbones in the order of the features' channels.

    Raises:
        InputError: a backbone is on another stream than its flag says.
        EngineError, SpecError: it is missing, or no model.
    """
    from runtime.fleet.detection import read_spec

    paths = []
    for option, stream in (("--backbone", "rgb"), ("--flow-backbone", "flow")):
        if path := getattr(arguments, option[2:].replace("-", "_")):
            spec = read_spec(path)
            if spec.is_backbone and spec.stream != stream:  # a detector is refused later
                raise InputError(f"{option} {path}: it sees {spec.stream}, expected an engine on {stream}")
            require_library(path, arguments.library)
            paths.append(path)
    return paths


def require_library(path: str, library: str) -> None:
    """Raise an InputError unless a model's file is of the library that --library expects."""
    from runtime.engines.registry import ENGINES

    kind = ENGINES.get(Path(path).suffix.lower())
    if library != "auto" and (kind is None or kind.library != library):
        runs = "another library" if kind is None else kind.library
        raise InputError(f"--library {library}: {path} is run by {runs}; leave the flag out")
