"""A connection that a thread reads from by itself, a turn at a time, while the loop looks away.

What a client sends faster than it can be written to disk need not come by way of the loop: a thread that reads and
writes a block has it in its processor's cache all the while, and nobody is woken in between.
"""

from __future__ import annotations

import os
import time

from attrs import define, field

TURN_S = 0.05
"""How long a turn may take, and what it takes to write one block: others want the thread too."""


@define(eq=False)
class Tap:
    """Made by the loop's thread (`Connection.tap`). The methods are for the one thread that has it then."""

    _descriptor: int
    """Of its own: the loop may close its one meanwhile."""
    _most: int
    """How much there is to come at all."""
    drawn: int = field(default=0, init=False)
    dry: bool = field(default=False, init=False)
    """Whether the client was waited for."""
    closed: bool = field(default=False, init=False)
    unwanted: bool = field(default=False, init=False)
    """Set by the loop's thread where nobody waits for it any more."""
    _until: float = field(default=0.0, init=False)

    def fill(self, block: memoryview) -> int:
        """Put into the block what has come; how much. Never waits: 0 where nothing is there, or the turn is over."""
        if not self._until:
            self._until = time.monotonic() + TURN_S
        if self.unwanted or time.monotonic() > self._until:
            return 0
        filled = 0
        block = block[: self._most - self.drawn]
        while filled < len(block) and not self.dry:
            try:
                size = os.readv(self._descriptor, [block[filled:]])
            except OSError:
                size = 0  # nothing there, or the connection has failed, which the loop will see too
            self.dry = not size
            filled += size
        self.drawn += filled
        return filled

    def close(self) -> None:
        """The turn is over."""
        if not self.closed:
            os.close(self._descriptor)
            self.closed = True
