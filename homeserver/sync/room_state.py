"""Which state events go with a timeline: the state before it, or after it, or only what a lazy reader needs.

Pure functions over a room's state maps; the events themselves are fetched by the caller.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from federation.room.event import StateKey
from homeserver.rooms.live import CANONICAL_ALIAS, NAME, Eldest, LiveRoom
from storage.ports import StoredEvent
from storage.spans import StateStep

HEROES = 5
PRESENT = ("join", "invite")
FORMER = ("leave", "ban")


def before_timeline(state: Mapping[StateKey, int], timeline: Sequence[StoredEvent]) -> dict[StateKey, int]:
    """The state that `state` (event nids) was before the events of the timeline (oldest first) changed it.

    A key that the timeline itself set for the first time is left out.
    """
    nids = dict(state)
    for stored in reversed(timeline):
        if stored.event.state_key is None:
            continue
        key = (stored.event.type, stored.event.state_key)
        if nids.get(key) != stored.nid:
            continue  # resolution decided against it, or it is the event of another fork
        if stored.replaces:
            nids[key] = stored.replaces
        else:
            del nids[key]
    return nids


def outcome(steps: Iterable[StateStep]) -> dict[StateKey, int]:
    """What several changes, oldest first, come to: key → nid. A key that went away is left out: /sync can't say so."""
    found: dict[StateKey, int] = {}
    for _, key, nid in steps:
        found.pop(key, None)
        if nid:
            found[key] = nid
    return found


class SummaryNews(msgspec.Struct, frozen=True):
    """What of a room's summary may have changed."""

    counts: bool
    heroes: bool


ALL_NEWS = SummaryNews(True, True)
NO_NEWS = SummaryNews(False, False)


def summary_news(room: LiveRoom, steps: Iterable[StateStep]) -> SummaryNews:
    """What changes of the state mean for the room's summary."""
    members = {key[1] for _, key, _ in steps if key[0] == "m.room.member"}
    is_renamed = any(key in (NAME, CANONICAL_ALIAS) for _, key, _ in steps)
    if not members:
        return SummaryNews(False, True) if is_renamed else NO_NEWS
    eldest = eldest_of(room)
    # Who has gone may have been among them before; of those who come, only they themselves can be new.
    heroes = is_renamed or any(
        member in eldest.present or room.membership_of(member) not in PRESENT for member in members
    )
    return SummaryNews(True, heroes)


def summary(room: LiveRoom, user_id: str, news: SummaryNews) -> dict[str, object]:
    """How many are in the room, and names for it if it has none.

    Spec: https://spec.matrix.org/v1.19/client-server-api/#calculating-the-display-name-for-a-room
    """
    found: dict[str, object] = {}
    if news.counts and room.joined_count is not None:  # in a partial room nobody can tell
        found["m.joined_member_count"] = room.joined_count
        found["m.invited_member_count"] = room.invited_count
    if news.heroes:
        found["m.heroes"] = heroes(room, user_id)
    return found


def heroes(room: LiveRoom, user_id: str) -> list[str]:
    """Up to five others, joined or invited first come first; where there are none, those who left."""
    eldest = eldest_of(room)
    present = [member for member in eldest.present if member != user_id]
    return (present or [member for member in eldest.former if member != user_id])[:HEROES]


def eldest_of(room: LiveRoom) -> Eldest:
    """The room's first members: remembered, because finding them costs as much as there are members.

    A partial room came with those by whom it is known, if it has no name.
    """
    if room.eldest is None:
        present = _first(room, PRESENT)
        room.eldest = Eldest(present, _first(room, FORMER) if Eldest.needs_former(present) else ())
    return room.eldest


def _first(room: LiveRoom, memberships: tuple[str, ...]) -> tuple[str, ...]:
    members = ((ref.nid, member) for member, ref in room.known_members() if ref.membership in memberships)
    return tuple(member for _, member in heapq.nsmallest(Eldest.SIZE, members))
