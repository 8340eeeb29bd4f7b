"""Names for files to come: told loose before anything has them, so that a crash leaves none behind (`loose_files`).

Several are told at once: of two transactions that a file would take, most then take one.
"""

from __future__ import annotations

from typing import Literal

from attrs import define, field

from homeserver.clock import Clock
from homeserver.media.store.port import new_name
from storage import loose_files
from storage.database import Database

Folder = Literal["local", "remote", "thumbnails"]
"""What a file is, so that whoever looks into the store can tell."""

SOON_MS = 60 * 60 * 1000
"""How long it takes at most from the store to the database; and how long a name may wait to be taken."""
AT_ONCE = 8


@define(eq=False)
class LooseNames:
    """Gives out each once."""

    _database: Database
    _clock: Clock
    _ready: dict[Folder, list[tuple[str, int]]] = field(factory=dict, init=False)
    """Names, and until when they may be taken (ms since 1970)."""

    async def take(self, folder: Folder) -> str:
        """A name that is loose, and stays so for long enough."""
        now = self._clock.now_ms()
        ready = self._ready.setdefault(folder, [])
        while ready:
            name, until = ready.pop()
            if now <= until:
                return name
        first, *others = [new_name(folder) for _ in range(AT_ONCE)]
        await self._database.write(loose_files.put, [first, *others], now + 2 * SOON_MS)
        ready += [(name, now + SOON_MS) for name in others]
        return first
