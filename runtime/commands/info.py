"""Run `afsd info MODEL`: what a model is, and whether its files are whole."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from runtime.commands.evaluation.seen_videos import describe_training_videos
from runtime.common.console import print_json
from runtime.common.files import describe_mode, exists
from runtime.common.mappings import to_mapping
from runtime.common.text import printable
from runtime.engines.artifact import READERS, read_artifact
from runtime.engines.registry import extra_of
from runtime.errors import EngineError, SpecError, import_failure
from runtime.spec.model import ModelSpec

ARTIFACTS_GROUP = "afsd.artifacts"
"""Entry-point group through which other packages describe their files: the name is a suffix without its dot, the value
a function `describe(path, *, verify) -> dict` with the keys of `describe_engine`."""


def add_info(subparsers: Any) -> None:
    """Add the verb `info`."""
    parser = subparsers.add_parser(
        "info",
        epilog="examples:\n  afsd info model.xml\n  afsd info model.engine --verify --json\n",
        help="what a model is, and whether its files are whole",
        description="Prints what an engine file or checkpoint is: network, classes, rate, window, precision, sizes, "
        "digest, and what it was made from and with. The network is not loaded.",
    )
    parser.add_argument(
        "model", metavar="MODEL", type=Path, help=".onnx, .xml, .engine, .plan, .ckpt, .pth or .safetensors file"
    )
    parser.add_argument("--verify", action="store_true", help="compare all files of the model with its digest")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(func=info)


def info(arguments: argparse.Namespace) -> int:
    """Run the verb."""
    path: Path = arguments.model
    facts = find_description(path)(path, verify=arguments.verify)
    if arguments.json:
        print_json(facts, indent=1)
    else:
        if facts["sha256"] and not arguments.verify:
            facts["sha256"] += " (as the file says)"
        width = max(map(len, facts)) + 1
        for name, value in facts.items():
            if value not in ("", None, {}, []):
                print(f"{name:<{width}} {printable(_words(value))}")
    if arguments.verify and not facts["sha256"]:
        raise SpecError(f"{path}: carries no digest, so nobody can tell whether it is whole; export it again")
    return 0


def find_description(path: Path) -> Callable[..., dict[str, Any]]:
    """Return the function that describes files of a path's suffix (EngineError: there is no file, or no function)."""
    suffix = path.suffix.lower()
    entry = next(iter(entry_points(group=ARTIFACTS_GROUP, name=suffix[1:])), None)
    if suffix not in READERS and entry is None:
        raise EngineError(f"{path}: not a model; expected a file ending in {', '.join(READERS)}, .ckpt or .safetensors")
    if not path.is_file():
        what = f"{describe_mode(path.stat().st_mode)}, no file" if exists(path) else "file not found"
        raise EngineError(f"{path}: {what}; expected a model")
    if suffix in READERS:
        return describe_engine
    assert entry is not None
    try:
        found: Callable[..., dict[str, Any]] = entry.load()
    except ImportError as error:
        raise import_failure(error, "", extra_of(entry), f"reading a {suffix} file") from None
    return found


def describe_engine(path: Path, *, verify: bool) -> dict[str, Any]:
    """Return what an engine file says about itself.

    Raises:
        SpecError, EngineError: see `read_artifact`.
    """
    found = read_artifact(path, verify=verify)
    return {
        **describe_spec(found.spec),
        "files": {file.name: file.stat().st_size for file in found.files},
        **describe_digest(found.sha256, verify=verify),
        "build": to_mapping(found.build) if found.build is not None else {},
    }


def describe_digest(sha256: str, *, verify: bool) -> dict[str, str]:
    """Return the digest of a model that has been read, and whether it was verified."""
    state = "yes" if verify else "no, --verify does"
    return {"sha256": sha256, "verified": state if sha256 else "no digest: a model of an older release"}


def describe_spec(spec: ModelSpec) -> dict[str, Any]:
    """Return what a ModelSpec says about its model, in the order of the questions that one has."""
    unit = "steps" if spec.stream == "features" else "frames"
    quantised = spec.quantization
    return {
        "family": spec.family,
        "stream": spec.stream,
        "classes": list(spec.classes),
        **describe_card(spec),
        "fps": spec.sample_fps,
        "sampling": spec.sampling,
        "window": f"{spec.window_length} {unit} every {spec.window_stride}",
        "frames": ""
        if spec.stream == "features"
        else f"{_size(spec.frame_size)} pixels, cropped {_size(spec.crop_size)}",
        "streaming": "" if spec.streaming is None else f"each frame once, features {spec.streaming.delay} frames late",
        "precision": spec.precision,
        "quantisation": f"{quantised.method} on {quantised.clips} clips for {quantised.target}" if quantised else "",
        "multiply_adds": spec.multiply_adds,
        "inputs": {tensor.name: f"{tensor.dtype} {list(tensor.shape)}" for tensor in spec.inputs},
        "outputs": {tensor.name: f"{tensor.dtype} {list(tensor.shape)}" for tensor in spec.outputs},
        "trained_on": describe_training_videos(spec.training_videos),
        "made_from": spec.checkpoint_sha256,
        "made_with": spec.made_with,
        "schema": spec.schema,
    }


def describe_card(spec: ModelSpec) -> dict[str, Any]:
    """Return what a model says of itself to people; nothing that nobody has said."""
    card, facts = spec.card, {}
    for name in ("data", "trained", "licence", "demonstration", "note"):
        if value := getattr(card, name):
            facts[name] = f"knows {value} and nothing else" if name == "demonstration" else value
    if card.average_map is not None:
        tious = ", ".join(f"{tiou:g}" for tiou in card.tious)
        judged_on = f" on {card.judged_on}" if card.judged_on else ""
        facts["average_mAP"] = f"{card.average_map:.4f} over tIoU {tious}{judged_on}"
    if spec.operating_point is not None:
        judged_on = f" of {spec.operating_point.judged_on}" if spec.operating_point.judged_on else ""
        facts["threshold"] = f"{spec.operating_point} ({spec.operating_point.instances} instances{judged_on})"
    return facts


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _words(value: Any) -> str:
    """Return a fact as one line of text."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    if isinstance(value, list):
        between = "; " if value and isinstance(value[0], dict) else ", "
        return f"{len(value)}: {between.join(_words(i) if isinstance(i, dict) else str(i) for i in value)}"
    return f"{value:,}" if isinstance(value, int) else str(value)
