"""Make the configurations of a repository's models from the ModelSpec: what Triton reads as config.pbtxt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runtime.common.ranges import Count, Number, Seconds, check_ranges
from runtime.engines.artifact import Artifact
from runtime.engines.options import EngineOptions
from runtime.errors import InputError
from runtime.spec.tensors import BATCH, TensorSpec
from runtime.triton.pbtxt import Enum, Message
from runtime.triton.settings import Settings, to_parameters

TYPES = {"uint8": "TYPE_UINT8", "int32": "TYPE_INT32", "float32": "TYPE_FP32"}
BACKENDS = {
    ".onnx": ("onnxruntime", "model.onnx"),
    ".xml": ("openvino", "model.xml"),
    ".engine": ("tensorrt", "model.plan"),
    ".plan": ("tensorrt", "model.plan"),
}
"""Backend of Triton that runs a file, and the name that the backend expects, by suffix."""
PYTHON = "python"
LENGTHS = "lengths"
"""Input with the valid frames of each window, and the file with that of the warm-up."""
PLACES = 4096
"""Sequences that Triton hands to an instance of the stream model, which itself refuses those that are too many: the
server has no bound on what it holds of sequences without a place, as its schema has none for sequences."""


@dataclass(frozen=True)
class Placement:
    """Holds where the instances of the models run, and how much may wait."""

    device: str = "auto"
    """"cpu", or one or several GPUs as in "gpu:0,gpu:1"; "auto": gpu:0 for a TensorRT engine, else the CPU."""
    instances: Count = 1
    """Instances of each model on the CPU, or on each GPU."""
    max_batch: Count = 8
    """Largest batch of windows that Triton makes for a network of its own."""
    delay_us: Number = 0
    """Microseconds for which Triton waits for more windows of a batch."""
    queue: Count = 64
    """Videos, and windows, that may wait; what comes then is refused."""
    wait_s: Seconds | None = None
    """Longest time in seconds that a request waits; then it is refused. None: any."""

    def __post_init__(self) -> None:
        check_ranges(self)
        kinds = {EngineOptions(device=one).device_kind for one in self.device.split(",")}
        if len(kinds) > 1 or ("," in self.device and kinds != {"gpu"}):
            raise InputError(f"--device: got {self.device!r}, expected cpu, or GPUs as in gpu:0,gpu:1")

    def gpus(self, suffix: str) -> list[int]:
        """Return the numbers of the GPUs on which an engine file of a suffix runs; empty: the CPU."""
        options = [EngineOptions(device=one) for one in self.device.split(",")]
        if options[0].device_kind == "auto":
            return [0] if suffix in (".engine", ".plan") else []
        return [one.device_index for one in options] if options[0].device_kind == "gpu" else []


def instance_group(placement: Placement, suffix: str) -> list[Message]:
    """Return the field of the same name; `suffix` is that of the engine file, empty for the CPU alone."""
    gpus = placement.gpus(suffix) if suffix else []
    kind: dict[str, object] = {"count": placement.instances, "kind": Enum("KIND_GPU" if gpus else "KIND_CPU")}
    return [{**kind, "gpus": gpus} if gpus else kind]


def batching(placement: Placement, *, joins: bool) -> Message:
    """Return the field `dynamic_batching`, which bounds what waits; without `joins` each request stays alone."""
    policy: dict[str, object] = {"max_queue_size": placement.queue}
    if placement.wait_s is not None:
        policy["default_timeout_microseconds"] = round(placement.wait_s * 1e6)
        policy["allow_timeout_override"] = True  # for less: a client's own parameter "timeout"
    delay: dict[str, object] = {"max_queue_delay_microseconds": placement.delay_us} if joins else {}
    return {**delay, "default_queue_policy": policy}


def largest_batch(artifact: Artifact, placement: Placement) -> int:
    """Return how many windows Triton may join for a network; 0: none, since its batch is of one size."""
    profile = placement.max_batch if artifact.build is None else artifact.build.batch[2]
    tensors = (*artifact.spec.inputs, *artifact.spec.outputs)
    joins = all(tensor.shape[0] == BATCH for tensor in tensors) and profile > 1
    return min(placement.max_batch, profile) if joins else 0


def network_config(name: str, artifact: Artifact, placement: Placement, settings: Settings | None) -> Message:
    """Return the configuration of a network alone: windows in, raw outputs out, joined to batches.

    Args:
        name: name of the model.
        artifact: the engine file.
        placement: where it runs.
        settings: what a Python model is told that runs the engine; None: the backend of the file does.
    """
    backend, file = BACKENDS[artifact.path.suffix.lower()]
    most = largest_batch(artifact, placement)
    batched = most > 0
    config: dict[str, object] = {"name": name, "backend": PYTHON if settings else backend}
    if settings is None:
        config["default_model_filename"] = file
    config["max_batch_size"] = most
    config["input"] = [_tensor(tensor, batched) for tensor in artifact.spec.inputs]
    config["output"] = [_tensor(tensor, batched) for tensor in artifact.spec.outputs]
    config["dynamic_batching"] = batching(placement, joins=batched)
    config["instance_group"] = instance_group(placement, artifact.path.suffix.lower())
    config["version_policy"] = {"latest": {"num_versions": 1}}
    config["model_warmup"] = [
        {
            "name": "one window",
            "batch_size": 1,
            "inputs": [{"key": one.name, "value": _warm_up(one, batched)} for one in artifact.spec.inputs],
        }
    ]
    if settings is not None:
        config["parameters"] = to_parameters(settings)
    return config


def video_config(name: str, settings: Settings, placement: Placement, suffix: str) -> Message:
    """Return the configuration of the model of whole videos."""
    return {
        "name": name,
        "backend": PYTHON,
        "max_batch_size": 0,
        "input": [
            {"name": "VIDEO", "data_type": Enum("TYPE_UINT8"), "dims": [-1], "optional": True},
            {"name": "PATH", "data_type": Enum("TYPE_STRING"), "dims": [1], "optional": True},
            {"name": "URL", "data_type": Enum("TYPE_STRING"), "dims": [1], "optional": True},
            {"name": "NAME", "data_type": Enum("TYPE_STRING"), "dims": [1], "optional": True},
            {"name": "FPS", "data_type": Enum("TYPE_FP32"), "dims": [1], "optional": True},
        ],
        "output": _FOUND,
        "dynamic_batching": batching(placement, joins=False),
        "instance_group": instance_group(placement, suffix),
        "version_policy": {"latest": {"num_versions": 1}},
        "parameters": to_parameters(settings),
    }


def stream_config(name: str, settings: Settings, placement: Placement, suffix: str) -> Message:
    """Return the configuration of the model of frame chunks: a sequence per stream, any number of responses."""
    return {
        "name": name,
        "backend": PYTHON,
        "max_batch_size": 0,
        "model_transaction_policy": {"decoupled": True},
        "input": [
            {"name": "FRAMES", "data_type": Enum("TYPE_UINT8"), "dims": [-1, -1, -1, 3]},
            {"name": "FPS", "data_type": Enum("TYPE_FP32"), "dims": [1], "optional": True},
        ],
        "output": _FOUND,
        "sequence_batching": {
            "max_sequence_idle_microseconds": round(settings.idle_s * 1e6),
            "oldest": {"max_candidate_sequences": max(PLACES, settings.max_sequences)},
            "control_input": [
                _control("START", "CONTROL_SEQUENCE_START"),
                _control("END", "CONTROL_SEQUENCE_END"),
                {
                    "name": "CORRID",
                    "control": [{"kind": Enum("CONTROL_SEQUENCE_CORRID"), "data_type": Enum("TYPE_UINT64")}],
                },
            ],
        },
        "instance_group": instance_group(placement, suffix),
        "version_policy": {"latest": {"num_versions": 1}},
        "parameters": to_parameters(settings),
    }


def _control(name: str, kind: str) -> Message:
    return {"name": name, "control": [{"kind": Enum(kind), "fp32_false_true": [0, 1]}]}


_FOUND: Sequence[Message] = (
    {"name": "LABELS", "data_type": Enum("TYPE_STRING"), "dims": [-1]},
    {"name": "SCORES", "data_type": Enum("TYPE_FP32"), "dims": [-1]},
    {"name": "SEGMENTS", "data_type": Enum("TYPE_FP32"), "dims": [-1, 2]},
    {"name": "JSON", "data_type": Enum("TYPE_STRING"), "dims": [1]},
)
"""Outputs of the models that detect."""


def _tensor(tensor: TensorSpec, batched: bool) -> Message:
    """Return the description of an input or output; without a size of its own it is a column, reshaped to none."""
    dims = _dims(tensor, batched)
    described: dict[str, object] = {"name": tensor.name, "data_type": Enum(TYPES[tensor.dtype]), "dims": dims or [1]}
    return described if dims else {**described, "reshape": {"shape": []}}


def _dims(tensor: TensorSpec, batched: bool) -> list[int]:
    sizes = [1 if isinstance(size, str) else size for size in tensor.shape]  # an open batch that is never joined: 1
    return sizes[1:] if batched else sizes


def _warm_up(tensor: TensorSpec, batched: bool) -> Mapping[str, object]:
    filled: Message = {"input_data_file": LENGTHS} if tensor.name == LENGTHS else {"zero_data": True}
    return {"data_type": Enum(TYPES[tensor.dtype]), "dims": _dims(tensor, batched) or [1], **filled}
