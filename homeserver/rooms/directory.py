"""The directory of published rooms: largest first, searched and paged in memory.

The first listing after a start reads a summary of every published room (a few queries each, about a KiB of memory);
from then on the directory watches what is committed, and reads again only those rooms whose summary changed.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3publicrooms
"""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec
from attrs import define, field
from twisted.internet.defer import Deferred

from federation.room.identifiers import InvalidIdentifier, parse_server_name
from homeserver.errors import Forbidden, InvalidParam, MatrixError, NotFound
from homeserver.http.route import Requester
from homeserver.rooms.accept import Accepted
from homeserver.rooms.aliases import Aliases
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.registry import Rooms
from homeserver.rooms.summary import RoomSummary, summarise
from storage import directory as rows
from storage.database import Database

DEFAULT_LIMIT = 100
MOST_ROOMS = 500
"""In one answer."""

WATCHED = frozenset({*rows.SHOWN.values(), ("m.room.create", "")})

Place = tuple[int, str]
"""Where a room stands in the directory: (minus its joined members, room id)."""


class ListAsk(msgspec.Struct, frozen=True, gc=False):
    """Which rooms of the directory."""

    limit: int | None = None
    since: str | None = None
    term: str | None = None
    room_types: Sequence[str | None] | None = None
    """None: of any type. None among them: rooms without a type."""
    network: str | None = None
    """A third-party network's instance id."""
    all_networks: bool = False
    """Of any network, this one too. Then `network` is None."""


class Listing(msgspec.Struct, frozen=True, gc=False):
    """One page of the directory."""

    rooms: list[dict[str, Any]]
    total: int
    prev: str | None = None
    next: str | None = None

    def to_json(self) -> dict[str, Any]:
        answer: dict[str, Any] = {"chunk": self.rooms, "total_room_count_estimate": self.total}
        if self.prev is not None:
            answer["prev_batch"] = self.prev
        if self.next is not None:
            answer["next_batch"] = self.next
        return answer


class RemoteDirectory(Protocol):
    """Asks other servers for their directories."""

    async def list(self, server_name: str, ask: ListAsk) -> dict[str, Any]:
        """The other server's answer. Raises MatrixError where it can't be asked."""


class NoRemoteDirectory:
    """For a server that does not federate."""

    async def list(self, server_name: str, ask: ListAsk) -> dict[str, Any]:
        raise MatrixError(502, "M_UNKNOWN", f"This server does not federate, so {server_name} can't be asked")


class DirectoryPolicy(msgspec.Struct, frozen=True):
    """Whose directory it is, and who may add to it."""

    server_name: str
    anybody_may_publish: bool


