"""Which frames are in a clip, by the numbers drawn in them and the ffmpeg program that reads them."""

from __future__ import annotations

import io
import json
import subprocess
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from runtime import cli
from runtime.clips.copying import index_packets
from runtime.clips.cutting import Clip, Source, write_clips, write_reel
from runtime.clips.encoding import fit
from runtime.clips.own_clips import require_own_clip
from runtime.clips.plan import Cut
from runtime.errors import AfsdError, InputError, VideoError
from runtime.video.readers.pyav import import_av
from tests.media import Media, find_ffmpeg, read_truth

MakeMedia = Callable[[str], Media]
REORDERED = 3
"""Most frames that may be shown behind the end of a copied cut, since others depend on them."""


def cut(start: float, end: float, label: str = "jump", number: int = 1) -> Cut:
    return Cut(start, end, (label,), number)


def numbers(path: Path, folder: Path) -> list[int]:
    """Numbers of the frames that ffmpeg shows of a file."""
    copy = folder / f"seen-{path.name}"
    copy.write_bytes(path.read_bytes())
    return list(read_truth(copy).numbers)


def expected(media: Media, start: float, end: float) -> list[int]:
    """Numbers of the frames that are on screen within a part, by what ffmpeg shows of the whole file."""
    assert media.truth is not None
    times, shown = [*media.truth.times, media.truth.end], media.truth.numbers
    near = Fraction(1, 1000)
    return [n for n, a, b in zip(shown, times, times[1:], strict=False) if a < end - near and b > start + near]


def check_copy(media: Media, start: float, end: float, folder: Path) -> Clip:
    """Check that a copied cut holds its frames, those from the key frame before, and next to no others."""
    (clip,) = write_clips(Source("v", media.path, (cut(start, end),)), folder)
    wanted = expected(media, start, end)
    seen = numbers(clip.path, folder)
    assert -1 not in seen
    early = [n for n in seen if n < wanted[0]]
    late = [n for n in seen if n > wanted[-1]]
    assert [n for n in seen if wanted[0] <= n <= wanted[-1]] == wanted[-len(seen) :]
    assert len(late) <= REORDERED
    assert early == list(range(wanted[0] - len(early), wanted[0]))
    key = index_packets(media.path).key_before(start).time_s
    assert clip.early_s == pytest.approx(max(start - key, 0.0), abs=1e-6)
    assert len(early) == pytest.approx(clip.early_s * 30, abs=1.01)
    return clip


def test_a_copy_begins_at_the_key_frame_before(media: MakeMedia, tmp_path: Path) -> None:
    long = media("long.mp4")  # 5 s at 30 fps with sound, a key frame every 2 s
    clip = check_copy(long, 2.7, 3.5, tmp_path)
    assert clip.path.name == "v-01-jump-00m02.7s.mp4"
    assert clip.early_s == pytest.approx(0.7, abs=0.001)
    assert sound_seconds(clip.path) == pytest.approx(1.5, abs=0.06)
    assert check_copy(long, 4.0, 9.0, tmp_path).early_s == 0.0  # beyond the end of the video


def test_an_exact_cut_has_its_frames_and_no_others(media: MakeMedia, tmp_path: Path) -> None:
    long = media("long.mp4")
    cuts = (cut(0.5, 1.1), cut(0.9, 2.0, "run", 2), cut(4.5, 9.0, "end", 3))
    clips = write_clips(Source("v", long.path, cuts), tmp_path, exact=True)
    assert [clip.early_s for clip in clips] == [0.0] * 3
    for one, clip in zip(cuts, clips, strict=True):
        assert numbers(clip.path, tmp_path) == expected(long, one.start_s, one.end_s)
        length = min(one.end_s, 5.0) - one.start_s
        assert sound_seconds(clip.path) == pytest.approx(length, abs=0.05)
    truth = read_truth(clips[0].path)
    assert [float(time) for time in truth.times] == pytest.approx([n / 30 for n in range(18)], abs=0.002)


