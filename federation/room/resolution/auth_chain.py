"""What lies behind conflicting states: the auth difference and the conflicted state subgraph, found by walking.

A server of any size has an index that gives both without a walk, and passes them to `resolve`; what is found here is
the reference for such an index, and enough for small rooms and for tests.

Spec: https://spec.matrix.org/v1.19/rooms/v12/#definitions
"""

from __future__ import annotations

from collections.abc import Iterable

from federation.room.resolution.conflict import Conflict
from federation.room.resolution.evidence import Evidence


def walk_auth_difference(conflict: Conflict, evidence: Evidence) -> frozenset[str]:
    """The events that are in the full auth chain of some forks, but not of all.

    The events of a state count as part of its full auth chain. The specification's wording leaves them out, but
    servers have always counted them in, and had they not, whether a common event is in the difference would hang on
    which forks happen to cite it.

    Walks the auth chains of all state events, agreed ones too; raises `MissingEvent`.
    """
    chains = [_auth_chain(fork.values(), evidence) for fork in conflict.forks]
    difference = frozenset().union(*chains) - frozenset(chains[0]).intersection(*chains[1:])
    if difference <= conflict.event_ids:
        return difference  # they count as conflicted either way, so what the agreed events say is of no interest
    agreed = (event_id for key, event_id in conflict.unconflicted.items() if key not in conflict.keys)
    return difference - _auth_chain(agreed, evidence)


def walk_conflicted_subgraph(conflict: Conflict, evidence: Evidence) -> frozenset[str]:
    """The events on all paths, by way of `auth_events`, from one conflicted event to another, ends included.

    Walks the auth chains of the conflicted events; raises `MissingEvent`.
    """
    reached = _auth_chain(conflict.event_ids, evidence)
    cited_by: dict[str, list[str]] = {}
    for event_id in reached:
        for cited in evidence.require(event_id).auth_events:
            cited_by.setdefault(cited, []).append(event_id)
    # All that was reached comes from a conflicted event. Back up from the conflicted ones: what is met leads to them.
    found: set[str] = set()
    frontier = list(conflict.event_ids)
    while frontier:
        event_id = frontier.pop()
        if event_id not in found:
            found.add(event_id)
            frontier.extend(cited_by.get(event_id, ()))
    return frozenset(found)


def _auth_chain(event_ids: Iterable[str], evidence: Evidence) -> set[str]:
    """All that is reached from some events by `auth_events`, with the events themselves."""
    reached: set[str] = set()
    frontier = set(event_ids)
    while frontier:
        evidence.gather(frontier)  # a whole generation at once, so that what is missing is named together
        reached |= frontier
        frontier = {cited for event_id in frontier for cited in evidence.require(event_id).auth_events} - reached
    return reached
