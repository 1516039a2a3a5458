"""Formats of other tools: every one is read back as it was written, and others read it as it is meant."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.common.text import printable
from runtime.errors import AnnotationError, InputError, MissingDependencyError
from runtime.exchange.document import Document, xml_text
from runtime.exchange.files import read_segments, write_segments
from runtime.exchange.formats import BY_SUFFIX, FORMATS, recognise
from runtime.exchange.record import Segment, VideoSegments
from runtime.results.detections import Detections
from runtime.results.facts import VideoFacts

FPS = 25.0
HOSTILE = (
    "plain",
    "two\nlines",
    "quote \" and ' and `",
    "<b>bold</b> & <script>alert(1)</script>",
    "🤸 emoji ünïcödé 跳",
    "a/b\\c",
    "nul \0 bell \a escape \x1b[31m",
    "tab\tcomma,semicolon;",
    "-->",
    "{\\an8}x",
    "]]> <!-- -->",
    "=1+1",
    "* LOC: 01:00:00:00 RED forged",
    "long " * 400 + "end",
    "\u202eright to left",
    "\r carriage",
)
VIDEOS = (
    VideoSegments(
        "street",
        (Segment(0.4, 2.0, "jump", 0.5), Segment(1.0, 3.0, "jump", 0.25), Segment(3600.04, 3661.0, "run", 1.0)),
        "/data/videos/street.mp4",
        4000.0,
        FPS,
        (640, 360),
        "training",
    ),
    VideoSegments(
        "pool 2", (Segment(0.0, 0.04, "run", 0.75),), "/data/videos/pool 2.mp4", 10.0, FPS, (640, 360), "test"
    ),
)
"""At whole frames, with overlapping segments of one class, one beyond an hour, and one of a single frame."""
EXACT = ("activitynet", "jsonl", "opentad", "actionformer", "label-studio", "via", "fiftyone", "otio")
LINES = ("csv", "audacity", "edl", "thumos14")
"""Formats of lines, whose labels have control characters as escapes."""
UNSCORED = ("actionformer", "audacity", "thumos14")


def as_read(name: str, label: str) -> str:
    """What a label becomes on the way through a format."""
    if name in EXACT:
        return label
    if name in ("elan", "cvat"):
        return xml_text(label)
    if name == "csv":
        return printable(label).replace("\\u0009", "\t").replace("\\u000a", "\n")
    if name == "srt":
        return printable(label).translate(str.maketrans({"<": "‹", ">": "›", "{": "(", "}": ")", "\\": "⧵"})).strip()
    if name == "vtt":
        return printable(label).strip()
    return printable(label).strip() if name == "edl" else printable(label)


def write(name: str, videos: tuple[VideoSegments, ...], folder: Path, **options: Any) -> Path:
    """Write videos, of a format with a file per video to a folder."""
    several = FORMATS[name].several and name != "thumos14"
    target = folder / (f"all{FORMATS[name].suffix}" if several else "files")
    write_segments(target, videos, name, **options)
    return target


def without_spaces(videos: tuple[VideoSegments, ...]) -> tuple[VideoSegments, ...]:
    return tuple(replace(video, name=video.name.replace(" ", "-")) for video in videos)


@pytest.mark.parametrize("name", list(FORMATS))
def test_every_format_is_read_back_as_it_was_written(name: str, tmp_path: Path) -> None:
    videos = without_spaces(VIDEOS) if name.startswith("thumos14") else VIDEOS
    if name == "thumos14-detections":
        videos = tuple(
            replace(
                v, segments=tuple(replace(s, label="Diving" if s.label == "run" else "LongJump") for s in v.segments)
            )
            for v in videos
        )
    kind = "annotations" if name in UNSCORED else "predictions"
    path = write(name, videos, tmp_path, kind=kind)
    found = read_segments(path, fps=FPS if FORMATS[name].in_frames else None, kind=kind)
    assert sorted(video.name for video in found) == sorted(video.name for video in videos)
    by_name = {video.name: video for video in found}
    for video in videos:
        got, expected = by_name[video.name].in_time_order(), video.in_time_order()
        assert [one.label for one in got] == [one.label for one in expected]
        for one, other in zip(got, expected, strict=True):
            assert one.start_s == pytest.approx(other.start_s, abs=1e-6)
            assert one.end_s == pytest.approx(other.end_s, abs=1e-6)
            assert one.score == (None if name in UNSCORED else other.score)


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "thumos14"])
def test_what_was_written_is_written_anew_unless_somebody_changed_it(name: str, tmp_path: Path) -> None:
    """In formats that have a place for a mark; what the others hold may have been corrected, so it stays."""
    kind: Any = "annotations" if name in UNSCORED else "predictions"
    path = tmp_path / f"file{FORMATS[name].suffix}"

    def put(start_s: float) -> None:
        video = VideoSegments("v", (Segment(start_s, 9.0, "Diving", 0.5),), duration_s=9.0, fps=FPS, size=(64, 48))
        write_segments(path, (video,), name, kind=kind)

    put(1.0)
    first = path.read_bytes()
    put(1.0)
    if FORMATS[name].mark is None:
        assert name in ("label-studio", "via", "csv", "jsonl", "srt", "audacity", "thumos14-detections")
        with pytest.raises(InputError, match=r"holds something else, perhaps what somebody corrected.*--overwrite"):
            put(2.0)
        assert path.read_bytes() == first
        return
    put(2.0)
    written = path.read_bytes()
    assert written != first
    changed = written.replace(b"Diving", b"diving")  # by hand: a word, and nothing of its form
    assert changed != written
    for content in (changed, written + b"\n", written + written, b"mine"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"was changed since afsd wrote it, or is of others.* or give --overwrite"):
            put(1.0)
        assert path.read_bytes() == content


@pytest.mark.parametrize("name", [name for name in FORMATS if not name.startswith("thumos14")])
def test_hostile_labels_forge_nothing(name: str, tmp_path: Path) -> None:
    """As many segments come back as went in, each with its own label."""
    segments = tuple(Segment(float(index), index + 0.8, label) for index, label in enumerate(HOSTILE))
    path = write(name, (replace(VIDEOS[0], segments=segments),), tmp_path)
    (video,) = read_segments(path, fps=FPS if FORMATS[name].in_frames else None)
    assert [one.label for one in video.in_time_order()] == [as_read(name, label) for label in HOSTILE]
    assert [one.start_s for one in video.in_time_order()] == pytest.approx([one.start_s for one in segments])


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "thumos14"])
def test_a_file_is_known_by_its_content(name: str, tmp_path: Path) -> None:
    videos = (VideoSegments("v", (Segment(1.0, 2.0, "Diving", 0.5),), duration_s=9.0, fps=FPS, size=(64, 48)),)
    path = tmp_path / f"file{FORMATS[name].suffix}"
    write_segments(path, videos, name, kind="annotations" if name in UNSCORED else None)
    family = "activitynet" if name in ("opentad", "actionformer") else name
    assert recognise(Document(path)) == family


def test_every_suffix_but_txt_says_what_is_written() -> None:
    assert {format.suffix for format in FORMATS.values()} - {".txt"} == set(BY_SUFFIX)
    assert all(FORMATS[name].suffix == suffix for suffix, name in BY_SUFFIX.items())


@pytest.mark.thorough
@given(
    st.lists(
        st.tuples(
            st.floats(0, 80_000, allow_nan=False),
            st.floats(0.001, 3600, allow_nan=False),
            st.text(min_size=1, max_size=30).filter(lambda text: text.strip() and not text.isspace()),
            st.floats(0, 1, allow_nan=False),
        ),
        max_size=12,
    )
)
@settings(max_examples=12, deadline=None)
def test_any_segments_survive_the_formats_that_lose_nothing(rows: list[tuple[float, float, str, float]]) -> None:
    """Times to half of what a format counts in, labels to the letter, scores to the bit."""
    from runtime.exchange.record import ReadOptions, WriteOptions

    segments = tuple(Segment(start, start + length, label, score) for start, length, label, score in rows)
    video = VideoSegments("v", segments, duration_s=90_000.0, fps=FPS, size=(64, 48))
    for name, step in (("via", 0.0), ("label-studio", 1 / FPS), ("elan", 0.001), ("cvat", 1 / FPS), ("fiftyone", 0.0)):
        way: Any = FORMATS[name].way
        document = Document(Path(f"v{FORMATS[name].suffix}"))
        document.__dict__["text"] = way.write([video], WriteOptions("predictions"))
        if document.looks_like_json:
            document.__dict__["json"] = json.loads(document.text)
        (found,) = way.read(document, ReadOptions(lambda _: FPS))
        key = lambda one: (one.label, one.score, one.start_s)  # noqa: E731
        expected = sorted((replace(one, label=as_read(name, one.label)) for one in segments), key=key)
        for one, other in zip(sorted(found.segments, key=key), expected, strict=True):
            assert (one.label, one.score) == (other.label, other.score)
            assert abs(one.start_s - other.start_s) <= step / 2 + 1e-6
            assert abs(one.end_s - other.end_s) <= 1.5 * step + 1e-6  # a segment shorter than a step becomes one


# ---- What others read ---------------------------------------------------------------------------------------------


EAF_ORDER = (
    "LICENSE", "HEADER", "TIME_ORDER", "TIER", "LINGUISTIC_TYPE", "LOCALE", "LANGUAGE", "CONSTRAINT",
    "CONTROLLED_VOCABULARY", "LEXICON_REF", "REF_LINK_SET", "EXTERNAL_REF",
)  # fmt: skip
"""Order of the elements below ANNOTATION_DOCUMENT (EAF 3.0, section 2.1)."""
EAF_REQUIRED = {
    "ANNOTATION_DOCUMENT": ("DATE", "AUTHOR", "VERSION"),
    "MEDIA_DESCRIPTOR": ("MEDIA_URL", "MIME_TYPE"),
    "TIME_SLOT": ("TIME_SLOT_ID",),
    "TIER": ("TIER_ID", "LINGUISTIC_TYPE_REF"),
    "ALIGNABLE_ANNOTATION": ("ANNOTATION_ID", "TIME_SLOT_REF1", "TIME_SLOT_REF2"),
    "REF_ANNOTATION": ("ANNOTATION_ID", "ANNOTATION_REF"),
    "LINGUISTIC_TYPE": ("LINGUISTIC_TYPE_ID",),
    "CONSTRAINT": ("STEREOTYPE",),
    "PROPERTY": (),
    **dict.fromkeys(("HEADER", "TIME_ORDER", "ANNOTATION", "ANNOTATION_VALUE"), ()),
}
"""Attributes that the specification requires of each element (EAF 3.0); others are none of those that are written."""


def test_elan_has_what_its_specification_requires(tmp_path: Path) -> None:
    root = ElementTree.parse(write("elan", VIDEOS, tmp_path) / "street.eaf").getroot()
    order = [EAF_ORDER.index(child.tag) for child in root]
    assert order == sorted(order)
    assert {"HEADER", "TIME_ORDER"} <= {child.tag for child in root}
    identifiers: list[str] = []
    for element in root.iter():
        assert set(EAF_REQUIRED[element.tag]) <= element.attrib.keys(), element.tag
        identifiers += [element.attrib[key] for key in ("TIME_SLOT_ID", "ANNOTATION_ID") if key in element.attrib]
    assert len(set(identifiers)) == len(identifiers)  # of the type xsd:ID, which also is no number
    assert all(re.fullmatch(r"[A-Za-z_][\w.-]*", identifier) for identifier in identifiers)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", root.attrib["DATE"])  # xsd:dateTime
    slots = {slot.attrib["TIME_SLOT_ID"]: int(slot.attrib["TIME_VALUE"]) for slot in root.iter("TIME_SLOT")}
    assert list(slots.values()) == sorted(slots.values())
    types = {kind.attrib["LINGUISTIC_TYPE_ID"] for kind in root.iter("LINGUISTIC_TYPE")}
    tiers = [tier.attrib["TIER_ID"] for tier in root.iter("TIER")]
    assert len(set(tiers)) == len(tiers)
    for tier in root.iter("TIER"):
        assert tier.attrib["LINGUISTIC_TYPE_REF"] in types
        ends = [-1]
        for one in tier.iter("ALIGNABLE_ANNOTATION"):
            start, end = (slots[one.attrib[f"TIME_SLOT_REF{side}"]] for side in (1, 2))
            assert ends[-1] <= start < end  # annotations of a tier do not overlap
            ends.append(end)


def test_elan_is_read_by_pympi(tmp_path: Path) -> None:
    pympi = pytest.importorskip("pympi", reason="needs pympi-ling")
    eaf = pympi.Elan.Eaf(str(write("elan", VIDEOS, tmp_path) / "street.eaf"))
    assert sorted(eaf.get_tier_names()) == ["jump", "jump score", "jump-2", "jump-2 score", "run", "run score"]
    assert eaf.get_annotation_data_for_tier("jump") == [(400, 2000, "jump")]
    assert eaf.get_annotation_data_for_tier("run") == [(3600040, 3661000, "run")]
    assert eaf.get_ref_annotation_data_for_tier("jump-2 score")[0][2] == "0.25"
    assert eaf.get_linked_files()[0]["RELATIVE_MEDIA_URL"] == "./street.mp4"


def test_a_file_of_pympi_is_read(tmp_path: Path) -> None:
    pympi = pytest.importorskip("pympi", reason="needs pympi-ling")
    eaf = pympi.Elan.Eaf(author="someone")
    eaf.add_linked_file("/somewhere/dance.mp4", relpath="./dance.mp4", mimetype="video/mp4")
    eaf.add_tier("Turn")
    eaf.add_annotation("Turn", 1500, 2750, "")  # the tier's name is the label
    eaf.add_tier("Notes")
    eaf.add_annotation("Notes", 100, 200, "Jump & <run>")
    eaf.to_file(str(tmp_path / "x.eaf"))
    (video,) = read_segments(tmp_path / "x.eaf")
    assert (video.name, video.path) == ("dance", "dance.mp4")
    assert video.segments == (Segment(0.1, 0.2, "Jump & <run>"), Segment(1.5, 2.75, "Turn"))


def test_elans_units_offsets_and_dependent_tiers(tmp_path: Path) -> None:
    notes: list[str] = []
    (tmp_path / "x.eaf").write_text(
        '<ANNOTATION_DOCUMENT AUTHOR="" DATE="2018-03-24T18:09:00-06:00" VERSION="3.0"><HEADER TIME_UNITS="PAL-frames">'
        '<MEDIA_DESCRIPTOR MEDIA_URL="file:///D:/a%20b.mpg" MIME_TYPE="video/mpeg" TIME_ORIGIN="2000"/></HEADER>'
        '<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="25"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="50"/>'
        '<TIME_SLOT TIME_SLOT_ID="ts3"/></TIME_ORDER>'
        '<TIER TIER_ID="t" LINGUISTIC_TYPE_REF="d"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" '
        'TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2"><ANNOTATION_VALUE>x</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION>'
        '</ANNOTATION></TIER><TIER TIER_ID="below" PARENT_REF="t" LINGUISTIC_TYPE_REF="w"><ANNOTATION>'
        '<ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts3"><ANNOTATION_VALUE>y'
        "</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER></ANNOTATION_DOCUMENT>",
        encoding="utf-8",
    )
    (video,) = read_segments(tmp_path / "x.eaf", note=notes.append)
    assert video.segments == (Segment(3.0, 4.0, "x"),)
    assert notes == [f"{tmp_path / 'x.eaf'}: tiers that depend on others are left out: below"]


def test_subtitles_are_read_by_others(tmp_path: Path) -> None:
    srt = pytest.importorskip("srt", reason="needs srt")
    webvtt = pytest.importorskip("webvtt", reason="needs webvtt-py")
    segments = tuple(Segment(float(index), index + 0.8, label) for index, label in enumerate(HOSTILE[:12]))
    video = replace(VIDEOS[0], segments=segments)
    for name in ("srt", "vtt"):
        write_segments(tmp_path / f"v.{name}", [video])
    cues = list(srt.parse((tmp_path / "v.srt").read_text(encoding="utf-8")))
    assert [(cue.index, cue.start.total_seconds()) for cue in cues] == [(n + 1, float(n)) for n in range(12)]
    assert cues[3].content == "‹b›bold‹/b› & ‹script›alert(1)‹/script›"
    captions = webvtt.read(str(tmp_path / "v.vtt"))
    assert [caption.start for caption in captions] == [f"00:00:{n:02d}.000" for n in range(12)]
    assert [unescape(caption.raw_text) for caption in captions] == [printable(label) for label in HOSTILE[:12]]


def test_subtitles_of_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "film.srt").write_bytes(
        b"\xef\xbb\xbf1\r\n00:00:01,500 --> 00:00:02,750 X1:40 X2:600\r\n<i>Hello</i>\r\nthere\r\n\r\n"
        b"2\r\n01:00:00,000 --> 01:00:01,000\r\n{\\an8}up 1.5 m\r\n"
    )
    (film,) = read_segments(tmp_path / "film.srt")
    assert film.segments == (Segment(1.5, 2.75, "Hello there"), Segment(3600.0, 3601.0, "up 1.5 m"))
    (tmp_path / "page.vtt").write_text(
        "WEBVTT - chapters\n\nNOTE by hand\n00:00.000 --> none\n\nSTYLE\n::cue {}\n\nintro\n00:01.500 --> 00:02.750 "
        "align:start\n<v Ann>Tom &amp; <b>Ann</b>\n\n01:00:00.000 --> 01:00:01.000\nend\n",
        encoding="utf-8",
    )
    (page,) = read_segments(tmp_path / "page.vtt")
    assert page.segments == (Segment(1.5, 2.75, "Tom & Ann"), Segment(3600.0, 3601.0, "end"))


RATES = (24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 50.0, 60000 / 1001, 60.0)


@pytest.mark.parametrize("fps", RATES)
def test_edit_lists_are_read_by_pycmx(fps: float, tmp_path: Path) -> None:
    pycmx = pytest.importorskip("pycmx", reason="needs pycmx")
    videos = tuple(replace(video, fps=fps) for video in VIDEOS)
    write_segments(tmp_path / "cut.edl", videos)
    with (tmp_path / "cut.edl").open(encoding="utf-8") as file:
        edits = list(pycmx.parse_cmx3600(file).events)
    assert [event.edits[0].clip_name for event in edits] == ["street.mp4"] * 3 + ["pool 2.mp4"]
    assert [event.edits[0].source_file is None or event.edits[0].channels.video for event in edits] == [True] * 4
    found = read_segments(tmp_path / "cut.edl", fps=fps)
    for video, other in zip(found, videos, strict=True):
        for one, expected in zip(video.in_time_order(), other.in_time_order(), strict=True):
            assert abs(one.start_s - expected.start_s) <= 0.5 / fps + 1e-6
            assert (one.label, one.score) == (expected.label, expected.score)
    text = (tmp_path / "cut.edl").read_text(encoding="utf-8")
    assert ("FCM: DROP FRAME" in text) == (abs(fps - 29.97) < 0.01 or abs(fps - 59.94) < 0.01)
    first_hour = re.findall(r"C +(\S+) (\S+)", text)[2][0]  # at 3600.04 s
    if abs(fps - 23.976) > 0.01:
        assert first_hour.startswith("01:00:00"), "timecode keeps clock time"


@pytest.mark.parametrize("fps", [30000 / 1001, 60000 / 1001, 25.0, 24000 / 1001])
def test_timecodes_are_smptes(fps: float) -> None:
    """Every minute's borders over two hours, against the package `timecode`."""
    timecode = pytest.importorskip("timecode", reason="needs timecode")
    from runtime.exchange.frame_rate import drops_frames, from_timecode, to_timecode

    rate = {25.0: "25", 24000 / 1001: "23.976"}.get(fps, f"{fps:.2f}")
    drop = drops_frames(fps)
    base = round(fps)
    for frame in [
        n for minute in range(0, 121, 3) for n in range(minute * 60 * base - 3, minute * 60 * base + 4) if n >= 0
    ]:
        theirs = timecode.Timecode(rate, frames=frame + 1, force_non_drop_frame=not drop)
        ours = to_timecode(frame, fps, drop=drop)
        assert ours.replace(";", ":") == str(theirs).replace(";", ":")
        assert from_timecode(ours, fps, drop=drop, where="") == frame


