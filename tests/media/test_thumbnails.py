"""Pictures made smaller: which sizes, from what, and what comes of files that are made to hurt."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config import Media
from federation.threads import inline
from homeserver.media.workshop.jobs import (
    Failure,
    Job,
    Listen,
    MakeThumbnail,
    Picture,
    Sound,
    Thumbnailed,
    WorkFailed,
)
from homeserver.media.workshop.ladder import CROP, SCALE, WHOLE, plan, rung, will_do
from homeserver.media.workshop.pool import Workshop
from tests.federation.doubles import outcome
from tests.media import films
from tests.media.files import moving, opened, picture, png_bomb, saved, turned, two_halves

SIDES = st.integers(1, 5000)
METHODS = st.sampled_from(["crop", "scale"])


# -- which sizes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "method", "made"),
    [
        ((32, 32), "crop", (32, 32)),
        ((33, 33), "crop", (96, 96)),
        ((96, 96), "crop", (96, 96)),
        ((100, 50), "crop", (160, 80)),
        ((50, 100), "crop", (80, 160)),
        ((320, 240), "scale", (320, 240)),
        ((240, 320), "scale", (640, 480)),
        ((800, 600), "scale", (800, 600)),
        ((1, 1), "scale", (32, 32)),
        ((5000, 1), "scale", WHOLE),
        ((5000, 5000), "crop", WHOLE),
    ],
)
def test_rungs(asked: tuple[int, int], method: str, made: tuple[int, int]) -> None:
    assert rung(*asked, method) == made


@given(SIDES, SIDES, METHODS)
def test_a_rung_is_never_smaller_than_what_is_asked_for(width: int, height: int, method: str) -> None:
    made = rung(width, height, method)
    assert made[0] >= width and made[1] >= height
    assert rung(*made, method) == made


@settings(max_examples=10)
@given(st.sets(st.tuples(SIDES, SIDES), min_size=50), METHODS)
def test_of_all_sizes_few_are_made(asked: set[tuple[int, int]], method: str) -> None:
    made = {rung(*size, method) for size in asked}
    assert len(made) <= (len(SCALE) + 1 if method == "scale" else 2 * 16 * len(CROP) + 1)


@given(SIDES, SIDES, st.tuples(SIDES, SIDES), METHODS)
def test_nothing_is_made_larger(width: int, height: int, size: tuple[int, int], method: str) -> None:
    made = plan(width, height, size, method)
    left, top, right, bottom = made.box
    assert -1e-6 <= left < right <= width + 1e-6 and -1e-6 <= top < bottom <= height + 1e-6
    assert 1 <= made.width <= width and 1 <= made.height <= height
    if method == "scale":
        assert made.box == (0, 0, width, height)
        assert made.width <= size[0] and made.height <= size[1]
        assert made.width in (size[0], width) or made.height in (size[1], height)


@given(SIDES, SIDES, st.tuples(SIDES, SIDES))
def test_what_is_cropped_is_as_large_as_asked_for(width: int, height: int, size: tuple[int, int]) -> None:
    made = plan(width, height, size, "crop")
    if width >= size[0] and height >= size[1]:
        assert (made.width, made.height) == size
    if will_do(width, height, size):
        assert (made.width, made.height) == (width, height)


# -- how they are made -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    """Real worker processes."""
    found = Workshop(Media(worker_timeout_ms=20_000, worker_memory_bytes=600 * 1024 * 1024), inline(1, "workshop"))
    yield found
    outcome(found.close())


def make(
    workshop: Workshop,
    directory: Path,
    data: bytes,
    width: int,
    height: int,
    method: str = "scale",
    animated: bool = False,
    max_pixels: int = 20_000_000,
) -> tuple[Picture, bytes | None]:
    """What is found out of a file, and what is made of it."""
    source, out = directory / "source", directory / "out"
    source.write_bytes(data)
    out.unlink(missing_ok=True)
    job = MakeThumbnail(str(source), str(out), width, height, method, animated, max_pixels)
    result = outcome(workshop.do(job, Thumbnailed))
    if result.made is None:
        assert not out.exists()
        return result.picture, None
    found = out.read_bytes()
    assert result.made == f"image/{str(opened(found).format).lower()}"
    return result.picture, found


def refusal(workshop: Workshop, job: Job, directory: Path, data: bytes) -> Failure:
    (directory / "source").write_bytes(data)
    with pytest.raises(WorkFailed) as caught:
        outcome(workshop.do(job, object))
    return caught.value.failure


@pytest.mark.parametrize(
    ("kind", "mode", "made"),
    [
        ("JPEG", "RGB", "JPEG"),
        ("JPEG", "CMYK", "JPEG"),
        ("JPEG", "L", "JPEG"),
        ("PNG", "RGB", "PNG"),
        ("PNG", "RGBA", "PNG"),
        ("PNG", "P", "PNG"),
        ("PNG", "1", "PNG"),
        ("PNG", "LA", "PNG"),
        ("PNG", "I;16", "PNG"),
        ("GIF", "P", "JPEG"),
        ("WEBP", "RGBA", "PNG"),
        ("WEBP", "RGB", "JPEG"),
        ("BMP", "RGB", "JPEG"),
        ("AVIF", "RGB", "JPEG"),
    ],
)
def test_kinds_of_pictures(workshop: Workshop, tmp_path: Path, kind: str, mode: str, made: str) -> None:
    data = (
        saved(opened(picture("PNG", 400, 300)).convert("L").convert(mode), kind)
        if mode == "I;16"
        else picture(kind, 400, 300, mode)
    )
    found, small = make(workshop, tmp_path, data, 96, 96, "crop")
    assert (found.width, found.height, found.animated) == (400, 300, False)
    assert small is not None
    assert (opened(small).size, opened(small).format) == ((96, 96), made)


def test_large_pictures_without_transparency_become_jpeg(workshop: Workshop, tmp_path: Path) -> None:
    _, small = make(workshop, tmp_path, picture("PNG", 1000, 800), 640, 480)
    assert small is not None
    assert opened(small).format == "JPEG"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP"])
def test_small_pictures_will_do(workshop: Workshop, tmp_path: Path, kind: str) -> None:
    assert make(workshop, tmp_path, picture(kind, 96, 50), 96, 96)[1] is None


def test_small_pictures_that_not_everybody_can_see(workshop: Workshop, tmp_path: Path) -> None:
    _, small = make(workshop, tmp_path, picture("BMP", 40, 30), 96, 96)
    assert small is not None
    assert (opened(small).size, opened(small).format) == ((40, 30), "JPEG")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright(workshop: Workshop, tmp_path: Path, orientation: int) -> None:
    """Red is where a viewer that heeds the camera shows it."""
    found, small = make(workshop, tmp_path, turned(orientation), 96, 96)
    assert (found.width, found.height) == ((400, 200) if orientation < 5 else (200, 400))
    assert small is not None
    image = opened(small).convert("RGB")
    assert image.size == ((96, 48) if orientation < 5 else (48, 96))
    width, height = image.size
    where = {
        1: (0, height // 2), 2: (width - 1, height // 2), 3: (width - 1, height // 2), 4: (0, height // 2),
        5: (width // 2, 0), 6: (width // 2, 0), 7: (width // 2, height - 1), 8: (width // 2, height - 1),
    }  # fmt: skip
    red, _, blue = image.getpixel(where[orientation])  # type: ignore[misc]
    assert red > 200 > 50 > blue


def test_the_middle_is_kept(workshop: Workshop, tmp_path: Path) -> None:
    _, small = make(workshop, tmp_path, saved(two_halves(1000, 100), "PNG"), 96, 96, "crop")
    assert small is not None
    image = opened(small).convert("RGB")
    assert image.getpixel((5, 48)) == (255, 0, 0)
    assert image.getpixel((90, 48)) == (0, 0, 255)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_what_moves_goes_on_moving_if_wanted(workshop: Workshop, tmp_path: Path, kind: str) -> None:
    data = moving(kind)
    found, small = make(workshop, tmp_path, data, 96, 96, animated=True)
    assert found.animated
    assert small is not None
    image = opened(small)
    assert (image.format, image.size, image.n_frames) == ("WEBP", (96, 72), 5)  # type: ignore[attr-defined]
    still = make(workshop, tmp_path, data, 96, 96)[1]
    assert still is not None
    assert getattr(opened(still), "n_frames", 1) == 1
    assert make(workshop, tmp_path, data, 640, 480, animated=True)[1] is None, "it is small enough, and may move"
    assert make(workshop, tmp_path, data, 640, 480, animated=False)[1] is not None, "it must not move"


def test_what_moves_for_too_long_stands_still(workshop: Workshop, tmp_path: Path) -> None:
    _, small = make(workshop, tmp_path, moving("GIF", 30), 96, 96, animated=True, max_pixels=400 * 300 * 20)
    assert small is not None
    assert opened(small).format == "JPEG"


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "clip.mkv", "clip.mov", "clip.avi"])
def test_videos(workshop: Workshop, tmp_path: Path, name: str) -> None:
    data = films.video(name)
    found, small = make(workshop, tmp_path, data, 96, 96)
    assert (found.width, found.height) == (320, 180)
    assert small is not None
    assert (opened(small).size, opened(small).format) == ((96, 54), "JPEG")
    _, _, blue = opened(small).convert("RGB").getpixel((48, 27))  # type: ignore[misc]
    assert blue > 150, "not from the beginning, which is black"


def test_sounds_have_no_picture(workshop: Workshop, tmp_path: Path) -> None:
    job = MakeThumbnail(str(tmp_path / "source"), str(tmp_path / "out"), 32, 32, "crop", False, 1_000_000)
    assert refusal(workshop, job, tmp_path, films.sound("sound.ogg")) is Failure.UNREADABLE


# -- sounds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sound.ogg", "sound.mp3", "sound.wav", "sound.m4a", "sound.flac", "sound.webm"])
def test_sounds(workshop: Workshop, tmp_path: Path, name: str) -> None:
    """Two seconds of tone and two of silence."""
    (tmp_path / "source").write_bytes(films.sound(name))
    sound = outcome(workshop.do(Listen(str(tmp_path / "source")), Sound))
    assert 3900 <= sound.duration_ms <= 4200
    assert len(sound.waveform) == 100
    assert all(0 <= one <= 1024 for one in sound.waveform)
    assert min(sound.waveform[5:40]) > 300 and max(sound.waveform[60:90]) < 30


@pytest.mark.parametrize("data", [b"", b"OggS nothing", b"text", picture(), films.video("clip.mp4")])
def test_what_cannot_be_heard(workshop: Workshop, tmp_path: Path, data: bytes) -> None:
    job = Listen(str(tmp_path / "source"))
    if data == films.video("clip.mp4"):
        (tmp_path / "source").write_bytes(data)
        assert outcome(workshop.do(job, Sound)).waveform == [], "silent films are as long as others"
    else:
        assert refusal(workshop, job, tmp_path, data) is Failure.UNREADABLE


# -- files that are made to hurt ---------------------------------------------------------------------------------------


def hostile() -> dict[str, tuple[bytes, Failure]]:
    png = picture("PNG", 300, 300)
    playlist = b"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:10.0,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
    return {
        "a bomb of pixels": (png_bomb(60_000, 60_000), Failure.TOO_LARGE),
        "a bomb in both directions": (png_bomb(2**31 - 1, 2**31 - 1), Failure.TOO_LARGE),
        "less than it says": (png_bomb(4000, 4000), Failure.UNREADABLE),
        "cut off": (png[: len(png) // 2], Failure.UNREADABLE),
        "only a mark": (b"\x89PNG\r\n\x1a\n", Failure.UNREADABLE),
        "noise behind a mark": (b"GIF89a" + bytes(range(256)) * 20, Failure.UNREADABLE),
        "a page": (b"<html><script>alert(1)</script>", Failure.UNREADABLE),
        "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", Failure.UNREADABLE),
        "SVG that reads files": (b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY f SYSTEM 'file:///etc/passwd'>]><svg/>",
                                 Failure.UNREADABLE),
        "a playlist": (playlist, Failure.UNREADABLE),
        "a playlist that says it is a video": (b"\0\0\0\x18ftypmp42" + playlist, Failure.UNREADABLE),
        "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run", Failure.UNREADABLE),
        "PDF": (b"%PDF-1.7\n", Failure.UNREADABLE),
        "TIFF": (saved(two_halves(100, 100), "TIFF"), Failure.UNREADABLE),
        "nothing": (b"", Failure.UNREADABLE),
        "a video that is cut off": (films.video("clip.mp4")[:500], Failure.UNREADABLE),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(hostile()))
def test_files_that_hurt(workshop: Workshop, tmp_path: Path, name: str) -> None:
    data, failure = hostile()[name]
    job = MakeThumbnail(str(tmp_path / "source"), str(tmp_path / "out"), 96, 96, "crop", True, 20_000_000)
    assert refusal(workshop, job, tmp_path, data) is failure
    assert make(workshop, tmp_path, picture("PNG", 200, 200), 32, 32)[1] is not None, "and the work goes on"


@given(st.data())
def test_pictures_with_something_wrong_in_them(data: st.DataObject) -> None:
    """In this process, which must survive it: whatever is broken is an answer."""
    from homeserver.media.workshop.worker import do

    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP"]))
    broken = bytearray(picture(kind, 64, 64))
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(broken)))
    directory = Path(os.environ.get("TMPDIR", "/tmp"))
    source, out = directory / f"broken-{os.getpid()}", directory / f"made-{os.getpid()}"
    source.write_bytes(bytes(broken[:cut]))
    try:
        do(MakeThumbnail(str(source), str(out), 32, 32, "crop", True, 1_000_000))
    finally:
        source.unlink()
        out.unlink(missing_ok=True)


# -- the workers -------------------------------------------------------------------------------------------------------


def test_a_worker_that_hangs_is_ended(tmp_path: Path) -> None:
    workshop = Workshop(Media(worker_timeout_ms=1500), inline(1, "workshop"))
    os.mkfifo(tmp_path / "source")  # opening it never comes back
    job = MakeThumbnail(str(tmp_path / "source"), str(tmp_path / "out"), 96, 96, "crop", True, 20_000_000)
    with pytest.raises(WorkFailed) as caught:
        outcome(workshop.do(job, Thumbnailed))
    assert caught.value.failure is Failure.GAVE_UP
    assert workshop.running == 0
    (tmp_path / "source").unlink()
    assert make(workshop, tmp_path, picture("PNG", 200, 200), 32, 32)[1] is not None
    assert workshop.running == 1
    outcome(workshop.close())
    assert workshop.running == 0


def test_a_worker_that_is_killed_at_work(tmp_path: Path) -> None:
    """Somebody ends it from outside: the system, where memory is short."""
    workshop = Workshop(Media(), inline(1, "workshop"))
    make(workshop, tmp_path, picture("PNG", 200, 200), 32, 32)
    (worker,) = workshop._idle
    os.kill(worker.pid, signal.SIGKILL)
    job = MakeThumbnail(str(tmp_path / "source"), str(tmp_path / "out"), 96, 96, "crop", True, 20_000_000)
    with pytest.raises(WorkFailed):
        outcome(workshop.do(job, Thumbnailed))
    assert make(workshop, tmp_path, picture("PNG", 200, 200), 32, 32)[1] is not None
    outcome(workshop.close())


def test_workers_are_limited(tmp_path: Path) -> None:
    workshop = Workshop(Media(worker_memory_bytes=512 * 1024 * 1024, worker_timeout_ms=7000), inline(1, "workshop"))
    make(workshop, tmp_path, picture("PNG", 200, 200), 32, 32)
    (worker,) = workshop._idle
    limits = Path(f"/proc/{worker.pid}/limits").read_text()
    assert f"Max address space         {512 * 1024 * 1024} " in limits
    assert "Max open files            64 " in limits
    assert "Max core file size        0 " in limits
    environ = Path(f"/proc/{worker.pid}/environ").read_bytes()
    assert b"GUILDHALL" not in environ and b"HOME" not in environ
    niceness = int(Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[16])
    assert niceness == min(os.nice(0) + 5, 19), "it gives way"
    # Where memory is not enough, that is an answer too.
    job = MakeThumbnail(str(tmp_path / "source"), str(tmp_path / "out"), 96, 96, "crop", False, 10**9)
    assert refusal(workshop, job, tmp_path, png_bomb(20_000, 20_000)) is Failure.TOO_LARGE
    outcome(workshop.close())


def test_workers_end_when_there_is_nothing_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop = Workshop(Media(), inline(1, "workshop"))
    make(workshop, tmp_path, picture("PNG", 200, 200), 32, 32)
    outcome(workshop.tidy())
    assert workshop.running == 1
    (worker,) = workshop._idle
    worker.idle_since = time.monotonic() - 120
    outcome(workshop.tidy())
    assert workshop.running == 0
    assert not Path(f"/proc/{worker.pid}").exists()


def test_workers_end_with_the_server(tmp_path: Path) -> None:
    """Even where it is killed: they read from a pipe that is no more."""
    workshop = Workshop(Media(), inline(1, "workshop"))
    make(workshop, tmp_path, picture("PNG", 200, 200), 32, 32)
    (worker,) = workshop._idle
    process = worker._process
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(30) == 0
    outcome(workshop.close())
