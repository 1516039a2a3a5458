"""The page of one video: what its script gets, and the video that it shows."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np
import pytest

from runtime.errors import InputError, VideoError
from runtime.report import media
from runtime.report.pictures import data_address
from runtime.report.preview import is_played, make_preview
from runtime.results.detections import Detections
from runtime.results.facts import VideoFacts
from runtime.results.timeline import PALETTE
from runtime.video.thumbnails import read_thumbnails
from tests.media import draw, read_number
from tests.runtime.report.cases import CLASSES, annotated, many, read, some, write_webm


def test_detections_are_best_first_with_their_exact_scores(tmp_path: Path) -> None:
    found = many(300)
    found.to_html(tmp_path / "page.html", duration_s=1800.0, threshold=0.437)
    data = read(tmp_path / "page.html").data
    assert data["detections"]["score"] == sorted(found.scores.tolist(), reverse=True)
    assert (data["threshold"], data["duration"], data["truth"]) == (0.437, 1800.0, None)
    names = [row["name"] for row in data["rows"]]
    got = {(names[r], s) for r, s in zip(data["detections"]["row"], data["detections"]["score"], strict=True)}
    assert got == {(one.label, one.score) for one in found}


def test_what_the_detections_say_of_themselves_is_taken(tmp_path: Path) -> None:
    video = write_webm(tmp_path / "clip.webm", seconds=1)
    facts = VideoFacts(str(video), 10.5, 10.0, "models/m.onnx", 0.42)
    replace(some(), facts=facts).save(tmp_path / "page.html")
    page = read(tmp_path / "page.html")
    assert [page.data[key] for key in ("duration", "threshold", "model")] == [10.5, 0.42, "m.onnx"]
    assert page.all("video")[0][0]["src"] == "clip.webm"
    replace(some(), facts=replace(facts, path="https://host/clip.webm")).save(tmp_path / "page.html")
    assert read(tmp_path / "page.html").all("video") == []


def test_overlapping_detections_of_a_class_have_lanes_of_their_own_up_to_the_last(tmp_path: Path) -> None:
    crowd = Detections(np.tile([[0.0, 5.0]], (40, 1)), np.zeros(40, np.int32), np.linspace(0.9, 0.1, 40), CLASSES, "v")
    crowd.to_html(tmp_path / "page.html")
    assert read(tmp_path / "page.html").data["detections"]["lane"] == [min(k, 23) for k in range(40)]


def test_hits_and_errors_are_those_of_the_evaluation(tmp_path: Path) -> None:
    """By hand: the best jump finds the first, a second one is double, the throw is a run by the truth, …"""
    some().to_html(tmp_path / "page.html", truth=annotated(), tiou=0.5)
    data = read(tmp_path / "page.html").data
    kinds = [data["kinds"][k] for k in data["detections"]["kind"]]
    assert data["detections"]["score"] == [0.9, 0.8, 0.6, 0.5, 0.35, 0.35, 0.1]
    assert kinds == [
        "true positive",  # jump 1 – 2
        "wrong label",  # throw 3 – 4, a run
        "double detection",  # jump 1.1 – 2.1
        "wrong label",  # throw 5 – 6.5, in a jump of 5 – 7.2
        "true positive",  # jump 5 – 7
        "background",  # jump 0.2 – 0.9
        "background",  # throw 8 – 8.5
    ]
    assert data["detections"]["truth"] == [0, -1, -1, -1, 1, -1, -1]
    assert data["detections"]["tiou"][4] == pytest.approx(2 / 2.2, abs=1e-4)
    assert [data["rows"][one["row"]]["name"] for one in data["truth"]] == ["jump", "jump", "run", "throw"]


def test_a_class_has_one_colour_whatever_video_it_is_in(tmp_path: Path) -> None:
    for name, chosen in (("all", slice(None)), ("throws", [2, 4])):
        some()[chosen].to_html(tmp_path / f"{name}.html")
    colours = [{r["name"]: r["colour"] for r in read(tmp_path / f"{n}.html").data["rows"]} for n in ("all", "throws")]
    assert list(colours[1]) == ["throw"]
    assert colours[0]["throw"] == colours[1]["throw"] == "#{:02x}{:02x}{:02x}".format(*PALETTE[1])


@pytest.mark.parametrize("name", ["clip.webm", "a b#1?.webm", "10:30 100%.webm", "ünï.webm"])
def test_the_link_leads_from_the_page_to_the_video(name: str, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    video = tmp_path / "videos" / name
    video.write_bytes(b"no video at all")
    page = tmp_path / "out" / "pages" / "page.html"
    some().to_html(page, video=video)
    ((attributes, _),) = read(page).all("video")
    parts = urlsplit(attributes["src"] or "")
    assert (parts.scheme, parts.query, parts.fragment) == ("", "", "")
    assert (page.parent / unquote(parts.path)).resolve() == video.resolve()
    assert "media-src 'self' file:;" in read(page).policy
    assert read(page).data["thumbnails"] == []  # nothing can be read, and the page is there


def test_an_embedded_video_is_in_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = write_webm(tmp_path / "clip.webm", seconds=2)
    some().to_html(tmp_path / "page.html", video=video, embed=True)
    page = read(tmp_path / "page.html")
    ((attributes, _),) = page.all("video")
    head, _, content = (attributes["src"] or "").partition(",")
    assert head == "data:video/webm;base64"
    assert base64.b64decode(content) == video.read_bytes()
    assert "media-src data:;" in page.policy
    monkeypatch.setattr(media, "EMBED_BYTES", 100)
    with pytest.raises(InputError, match=r"clip\.webm: got 0\.\d MB, expected at most 0\.0 MB .* leave out --embed"):
        some().to_html(tmp_path / "other.html", video=video, embed=True)
    with pytest.raises(VideoError, match=r"gone\.webm: video not found"):
        some().to_html(tmp_path / "other.html", video=tmp_path / "gone.webm")
    assert not (tmp_path / "other.html").exists()


def test_a_video_that_browsers_do_not_play_is_embedded_as_a_copy_that_they_do(tmp_path: Path) -> None:
    """Frames keep their times, read back by another reader; what browsers play stays as it is."""
    video = write_numbered(tmp_path / "v.avi", 60)
    assert not is_played(video)
    assert is_played(write_webm(tmp_path / "v.webm", seconds=1))
    some().to_html(tmp_path / "page.html", video=video, embed=True)
    ((attributes, _),) = read(tmp_path / "page.html").all("video")
    head, _, content = (attributes["src"] or "").partition(",")
    assert head == "data:video/webm;base64"
    (tmp_path / "copy.webm").write_bytes(base64.b64decode(content))
    assert is_played(tmp_path / "copy.webm")
    capture = cv2.VideoCapture(str(tmp_path / "copy.webm"))
    seen = []
    while True:
        read_one, frame = capture.read()
        if not read_one:
            break
        seen.append((round(capture.get(cv2.CAP_PROP_POS_MSEC)), read_number(np.asarray(frame, np.uint8)[..., ::-1])))
    assert seen == [(100 * number, number) for number in range(60)]
    with pytest.raises(
        InputError, match=r"v\.avi: got 0 minutes, of which a copy .* more than 0\.0 MB; leave out --embed"
    ):
        make_preview(video, 1000)
    (tmp_path / "text.avi").write_text("no video")
    with pytest.raises(VideoError, match=r"text\.avi: cannot be converted for its page"):
        make_preview(tmp_path / "text.avi", 1 << 20)


def write_numbered(path: Path, count: int) -> Path:
    """Write a video of ten frames a second that carry their numbers, in a codec that browsers do not play."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (192, 48))
    for number in range(count):
        writer.write(draw(number)[..., ::-1])
    writer.release()
    return path


