"""Entering, leaving and knocking at rooms that this server is not in, through one that is.

    make_…     another server says what the member event would have to be
    signed     here: with our content, our clock and our key
    send_…     it enters the room there; for a join, the room comes back with the answer

Spec: https://spec.matrix.org/v1.19/server-server-api/#joining-rooms
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import structlog

from federation.outbound.transport import BadAnswer, PeerError, Refused
from federation.room.build import build_event
from federation.room.event import Event
from federation.room.format import BadEvent
from federation.room.hashing import encode_base64, reference_hash
from federation.room.identifiers import InvalidIdentifier, parse_server_name, server_of
from federation.room.versions import RoomVersion, get_room_version
from federation.service import service
from federation.wire.rooms import MakeAnswer, SendJoinAnswer
from homeserver.errors import Forbidden, MatrixError, NotFound
from homeserver.rooms.compose import Means
from homeserver.rooms.glimpse import believable, find_create, read_glimpse, servers_in_glimpse
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.partial.resync import Resync
from homeserver.rooms.receive.enter import Entrance, Handover, LeftOut
from homeserver.rooms.receive.gather import Gatherer
from homeserver.rooms.receive.receiver import Receiver
from homeserver.rooms.registry import Rooms
from homeserver.rooms.remote.delivery import Delivery
from homeserver.rooms.remote.outside import Outsider, OutsideRooms
from homeserver.rooms.remote.peers import Membership, RemotePeers

MEMBER = "m.room.member"
MOST_SERVERS = 10
"""That are tried in turn."""
MOST_TOLD = 20_000
"""Servers that a room may be said to have: some three times as many as the largest had in 2026."""

log = structlog.get_logger("homeserver.rooms.remote")


class _Outline(msgspec.Struct):
    """What is read of a peer's template; the rest of the event is ours to say."""

    type: str
    room_id: str
    sender: str
    state_key: str
    content: dict[str, Any]
    prev_events: list[Any]
    auth_events: list[Any]
    depth: int


