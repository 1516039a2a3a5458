"""Hold what the Python models of a repository are told: parameters of config.pbtxt, as text, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from runtime.common.mappings import StructureError, from_mapping, to_mapping
from runtime.common.ranges import Count, Range, Seconds, check_ranges
from runtime.common.text import one_line
from runtime.detector import DetectorOptions
from runtime.errors import ConfigError

Bytes = Annotated[int, Range(1, 2**40, what="bytes")]

MIB = 1 << 20


@dataclass(frozen=True)
class Settings:
    """Holds the settings of the Python models; all lie in config.pbtxt, where they may be changed."""

    engine: str
    """File of the engine in the version's folder; with `network` that of its ModelSpec (.json)."""
    flow_engine: str = ""
    """The same of the flow model beside an RGB one; empty: none."""
    backbone: str = ""
    """The same of the backbone on RGB that makes the features of a model on features; empty: none."""
    flow_backbone: str = ""
    """The same of the backbone on flow."""
    network: str = ""
    """Begin of the names of the models of this server that run the networks; empty: the Python model runs them."""
    device: str = "auto"
    """Device of the engine, as for `open_engine`, where the instance is on the CPU; on a GPU it is the instance's."""
    threads: Count | None = None
    """CPU threads of the engine of one instance; None: all cores."""
    precision: Literal["fp32", "bf16"] | None = None
    """OpenVINO only: see `EngineOptions.precision`."""
    detector: DetectorOptions = field(default_factory=DetectorOptions)
    """Options of the detector."""
    root: str = ""
    """Folder below which PATH is read; empty: no path is."""
    url_prefixes: tuple[str, ...] = ()
    """Beginnings of the addresses that URL may have; none: no address is read."""
    max_bytes: Bytes = 512 * MIB
    """Largest VIDEO, and largest FRAMES of a request."""
    max_video_s: Seconds = 12 * 3600.0
    """Longest video in seconds."""
    max_processing_s: Seconds = 4 * 3600.0
    """Longest time in seconds that an instance gives one video."""
    max_sequences: Count = 64
    """Most sequences that an instance of the stream model follows at a time."""
    max_held_bytes: Bytes = 4096 * MIB
    """Most bytes of chunks that an instance of the stream model holds at a time; one too many ends its sequence."""
    idle_s: Seconds = 300.0
    """Longest wait for the next chunk of a sequence, which then ends."""

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def model(self) -> str:
        """Name of the model in results: the engine's file, or the server's model that runs it."""
        return f"{self.network}_network" if self.network else self.engine


def to_parameters(settings: Settings) -> list[dict[str, object]]:
    """Return the settings as the field `parameters` of a model's configuration: texts as they are, the rest as JSON.

    Those that are empty or None are left out.
    """
    entries = {name: value for name, value in to_mapping(settings).items() if value not in ("", None)}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in entries.items()}
    return [{"key": name, "value": {"string_value": text}} for name, text in texts.items()]


def from_parameters(parameters: Mapping[str, Mapping[str, str]], model: str) -> Settings:
    """Read the settings from the parameters of a model's configuration as Triton hands it over.

    Names in capitals are the server's own.

    Args:
        parameters: name → {"string_value": text}.
        model: name of the model, for errors.

    Raises:
        ConfigError: a parameter is unknown, missing or does not fit.
    """
    texts = {name for name, default in ((f.name, f.default) for f in fields(Settings)) if isinstance(default, str)}
    values: dict[str, Any] = {}
    for name, entry in parameters.items():
        if name.isupper():
            continue
        text = entry.get("string_value", "")
        try:
            values[name] = text if name in texts or name == "engine" else json.loads(text)
        except ValueError as error:
            raise ConfigError(
                f"{model}/config.pbtxt: the parameter {name} is {text!r}, which is no JSON ({one_line(error)}); write "
                "the repository again with afsd triton"
            ) from None
    try:
        return from_mapping(Settings, values)
    except StructureError as error:
        raise ConfigError(f"{model}/config.pbtxt: parameter {error}; write it again with afsd triton") from None
