"""How states of rooms came one from another, as far as memory reaches back.

Two states of a room that lie a few events apart differ in a few entries. Comparing them would find these, at the price
of a look at every member; climbing from both snapshots to where they part costs what lies between.

    97 ── 98 ── 101      a snapshot's nid is greater than its parent's, so the greater of two is the one to climb from
      └── 99 ── 100
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from federation.room.event import StateKey
from homeserver.rooms.live import State
from storage.ports import StateChange, StateRef
from storage.shared import Memory

REMEMBERED = 1_000
"""Steps of all rooms together, at least: about a third of a KiB each."""

MOST_STEPS = 300
"""Between two states; beyond that, comparing them is not much dearer."""

MOST_CHANGES = 200
"""In one step that is remembered."""


class _Step(msgspec.Struct, frozen=True, gc=False):
    """What a snapshot has otherwise than its parent."""

    parent: int
    changes: tuple[StateChange, ...]


class Lineage:
    """See the module's docstring. One per process."""

    def __init__(self) -> None:
        self._steps: Memory[int, _Step] = Memory(REMEMBERED)

    def note(self, snapshot: int, parent: int, changes: Sequence[StateChange]) -> bool:
        """A snapshot was made of another. False where that is too much to be remembered."""
        if len(changes) > MOST_CHANGES:
            return False
        self._steps.put(snapshot, _Step(parent, tuple(changes)))
        return True

    def differing(self, one: int, other: int) -> set[StateKey] | None:
        """All keys at which two snapshots of a room differ, and maybe some at which they don't; None: not known."""
        path = self._path(one, other)
        return None if path is None else {change.key for steps in path for step in steps for change in step.changes}

    def derive(self, state: State, at: int, wanted: int) -> State | None:
        """The state of the snapshot `wanted`, from the one that is `state`; None where the way is not known."""
        path = self._path(at, wanted)
        if path is None:
            return None
        down, up = path
        with_changes = state.mutate()
        for step in down:
            for change in step.changes:
                _put(with_changes, change.key, change.old)
        for step in reversed(up):
            for change in step.changes:
                _put(with_changes, change.key, change.new)
        return with_changes.finish()

    def _path(self, one: int, other: int) -> tuple[list[_Step], list[_Step]] | None:
        """The steps from each of two snapshots to the one that both come from."""
        ones: list[_Step] = []
        others: list[_Step] = []
        while one != other:
            step = self._steps.get(max(one, other))
            if step is None or len(ones) + len(others) == MOST_STEPS:
                return None
            if one > other:
                ones.append(step)
                one = step.parent
            else:
                others.append(step)
                other = step.parent
        return ones, others


def _put(state: object, key: StateKey, ref: StateRef | None) -> None:
    if ref is None:
        state.pop(key, None)  # type: ignore[attr-defined]  # of immutables' MapMutation
    else:
        state[key] = ref  # type: ignore[index]