def test_an_edit_list_of_an_editor_is_read(tmp_path: Path) -> None:
    (tmp_path / "seq.edl").write_text(
        "TITLE:   Sequence 1\nFCM: NON-DROP FRAME\n\n001  TAPE1    AA/V  C        00:00:10:00 00:00:12:12 01:00:00:00 "
        "01:00:02:12\n* FROM CLIP NAME: dive.MOV\n* LOC: 01:00:00:05 GREEN   High dive\n"
        "002  TAPE1    A     C        00:00:10:00 00:00:12:12 01:00:00:00 01:00:02:12\n* COMMENT: sound only\n"
        "003  TAPE1    V     D    012 00:00:20:00 00:00:21:00 01:00:02:12 01:00:03:12\n* FROM CLIP NAME: dive.MOV\n"
        "* COMMENT: splash\n",
        encoding="utf-8",
    )
    (video,) = read_segments(tmp_path / "seq.edl", fps=25)
    assert (video.name, video.path) == ("dive", "dive.MOV")
    assert video.segments == (Segment(10.0, 12.48, "High dive"), Segment(20.0, 21.0, "splash"))
    with pytest.raises(AnnotationError, match=r"seq.edl: line 4: times are in frames .* give --fps F, or --videos"):
        read_segments(tmp_path / "seq.edl")
    with pytest.raises(AnnotationError, match=r"timecode 00:00:12:12 is none of 12 frames per second"):
        read_segments(tmp_path / "seq.edl", fps=12)


