"""Files for tests, made here: pictures, videos, sounds, and such as are made to hurt."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import zlib
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image


@cache
def picture(kind: str = "PNG", width: int = 64, height: int = 48, mode: str = "RGB", seed: int = 1) -> bytes:
    """A picture of coloured noise, so that its size in bytes is about that of its pixels."""
    noise = random.Random(seed).randbytes(width * height * 4)
    image = Image.frombytes("RGBA", (width, height), noise).convert(mode)
    return saved(image, kind)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def two_halves(width: int, height: int) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), "red")
    image.paste("blue", (width // 2, 0, width, height))
    return image


def turned(orientation: int, width: int = 400, height: int = 200) -> bytes:
    """`two_halves` as a camera saves it that was held otherwise."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(two_halves(width, height), "JPEG", exif=exif, quality=95)


def moving(kind: str, frames: int = 5, width: int = 400, height: int = 300) -> bytes:
    """An animation from black to red."""
    first, *rest = [Image.new("RGB", (width, height), (255 * number // frames, 0, 0)) for number in range(frames)]
    return saved(first, kind, save_all=True, append_images=rest, duration=80, loop=0)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def png_bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that says it is as large as that."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    lines = zlib.compress(b"\0" * min(width * 4 * height, 4_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


def ffmpeg(directory: Path, name: str, *arguments: str) -> Path:
    """A file made by FFmpeg."""
    path = directory / name
    subprocess.run(["ffmpeg", "-y", "-loglevel", "error", *arguments, str(path)], check=True, stdin=subprocess.DEVNULL)
    return path