def test_exact_cuts_keep_the_times_of_frames_at_a_varying_rate(media: MakeMedia, tmp_path: Path) -> None:
    jitter = media("variable_jitter.mkv")
    (clip,) = write_clips(Source("v", jitter.path, (cut(1.0, 2.0),)), tmp_path, exact=True)
    assert numbers(clip.path, tmp_path) == expected(jitter, 1.0, 2.0)
    truth, whole = read_truth(clip.path), jitter.truth
    assert whole is not None
    at = dict(zip(whole.numbers, whole.times, strict=True))
    first = truth.numbers[0]
    assert all(
        float(time) == pytest.approx(float(at[n]) - 1.0, abs=0.004)
        for n, time in zip(truth.numbers, truth.times, strict=True)
        if n != first  # on screen since before
    )


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name",
    [
        "container.mkv", "container.mov", "container.ts", "container.flv", "opus.webm", "vp9.webm", "hevc.mp4",
        "av1.mp4", "picture_later.mp4", "starts_at_4.mkv", "starts_at_1.4.ts", "sound_first_stream.mp4",
        "cover_first.mp4", "program.mpg", "trimmed.mp4", "rate_59.94.mp4", "mpeg2_interlaced.ts",
    ],
)  # fmt: skip
def test_copies_of_other_containers_and_codecs(name: str, media: MakeMedia, tmp_path: Path) -> None:
    source = media(name)
    assert source.truth is not None
    first = float(source.truth.times[0])
    (clip,) = write_clips(Source("v", source.path, (cut(first + 0.4, first + 0.8),)), tmp_path)
    require_own_clip(clip.path)  # or it could not be written anew
    wanted, seen = expected(source, first + 0.4, first + 0.8), numbers(clip.path, tmp_path)
    assert set(wanted) <= set(seen)
    assert max(seen) <= wanted[-1] + REORDERED


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name", ["mpeg4_b_frames.avi", "variable_hold.mp4", "rotated_90.mp4", "odd_size.mkv", "joined.ts"]
)
def test_exact_cuts_of_odd_videos(name: str, media: MakeMedia, tmp_path: Path) -> None:
    source = media(name)
    (clip,) = write_clips(Source("v", source.path, (cut(0.3, 0.7),)), tmp_path, exact=True)
    wanted = expected(source, 0.3, 0.7) if source.truth else list(range(9, 21))
    assert numbers(clip.path, tmp_path) == wanted