def test_timelines_are_read_and_written_by_opentimelineio(tmp_path: Path) -> None:
    otio = pytest.importorskip("opentimelineio", reason="needs opentimelineio")
    write_segments(tmp_path / "ours.otio", VIDEOS)
    timeline = otio.adapters.read_from_file(str(tmp_path / "ours.otio"))
    clips = list(timeline.find_clips())
    assert [clip.name for clip in clips] == ["jump", "jump", "run", "run"]
    urls = [clip.media_reference.target_url for clip in clips]
    assert urls == ["file:///data/videos/street.mp4"] * 3 + ["file:///data/videos/pool%202.mp4"]
    assert [Path(url2pathname(urlsplit(url).path)).name for url in urls[2:]] == ["street.mp4", "pool 2.mp4"]
    assert clips[0].source_range.start_time.to_seconds() == pytest.approx(0.4)
    assert clips[2].source_range.end_time_exclusive().to_seconds() == pytest.approx(3661.0)
    assert clips[0].metadata["afsd"]["score"] == 0.5
    assert clips[0].available_range().duration.to_seconds() == 4000
    otio.adapters.write_to_file(timeline, str(tmp_path / "theirs.otio"))  # in its newest schema
    assert read_segments(tmp_path / "theirs.otio") == read_segments(tmp_path / "ours.otio")


