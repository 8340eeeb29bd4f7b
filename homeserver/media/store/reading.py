"""Files of a store as sources of answers: opened and read in threads, what is in memory anyway at once."""

from __future__ import annotations

from threading import Lock

from attrs import define, field

from federation.threads import Workers
from homeserver.http.bodies import PIECE
from homeserver.media.store.port import Reading, Store


@define(eq=False)
class StoredSource:
    """Implements `homeserver.http.bodies.Source` on a piece of a stored file. Made by `open_source`."""

    length: int
    _workers: Workers
    _reading: Reading
    _first: bytes
    _busy: bool = field(default=False, init=False)
    _closed: bool = field(default=False, init=False)
    _guard: Lock = field(factory=Lock, init=False)
    """Held while a thread reads: nobody may close under its hands."""

    async def read(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        ready = self._reading.read_ready(PIECE)
        if ready is not None:
            return ready
        self._busy = True
        piece = await self._workers.run(self._read)
        self._busy = False
        return piece

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._busy:  # whoever waited was cancelled, and the thread is still at it
            self._workers.run(self._close_after)
        else:
            self._reading.close()

    def _read(self) -> bytes:
        with self._guard:
            return b"" if self._closed else self._reading.read(PIECE)

    def _close_after(self) -> None:
        with self._guard:
            self._reading.close()


async def open_source(workers: Workers, store: Store, name: str, start: int, length: int) -> StoredSource:
    """A piece of a file. Raises NotStored or StoreFailed."""
    reading, first = await workers.run(_open, store, name, start, length)
    return StoredSource(length, workers, reading, first)


def _open(store: Store, name: str, start: int, length: int) -> tuple[Reading, bytes]:
    """With its beginning, which for most files is all of it: one crossing of threads less."""
    reading = store.open(name, start, length)
    try:
        return reading, reading.read(PIECE)
    except BaseException:
        reading.close()
        raise
