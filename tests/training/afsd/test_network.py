"""The network against the published checkpoint's layout and the golden forwards."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.golden_network import (
    GOLDEN,
    NETWORKS,
    formula_input,
    formula_weights,
    golden_frames,
    golden_model,
    state_dict_entries,
)
from training.afsd.config import ModelConfig
from training.afsd.losses import activation_losses, boundary_activation, detection_losses, triplet_loss
from training.afsd.network import AFSD
from training.afsd.targets import assign_coarse, level_ranges
from training.config.files import load_config
from training.networks.i3d import STREAM_BORDER, Endpoints
from training.networks.layers import SamePool3d, same_padding
from training.networks.normalisation import normalise

SMALL = ModelConfig(
    num_classes=4, clip_length=128, crop_size=32, backbone_multiplier=0.125, head_channels=64, freeze_batch_norm=False
)

SPANS = ((0.1, 0.3), (0.25, 0.8), (0.5, 0.52))
"""Instances of the second golden set."""


@pytest.mark.parametrize("network", NETWORKS)
def test_state_dict_is_the_published_one(network: str) -> None:
    with torch.device("meta"):
        state = AFSD(load_config(NETWORKS[network]).model).state_dict()
    found = [(k, tuple(v.shape), str(v.dtype).removeprefix("torch.")) for k, v in state.items()]
    assert found == state_dict_entries(network)
    assert len(found) == 442


@pytest.mark.parametrize(
    ("network", "total"),
    [
        ("thumos14_rgb", 44_746_069),
        ("thumos14_flow", 44_724_117),
        ("anet_rgb", 30_158_127),
        ("anet_flow", 30_136_175),
    ],
)
def test_parameter_count(network: str, total: int) -> None:
    with torch.device("meta"):
        model = AFSD(load_config(NETWORKS[network]).model)
    assert sum(p.numel() for p in model.parameters()) == total
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == total - 14_560


@pytest.mark.parametrize(
    "network",
    [
        "thumos14_rgb",
        pytest.param("thumos14_flow", marks=pytest.mark.slow),
        pytest.param("anet_flow", marks=pytest.mark.slow),
        pytest.param("anet_rgb", marks=pytest.mark.slow),  # the second golden set has its outputs, too
    ],
)
def test_forward_is_the_golden_one(network: str) -> None:
    golden = np.load(GOLDEN / f"{network}.npz")
    model = golden_model(network)
    frames = golden_frames(model.config.clip_length, model.config.in_channels)
    assert zlib.crc32(frames.tobytes()) == golden["frames_crc32"]
    assert np.array_equal(
        model.coarse_pyramid_detection.priors.numpy(), golden["priors"].reshape(golden["loc"].shape[1], -1)[:, 0]
    )
    clip = normalise(torch.from_numpy(frames.copy()).permute(3, 0, 1, 2)[None])
    samples = {}
    for name, layer in model.backbone._model.named_children():
        layer.register_forward_hook(lambda _, __, value, name=name: samples.update({name: _sample(value[0].numpy())}))
    with torch.inference_mode():
        output, boundary, _ = model.detect(clip)
    for name in ("Conv3d_1a_7x7", "Conv3d_2c_3x3", "Mixed_3c", "Mixed_4f", "Mixed_5c"):
        assert _relative(samples[name], golden[f"backbone_{name}_sample"]) < 1e-4
    assert boundary is not None
    for name, feature in zip(("", "_loc_prop", "_conf_prop"), boundary, strict=True):
        for side, half in zip(("start", "end"), feature.chunk(2, dim=1), strict=True):
            assert _relative(half[0].T[::16, ::16].numpy(), golden[f"{side}{name}_sample"]) < 1e-4
    assert _relative(output.loc.numpy(), golden["loc"]) < 1e-4
    assert _relative(output.conf.numpy(), golden["conf"]) < 1e-4
    for name in ("prop_loc", "prop_conf", "center"):
        difference = np.abs(getattr(output, name).numpy() - golden[name]).max(-1)
        assert (difference > 1e-3 * np.abs(golden[name]).max()).sum() <= 4, name  # moved by rounding a region


@pytest.mark.parametrize(
    ("network", "loc_bias"),
    [
        pytest.param("thumos14_rgb", 3.0, marks=pytest.mark.slow),
        pytest.param("anet_rgb", 1.5, marks=pytest.mark.thorough),
        pytest.param("thumos14_flow", 3.0, marks=pytest.mark.slow),  # the losses know nothing of the stream
    ],
)
def test_second_golden_set_with_all_losses(network: str, loc_bias: float) -> None:
    golden = np.load(GOLDEN / f"formula_{network}.npz")
    config = load_config(NETWORKS[network], ["loss.triplet_divisors=reference"])
    frames = config.model.clip_length
    model = AFSD(config.model).eval()
    model.load_state_dict(formula_weights(model, loc_bias))
    clip = formula_input((1, config.model.in_channels, frames, 96, 96))
    labels = [3.0, 7.0, 12.0] if config.model.num_classes > 2 else [1.0] * 3
    instances = torch.tensor([[*span, label] for span, label in zip(SPANS, labels, strict=True)])
    with torch.inference_mode():
        output, boundary, _ = model.detect(clip)
        assert boundary is not None
        for name, value in output._asdict().items():
            assert _relative(value.numpy(), golden[name]) < 1e-3, name
        ranges = level_ranges(config.loss.location_ranges, config.model.level_lengths)
        coarse = assign_coarse([instances], model.coarse_pyramid_detection.priors, frames, ranges)
        losses = detection_losses(output, coarse, config.loss)
        assert np.allclose([value.item() for value in losses], golden["loss5"], rtol=1e-4)
        maps = [_boundary_map(instances, frames, side) for side in (0, 1)]
        for feature, expected in zip(boundary, golden["bce"], strict=True):
            for half, target, value in zip(feature.chunk(2, dim=1), maps, expected, strict=True):
                found = F.binary_cross_entropy(boundary_activation(half), target[:, :: frames // half.shape[2]])
                assert found.item() == pytest.approx(value, rel=1e-4)
        start, end = activation_losses(boundary, *maps)
        weights = np.array([1, 0.1, 0.1])
        assert [start.item(), end.item()] == pytest.approx(list(weights @ golden["bce"]), rel=1e-4)
        segments = torch.tensor([[[20.3, 60], [76, 115.7], [61, 75]]])
        found = triplet_loss(boundary, segments, config.model, config.loss.triplet_divisors)
        assert found.item() == pytest.approx(float(weights @ golden["triplet"]), rel=1e-4)


def test_initial_weights_of_the_activitynet_head() -> None:
    torch.manual_seed(0)
    model = AFSD(replace(SMALL, head_initial="normal"))
    for name, module in model.coarse_pyramid_detection.named_modules():
        if not isinstance(module, (torch.nn.Conv1d, torch.nn.Conv3d)):
            continue
        assert not module.bias.any()
        receptive = module.weight[0, 0].numel()
        glorot = (2 / (receptive * (module.in_channels + module.out_channels))) ** 0.5
        expected = glorot if name.startswith(("pyramids", "deconv")) else 0.01
        assert module.weight.std().item() == pytest.approx(expected, rel=0.15), name


def test_refinement_none_computes_no_refinement() -> None:
    model = AFSD(ModelConfig(**{**vars(SMALL), "refinement": "none"})).eval()
    assert not any("proposal_branch" in name or "deconv" in name for name in model.state_dict())
    with torch.inference_mode():
        output, boundary, _ = model.detect(torch.zeros(1, 3, 128, 32, 32))
    assert boundary is None
    assert torch.equal(output.prop_conf, output.conf)
    assert not output.prop_loc.any()


def test_contrastive_clips_share_the_pass_but_nothing_else() -> None:
    model = AFSD(SMALL).eval()
    clips = torch.randn(3, 3, 128, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        output, features, contrastive = model.detect(clips[:2], clips[2:])
        alone, expected, nothing = model.detect(clips[:2])
        _, of_third, _ = model.detect(clips[2:])
    assert nothing is None
    for found, wanted in ((output, alone), (features, expected), (contrastive, of_third)):
        assert found is not None
        assert wanted is not None
        assert all(torch.allclose(a, b, rtol=1e-3, atol=2e-4) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("frozen", [True, False])
def test_batch_norms_move_only_when_not_frozen(frozen: bool) -> None:
    model = AFSD(ModelConfig(**{**vars(SMALL), "freeze_batch_norm": frozen})).train()
    before = model.backbone._model.Conv3d_1a_7x7.bn.running_mean.clone()
    model(torch.randn(1, 3, 128, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(before, model.backbone._model.Conv3d_1a_7x7.bn.running_mean) == frozen


@pytest.mark.parametrize("size", [5, 6, 7, 8, 9, 12])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 2), (3, 1)])
def test_pooling_equals_zero_padding_for_rectified_inputs(size: int, kernel: int, stride: int) -> None:
    x = F.relu(torch.randn(1, 2, size, size, size, generator=torch.Generator().manual_seed(size)))
    pad = same_padding(size, kernel, stride)
    expected = F.max_pool3d(F.pad(x, pad * 3), kernel, stride)
    assert torch.equal(SamePool3d((kernel,) * 3, (stride,) * 3)(x), expected)
    assert expected.shape[-1] == -(-size // stride)


def _sample(value: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """The part of an endpoint [C,T,H,W] that the golden file keeps."""
    return value[::37, :: max(1, value.shape[1] // 8), ::3, ::3]


def _relative(found: np.ndarray, expected: np.ndarray) -> float:  # type: ignore[type-arg]
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def _boundary_map(instances: torch.Tensor, frames: int, side: int) -> torch.Tensor:
    """Map [1,T] of one side, from the definition: half of max(length / 10, 2) around each boundary, ends included."""
    target = torch.zeros(1, frames)
    for instance in (instances[:, :2] * frames).tolist():
        reach = max((instance[1] - instance[0]) / 10, 2) / 2
        low, high = (min(max(round(instance[side] + d), 0), frames - 1) for d in (-reach, reach))
        target[0, low : high + 1] = 1
    return target


def test_a_clip_between_its_neighbours_has_the_features_of_the_video() -> None:
    """With borders of 56 frames a clip's features are those of a longer video, as in a streaming network."""
    torch.manual_seed(0)
    network = AFSD(SMALL).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.BatchNorm3d):
            module.bias.data.normal_(0, 0.3)
    video = torch.randn(1, 3, 256, 32, 32)
    length, first = SMALL.clip_length, 64
    with torch.no_grad():
        whole = network.backbone(video)
        wide = video[:, :, first - STREAM_BORDER : first + length + STREAM_BORDER]
        found = network._features(wide)
        assert isinstance(found, Endpoints)
        narrow = network.backbone(video[:, :, first : first + length])
        output, _, rearranged = network.detect(wide, wide)
    for part, rate, of_video, alone in zip(found, (4, 8), whole, narrow, strict=True):
        expected = of_video[:, :, first // rate : (first + length) // rate]
        assert (part - expected).abs().max() <= 1e-5 * expected.abs().max()
        assert (alone - expected).abs().max() > 1e-2 * expected.abs().max()  # zeros at the ends are another function
    assert output.loc.shape[1] == sum(SMALL.level_lengths)
    assert rearranged is not None
