"""State resolution 2, and 2.1 as it differs: power comes first, then the rest, in orders that every server agrees on.

The comments number the steps as the specification does.

Spec: https://spec.matrix.org/v1.19/rooms/v2/#state-resolution and https://spec.matrix.org/v1.19/rooms/v12/#state-resolution
"""

from __future__ import annotations

from collections.abc import Iterable, Set

import msgspec

from federation.room.auth.selection import JOIN_RULES, POWER_LEVELS
from federation.room.event import Event, StateKey
from federation.room.resolution.auth_chain import walk_auth_difference, walk_conflicted_subgraph
from federation.room.resolution.conflict import Conflict
from federation.room.resolution.evidence import Evidence
from federation.room.resolution.hearing import gather_for_hearing, hear
from federation.room.resolution.ordering import order_by_mainline, order_by_power


class Variant(msgspec.Struct, frozen=True):
    """What sets 2.1 apart from 2."""

    starts_empty: bool = False
    """The first hearing starts from no state at all, so that agreed state cannot have events judged by what came
    after them."""

    hears_subgraph: bool = False
    """The events between conflicted ones are heard too, so that a conflicted event is not judged by an older one
    with what replaced that one left out."""


V2 = Variant()
V2_1 = Variant(starts_empty=True, hears_subgraph=True)


def resolve_v2(
    variant: Variant,
    conflict: Conflict,
    evidence: Evidence,
    auth_difference: Set[str] | None,
    conflicted_subgraph: Set[str] | None,
) -> dict[StateKey, str]:
    """Resolve a conflict: what stands at the keys that are not agreed on. Raises `MissingEvent`."""
    full_conflicted = set(conflict.event_ids)
    full_conflicted |= walk_auth_difference(conflict, evidence) if auth_difference is None else auth_difference
    if variant.hears_subgraph:
        between = walk_conflicted_subgraph(conflict, evidence) if conflicted_subgraph is None else conflicted_subgraph
        full_conflicted |= between
    evidence.gather(full_conflicted)
    agreed = _nothing if variant.starts_empty else conflict.agreed
    gather_for_hearing(map(evidence.require, full_conflicted), agreed, evidence)

    # 1. The power events, with what they rest on.
    power = _with_their_grounds(
        filter(is_power_event, map(evidence.require, full_conflicted)), full_conflicted, evidence
    )
    ordered_power = order_by_power(power, evidence)

    # 2. A partially resolved state.
    resolved: dict[StateKey, str] = {}
    hear(ordered_power, agreed, resolved, evidence)

    # 3. The others, by the mainline of the power levels that came out of it.
    power_levels_id = resolved.get(POWER_LEVELS) or agreed(POWER_LEVELS)
    power_levels = evidence.require(power_levels_id) if power_levels_id is not None else None
    others = order_by_mainline(map(evidence.require, full_conflicted - power), power_levels, evidence)

    # 4. The resolved state.
    hear(others, agreed, resolved, evidence)

    # 5. What is agreed on stands.
    return {key: event_id for key, event_id in resolved.items() if conflict.agreed(key) is None}


def is_power_event(event: Event) -> bool:
    """Whether an event might take away somebody's ability to do something in the room.

    The specification does not say that the power levels and join rules must be the room's (state key ""). Servers
    take it so, and others of these types have no effect that would make them powerful.
    """
    if (event.type, event.state_key) in (POWER_LEVELS, JOIN_RULES):
        return True
    return (
        event.type == "m.room.member"
        and event.state_key is not None
        and event.sender != event.state_key
        and event.content.get("membership") in ("leave", "ban")
    )


def _with_their_grounds(events: Iterable[Event], full_conflicted: Set[str], evidence: Evidence) -> set[str]:
    """Events, and what of their auth chains is in the full conflicted set.

    The chains are followed within that set. In 2.1 it has no gaps that a path could cross; in 2 it may have, and
    servers agree on stopping there.
    """
    found: set[str] = set()
    frontier = [event.event_id for event in events]
    while frontier:
        event_id = frontier.pop()
        if event_id not in found:
            found.add(event_id)
            frontier.extend(cited for cited in evidence.require(event_id).auth_events if cited in full_conflicted)
    return found


def _nothing(key: StateKey) -> None:
    return None
