"""The two-stage detector: each part against the runtime's numpy or plain loops, and what cannot be set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.decoding.a2net import decode_a2net
from runtime.decoding.two_stage import decode_two_stage
from runtime.errors import ConfigError
from runtime.suppression.nms import hard_nms
from tests.training.feature_data import WIDTH, small_feature_config
from training.config.settings import Config
from training.deployment.views import TorchEngine, model_spec
from training.families import build_network
from training.two_stage.network import TwoStage, decode_first_stage, greedy_nms, pool_means
from training.two_stage.step import assign_proposals, choose_proposals


def network_of(config: Config, seed: int = 0) -> TwoStage:
    torch.manual_seed(seed)
    network = build_network(config.with_data(3, WIDTH))
    assert isinstance(network, TwoStage)
    return network.eval()


def small(*changes: str) -> Config:
    return small_feature_config("two_stage_gtea", Path("nowhere"), *changes)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]))
def test_nms_of_all_at_once_is_greedy_nms(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    segments = np.sort(rng.uniform(0, 1, (2, 60, 2)), axis=2)
    kept = greedy_nms(torch.from_numpy(segments), threshold)
    scores = np.linspace(1, 0.1, 60)
    for window, found in zip(segments, kept, strict=True):
        assert sorted(np.flatnonzero(found.numpy())) == sorted(hard_nms(window, scores, threshold))


def test_nms_settles_a_chain_of_its_rounds() -> None:
    """Each overlaps its neighbours alone: every other one stays, and all rounds are needed to know of the last one."""
    starts = torch.arange(25) * 0.02
    segments = torch.stack((starts, starts + 0.03), dim=1)[None]
    assert greedy_nms(segments, 0.15)[0].tolist() == [1.0 - k % 2 for k in range(25)]


@pytest.mark.parametrize("context", [0.0, 0.5])
def test_pooled_bins_are_exact_means_of_a_staircase(context: float) -> None:
    """Against the mean over many points of each bin, with nothing outside of the window."""
    level = torch.randn(1, 3, 8, generator=torch.Generator().manual_seed(0))
    segments = torch.tensor([[[0.1, 0.35], [0.7, 0.95], [0.0, 1.0], [0.31, 0.32]]])
    pooled = pool_means(level, segments, 4, context)
    assert pooled.shape == (1, 4, 3, 4)
    for n, (start, end) in enumerate(segments[0].tolist()):
        low, step = start - context * (end - start), (end - start) * (1 + 2 * context) / 4
        for b in range(4):
            points = 8 * (low + step * (b + (np.arange(20_000) + 0.5) / 20_000))
            cells = np.floor(points).astype(int)
            inside = (cells >= 0) & (cells < 8)
            expected = np.where(inside, level[0].numpy()[:, np.clip(cells, 0, 7)], 0).mean(axis=1)
            np.testing.assert_allclose(pooled[0, n, :, b], expected, atol=2e-3)


def test_pooling_of_nothing_is_zero_and_passes_gradient() -> None:
    level = torch.ones(1, 2, 8, requires_grad=True)
    pooled = pool_means(level, torch.tensor([[[0.0, 0.0], [0.25, 0.75]]]), 2, 0.0)
    assert pooled[0, 0].abs().max() == 0
    pooled[0, 1].sum().backward()
    assert level.grad is not None
    assert level.grad[0, 0].tolist() == [0, 0, 0.5, 0.5, 0.5, 0.5, 0, 0]


@pytest.mark.parametrize("overlap", ["sigmoid", "plain"])
@pytest.mark.parametrize("modules", ["both", "anchor-based", "anchor-free"])
def test_the_first_stage_proposes_what_a2nets_decoder_finds(modules: str, overlap: str) -> None:
    config = small(f"a2net.modules={modules}", "two_stage.candidates=20", "a2net_decoding.balance=0.3")
    first = network_of(config).first
    with torch.no_grad():
        output = first(torch.randn(2, WIDTH, 32))
    decoding = replace(config.a2net_decoding, overlap=overlap, background_limit=1.1, score_threshold=0.0)
    segments, scores = decode_first_stage(output, first.config.layout, decoding)
    arrays = {name: value.numpy() for name, value in output._asdict().items() if value is not None}
    for b in range(2):
        expected = decode_a2net(arrays, b, 0.0, 1.0, first.config.layout, replace(decoding, labels="best"))
        there = scores[b] > 0
        np.testing.assert_allclose(segments[b][there], expected.segments, atol=1e-6)
        np.testing.assert_allclose(scores[b][there], expected.scores, rtol=1e-5)
        assert there.sum() < there.numel() or modules == "anchor-based"  # inverted ones are left out


@pytest.mark.parametrize("modules", ["both", "anchor-based"])
def test_proposals_are_the_best_behind_nms(modules: str) -> None:
    """Of points and anchors together, as hard NMS in numpy leaves them; the outputs keep the contract."""
    config = small(f"a2net.modules={modules}").with_data(3, WIDTH)
    network = network_of(config)
    features = torch.randn(2, WIDTH, 32)
    engine = TorchEngine(network, model_spec(config, ("cut", "pour")))
    outputs = engine.infer({"features": features.numpy(), "lengths": np.array([32, 32], np.int32)})
    with torch.no_grad():
        segments, scores = decode_first_stage(
            network.first(features), network.first.config.layout, config.a2net_decoding
        )
    for b in range(2):
        best = np.argsort(-scores[b].numpy(), kind="stable")[:48]
        kept = best[hard_nms(segments[b].numpy()[best], scores[b].numpy()[best], 0.7)][:12]
        np.testing.assert_allclose(outputs["proposals"][b][: len(kept)], 32 * segments[b][kept], atol=1e-4)
        np.testing.assert_allclose(outputs["prop_score"][b, : len(kept), 0], scores[b][kept], rtol=1e-5)


def test_nothing_is_proposed_in_the_padding() -> None:
    """What the first stage finds is cut at the window's length, and what lies behind takes no place."""
    config = small().with_data(3, WIDTH)
    network = network_of(config)
    engine = TorchEngine(network, model_spec(config, ("cut", "pour")))
    features = torch.randn(1, WIDTH, 32)
    outputs = engine.infer({"features": features.numpy(), "lengths": np.array([10], np.int32)})
    features[..., 10:] = 0
    with torch.no_grad():
        segments, scores = decode_first_stage(
            network.first(features), network.first.config.layout, config.a2net_decoding
        )
    segments = np.minimum(segments[0].numpy(), np.float32(10 / 32))
    scores = np.where(segments[:, 1] > segments[:, 0], scores[0].numpy(), 0)
    best = np.argsort(-scores, kind="stable")[:48]
    kept = best[hard_nms(segments[best], scores[best], 0.7)][:12]
    kept = kept[scores[kept] > 0]
    np.testing.assert_allclose(outputs["proposals"][0, : len(kept)], 32 * segments[kept], atol=1e-4)
    assert (outputs["prop_score"][0, :, 0] > 0).sum() == len(kept) > 3
    assert outputs["proposals"].max() == 10


