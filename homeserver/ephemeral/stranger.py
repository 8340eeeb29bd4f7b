"""One person of another server, as far as that server tells. Pure: time is an argument."""

from __future__ import annotations

from typing import Final

import msgspec
from attrs import define

from homeserver.ephemeral.person import NEVER, OFFLINE, ONLINE, Person, Wish

SILENCE_MS: Final = 30 * 60_000
"""COMPAT Synapse: it says again every 25 minutes that somebody is still there. Nobody is there for ever."""


class Said(msgspec.Struct, frozen=True):
    """What a server says of one of its people."""

    state: Wish
    currently_active: bool = False
    status_msg: str | None = None
    last_active_ago_ms: int | None = None


@define(eq=False)
class Stranger(Person):
    """The other server puts it together from what the person's devices say; here it is only passed on."""

    def hear(self, said: Said, now_ms: int) -> bool:
        """The other server says how the person is. Answers whether others see a difference."""
        before = (self.state, self.currently_active, self.status_msg)
        self.state = said.state
        self.currently_active = said.currently_active and said.state == ONLINE
        self.status_msg = said.status_msg
        if said.last_active_ago_ms is not None:
            self.last_active_ms = now_ms - min(max(said.last_active_ago_ms, 0), now_ms)
        self.due_ms = NEVER if said.state == OFFLINE else now_ms + SILENCE_MS
        return before != (self.state, self.currently_active, self.status_msg)

    def look(self, now_ms: int) -> bool:
        if now_ms < self.due_ms:
            return False
        self.state, self.currently_active, self.due_ms = OFFLINE, False, NEVER
        return True

    def act(self, now_ms: int) -> bool:
        """What a person elsewhere does, that person's server tells."""
        return False