@define(eq=False)
class Directory:
    """See the module's docstring. An `Observer` of the one door."""

    _database: Database
    _rooms: Rooms
    _aliases: Aliases
    _policy: DirectoryPolicy
    _remote: RemoteDirectory
    _known: dict[int, RoomSummary] = field(factory=dict, init=False)
    """The published rooms, by nid, once they were read."""
    _stale: set[int] | None = field(default=None, init=False)
    """Rooms that may be published and whose summary must be read (again). None: nothing was ever read."""
    _order: list[tuple[Place, RoomSummary]] | None = field(default=None, init=False)
    """The published rooms in order; None where that must be made anew."""
    _reading: list[Deferred[None]] | None = field(default=None, init=False)

    async def list(self, ask: ListAsk, server_name: str | None = None) -> dict[str, Any]:
        """A page of the directory, of this server or another one. Raises InvalidParam."""
        if ask.limit is not None and ask.limit < 0:
            raise InvalidParam("`limit` must not be negative")
        if server_name is not None and server_name != self._policy.server_name:
            try:
                parse_server_name(server_name)
            except InvalidIdentifier as error:
                raise InvalidParam(f"`server`: {error}") from None
            return await self._remote.list(server_name, ask)
        if ask.network is not None:
            return Listing([], 0).to_json()  # there are no bridges to any network
        await self._refresh()
        return _cut(self._wanted(ask), ask).to_json()

    async def is_published(self, room_id: str) -> bool:
        """Raises NotFound for a room that is not known here."""
        return await self._database.run(rows.is_published, (await self._require(room_id)).nid)

    async def publish(self, who: Requester, room_id: str, visible: bool) -> None:
        """Show a room in the directory, or no more. Raises NotFound, Forbidden.

        Administrators may do both with any room; so may whoever speaks for a room (may set its main alias), though
        showing it only where the settings let anybody publish.
        """
        room = await self._require(room_id)
        if not who.is_admin:
            if not await self._aliases.may_advertise(room, who.user_id):
                raise Forbidden("You may not speak for this room")
            if visible and not self._policy.anybody_may_publish:
                raise Forbidden("Only administrators may publish rooms on this server")
        await self._database.write(rows.publish if visible else rows.unpublish, room.nid)
        self._forget(room.nid)

    def moved(self, old_nid: int, new_nid: int) -> None:
        """A room took the place of another, which is written already."""
        self._forget(old_nid)
        self._forget(new_nid)

    def accepted(self, accepted: Accepted) -> None:
        """Something was committed in a room."""
        nid = accepted.room.nid
        if self._stale is None or nid in self._stale:
            return
        keys = [change.key for change in accepted.all_changes()]
        keys += [(stored.event.type, stored.event.state_key or "") for stored in accepted.redacted]
        # A room that is just being made may be published in the same transaction.
        concerned = nid in self._known or self._reading is not None or ("m.room.create", "") in keys
        if concerned and any(key in WATCHED or key[0] == "m.room.member" for key in keys):
            self._forget(nid)

    # ----------------------------------------------------------------------------------------------------------

    async def _require(self, room_id: str) -> LiveRoom:
        room = await self._rooms.get(room_id)
        if room is None:
            raise NotFound("No room of that id is known here")
        return room

    def _forget(self, nid: int) -> None:
        """A room's summary, or whether it is published at all, must be read again."""
        if self._stale is not None:
            self._stale.add(nid)

    async def _refresh(self) -> None:
        """Bring what is known up to date. One at a time: who comes meanwhile waits, and looks again."""
        while self._reading is not None:
            waiter: Deferred[None] = Deferred()
            self._reading.append(waiter)
            await waiter
        if self._stale is not None and not self._stale:
            return
        stale = None if self._stale is None else list(self._stale)
        self._stale = set()
        self._reading = []
        done = False
        try:
            read = await self._database.run(rows.published, stale)
            done = True
        finally:
            if not done:
                self._stale = None if stale is None else self._stale.union(stale)
            waiting, self._reading = self._reading, None
            for waiter in waiting:
                waiter.callback(None)
        for nid in stale or ():
            self._known.pop(nid, None)
        self._known.update((room.nid, summarise(room)) for room in read)
        self._order = None

    def _wanted(self, ask: ListAsk) -> Sequence[tuple[Place, RoomSummary]]:
        if self._order is None:
            self._order = sorted(((-room.joined, room.room_id), room) for room in self._known.values())
        wanted = self._order
        if ask.room_types is not None:
            types = frozenset(ask.room_types)
            wanted = [one for one in wanted if one[1].room_type in types]
        if ask.term:
            term = ask.term.casefold()
            wanted = [one for one in wanted if one[1].holds(term)]
        return wanted


def _cut(rooms: Sequence[tuple[Place, RoomSummary]], ask: ListAsk) -> Listing:
    """The page that was asked for. Tokens name the room at the page's edge, so rooms that move don't shift pages."""
    limit = min(ask.limit or DEFAULT_LIMIT, MOST_ROOMS)
    first, last = 0, limit
    if ask.since is not None:
        direction, place = _read_token(ask.since)
        if direction == "next":
            first = bisect_right(rooms, place, key=_place)
            last = first + limit
        else:
            last = bisect_left(rooms, place, key=_place)
            first = max(0, last - limit)
    page = rooms[first:last]
    return Listing(
        [room.to_json() for _, room in page],
        len(rooms),
        _token("prev", page[0][0]) if page and first > 0 else None,
        _token("next", page[-1][0]) if page and last < len(rooms) else None,
    )


def _place(one: tuple[Place, RoomSummary]) -> Place:
    return one[0]


class _Token(msgspec.Struct, frozen=True, array_like=True, gc=False):
    direction: Literal["next", "prev"]
    count: int
    room_id: str


def _token(direction: Literal["next", "prev"], place: Place) -> str:
    packed = msgspec.json.encode(_Token(direction, *place))
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def _read_token(text: str) -> tuple[Literal["next", "prev"], Place]:
    try:
        packed = base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4))
        token = msgspec.json.decode(packed, type=_Token)
    except (msgspec.DecodeError, binascii.Error, ValueError):
        raise InvalidParam("`since` is not a token of this server") from None
    return token.direction, (token.count, token.room_id)
