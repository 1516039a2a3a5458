"""Every number that a user can set has a range in its field, in every dataclass of options and settings."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from calibration.options import CalibrationOptions
from calibration.tuning.fine_tune import FineTuning
from export.trt.build import BuildOptions
from runtime.common.ranges import _base, _hints, range_of
from runtime.detector import DetectorOptions
from runtime.features.extractor import FeatureExtractor
from runtime.features.folder import ExtractionOptions
from runtime.live.options import WatchOptions
from runtime.service.job_options import JobOptions
from runtime.service.options import ServiceOptions
from tests.tiny_backbone import TinyBackbone
from training.a2net.config import A2NetConfig, A2NetLossConfig
from training.afsd.config import LossConfig, ModelConfig
from training.config.settings import DataConfig, OptimiserConfig, RunConfig
from training.data.feature_mixing import FeatureMixing
from training.data.folds import FoldRule
from training.paper_tables.tables import TableOptions
from training.preparation.prepare import StoreOptions
from training.synthetic.videos import VideoFormat
from training.two_stage.config import TwoStageConfig, TwoStageLossConfig

SETTINGS: tuple[Any, ...] = (
    A2NetConfig, A2NetLossConfig, BuildOptions, CalibrationOptions, DataConfig, DetectorOptions, ExtractionOptions,
    FeatureMixing, FineTuning, FoldRule, JobOptions, LossConfig, ModelConfig, OptimiserConfig, RunConfig,
    ServiceOptions, StoreOptions, TableOptions, TwoStageConfig, TwoStageLossConfig, VideoFormat, WatchOptions,
)  # fmt: skip


def numbers(cls: Any) -> list[str]:
    """The fields of a dataclass that hold a single number."""
    optional = {
        name: [kind for kind in getattr(hint, "__args__", ()) if kind is not type(None)]
        for name, hint in _hints(cls).items()
    }
    return [
        name
        for name, hint in _hints(cls).items()
        if _base(hint) in (int, float) or (len(optional[name]) == 1 and _base(optional[name][0]) in (int, float))
    ]


FIELDS = [(cls, name) for cls in SETTINGS for name in numbers(cls)]


def test_the_list_is_long_enough_to_mean_something() -> None:
    assert len(FIELDS) > 80
    assert {("DetectorOptions", "batch_size"), ("RunConfig", "seed"), ("WatchOptions", "fps")} <= {
        (cls.__name__, name) for cls, name in FIELDS
    }


@pytest.mark.parametrize(("cls", "name"), FIELDS, ids=[f"{cls.__name__}.{name}" for cls, name in FIELDS])
def test_a_number_out_of_its_range_is_one_line_that_names_the_field(cls: Any, name: str) -> None:
    bounds = range_of(cls, name)
    assert bounds is not None
    assert bounds.low > -math.inf
    assert bounds.high < math.inf
    for value in (bounds.low - 1, bounds.high + max(1, bounds.high), math.nan, math.inf, -math.inf, 10**400, "1", True):
        with pytest.raises(ValueError, match=rf"^{name}: got .*, expected ") as caught:
            cls(**{name: value})
        assert len(str(caught.value)) < 200
        assert "\n" not in str(caught.value)
    default = next(field.default for field in dataclasses.fields(cls) if field.name == name)
    assert default is None or default in bounds


@pytest.mark.parametrize("value", ["25", math.nan, math.inf, 0, -1, True, [25], 1j])
@pytest.mark.parametrize("name", ["sample_fps", "batch_size"])
def test_numbers_of_functions_are_checked_alike(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: got .*, expected "):
        FeatureExtractor([TinyBackbone()], **{name: value})
