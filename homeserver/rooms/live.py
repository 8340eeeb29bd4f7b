"""A room in use: what the next event builds on, and what readers may see.

A `Standing` is a whole room at one moment: forward extremities and resolved state, a persistent map that shares
almost everything with the one before. A room has two of them. `standing` is where its *writer* is: it moves on as soon
as an event is judged and queued. `visible` is where *readers* are: it follows when the event is committed. If a commit
fails, the object is thrown away and read again.

A room may be *partial*: this server came in with most of the members left out, and has yet to fetch them
(`homeserver.rooms.partial`). Then what tells of members either says that it may be partial (`known_members`,
`may_be_joined`, counts that are None), or raises `StillPartial`; `Rooms.whole` waits for the rest.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import msgspec
from immutables import Map
from twisted.internet.defer import Deferred

from federation.room.auth import PowerLevels
from federation.room.event import Event, StateKey
from federation.room.identifiers import server_of
from federation.room.versions import RoomVersion
from homeserver.errors import Unavailable
from homeserver.rooms.related import Related
from storage.partial import PartialStay
from storage.ports import RoomHead, StateChange, StateRef, StoredEvent

State = Map[StateKey, StateRef]

CREATE: StateKey = ("m.room.create", "")
POWER_LEVELS: StateKey = ("m.room.power_levels", "")
JOIN_RULES: StateKey = ("m.room.join_rules", "")
HISTORY_VISIBILITY: StateKey = ("m.room.history_visibility", "")
NAME: StateKey = ("m.room.name", "")
CANONICAL_ALIAS: StateKey = ("m.room.canonical_alias", "")

WINDOW_EVENTS = 64
"""How many of its newest events an active room keeps at hand for incremental syncs."""


class StillPartial(Unavailable):
    """What is asked needs members that this server has yet to fetch."""

    def __init__(self, room_id: str) -> None:
        super().__init__("Not all members of this room are known here yet: try again in a moment")
        self.room_id = room_id


class Standing(msgspec.Struct, frozen=True, gc=False):
    """A room at one moment. `head.snapshot` is the same state as `state`, as the database knows it."""

    head: RoomHead
    state: State


class Recent(msgspec.Struct, gc=False):
    """One entry of a room's window: an event of the timeline (or None) and what it changed in the current state."""

    position: int
    stored: StoredEvent | None
    changes: tuple[StateChange, ...]


class Eldest(msgspec.Struct, frozen=True, gc=False):
    """The first members of a room, up to `SIZE` of each kind, by age of their member events."""

    SIZE: ClassVar[int] = 6
    """One more than a client is told of, because no one is told of itself."""

    present: tuple[str, ...]
    """Joined or invited."""
    former: tuple[str, ...]
    """Who left or is banned; nobody where `needs_former` says that it does not matter."""

    @staticmethod
    def needs_former(present: Sequence[str]) -> bool:
        """Those who left are told of to somebody who is alone."""
        return len(present) < 2

    def depends_on(self, user_id: str, new: StateRef | None) -> bool:
        """Whether these may be others once a user's membership has become `new`, which is younger than all of them."""
        if user_id in self.present or user_id in self.former:
            return True
        if new is None or new.membership not in ("join", "invite"):
            return self.needs_former(self.present) and len(self.former) < self.SIZE
        return len(self.present) < self.SIZE


