"""All connections of the gateway: who may have how many, who is heard of, and how they end."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import structlog
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.internet.task import LoopingCall

from config.gateway import Gateway
from homeserver.gateway.codes import GOING_DOWN, NO_IDENTIFY, NOT_AUTHENTICATED, SILENT, TOO_SLOW
from homeserver.gateway.connection import Connection, Services
from homeserver.http.route import Requester, RequestInfo

IDENTIFY_SECONDS = 10
SWEEP_SECONDS = 2.0
SILENCE_SECONDS = 90
"""A client of which nothing was heard for so long, though it was asked, is let go of."""
STALLED_SECONDS = 30
"""How long a client may take nothing of what is written to it."""
TOKEN_SECONDS = 20
"""How often is looked whether a token still holds: its end by a logout is told at once, that by its age is not."""
ROUND_SECONDS = 10
CLOSE_SECONDS = 2.0

_log = structlog.get_logger("homeserver.gateway")


@define(eq=False)
class Lobby:
    """One per process; lives in the reactor's thread."""

    settings: Gateway
    services: Services
    reactor: Any
    strangers: dict[Connection, None] = field(factory=dict, init=False)
    """Who has not identified yet, those who came first in front."""
    connections: dict[str, dict[Connection, None]] = field(factory=dict, init=False)
    """By user id."""
    rounds: list[Callable[[], Coroutine[Any, Any, None]]] = field(factory=list, init=False)
    """What is to be done every ten seconds, as long as anybody is connected."""
    returns: list[Callable[[Requester], Coroutine[Any, Any, None]]] = field(factory=list, init=False)
    """What is to be done for a device that comes back to where it was: what has no place in the stream is told anew."""
    _closing: bool = field(default=False, init=False)
    _sweeping: LoopingCall = field(init=False)
    _rounds: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._sweeping = LoopingCall(self._sweep)
        self._sweeping.clock = self.reactor

    # -- coming ------------------------------------------------------------------------------------------------

    def admits(self, origin: str | None) -> bool:
        """Whether a page may connect; None: it is no page."""
        return origin is None or "*" in self.settings.origins or origin in self.settings.origins

    def receive(self, info: RequestInfo, room_id: str | None) -> IProtocol:
        """What a new connection is handed to. autobahn is loaded for the first."""
        from homeserver.gateway.socket import Socket, factory_for

        connection = Connection(self, self.services, info, room_id)
        socket: IProtocol = Socket(factory_for(self.reactor), connection)
        connection.line = socket  # type: ignore[assignment]
        return socket

    def enter(self, connection: Connection) -> None:
        """It is open, and has yet to say who it is."""
        if self._closing:
            connection.end(GOING_DOWN)
            return
        self.strangers[connection] = None
        if not self._sweeping.running:
            self._sweeping.start(SWEEP_SECONDS, now=False)

    def has_place(self, user_id: str) -> bool:
        return len(self.connections.get(user_id, ())) < self.settings.max_connections

    def know(self, connection: Connection, user_id: str) -> None:
        """It said who it is."""
        self.strangers.pop(connection, None)
        self.connections.setdefault(user_id, {})[connection] = None

    def returned(self, who: Requester) -> None:
        """It heard what it had missed, as far as the stream tells it."""
        for work in self.returns:
            self.services.tasks.spawn("gateway.return", work(who))

    def leave(self, connection: Connection) -> None:
        self.strangers.pop(connection, None)
        who = connection.who
        if who is not None and (theirs := self.connections.get(who.user_id)) is not None:
            theirs.pop(connection, None)
            if not theirs:
                del self.connections[who.user_id]

    def of(self, user_id: str) -> list[Connection]:
        """The connections of a person that are open, and known."""
        return list(self.connections.get(user_id, ()))

    def is_here(self, who: Requester) -> bool:
        """Whether a device is connected."""
        theirs = self.connections.get(who.user_id, ())
        return any(one.who is not None and one.who.device_id == who.device_id for one in theirs)

    def push_to(self, user_id: str, kind: str, data: Mapping[str, Any], device_id: str | None = None) -> bool:
        """Say something to a person's connections, or those of one device. Whether there are any."""
        reached = False
        for one in self.of(user_id):
            if one.who is not None and device_id in (None, one.who.device_id):
                one.push(kind, data)
                reached = True
        return reached

    @property
    def count(self) -> int:
        return len(self.strangers) + sum(len(theirs) for theirs in self.connections.values())

    # -- going -------------------------------------------------------------------------------------------------

    async def devices_removed(self, user_id: str, device_ids: Sequence[str]) -> None:
        """These devices are logged out (`homeserver.accounts.ports.DeviceListener`)."""
        for connection in self.of(user_id):
            if connection.who is not None and connection.who.device_id in device_ids:
                connection.end(NOT_AUTHENTICATED)

    async def close(self) -> None:
        """The server is going down: everybody is told, and has a moment to answer."""
        self._closing = True
        everyone = [*self.strangers, *(one for theirs in self.connections.values() for one in theirs)]
        for connection in everyone:
            connection.end(GOING_DOWN)
        left: Deferred[None] = Deferred()
        looking = LoopingCall(lambda: None if self.count or left.called else left.callback(None))
        looking.clock = self.reactor
        looking.start(0.02)
        timeout = self.reactor.callLater(CLOSE_SECONDS, lambda: None if left.called else left.callback(None))
        await left
        looking.stop()
        if timeout.active():
            timeout.cancel()
        for connection in everyone:
            connection.abort()
        if self._sweeping.running:
            self._sweeping.stop()

    def _sweep(self) -> None:
        now = self.reactor.seconds()
        for connection in list(self.strangers):
            if now - connection.heard_at < IDENTIFY_SECONDS:
                break
            connection.end(NO_IDENTIFY)
        self._rounds += 1
        looks_at_tokens = self._rounds % int(TOKEN_SECONDS / SWEEP_SECONDS) == 0
        for theirs in list(self.connections.values()):
            for connection in list(theirs):
                if connection.is_stalled(now - STALLED_SECONDS):
                    connection.end(TOO_SLOW)
                elif now - connection.heard_at > SILENCE_SECONDS:
                    connection.end(SILENT)
                else:
                    connection.look(now, looks_at_token=looks_at_tokens)
        if self._rounds % int(ROUND_SECONDS / SWEEP_SECONDS) == 0:
            for work in self.rounds:
                self.services.tasks.spawn("gateway.round", work())
        if not self.count:
            self._sweeping.stop()
