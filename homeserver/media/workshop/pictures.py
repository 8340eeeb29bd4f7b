"""Making pictures smaller. Runs in a worker: what it is given may be made to hurt."""

from __future__ import annotations

from typing import Any

from PIL import Image, ImageSequence

from homeserver.media.workshop.jobs import Failure, MakeThumbnail, Picture, Thumbnailed, WorkFailed
from homeserver.media.workshop.ladder import Plan, plan, will_do

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP")
"""What is read at all: of the rest, browsers show little, and decoders have been broken often."""
AS_THEY_ARE = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
"""What may be given out as a thumbnail of itself."""
LARGE_PNG = 320
"""Past this, pictures that hide nothing are kept as JPEG, which is a fraction of the size."""
QUALITY = 82
MOST_FRAMES = 500
MOST_MOVING_PIXELS = 16_000_000
"""Of all frames that are made, together: they are in memory at once."""
USUAL_FRAME_MS = 100
MOST_PROFILE_BYTES = 64 * 1024
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation → what makes it upright."""
SIDEWAYS = frozenset({5, 6, 7, 8})
"""Those in which width and height change places."""


def thumbnail_of_picture(job: MakeThumbnail) -> Thumbnailed:
    """Raises WorkFailed, and whatever Pillow raises for what is broken."""
    Image.MAX_IMAGE_PIXELS = None  # judged here, before anything is unpacked
    with Image.open(job.path, formats=FORMATS) as image:
        check_pixels(*image.size, job.max_pixels)
        kind = "image/jpeg" if image.format == "MPO" else Image.MIME[str(image.format)]
        moves = image.format != "MPO" and bool(getattr(image, "is_animated", False))
        orientation = image.getexif().get(ORIENTATION, 1)
        width, height = image.size[::-1] if orientation in SIDEWAYS else image.size
        picture = Picture(width, height, moves, kind)
        size = (job.width, job.height)
        if will_do(width, height, size) and kind in AS_THEY_ARE and (job.animated or not moves):
            return Thumbnailed(picture, None)
        # The picture is turned at the end, when it is small.
        wanted = plan(*image.size, size[::-1] if orientation in SIDEWAYS else size, job.method)
        if job.animated and moves and int(getattr(image, "n_frames", 1)) <= _most_frames(image, wanted, job.max_pixels):
            return Thumbnailed(picture, _save_animation(image, wanted, job.out))
        made = shrink(image, wanted)
        if orientation in TURNS:
            made = made.transpose(TURNS[orientation])
        return Thumbnailed(picture, save(made, job.out, kind))


def check_pixels(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise WorkFailed(Failure.TOO_LARGE, f"{width} times {height} pixels are more than {most}")


def shrink(image: Image.Image, wanted: Plan) -> Image.Image:
    """A smaller picture, in a mode that can be saved."""
    width, height = image.size
    left, top, right, bottom = wanted.box
    zoom = wanted.width / (right - left)
    # JPEG can be unpacked at a fraction of its size: twice what is needed leaves enough to smooth.
    image.draft(None, (int(width * zoom * 2), int(height * zoom * 2)))
    across, down = image.width / width, image.height / height
    box = (left * across, top * down, min(right * across, image.width), min(bottom * down, image.height))
    if image.mode not in ("RGB", "RGBA"):
        profile = image.info.get("icc_profile") if image.mode in ("P", "PA") else None
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        image.info["icc_profile"] = profile  # that of CMYK or grey means nothing any more
    made = image.resize((wanted.width, wanted.height), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    made.info["icc_profile"] = image.info.get("icc_profile")
    return made


def save(image: Image.Image, out: str, source_type: str) -> str:
    """Write it; its content type."""
    profile = image.info.get("icc_profile")
    options: dict[str, Any] = {}
    if isinstance(profile, bytes) and len(profile) <= MOST_PROFILE_BYTES:
        options["icc_profile"] = profile
    if image.mode == "RGBA" or (source_type == "image/png" and max(image.size) <= LARGE_PNG):
        image.save(out, "PNG", **options)
        return "image/png"
    image.save(out, "JPEG", quality=QUALITY, optimize=True, progressive=True, **options)
    return "image/jpeg"


def _most_frames(image: Image.Image, wanted: Plan, max_pixels: int) -> int:
    """How many frames are worth it: past that, a picture that stands still will have to do."""
    read = max_pixels // (image.width * image.height)
    kept = MOST_MOVING_PIXELS // (wanted.width * wanted.height)
    return min(MOST_FRAMES, read, kept)


def _save_animation(image: Image.Image, wanted: Plan, out: str) -> str:
    frames: list[Image.Image] = []
    durations: list[int] = []
    for frame in ImageSequence.Iterator(image):
        durations.append(int(frame.info.get("duration", 0)) or USUAL_FRAME_MS)
        frames.append(frame.convert("RGBA").resize((wanted.width, wanted.height), Image.Resampling.BICUBIC, wanted.box))
    loop = image.info.get("loop", 1 if image.format == "GIF" else 0)
    first, *rest = frames
    first.save(out, "WEBP", save_all=True, append_images=rest, duration=durations, loop=loop, quality=QUALITY, method=2)
    return "image/webp"
