"""Resolving the forks of a room's state, by the algorithm of its version."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence, Set
from typing import assert_never

from federation.room.event import Event, StateKey
from federation.room.resolution.conflict import Conflict, StateMap, find_conflict
from federation.room.resolution.evidence import Evidence
from federation.room.resolution.precedents import Precedents
from federation.room.resolution.v1 import resolve_v1
from federation.room.resolution.v2 import V2, V2_1, resolve_v2
from federation.room.versions import RoomVersion, StateResolution


def resolve(
    version: RoomVersion,
    forks: Sequence[StateMap],
    events: Mapping[str, Event],
    rejected: Container[str] = (),
    auth_difference: Set[str] | None = None,
    conflicted_subgraph: Set[str] | None = None,
) -> dict[StateKey, str]:
    """The state that follows from several forks of a room's state. It does not depend on the order of the forks.

    The other arguments are those of `resolve_conflict`. The work grows with the size of the forks only as they are
    compared and the answer is put together; `resolve_conflict` is for callers who have no need of either.
    """
    if not forks:
        return {}
    conflict = find_conflict(version, forks)
    if not conflict.keys:
        return dict(conflict.unconflicted)
    resolved = resolve_conflict(version, conflict, events, rejected, auth_difference, conflicted_subgraph)
    return {**conflict.unconflicted, **resolved}


def resolve_conflict(
    version: RoomVersion,
    conflict: Conflict,
    events: Mapping[str, Event],
    rejected: Container[str] = (),
    auth_difference: Set[str] | None = None,
    conflicted_subgraph: Set[str] | None = None,
    precedents: Precedents | None = None,
) -> dict[StateKey, str]:
    """What stands at the keys that forks do not agree on. A conflicted key that is not in the answer has no event.

    `events` holds events of the room by id: those in conflict, in the auth difference and in the subgraph, and what
    they rest on by citation or in the agreed state. It may be a mapping that loads what it is asked for. One that
    does not may lack some: then `MissingEvent` names as many as can be told, to be fetched for another attempt.

    `rejected` tells which events failed the checks on receipt; these count for nothing as grounds of others.
    `auth_difference` are the ids of events that are in the full auth chains of some forks but not of all, where the
    events of a fork are part of its chain (it is of no consequence whether the conflicted ones are among them), and
    `conflicted_subgraph`, asked for by version 2.1 only, those on the paths from one conflicted event to another by
    way of `auth_events`. A storage that has an index passes both. Without it they are found by walking: then `events`
    must hold the auth chains as well. `precedents` are those of earlier resolutions in the room.
    """
    if not conflict.keys:
        return {}
    evidence = Evidence(version, events, rejected, precedents)
    match version.state_resolution:
        case StateResolution.V1:
            return resolve_v1(conflict, evidence)
        case StateResolution.V2:
            return resolve_v2(V2, conflict, evidence, auth_difference, conflicted_subgraph)
        case StateResolution.V2_1:
            return resolve_v2(V2_1, conflict, evidence, auth_difference, conflicted_subgraph)
        case _:
            assert_never(version.state_resolution)