def test_markers_on_clips_with_a_timecode_are_segments(tmp_path: Path) -> None:
    otio = pytest.importorskip("opentimelineio", reason="needs opentimelineio")
    at = otio.opentime.RationalTime
    span = otio.opentime.TimeRange
    media = otio.schema.ExternalReference("file:///m/dive%201.mov", span(at(90000, 25), at(500, 25)))
    clip = otio.schema.Clip("whole", media)
    clip.markers.append(otio.schema.Marker("splash", span(at(90050, 25), at(25, 25))))
    timeline = otio.schema.Timeline("t")
    timeline.tracks.append(otio.schema.Track("v", children=[clip]))
    otio.adapters.write_to_file(timeline, str(tmp_path / "t.otio"))
    (video,) = read_segments(tmp_path / "t.otio")
    assert video.segments == (Segment(2.0, 3.0, "splash"),)
    assert (video.name, video.duration_s, video.fps) == ("dive 1", 20.0, 25.0)


LABEL_STUDIO = """[{"id": 7, "file_upload": "3d3ad63e-dive.mp4", "data": {"video": "/data/upload/1/3d3ad63e-dive.mp4"},
  "annotations": [
    {"id": 1, "was_cancelled": true, "result": [{"value": {"ranges": [{"start": 1, "end": 2}],
      "timelinelabels": ["no"]}, "type": "timelinelabels"}]},
    {"id": 2, "was_cancelled": false, "result": [
      {"original_length": 40.0, "value": {"ranges": [{"start": 26, "end": 50}], "timelinelabels": ["Jump", "Run"]},
       "id": "KkqL3", "from_name": "timelineLabels", "to_name": "video", "type": "timelinelabels", "origin": "manual"},
      {"value": {"start": 2.5, "end": 3.25, "channel": 0, "labels": ["Splash"]}, "id": "x", "from_name": "tricks",
       "to_name": "audio", "type": "labels"},
      {"value": {"framesCount": 9, "sequence": []}, "type": "videorectangle", "id": "y"}]}],
  "predictions": []}]"""
"""Keys as in Label Studio's exports (docs/source/includes/tags/timelinelabels.md and its audio tag, Apache-2.0)."""


def test_an_export_of_label_studio_is_read(tmp_path: Path) -> None:
    notes: list[str] = []
    path = tmp_path / "project-1.json"
    path.write_text(LABEL_STUDIO, encoding="utf-8")
    (video,) = read_segments(path, fps=25, note=notes.append)
    assert video.name == "dive"
    assert video.segments == (Segment(1.0, 2.0, "Jump"), Segment(1.0, 2.0, "Run"), Segment(2.5, 3.25, "Splash"))
    assert notes == [f"{path}: 1 region of the type videorectangle left out, as no segments of time"]
    with pytest.raises(
        AnnotationError, match=r"task 0: times are in frames and the file gives no frame rate; give --fps"
    ):
        read_segments(path)
    path.write_text(
        '[{"id": 1, "video": "s3://b/c/pool.mp4?x=1", "tricks": [{"ranges": [{"start": 1, "end": 25}], '
        '"timelinelabels": ["Dive"]}], "annotator": 1}]',
        encoding="utf-8",
    )
    (minimal,) = read_segments(path, fps=25)
    assert (minimal.name, minimal.segments) == ("pool", (Segment(0.0, 1.0, "Dive"),))


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("/data/upload/12/0a1b2c3d-my-video.mp4", "my-video.mp4"),
        ("/data/local-files/?d=videos/a%20b.mp4", "videos/a b.mp4"),
        ("https://x.org/v/run.mp4?sig=1", "/v/run.mp4"),
        ("clip.mp4", "clip.mp4"),
        ("C:\\v\\clip.mp4", "C:\\v\\clip.mp4"),
    ],
)
def test_label_studios_addresses_name_the_video(address: str, path: str) -> None:
    from runtime.exchange.file_formats.label_studio import path_of

    assert path_of(address) == path


