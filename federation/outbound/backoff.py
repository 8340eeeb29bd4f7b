"""How long a server that does not answer is left alone: seconds at first, a day at most."""

from __future__ import annotations

from random import Random

import msgspec


class BackOff(msgspec.Struct, frozen=True):
    """Pauses that double from failure to failure. A random part keeps many servers from coming back in step."""

    first_s: float = 2.0
    longest_s: float = 86_400.0

    def pause_s(self, failures: int, random: Random, asked_s: float = 0.0) -> float:
        """The pause after so many failures in a row (at least 1), or what the peer asked for where that is longer.

        Between half of the full length and all of it.
        """
        full = min(self.first_s * 2.0 ** min(failures - 1, 40), self.longest_s)
        return min(max(full * (0.5 + 0.5 * random.random()), asked_s), self.longest_s)
