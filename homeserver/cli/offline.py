"""Do something with a server that is not running: build it, without opening its listeners, and close it again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import attrs
import click
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from config import Settings
from homeserver.observe.log import configure_logging
from homeserver.reactor import install_reactor

if TYPE_CHECKING:
    from homeserver.app import House

T = TypeVar("T")


def register(settings: Settings, name: str, password: str, *, admin: bool) -> str:
    """Make an account; its user id. Ends the command where that cannot be."""

    async def work(house: House) -> str:
        return await house.accounts.registration.make(name, password, is_admin=admin, displayname=None)

    return with_house(settings, work)


def with_house(settings: Settings, work: Callable[[House], Awaitable[T]]) -> T:
    """Run `work` with the whole server at hand. Once in a process, because a reactor runs only once.

    What is wrong with the server or with the request ends the command with a message.
    """
    configure_logging(attrs.evolve(settings.logging, format="console", level="warning"))
    install_reactor()
    from twisted.internet import reactor

    from federation.room.signing import BadSigningKey
    from homeserver.app import build
    from homeserver.errors import MatrixError
    from storage.errors import StorageError

    outcome: list[T | Failure] = []

    async def whole() -> T:
        house = build(settings, reactor)
        try:
            return await work(house)
        finally:
            await house.close()

    def done(result: T | Failure) -> None:
        outcome.append(result)
        reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(whole()).addBoth(done))
    reactor.run()
    (result,) = outcome
    if not isinstance(result, Failure):
        return result
    if isinstance(result.value, MatrixError | StorageError | BadSigningKey | OSError):
        raise click.ClickException(str(result.value))
    result.raiseException()
