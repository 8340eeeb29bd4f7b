"""Spaces and rooms that this server is not in, as others tell of them, remembered for a moment.

Spec: https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import structlog
from attrs import define, field

from federation.bounded import Bounded
from federation.flight import SingleFlight
from federation.outbound.queries import Queries
from federation.outbound.transport import BadAnswer, PeerError
from federation.room.identifiers import InvalidIdentifier, parse_server_name
from federation.wire.spaces import HierarchyAnswer
from homeserver.spaces.children import told_children
from homeserver.spaces.elsewhere import ToldSpace
from storage.previews import SPACE

REMEMBERED_MS = 60_000
MOST_REMEMBERED = 100
MOST_CHILDREN = 1_000
"""That are believed of one answer."""
MOST_SERVERS = 3
"""That are asked in turn."""

log = structlog.get_logger("homeserver.queries")


class _Kept(msgspec.Struct, frozen=True):
    until_ms: int
    told: ToldSpace


@define(eq=False)
class AskedSpaces:
    """Implements `homeserver.spaces.elsewhere.RemoteSpaces`."""

    _server_name: str
    _queries: Queries
    _now_ms: Callable[[], int]
    _kept: Bounded[tuple[str, bool], _Kept] = field(factory=lambda: Bounded(MOST_REMEMBERED), init=False)
    _asking: SingleFlight[tuple[str, bool, tuple[str, ...]], ToldSpace | None] = field(factory=SingleFlight, init=False)

    async def ask(self, room_id: str, via: Sequence[str], suggested_only: bool) -> ToldSpace | None:
        kept = self._kept.get((room_id, suggested_only))
        if kept is not None and self._now_ms() < kept.until_ms:
            return kept.told
        servers = tuple(self._servers(via))
        key = (room_id, suggested_only, servers)
        return await self._asking.do(key, lambda: self._ask(room_id, servers, suggested_only))

    async def _ask(self, room_id: str, servers: Sequence[str], suggested_only: bool) -> ToldSpace | None:
        for server in servers:
            try:
                told = _checked(server, room_id, await self._queries.hierarchy(server, room_id, suggested_only))
            except PeerError as error:
                log.info("nothing of a space", peer=server, room=room_id, why=str(error))
                continue
            self._kept.put((room_id, suggested_only), _Kept(self._now_ms() + REMEMBERED_MS, told))
            return told
        return None

    def _servers(self, via: Sequence[str]) -> list[str]:
        found: dict[str, None] = {}
        for name in via:
            try:
                server = parse_server_name(name)
            except InvalidIdentifier:
                continue
            if server != self._server_name:
                found[server] = None
        return list(found)[:MOST_SERVERS]


def _checked(server: str, room_id: str, answer: HierarchyAnswer) -> ToldSpace:
    try:
        room = answer.read_room()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadAnswer(server, str(error)) from None
    if room.room_id != room_id:
        raise BadAnswer(server, "it tells of another room than was asked about")
    children = told_children(answer.read_children_state()) if room.room_type == SPACE else []
    # Only of the rooms that the space names is the server's word taken: of others, others are asked.
    named = {child.room_id for child in children[:MOST_CHILDREN]}
    summaries = {one.room_id: one for one in answer.read_children() if one.room_id in named}
    return ToldSpace(room, children, summaries, frozenset(named.intersection(answer.inaccessible_children)))
