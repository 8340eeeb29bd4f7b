"""Composing events of this server's own people: from what somebody wants to say to a judged, signed event.

Between the making of a `Draft` and `Door.append` nothing may be awaited: that is what makes a room have one writer at
a time without a lock. What a draft turns out to need and is not in memory it asks for by `NeedEvents`; it is read, and
the draft made again (`Door.with_draft`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from immutables import Map

from federation.room.auth import PowerLevels, Refused, auth_types_for, check_auth
from federation.room.build import build_event
from federation.room.event import Event
from federation.room.format import BadEvent, EventTooLarge
from federation.room.hashing import encode_base64, reference_hash
from federation.room.identifiers import server_of
from federation.room.signing import SigningKey
from federation.room.versions import EventIdFormat, RoomVersion
from homeserver.clock import Clock
from homeserver.errors import BadJson, Forbidden, MatrixError
from homeserver.rooms.events import EventCache
from homeserver.rooms.lineage import Lineage
from homeserver.rooms.live import POWER_LEVELS, LiveRoom, Standing, StillPartial
from storage.ports import Counters, NewEvent, NewSnapshot, RoomHead, StateChange, StateRef, StoredEvent

MAX_PREV_EVENTS = 20
"""How many extremities one of our events joins, as many as the specification allows. A room is never left with more of
them, or its state would be one that no event follows."""


class Template(msgspec.Struct, frozen=True, gc=False):
    """What somebody wants to say in a room, before the room's version, graph and keys give it its form."""

    type: str
    sender: str
    content: dict[str, Any]
    """The event's own from then on: nobody may change it afterwards."""
    state_key: str | None = None
    redacts: str | None = None
    extra: Mapping[str, Any] | None = None
    """Further top-level keys of the event, such as a sticky event's."""
    origin_server_ts: int | None = None


class Identity(msgspec.Struct, frozen=True):
    """Who this server is among servers."""

    server_name: str
    key: SigningKey


class Means(msgspec.Struct, frozen=True):
    """What it takes to compose."""

    identity: Identity
    clock: Clock
    counters: Counters
    events: EventCache
    lineage: Lineage = msgspec.field(default_factory=Lineage)

    def own_event_id(self, version: RoomVersion) -> str | None:
        """A new event id where the room version lets its sender choose one; None where it is a hash."""
        if version.event_id_format is not EventIdFormat.DOMAIN:
            return None
        return f"${secrets.token_urlsafe(18)}:{self.identity.server_name}"


class Malformed(BadJson):
    """The room's rules refuse the content itself, whoever sends it."""


class NeedEvents(Exception):
    """A draft needs events that are not in memory. The door reads them and tries again."""

    def __init__(self, nids: Iterable[int] = (), event_ids: Iterable[str] = ()) -> None:
        super().__init__()
        self.nids = list(nids)
        self.event_ids = list(event_ids)


class Have(msgspec.Struct):
    """What was read for a draft, held until it is done however small the event cache is."""

    by_nid: dict[int, StoredEvent] = msgspec.field(default_factory=dict)
    by_id: dict[str, StoredEvent] = msgspec.field(default_factory=dict)


class Advance:
    """How far a room moves in one go: the events, and where they leave it. What `Door.append` takes."""

    def __init__(self, room: LiveRoom) -> None:
        self.room = room
        self.standing = room.standing
        self.new: list[NewEvent] = []
        """In the order in which they enter the room. Those that are no outliers are given their positions when they
        are queued."""
        self.snapshots: list[NewSnapshot] = []
        self.missing_prev: list[str] = []
        """Events that the new ones follow and that this server does not have."""
        self.changes: Sequence[StateChange] | None = None
        """How the current state changes with no event to show for it."""
        self.changes_at = 0
        """The position at which it does, given when it is queued."""
        self.put_out: frozenset[str] = frozenset()
        """Servers that were in the room on one side of a fork and are not any more, by state resolution alone."""
        self.on_show: Callable[[int], None] | None = None
        """Called when it becomes visible, before anything else of it does, with the position up to which it reaches."""