@service
class Doorway:
    """Goes through other servers' doors."""

    means: Means
    rooms: Rooms
    peers: RemotePeers
    gatherer: Gatherer
    entrance: Entrance
    receiver: Receiver
    delivery: Delivery
    outside: OutsideRooms
    resync: Resync

    async def join(self, room_id: str, user_id: str, content: Mapping[str, Any], via: Sequence[str]) -> None:
        """Join through one of the servers that may help. Raises MatrixError: the answer that says most, if all fail."""
        standing = await self.outside.find(room_id, user_id)
        servers = await self._servers(room_id, standing, via)
        await self.outside.alone(
            room_id, partial(self._through, servers, partial(self._join, room_id, user_id, content))
        )

    async def knock(self, room_id: str, user_id: str, content: Mapping[str, Any], via: Sequence[str]) -> None:
        """Knock through one of the servers that may help."""
        servers = await self._servers(room_id, await self.outside.find(room_id, user_id), via)
        await self._through(servers, partial(self._knock, room_id, user_id, content))

    async def leave(self, room_id: str, user_id: str, content: Mapping[str, Any]) -> bool:
        """Decline an invitation or take back a knock. If nobody there can be reached, it ends here all the same.

        False if there is nothing of the kind any more: it may have been accepted while this waited for its turn.
        """
        return await self.outside.alone(room_id, partial(self._end, room_id, user_id, content))

    async def _end(self, room_id: str, user_id: str, content: Mapping[str, Any]) -> bool:
        room = await self.rooms.get(room_id)
        standing = await self.outside.find(room_id, user_id)
        if standing is None or (room is not None and room.local_joined):
            return False
        servers = await self._servers(room_id, standing, ())
        try:
            await self._through(servers, partial(self._leave, room_id, user_id, content))
        except MatrixError as error:
            log.info("an invitation is declined on this side only", room=room_id, why=error.error)
            event = self._build(
                standing.version,
                room_id,
                user_id,
                content,
                prev_events=[standing.event.event_id],
                auth_events=[standing.event.event_id],
                depth=standing.event.depth + 1,
                references={standing.event.event_id: _hash(standing)},
            )
            await self.outside.record_alone(standing.version, event, None, None)
        return True

    # -- one server after another ------------------------------------------------------------------------------

    async def _servers(self, room_id: str, standing: Outsider | None, via: Sequence[str]) -> list[str]:
        """Who may help, the likeliest first: who invited the user, whom the client names, who was seen in the room with
        the invitation. Where this server is in the room, those who are there too; where nobody is named at all, those
        of an earlier stay, or the server on which the room was made, which need not be in it any more.
        """
        own = self.means.identity.server_name
        servers = [] if standing is None else [str(server_of(standing.event.sender))]
        servers += via
        servers += [] if standing is None else servers_in_glimpse(standing.glimpse)
        servers = [server for server in servers if server != own]
        room = await self.rooms.get(room_id)
        if room is not None and (room.local_joined or not servers):
            servers += room.servers_by_size()[:MOST_SERVERS]
        if ":" in room_id and not servers:
            servers.append(str(server_of(room_id)))
        return [server for server in dict.fromkeys(servers) if server != own][:MOST_SERVERS]

    async def _through(self, servers: Sequence[str], step: Callable[[str], Awaitable[None]]) -> None:
        refusals: list[MatrixError] = []
        for server in servers:
            try:
                return await step(server)
            except Refused as error:
                refusals.append(_passed_on(error))
            except PeerError as error:
                log.info("a server could not help", peer=server, why=error.why)
            except MatrixError as error:
                refusals.append(error)
        for refusal in refusals:
            if refusal.status == 403 or refusal.errcode == "M_INCOMPATIBLE_ROOM_VERSION":
                raise refusal
        if refusals:
            raise refusals[0]
        if not servers:
            raise NotFound("No room of that id is known here, and no server is named that could help")
        raise MatrixError(502, "M_UNKNOWN", "None of the servers that could help can be reached")

    async def _join(self, room_id: str, user_id: str, content: Mapping[str, Any], server: str) -> None:
        room = await self.rooms.get(room_id)
        if room is not None and room.local_joined and room.membership_of(user_id) == "join":
            return
        version, event = await self._made(server, "join", room_id, user_id, content)
        is_there = room is not None and room.local_joined
        if room is not None and not is_there and await self._told_of_the_end(server, room, user_id, event):
            version, event = await self._made(server, "join", room_id, user_id, content)
        answer = await self.peers.send_join(server, room_id, event.event_id, event.raw)
        self.delivery.hand_over(event.event_id)
        try:
            if not is_there:
                handover = await self._checked(server, version, event, answer)
                entered = await self.receiver.alone(room_id, partial(self.entrance.enter, handover))
                self.resync.begin(entered)
                return
            # This server is there already, but had nobody to vouch for the user, or does not know who is banned.
            verdict = await self.receiver.take(server, await self._countersigned(version, event, answer))
        finally:
            self.delivery.settle(event.event_id)
        if verdict.outcome not in ("accepted", "known"):
            raise Forbidden(verdict.why or "The room does not allow this")

    async def _told_of_the_end(self, server: str, room: LiveRoom, user_id: str, join: Event) -> bool:
        """Tell the other server how the user's last stay ended, if its template knows nothing of that: says whether it
        was told.

        What is under way to it may come after our join, and be of another mind than this: then both servers are in the
        same room for good and see another one.
        """
        ref = room.visible.state.get((MEMBER, user_id))
        if ref is None or ref.event_id in join.auth_events or await self.outside.find(room.room_id, user_id):
            return False
        known = (await self.receiver.known.find(room, [ref.event_id])).get(ref.event_id)
        if known is None or not known.position:
            return False
        try:
            await self.peers.tell(server, f"{self.means.clock.now_ms()}-{ref.event_id}", known.event.raw)
        except Refused:
            return False  # it may know better
        return True

    async def _knock(self, room_id: str, user_id: str, content: Mapping[str, Any], server: str) -> None:
        version, event = await self._made(server, "knock", room_id, user_id, content)
        answer = await self.peers.send_knock(server, room_id, event.event_id, event.raw)
        given = [bytes(pdu) for pdu in answer.knock_room_state]
        shown = await believable(self.gatherer, version, room_id, given)
        create = find_create(version, room_id, shown)
        await self.outside.record(version, event, read_glimpse(shown), create)

    async def _leave(self, room_id: str, user_id: str, content: Mapping[str, Any], server: str) -> None:
        version, event = await self._made(server, "leave", room_id, user_id, content)
        await self.peers.send_leave(server, room_id, event.event_id, event.raw)
        await self.outside.record_alone(version, event, None, None)

    # -- events ------------------------------------------------------------------------------------------------

    async def _made(
        self, server: str, membership: Membership, room_id: str, user_id: str, content: Mapping[str, Any]
    ) -> tuple[RoomVersion, Event]:
        """Our member event, by another server's template."""
        answer = await self.peers.make(server, membership, room_id, user_id)
        version = get_room_version(answer.room_version)
        if version is None:
            raise MatrixError(
                400,
                "M_INCOMPATIBLE_ROOM_VERSION",
                "This server does not know the version of that room",
                {"room_version": answer.room_version},
            )
        outline = _read_outline(server, membership, room_id, user_id, answer)
        ours = dict(content)
        vouching = outline.content.get("join_authorised_via_users_server")
        if isinstance(vouching, str) and version.restricted:
            ours["join_authorised_via_users_server"] = vouching
        try:
            prev_events, references = _read_citations(version, outline.prev_events)
            auth_events, more = _read_citations(version, outline.auth_events)
            return version, self._build(
                version,
                room_id,
                user_id,
                ours,
                prev_events=prev_events,
                auth_events=auth_events,
                depth=outline.depth,
                references=references | more,
            )
        except (BadEvent, TypeError, ValueError, KeyError, IndexError) as error:
            raise BadAnswer(server, f"a template that no event can be made of: {error}") from None

    def _build(
        self,
        version: RoomVersion,
        room_id: str,
        user_id: str,
        content: Mapping[str, Any],
        *,
        prev_events: Sequence[str],
        auth_events: Sequence[str],
        depth: int,
        references: Mapping[str, str],
    ) -> Event:
        return build_event(
            version,
            room_id=room_id,
            type="m.room.member",
            sender=user_id,
            state_key=user_id,
            content=dict(content),
            prev_events=prev_events,
            auth_events=auth_events,
            depth=depth,
            origin_server_ts=self.means.clock.now_ms(),
            server_name=self.means.identity.server_name,
            key=self.means.identity.key,
            event_id=self.means.own_event_id(version),
            references=references if version.cites_with_hashes else None,
        )

    async def _countersigned(self, version: RoomVersion, event: Event, answer: SendJoinAnswer) -> Event:
        """Our join as the other server has it, with its signature where one was needed."""
        raw = bytes(answer.event)
        if raw in (b"", b"null"):
            return event
        checked = (await self.gatherer.check(version, [raw]))[0]
        return checked if isinstance(checked, Event) and checked.event_id == event.event_id else event

    async def _checked(self, server: str, version: RoomVersion, event: Event, answer: SendJoinAnswer) -> Handover:
        """The room as it was handed over, without what is not validly signed."""
        left_out = _read_left_out(server, answer) if answer.members_omitted else None
        signed = [raw for raw in (bytes(answer.event),) if raw not in (b"", b"null")]
        raws = [*signed, *(bytes(pdu) for pdu in answer.state), *(bytes(pdu) for pdu in answer.auth_chain)]
        checked = await self.gatherer.check(version, raws)
        join = event
        if signed:
            first = checked.pop(0)
            if isinstance(first, Event) and first.event_id == event.event_id:
                join = first
        state = [one for one in checked[: len(answer.state)] if isinstance(one, Event)]
        chain = [one for one in checked[len(answer.state) :] if isinstance(one, Event)]
        room_id = event.room_id
        return Handover(
            version,
            join,
            [one for one in state if one.room_id == room_id],
            [one for one in chain if one.room_id == room_id],
            left_out,
        )