@pytest.mark.thorough
def test_what_cannot_be_copied_says_that_exact_can(media: MakeMedia, tmp_path: Path) -> None:
    for name, reason in (
        ("mpeg4_b_frames.avi", "has no time stamps of presentation"),
        ("joined.ts", "its time stamps begin anew at 2.0 s"),
    ):
        with pytest.raises(VideoError, match=rf"{reason}.*, so its packets cannot be cut as they are; give --exact"):
            write_clips(Source("v", media(name).path, (cut(0.3, 0.7),)), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.thorough
def test_a_turned_video_is_turned_in_its_copy(media: MakeMedia, tmp_path: Path) -> None:
    check_copy(media("rotated_90.mp4"), 0.4, 0.8, tmp_path)


@pytest.fixture
def clapper(tmp_path: Path) -> Path:
    """A video of 6 s with a click at every half second that is no whole one, and key frames 2 s apart."""
    path = tmp_path / "clapper.mp4"
    click = "aevalsrc='if(between(mod(t,1),0.5,0.51),sin(2*PI*2000*t),0)':s=48000:d=6"
    words = f"-f lavfi -i testsrc=s=64x48:r=25:d=6 -f lavfi -i {click} -c:v libx264 -g 50 -bf 2 -c:a aac".split()
    subprocess.run([find_ffmpeg(), "-nostdin", "-loglevel", "error", "-y", *words, str(path)], check=True)
    return path


def clicks(path: Path) -> list[float]:
    """Times at which clicks begin in a file, on its own clock, as ffmpeg decodes it."""
    with read_sound_of(path) as sound:
        samples = np.frombuffer(sound.readframes(sound.getnframes()), np.int16).astype(float)
        loud = np.flatnonzero(np.abs(samples) > 8000) / sound.getframerate()
    return [float(moment) for index, moment in enumerate(loud) if index == 0 or moment - loud[index - 1] > 0.2]


@pytest.mark.parametrize("exact", [False, True], ids=["copied", "exact"])
def test_sound_stays_with_its_picture(exact: bool, clapper: Path, tmp_path: Path) -> None:
    cuts = (cut(2.7, 4.2), cut(4.9, 6.0, "end", 2))
    first, second = write_clips(Source("v", clapper, cuts), tmp_path / "out", exact=exact)
    starts = (2.7, 4.9) if exact else (2.0, 4.0)
    assert clicks(first.path) == pytest.approx([m - starts[0] for m in (2.5, 3.5) if m > starts[0]], abs=0.012)
    assert clicks(second.path) == pytest.approx([m - starts[1] for m in (4.5, 5.5) if m > starts[1]], abs=0.012)
    reel = write_reel([Source("v", clapper, cuts)], tmp_path / "out", lambda *_: None, exact=exact)
    expected_clicks = [0.8, 1.5 + 0.6] if exact else [0.5, 1.5, 2.5, 3.5]  # copied: 2 s to 4 s and more, 4 s to 6 s
    assert clicks(reel.path) == pytest.approx(expected_clicks, abs=0.012 if exact else 0.1)


def test_a_reel_shows_all_cuts_in_order_and_nothing_twice(media: MakeMedia, tmp_path: Path) -> None:
    long, failures = media("long.mp4"), []
    cuts = (cut(0.5, 0.8), cut(0.6, 1.0, "run", 2), cut(4.2, 4.5, "end", 3))
    sources = [Source("v", long.path, cuts), Source("w", tmp_path / "gone.mp4", (cut(0, 1),))]

    def fail(source: Source, error: AfsdError) -> None:
        failures.append((source.name, str(error)))

    reel = write_reel(sources, tmp_path, fail, exact=True)
    assert numbers(reel.path, tmp_path) == expected(long, 0.5, 1.0) + expected(long, 4.2, 4.5)
    assert sound_seconds(reel.path) == pytest.approx(0.8, abs=0.05)
    assert [name for name, _ in failures] == ["w"]
    reel = write_reel(sources[:1], tmp_path, fail)
    seen = numbers(reel.path, tmp_path)
    key = 120  # of the last cut, at 4 s
    assert reel.early_s == pytest.approx(0.5, abs=0.001)
    assert seen[:30] == list(range(30))
    assert set(seen[30 : seen.index(key)]) <= {30, 31, 32}  # on which frames before depend
    assert seen[seen.index(key) :][:15] == list(range(key, key + 15))
    assert len(seen) <= 30 + 15 + 2 * REORDERED


def test_a_reel_of_videos_that_differ_needs_exact(media: MakeMedia, tmp_path: Path) -> None:
    failures: list[str] = []
    sources = [
        Source("v", media("long.mp4").path, (cut(0.5, 0.8),)),
        Source("w", media("rate_30.mp4").path, (cut(1, 2),)),
    ]
    write_reel(sources, tmp_path, lambda source, error: failures.append(str(error)))
    assert len(failures) == 1
    assert "is coded otherwise than the videos before it in the reel; give --exact" in failures[0]
    reel = write_reel(sources, tmp_path, lambda source, error: failures.append(str(error)), exact=True)
    assert len(failures) == 1
    assert numbers(reel.path, tmp_path) == expected(media("long.mp4"), 0.5, 0.8) + expected(media("rate_30.mp4"), 1, 2)
    assert sound_seconds(reel.path) == pytest.approx(1.3, abs=0.05)  # silence where the second has none


def test_a_file_of_others_is_not_written_over_and_a_clip_is(media: MakeMedia, tmp_path: Path) -> None:
    source = Source("v", media("long.mp4").path, (cut(2.0, 2.5), cut(4.0, 4.5, "run", 2)))
    first, second = write_clips(source, tmp_path)
    write_clips(source, tmp_path)
    second.path.write_bytes(media("long.mp4").path.read_bytes())  # a film of the user
    first.path.unlink()
    with pytest.raises(InputError, match=r"is there already and no clip of afsd, so it is not written over"):
        write_clips(source, tmp_path)
    assert not first.path.exists()
    write_clips(source, tmp_path, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [first.path.name, second.path.name]


def test_cuts_behind_the_end_are_said(media: MakeMedia, tmp_path: Path) -> None:
    for exact in (False, True):
        with pytest.raises(
            VideoError, match=r"long.mp4: ends before the first cut, at 60.0 s; is it the right video\?"
        ):
            write_clips(Source("v", media("long.mp4").path, (cut(60, 61),)), tmp_path, exact=exact)
    assert list(tmp_path.iterdir()) == []


def test_frames_of_another_size_get_bars() -> None:
    image = np.full((10, 20, 3), 200, np.uint8)
    assert fit(image, (20, 10)) is image
    assert fit(image[:9, :19], (20, 10)).shape == (10, 20, 3)
    barred = fit(image, (40, 40))
    assert barred.shape == (40, 40, 3)
    assert barred[20, 20].tolist() == [200] * 3
    assert barred[5, 20].tolist() == [0] * 3


def test_the_command_cuts_what_the_file_says_and_goes_on_after_a_bad_video(
    media: MakeMedia, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "long.mp4").write_bytes(media("long.mp4").path.read_bytes())
    (videos / "bad.mp4").write_bytes(b"no video" * 100)
    one = {"label": "a/../b", "score": 0.9, "segment": [2.2, 2.6]}
    weak = {"label": "c", "score": 0.3, "segment": [0, 1]}
    found = {"results": {"bad": [one], "long": [one, weak], "gone": [one], "weak": [weak]}}
    (tmp_path / "d.json").write_text(json.dumps(found))
    words = ["clips", str(tmp_path / "d.json"), "--videos", str(videos), "--out", str(tmp_path / "out")]
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "long: 1 clip; begins up to 0.20 s early, at the key frames before (--exact cuts at the frame)",
        f"  {tmp_path / 'out' / 'long-01-a_.._b-00m02.2s.mp4'}",
    ]
    assert [line.split(": ")[1] for line in err.splitlines()] == ["error", "error", "2 of 3 videos failed"]
    assert cli.main([*words[:2], "--video", str(videos / "long.mp4"), "--out", str(tmp_path / "out"), "--reel"]) == 0
    assert "reel.mp4: 1 cut of 1 video; begins up to 0.20 s early" in capsys.readouterr().out
    for flags, message in (
        (["--score", "2"], "--score: got 2.0, expected 0 … 1"),
        (["--pad", "-1"], "--pad: got -1.0"),
        (["--top", "0"], "--top: got 0"),
    ):
        assert cli.main([*words, *flags]) == 2
        assert message in capsys.readouterr().err
    assert cli.main([*words, "--score", "0.95"]) == 0
    assert "none of 5 detections has a score of 0.95 or more" in capsys.readouterr().out
    assert cli.main([*words[:2], "--out", str(tmp_path / "out")]) == 2
    assert "nobody says where the video is; give --videos DIR, or --video FILE" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [(), ("--exact",), ("--reel",), ("--reel", "--exact")])
