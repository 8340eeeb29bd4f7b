"""Rounds of chance with a time limit, each of which can be played again.

`make fuzz` plays for FUZZ_SECONDS (60) in all with a new seed; the everyday suite for a few seconds with always the
same one. A failure's note tells the seed: `FUZZ_SEED=… FUZZ_SECONDS=0` plays that one round again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from random import Random

SECONDS = float(os.environ.get("FUZZ_SECONDS", "6"))
"""For all tests together."""
SEED = os.environ.get("FUZZ_SEED", "everyday")

#: For tests that may take longer than others do.
TIMEOUT_S = SECONDS + 120

_players = 1


#: Takes a check, calls it again and again, and tells how often.
Play = Callable[[Callable[[Random], object]], int]


def share_among(tests: int) -> None:
    """So many tests share the time."""
    global _players
    _players = max(1, tests)


def play(check: Callable[[Random], object]) -> int:
    """Call `check` with one source of chance after the other until the time is over; how often."""
    until = time.monotonic() + SECONDS / _players
    number = 0
    seed = SEED
    while True:
        try:
            check(Random(seed))
        except BaseException as error:
            error.add_note(f"play it again with: FUZZ_SEED={seed!r} FUZZ_SECONDS=0")
            raise
        number += 1
        if time.monotonic() >= until:
            return number
        seed = f"{SEED}.{number}"
