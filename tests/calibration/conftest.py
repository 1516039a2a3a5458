"""The small exported network of the export tests."""

from __future__ import annotations

from tests.export.conftest import exported as exported
