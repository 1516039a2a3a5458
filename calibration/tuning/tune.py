"""Fine-tune the checkpoint behind an ONNX file for its own quantised graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from calibration.quantise.placement import Placement
from calibration.ranges.choose import Quantiser
from calibration.tuning.fake_quantisation import InputQuantiser, Layers
from calibration.tuning.fine_tune import Tuning, fine_tune
from export.graph.files import load_graph
from export.to_onnx import export_onnx
from runtime.errors import InputError
from runtime.spec.model import ModelSpec
from training.checkpoints.files import load_checkpoint


def tune(
    placement: Placement,
    spec: ModelSpec,
    quantisers: Mapping[str, Quantiser],
    kept: Collection[str],
    options: Tuning,
    out: Path,
    say: Callable[[str], None],
) -> Placement:
    """Fine-tune the network with rounding emulated and return the placement of the result, for the same quantisers.

    The folder <out>.tuning receives the run, the tuned checkpoint (last.ckpt) and its float ONNX file.

    Args:
        placement: placement of the float network.
        spec: ModelSpec of the network.
        quantisers: quantiser of every point by name.
        kept: names of layers that stay in floating point.
        options: checkpoint, data and length of the run.
        out: quantised ONNX file that is written later.
        say: receives progress.

    Raises:
        InputError: the network was not exported from the checkpoint.
        ConfigError, AnnotationError, VideoError: see `fine_tune`.
    """
    if load_checkpoint(options.checkpoint).sha256 != spec.checkpoint_sha256:
        raise InputError(
            f"{options.checkpoint}: is not the checkpoint that the ONNX file was exported from (SHA-256 "
            f"{spec.checkpoint_sha256[:12]}); give that one, or export this one"
        )
    folder = out.with_name(f"{out.name}.tuning")
    overrides = [f"data.root={options.data}"] if options.data else []
    say(f"fine-tuning for {options.run.steps} steps in {folder}")
    checkpoint = fine_tune(
        options.checkpoint, make_input_quantisers(placement, quantisers, kept), folder, options.run, overrides=overrides
    )
    after = Placement(load_graph(export_onnx(checkpoint, folder / "tuned.onnx", say=say)), str(folder / "tuned.onnx"))
    if {point.name for point in after.points} != {point.name for point in placement.points}:
        raise InputError(f"{checkpoint}: its graph has other points than the ONNX file; export that one again first")
    return after


def make_input_quantisers(placement: Placement, quantisers: Mapping[str, Quantiser], kept: Collection[str]) -> Layers:
    """Return the quantisers by state-dict name of the weight and length of the input, as training needs them."""
    layers: dict[str, dict[int, InputQuantiser]] = {}
    for node, layer in placement.layer_of.items():
        if layer.name in kept:
            continue
        q = quantisers[placement.point_of[node].name]
        length = placement.shapes[placement.convolutions[node].input[0]][2]
        name = layer.weight.removeprefix("model.")
        layers.setdefault(name, {})[length] = InputQuantiser(q.scale, q.zero_point, q.lowest, q.highest)
    return layers
