"""What members on other servers of this kind do in guilds of this one: their server asks, signed, in their name.

An action is a call of the guild API, and goes to the same handler as one that came over HTTP. It is at most five
minutes old, and is done once: its id is written down before anything is done, so that a restart forgets none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
import orjson

from federation.room.identifiers import InvalidIdentifier, parse_user_id, server_of
from federation.service import service
from homeserver.clock import Clock
from homeserver.errors import Forbidden, InvalidParam, MatrixError, NotFound
from homeserver.guilds.abroad.errands import OWN
from homeserver.guilds.api.fields import API
from homeserver.guilds.invites import Invites
from homeserver.guilds.steward import is_guild_room
from homeserver.http.limits import RateLimiter
from homeserver.http.route import Requester
from homeserver.http.table import Match, RouteTable
from homeserver.rooms.serve.access import PeerAccess
from storage import guild_actions as rows
from storage.database import Database

OLDEST_MS: Final = 5 * 60_000
"""How far from now an action's time may be."""
LONGEST_ID: Final = 255
REDEEM: Final = f"{API}/invites/{{code}}/join"


class Action(msgspec.Struct, frozen=True):
    """What another server asks for."""

    room_id: str
    """The guild."""
    action_id: str
    origin_server_ts: int
    user_id: str
    action: str
    """Method and path of a call, the path without the API's prefix: `POST guilds/!guild/roles`."""
    params: dict[str, Any] = {}
    """Its body; or what stands in its query."""


@service
class Actions:
    """Does what other servers' people ask for."""

    steward: str
    table: RouteTable
    """Of the guild API alone."""
    access: PeerAccess
    invites: Invites
    limits: RateLimiter
    database: Database
    clock: Clock

    async def act(self, origin: str, action: Action) -> object:
        """Do it, and answer as the call does. Raises MatrixError: the call's own refusals, or why there was no call."""
        self._check(origin, action)
        room = await self.access.rooms.get(action.room_id)
        if room is None or not is_guild_room(room) or room.create.sender != self.steward:
            raise NotFound("There is no such guild")
        if not await self.access.is_allowed(origin, room):
            raise Forbidden("Your server is not allowed in this guild")
        match = self._find(action.action)
        endpoint = match.endpoint
        if endpoint.route.rate is not None:
            self.limits.charge(endpoint.route.rate, action.user_id)
        ask = self._read(match, action.params)
        if await self._guild_of(match, ask) != action.room_id:
            raise InvalidParam("`action` is about another guild than the path")
        until = action.origin_server_ts + OLDEST_MS
        if not await self.database.write(rows.note, origin, action.action_id, until, self.clock.now_ms()):
            raise Forbidden("This action was done already: `action_id` is not new")
        return await endpoint.call(Requester(action.user_id, "", b""), ask, None)

    def _check(self, origin: str, action: Action) -> None:
        try:
            parse_user_id(action.user_id)
        except InvalidIdentifier as error:
            raise InvalidParam(f"`user_id`: {error}") from None
        if server_of(action.user_id) != origin:
            raise Forbidden(f"{action.user_id} is not one of your server's people")
        if abs(self.clock.now_ms() - action.origin_server_ts) > OLDEST_MS:
            raise Forbidden("`origin_server_ts` is more than five minutes from now")
        if not 0 < len(action.action_id.encode()) <= LONGEST_ID or "\0" in action.action_id:
            raise InvalidParam(f"`action_id` has 1 to {LONGEST_ID} bytes, and no NUL")

    def _find(self, text: str) -> Match:
        method, _, path = text.partition(" ")
        try:
            match = self.table.match(method, f"{API}/{path}".encode("utf-8", "replace"))
        except MatrixError:
            raise InvalidParam("`action` is no call of the guild API") from None
        if match.endpoint.route.path in OWN:
            raise InvalidParam("`action`: your server lets its own people in and out")
        return match

    def _read(self, match: Match, params: Mapping[str, Any]) -> Any:
        endpoint = match.endpoint
        assert endpoint.reader is not None
        if endpoint.reads_body:
            return endpoint.reader.read(match.values, "", orjson.dumps(params))
        query = {name: str(value) for name, value in params.items() if isinstance(value, (str, int))}
        return endpoint.reader.read(match.values, urlencode(query), b"")

    async def _guild_of(self, match: Match, ask: Any) -> str | None:
        if match.endpoint.route.path == REDEEM:
            return (await self.invites.require(ask.code)).guild_id
        guild_id = getattr(ask, "guild_id", None)
        return guild_id if isinstance(guild_id, str) else None
