"""Keeps the search index up with the stream: in batches after the commits, so that nobody waits for it who speaks.

    Accepted ──► waiting ──(some seconds, or a hundred events, or somebody searches)──► prepare, in a reader's thread
                                                                                          │ words
                    search_todo (the past, edits taken back) ──────────────────────────► write, with how far it is

What was not written before a crash is found again at the next start, by the position up to which the index is complete
(`meta.search_upto`). The same way looks through a database that is older than its index.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from attrs import define, field
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from federation.room.relations import REPLACE, is_edit_of, relation_of
from homeserver.rooms.accept import Accepted
from homeserver.search.texts import file_in, kind_of, text_in
from homeserver.search.words import words_of
from homeserver.streams.hub import Hub
from homeserver.tasks import Tasks
from storage import relations as relation_rows
from storage import search as rows
from storage.database import Database
from storage.events import load_by_ids, load_events, timeline
from storage.ports import Cursor, StoredEvent
from storage.transcripts import texts_of

WAIT_S = 3.0
"""How long what was said may wait until it is written into the index by itself."""
BATCH = 100
"""Events at a time."""
MOST_WAITING = 5_000
"""More are looked for in the database again."""
TIDY_ROUNDS = 16
"""How often the index is tidied after something was deleted: each time a little."""

log = structlog.get_logger("homeserver.search")


@define(eq=False)
class Indexer:
    """An observer of the door (`homeserver.rooms.accept.Observer`). One per process."""

    database: Database
    hub: Hub
    timers: IReactorTime
    tasks: Tasks
    _waiting: list[StoredEvent] = field(factory=list, init=False)
    _seen: int = field(default=0, init=False)
    """Everything up to this position was seen by the observer."""
    _is_behind: bool = field(default=True, init=False)
    """There are events in the database that have to be looked for: the mark stays where it is until that is done."""
    _is_lost: bool = field(default=False, init=False)
    """More came than could be held meanwhile."""
    _timer: IDelayedCall | None = field(default=None, init=False)
    _lock: DeferredLock = field(factory=DeferredLock, init=False)
    _to_tidy: int = field(default=TIDY_ROUNDS, init=False)

    async def start(self) -> None:
        """Look for what a crash left out, and through rooms that are older than the index."""
        is_whole = False
        while not is_whole:
            self._is_lost = False
            is_whole = await self._walk() and not self._is_lost
        self._is_behind = False
        await self.catch_up()

    def accepted(self, accepted: Accepted) -> None:
        """Something was committed."""
        self._seen = accepted.position
        for new in accepted.events:
            stored = new.stored
            if stored.position > 0 and kind_of(stored.event) is not None and not stored.rejected | stored.soft_failed:
                self._waiting.append(stored)
        if accepted.redacted:
            self._to_tidy = TIDY_ROUNDS
        if len(self._waiting) > MOST_WAITING:
            self._waiting.clear()
            self._is_lost = True
            if not self._is_behind:
                self._is_behind = True
                self.tasks.spawn("search.look_for", self.start())
        elif self._waiting or accepted.redacted:
            self._set_timer()

    async def catch_up(self) -> None:
        """Have everything in the index that came since the start and was committed before this was called."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._lock.acquire()
        try:
            while self._waiting:
                await self._write_waiting()
            while done := await self.database.run(rows.todo, BATCH):
                docs = await self.database.run(_prepare_nids, done)
                await self.database.write(rows.write, docs, done)
        finally:
            self._lock.release()

    async def tidy(self) -> None:
        """Have what was deleted leave the disk, a little at a time. To be called now and then."""
        if self._to_tidy:
            self._to_tidy -= 1
            await self.database.write(rows.tidy, self._to_tidy == TIDY_ROUNDS - 1)

    async def close(self) -> None:
        """Write what waits."""
        await self.catch_up()

    # ----------------------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        if self._timer is None:
            self._timer = self.timers.callLater(WAIT_S, self._begin)
        elif len(self._waiting) == BATCH:
            self._timer.reset(0)

    def _begin(self) -> None:
        self._timer = None
        self.tasks.spawn("search.index", self.catch_up())

    async def _write_waiting(self) -> None:
        batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
        upto = batch[-1].position if self._waiting else self._seen
        docs = await self.database.run(_prepare, batch)
        await self.database.write(rows.write, docs, (), None if self._is_behind else upto)

    async def _walk(self) -> bool:
        """Look at all events since the last mark, room by room, from where the last walk was interrupted. Says whether
        that was everything up to now.
        """
        after = int(await self.database.run(rows.mark, rows.UPTO) or 0)
        upto, done_room = self.hub.position, 0
        walked = await self.database.run(rows.mark, rows.WALKED)
        if walked:
            upto, done_room = (int(part) for part in walked.split())
        nids = await self.database.run(rows.rooms_with_news, after)
        for nid in nids:
            if nid > done_room:
                await self._walk_room(nid, after, upto)
                await self.database.write(rows.set_mark, rows.WALKED, f"{upto} {nid}")
        await self.database.write(_end_walk, upto)
        if len(nids) > 1:
            log.info("the search index is complete", rooms=len(nids), since=after, upto=upto)
        return not walked

    async def _walk_room(self, room_nid: int, after: int, upto: int) -> None:
        while events := await self.database.run(timeline, room_nid, after=after, upto=upto, limit=BATCH):
            after = events[-1].position
            # Rooms that are older than the index may be older than the table of relations too.
            await self.database.write(relation_rows.write_missing, events)
            docs = await self.database.run(_prepare, [one for one in events if kind_of(one.event) is not None])
            await self.database.write(rows.write, docs)


