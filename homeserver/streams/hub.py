"""The hub: what was committed goes in at one end, in order; readers who wait are woken at the other.

A *notice* is whatever a durable write leaves for the hub; the database hands over the notices of a batch in commit
order (`Database.on_commit`), so no reader ever sees what is not durable. A *feed* is one active local user's view of
the stream: it remembers which rooms changed and when, so that an incremental `/sync` costs what changed and not how
many rooms there are. Feeds are dropped when nobody has asked for a while; a token older than a feed's floor is answered
from the database.

Nothing here knows what an event looks like: rooms, receipts or typing decide what a change means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec
import structlog
from twisted.internet.defer import Deferred

from homeserver.clock import Clock

FEED_IDLE_MS = 10 * 60_000

_log = structlog.get_logger("homeserver.streams")


class Notice(Protocol):
    """What a durable write leaves for its readers. `position` is its place in the stream."""

    position: int

    def publish(self, hub: Hub) -> None:
        """Make it visible: change what is in memory and mark the feeds that it concerns."""


class Serial(Protocol):
    """Where the process's in-memory changes (typing, presence) take their order from."""

    def __call__(self) -> int: ...


class Follower(Protocol):
    """A reader that stays, as a connection does. `changed` must not wait and must not raise."""

    def changed(self) -> None: ...


class Feed(msgspec.Struct, eq=False, weakref=True):
    """What changed for one local user since `floor`. All positions are of the durable stream unless named serial."""

    user_id: str
    floor: int
    serial_floor: int
    joined: dict[int, int] = msgspec.field(default_factory=dict)
    """Rooms (nid) that the user is in → position from which it has been joined without a break."""
    changed: dict[int, int] = msgspec.field(default_factory=dict)
    """Rooms with something durable to see → newest position; oldest change first."""
    stirred: dict[int, int] = msgspec.field(default_factory=dict)
    """Rooms with something passing to see (typing) → newest serial; oldest change first."""
    moved: dict[int, int] = msgspec.field(default_factory=dict)
    """Rooms whose membership of the user changed → position; oldest change first."""
    account: int = 0
    """Newest position of a change to the user's own data (account data, filters of lists)."""
    news: int = 0
    """Newest position of something to be told of friends and direct rooms."""
    threads: int = 0
    """Newest position of a change to what threads the user follows."""
    profiles: int = 0
    """Newest position of a change to a profile, of those whom the user is in a room with, or the user's own."""
    devices: int = 0
    """Newest position of a change to somebody's list of devices, of those that the user may ask for."""
    presence: int = 0
    """Newest serial of a presence change that the user may see."""
    used_ms: int = 0
    marks: int = 0
    """Counts every change to this feed: a reader sees whether anything came while it was looking elsewhere."""
    waiters: list[Deferred[None]] = msgspec.field(default_factory=list)
    followers: list[Follower] = msgspec.field(default_factory=list)
    """Who is told of every change until they say that they are not: the feed stays open for them."""
    woken: bool = False

    def mark(self, room_nid: int, position: int) -> None:
        self.changed.pop(room_nid, None)
        self.changed[room_nid] = position

    def stir(self, room_nid: int, serial: int) -> None:
        self.stirred.pop(room_nid, None)
        self.stirred[room_nid] = serial

    def move(self, room_nid: int, position: int) -> None:
        self.moved.pop(room_nid, None)
        self.moved[room_nid] = position


def newer(marks: dict[int, int], than: int) -> list[int]:
    """The rooms marked after `than`, newest first: costs as much as there are."""
    found = []
    for room_nid in reversed(marks):
        if marks[room_nid] <= than:
            break
        found.append(room_nid)
    return found


