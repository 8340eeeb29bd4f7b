"""Calls of the guild API about guilds that live elsewhere: this server passes them on to the steward's.

    POST /_guildhall/client/v1/guilds/{guild_id}/roles ──ours──> the handler
              └──elsewhere──> POST /_matrix/federation/unstable/chat.guildhall/guilds/{guild_id}/actions ──> its handler

No endpoint knows of it: `around` stands before the handlers of all routes that name a guild. What the guild's state
tells is read here; coming and going is each server's own business.
"""

from __future__ import annotations

import re
import secrets
from typing import Any, Final, TypeVar
from urllib.parse import quote

import msgspec
import orjson

from federation.outbound.client import FederationClient, path_to
from federation.outbound.patience import Patience
from federation.outbound.transport import PeerError, Refused, Unreachable
from federation.room.identifiers import InvalidIdentifier, parse_server_name, server_of
from federation.service import service
from homeserver.clock import Clock
from homeserver.errors import LimitExceeded, MatrixError, NotFound, Unavailable
from homeserver.guilds.api.fields import API
from homeserver.guilds.invites import NO_INVITE
from homeserver.guilds.steward import is_guild_room
from homeserver.http.route import Requester, RequestInfo, Route
from homeserver.http.table import Call
from homeserver.rooms.registry import Rooms

ACTIONS: Final = "/_matrix/federation/unstable/chat.guildhall/guilds/{}/actions"
INVITES: Final = "/_matrix/federation/unstable/chat.guildhall/invites/{}"
ONE: Final = f"{API}/guilds/{{guild_id}}"
OWN: Final = frozenset([f"{ONE}/join", f"{ONE}/leave"])
"""What each server does for its own people."""
STEWARDS: Final = frozenset([f"{ONE}/audit", f"{ONE}/invites", f"{ONE}/reports"])
"""What is read of what only the steward's server has."""

TIMEOUT_S = 30.0
MOST_BYTES = 4 * 1024 * 1024
MOST_BYTES_OF_INVITE = 64 * 1024
LONGEST_CODE = 255
PASSED_ON = frozenset([400, 403, 404, 409, 413])

T = TypeVar("T")


def is_passed_on(route: Route) -> bool:
    """Whether a call of this route is the business of the guild's own server."""
    if not (route.path == ONE or route.path.startswith(f"{ONE}/")) or route.path in OWN:
        return False
    return route.method != "GET" or route.path in STEWARDS


@service
class Errands:
    """Passes calls on."""

    server_name: str
    rooms: Rooms
    clock: Clock
    client: FederationClient | None
    """None for a server that keeps to itself."""
    patience: Patience

    def around(self, route: Route, call: Call) -> Call:
        """What is called in the place of a route's handler. A `homeserver.http.table.Detour`."""
        if self.client is None or not is_passed_on(route):
            return call

        async def passing(who: Requester, ask: Any, info: RequestInfo | None) -> object:
            server = await self.home_of(ask.guild_id, who.user_id)
            if server is None:
                return await call(who, ask, info)
            action, params = written(route, ask)
            return await self.run(server, ask.guild_id, who.user_id, action, params)

        return passing

    async def home_of(self, guild_id: str, user_id: str) -> str | None:
        """The server of a guild's steward, for a member of this server; None where that is this one, or nobody's to
        know.
        """
        room = await self.rooms.get(guild_id)
        if room is None or not is_guild_room(room) or room.membership_of(user_id) != "join":
            return None
        server = str(server_of(room.create.sender))
        return None if server == self.server_name or server_of(user_id) != self.server_name else server

    async def run(
        self, server: str, guild_id: str, user_id: str, action: str, params: dict[str, Any]
    ) -> dict[str, Any]:
        """Have something done by the guild's server in somebody's name. The answer is its own, and so are refusals."""
        client = self.client
        assert client is not None
        body = {
            "action_id": secrets.token_urlsafe(18),
            "origin_server_ts": self.clock.now_ms(),
            "user_id": user_id,
            "action": action,
            "params": params,
        }
        path = path_to(ACTIONS, guild_id)

        async def ask() -> dict[str, Any]:
            return await client.post(
                server, path, into=dict[str, Any], body=body, timeout_s=TIMEOUT_S, max_bytes=MOST_BYTES
            )

        try:
            return await self.patience.ask(server, ask)
        except PeerError as error:
            raise told(error) from None

    async def show(self, server: str, code: str, into: type[T]) -> T:
        """What an invitation by a code of another server leads to. Raises MatrixError, as if it were of this one."""
        try:
            name = parse_server_name(server)
        except InvalidIdentifier:
            raise NotFound(NO_INVITE) from None
        client = self.client
        if client is None or name == self.server_name or not 0 < len(code) <= LONGEST_CODE:
            raise NotFound(NO_INVITE)
        path = path_to(INVITES, code)

        async def ask() -> T:
            return await client.get(server, path, into=into, timeout_s=TIMEOUT_S, max_bytes=MOST_BYTES_OF_INVITE)

        try:
            return await self.patience.ask(server, ask)
        except PeerError as error:
            raise told(error) from None


def written(route: Route, ask: msgspec.Struct) -> tuple[str, dict[str, Any]]:
    """A call as text: method and path, and what stands in its body or query."""
    fields: dict[str, Any] = orjson.loads(msgspec.json.encode(ask))
    path = re.sub(r"\{(\w+)\}", lambda match: quote(str(fields.pop(match[1])), safe=""), route.path)
    if route.query:
        fields = {name: str(value) for name, value in fields.items() if value is not None}
    return f"{route.method} {path.removeprefix(f'{API}/')}", fields


def told(error: PeerError) -> MatrixError:
    """What our client is told when the guild's server refused, or could not be asked."""
    server = error.destination
    match error:
        case Unreachable():
            return Unavailable(f"{server}, on which this guild lives, can't be reached: try again later")
        case Refused(status=429):
            return LimitExceeded(min(error.retry_after_ms or 1_000, 60_000))
        case Refused() if error.status in PASSED_ON and error.errcode not in ("", "M_UNRECOGNIZED"):
            return MatrixError(error.status, error.errcode, error.error or f"{server} refused")
        case Refused():
            return MatrixError(502, "M_UNKNOWN", f"{server} answered with an error: {error.why}")
        case _:
            return MatrixError(502, "M_UNKNOWN", f"{server} gave an answer that makes no sense")
