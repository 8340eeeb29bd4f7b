"""Bodies of other servers' answers on their way into drafts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import define, field

from homeserver.http.bodies import PIECE
from homeserver.media.draft import Draft
from homeserver.media.library import Library


def _any(headers: Mapping[str, str]) -> None:
    """Whatever comes is wanted."""


@define(eq=False)
class DraftSink:
    """Implements `federation.outbound.transport.Sink`: gathers what comes, and writes it a piece at a time."""

    _library: Library
    draft: Draft
    _judge: Callable[[Mapping[str, str]], None] = _any
    """Looks at the headers first; what it raises ends the request."""
    _most_kept: int | None = None
    """What comes after so many bytes is let go."""
    headers: Mapping[str, str] = field(factory=dict, init=False)
    _kept: int = field(default=0, init=False)
    _pieces: list[bytes] = field(factory=list, init=False)
    _held: int = field(default=0, init=False)

    def begin(self, headers: Mapping[str, str]) -> None:
        self.headers = headers
        self._judge(headers)

    async def write(self, data: bytes) -> None:
        if self._most_kept is not None:
            data = data[: self._most_kept - self._kept]
        self._kept += len(data)
        self._held += len(data)
        self._pieces.append(data)
        if self._held >= PIECE:
            await self.flush()

    async def flush(self) -> None:
        """Write what is held. Whoever began the request calls it in the end."""
        pieces, self._pieces, self._held = self._pieces, [], 0
        if pieces:
            await self._library.write(self.draft, pieces)
