"""What is served over HTTP."""

from __future__ import annotations

import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prometheus_client")

from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from runtime.detector import Detector
from runtime.errors import InputError
from runtime.live import watcher as watcher_module
from runtime.live.numbers import SourceNumbers, WatchNumbers
from runtime.live.watcher import Watcher
from runtime.metrics.addresses import parse_address
from runtime.metrics.server import MetricsServer
from runtime.metrics.watch_collector import WatchCollector
from tests.runtime.live.fakes import FakeReader, FakeTime, images, shots
from tests.tiny import TinyEngine
from tests.videos import write_video

Samples = dict[tuple[str, str], float]


def parse(text: str) -> Samples:
    """Samples of Prometheus' text format by name and labels, as the client library's own parser reads them."""
    return _samples(text_string_to_metric_families(text))


def _samples(families: Iterable[Metric]) -> Samples:
    found: Samples = {}
    for family in families:
        assert family.type in ("counter", "gauge")
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total")
            key = sample.name, ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def fetch(url: str, accept: str = "") -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept}), timeout=5) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


def samples_of(watcher: Watcher) -> Samples:
    return _samples(WatchCollector(watcher.numbers).collect())


class Named:
    """A watch of one source of a hostile name."""

    def numbers(self) -> WatchNumbers:
        source = SourceNumbers(NAME, True, True, 12345678901234, *range(8), 0.5, 0.25, {'a "class"\n': 3})
        return WatchNumbers((source,), {"read": 1.5}, True, 0.25)

    def health(self) -> tuple[bool, dict[str, Any]]:
        return True, {}


NAME = 'x"y\\z\n ü \udcff'
"""With a byte that is no UTF-8."""


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("application/openmetrics-text; version=x", ""),  # either format will do
        ("text/plain; version=1.\xe9", ""),
        ("application/openmetrics-text; version=1" + "1" * 9000, ""),
    ],
)
def test_names_come_back_whole_in_the_format_that_is_asked_for(accept: str, kind: str) -> None:
    with MetricsServer(Named(), ("127.0.0.1", 0)) as server:
        status, said, text = fetch(f"{server.address}/metrics", accept)
    assert (status, said.partition("; escaping")[0]) == (200, kind or said)
    read = openmetrics.text_string_to_metric_families if "openmetrics" in said else text_string_to_metric_families
    samples = _samples(read(text))
    shown = NAME.replace("\udcff", "\\udcff")
    assert samples["afsd_frames_total", f'video="{shown}"'] == 12345678901234
    assert samples["afsd_detections_total", f'class="a "class"\n",video="{shown}"'] == 3
    assert samples["afsd_stage_seconds_total", 'stage="read"'] == 1.5
    assert text.endswith("# EOF\n") == ("openmetrics" in said)


def test_numbers_of_a_watch_and_its_health(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, begun = str(write_video(tmp_path / "clip.mp4", frames=90)), time.monotonic()
    watcher = Detector(TinyEngine()).watch([clip, str(tmp_path / "clip.mp4")])
    with MetricsServer(watcher, ("127.0.0.1", 0)) as server:
        assert fetch(f"{server.address}/metrics")[0] == 200  # before it begins
        events = [event for event in watcher if event.kind == "detection"]
        status, kind, text = fetch(f"{server.address}/metrics?x=1")
        samples = parse(text)
        assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert samples["afsd_frames_total", 'video="clip"'] == 90
        assert samples["afsd_windows_total", 'video="clip-2"'] == 11  # 10 strides and the tail
        found = {k: v for k, v in samples.items() if k[0] == "afsd_detections_total"}
        assert sum(found.values()) == len(events) > 0
        assert set(found) == {
            ("afsd_detections_total", f'class="{label}",video="{video}"')
            for video in ("clip", "clip-2")
            for label in ("jump", "throw")
        }
        for stage in ("read", "engine", "post"):  # in seconds: two sources take no longer than twice the time
            assert 0 < samples["afsd_stage_seconds_total", f'stage="{stage}"'] < 2 * (time.monotonic() - begun)
        status, kind, text = fetch(f"{server.address}/healthz")
        details = json.loads(text)
        assert (status, kind, details["sources"]) == (200, "application/json", {"clip": "ended", "clip-2": "ended"})
        assert samples["afsd_healthy", ""] == 1
        assert 0 <= samples["afsd_loop_age_seconds", ""] < 30
        monkeypatch.setattr(watcher_module, "ALIVE_SECONDS", -1.0)  # the engine hangs
        assert parse(fetch(f"{server.address}/metrics")[2])["afsd_healthy", ""] == 0
        status, _, text = fetch(f"{server.address}/healthz")
        assert (status, json.loads(text)["alive"]) == (503, False)
        assert fetch(f"{server.address}/other")[0] == 404
        with pytest.raises(InputError, match="cannot be bound"):
            MetricsServer(watcher, ("127.0.0.1", int(server.address.rpartition(":")[2])))
    with pytest.raises(OSError, match="refused"), socket.create_connection(_host_port(server.address), 1):
        pass


def _host_port(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("http://").rpartition(":")
    return host, int(port)


@pytest.mark.parametrize(
    ("state", "idle", "live", "fresh"),
    [
        ("reading", 0.1, True, True),
        ("reading", 11.0, True, False),  # a reader that hangs, though it should have given up after five seconds
        ("reading", 11.0, False, True),  # a file waits for its turn
        ("lost", 1000.0, True, True),
        ("opening", 20.0, True, True),
        ("opening", 61.0, True, False),
        ("ended", 1000.0, False, True),
        ("failed", 1000.0, False, False),
    ],
)
def test_freshness(state: Any, idle: float, live: bool, fresh: bool) -> None:
    fake = FakeTime()
    watcher = Watcher(
        Detector(TinyEngine()),
        ["udp://a:1"],
        clock=fake.clock,
        open_source=lambda _: FakeReader(shots(images(3)), fake),
    )
    (source,) = watcher._sources
    source.state, source.live = state, live
    fake.seconds += idle
    well, details = watcher.health()
    assert well == fresh
    assert details["stale"] == ([] if fresh else ["a_1"])
    up = samples_of(watcher).get(("afsd_up", 'video="a_1"'))
    assert up == ((state == "reading" and fresh) if live else None)


def test_one_camera_that_hangs_leaves_the_watch_well() -> None:
    """A restart would stop the others; when none is well, there is nothing to lose."""
    fake = FakeTime()
    watcher = Watcher(Detector(TinyEngine()), ["udp://a:1", "udp://a:2"], clock=fake.clock)
    first, second = watcher._sources
    first.state = second.state = "reading"
    fake.seconds += 11
    second._latest = fake.seconds
    well, details = watcher.health()
    assert (well, details["stale"]) == (True, ["a_1"])
    samples = samples_of(watcher)
    assert (samples["afsd_up", 'video="a_1"'], samples["afsd_up", 'video="a_2"']) == (0, 1)
    fake.seconds += 11
    assert watcher.health()[0] is False


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9100", ("127.0.0.1", 9100)),
        ("0.0.0.0:9100", ("0.0.0.0", 9100)),
        ("[::]:0", ("::", 0)),
        ("", None),
        ("x", None),
        ("65536", None),
        ("-1", None),
        ("a:b", None),
    ],
)
def test_addresses(text: str, address: tuple[str, int] | None) -> None:
    if address is not None:
        assert parse_address(text) == address
        return
    with pytest.raises(InputError, match=re.escape("expected PORT or HOST:PORT")):
        parse_address(text)
