"""How a timeline ends for somebody who has nothing of the room yet: as the room's graph does, not as things arrived.

What a peer sent late, on a fork from further back, was first seen last. Who was here then saw it come and keeps it
where it came; who comes later is shown the room as it stands: docs/decisions/0015-first-looks-by-the-graph.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from federation.room.event import StateKey
from homeserver.rooms.tracing import Seen
from storage.ports import StateRef, StoredEvent


def is_one_line(events: Sequence[StoredEvent], depth: int) -> bool:
    """Whether a room's newest events, oldest first, look as if each followed the one before, up to the room's `depth`.

    Then nothing of what came before them can lie deeper, and no more has to be read to know which ones are the last.
    """
    depths = [stored.event.depth for stored in events]
    return depths[-1] == depth and all(0 <= other - one <= 1 for one, other in pairwise(depths))


def last_by_graph(recent: Sequence[Seen], limit: int, state: Mapping[StateKey, StateRef]) -> Sequence[Seen]:
    """The last `limit` (> 0) of a room's recent events: of least depth first, and of equal depth as they came.

    `recent`: as they came, oldest first. Where that order would end in another state than the room's, which is `state`,
    it is theirs.
    """
    if all(one.event.depth <= other.event.depth for (one, _), (other, _) in pairwise(recent)):
        return recent[-limit:]
    ordered = sorted(recent, key=lambda seen: (seen[0].event.depth, seen[0].position))[-limit:]
    return recent[-limit:] if _misleads(ordered, recent, state) else ordered


def _misleads(shown: Sequence[Seen], recent: Sequence[Seen], state: Mapping[StateKey, StateRef]) -> bool:
    """Whether somebody who takes the last word for the valid one gets a piece of state wrong, though the event that
    set it is here: depth says nothing of which one wins where two meet.
    """
    last: dict[StateKey, StoredEvent] = {
        (stored.event.type, stored.event.state_key): stored for stored, _ in shown if stored.event.state_key is not None
    }
    overruled = {ref.nid for key, stored in last.items() if (ref := state.get(key)) and ref.nid != stored.nid}
    return any(stored.nid in overruled for stored, _ in recent)