def test_a_window_without_enough_proposals_is_filled_with_none() -> None:
    network = network_of(small("two_stage.decoding.proposal_nms=0.001"))
    with torch.no_grad():
        output = network(torch.randn(1, WIDTH, 32))
    none = output.prop_score[0, :, 0] == 0
    assert 0 < none.sum() < 12
    assert output.proposals[0][none].abs().max() == 0
    assert none[: 12 - int(none.sum())].sum() == 0  # behind all others


def test_proposals_get_the_instance_of_their_largest_overlap() -> None:
    segments = torch.tensor([[[0.1, 0.3], [0.12, 0.3], [0.5, 0.9], [0.0, 0.0], [0.55, 0.95]]])
    instances = torch.tensor([[0.1, 0.3, 2.0], [0.5, 0.95, 1.0]])
    targets = assign_proposals(segments, [instances], 0.5)
    assert targets.labels.tolist() == [[2, 2, 1, 0, 1]]
    np.testing.assert_allclose(targets.offsets[0, 0], [0, 0], atol=1e-6)
    assert assign_proposals(segments, [instances[:0]], 0.5).labels.tolist() == [[0] * 5]
    stricter = assign_proposals(segments, [instances], 0.95)
    assert stricter.labels.tolist() == [[2, 0, 0, 0, 0]]