def test_pre_annotations_for_label_studio(tmp_path: Path) -> None:
    write_segments(tmp_path / "tasks.json", VIDEOS, "label-studio", media="/data/local-files/?d=v/")
    street, pool = json.loads((tmp_path / "tasks.json").read_text(encoding="utf-8"))
    assert street["data"] == {
        "video": "/data/local-files/?d=v/street.mp4", "fps": 25.0, "duration": 4000.0, "subset": "training",
    }  # fmt: skip
    (prediction,) = street["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("afsd", 1.0)
    assert prediction["result"][0] == {
        "id": "00000",
        "type": "timelinelabels",
        "from_name": "videoLabels",
        "to_name": "video",
        "value": {"ranges": [{"start": 11, "end": 50}], "timelinelabels": ["jump"]},
        "score": 0.5,
    }
    assert pool["predictions"][0]["result"][0]["value"]["ranges"] == [{"start": 1, "end": 1}]  # frames from 1
    write_segments(tmp_path / "true.json", VIDEOS, "label-studio", kind="annotations")
    assert json.loads((tmp_path / "true.json").read_text(encoding="utf-8"))[0].keys() == {"data", "annotations"}
    found = read_segments(tmp_path / "true.json")  # the rate is in the tasks' data
    assert [video.subset for video in found] == ["training", "test"]


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><id>4</id><name>my task</name><size>300</size><mode>interpolation</mode>
<start_frame>0</start_frame><stop_frame>299</stop_frame><labels><label><name>car</name></label></labels>
<original_size><width>640</width><height>480</height></original_size><source>street.mp4</source></task>
<dumped>2020-01-01 00:00:00.000000+00:00</dumped></meta>
<track id="0" label="car" source="manual">
<box frame="10" keyframe="1" outside="0" occluded="0" xtl="1.00" ytl="2.00" xbr="3.00" ybr="4.00" z_order="0"></box>
<box frame="11" keyframe="0" outside="0" occluded="0" xtl="1.00" ytl="2.00" xbr="3.00" ybr="4.00" z_order="0"></box>
<box frame="25" keyframe="1" outside="1" occluded="0" xtl="1.00" ytl="2.00" xbr="3.00" ybr="4.00" z_order="0"></box>
<box frame="50" keyframe="1" outside="0" occluded="0" xtl="1.00" ytl="2.00" xbr="3.00" ybr="4.00" z_order="0"></box>
</track><track id="1" label="walk"><points frame="0" keyframe="1" outside="0" occluded="0" points="1,2" z_order="0"/>
<points frame="5" keyframe="1" outside="1" occluded="0" points="1,2" z_order="0"/></track></annotations>"""
"""Elements and attributes as CVAT writes them (cvat/apps/dataset_manager/formats/cvat.py, MIT)."""


def test_tracks_of_cvat_are_segments(tmp_path: Path) -> None:
    (tmp_path / "annotations.xml").write_text(CVAT, encoding="utf-8")
    (video,) = read_segments(tmp_path / "annotations.xml", fps=25)
    assert (video.name, video.size) == ("street", (640, 480))
    assert video.segments == (Segment(0.0, 0.2, "walk"), Segment(0.4, 1.0, "car"), Segment(2.0, 12.0, "car"))


def test_tags_of_cvat_are_segments(tmp_path: Path) -> None:
    tags = {0: "ab", 5: "a", 10: "", 15: "b", 20: "b", 40: "b"}  # every fifth frame; 25 to 35 are left out
    images = "".join(
        f'<image id="{number}" name="f">{"".join(f"""<tag label="{t}"/>""" for t in labels)}</image>'
        for number, labels in tags.items()
    )
    (tmp_path / "x.xml").write_text(f"<annotations><version>1.1</version>{images}</annotations>", encoding="utf-8")
    (video,) = read_segments(tmp_path / "x.xml", fps=5)
    assert sorted((one.label, one.start_s, one.end_s) for one in video.segments) == [
        ("a", 0.0, 2.0), ("b", 0.0, 1.0), ("b", 3.0, 5.0), ("b", 8.0, 9.0),
    ]  # fmt: skip


def load_as_cvat(path: Path, frames: int) -> list[tuple[str, int, int]]:
    """Do what CVAT's import does with tracks: take the attributes that it takes, and show shapes from key to key."""
    shown = []
    for track in ElementTree.parse(path).getroot().iter("track"):
        keys = {}
        for box in track.iter("box"):
            assert (float(box.attrib["xbr"]), float(box.attrib["ybr"])) == (640.0, 360.0)
            assert {"xtl", "ytl", "occluded"} <= box.attrib.keys()
            assert 0 <= int(box.attrib["frame"]) < frames, "CVAT refuses frames that its task has not"
            if box.attrib["keyframe"] == "1":
                keys[int(box.attrib["frame"])] = box.attrib["outside"] == "1"
        visible = [n for n in range(min(keys), frames) if not keys[max(key for key in keys if key <= n)]]
        shown.append((track.attrib["label"], visible[0], visible[-1]))
    return shown


def test_cvat_shows_the_frames_of_a_segment(tmp_path: Path) -> None:
    video = replace(VIDEOS[0], segments=(Segment(0.4, 2.0, "a"), Segment(5.0, 10.0, "b"), Segment(9.96, 30.0, "c")))
    write_segments(tmp_path / "v.xml", [replace(video, duration_s=10.0)])
    assert load_as_cvat(tmp_path / "v.xml", 250) == [("a", 10, 49), ("b", 125, 249), ("c", 249, 249)]


VIA_KEYS = {
    "project": {"pid", "rev", "rev_timestamp", "pname", "creator", "created", "vid_list"},
    "config": {"file", "ui"},
}
"""Keys that VIA 3 reads in a project (via-3.x.y/src/js/_via_data.js)."""


def test_a_project_of_via_has_its_keys_and_refers_to_what_is_there(tmp_path: Path) -> None:
    project = json.loads(write("via", VIDEOS, tmp_path).read_text(encoding="utf-8"))
    assert project.keys() == {"project", "config", "attribute", "file", "metadata", "view"}
    assert all(keys <= project[name].keys() for name, keys in VIA_KEYS.items())
    assert project["project"]["vid_list"] == list(project["view"]) == ["1", "2"]
    for view in project["view"].values():
        assert all(project["file"][fid].keys() == {"fid", "fname", "type", "loc", "src"} for fid in view["fid_list"])
    assert project["attribute"]["1"]["options"] == {"0": "jump", "1": "run"}
    for key, entry in project["metadata"].items():
        assert entry.keys() == {"vid", "flg", "z", "xy", "av"}
        assert key.startswith(f"{entry['vid']}_")
        assert entry["vid"] in project["view"]
        assert entry["av"]["1"] in project["attribute"]["1"]["options"]


def test_a_project_of_via_with_other_attributes_is_read(tmp_path: Path) -> None:
    """As the temporal segmenter of VIA 3.0 saves it, with a note on the file, a region and a box of marks."""
    project = {
        "project": {"pid": "__VIA_PROJECT_ID__", "pname": "p", "data_format_version": "3.1.1", "vid_list": ["1"]},
        "config": {"file": {}, "ui": {}},
        "attribute": {
            "1": {
                "aname": "TEMPORAL-SEGMENTS",
                "anchor_id": "FILE1_Z2_XY0",
                "type": 4,
                "options": {"default": "Default"},
            },
            "2": {"aname": "what", "anchor_id": "FILE1_Z2_XY0", "type": 2, "options": {"0": "run", "1": "jump"}},
            "3": {"aname": "note", "anchor_id": "FILE1_Z0_XY0", "type": 1, "options": {}},
        },
        "file": {"1": {"fid": 1, "fname": "dive.mp4", "type": 4, "loc": 1, "src": ""}},
        "metadata": {
            "1_a": {"vid": "1", "flg": 0, "z": [1.5, 2.25], "xy": [], "av": {"1": "default"}},
            "1_b": {"vid": "1", "flg": 0, "z": [3, 4], "xy": [], "av": {"2": "0,1"}},
            "1_c": {"vid": "1", "flg": 0, "z": [], "xy": [], "av": {"3": "a note"}},
            "1_d": {"vid": "1", "flg": 0, "z": [2.0], "xy": [2, 10, 10, 5, 5], "av": {}},
        },
        "view": {"1": {"fid_list": [1]}},
    }
    notes: list[str] = []
    (tmp_path / "p.json").write_text(json.dumps(project), encoding="utf-8")
    (video,) = read_segments(tmp_path / "p.json", note=notes.append)
    assert (video.name, video.path) == ("dive", "dive.mp4")
    assert video.segments == (Segment(1.5, 2.25, "Default"), Segment(3.0, 4.0, "run"), Segment(3.0, 4.0, "jump"))
    assert notes == [f"{tmp_path / 'p.json'}: 2 entries are no segments of time and are left out"]


def test_audacitys_labels_with_frequencies_and_points_are_read(tmp_path: Path) -> None:
    (tmp_path / "take.txt").write_text("0.500000\t2.000000\tjump\n\\\t100.000000\t200.000000\n3,25\t3,25\t\n4.0\t5.0\n")
    notes: list[str] = []
    (video,) = read_segments(tmp_path / "take.txt", note=notes.append)
    assert (video.name, video.segments) == ("take", (Segment(0.5, 2.0, "jump"),))
    assert notes == [f"{tmp_path / 'take.txt'}: 2 segments without a label left out"]


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("video,label,start_s,end_s\nv,a,1,2\n", {}, Segment(1.0, 2.0, "a")),
        ("video,label,start_frame,end_frame,fps\nv,a,25,50,25\n", {}, Segment(1.0, 2.0, "a")),
        ("video,label,start_frame,end_frame\nv.mp4,a,25,50\n", {"fps": 25}, Segment(1.0, 2.0, "a")),
        ("Video;Action;Start;End;Confidence\nv;a;0:01;0:02,5;0.25\n", {}, Segment(1.0, 2.5, "a", 0.25)),
        ("\ufeffvideo;label;start;end;score\r\nv;a;1,5;2,75;0,5\r\n", {}, Segment(1.5, 2.75, "a", 0.5)),
        ("video;label;start_frame;end_frame;fps\nv;a;25;50;12,5\n", {}, Segment(2.0, 4.0, "a")),
        ("video\tlabel\tstart\tend\nv\ta,b\t1,5\t2.75\n", {}, Segment(1.5, 2.75, "a,b")),
        ("label\tbegin\tend\n'=x\t1:00:01\t3602\n", {}, Segment(3601.0, 3602.0, "=x")),
        ("video,type,start,end\nv,a,25,50\n", {"fps": 25, "unit": "frames"}, Segment(1.0, 2.0, "a")),
    ],
)
def test_tables_of_people(text: str, options: dict[str, Any], expected: Segment, tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text(text, encoding="utf-8")
    (video,) = read_segments(tmp_path / "v.csv", **options)
    assert (video.name, video.segments) == ("v", (expected,))


def test_what_detect_writes_is_read_with_what_it_says_of_the_video(tmp_path: Path) -> None:
    facts = VideoFacts("videos/street.mp4", 4000.0, FPS, "model.onnx", 0.2, "class", 0.5, version="1")
    found = replace(VIDEOS[0].to_detections(), facts=facts)
    (tmp_path / "found.csv").write_text(found.to_csv(bom=True), encoding="utf-8")
    (table,) = read_segments(tmp_path / "found.csv")
    assert (table.name, table.path, table.segments) == ("street", "videos/street.mp4", VIDEOS[0].segments)
    found.to_json(tmp_path / "found.json")
    (read,) = read_segments(tmp_path / "found.json")
    known = VideoSegments("street", VIDEOS[0].segments, "videos/street.mp4", 4000.0, FPS, threshold=0.2)
    assert replace(read, origin=None) == known
    for suffix in (".json", ".jsonl"):  # converted it says the same
        write_segments(tmp_path / f"again{suffix}", [read])
        (again,) = read_segments(tmp_path / f"again{suffix}")
        assert again == read
        assert again.to_detections().facts == facts
    write_segments(tmp_path / "again.json", [read])
    assert read_segments(tmp_path / "again.json") == (read,)


def test_a_table_in_frames_says_its_rate(tmp_path: Path) -> None:
    write_segments(tmp_path / "t.csv", VIDEOS, unit="frames")
    rows = (tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()
    assert rows[:2] == ["video,label,start_frame,end_frame,score,fps,subset", "street,jump,10,50,0.5,25.0,training"]
    with pytest.raises(InputError, match=r"v: a table in frames needs the frame rate, which is unknown; give --fps"):
        write_segments(tmp_path / "u.csv", [VideoSegments("v", (Segment(0.0, 1.0, "a"),))], unit="frames")


def test_the_kits_folder_is_written_as_the_kit_has_it(tmp_path: Path) -> None:
    from runtime.annotations.thumos14 import read_kit_annotations

    video = VideoSegments("video_test_0000004", (Segment(0.2, 1.1, "CricketBowling"), Segment(2.0, 3.0, "Ambiguous")))
    written = write_segments(tmp_path / "annotation", [video], "thumos14")
    assert len(written) == 21
    (found,) = read_kit_annotations(tmp_path / "annotation")
    assert [(one.label, one.start_s, one.end_s) for one in found.instances] == [
        ("CricketBowling", 0.2, 1.1), ("Ambiguous", 2.0, 3.0),
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"label 'jump' is none of THUMOS'14's 20 classes"):
        write_segments(tmp_path / "d.txt", VIDEOS[:1], "thumos14-detections")
    with pytest.raises(InputError, match=r"'pool 2', expected one without spaces"):
        write_segments(tmp_path / "x", VIDEOS, "thumos14")


def test_opentad_and_actionformer_get_what_their_loaders_read(tmp_path: Path) -> None:
    write_segments(tmp_path / "o.json", VIDEOS, "opentad", kind="annotations")
    street = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))["database"]["street"]
    assert (street["subset"], street["duration"], street["frame"]) == ("training", 4000.0, 100_000)
    write_segments(tmp_path / "a.json", VIDEOS, "actionformer", kind="annotations")
    street = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["database"]["street"]
    assert (street["fps"], [one["label_id"] for one in street["annotations"]]) == (25.0, [0, 0, 1])
    with pytest.raises(InputError, match=r"street: OpenTAD needs its length, which is unknown; give --videos DIR"):
        write_segments(tmp_path / "p.json", [replace(VIDEOS[0], duration_s=None)], "opentad", kind="annotations")
    with pytest.raises(InputError, match="ActionFormer keeps its detections as pickles"):
        write_segments(tmp_path / "p.json", VIDEOS, "actionformer")