# -- in a database thread ----------------------------------------------------------------------------------------


def _end_walk(cursor: Cursor, upto: int) -> None:
    rows.set_mark(cursor, rows.UPTO, str(upto))
    rows.set_mark(cursor, rows.WALKED, "")


def _prepare_nids(cursor: Cursor, nids: Sequence[int]) -> list[rows.Doc]:
    events = load_events(cursor, nids).values()
    return _prepare(cursor, [stored for stored in events if not stored.rejected and not stored.soft_failed])


def _prepare(cursor: Cursor, events: Sequence[StoredEvent]) -> list[rows.Doc]:
    """The documents of events; of an edit, that of the event that it changes."""
    originals: dict[str, StoredEvent] = {}
    edited: set[str] = set()
    for stored in events:
        relation = relation_of(stored.event)
        if relation is not None and relation.rel_type == REPLACE:
            edited.add(relation.parent)
        elif not stored.redacted_by and stored.position:
            originals[stored.event.event_id] = stored
    for event_id, stored in load_by_ids(cursor, edited - originals.keys()).items():
        if not stored.redacted_by and stored.position and not stored.rejected and not stored.soft_failed:
            originals[event_id] = stored
    children = relation_rows.children_of(cursor, list(originals.values()))
    newest = load_events(cursor, [told.edits[0] for told in children.values() if told.edits])
    files = {key for stored in originals.values() if (key := file_in(stored.event.content)) is not None}
    spoken = texts_of(cursor, files) if files else {}
    docs = []
    for event_id, stored in originals.items():
        kind = kind_of(stored.event)
        if kind is None:
            continue
        told = children.get(event_id)
        edit = newest.get(told.edits[0]) if told is not None and told.edits else None
        source, content = stored.nid, stored.event.content
        if edit is not None and is_edit_of(edit.event, stored.event):
            source, content = edit.nid, edit.event.content["m.new_content"]
        said = spoken.get(key) if (key := file_in(content)) is not None else None
        docs.append(rows.Doc(stored, source, kind, words_of("\n".join([text_in(kind, content), said or ""]))))
    return docs
