"""What is served over HTTP."""

from __future__ import annotations

import json
import re
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from runtime.detector import Detector
from runtime.errors import InputError
from runtime.live import watcher as watcher_module
from runtime.live.metrics import Metric, MetricsServer, parse_address, render_metrics
from runtime.live.watcher import Watcher
from tests.runtime.live.fakes import FakeReader, FakeTime, images, shots
from tests.tiny import TinyEngine
from tests.videos import write_video

SAMPLE = re.compile(r'^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)+)\})? (\S+)$')


def parse(text: str) -> dict[tuple[str, str], float]:
    """Samples of Prometheus' text format, by name and labels; the format is checked line by line."""
    assert text.endswith("\n")
    samples: dict[tuple[str, str], float] = {}
    types: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name = line.split(" ")[2]
            assert name not in types
        elif line.startswith("# TYPE "):
            assert line.split(" ")[2] == name
            types[name] = line.split(" ")[3]
            assert types[name] in ("counter", "gauge")
            assert (types[name] == "counter") == name.endswith("_total")
        else:
            match = SAMPLE.match(line)
            assert match is not None, line
            assert match[1] == name
            assert (match[1], match[2] or "") not in samples
            samples[match[1], match[2] or ""] = float(match[3])
    return samples


def fetch(url: str) -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


def test_text_format() -> None:
    metric = Metric("a_total", "Of a \\ and\nb.")
    metric.add(3, video='x"y\\z\n', **{"class": "ä"})
    metric.add(12345678901234.5)
    assert render_metrics([metric]) == (
        "# HELP a_total Of a \\\\ and\\nb.\n# TYPE a_total counter\n"
        'a_total{video="x\\"y\\\\z\\n",class="ä"} 3\na_total 12345678901234.5\n'
    )
    assert len(parse(render_metrics([metric]))) == 2


def test_numbers_of_a_watch_and_its_health(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = str(write_video(tmp_path / "clip.mp4", frames=90))
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
            ("afsd_detections_total", f'video="{video}",class="{label}"')
            for video in ("clip", "clip-2")
            for label in ("jump", "throw")
        }
        for stage in ("read", "engine", "post"):
            assert samples["afsd_stage_milliseconds_total", f'stage="{stage}"'] > 0
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
    up = parse(render_metrics(watcher.metrics())).get(("afsd_up", 'video="a_1"'))
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
    samples = parse(render_metrics(watcher.metrics()))
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