class _TemporalDetection(dict[str, Any]):
    def __init__(self, **fields: Any) -> None:
        super().__init__(fields)

    @classmethod
    def from_timestamps(cls, timestamps: Any, sample: Any = None, **fields: Any) -> _TemporalDetection:
        return cls(timestamps=timestamps, sample=sample, **fields)


def test_detections_are_given_to_fiftyone(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import SimpleNamespace

    found = VIDEOS[0].to_detections()
    monkeypatch.setitem(sys.modules, "fiftyone", None)  # as where it is not installed
    with pytest.raises(MissingDependencyError, match=r"Detections.to_fiftyone needs fiftyone, which is not installed"):
        found.to_fiftyone(fps=25)
    fake = SimpleNamespace(TemporalDetection=_TemporalDetection, TemporalDetections=lambda detections: detections)
    monkeypatch.setitem(sys.modules, "fiftyone", fake)
    first, *_ = found.to_fiftyone(fps=25)
    assert first == {"label": "jump", "confidence": 0.5, "support": [11, 50]}  # frames from 1, the last one in it
    first, *_ = found.to_fiftyone("sample")
    assert first == {"label": "jump", "confidence": 0.5, "timestamps": [0.4, 2.0], "sample": "sample"}
    with pytest.raises(InputError, match="give the sample, whose metadata has the frame rate, or fps"):
        found.to_fiftyone()


def test_fiftyones_labels_with_supports_are_read(tmp_path: Path) -> None:
    labels = {"classes": ["run", "jump"], "labels": {"a": [{"label": 1, "support": [11, 50]}], "b": None}}
    (tmp_path / "labels.json").write_text(json.dumps(labels), encoding="utf-8")
    first, second = read_segments(tmp_path / "labels.json", fps=25)
    assert first.segments == (Segment(0.4, 2.0, "jump"),)
    assert second.segments == ()


# ---- Faults -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "x.json",
            '{"a": 1}',
            r"x.json: of no format that is known by its content; give --from NAME, one of activitynet",
        ),
        ("x.json", "[1", r"x.json: not JSON"),
        ("x.xml", "<a><b></a>", r"x.xml: not XML"),
        (
            "x.xml",
            '<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>',
            r"x.xml: declares entities, which no annotation tool writes",
        ),
        ("x.xml", "<a>" * 300 + "</a>" * 300, r"nested more than 200 deep"),
        ("x.srt", "1\n00:00:02,000 --> 00:00:01,000\nx\n", r"expected the end not before the start"),
        ("x.txt", "1.0\t0.5\tx\n", r"line 1: got \[1, 0.5\], expected the end not before the start"),
        ("x.csv", "video,label,start,end\nv,a,1,x\n", r"x.csv: row 2: end: got 'x', expected a number"),
        ("x.csv", "video,label,start,end\nv,a,nan,1\n", r"row 2: start: got 'nan', expected a number"),
        ("x.csv", "label,start_frame,end_frame\na,1,2\n", r"times are in frames and the file gives no frame rate"),
        (
            "x.eaf",
            "<ANNOTATION_DOCUMENT><HEADER TIME_UNITS='hours'/></ANNOTATION_DOCUMENT>",
            r"TIME_UNITS: got 'hours'",
        ),
        ("x.otio", '{"OTIO_SCHEMA": "Clip.1", "name": "c"}', r"clip 0: has no source_range"),
        ("x.json", '[{"data": {"video": "v.mp4"}, "annotations": [{"result": [3]}]}]', r"task 0: region: got 3"),
        ("x.json", '[{"data": {}, "annotations": []}]', r"task 0: names no video"),
        ("x.bin", "nothing of the kind", r"x.bin: of no format"),
    ],
)
def test_faults_are_named(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises((AnnotationError, InputError), match=message):
        read_segments(tmp_path / name)


@pytest.mark.thorough
@pytest.mark.parametrize("name", [name for name in FORMATS if name != "thumos14"])
def test_a_damaged_file_is_an_error_or_less(name: str, tmp_path: Path) -> None:
    """Cut off anywhere, or with a letter replaced, a file is read or refused in one line."""
    videos = (VideoSegments("v", (Segment(1.0, 2.0, "Diving", 0.5),), duration_s=9.0, fps=FPS, size=(64, 48)),)
    path = tmp_path / f"v{FORMATS[name].suffix}"
    write_segments(path, videos, name, kind="annotations" if name in UNSCORED else None)
    whole = path.read_text(encoding="utf-8")
    step = max(len(whole) // 12, 1)
    for at in range(0, len(whole), step):
        for text in (whole[:at], f"{whole[:at]}x{whole[at + 1 :]}", f"{whole[:at]}-9e999{whole[at + 1 :]}"):
            path.write_text(text, encoding="utf-8")
            found: tuple[VideoSegments, ...] = ()
            with suppress(AnnotationError, InputError):
                found = read_segments(path, name, fps=FPS)
            times = [time for video in found for one in video.segments for time in (one.start_s, one.end_s)]
            assert all(map(math.isfinite, times))


def _write_twice(folder: Path) -> None:
    (folder / "a.txt").write_text("1\t2\tx\n")
    (folder / "a.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nx\n")


def _write_nothing(folder: Path) -> None:
    (folder / "notes.md").write_text("x")


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (_write_nothing, r"holds no file of a known format"),
        (_write_twice, r"holds files of several formats, 1 of SubRip, 1 of Audacity's labels; give --from NAME"),
    ],
)
def test_folders_that_are_not_clear(fill: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    fill(tmp_path)
    with pytest.raises(AnnotationError, match=message):
        read_segments(tmp_path)


def test_one_result_in_several_formats_is_read_as_json(tmp_path: Path) -> None:
    """A folder of `afsd detect --format json csv srt`: the JSON has all digits. What only a table holds is not left."""
    found = [replace(one, facts=None) for one in (sample("one"), sample("two"))]
    for one in found:
        for suffix in ("json", "csv", "srt"):
            one.save(tmp_path / f"{one.video}.{suffix}", duration_s=9.0)
    by_name = {video.name: video for video in read_segments(tmp_path)}
    assert [one.start_s for one in by_name["one"].segments] == [1.23456]
    (tmp_path / "two.json").unlink()
    with pytest.raises(AnnotationError, match="holds files of several formats"):
        read_segments(tmp_path)
    notes: list[str] = []
    assert {video.name for video in read_segments(tmp_path, "csv", note=notes.append)} == {"one", "two"}
    assert all("no known format" not in note for note in notes)


def sample(name: str) -> Detections:
    """One detection with more digits than a table has."""
    return Detections(np.array([[1.23456, 2.5]]), np.zeros(1, np.int32), np.array([0.75]), ("run",), name)


DEEP = (
    VideoSegments("a/x", (Segment(1.0, 2.0, "run"),), duration_s=10.0, fps=FPS, size=(64, 48)),
    VideoSegments("b/x", (Segment(3.0, 4.0, "run"),), duration_s=10.0, fps=FPS, size=(64, 48)),
    VideoSegments("y", (Segment(5.0, 6.0, "run"),), duration_s=10.0, fps=FPS, size=(64, 48)),
)


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("edl", "thumos14-detections")])
@pytest.mark.parametrize("folder", ["", "/data/v/"])
def test_videos_in_folders_keep_their_names(name: str, folder: str, tmp_path: Path) -> None:
    videos = tuple(replace(video, path=f"{folder}{video.name}.mp4") if folder else video for video in DEEP)
    path = write(name, videos, tmp_path, kind="annotations")
    found = read_segments(path, fps=FPS if FORMATS[name].in_frames else None)
    assert sorted((v.name, v.segments[0].start_s) for v in found) == [("a/x", 1.0), ("b/x", 3.0), ("y", 5.0)]