class LiveRoom:
    """One room. Everything but `standing`, `queued` and `unwritten` speaks of what is committed."""

    __slots__ = (
        "_invited_count",
        "_joined_count",
        "_local_joined",
        "_power",
        "always_open",
        "blurred",
        "create",
        "eldest",
        "frame",
        "held",
        "local_joined",
        "nid",
        "queued",
        "related",
        "room_id",
        "servers",
        "shared_sections",
        "standing",
        "stay",
        "unwritten",
        "version",
        "visible",
        "whole_since",
        "window",
        "window_floor",
    )

    def __init__(
        self, nid: int, version: RoomVersion, create: Event, standing: Standing, floor: int, local_server: str
    ) -> None:
        """`floor`: the position up to which the window knows nothing, and what `standing` includes."""
        self.nid = nid
        self.room_id = create.room_id
        self.version = version
        self.create = create
        self.standing = standing
        self.visible = standing
        self.queued = 0
        """Appends that are on their way to disk."""
        self.held: list[Deferred[None]] | None = None
        """Local writers wait in here while the room is made whole; None: they need not."""
        self.unwritten: dict[int, StoredEvent] = {}
        """Their events, by nid: the writer builds on them, readers don't know of them."""
        self.window: deque[Recent] = deque()
        self.window_floor = floor
        self.shared_sections: dict[object, Any] = {}
        """Cache of `homeserver.sync`: what many members' syncs have in common; emptied by every change."""
        self.related = Related()
        self.always_open: bool | None = None
        """Cache of `homeserver.rooms.visibility`: whether nothing ever was closed to members; None: not looked up."""
        self.frame: dict[StateKey, StateRef] = {}
        """The state without its members: what the room is, as opposed to who is in it."""
        joined: list[str] = []
        local: list[tuple[int, str]] = []
        self._invited_count = 0
        for key, ref in standing.state.items():
            if key[0] != "m.room.member":
                self.frame[key] = ref
            elif ref.membership == "join":
                joined.append(key[1])
                if key[1].partition(":")[2] == local_server:
                    local.append((ref.nid, key[1]))
            elif ref.membership == "invite":
                self._invited_count += 1
        self._joined_count = len(joined)
        # A dict without values: it takes half the memory of a set, and goes by who was there first.
        self._local_joined = dict.fromkeys(user_id for _, user_id in sorted(local))
        self.local_joined = self._local_joined.keys()
        self.servers = Counter(user_id.partition(":")[2] for user_id in joined)
        """Joined members by server. In a partial room those that are said to be in it are among them, and count one
        more: nobody knows whether their last member has left."""
        self.stay: PartialStay | None = None
        """The latest stay, as long as it is not made whole."""
        self.blurred: tuple[PartialStay, ...] = ()
        """All stays that were never made whole."""
        self.whole_since = 0
        """Position at which the members came, where they did not come with the room."""
        self.eldest: Eldest | None = None
        """Cache of `homeserver.sync`: by whom a room without a name is known. Emptied when it no longer holds."""
        self._power: tuple[int, PowerLevels] | None = None

    @property
    def partial(self) -> PartialStay | None:
        """The stay that is yet to be made whole; None where the room is whole, or where nobody here is in it any more
        and nothing will make it so.
        """
        stay = self.stay
        return stay if stay is not None and self._local_joined else None

    def is_blurred(self, position: int) -> bool:
        """Whether the state at an event, by the event's position, may lack members."""
        return any(stay.covers(position) for stay in self.blurred)

    def is_lost(self, position: int) -> bool:
        """Whether it may, and always will."""
        return any(stay.covers(position) for stay in self.blurred if stay is not self.stay)

    @property
    def joined_count(self) -> int | None:
        """How many are joined; None where not everybody is known."""
        return None if self.stay is not None else self._joined_count

    @property
    def invited_count(self) -> int | None:
        return None if self.stay is not None else self._invited_count

    def membership_of(self, user_id: str) -> str | None:
        """The user's membership as readers see it; None if it never had one, as far as is known.

        Of this server's people that is certain in one respect, whether they are joined. Of others see `may_be_joined`.
        """
        ref = self.visible.state.get(("m.room.member", user_id))
        return None if ref is None else ref.membership

    def may_be_joined(self, user_id: str) -> bool:
        """Whether somebody of another server is in the room, or may be: for what does no harm if it is not so."""
        membership = self.membership_of(user_id)
        if membership is None and self.partial is not None:
            return user_id.partition(":")[2] in self.servers
        return membership == "join"

    def members(self) -> Iterator[tuple[str, StateRef]]:
        """Everybody with a member event, as readers see it. Costs as much as there is state. Raises StillPartial."""
        if self.partial is not None:
            raise StillPartial(self.room_id)
        return self.known_members()

    def known_members(self) -> Iterator[tuple[str, StateRef]]:
        """The same, or as many of them as are known."""
        for (event_type, user_id), ref in self.visible.state.items():
            if event_type == "m.room.member":
                yield user_id, ref

    def servers_by_size(self) -> list[str]:
        """The servers in the room, those with most people first: likely to be up, and to know most."""
        return sorted(self.servers, key=lambda server: (-self.servers[server], server))

    def recall_stays(self, stays: tuple[PartialStay, ...]) -> None:
        """What the database says of stays that are not made whole, the oldest first."""
        self.blurred = stays
        if stays and stays[-1].until is None:
            self.stay = stays[-1]
            self.servers.update(self.stay.servers)

    def begin_stay(self, stay: PartialStay) -> None:
        """This server has come in, with most of the members left out."""
        self.end_stay(stay.since)
        self.stay = stay
        self.blurred = (*self.blurred, stay)
        self.servers.update(stay.servers)

    def end_stay(self, position: int) -> None:
        """Another stay begins at that position: an earlier one is never made whole."""
        if self.stay is not None:
            ended = msgspec.structs.replace(self.stay, until=position - 1)
            self.blurred = (*self.blurred[:-1], ended)
            self._forget_stay(self.stay)

    def note_failure(self, failures: int, retry_at_ts: int) -> None:
        """Nobody could make it whole, as the database has it."""
        assert self.stay is not None
        self.stay = msgspec.structs.replace(self.stay, failures=failures, retry_at_ts=retry_at_ts)
        self.blurred = (*self.blurred[:-1], self.stay)

    def become_whole(self, position: int) -> None:
        """Everything that was left out is here, from that position on."""
        assert self.stay is not None
        self.blurred = self.blurred[:-1]
        self._forget_stay(self.stay)
        self.whole_since = position
        self.eldest = None

    def _forget_stay(self, stay: PartialStay) -> None:
        self.stay = None
        self.servers.subtract(stay.servers)
        for server in stay.servers:
            if self.servers[server] <= 0:
                del self.servers[server]

    def power_levels(self, nid: int, event: Event | None) -> PowerLevels:
        """The parsed power levels of the event with that nid (0 and None: there is none), remembered."""
        if self._power is None or self._power[0] != nid:
            self._power = (nid, PowerLevels.parse(self.version, self.create, event))
        return self._power[1]

    def known_power_levels(self, nid: int) -> PowerLevels | None:
        """Those of the event with that nid if they are the ones that are remembered."""
        return self._power[1] if self._power is not None and self._power[0] == nid else None

    def forget_power_levels(self) -> None:
        """The power levels' content changed under the same id: they were redacted."""
        self._power = None

    def show(self, standing: Standing, recent: list[Recent], local_server: str) -> None:
        """Make committed changes visible to readers, in commit order."""
        self.visible = standing
        self.shared_sections.clear()
        for entry in recent:
            self.window.append(entry)
            for change in entry.changes:
                if change.key[0] == "m.room.member":
                    if self.eldest is not None and self.eldest.depends_on(change.key[1], change.new):
                        self.eldest = None
                    if change.old is not None:
                        self._count(change.key[1], change.old.membership, -1, local_server)
                    if change.new is not None:
                        self._count(change.key[1], change.new.membership, 1, local_server)
                elif change.new is not None:
                    self.frame[change.key] = change.new
                else:
                    self.frame.pop(change.key, None)
        while len(self.window) > WINDOW_EVENTS:
            self.window_floor = self.window.popleft().position

    def past_changed(self) -> None:
        """Events came in front of the others, or older ones changed: what was made out of the past is made again."""
        self.related.clear()
        self.always_open = None

    def forget_window(self, floor: int) -> None:
        """Older events changed without an event to say so: what is at hand of them is read again. `floor`: now."""
        self.shared_sections.clear()
        self.past_changed()
        self.window.clear()
        self.window_floor = floor

    def replace_in_window(self, stored: StoredEvent) -> None:
        """An event's visible form changed: it was redacted, or is a redaction that found what it was for."""
        self.shared_sections.clear()
        self.past_changed()
        for entry in self.window:
            if entry.position == stored.position and not (stored.soft_failed or stored.unapplied):
                entry.stored = stored

    def _count(self, user_id: str, membership: str | None, by: int, local_server: str) -> None:
        if membership == "join":
            self._joined_count += by
            server = server_of(user_id)
            self.servers[server] += by
            if not self.servers[server]:
                del self.servers[server]
            if server == local_server:
                if by > 0:
                    self._local_joined[user_id] = None
                else:
                    self._local_joined.pop(user_id, None)
        elif membership == "invite":
            self._invited_count += by
