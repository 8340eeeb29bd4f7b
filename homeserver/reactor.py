"""Choose the event loop: Twisted's asyncio reactor on uvloop. Must run before anything imports Twisted's reactor.

from homeserver.reactor import install_reactor
install_reactor()
from twisted.internet import reactor
"""

# Most of Twisted has no annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import asyncio
import select
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.main import installReactor
from twisted.logger import Logger


class LoopReactor(AsyncioSelectorReactor):
    """Twisted's, with a shorter way for what comes from threads (it makes a timer for each call), and an eye on
    descriptors that uvloop lets go of.

    COMPAT uvloop 0.23: of a descriptor with an error pending, as when the peer has reset the connection, it calls the
    reader once more and then never again, and refuses whatever is asked about it. Where that one call finds data that
    came before the reset, nobody would ever hear that the connection is lost. So such a one is given to it anew, until
    reading brings the error to light. (https://github.com/MagicStack/uvloop/issues/552)
    """

    _log = Logger()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = self._asyncioEventloop
        return loop

    def _readOrWrite(self, selectable: Any, read: bool) -> None:
        super()._readOrWrite(selectable, read)
        if read and _has_error(self._readers.get(selectable, self._writers.get(selectable))):
            self.loop.call_soon(self._watch_anew, selectable)  # not at once: uvloop is still at it

    def addReader(self, reader: Any) -> None:
        try:
            super().addReader(reader)
        except RuntimeError:  # let go of a moment ago
            self._watch_anew(reader)
            super().addReader(reader)

    def addWriter(self, writer: Any) -> None:
        try:
            super().addWriter(writer)
        except RuntimeError:
            self._watch_anew(writer)
            super().addWriter(writer)

    def _watch_anew(self, selectable: Any) -> None:
        fd = selectable.fileno()
        if fd == -1:  # closed meanwhile
            return
        is_read = self._readers.pop(selectable, None) is not None
        is_written = self._writers.pop(selectable, None) is not None
        self.loop.remove_reader(fd)
        self.loop.remove_writer(fd)
        if is_read:
            super().addReader(selectable)
        if is_written:
            super().addWriter(selectable)

    def callFromThread(self, callable: Callable[..., object], *args: object, **kwargs: object) -> None:  # type: ignore[override]
        self.loop.call_soon_threadsafe(partial(self._call, callable, args, kwargs))

    def _call(self, function: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            function(*args, **kwargs)
        except Exception:
            self._log.failure("while calling from thread")


def _has_error(fd: int | None) -> bool:
    """Whether an error is pending at a descriptor, which stays so until it is read."""
    if fd is None:
        return False
    look = select.poll()
    look.register(fd, 0)
    return any(found & select.POLLERR for _, found in look.poll(0))


def install_reactor() -> bool:
    """Install the reactor; calling it again is harmless. False when it had to do without uvloop.

    Plain asyncio serves just as correctly, but costs about half as much CPU again: whoever starts a server says so.
    Raises RuntimeError when another kind of reactor is there already, because some import asked for it too early.
    """
    present = sys.modules.get("twisted.internet.reactor")
    if present is not None:
        if not isinstance(present, LoopReactor):
            raise RuntimeError(f"{type(present).__name__} was installed before ours; import the reactor later")
        return _is_uvloop(present.loop)
    loop = _new_loop()
    asyncio.set_event_loop(loop)
    installReactor(LoopReactor(loop))
    return _is_uvloop(loop)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.SelectorEventLoop()
    return uvloop.new_event_loop()


def _is_uvloop(loop: asyncio.AbstractEventLoop) -> bool:
    return type(loop).__module__.partition(".")[0] == "uvloop"
