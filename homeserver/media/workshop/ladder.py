"""Which sizes of a picture are made, so that a few do for all that clients ask for.

A client asks for any width and height; it gets the next rung above. The last rung is as large as any picture, and then
it is the picture itself: nothing is ever made larger.

Spec: https://spec.matrix.org/v1.19/client-server-api/#thumbnails
"""

from __future__ import annotations

import msgspec

SCALE = ((32, 32), (96, 96), (320, 240), (640, 480), (800, 600), (1600, 1200))
"""The specification's sizes, with the small ones also for `scale`, and one for large screens."""
CROP = (32, 96, 160, 320, 640, 1600)
"""The longer side."""
WHOLE = (1_000_000, 1_000_000)
STEPS = 16
"""The shorter side is a multiple of so many parts of the longer one: of all shapes, some are made."""


class Plan(msgspec.Struct, frozen=True):
    """What to make of a picture: cut this box out of it, and make that of this size."""

    box: tuple[float, float, float, float]
    """Left, top, right, bottom, in the picture's own pixels."""
    width: int
    height: int


def rung(width: int, height: int, method: str) -> tuple[int, int]:
    """The size that is made for who asks for this one."""
    if method == "scale":
        return next((size for size in SCALE if size[0] >= width and size[1] >= height), WHOLE)
    longer = next((side for side in CROP if side >= max(width, height)), None)
    if longer is None:
        return WHOLE
    share = -(-min(width, height) * STEPS // max(width, height))
    shorter = max(1, longer * share // STEPS)
    return (longer, shorter) if width >= height else (shorter, longer)


def will_do(width: int, height: int, size: tuple[int, int]) -> bool:
    """Whether a picture of this size is small enough as it is."""
    return width <= size[0] and height <= size[1]


def plan(width: int, height: int, size: tuple[int, int], method: str) -> Plan:
    """How to make a picture of this size smaller; to its own size at most."""
    if method == "scale":
        factor = min(size[0] / width, size[1] / height, 1)
        made = max(1, round(width * factor)), max(1, round(height * factor))
        return Plan((0, 0, width, height), *made)
    if will_do(width, height, size):
        size = (width, height)
    factor = min(1, width / size[0], height / size[1])
    made = max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
    zoom = min(width / made[0], height / made[1])
    left, top = (width - made[0] * zoom) / 2, (height - made[1] * zoom) / 2
    return Plan((left, top, left + made[0] * zoom, top + made[1] * zoom), *made)
