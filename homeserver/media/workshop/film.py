"""Videos and sounds: a picture of a video, how long something is, and how loud. Runs in a worker.

Only containers that hold everything themselves are read: playlists and the like would have FFmpeg open other files, and
the web.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from PIL import Image

from homeserver.media.kinds import HEAD_BYTES, sniff
from homeserver.media.workshop.jobs import Failure, Listen, MakeThumbnail, Picture, Sound, Thumbnailed, WorkFailed
from homeserver.media.workshop.ladder import plan
from homeserver.media.workshop.pictures import check_pixels, save, shrink

CONTAINERS: Mapping[str, str] = {
    "video/mp4": "mp4",
    "video/quicktime": "mp4",
    "video/x-m4v": "mp4",
    "video/3gpp": "mp4",
    "audio/mp4": "mp4",
    "audio/x-m4a": "mp4",
    "video/webm": "matroska",
    "video/x-matroska": "matroska",
    "video/x-msvideo": "avi",
    "audio/ogg": "ogg",
    "video/ogg": "ogg",
    "audio/mpeg": "mp3",
    "audio/x-wav": "wav",
    "audio/wav": "wav",
    "audio/x-flac": "flac",
    "audio/flac": "flac",
    "audio/aac": "aac",
    "audio/amr": "amr",
}
"""By what a file's first bytes say → FFmpeg's name of what reads it."""

LOOK_AT_S = 1.0
"""Where in a video its picture is taken: many begin in black."""
MOST_PACKETS = 2000
RATE = 8000
BLOCK = RATE // 50
"""Samples of which only the loudest is kept, while listening."""
MOST_SECONDS = 3600
"""Longer sounds are not listened to, only measured."""
BARS = 100
LOUDEST = 1024


def thumbnail_of_video(job: MakeThumbnail) -> Thumbnailed:
    """Raises WorkFailed, and whatever PyAV raises for what is broken."""
    with open_container(job.path) as container:
        if not container.streams.video:
            raise WorkFailed(Failure.UNREADABLE, "there is nothing to be seen in it")
        stream = container.streams.video[0]
        context = stream.codec_context
        check_pixels(context.width, context.height, job.max_pixels)
        context.thread_count = 1
        context.options = {"max_pixels": str(job.max_pixels)}
        frame = _frame_of(container)
        image: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]
        if (turn := TURNS.get(round(frame.rotation) % 360)) is not None:
            image = image.transpose(turn)
        picture = Picture(image.width, image.height, False, "video")
        wanted = plan(image.width, image.height, (job.width, job.height), job.method)
        return Thumbnailed(picture, save(shrink(image, wanted), job.out, "video"))


TURNS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}


def listen(job: Listen) -> Sound:
    """Raises WorkFailed, and whatever PyAV raises for what is broken."""
    with open_container(job.path) as container:
        stated_ms = max(0, container.duration // 1000) if container.duration is not None else 0
        if not container.streams.audio or stated_ms > MOST_SECONDS * 1000:
            if not stated_ms:
                raise WorkFailed(Failure.UNREADABLE, "there is nothing to be heard in it")
            return Sound(stated_ms, [])
        peaks, samples = _peaks_of(container)
    if not samples:
        raise WorkFailed(Failure.UNREADABLE, "there is nothing to be heard in it")
    return Sound(samples * 1000 // RATE, bars_of(peaks))


def bars_of(peaks: list[int]) -> list[int]:
    """At most `BARS` numbers, each the loudest of its share."""
    count = min(BARS, len(peaks))
    edges = [number * len(peaks) // count for number in range(count + 1)]
    return [min(LOUDEST, max(peaks[start:end]) * LOUDEST // 32767) for start, end in pairwise(edges)]


def open_container(path: str) -> InputContainer:
    """A file that holds everything itself. Raises WorkFailed for others, and whatever PyAV raises."""
    with Path(path).open("rb") as file:
        kind = sniff(file.read(HEAD_BYTES))
    reader = CONTAINERS.get(kind or "")
    if reader is None:
        raise WorkFailed(Failure.UNREADABLE, f"{kind or 'this'} is not looked into")
    options = {"protocol_whitelist": "file"}
    return av.open(path, mode="r", format=reader, options=options, metadata_errors="replace")


def _frame_of(container: InputContainer) -> VideoFrame:
    """One near `LOOK_AT_S`, or the first that there is."""
    length_s = container.duration / av.time_base if container.duration else 0.0
    if length_s > LOOK_AT_S:
        try:
            container.seek(int(LOOK_AT_S * av.time_base), backward=True)
        except FFmpegError:
            container.seek(0)
    first: VideoFrame | None = None
    frame: VideoFrame
    for number, packet in enumerate(container.demux(video=0)):
        for frame in decoded(packet):
            first = first or frame
            if length_s <= LOOK_AT_S or (frame.time or 0) >= LOOK_AT_S / 2:
                return frame
        if number > MOST_PACKETS:
            break
    if first is None:
        raise WorkFailed(Failure.UNREADABLE, "no picture in it can be read")
    return first


def _peaks_of(container: InputContainer) -> tuple[list[int], int]:
    """The loudest sample of each block, and how many samples there were."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    peaks: list[int] = []
    waiting = array("h")
    samples = 0

    def take(frames: list[Any]) -> None:
        nonlocal waiting, samples
        for frame in frames:
            found = array("h", bytes(frame.planes[0])[: frame.samples * 2])
            samples += len(found)
            waiting += found
            whole = len(waiting) - len(waiting) % BLOCK
            for start in range(0, whole, BLOCK):
                block = waiting[start : start + BLOCK]
                peaks.append(max(max(block), -min(block)))
            waiting = waiting[whole:]

    for packet in container.demux(audio=0):
        for frame in decoded(packet):
            take(resampler.resample(frame))
        if samples > MOST_SECONDS * RATE:
            break
    take(resampler.resample(None))
    if waiting:
        peaks.append(max(max(waiting), -min(waiting)))
    return peaks, samples


def decoded(packet: Any) -> list[Any]:
    """A packet's frames. One that is broken spoils no more than itself."""
    try:
        return list(packet.decode())
    except FFmpegError:
        return []
