"""Which state events go with a timeline: the state before it, or after it, or only what a lazy reader needs.

Pure functions over a room's state maps; the events themselves are fetched by the caller.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from attrs import frozen

from federation.room.event import StateKey
from homeserver.rooms.live import CANONICAL_ALIAS, NAME, LiveRoom, State
from storage.ports import StoredEvent
from storage.spans import StateStep

HEROES = 5


@frozen
class StateWanted:
    """Whose member events a reader wants: everybody's, or with lazy loading only these users'."""

    lazy: bool
    members: frozenset[str] = frozenset()

    def admits(self, key: StateKey) -> bool:
        return not self.lazy or key[0] != "m.room.member" or key[1] in self.members


def before_timeline(state: State, timeline: Sequence[StoredEvent]) -> dict[StateKey, int]:
    """The state that `state` was before the events of the timeline (oldest first) changed it, as event nids.

    A key that the timeline itself set for the first time is left out.
    """
    nids = {key: ref.nid for key, ref in state.items()}
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


def summary(room: LiveRoom, user_id: str) -> dict[str, object]:
    """Names for a room that has none, and its counts.

    Spec: https://spec.matrix.org/v1.19/client-server-api/#calculating-the-display-name-for-a-room
    """
    found: dict[str, object] = {
        "m.joined_member_count": room.joined_count,
        "m.invited_member_count": room.invited_count,
    }
    state = room.visible.state
    if NAME not in state and CANONICAL_ALIAS not in state:
        found["m.heroes"] = heroes(room, user_id)
    return found


def heroes(room: LiveRoom, user_id: str) -> list[str]:
    """Up to five others, joined or invited first come first; where there are none, those who left."""
    present = _first(room, user_id, ("join", "invite"))
    return present or _first(room, user_id, ("leave", "ban"))


def _first(room: LiveRoom, user_id: str, memberships: tuple[str, ...]) -> list[str]:
    candidates = (
        (ref.nid, member) for member, ref in room.members() if ref.membership in memberships and member != user_id
    )
    return [member for _, member in heapq.nsmallest(HEROES, candidates)]