def test_names_and_labels_that_no_file_can_have_stop_no_other_video(
    flags: tuple[str, ...], media: MakeMedia, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("first", "last"):
        (videos / f"{name}.mp4").write_bytes(media("long.mp4").path.read_bytes())

    def one(label: str) -> list[dict[str, object]]:
        return [{"label": label, "score": 0.9, "segment": [2.0, 2.4]}]

    odd = "\ud800 \0\x1b"
    found = {"first": one(odd), "a\tb": one("jump"), "../up": one("jump"), "": one("jump"), "last": one("jump")}
    (tmp_path / "d.json").write_text(json.dumps({"results": found}))
    out = tmp_path / "out"
    assert cli.main(["clips", str(tmp_path / "d.json"), "--videos", str(videos), "--out", str(out), *flags]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert [line.startswith("afsd: error: the name of a video is ") for line in errors] == [True] * 3 + [False]
    assert errors[-1] == "afsd: 3 of 5 videos failed: 'a\\tb', ../up, ''"
    clips = sorted(out.iterdir())
    assert len(clips) == (1 if "--reel" in flags else 2)
    with import_av().open(str(clips[0])) as container:
        title = container.metadata.get("title", container.metadata.get("TITLE"))
    assert title == "\\ud800 \\u0000\\u001b" + (", jump" if "--reel" in flags else "")


def test_no_clip_is_written_over_by_that_of_a_video_of_a_similar_name(
    media: MakeMedia, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = (f"{'long name ' * 7}1", f"{'long name ' * 7}2")
    (tmp_path / "videos").mkdir()
    for name in names:
        (tmp_path / "videos" / f"{name}.mp4").write_bytes(media("long.mp4").path.read_bytes())
    one = {"label": "run", "score": 0.9, "segment": [2.0, 2.4]}
    (tmp_path / "d.json").write_text(json.dumps({"results": {name: [one] for name in names}}))
    words = ["clips", str(tmp_path / "d.json"), "--videos", str(tmp_path / "videos"), "--out", str(tmp_path / "out")]
    for _ in range(2):  # the second time over those of the first
        assert cli.main(words) == 0
        written = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
        assert len({*written}) == 2
        assert sorted(written) == sorted(map(str, (tmp_path / "out").iterdir()))


def test_a_file_of_detect_says_where_the_video_is_and_what_to_cut(
    media: MakeMedia, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weak = {"label": "jump", "score": 0.3, "segment": [2.0, 2.4]}
    facts = {"path": str(media("long.mp4").path), "threshold": 0.2}
    (tmp_path / "long.json").write_text(json.dumps({"results": {"long": [weak]}, "external_data": {"long": facts}}))
    words = ["clips", str(tmp_path / "long.json"), "--out", str(tmp_path / "out")]
    assert cli.main(words) == 0
    assert capsys.readouterr().out.startswith("long: 1 clip\n")
    assert cli.main([*words, "--score", "0.5"]) == 0
    assert "none of 1 detection has a score of 0.5 or more" in capsys.readouterr().out


def sound_seconds(path: Path) -> float:
    """Length of the sound in a file, as ffmpeg decodes it."""
    with read_sound_of(path) as sound:
        return sound.getnframes() / sound.getframerate()


def read_sound_of(path: Path) -> wave.Wave_read:
    """The sound of a file, as ffmpeg decodes it, from the moment that its picture and sound begin."""
    target = path.with_suffix(".wav")
    command = [find_ffmpeg(), "-nostdin", "-loglevel", "error", "-y", "-i", str(path), "-vn", "-ac", "1"]
    subprocess.run([*command, "-af", "aresample=async=1:first_pts=0", str(target)], check=True)
    content = target.read_bytes()
    target.unlink()
    return wave.open(io.BytesIO(content))  # type: ignore[no-any-return]
