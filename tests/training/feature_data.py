"""A feature set small enough to train on in seconds, with networks of every family for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from runtime.features.description import FEATURES, FeatureDescription, StreamFolder, write_description
from runtime.spec.time_axis import FeatureSampling
from training.config.files import load_config
from training.config.settings import Config

WIDTH, STEPS = 12, 90
CLASSES = ("cut", "pour")
SAMPLING = FeatureSampling(stride=4, window=8)
"""Of videos at 20 frames per second: 5 steps per second, the first in the middle of frame 4."""

SMALL = [
    "data.clip_stride=8", "data.test_stride=16", "data.workers=0", "optimiser.batch_size=2", "optimiser.epochs=2",
    "optimiser.warmup_steps=2", "run.log_every=1", "run.accelerator=cpu",
]  # fmt: skip
NETWORKS = {
    "gtea": ["model.clip_length=32", "model.head_channels=64", "model.num_levels=3", "model.level_units=[2, 4, 8]",
             "loss.location_ranges=[]", "model.projection_dilations=[2]"],
    "a2net_gtea": ["a2net.window_steps=32", "a2net.base_channels=32", "a2net.level_channels=[32, 32, 32]"],
    "two_stage_gtea": ["a2net.window_steps=32", "a2net.base_channels=32", "a2net.level_channels=[32, 32, 32]",
                       "two_stage.candidates=48", "two_stage.proposals=12", "two_stage.bins=4", "two_stage.hidden=32"],
}  # fmt: skip
"""Configuration → settings that make it small."""
FAMILIES = {"gtea": "afsd", "a2net_gtea": "a2net", "two_stage_gtea": "two_stage"}


def make_feature_set(folder: Path) -> Path:
    """Six videos a0 … b2 of noise, in whose channels 0 and 1 an action of class 0 or 1 stands out; splits by letter."""
    rng = np.random.default_rng(3)
    (folder / "rgb").mkdir(parents=True)
    database = {}
    for number, name in enumerate(f"{group}{k}" for group in "ab" for k in range(3)):
        features = rng.normal(0, 0.3, (STEPS, WIDTH)).astype(np.float32)
        annotations = []
        for label, start in enumerate((12 + 3 * number, 52 + 2 * number)):
            end = start + (5, 12)[label]  # the second can be split around the first's length of background
            features[start:end, label] += 2
            seconds = [((x - 0.5) * 4 + 4) / 20 for x in (start, end)]
            annotations.append({"label": CLASSES[label], "segment": seconds})
        np.save(folder / "rgb" / f"{name}.npy", features)
        database[name] = {"fps": 20, "duration": STEPS * 4 / 20 + 0.2, "annotations": annotations}
    names = {group: [name for name in database if name[0] == group] for group in "ab"}
    splits = {group: {"train": names["b" if group == "a" else "a"], "test": names[group]} for group in "ab"}
    (folder / "annotations.json").write_text(json.dumps({"database": database, "splits": splits}))
    write_description(folder / FEATURES, FeatureDescription("annotations.json", (StreamFolder("rgb"),), SAMPLING))
    return folder


def small_feature_config(network: str, root: Path, *settings: str) -> Config:
    """A configuration of `NETWORKS`, made small, on fold b (trained on the videos a…)."""
    return load_config(network, [f"data.root={root}", "data.fold=b", *SMALL, *NETWORKS[network], *settings])
