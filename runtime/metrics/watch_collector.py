"""Name the numbers of a watch as Prometheus has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from runtime.live.numbers import SourceNumbers, WatchNumbers
from runtime.metrics.exposition import label_of

_COUNTERS: Sequence[tuple[str, str, Callable[[SourceNumbers], float]]] = (
    ("afsd_frames_total", "Sampled frames that were read.", lambda s: s.frames),
    ("afsd_windows_total", "Windows that were looked at.", lambda s: s.windows),
    ("afsd_frames_dropped_total", "Frames that the network did not see.", lambda s: s.dropped_frames),
    ("afsd_windows_dropped_total", "Windows left out.", lambda s: s.dropped_windows),
    ("afsd_gaps_total", "Gaps in a live source.", lambda s: s.gaps),
    ("afsd_losses_total", "Times that a live source was lost.", lambda s: s.losses),
    ("afsd_reconnects_total", "Times that a lost source came back.", lambda s: s.reconnects),
    ("afsd_open_failures_total", "Failed attempts to open a source.", lambda s: s.open_failures),
    (
        "afsd_settlements_total",
        "Chains of overlapping candidates settled before their end.",
        lambda s: s.settlements,
    ),
)
"""Counters of every source: name, help, value."""
_GAUGES: Sequence[tuple[str, str, Callable[[SourceNumbers], float]]] = (
    ("afsd_up", "Whether frames come (1) or not (0).", lambda s: s.up),
    ("afsd_lag_seconds", "Seconds from a window's last frame to its results.", lambda s: s.lag_s),
    ("afsd_reading_lag_seconds", "Seconds by which the newest frame came late.", lambda s: s.reading_lag_s),
)
"""Gauges of live sources."""


class WatchCollector:
    """Collects the numbers of a watch for Prometheus (a `Collector`)."""

    def __init__(self, numbers: Callable[[], WatchNumbers]) -> None:
        """Take the function that returns the numbers as they stand."""
        self._numbers = numbers

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        now = self._numbers()
        for name, text, value in _COUNTERS:
            counter = CounterMetricFamily(name, text, labels=["video"])
            for source in now.sources:
                counter.add_metric([label_of(source.name)], value(source))
            yield counter
        for name, text, value in _GAUGES:
            gauge = GaugeMetricFamily(name, text, labels=["video"])
            for source in now.sources:
                if source.live:
                    gauge.add_metric([label_of(source.name)], value(source))
            yield gauge
        found = CounterMetricFamily(
            "afsd_detections_total", "Detections given out, by class.", labels=["video", "class"]
        )
        for source in now.sources:
            for label, count in source.detections.items():
                found.add_metric([label_of(source.name), label_of(label)], count)
        yield found
        spent = CounterMetricFamily(
            "afsd_stage_seconds_total", "Seconds spent, by stage, over all sources.", labels=["stage"]
        )
        for stage, seconds in now.stage_s.items():
            spent.add_metric([stage], seconds)
        yield spent
        yield GaugeMetricFamily("afsd_healthy", "Whether /healthz is 200 (1) or 503 (0).", now.healthy)
        yield GaugeMetricFamily("afsd_loop_age_seconds", "Seconds since the engine's loop last turned.", now.loop_age_s)
