"""Reading whole lists of devices: at once for who asks, and in the background where an update was missed.

    wanted ──► one list of a server at a time ──► read ──► done, or once more if it fell behind meanwhile
                   ▲                               │ no answer
                   └─── pause, ever longer ◄───────┘      (over when the server is heard of)

Which lists are stale is in the database, so a restart forgets nothing.

Spec: https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1userdevicesuserid
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import msgspec
import structlog
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from federation.flight import SingleFlight
from federation.outbound.keys import KeyRequests
from federation.outbound.transport import BadAnswer, PeerError, Refused
from federation.room.identifiers import UserId, server_of
from homeserver.encryption.lists import DeviceLists
from homeserver.encryption.remote.keeping import put_whole
from homeserver.streams.hub import Hub
from storage import remote_devices as rows
from storage.database import Database
from storage.ports import Cursor

FIRST_PAUSE_S = 30.0
LONGEST_PAUSE_S = 3600.0
SOON_S = 5.0
"""After a sign of life, and after a start."""
MOST_WANTED = 2_000
"""Lists of one server that wait to be read; the others are read when somebody asks for them."""

_log = structlog.get_logger("homeserver.encryption")


class _Server(msgspec.Struct, eq=False):
    """What is wanted of one server."""

    wanted: dict[str, None] = msgspec.field(default_factory=dict)
    """User ids, first come first."""
    failures: int = 0
    is_working: bool = False
    timer: IDelayedCall | None = None


@define(eq=False)
class Resyncs:
    """Reads lists."""

    _database: Database
    _lists: DeviceLists
    _requests: KeyRequests
    _timers: IReactorTime
    _spawn: Callable[[str, Coroutine[Deferred[Any], Any, None]], None]
    _hub: Hub
    _servers: dict[str, _Server] = field(factory=dict, init=False)
    _reading: SingleFlight[str, bool] = field(factory=SingleFlight, init=False)

    async def start(self) -> None:
        """Take up what was stale when the server went down."""
        for user_id in await self._database.run(rows.all_stale):
            self.want(user_id, SOON_S)

    def want(self, user_id: str, within_s: float = 0.0) -> None:
        """Somebody's list is to be read."""
        name = server_of(user_id)
        server = self._servers.setdefault(name, _Server())
        if user_id not in server.wanted and len(server.wanted) >= MOST_WANTED:
            return
        server.wanted[user_id] = None
        if not server.is_working and server.timer is None:
            self._later(name, server, within_s)

    async def read(self, user_id: str) -> None:
        """Read a list now. Raises PeerError; then it stays as it was."""
        await self._reading.do(user_id, partial(self._read, user_id, insist=False))

    def heard_of(self, name: str) -> None:
        """A server is alive: what it did not answer is asked again. Cheap where it owes us nothing."""
        server = self._servers.get(name)
        if server is not None and server.timer is not None and server.failures:
            server.failures = 0
            server.timer.cancel()
            self._later(name, server, SOON_S)

    def close(self) -> None:
        """Begin nothing more."""
        for server in self._servers.values():
            if server.timer is not None:
                server.timer.cancel()
        self._servers.clear()

    # ----------------------------------------------------------------------------------------------------------

    def _later(self, name: str, server: _Server, seconds: float) -> None:
        server.timer = self._timers.callLater(seconds, self._begin, name, server)

    def _begin(self, name: str, server: _Server) -> None:
        server.timer = None
        server.is_working = True
        self._spawn("lists of devices of another server", self._work(name, server))

    async def _work(self, name: str, server: _Server) -> None:
        try:
            while server.wanted:
                user_id = next(iter(server.wanted))
                try:
                    is_whole = await self._reading.do(user_id, partial(self._read, user_id, insist=True))
                except PeerError as error:
                    if isinstance(error, Refused) and error.status in (400, 403, 404):
                        # There is no such person any more, or it won't say: who asks is told what it tells then.
                        server.wanted.pop(user_id, None)
                        await self._database.write(rows.forget, user_id)
                        continue
                    server.failures += 1
                    return
                server.failures = 0
                if is_whole:
                    server.wanted.pop(user_id, None)
        except CancelledError:
            server.wanted.clear()  # this server goes down
            raise
        except Exception:
            server.failures += 1
            _log.exception("a list of devices could not be kept", peer=name)
        finally:
            server.is_working = False
            if server.wanted:
                pause_s = min(FIRST_PAUSE_S * 2 ** min(server.failures - 1, 20), LONGEST_PAUSE_S)
                self._later(name, server, pause_s)
            elif self._servers.get(name) is server:
                del self._servers[name]

    async def _read(self, user_id: str, *, insist: bool) -> bool:
        """False if something was missed meanwhile, so that it is to be read once more."""
        asked_at = self._hub.position
        before = (await self._database.run(rows.lists_of, [user_id])).get(user_id)
        answer = await self._requests.devices(UserId(user_id), insist=insist)
        if answer.user_id != user_id:
            raise BadAnswer(server_of(user_id), "it speaks of somebody else")
        is_behind = False

        def work(cursor: Cursor, position: int) -> bool:
            nonlocal is_behind
            is_seen, is_behind = put_whole(cursor, answer, asked_at, 0 if before is None else before.missed)
            return is_seen

        await self._lists.write_remote(user_id, work)
        return not is_behind
