"""State resolution 1: power levels, join rules and members each in a chain of approval, then the deepest of the rest.

Known to reset state; rooms of version 1 have nothing else.

Spec: https://spec.matrix.org/v1.19/rooms/v1/#state-resolution
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1

from federation.room.auth import auth_types_of, check_auth
from federation.room.auth.selection import CREATE, POWER_LEVELS
from federation.room.event import Event, StateKey
from federation.room.resolution.conflict import Conflict
from federation.room.resolution.evidence import Evidence

CHAINS_OF_APPROVAL = ("m.room.power_levels", "m.room.join_rules", "m.room.member")
"""The types of events that affect what others may do, in the order of their resolution."""


def resolve_v1(conflict: Conflict, evidence: Evidence) -> dict[StateKey, str]:
    """Resolve a conflict: what stands at the keys that are not agreed on. Raises `MissingEvent`."""
    evidence.gather(conflict.event_ids)
    contenders: dict[StateKey, list[Event]] = {}
    for event in sorted(map(evidence.require, conflict.event_ids), key=_by_depth):
        if event.state_key is not None:
            contenders.setdefault((event.type, event.state_key), []).append(event)
    asked_for = (key for events in contenders.values() for event in events for key in _asked_for(event, evidence))
    evidence.gather(filter(None, map(conflict.agreed, asked_for)))

    resolved: dict[StateKey, str] = {}
    for event_type in CHAINS_OF_APPROVAL:
        # Conflicts about one type are resolved apart from each other, so their order is of no consequence.
        resolved |= {
            key: _last_approved(events, conflict, resolved, evidence)
            for key, events in contenders.items()
            if key[0] == event_type
        }
    return resolved | {
        key: _deepest_allowed(events, conflict, resolved, evidence)
        for key, events in contenders.items()
        if key not in resolved
    }


def _by_depth(event: Event) -> tuple[int, int]:
    """Ascending by depth, then descending by the SHA-1 of the event id."""
    return event.depth, -int.from_bytes(sha1(event.event_id.encode(), usedforsecurity=False).digest())


def _asked_for(event: Event, evidence: Evidence) -> list[StateKey]:
    return [CREATE, *auth_types_of(evidence.version, event)]


def _last_approved(
    events: Sequence[Event], conflict: Conflict, resolved: dict[StateKey, str], evidence: Evidence
) -> str:
    """The first event stands; each next one replaces it if it is allowed then, until one is not."""
    standing = events[0]
    for event in events[1:]:
        if not _is_allowed(event, conflict, resolved, evidence, standing):
            break
        standing = event
    return standing.event_id


def _deepest_allowed(
    events: Sequence[Event], conflict: Conflict, resolved: dict[StateKey, str], evidence: Evidence
) -> str:
    """The last event that is allowed.

    The specification is silent about conflicts of which nothing is allowed. Servers let the first event stand.
    """
    for event in reversed(events):
        if _is_allowed(event, conflict, resolved, evidence):
            return event.event_id
    return events[0].event_id


def _is_allowed(
    event: Event,
    conflict: Conflict,
    resolved: dict[StateKey, str],
    evidence: Evidence,
    standing: Event | None = None,
) -> bool:
    """Judge an event by what is agreed and resolved; `standing` is there for now, for its own key."""

    def state(event_type: str, state_key: str) -> Event | None:
        key = (event_type, state_key)
        if standing is not None and key == (standing.type, standing.state_key):
            return standing
        event_id = resolved.get(key) or conflict.agreed(key)
        return evidence.require(event_id) if event_id is not None else None

    power = evidence.power(state(*CREATE), state(*POWER_LEVELS))
    return bool(check_auth(evidence.version, event, state, power))
