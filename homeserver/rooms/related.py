"""What hangs on a room's events, as far as it was looked up lately: edits, threads, references.

One of these belongs to each room in use. It grows with what is said in the room, so that events that many readers are
shown again and again are looked up once; whatever changes older events (a redaction, a piece of the past) empties it.

Spec: https://spec.matrix.org/v1.19/client-server-api/#aggregations-of-child-events
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from federation.room.relations import REFERENCE, REPLACE, THREAD, Relation, is_edit_of
from storage.ports import StoredEvent
from storage.relations import MOST_REFERENCES

MOST_KEPT = 128
"""Events of a room whose relations are in memory."""


class Thread(msgspec.Struct, frozen=True, gc=False):
    """The events that hang on a root."""

    replies: int
    latest: StoredEvent
    speakers: frozenset[str]
    """Those of this server who said something in it."""


class Summary(msgspec.Struct, frozen=True, gc=False):
    """What hangs on one event and is told with it, to whoever may see everything of it."""

    parent: StoredEvent
    edit: StoredEvent | None = None
    """The newest valid one."""
    thread: Thread | None = None
    references: tuple[str, ...] = ()
    """Event ids."""

    @property
    def is_empty(self) -> bool:
        return self.edit is None and self.thread is None and not self.references


class Related:
    """The summaries of one room, by the parents' event ids."""

    __slots__ = ("_known", "changes")

    def __init__(self) -> None:
        self._known: dict[str, Summary] = {}
        self.changes = 0
        """Counts what came: whoever has read something meanwhile sees that it may be the older truth."""

    def peek(self, event_id: str) -> Summary | None:
        """What hangs on an event, perhaps nothing; None where that is not in memory."""
        return self._known.get(event_id)

    def keep(self, found: Iterable[Summary], changes: int) -> None:
        """Remember what was read, unless something came since `changes` was noted."""
        if changes != self.changes:
            return
        for summary in found:
            self._put(summary)

    def clear(self) -> None:
        """Something older changed."""
        self.changes += 1
        self._known.clear()

    def grow(self, stored: StoredEvent, relation: Relation | None, local_server: str) -> None:
        """An event was committed."""
        if relation is not None and relation.rel_type in (REPLACE, THREAD, REFERENCE):
            self.changes += 1
            summary = self._known.get(relation.parent)
            if summary is not None:
                self._known[relation.parent] = _grown(summary, stored, relation, local_server)
        if self._known and stored.event.state_key is None and stored.event.sender.endswith(":" + local_server):
            self._put(Summary(stored))  # nobody else has heard of it yet

    def _put(self, summary: Summary) -> None:
        if len(self._known) >= MOST_KEPT:
            for event_id in list(self._known)[: MOST_KEPT // 2]:
                del self._known[event_id]
        self._known[summary.parent.event.event_id] = summary


def _grown(summary: Summary, stored: StoredEvent, relation: Relation, local_server: str) -> Summary:
    event = stored.event
    if relation.rel_type == REPLACE:
        if not is_edit_of(event, summary.parent.event) or not is_newer(stored, summary.edit):
            return summary
        return msgspec.structs.replace(summary, edit=stored)
    if relation.rel_type == REFERENCE:
        # What was read may know of it already.
        if event.event_id in summary.references or len(summary.references) >= MOST_REFERENCES:
            return summary
        return msgspec.structs.replace(summary, references=(*summary.references, event.event_id))
    is_local = event.sender.endswith(":" + local_server)
    old = summary.thread
    if old is None:
        speakers = frozenset({event.sender} if is_local else ())
        return msgspec.structs.replace(summary, thread=Thread(1, stored, speakers))
    if stored.position <= old.latest.position:
        return summary
    speakers = old.speakers
    if is_local and event.sender not in speakers:
        speakers |= {event.sender}
    return msgspec.structs.replace(summary, thread=Thread(old.replies + 1, stored, speakers))


def is_newer(edit: StoredEvent, than: StoredEvent | None) -> bool:
    """Whether an edit takes the place of another."""
    return than is None or edit_order(edit) > edit_order(than)


def edit_order(edit: StoredEvent) -> tuple[int, str]:
    """By which edits of one event are ordered, the one in force being the last.

    Spec: https://spec.matrix.org/v1.19/client-server-api/#server-side-aggregation-of-mreplace-relationships
    """
    return edit.event.origin_server_ts, edit.event.event_id
