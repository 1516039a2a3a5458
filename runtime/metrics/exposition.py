"""Show numbers to Prometheus in the format that it asks for: its text formats, or OpenMetrics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder


class Collector(Protocol):
    """Gives numbers as they stand."""

    def collect(self) -> Iterable[Metric]:
        """Return the numbers by families: counters, gauges, histograms."""
        ...


def expose(collector: Collector, accepted: str) -> tuple[bytes, str]:
    """Return the numbers of a collector as text, and its content type.

    Args:
        collector: gives the numbers.
        accepted: the client's header Accept; Prometheus' text format 0.0.4 is returned unless it asks for another.
    """
    try:
        encode, kind = choose_encoder(accepted)
    except (TypeError, ValueError):  # a version that is no number
        encode, kind = choose_encoder("")
    return encode(collector), kind


def label_of(text: str) -> str:
    """Return a text as the value of a label: bytes of a file's name that are no UTF-8 become escapes."""
    return text.encode(errors="backslashreplace").decode()
