"""Where the forks of a room's state disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import field, frozen

from federation.room.event import StateKey
from federation.room.versions import RoomVersion, StateResolution

StateMap = Mapping[StateKey, str]
"""A state of a room: which event, by id, stands at each (event type, state key)."""


@frozen(eq=False)
class Conflict:
    """A disagreement between forks, apart from what they agree on.

    Resolution never walks `unconflicted`, so its cost does not grow with the size of the state. (It does when it has
    to work out the auth difference itself.) Whoever knows where two states differ can thus hand over one of them
    whole, or in version 1 the two laid over each other: what it holds at a key that is in conflict is not looked at.
    """

    unconflicted: StateMap
    """What all forks have in common; it may also hold keys that are in conflict."""

    forks: tuple[StateMap, ...]
    """For each fork what it has at the keys in conflict. One that has nothing at a key lacks the key, which is a
    disagreement in itself, but not in version 1 (see `find_conflict`)."""

    keys: frozenset[StateKey] = field(init=False)
    event_ids: frozenset[str] = field(init=False)
    """The conflicted state set."""

    @keys.default
    def _collect_keys(self) -> frozenset[StateKey]:
        return frozenset().union(*self.forks)

    @event_ids.default
    def _collect_event_ids(self) -> frozenset[str]:
        return frozenset().union(*(fork.values() for fork in self.forks))

    def agreed(self, key: StateKey) -> str | None:
        """The event that all forks have at a key."""
        return None if key in self.keys else self.unconflicted.get(key)


def find_conflict(version: RoomVersion, forks: Sequence[StateMap]) -> Conflict:
    """Set apart what forks agree on. Needs at least one fork, and looks at every entry of each.

    In version 1 of state resolution a key that some forks lack is in conflict only if the others disagree about it.
    """
    told = [set(fork.items()) for fork in forks]
    agreed = told[0].intersection(*told[1:])
    disputed = {key for key, _ in told[0].union(*told[1:]) - agreed}
    unconflicted = {key: event_id for key, event_id in forks[0].items() if key not in disputed}
    if version.state_resolution is StateResolution.V1:
        for key in sorted(disputed):
            event_ids = {fork[key] for fork in forks if key in fork}
            if len(event_ids) == 1:
                disputed.remove(key)
                unconflicted[key] = event_ids.pop()
    return Conflict(unconflicted, tuple({key: fork[key] for key in sorted(disputed) if key in fork} for fork in forks))
