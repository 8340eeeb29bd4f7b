"""Bodies that never stand whole in memory: what a client uploads, and what it is sent from a file.

    coming in    bytes ──> IncomingBody ──> read() by the handler ──> disk
                   ^           │ more than HOLD waits
                   └─ pause ───┘            resume once it was taken

    a fast one   the kernel ──> Tap ──> a thread of the handler's ──> disk, as long as there is more

    going out    a Source ──> read() by the edge, a piece at a time ──> the connection, as fast as its client takes it

A handler that has a parameter of type `IncomingBody` begins before the body is there: who is asking has been settled by
then, and nothing of the body is read until the handler wants it. One that answers with a `Reply` whose body is a
`Source` is done with it: the edge reads and closes it, also where the client goes away in the middle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred

from homeserver.errors import MatrixError
from homeserver.http.tap import Tap

PIECE = 256 * 1024
"""What is read or written at once: large enough that what it costs to hand a piece on does not count."""
HOLD = 2 * PIECE
"""How much of a body waits to be taken before its client is told to wait."""


class TooLarge(MatrixError):
    """413. Spec: https://spec.matrix.org/v1.19/client-server-api/#content-repo-security-considerations"""

    def __init__(self, limit: int) -> None:
        super().__init__(413, "M_TOO_LARGE", f"The body is larger than the {limit} bytes that may be sent here")


class Source(Protocol):
    """Where the bytes of a long answer come from."""

    @property
    def length(self) -> int | None:
        """In bytes; exactly so many come. None where that is known only at the end: then they are sent in chunks."""

    async def read(self) -> bytes:
        """The next piece, of any size up to `PIECE`; empty where there are no more. Raises OSError."""

    def close(self) -> None:
        """It is not needed any more. May be called twice, and while a read is going on."""


class Inlet(Protocol):
    """The end of a connection that a body comes in by."""

    def pause(self) -> None:
        """Let nothing more come, but what is here already."""

    def resume(self) -> None: ...

    def welcome(self) -> None:
        """Tell a client that asked first (`Expect: 100-continue`) to send."""

    def tap(self, most: int) -> Tap | None:
        """The connection for a thread to read from while it is paused; None where that can't be, as with TLS."""

    def drawn(self, size: int) -> None:
        """So many bytes of the body went that way."""


@define(eq=False)
class IncomingBody:
    """A request's body as it comes in."""

    length: int | None
    """As the client declares it, in bytes; None where it does not."""
    _inlet: Inlet
    _limit: int
    received: int = field(default=0, init=False)
    _waiting: list[bytes] = field(factory=list, init=False)
    _held: int = field(default=0, init=False)
    _complete: bool = field(default=False, init=False)
    _failure: Callable[[], Exception] | None = field(default=None, init=False)
    _paused: bool = field(default=True, init=False)
    """Nothing is let in before somebody wants it."""
    _begun: bool = field(default=False, init=False)
    _reader: Deferred[None] | None = field(default=None, init=False)
    _wanted: int = field(default=PIECE, init=False)
    torn: bool = field(default=False, init=False)
    """A thread may have taken more of it than is known here."""

    def limit(self, limit: int) -> None:
        """Lower what may come in all. Raises `TooLarge` where more is declared already; `read` does where it comes."""
        self._limit = min(limit, self._limit)
        if max(self.length or 0, self.received) > self._limit:
            raise TooLarge(self._limit)

    async def read(self, least: int = PIECE) -> Sequence[bytes]:
        """What has come since the last time: at least so many bytes, fewer at the end, nothing after it.

        Raises `TooLarge`, and `CancelledError` where the client has gone. One reader at a time.
        """
        if not self._begun:
            self._begun = True
            self._inlet.welcome()
        while self._failure is None and not self._complete and self._held < least:
            self._resume()
            self._wanted = least
            self._reader = Deferred()
            await self._reader
        if self._failure is not None:
            raise self._failure()
        taken, self._waiting, self._held = self._waiting, [], 0
        self._resume()  # the next piece comes while this one is dealt with
        return taken

    @contextmanager
    def tap(self) -> Iterator[Tap | None]:
        """For after a `read`: what comes next, for a thread to take by itself meanwhile. None where there is no such
        way, or nothing to come but the end; then it is read. Whoever gets one closes it when they are done."""
        tap = self._open_tap()
        try:
            yield tap
        finally:
            if tap is not None:
                self._close_tap(tap)

    @property
    def complete(self) -> bool:
        """Whether all of it has come, be it read or not."""
        return self._complete

    @property
    def awaited(self) -> bool:
        """Whether it is the client's turn: it is to send, and we take what it sends."""
        return not (self._complete or self._paused)

    # What the edge calls.

    def add(self, data: bytes) -> None:
        """A piece came."""
        self.received += len(data)
        if self._failure is not None:
            return
        if self.received > self._limit:
            limit = self._limit
            self._fail(lambda: TooLarge(limit))
            return
        self._waiting.append(data)
        self._held += len(data)
        if self._held >= self._wanted:
            self._wake()
        if self._held >= HOLD and not self._paused:
            self._paused = True
            self._inlet.pause()

    def end(self) -> None:
        """That was all."""
        if self._paused and self._failure is None:
            self._paused = False
            self._inlet.resume()  # or nobody would notice that the client goes away
        self._complete = True
        self._wake()

    def abandon(self) -> None:
        """The client has gone."""
        if not self._complete:
            self._fail(CancelledError)

    def _open_tap(self) -> Tap | None:
        if self._complete or self._failure is not None or self._held or self.length is None:
            return None
        left = self.length - self.received
        # With the last piece a reader may be woken before the end is told: no thread waits for nothing.
        tap = self._inlet.tap(left) if left else None
        if tap is not None:
            self._paused = True
            self._inlet.pause()
        return tap

    def _close_tap(self, tap: Tap) -> None:
        if not tap.closed:  # whoever waited for the thread was cancelled
            tap.unwanted = self.torn = True
            return
        self.received += tap.drawn
        if self._failure is None:
            self._inlet.drawn(tap.drawn)

    def _fail(self, failure: Callable[[], Exception]) -> None:
        self._failure = failure
        self._waiting.clear()
        self._held = 0
        self._wake()

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None and not reader.called:
            reader.callback(None)

    def _resume(self) -> None:
        if self._paused and not self._complete and self._failure is None:
            self._paused = False
            self._inlet.resume()
