"""Numbers of wrong types and ranges are one clear error in the Python API."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from runtime.common.arguments import require_count, require_rate, require_share
from runtime.errors import InputError
from runtime.features.extractor import FeatureExtractor
from runtime.features.folder import ExtractionOptions
from tests.tiny_backbone import TinyBackbone


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.25), np.int64(1)])
def test_numbers_of_every_kind_are_taken(value: Any) -> None:
    require_rate("fps", value)
    require_share("score", value)
    if value == 1:
        require_count("batch_size", value, "windows")
    require_rate("fps", None)


@pytest.mark.parametrize("value", ["25", float("nan"), float("inf"), 0, -1, True, [25], 1j, None])
@pytest.mark.parametrize(
    ("take", "name"),
    [
        (lambda value: ExtractionOptions(fps=value), "fps"),
        (lambda value: FeatureExtractor([TinyBackbone()], sample_fps=value), "sample_fps"),
        (lambda value: FeatureExtractor([TinyBackbone()], batch_size=value), "batch_size"),
        (lambda value: require_count("workers", 1.5 if value is None else value, "processes"), "workers"),
        (lambda value: require_share("score", 1.5 if value in (0, None) else value), "score"),
    ],
)
def test_other_values_are_named(value: Any, take: Callable[[Any], object], name: str) -> None:
    if value is None and name not in ("workers", "score"):  # the default
        return
    with pytest.raises(InputError, match=rf"^{name}: got .*, expected a number") as caught:
        take(value)
    assert "\n" not in str(caught.value)
    if name == "fps":
        assert re.match(re.escape(f"fps: got {value!r}, "), str(caught.value))