def _read_outline(server: str, membership: Membership, room_id: str, user_id: str, answer: MakeAnswer) -> _Outline:
    try:
        outline = msgspec.json.decode(answer.event, type=_Outline)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadAnswer(server, f"no template: {error}") from None
    expected = ("m.room.member", room_id, user_id, user_id, membership)
    given = (outline.type, outline.room_id, outline.sender, outline.state_key, outline.content.get("membership"))
    if given != expected:
        raise BadAnswer(server, "a template of another event than was asked for")
    return outline


def _read_left_out(server: str, answer: SendJoinAnswer) -> LeftOut:
    """Raises BadAnswer without the servers in the room: who could be told of anything then?"""
    if not answer.servers_in_room:
        raise BadAnswer(server, "members are left out, and no servers named")
    names = [name for name in answer.servers_in_room[:MOST_TOLD] if _is_server(name)]
    return LeftOut(server, tuple(dict.fromkeys([server, *names])))


def _is_server(name: str) -> bool:
    try:
        parse_server_name(name)
    except InvalidIdentifier:
        return False
    return True


def _hash(standing: Outsider) -> str:
    return encode_base64(reference_hash(standing.version, standing.event.to_json()))


def _read_citations(version: RoomVersion, given: Sequence[Any]) -> tuple[list[str], dict[str, str]]:
    """Event ids, with their hashes where the room version cites them so."""
    if not version.cites_with_hashes:
        return list(given), {}
    return [pair[0] for pair in given], {pair[0]: pair[1]["sha256"] for pair in given}


def _passed_on(error: Refused) -> MatrixError:
    """Another server's refusal as our client is told it: what it asked for may be refused, not what we asked for."""
    if error.errcode in ("M_MISSING_PARAM", "M_INVALID_PARAM", "M_UNAUTHORIZED", "M_BAD_JSON", "M_NOT_JSON"):
        return MatrixError(502, "M_UNKNOWN", f"Another server did not understand this one: {error.error}")
    if error.status in (400, 403, 404) and error.errcode:
        more = {"room_version": error.room_version} if error.room_version else {}
        return MatrixError(error.status, error.errcode, error.error or "Another server refused", more)
    return MatrixError(502, "M_UNKNOWN", f"Another server failed: {error.status}")
