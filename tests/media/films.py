"""Videos and sounds for tests, made by PyAV: two seconds of black and blue, four of tone and silence."""

from __future__ import annotations

import math
import tempfile
from array import array
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import av
from PIL import Image

VIDEO = {"mp4": "libx264", "mov": "libx264", "mkv": "libx264", "webm": "libvpx", "avi": "mpeg4"}
SOUND = {"ogg": "libopus", "webm": "libopus", "mp3": "libmp3lame", "wav": "pcm_s16le", "m4a": "aac", "flac": "flac"}
RATE = 48_000


@cache
def video(name: str) -> bytes:
    """A video of 320 times 180 pixels without sound: half a second of black, then blue."""
    return _made(name, _film)


@cache
def sound(name: str) -> bytes:
    """Two seconds of a tone at half the loudest, two of silence."""
    return _made(name, _tone)


def _made(name: str, write: Any) -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / name
        with av.open(str(path), "w") as container:
            write(container, path.suffix[1:])
        return path.read_bytes()


def _film(container: Any, kind: str) -> None:
    stream = container.add_stream(VIDEO[kind], rate=10)
    stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
    for number in range(20):
        image = Image.new("RGB", (320, 180), "black" if number < 5 else (10, 20, 240))
        for packet in stream.encode(av.VideoFrame.from_image(image)):
            container.mux(packet)
    for packet in stream.encode():
        container.mux(packet)


def _tone(container: Any, kind: str) -> None:
    stream = container.add_stream(SOUND[kind], rate=RATE, layout="mono")
    resampler = av.AudioResampler(stream.codec_context.format, "mono", RATE, stream.codec_context.frame_size or 1024)
    for frame in _frames():
        for ready in resampler.resample(frame):
            for packet in stream.encode(ready):
                container.mux(packet)
    for packet in stream.encode():
        container.mux(packet)


def _frames() -> Iterator[Any]:
    tone = [int(16_000 * math.sin(2 * math.pi * 440 * place / RATE)) for place in range(RATE)]
    for second, samples in enumerate((tone, tone, [0] * RATE, [0] * RATE)):
        frame = av.AudioFrame("s16", "mono", len(samples))
        frame.planes[0].update(array("h", samples).tobytes())
        frame.sample_rate = RATE
        frame.pts = second * RATE
        yield frame