def test_an_edit_list_that_would_merge_two_videos_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"two videos have files called 'x', and an edit decision list names"):
        write_segments(tmp_path / "x.edl", DEEP)
    with pytest.raises(InputError, match=r"'clip' and 'clip-2' would both be '/d/clip.mp4', expected a file for each"):
        write_segments(
            tmp_path / "x.json",
            [replace(DEEP[2], name=name, path=f"{name}/clip.mp4") for name in ("clip", "clip-2")],
            "label-studio",
            media="/d/",
        )
    write_segments(tmp_path / "x.json", DEEP, "label-studio", media="/d/")
    tasks = json.loads((tmp_path / "x.json").read_text())
    assert [task["data"]["video"] for task in tasks] == ["/d/a/x.mp4", "/d/b/x.mp4", "/d/y.mp4"]


def test_files_below_a_folder_are_read_where_they_are_of_its_format(tmp_path: Path) -> None:
    write_segments(tmp_path / "d", DEEP, "vtt")
    (tmp_path / "d" / "a" / "x.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nx\n")  # of another one
    (tmp_path / "d" / ".hidden").mkdir()
    (tmp_path / "d" / ".hidden" / "z.vtt").write_text("WEBVTT\n")
    assert [video.name for video in read_segments(tmp_path / "d")] == ["y", "a/x", "b/x"]
    write_segments(tmp_path / "one" / "all.json", DEEP)
    write_segments(tmp_path / "one" / "below", DEEP, "vtt")
    assert [video.name for video in read_segments(tmp_path / "one")] == ["a/x", "b/x", "y"]