def test_what_the_second_stage_is_taught_is_what_decoding_makes_of_it() -> None:
    """A proposal with its target as the prediction is decoded to its instance."""
    config = small("two_stage.proposals=2").with_data(3, WIDTH)
    segments = torch.tensor([[[0.1, 0.3], [0.5, 0.8]]])
    instances = torch.tensor([[0.15, 0.32, 2.0], [0.45, 0.85, 1.0]])
    targets = assign_proposals(segments, [instances], 0.5)
    outputs = {
        "proposals": segments.numpy() * 32,
        "prop_score": np.ones((1, 2, 1), np.float32),
        "cls": 50 * torch.nn.functional.one_hot(targets.labels, 3).float().numpy(),
        "reg": targets.offsets.numpy(),
    }
    found = decode_two_stage(outputs, 0, 0, replace(model_spec(config, ("cut", "pour")), sample_fps=32.0))
    np.testing.assert_allclose(found.segments, instances[:, :2], atol=1e-6)
    assert found.labels.tolist() == [1, 0]


def test_background_is_drawn_in_proportion_to_the_positives() -> None:
    torch.manual_seed(0)
    labels = torch.zeros(4, 1000, dtype=torch.int64)
    labels[0, :100] = 2
    segments = torch.tensor([0.2, 0.4]).expand(4, 1000, 2).clone()
    segments[:, 900:] = 0  # filled up
    chosen = choose_proposals(labels, segments, 3.0)
    assert chosen[0, :100].all()
    assert not chosen[:, 900:].any()
    assert 250 < chosen.sum() - 100 < 350
    nothing = choose_proposals(torch.zeros_like(labels), segments, 3.0)
    assert nothing[:, :900].all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("a2net.num_classes=3",), "two_stage needs a first stage: expected a2net with num_classes 2"),
        (("two_stage.levels=[0, 3]",), "the first stage has 3 levels"),
        (("two_stage.candidates=500",), "two_stage.candidates is 500, the first stage has 168 detections"),
        (("two_stage.proposals=49",), "proposals is 49, expected at most candidates, 48"),
        (("two_stage.levels=[1, 1]",), "expected numbers from 0, each once"),
        (("two_stage.bins=0",), "bins: got 0, expected 1 … "),
        (("two_stage.dropout=1",), "dropout: got 1.0, expected 0 … 0.99"),
        (("two_stage.num_classes=1",), "at least 2"),
        (("two_stage_loss.positive_iou=0",), "positive_iou: got 0.0, expected above 0"),
        (("two_stage_loss.location=-1",), "location: got -1.0, expected 0 … "),
        (("data.inner_features=unseen",), r"expected data\.inner_group"),
    ],
)
def test_settings_that_cannot_be(changes: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        small(*changes)


def test_the_decoding_of_a_configuration_without_a_second_stage_is_none() -> None:
    plain = small_feature_config("a2net_gtea", Path("nowhere")).with_data(3, WIDTH)
    assert model_spec(plain, ("cut", "pour")).two_stage is None
    spec = model_spec(small().with_data(3, WIDTH), ("cut", "pour"))
    assert (spec.family, spec.a2net, spec.a2net_decoding) == ("two_stage", None, None)
