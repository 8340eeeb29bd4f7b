"""Places among siblings: strings that sort as wanted, and of which there is always one between two others.

Spec: https://spec.matrix.org/v1.19/client-server-api/#ordering-of-children-within-a-space
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

MOST_CHARACTERS: Final = 50
_FIRST, _LAST = 0x21, 0x7E
"""`!` to `~`. A space would be allowed, but is easily lost on the way."""
_BASE = _LAST - _FIRST + 1


def between(before: str, after: str) -> str | None:
    """A place between two, the empty string standing for either end; None where it would be too long.

    What it gives never ends in the first character: there would be nothing between that and the same without it.
    """
    place = ""
    while len(place) < MOST_CHARACTERS:
        depth = len(place)
        low = ord(before[depth]) if depth < len(before) else _FIRST
        high = ord(after[depth]) if depth < len(after) else _LAST + 1
        if high - low > 1:
            return place + chr((low + high) // 2)
        place += chr(low)
        if low < high:
            after = ""  # whatever follows, it is in front of that
    return None


def spread(count: int) -> Sequence[str]:
    """Places for so many siblings, with room between them."""
    width = 1
    while _BASE**width <= 2 * count:
        width += 1
    step = _BASE**width // (count + 1)
    return [_written(number * step, width) for number in range(1, count + 1)]


def _written(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, _BASE)
        digits.append(chr(_FIRST + digit))
    # One in the middle at the end, so that there is something in front of each.
    return "".join(reversed(digits)) + chr((_FIRST + _LAST) // 2)
