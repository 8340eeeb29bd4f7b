"""Who may see which event: the four settings of `m.room.history_visibility`, judged by the state *at* each event.

Two pieces of state decide: the room's history visibility and the reader's own membership. What they were at an event
is a fact about its snapshots. A page of events is therefore *traced*: from the room's current snapshot, whose state
is in memory, from event to event, for as long as neither of the two changes. Only what the trace cannot tell is read
from the database, by snapshot, once per stretch; and as snapshots never change, it is remembered.

    at the event, the reader was   world_readable   shared            invited           joined
    a member (`join`)              yes              yes               yes               yes
    invited                        yes              if joined later   if joined later   no
    anything else                  yes              if joined later   no                no

"Joined later" includes having been joined when it was sent, and leaving: a former member keeps what it could see, and
sees nothing of what came after. The invited see nothing but world-readable events until they join.

Spec: https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from federation.room.event import Event
from storage.ports import StoredEvent

SHARED = "shared"
WORLD_READABLE = "world_readable"
INVITED = "invited"
SETTINGS = frozenset({WORLD_READABLE, SHARED, INVITED, "joined"})

STILL = 1 << 62
"""`joined_until` of somebody who is joined now."""
NEVER = -STILL
"""`joined_until` of somebody who never was."""

Replaced = Event | Literal["nothing", "unknown"]
"""What a state event took the place of, in the state before it."""

Seen = tuple[StoredEvent, str]
"""A visible event, and the reader's membership at it, the event included: `unsigned.membership`."""


def setting_of(value: object) -> str:
    """The setting that a `history_visibility` makes; what is not understood counts as `shared`."""
    return value if isinstance(value, str) and value in SETTINGS else SHARED


def setting_in(event: Event) -> str:
    return setting_of(event.content.get("history_visibility"))


def membership_in(event: Event) -> str:
    value = event.content.get("membership")
    return value if isinstance(value, str) else "leave"


def is_allowed(setting: str, membership: str, position: int, joined_until: int) -> bool:
    """The rules themselves, for state as it was at an event with that position."""
    if setting == WORLD_READABLE or membership == "join":
        return True
    if position >= joined_until:
        return False
    return setting == SHARED or (setting == INVITED and membership == "invite")


def without_later(stored: StoredEvent, until: int) -> StoredEvent:
    """An event for somebody who hears nothing from position `until` on: that it was redacted shows, but not why."""
    because = stored.redacted_because
    if because is None or because.position < until:
        return stored
    return msgspec.structs.replace(stored, redacted_because=None)


class Viewer(msgspec.Struct, frozen=True):
    """Who looks at a room, and what is known of its state now. `None` stands for what is not in memory."""

    user_id: str
    room_nid: int
    snapshot: int
    """The room's current state …"""
    setting: str | None
    """… its history visibility …"""
    membership: str
    """… and the viewer's membership in it."""
    member_nid: int
    """Its member event; 0 if there is none."""
    joined_until: int | None
    """Position of the event that ended the viewer's latest stay; `STILL`, or `NEVER`."""


class _Stretch:
    """Snapshots between which one piece of state does not change, and its value if it is known."""

    __slots__ = ("snapshot", "value")

    def __init__(self, snapshot: int, value: str | None = None) -> None:
        self.snapshot = snapshot
        self.value = value


class Trace(msgspec.Struct, eq=False):
    """One page of events with what is known of the two pieces of state at each of them."""

    viewer: Viewer
    events: Sequence[StoredEvent]
    settings: dict[int, _Stretch]
    memberships: dict[int, _Stretch]
    """Snapshot → stretch."""

    def unknown(self) -> tuple[list[_Stretch], list[_Stretch]]:
        """What has to be read: stretches of the setting, stretches of the membership."""
        return _unknown(self.settings), _unknown(self.memberships)

    def seen(self) -> list[Seen]:
        """The visible events, in the page's order. Everything must be known."""
        user_id = self.viewer.user_id
        until = self.viewer.joined_until
        assert until is not None
        settings, memberships = self.settings, self.memberships
        found: list[Seen] = []
        for stored in self.events:
            event = stored.event
            membership = memberships[stored.after].value or "leave"
            if stored.before == stored.after or event.state_key is None:
                visible = is_allowed(settings[stored.after].value or SHARED, membership, stored.position, until)
            elif event.type == "m.room.member" and event.state_key == user_id:
                visible = True  # one always hears what became of oneself
            else:
                visible = any(
                    is_allowed(settings[snapshot].value or SHARED, membership, stored.position, until)
                    for snapshot in (stored.after, stored.before)
                )
            if visible:
                found.append((self._as_known(stored, until), membership))
        return found

    def _as_known(self, stored: StoredEvent, until: int) -> StoredEvent:
        if stored.redacted_because is None or self.viewer.setting == WORLD_READABLE:
            return stored
        return without_later(stored, until)


def trace(viewer: Viewer, events: Sequence[StoredEvent], replaced: Callable[[StoredEvent], Replaced]) -> Trace:
    """Follow the two pieces of state through a page of events in timeline order, either way round."""
    events = [
        stored
        for stored in events
        if stored.position and not (stored.rejected or stored.soft_failed or stored.unapplied)
    ]
    settings = {0: _Stretch(0, SHARED), viewer.snapshot: _Stretch(viewer.snapshot, viewer.setting)}
    memberships = {0: _Stretch(0, "leave"), viewer.snapshot: _Stretch(viewer.snapshot, viewer.membership)}
    newest_first = events
    if events and events[0].position < events[-1].position:
        newest_first = events[::-1]
    for stored in newest_first:
        before, after = stored.before, stored.after
        if before == after:
            if after not in settings:
                settings[after] = _Stretch(after)
            if after not in memberships:
                memberships[after] = _Stretch(after)
            continue
        event = stored.event
        if event.type == "m.room.history_visibility" and event.state_key == "":
            _change(settings, stored, replaced, setting_in, SHARED)
            settings.setdefault(before, _Stretch(before))  # this one is judged by both
        else:
            _carry(settings, before, after)
        if event.type == "m.room.member" and event.state_key == viewer.user_id:
            _change(memberships, stored, replaced, membership_in, "leave")
        else:
            _carry(memberships, before, after)
    return Trace(viewer, events, settings, memberships)


def _carry(stretches: dict[int, _Stretch], before: int, after: int) -> None:
    """An event between the two snapshots leaves this piece of state as it was."""
    newer, older = stretches.get(after), stretches.get(before)
    if newer is None:
        newer = older if older is not None else _Stretch(after)
        stretches[after] = newer
    if older is None:
        stretches[before] = newer
    elif newer is not older:
        # Both were met already (forks): two stretches turn out to be one.
        newer.value = older.value = newer.value or older.value


def _change(
    stretches: dict[int, _Stretch],
    stored: StoredEvent,
    replaced: Callable[[StoredEvent], Replaced],
    value_in: Callable[[Event], str],
    default: str,
) -> None:
    """An event sets this piece of state."""
    _set(stretches, stored.after, value_in(stored.event))
    old = replaced(stored)
    if old == "nothing":
        _set(stretches, stored.before, default)
    elif old != "unknown":
        _set(stretches, stored.before, value_in(old))


def _set(stretches: dict[int, _Stretch], snapshot: int, value: str) -> None:
    stretch = stretches.get(snapshot)
    if stretch is None:
        stretches[snapshot] = _Stretch(snapshot, value)
    else:
        stretch.value = value


def _unknown(stretches: dict[int, _Stretch]) -> list[_Stretch]:
    return list({id(one): one for one in stretches.values() if one.value is None}.values())