def test_thumbnails_are_frames_of_their_times(tmp_path: Path) -> None:
    """Every frame carries its number: the k-th of eight thumbnails is near the middle of the k-th eighth."""
    write_numbered(tmp_path / "v.avi", 240)
    addresses = [*map(data_address, read_thumbnails(tmp_path / "v.avi", 8, 24.0))]
    pictures = [np.frombuffer(base64.b64decode(a.partition(",")[2]), np.uint8) for a in addresses]
    numbers = [read_number(np.asarray(cv2.imdecode(picture, cv2.IMREAD_COLOR))[..., ::-1]) for picture in pictures]
    assert numbers == pytest.approx([15 + 30 * k for k in range(8)], abs=8)
    assert read_thumbnails(tmp_path / "v.avi", 0, 24.0) == read_thumbnails(None, 8, 24.0) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 1.5}, "threshold"),
        ({"tiou": 0.1}, "tiou"),
        ({"thumbnails": 1000}, "thumbnails"),
        ({"duration_s": 0.0}, "duration_s"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments: dict[str, float], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        some().to_html(tmp_path / "page.html", **arguments)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_video_without_detections_has_a_page(tmp_path: Path) -> None:
    Detections.empty(CLASSES, "v").to_html(tmp_path / "page.html")
    assert read(tmp_path / "page.html").data["rows"] == []
