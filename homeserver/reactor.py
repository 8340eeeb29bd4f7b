"""Choose the event loop: Twisted's asyncio reactor on uvloop. Must run before anything imports Twisted's reactor.

from homeserver.reactor import install_reactor
install_reactor()
from twisted.internet import reactor
"""

# Most of Twisted has no annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.main import installReactor
from twisted.logger import Logger


class LoopReactor(AsyncioSelectorReactor):
    """Twisted's, with a shorter way for what comes from threads: it makes a timer for each call."""

    _log = Logger()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = self._asyncioEventloop
        return loop

    def callFromThread(self, callable: Callable[..., object], *args: object, **kwargs: object) -> None:  # type: ignore[override]
        self.loop.call_soon_threadsafe(partial(self._call, callable, args, kwargs))

    def _call(self, function: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            function(*args, **kwargs)
        except Exception:
            self._log.failure("while calling from thread")


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