class Draft(Advance):
    """Events composed onto one room, each judged against the room as the ones before it leave it."""

    def __init__(self, means: Means, room: LiveRoom, have: Have, device: tuple[str, str] | None = None) -> None:
        """`device`: the sending device's id and transaction id, which it will be shown with the event."""
        super().__init__(room)
        self._means = means
        self._have = have
        self._device = device
        self._mine: dict[int | str, StoredEvent] = {}
        """The events of the draft itself, by nid and by id."""

    def add(self, template: Template) -> StoredEvent:
        """Compose, sign and judge one event. Raises Forbidden, BadJson, NeedEvents or StillPartial; nothing is changed
        then.
        """
        self._check_known(template)
        event = self._compose(template)
        verdict = check_auth(self.room.version, event, self.lookup, self.power_levels())
        if isinstance(verdict, Refused):
            raise Malformed(verdict.why) if verdict.is_malformed else Forbidden(verdict.why)
        return self.advance(event)

    def lookup(self, event_type: str, state_key: str) -> Event | None:
        """The room's state as it stands after the events added so far."""
        ref = self.standing.state.get((event_type, state_key))
        return None if ref is None else self.stored(ref.nid).event

    def stored(self, nid: int) -> StoredEvent:
        found = self.peek(nid)
        if found is None:
            raise NeedEvents([nid])
        return found

    def peek(self, nid: int) -> StoredEvent | None:
        return (
            self._mine.get(nid)
            or self.room.unwritten.get(nid)
            or self._means.events.peek(nid)
            or self._have.by_nid.get(nid)
        )

    def need_members(self, people: Iterable[str]) -> None:
        """Have many memberships read in one go, before events that need one each are added. Raises NeedEvents."""
        refs = [ref for user_id in people if (ref := self.standing.state.get(("m.room.member", user_id))) is not None]
        missing = [ref.nid for ref in refs if self.peek(ref.nid) is None]
        if missing:
            raise NeedEvents(missing)

    def membership_of(self, user_id: str) -> str | None:
        """Somebody's membership as it stands after the events added so far. Raises StillPartial where it is not known.

        Of this server's people it is known who is joined.
        """
        if self.room.partial is not None and not self._is_ours(user_id):
            raise StillPartial(self.room.room_id)
        ref = self.standing.state.get(("m.room.member", user_id))
        return None if ref is None else ref.membership

    def check_whole(self) -> None:
        """Raises StillPartial in a room in which not all members are known."""
        if self.room.partial is not None:
            raise StillPartial(self.room.room_id)

    def _check_known(self, template: Template) -> None:
        """In a partial room nobody's membership is changed but that of who is in it, and who goes."""
        if self.room.partial is None or template.type != "m.room.member":
            return
        if template.state_key != template.sender:
            raise StillPartial(self.room.room_id)
        ref = self.standing.state.get(("m.room.member", template.sender))
        is_going = ref is not None and template.content.get("membership") == "leave"
        if not is_going and (ref is None or ref.membership != "join"):
            raise StillPartial(self.room.room_id)

    def _is_ours(self, user_id: str) -> bool:
        return user_id.partition(":")[2] == self._means.identity.server_name

    def power_levels(self) -> PowerLevels:
        """The room's power levels as they stand after the events added so far."""
        ref = self.standing.state.get(POWER_LEVELS)
        if ref is None:
            return self.room.power_levels(0, None)
        return self.room.power_levels(ref.nid, self.stored(ref.nid).event)

    def _compose(self, template: Template) -> Event:
        room, head, state = self.room, self.standing.head, self.standing.state
        identity = self._means.identity
        assert server_of(template.sender) == identity.server_name, "only local users' events are composed"
        wanted = auth_types_for(
            room.version,
            type=template.type,
            sender=template.sender,
            state_key=template.state_key,
            content=template.content,
        )
        refs = [ref for key in wanted if (ref := state.get(key)) is not None]
        missing = [ref.nid for ref in refs if self.peek(ref.nid) is None]
        if missing:
            raise NeedEvents(missing)
        prev_events = head.extremities[-MAX_PREV_EVENTS:]
        auth_events = [ref.event_id for ref in refs]
        try:
            return build_event(
                room.version,
                room_id=room.room_id,
                type=template.type,
                sender=template.sender,
                content=template.content,
                state_key=template.state_key,
                redacts=template.redacts,
                prev_events=prev_events,
                auth_events=auth_events,
                depth=head.depth + 1,
                origin_server_ts=template.origin_server_ts or self._means.clock.now_ms(),
                server_name=identity.server_name,
                key=identity.key,
                extra=template.extra,
                event_id=self._means.own_event_id(room.version),
                references=self._references([*prev_events, *auth_events]) if room.version.cites_with_hashes else None,
            )
        except EventTooLarge as error:
            raise MatrixError(413, "M_TOO_LARGE", str(error)) from None
        except BadEvent as error:
            raise BadJson(str(error)) from None

    def _references(self, event_ids: Sequence[str]) -> dict[str, str]:
        """Room versions 1 and 2 cite events together with their hashes."""
        unwritten = {stored.event.event_id: stored for stored in self.room.unwritten.values()}
        known = {
            event_id: self._mine.get(event_id) or unwritten.get(event_id) or self._have.by_id.get(event_id)
            for event_id in event_ids
        }
        missing = [event_id for event_id, stored in known.items() if stored is None]
        if missing:
            raise NeedEvents(event_ids=missing)
        return {
            event_id: encode_base64(reference_hash(self.room.version, stored.event.to_json()))
            for event_id, stored in known.items()
            if stored is not None
        }

    def advance(self, event: Event) -> StoredEvent:
        """Let the draft's standing move on over an event that was judged."""
        head, state = self.standing.head, self.standing.state
        counters = self._means.counters
        nid = counters.event
        counters.event += 1
        before = after = head.snapshot
        changes: tuple[StateChange, ...] = ()
        replaces = 0
        if event.state_key is not None:
            key = (event.type, event.state_key)
            old = state.get(key)
            replaces = 0 if old is None else old.nid
            membership = event.content.get("membership") if event.type == "m.room.member" else None
            ref = StateRef(nid, event.event_id, membership)
            changes = (StateChange(key, ref, old),)
            state = state.set(key, ref)
            after = counters.snapshot
            counters.snapshot += 1
            self.snapshots.append(NewSnapshot(after, before, ((key, nid),)))
            self._means.lineage.note(after, before, changes)
        device_id, txn_id = self._device or (None, None)
        stored = StoredEvent(
            nid=nid,
            position=0,  # given when it is queued
            room_nid=self.room.nid,
            event=event,
            before=before,
            after=after,
            replaces=replaces,
            received_ts=self._means.clock.now_ms(),
            device_id=device_id,
            txn_id=txn_id,
        )
        self.standing = Standing(RoomHead((event.event_id,), event.depth, after), state)
        self.new.append(NewEvent(stored, changes))
        self._mine[nid] = self._mine[event.event_id] = stored
        return stored


