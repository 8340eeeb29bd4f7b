"""A person's rooms in the order of what happened last, and the lists that filters make of them.

An order is a dict without values, oldest first: what happens in a room moves it to the end, which costs the same
however many there are. A list's order is derived once, and then moved along.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec
from attrs import define, field

from homeserver.sync.sliding.asks import Filters, Range
from homeserver.userdata.invite_filter import Wishes

MOST_VIEWS = 20
"""Of one person's lists, that are kept."""


class Row(msgspec.Struct, eq=False):
    """What sorting and filters need of a room."""

    nid: int
    room_id: str
    membership: str
    member_nid: int
    moved: int
    """Position of the membership's last change."""
    active: int
    """Position of what happened last, as far as the person may know of it."""
    room_type: str | None
    is_listed: bool = True
    """Not those that the person left, or that it does not want to hear of."""
    is_kicked: bool = False
    inviter: str = ""
    is_dm: bool = False
    is_encrypted: bool = False
    """Known where `RoomList.knows_encryption`."""
    tags: frozenset[str] = frozenset()
    """Known where `RoomList.knows_tags`."""
    bumped: int | None = None
    """Position of the last thing that somebody said; None: not looked up."""


class View(msgspec.Struct, eq=False):
    """The rooms that pass a filter."""

    filters: Filters
    allowed: frozenset[str] | None
    """By the spaces of the filters; None: all."""
    order: dict[int, None] = msgspec.field(default_factory=dict)
    """Oldest first."""
    reshaped: int = 0
    """Position up to which rooms were taken out, or put elsewhere than to the front."""

    def admits(self, row: Row) -> bool:
        filters = self.filters
        return (
            row.is_listed
            and filters.is_dm in (None, row.is_dm)
            and filters.is_invited in (None, row.membership == "invite")
            and filters.is_encrypted in (None, row.is_encrypted)
            and (filters.room_types is None or row.room_type in filters.room_types)
            and row.room_type not in filters.not_room_types
            and (filters.tags is None or not filters.tags.isdisjoint(row.tags))
            and filters.not_tags.isdisjoint(row.tags)
            and (self.allowed is None or row.room_id in self.allowed)
        )


class RoomList(msgspec.Struct, eq=False):
    """One person's, as of `position`."""

    user_id: str
    position: int
    rows: dict[int, Row]
    by_id: dict[str, int]
    wishes: Wishes
    """Whose invitations are wanted."""
    order: dict[int, None] = msgspec.field(default_factory=dict)
    views: OrderedDict[tuple[Filters, frozenset[str] | None], View] = msgspec.field(default_factory=OrderedDict)
    touched: dict[int, int] = msgspec.field(default_factory=dict)
    """Rooms of which something is to be told that the feed does not mark → position; oldest first."""
    knows_encryption: bool = False
    knows_tags: bool = False
    stale_directs: int = 0
    """Position at which the list of direct chats was changed since it was read; 0: it was not."""
    stale_tags: int = 0
    is_read: bool = False

    def is_stale(self, position: int, wishes: Wishes) -> bool:
        """Whether there is something that it does not know."""
        return bool(
            self.position < position
            or self.stale_directs
            or (self.stale_tags and self.knows_tags)
            or wishes != self.wishes
        )

    def sort(self) -> None:
        """Bring all in order: at the beginning."""
        rows = sorted((row for row in self.rows.values() if row.is_listed), key=lambda row: (row.active, row.nid))
        self.order = {row.nid: None for row in rows}

    def view(self, filters: Filters, allowed: frozenset[str] | None) -> View:
        """The list of that filter; what it looks at must be known."""
        key = (filters, allowed)
        found = self.views.get(key)
        if found is None:
            found = self.views[key] = View(filters, allowed)
            self._fill(found)
            if len(self.views) > MOST_VIEWS:
                self.views.popitem(last=False)
        else:
            self.views.move_to_end(key)
        return found

    def happened(self, row: Row, position: int) -> None:
        """Something happened in a room, later than all else."""
        if position <= row.active:
            return
        row.active = position
        self.order.pop(row.nid, None)
        if row.is_listed:
            self.order[row.nid] = None
        for view in self.views.values():
            if view.admits(row):
                view.order.pop(row.nid, None)
                view.order[row.nid] = None
            else:
                self._take_out(view, row)

    def changed(self, row: Row) -> None:
        """Filters may judge a room otherwise now, though nothing happened in it."""
        if not row.is_listed:
            self.order.pop(row.nid, None)
        elif row.nid not in self.order:
            self.sort()
        for view in self.views.values():
            if not view.admits(row):
                self._take_out(view, row)
            elif row.nid not in view.order:
                self._fill(view)

    def touch(self, row: Row, position: int) -> None:
        self.touched.pop(row.nid, None)
        self.touched[row.nid] = position

    def _fill(self, view: View) -> None:
        rows = self.rows
        view.order = {nid: None for nid in self.order if view.admits(rows[nid])}
        view.reshaped = self._later()

    def _take_out(self, view: View, row: Row) -> None:
        if row.nid in view.order:
            del view.order[row.nid]
            view.reshaped = self._later()

    def _later(self) -> int:
        """A position after all that anybody was told of this list yet."""
        return self.position + 1


@define(eq=False)
class Window:
    """A view through the ranges of one list."""

    view: View
    ranges: Sequence[Range] | None
    _inside: frozenset[int] | None = field(default=None, init=False)

    @property
    def is_whole(self) -> bool:
        return self.ranges is None or any(
            first == 0 and last >= len(self.view.order) - 1 for first, last in self.ranges
        )

    @property
    def is_at_front(self) -> bool:
        """Whether what comes in comes in at the front, and pushes others out at the end."""
        return self.ranges is None or (len(self.ranges) == 1 and self.ranges[0][0] == 0)

    def nids(self) -> Iterator[int]:
        """The newest in front."""
        if self.is_whole:
            yield from reversed(self.view.order)
            return
        for first, last in self.ranges or ():
            yield from islice(reversed(self.view.order), first, last + 1)

    def newer(self, rows: dict[int, Row], position: int) -> Iterator[int]:
        """Those in which something happened after a position. For one that is at the front."""
        for nid in self.nids():
            if rows[nid].active <= position:
                return
            yield nid

    def has(self, nid: int) -> bool:
        if nid not in self.view.order:
            return False
        if self.is_whole:
            return True
        if self._inside is None:
            self._inside = frozenset(self.nids())
        return nid in self._inside
