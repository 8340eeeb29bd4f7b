"""Choose the event loop: Twisted's asyncio reactor on uvloop. Must run before anything imports Twisted's reactor.

from homeserver.reactor import install_reactor
install_reactor()
from twisted.internet import reactor
"""

from __future__ import annotations

import asyncio
import sys


def install_reactor() -> bool:
    """Install the reactor; calling it again is harmless. False when it had to do without uvloop.

    Plain asyncio serves just as correctly, but costs about half as much CPU again: whoever starts a server says so.
    Raises RuntimeError when another kind of reactor is there already, because some import asked for it too early.
    """
    from twisted.internet import asyncioreactor

    present = sys.modules.get("twisted.internet.reactor")
    if present is not None:
        if not isinstance(present, asyncioreactor.AsyncioSelectorReactor):
            raise RuntimeError(f"{type(present).__name__} was installed before ours; import the reactor later")
        return _is_uvloop(present._asyncioEventloop)
    loop = _new_loop()
    asyncio.set_event_loop(loop)
    asyncioreactor.install(loop)  # type: ignore[no-untyped-call]
    return _is_uvloop(loop)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.SelectorEventLoop()
    return uvloop.new_event_loop()


def _is_uvloop(loop: asyncio.AbstractEventLoop) -> bool:
    return type(loop).__module__.partition(".")[0] == "uvloop"
