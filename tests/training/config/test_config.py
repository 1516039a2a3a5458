"""The configuration: strict, typed, and the same after a round trip."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.errors import ConfigError
from training.config.files import config_from_mapping, config_to_mapping, list_configs, load_config


@pytest.mark.parametrize("name", list_configs())
def test_named_configs_load_and_survive_a_round_trip(name: str) -> None:
    config = load_config(name)
    assert config.name == name
    assert config_from_mapping(config_to_mapping(config), "again") == config


def test_the_published_recipe_is_the_default() -> None:
    config = load_config("thumos14")
    assert (config.model.clip_length, config.model.crop_size, config.model.num_classes) == (256, 96, 21)
    assert config.model.level_lengths == (64, 32, 16, 8, 4, 2)
    optimiser, loss = config.optimiser, config.loss
    assert (optimiser.learning_rate, optimiser.weight_decay) == (1e-5, 1e-3)
    assert (optimiser.batch_size, optimiser.epochs) == (1, 16)
    assert (loss.location, loss.classification, loss.triplet, loss.refined_iou) == (10, 1, 0.1, 0.5)


def test_the_activitynet_recipe_is_the_released_one() -> None:
    for name, channels in (("activitynet", 3), ("activitynet_flow", 2)):
        config = load_config(name)
        assert (config.model.in_channels, config.model.num_classes, config.data.classes) == (channels, 2, ("action",))
        assert config.model.level_lengths == (96, 48, 24, 12, 6, 3)
        optimiser, loss, decoding = config.optimiser, config.loss, config.decoding
        assert (optimiser.learning_rate, optimiser.backbone_rate, optimiser.weight_decay) == (1e-4, 0.1, 1e-4)
        assert (optimiser.batch_size, optimiser.epochs) == (1, 16)
        assert (loss.location, loss.classification, loss.triplet, loss.refined_iou) == (1, 1, 0.1, 0.6)
        assert loss.location_ranges == ((0, 30), (15, 60), (30, 120), (60, 240), (96, 768), (256, 768))
        assert (decoding.score_threshold, decoding.nms_sigma, decoding.nms_floor) == (1e-9, 0.85, 1e-9)
        data = config.data
        assert (data.sampling, data.rearrangement, data.padding) == ("whole_video", "activitynet", "after")
        assert data.class_agnostic
        assert (decoding.fusion, decoding.fused_threshold, decoding.fused_floor) == ("geometric", 0, 1e-18)


@pytest.mark.parametrize("name", ["thumos14", "thumos14_flow", "activitynet", "activitynet_flow"])
def test_the_published_recipes_keep_the_released_data_path(name: str) -> None:
    data = load_config(name).data
    assert data.background == "reference"
    assert data.padding == ("after" if name.startswith("activitynet") else "before")
    assert (data.clip_window == "reference") == name.startswith("thumos14")  # there are no windows on ActivityNet
    assert (data.flow_flip == "reference") == name.endswith("flow")
    assert data.flip


def test_overrides_change_one_setting() -> None:
    config = load_config("thumos14", ["optimiser.epochs=3", "run.precision=bf16-mixed", "data.flip=false"])
    assert (config.optimiser.epochs, config.run.precision, config.data.flip) == (3, "bf16-mixed", False)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.sed=3", r"run\.sed: unknown key; expected one of .*seed"),
        ("model.clip_length=long", r"model\.clip_length: got 'long' \(str\), expected int"),
        ("model.clip_length=100", "multiple of 128"),
        ("model.head_channels=100", "multiple of 64"),
        ("model.level_units=[1, 2]", "one per level"),
        ("loss.consistency=maybe", "expected one of 'none', 'activation', 'triplet', 'both'"),
        ("optimiser.batch_size=true", "expected int"),
        ("model.num_classes=7", "expected 21"),
        ("model.num_classes=1", "at least 2, or 0 to take the data"),
        ("data.class_agnostic=true", "class_agnostic needs model.num_classes 2 and one name in data.classes"),
        ("model.refinement=none", "loss.consistency"),
        ("data.frame_size=64", "below model.crop_size"),
        ("model.refinement=naive", "no boundary features"),
        ("model.region_divisors=[4, 0]", r"region_divisors\[1\]: got 0.0, expected above 0"),
        ("loss.location_ranges=[[0, 30]]", "one per level"),
        ("run.max_steps=-3", "max_steps: got -3, expected 0 … 2147483647"),
        ("run.max_minutes=-1.0", "max_minutes: got -1.0, expected 0 … "),
        ("seed", "section.key=value"),
        ("name.first=x", "not a section"),
    ],
)
def test_mistakes_are_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("thumos14", [override])


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config file not found; expected a path or one of .*thumos14"):
        load_config("thumos15")
    broken = tmp_path / "broken.yaml"
    broken.write_text("model: [")
    with pytest.raises(ConfigError, match=r"not a YAML file: line 1, column 9: [^\n]*$"):
        load_config(str(broken))


DEEP = 20_000
LAUGHS = "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))])
MERGES = "\n".join(["a0: &a0 {x: 1}", *(f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "not a YAML file: line 2, column 10: got the alias *a0; write it out"),
        (MERGES, "got the alias *a0; write it out"),
        ("run:\n  seed: 1\n  seed: 2\n", "line 3, column 3: 'seed' is there twice; keep one of the two"),
        ("run: {}\nrun: {}\n", "line 2, column 1: 'run' is there twice"),
        ("[" * DEEP, "not a YAML file: maximum recursion depth exceeded"),
        ("a: " + "[" * DEEP + "]" * DEEP, "not a YAML file: maximum recursion depth exceeded"),
        ("run: {seed: " + "9" * 5000 + "}", "not a YAML file: Exceeds the limit (4300 digits)"),
        ("run: {seed: " + "9" * 400 + "}", "run: seed: got an integer of 1329 bits, expected 0 … 4294967295"),
        ("optimiser: {weight_decay: " + "9" * 400 + "}", "got an integer of 1329 bits, expected a number that fits"),
        ("optimiser: {weight_decay: .nan}", "weight_decay: got nan, expected a finite number"),
        ("run: {seed: 2001-13-45}", "not a YAML file: month must be in 1..12"),
        ("run: {1: 2}", "run.1: unknown key"),
        ("run: {? [1, 2] : 3}", "not a YAML file: line 1"),
        ("- a", "got ['a'], expected sections of settings"),
        ("0", "got 0, expected sections of settings"),
        ("name: !!python/object:os.system x", "could not determine a constructor for the tag"),
        ("name: !!timestamp x", "not a YAML file: "),
        ("data: {inner_group: '('}", "inner_group '(' is not a regular expression: missing )"),
        (
            "data: {inner_group: 'a{99999999999999999999}'}",
            "is not a regular expression: the repetition number is too large",
        ),
        ("data: {split: {by: groups, group: '" + "(" * 5000 + "'}}", "is not a regular expression"),
        ("name: \0", "not a YAML file: "),
        ("# " + "x" * 1_100_000, "cannot be read (it holds more than 1,048,576 bytes, the most that is read)"),
    ],
    ids=range(22),
)
def test_yaml_of_any_content_is_read_or_refused_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "override", ["run.seed={", "run.seed=*a", "run.seed=" + "9" * 5000, "name.x=1", "run", "a.b=1"]
)
def test_overrides_of_any_content_are_one_line(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("thumos14", [override])
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)
