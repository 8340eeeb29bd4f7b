"""Threads that people follow: what they say of it, and what their other devices are told.

    PUT, DELETE ──► one row, with a place in the stream ──► `homeserver.push.followers` judges by it
                                                       └──► feed, which wakes sliding syncs

Where there is no subscription any more, the row stays: what came before it (an old device that has just seen an old
mention) must not bring the subscription back.

MSC4306: https://github.com/matrix-org/matrix-spec-proposals/pull/4306
MSC4308: https://github.com/matrix-org/matrix-spec-proposals/pull/4308
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from federation.room.relations import THREAD, may_have_thread, relation_of
from federation.service import service
from homeserver.errors import InvalidParam, MatrixError, NotFound
from homeserver.push.book import RuleBook
from homeserver.push.followers import Followers
from homeserver.push.rules import hush_threads
from homeserver.rooms.history import History
from homeserver.streams.hub import Hub
from homeserver.streams.positions import take_position
from storage import thread_subscriptions as rows
from storage.database import Database
from storage.ports import Cursor
from storage.thread_subscriptions import AUTOMATIC, ENDED, MANUAL, Change, Subscription

MOST_FOLLOWED = 50_000
"""Threads of one person: each takes some memory for as long as the server runs."""


class Page(msgspec.Struct, frozen=True):
    """Changes, newest first."""

    changes: Sequence[Change]
    end: int | None
    """Up to where there are older ones that are not among them; None: there are none."""


class NotInThread(MatrixError):
    def __init__(self) -> None:
        super().__init__(400, "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD", "'automatic' is no event of this thread")


class ConflictingUnsubscription(MatrixError):
    def __init__(self) -> None:
        error = "The subscription was ended after the event that 'automatic' names"
        super().__init__(409, "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION", error)


class SubscriptionChanged(msgspec.Struct, eq=False):
    """The notice of a change. The write function says whether there was one, before the notice is published."""

    followers: Followers
    position: int
    changed: Subscription | None = None

    def settle(self, changed: Subscription | None) -> None:
        """Called where it is written. A position that nothing was written at must not be seen."""
        self.changed = changed
        self.position = 0 if changed is None else changed.position

    def publish(self, hub: Hub) -> None:
        if (one := self.changed) is not None:
            self.followers.put(one.user_id, one.room_nid, one.root_id, follows=one.kind != ENDED)
            hub.mark_threads(one.user_id, self.position)


@service
class Subscriptions:
    """Reads and writes them; a listener of accounts."""

    database: Database
    history: History
    followers: Followers
    book: RuleBook
    hub: Hub

    async def get(self, user_id: str, room_id: str, root_id: str) -> Subscription:
        """Raises NotFound where there is none, or the thread is not to be seen."""
        room_nid = await self._require(user_id, room_id, root_id)
        found = await self.database.run(rows.get, user_id, room_nid, root_id)
        if found is None or found.kind == ENDED:
            raise NotFound("You do not follow this thread")
        return found

    async def subscribe(self, user_id: str, room_id: str, root_id: str, cause_id: str | None) -> None:
        """Follow a thread: by the person's own wish, or because of an event in it. Durable when it answers.

        Raises NotFound where the thread is not to be seen, NotInThread, ConflictingUnsubscription, InvalidParam.
        """
        room_nid = await self._require(user_id, room_id, root_id)
        cause = None if cause_id is None else await self._place_of(user_id, room_id, root_id, cause_id)
        follows = user_id in self.followers.of(room_nid, root_id)
        if not follows and self.followers.count(user_id) >= MOST_FOLLOWED:
            raise InvalidParam(f"One can follow at most {MOST_FOLLOWED} threads", "M_TOO_LARGE")
        if not self.followers.count(user_id) and not await self.database.run(rows.has_any, user_id):
            await self.book.change(user_id, hush_threads)
        position = take_position(self.database.counters)
        notice = SubscriptionChanged(self.followers, position)
        wanted = Subscription(user_id, room_nid, root_id, MANUAL if cause_id is None else AUTOMATIC, position)
        if not await self.database.write_and_tell(notice, _subscribe, notice, wanted, cause):
            raise ConflictingUnsubscription()

    async def unsubscribe(self, user_id: str, room_id: str, root_id: str) -> None:
        """Follow a thread no more. Durable when it answers. Raises NotFound where the thread is not to be seen."""
        room_nid = await self._require(user_id, room_id, root_id)
        position = take_position(self.database.counters)
        notice = SubscriptionChanged(self.followers, position)
        wanted = Subscription(user_id, room_nid, root_id, ENDED, position)
        await self.database.write_and_tell(notice, _unsubscribe, notice, wanted)

    async def changes(self, user_id: str, after: int, upto: int, limit: int) -> Page:
        """At most `limit` of what changed after one position and up to another: the newest."""
        found = await self.database.run(rows.changed, user_id, after, upto, limit + 1)
        if len(found) <= limit:
            return Page(found, None)
        return Page(found[:limit], found[limit].position)

    async def account_registered(self, user_id: str, displayname: str | None) -> None:
        """A new account follows nothing yet (`homeserver.accounts.ports.AccountListener`)."""

    async def account_deactivated(self, user_id: str, *, erase: bool) -> None:
        """The account is closed: nobody follows anything by it."""
        await self.database.write(rows.forget_person, user_id)
        self.followers.forget(user_id)

    async def _require(self, user_id: str, room_id: str, root_id: str) -> int:
        """The room's nid, for somebody who is in it and may see the root of the thread. Raises NotFound."""
        one = await self.history.event(room_id, user_id, root_id)
        if one.room.membership_of(user_id) != "join":
            raise NotFound("Who is not in a room follows no thread there")
        if not may_have_thread(one.event[0].event):
            raise NotFound("No thread can hang on this event")
        return one.room.nid

    async def _place_of(self, user_id: str, room_id: str, root_id: str, event_id: str) -> int:
        """Where an event of a thread stands in the stream. Raises NotInThread, also where it is not to be seen."""
        try:
            stored = (await self.history.event(room_id, user_id, event_id)).event[0]
        except NotFound:
            raise NotInThread() from None
        relation = relation_of(stored.event)
        if relation is None or (relation.rel_type, relation.parent) != (THREAD, root_id):
            raise NotInThread()
        return stored.position


def _subscribe(cursor: Cursor, notice: SubscriptionChanged, wanted: Subscription, cause: int | None) -> bool:
    """False, and nothing done, if an event that is not newer than the end of a subscription would bring it back: what
    came out of the past (its place is negative) is old, too.
    """
    before = rows.get(cursor, wanted.user_id, wanted.room_nid, wanted.root_id)
    notice.settle(None)
    if before is not None and before.kind == ENDED and cause is not None and cause <= before.position:
        return False
    if before is None or before.kind < wanted.kind:
        rows.put(cursor, wanted)
        notice.settle(wanted)
    return True


def _unsubscribe(cursor: Cursor, notice: SubscriptionChanged, wanted: Subscription) -> None:
    before = rows.get(cursor, wanted.user_id, wanted.room_nid, wanted.root_id)
    notice.settle(None)
    if before is not None and before.kind != ENDED:
        rows.put(cursor, wanted)
        notice.settle(wanted)