class Hub:
    """See the module's docstring. One per process; lives in the reactor's thread."""

    def __init__(self, clock: Clock, position: int) -> None:
        self._clock = clock
        self.timers = clock.timers
        self.position = position
        """Everything up to here is committed and visible."""
        self.serial = clock.now_ms()
        self._feeds: dict[str, Feed] = {}
        self._by_room: dict[int, dict[Feed, None]] = {}
        """The feeds of those who are in each room, in an order that is not that of addresses in memory."""
        self._peeks: dict[int, dict[Feed, None]] = {}
        """Feeds of single requests, which look into a room and follow nothing else."""
        self._to_wake: list[Feed] = []
        self.closing = False
        """The server is going down: whoever waits is answered now."""
        self.waiting = 0
        """How many long polls wait now."""

    # -- writing side ------------------------------------------------------------------------------------------

    def committed(self, notices: Sequence[object]) -> None:
        """The database's commit listener: publish a batch in order, then wake readers once."""
        for notice in notices:
            # Everything written with a notice is written with one of these; the database cannot know the type.
            try:
                notice.publish(self)  # type: ignore[attr-defined]
            except Exception:
                _log.exception("what was committed could not be shown whole")  # the rest of the batch must be
            position: int = notice.position  # type: ignore[attr-defined]
            if position > self.position:
                self.position = position
        self._wake_soon()

    def next_serial(self) -> int:
        """The place of a change that lives in memory only."""
        self.serial += 1
        return self.serial

    def feeds_of(self, room_nid: int) -> Iterable[Feed]:
        """The active feeds of a room's joined local members."""
        return self._by_room.get(room_nid, ())

    def feed(self, user_id: str) -> Feed | None:
        """The user's feed if it is active."""
        return self._feeds.get(user_id)

    def mark_room(self, room_nid: int, position: int) -> None:
        """Something durable happened in a room: its active members have something to read."""
        for feed in self._by_room.get(room_nid, ()):
            feed.mark(room_nid, position)
            self.wake(feed)
        for feed in self._peeks.get(room_nid, ()):
            self.wake(feed)

    def stir_room(self, room_nid: int) -> int:
        """Something passing happened in a room (typing). Returns its serial."""
        serial = self.next_serial()
        for feed in self._by_room.get(room_nid, ()):
            feed.stir(room_nid, serial)
            self.wake(feed)
        self._wake_soon()
        return serial

    def mark_account(self, user_id: str, position: int) -> None:
        """The user's own data changed."""
        feed = self._feeds.get(user_id)
        if feed is not None:
            feed.account = position
            self.wake(feed)

    def mark_news(self, user_id: str, position: int) -> None:
        """There is something to be told to the user of friends and direct rooms."""
        feed = self._feeds.get(user_id)
        if feed is not None:
            feed.news = position
            self.wake(feed)

    def mark_threads(self, user_id: str, position: int) -> None:
        """The user follows another thread, or one less."""
        feed = self._feeds.get(user_id)
        if feed is not None:
            feed.threads = position
            self.wake(feed)

    def mark_devices(self, user_id: str, room_nids: Iterable[int], position: int) -> None:
        """Somebody's list of devices changed: the person's own readers and those in these rooms are to know."""
        for feed in self._around(user_id, room_nids):
            feed.devices = position
            self.wake(feed)

    def mark_profile(self, user_id: str, room_nids: Iterable[int], position: int) -> None:
        """Somebody's profile changed: the same are to know."""
        for feed in self._around(user_id, room_nids):
            feed.profiles = position
            self.wake(feed)

    def wake_user(self, user_id: str) -> int:
        """Something came that concerns devices of the user. Returns a serial, for what nothing durable orders."""
        feed = self._feeds.get(user_id)
        if feed is not None:
            self.wake(feed)
        return self.next_serial()

    def mark_membership(self, user_id: str, room_nid: int, position: int, joined: bool, was_joined: bool) -> None:
        """A local user's membership of a room became something else, or was said again (`joined == was_joined`)."""
        feed = self._feeds.get(user_id)
        if feed is None:
            return
        if joined and not was_joined:
            feed.joined[room_nid] = position
            self._by_room.setdefault(room_nid, {})[feed] = None
        elif was_joined and not joined:
            feed.joined.pop(room_nid, None)
            self._drop_from_room(feed, room_nid)
        if not (joined and was_joined):
            feed.move(room_nid, position)
            self.wake(feed)

    def wake(self, feed: Feed) -> None:
        """Note that something was marked on the feed; its readers are woken with the batch."""
        feed.marks += 1
        if (feed.waiters or feed.followers) and not feed.woken:
            feed.woken = True
            self._to_wake.append(feed)

    def wake_now(self) -> None:
        """For changes that no commit announces (presence): wake whoever was marked."""
        self._wake_soon()

    # -- reading side ------------------------------------------------------------------------------------------

    def open_feed(self, user_id: str) -> Feed:
        """Begin to follow a user's memberships. `fill_feed` must follow once the database said where the user is."""
        feed = Feed(user_id, self.position, self.serial, used_ms=self._clock.now_ms())
        self._feeds[user_id] = feed
        return feed

    def fill_feed(self, feed: Feed, joined: Mapping[int, int]) -> None:
        """Complete a new feed: `joined` was read from the database after it was opened.

        What moved meanwhile is known better by the feed itself. From now on every change is marked, so the floor is
        here.
        """
        for room_nid, since in joined.items():
            if room_nid not in feed.moved:
                feed.joined[room_nid] = since
                self._by_room.setdefault(room_nid, {})[feed] = None
        feed.floor, feed.serial_floor = self.position, self.serial
        feed.presence = self.serial

    def peek(self, user_id: str, room_nid: int) -> Feed:
        """Begin to follow one room, whether the user is in it or not: until `end_peek`."""
        feed = Feed(user_id, self.position, self.serial)
        self._peeks.setdefault(room_nid, {})[feed] = None
        return feed

    def end_peek(self, feed: Feed, room_nid: int) -> None:
        peeks = self._peeks[room_nid]
        del peeks[feed]
        if not peeks:
            del self._peeks[room_nid]

    def wait(self, feed: Feed, timeout_ms: int) -> Deferred[None]:
        """Fires when something was marked on the feed, at the latest after `timeout_ms`. Cancel it to stop waiting."""
        waiter: Deferred[None] = Deferred()
        timer = self._clock.timers.callLater(timeout_ms / 1000, self._fire, feed, waiter)

        def finished(result: object) -> object:
            if waiter in feed.waiters:
                feed.waiters.remove(waiter)
            if timer.active():
                timer.cancel()
            return result

        self.waiting += 1
        feed.waiters.append(waiter)
        waiter.addBoth(self._count_down)
        waiter.addBoth(finished)
        return waiter

    def close(self) -> None:
        """Answer everybody who waits: with nothing new, but in good order."""
        self.closing = True
        for feed in (*self._feeds.values(), *(feed for peeks in self._peeks.values() for feed in peeks)):
            self.wake(feed)
        self._wake_all()

    def _count_down(self, result: object) -> object:
        self.waiting -= 1
        return result

    def _fire(self, feed: Feed, waiter: Deferred[None]) -> None:
        if not waiter.called:
            if waiter in feed.waiters:
                feed.waiters.remove(waiter)
            waiter.callback(None)

    def _wake_soon(self) -> None:
        # After the senders' own answers: whoever wrote hears first, then whoever listens.
        if self._to_wake:
            self._clock.timers.callLater(0, self._wake_all)

    def _wake_all(self) -> None:
        feeds, self._to_wake = self._to_wake, []
        for feed in feeds:
            feed.woken = False
            waiters, feed.waiters = feed.waiters, []
            for waiter in waiters:
                if not waiter.called:  # one answer may have cancelled the next one's wait
                    waiter.callback(None)
            for follower in tuple(feed.followers):
                follower.changed()

    # -- housekeeping ------------------------------------------------------------------------------------------

    def close_idle_feeds(self) -> None:
        """Forget the feeds that nobody has read for a while. To be called now and then."""
        horizon = self._clock.now_ms() - FEED_IDLE_MS
        for feed in [f for f in self._feeds.values() if not (f.waiters or f.followers) and f.used_ms < horizon]:
            self.close_feed(feed)

    def close_feed(self, feed: Feed) -> None:
        if self._feeds.get(feed.user_id) is feed:
            del self._feeds[feed.user_id]
        for room_nid in feed.joined:
            self._drop_from_room(feed, room_nid)

    def _around(self, user_id: str, room_nids: Iterable[int]) -> set[Feed]:
        """The feeds of somebody and of those who are in any of the rooms."""
        feeds = {feed for room_nid in room_nids for feed in self._by_room.get(room_nid, ())}
        if (own := self._feeds.get(user_id)) is not None:
            feeds.add(own)
        return feeds

    def _drop_from_room(self, feed: Feed, room_nid: int) -> None:
        feeds = self._by_room.get(room_nid)
        if feeds is not None:
            feeds.pop(feed, None)
            if not feeds:
                del self._by_room[room_nid]

    @property
    def feed_count(self) -> int:
        return len(self._feeds)

    def each_feed(self, look: Callable[[Feed], None]) -> None:
        for feed in self._feeds.values():
            look(feed)
