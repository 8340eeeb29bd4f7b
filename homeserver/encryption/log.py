"""The latest changes of people's lists of devices, in memory: what `storage.device_lists` keeps for good."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

import msgspec
from attrs import define, field

from homeserver.streams.hub import Feed

MOST_CHANGES = 20_000


class _Change(msgspec.Struct, frozen=True, gc=False):
    position: int
    room_nids: frozenset[int]
    """Where the person was."""


@define(eq=False)
class ChangeLog:
    """Everybody's newest change since `floor`."""

    floor: int
    """A change up to here may be missing."""
    _changes: OrderedDict[tuple[str, str], _Change] = field(factory=OrderedDict, init=False)
    """(who alone may know or "", whose list it is) → its newest change, oldest first."""

    def changed(self, user_id: str, room_nids: frozenset[int], position: int) -> None:
        """In commit order."""
        self._put("", user_id, _Change(position, room_nids))

    def signed(self, viewer: str, owners: Collection[str], position: int) -> None:
        """The keys of `owners` have a signature more, for `viewer` alone."""
        for owner in sorted(owners):
            self._put(viewer, owner, _Change(position, frozenset()))

    def for_reader(self, feed: Feed, after: int, upto: int) -> tuple[set[str], set[str]]:
        """Whose lists changed after one position and up to another, of those with whom the feed's user shared a room
        then; and those whose keys the user signed.

        Costs what changed since `after`, which must not be below `floor`.
        """
        changed: set[str] = set()
        signed: set[str] = set()
        for (viewer, user_id), change in reversed(self._changes.items()):
            if change.position <= after:
                break
            if change.position > upto:
                continue
            if viewer == feed.user_id:
                signed.add(user_id)
            elif not viewer and (user_id == feed.user_id or not change.room_nids.isdisjoint(feed.joined)):
                changed.add(user_id)
        return changed, signed

    def _put(self, viewer: str, user_id: str, change: _Change) -> None:
        key = (viewer, user_id)
        self._changes.pop(key, None)
        self._changes[key] = change
        if len(self._changes) > MOST_CHANGES:
            _, forgotten = self._changes.popitem(last=False)
            self.floor = forgotten.position