def found(means: Means, version: RoomVersion, room_id: str | None, create: Template) -> Draft:
    """Begin a room: a draft that holds its create event. `room_id` is None where it is the event's hash.

    Raises Forbidden or BadJson. Nothing is known of the room before the draft is appended.
    """
    counters, identity = means.counters, means.identity
    try:
        event = build_event(
            version,
            room_id=room_id,
            type=create.type,
            sender=create.sender,
            content=create.content,
            state_key="",
            prev_events=(),
            auth_events=(),
            depth=1,
            origin_server_ts=create.origin_server_ts or means.clock.now_ms(),
            server_name=identity.server_name,
            key=identity.key,
            event_id=means.own_event_id(version),
        )
    except EventTooLarge as error:
        raise MatrixError(413, "M_TOO_LARGE", str(error)) from None
    except BadEvent as error:
        raise BadJson(str(error)) from None
    verdict = check_auth(version, event, lambda event_type, state_key: None)
    if isinstance(verdict, Refused):
        raise Forbidden(verdict.why)
    nothing = Standing(RoomHead((), 0, 0), Map())
    room = LiveRoom(counters.room, version, event, nothing, counters.position - 1, identity.server_name)
    counters.room += 1
    draft = Draft(means, room, Have())
    draft.advance(event)
    return draft
