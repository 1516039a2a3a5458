"""Plugin of pytest that makes importing PyTorch fail, as on a machine that only detects (`make test-runtime`)."""

from __future__ import annotations

import sys

sys.modules["torch"] = None  # type: ignore[assignment]