def test_times_in_frames_below_a_folder_take_the_rate_of_the_video_there(tmp_path: Path) -> None:
    from runtime.exchange.files import find_segments
    from runtime.exchange.media import FileFacts, VideoFolder

    class Rates(VideoFolder):
        def find(self, name: str) -> FileFacts | None:
            return FileFacts(Path(name), 10.0, {"a/x": 25.0, "b/x": 50.0, "y": 25.0}[name], (64, 48))

    write_segments(tmp_path / "d", DEEP, "cvat")
    found = find_segments(tmp_path / "d", None, fps=None, media=Rates(None)).videos
    assert {video.name: video.segments[0].start_s for video in found} == {"a/x": 1.0, "b/x": 1.5, "y": 5.0}


def test_numbers_of_numpy_are_written_as_others_are(tmp_path: Path) -> None:
    plain = VideoSegments("v", (Segment(1.0, 2.0, "Diving", 0.5),), "v.mp4", 10.0, FPS, (64, 48))
    of_numpy = VideoSegments(
        "v",
        (Segment(np.float64(1), np.float32(2), "Diving", np.float64(0.5)),),
        "v.mp4",
        np.float64(10),
        np.float64(FPS),
        (np.int64(64), np.int64(48)),  # type: ignore[arg-type]
    )
    for name in FORMATS:
        kind = "annotations" if name in UNSCORED else "predictions"
        paths = [
            write_segments(tmp_path / f"{what}-{name}{FORMATS[name].suffix}", [one], name, kind=kind)
            for what, one in (("a", plain), ("b", of_numpy))
        ]
        first, second = ([path.read_bytes() for path in files] for files in paths)
        assert first == second, name


@pytest.mark.parametrize("suffix", ["srt", "vtt"])
def test_subtitles_keep_labels_that_end_like_scores_and_last_a_moment(suffix: str, tmp_path: Path) -> None:
    video = VideoSegments("v", (Segment(1.0002, 1.0004, "level 0.50"), Segment(2.0, 2.0, "level 1.00")))
    write_segments(tmp_path / f"v.{suffix}", [video])
    (read,) = read_segments(tmp_path / f"v.{suffix}")
    assert read.segments == (Segment(1.0, 1.001, "level 0.50"), Segment(2.0, 2.001, "level 1.00"))
    if suffix == "srt":
        srt = pytest.importorskip("srt", reason="needs srt")
        assert all(cue.end > cue.start for cue in srt.parse((tmp_path / "v.srt").read_text()))
    scored = replace(video, segments=tuple(replace(one, score=0.25) for one in video.segments))
    write_segments(tmp_path / f"s.{suffix}", [scored])
    (read,) = read_segments(tmp_path / f"s.{suffix}")
    assert [(one.label, one.score) for one in read.segments] == [("level 0.50", 0.25), ("level 1.00", 0.25)]


def test_elans_address_of_the_video_is_a_url(tmp_path: Path) -> None:
    write_segments(tmp_path / "x.eaf", [VIDEOS[1]])
    text = (tmp_path / "x.eaf").read_text()
    assert 'MEDIA_URL="file:///data/videos/pool%202.mp4"' in text
    for url, name in (("file:///data/videos/pool%202.mp4", "pool 2"), ("file:///C:/v/pool%202.mp4", "pool 2")):
        changed = re.sub(r'RELATIVE_MEDIA_URL="[^"]*"', "", text).replace("file:///data/videos/pool%202.mp4", url)
        (tmp_path / "y.eaf").write_text(changed)
        (video,) = read_segments(tmp_path / "y.eaf")
        assert (video.name, video.path) == (name, "C:/v/pool 2.mp4" if "C:" in url else VIDEOS[1].path)


def test_more_events_than_an_edit_list_numbers_are_said() -> None:
    from runtime.exchange.files import list_losses

    many = replace(VIDEOS[0], segments=tuple(Segment(float(n), n + 0.5, "a") for n in range(1000)))
    assert "1000 segments: an edit decision list (CMX 3600) counts to 999" in " ".join(list_losses([many], "edl"))
    assert "counts to" not in " ".join(list_losses([replace(many, segments=many.segments[1:])], "edl"))


def test_labels_of_audacity_in_a_file_of_the_kits_name_are_audacitys(tmp_path: Path) -> None:
    (tmp_path / "clip_test.txt").write_text("0.5\t2.0\tjump\n3.0\t4.0\t7\n")
    (video,) = read_segments(tmp_path)
    assert (video.name, [one.label for one in video.segments]) == ("clip_test", ["jump", "7"])
    (tmp_path / "clip_test.txt").write_text("0.5\t2.0\t7\n")
    (video,) = read_segments(tmp_path)
    assert video.segments == (Segment(0.5, 2.0, "7"),)
    (tmp_path / "clip_test.txt").write_text("clip1 0.5 2.0\n")
    (video,) = read_segments(tmp_path)
    assert (video.name, video.segments) == ("clip1", (Segment(0.5, 2.0, "clip"),))
