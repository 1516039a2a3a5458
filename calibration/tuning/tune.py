"""Fine-tune the checkpoint behind an ONNX file for its own quantised graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import onnx

from calibration.quantise.placement import Layout
from calibration.ranges.choose import Quantiser
from calibration.tuning.fake_quantisation import InputQuantiser, Layers
from calibration.tuning.fine_tune import Tuning, fine_tune
from export.to_onnx import export_onnx
from runtime.errors import InputError
from runtime.spec.model import ModelSpec
from training.checkpoints.files import load_checkpoint


def tuned(
    layout: Layout,
    spec: ModelSpec,
    quantisers: Mapping[str, Quantiser],
    kept: Collection[str],
    options: Tuning,
    out: Path,
    say: Callable[[str], None],
) -> Layout:
    """Train on with the rounding in place and give the layout of what came of it, to be quantised alike.

    Beside <out>, the folder <out>.tuning receives the run, the tuned checkpoint (last.ckpt) and its float ONNX file.

    Args:
        layout: of the float network.
        spec: of the network.
        quantisers: of every point.
        kept: layers that stay in floating point.
        options: checkpoint, data and length of the run.
        out: ONNX file that will be written.
        say: receives progress.

    Raises:
        InputError: the checkpoint is not the network's.
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
        options.checkpoint, input_quantisers(layout, quantisers, kept), folder, options.run, overrides=overrides
    )
    after = Layout(onnx.load(export_onnx(checkpoint, folder / "tuned.onnx", say=say)), str(folder / "tuned.onnx"))
    if {point.name for point in after.points} != {point.name for point in layout.points}:
        raise InputError(f"{checkpoint}: its graph has other points than the ONNX file; export that one again first")
    return after


def input_quantisers(layout: Layout, quantisers: Mapping[str, Quantiser], kept: Collection[str]) -> Layers:
    """Quantisers by state-dict name of the weight and length of the input, as training needs them."""
    layers: dict[str, dict[int, InputQuantiser]] = {}
    for node, layer in layout.layer_of.items():
        if layer.name in kept:
            continue
        q = quantisers[layout.point_of[node].name]
        length = layout.shapes[layout.convolutions[node].input[0]][2]
        name = layer.weight.removeprefix("model.")
        layers.setdefault(name, {})[length] = InputQuantiser(q.scale, q.zero_point, q.lowest, q.highest)
    return layers
