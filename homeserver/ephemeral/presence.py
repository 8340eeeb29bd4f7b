"""Who is here: presence in memory, told to those who share a room, written down now and then.

    /sync, PUT status, messages ── Person (homeserver.ephemeral.person) ── differs? ── pending
                                                                                         │ half a second, all together
    readers' feeds are marked and woken ◄── a serial each, newest last in the log ◄──────┘

Changes are gathered before they are told: at start, or when a train leaves a tunnel, many people come at once, and each
reader is woken once. Rooms in which very many are connected carry no presence (`presence.largest_crowd`).

Spec: https://spec.matrix.org/v1.19/client-server-api/#presence
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Sized
from typing import Any, Protocol

import msgspec
import orjson
from twisted.internet.interfaces import IDelayedCall

from config import Presence
from homeserver.clock import Clock
from homeserver.ephemeral.person import INVISIBLE, OFFLINE, ONLINE, Mood, Person, Wish
from homeserver.ephemeral.stranger import Said, Stranger
from homeserver.errors import Forbidden
from homeserver.streams.hub import Feed, Hub
from homeserver.tasks import Tasks
from storage import memberships as membership_rows
from storage import presence as rows
from storage.database import Database
from storage.ports import Cursor
from storage.presence import SavedPresence

TELL_SECONDS = 0.5
"""How long changes are gathered."""
LOOK_SECONDS = 10.0
"""How often time is let do its work."""
SAVE_SECONDS = 60.0
RETURN_MS = 60_000
"""After a new start, who was here before is taken for gone unless heard of within this time."""
MAX_GONE = 2000
"""People who have gone that are remembered, for readers who have not heard of it yet."""
MAX_STRANGERS = 20_000
"""People of other servers."""

MOOD = "chat.guildhall.status"
"""In what people are told of themselves: the mood that they chose."""

Names = tuple[str | None, str | None]


class Glance(msgspec.Struct, frozen=True):
    """How somebody is, to others."""

    state: Wish
    status_msg: str | None
    last_seen_ts: int | None
    """In ms since 1970; None: never."""


class PresenceListener(Protocol):
    """Told how somebody is, and of the rooms in which that matters: must not wait and must not raise."""

    def presence_told(self, room_nids: Collection[int], user_id: str, content: Mapping[str, Any]) -> None: ...


class PresenceBoard:
    """Everybody's presence. Its methods cost nothing much where nothing differs."""

    def __init__(
        self,
        hub: Hub,
        database: Database,
        clock: Clock,
        settings: Presence,
        tasks: Tasks,
        names: Callable[[str], Names | None],
    ) -> None:
        """`names` gives display name and avatar of a user where they are at hand; it must not wait."""
        self._hub = hub
        self._database = database
        self._clock = clock
        self._settings = settings
        self._tasks = tasks
        self._names = names
        self._people: dict[str, Person] = {}
        self._log: dict[str, int] = {}
        """User → serial of what was last told of the person, newest last."""
        self._pending: dict[str, Person] = {}
        self._unread: set[str] = set()
        """People of whom the database has not been asked yet."""
        self._strays: dict[str, Collection[int]] = {}
        """The rooms of people who are here without ever calling /sync."""
        self._gone: dict[str, Collection[int]] = {}
        """The rooms that people were in when they went: their feeds are closed some time after."""
        self._unsaved: dict[str, Person] = {}
        self._telling = 0
        """How many tellings are under way: nobody may be forgotten meanwhile."""
        self._strangers: set[str] = set()
        """Those among the people who belong to other servers: of them nothing is written down."""
        self._reading = False
        self._tell_timer: IDelayedCall | None = None
        self._look_timer: IDelayedCall | None = None
        self._next_save = 0.0
        self.listeners: list[PresenceListener] = []

    # -- what people do ----------------------------------------------------------------------------------------

    def seen(self, user_id: str, set_presence: Wish | None = None, device_id: str = "", timeout_ms: int = 0) -> None:
        """A device calls /sync, and may wait for `timeout_ms`. `set_presence` is what it says itself, or None."""
        if self._settings.enabled:
            person = self._people.get(user_id)
            if person is None:
                if set_presence == OFFLINE:
                    return
                person = self._meet(user_id)
            if person.sync(device_id, set_presence, self._clock.now_ms(), timeout_ms):
                self._differs(person)

    def active(self, user_id: str) -> None:
        """Someone did something that others see, such as sending a message."""
        person = self._people.get(user_id)
        if person is not None and person.act(self._clock.now_ms()):
            self._differs(person)

    def set(self, user_id: str, device_id: str, presence: Wish, status_msg: str | None) -> None:
        """Someone says how to be seen."""
        if self._settings.enabled:
            person = self._people.get(user_id) or self._meet(user_id)
            if person.say(device_id, presence, status_msg, self._clock.now_ms()):
                self._differs(person)

    async def choose(self, user_id: str, device_id: str, mood: Mood | None) -> None:
        """Someone chooses how to be seen whatever the devices say, until another mood is chosen; None: by those.

        Durable when it answers: after a crash nobody who was invisible is to be seen.
        """
        if not self._settings.enabled:
            return
        person = self._people.get(user_id) or self._meet(user_id)
        if user_id in self._unread:
            saved = (await self._database.run(rows.read, [user_id])).get(user_id)
            if saved is not None and user_id in self._unread:
                _fill(person, saved, self._clock.now_ms())
            self._unread.discard(user_id)
        before = person.mood
        if person.choose(device_id, mood, self._clock.now_ms()) or mood != before:
            self._differs(person)
        await self._database.write(rows.save, [_saved(person)])

    def joined(self, user_id: str) -> None:
        """A local user has come into a room: the others there should hear of the person."""
        person = self._people.get(user_id)
        if person is not None and person.state != OFFLINE:
            self._differs(person)

    async def receive(self, said: Mapping[str, Said]) -> None:
        """How people of another server are, by user id. Those with whom nobody here shares a room do not matter.

        That they belong to the server which says so must be certain.
        """
        if not self._settings.enabled:
            return
        unknown = [user_id for user_id, one in said.items() if user_id not in self._people and one.state != OFFLINE]
        acquainted = await self._database.run(membership_rows.joined_rooms, unknown) if unknown else {}
        now_ms = self._clock.now_ms()
        for user_id, one in said.items():
            person = self._people.get(user_id)
            if person is None and user_id in acquainted and len(self._strangers) < MAX_STRANGERS:
                person = self._people[user_id] = Stranger(user_id)
                self._strangers.add(user_id)
            if isinstance(person, Stranger) and person.hear(one, now_ms):
                self._differs(person)

    async def profile_changed(self, user_id: str, field: str) -> None:
        """Names are part of what others are told (`homeserver.userdata.profiles.ProfileListener`)."""
        if field in ("displayname", "avatar_url"):
            self.joined(user_id)

    async def account_registered(self, user_id: str, displayname: str | None) -> None:
        """Nobody has seen a new account yet (`homeserver.accounts.ports.AccountListener`)."""

    async def account_deactivated(self, user_id: str, *, erase: bool) -> None:
        """The account is closed: those who saw the person here are told that it is gone."""
        person = self._people.get(user_id)
        if person is not None:
            if person.leave():
                self._differs(person)
            self._unsaved.pop(user_id, None)
        await self._database.write(rows.delete, user_id)

    # -- what others see ---------------------------------------------------------------------------------------

    def changes(self, feed: Feed, after_serial: int) -> list[bytes]:
        """The `m.presence` events of what was told after a serial about people who share a room with the feed's user.

        After 0, for a first sync: of everybody who is not offline. The user is among them.
        """
        if not after_serial:
            return self.present(feed, feed.joined)
        if feed.presence <= after_serial and after_serial >= feed.serial_floor:
            return []
        now_ms = self._clock.now_ms()
        found = []
        for user_id in reversed(self._log):
            if self._log[user_id] <= after_serial:
                break
            if user_id == feed.user_id or self._meet_in_a_room(feed, user_id):
                found.append(self._event(self._people[user_id], now_ms, feed.user_id))
        return found

    def present(self, feed: Feed, room_nids: Iterable[int]) -> list[bytes]:
        """The `m.presence` events of everybody in some of the feed's rooms who is not offline."""
        users = {feed.user_id: None}
        for room_nid in room_nids:
            if not self._is_crowded(room_nid):
                users.update((other.user_id, None) for other in self._hub.feeds_of(room_nid))
        rooms = set(room_nids)
        users.update((user_id, None) for user_id, theirs in self._strays.items() if not rooms.isdisjoint(theirs))
        now_ms = self._clock.now_ms()
        # Of whom it is not read yet how they want to be seen, nobody else is told: they are about to be.
        known = [user_id for user_id in users if user_id == feed.user_id or user_id not in self._unread]
        people = [person for user_id in known if (person := self._people.get(user_id)) is not None]
        return [
            self._event(person, now_ms, feed.user_id)
            for person in people
            if person.state != OFFLINE or (person.mood == INVISIBLE and person.user_id == feed.user_id)
        ]

    async def status(self, viewer: str, user_id: str) -> dict[str, Any]:
        """The answer to `GET …/presence/{userId}/status`. Raises Forbidden for who shares no room with the viewer."""
        if viewer != user_id and not await self._database.run(membership_rows.share_a_room, viewer, user_id):
            raise Forbidden("You share no room with this user")
        if not self._settings.enabled:
            return {"presence": OFFLINE}
        person = self._people.get(user_id)
        if person is None or user_id in self._unread:
            saved = (await self._database.run(rows.read, [user_id])).get(user_id)
            if person is None:
                person = Person(user_id)
            if saved is not None:
                _fill(person, saved, self._clock.now_ms())
        return self._content(person, self._clock.now_ms(), is_own=viewer == user_id)

    async def glance(self, user_ids: Sequence[str]) -> dict[str, Glance]:
        """How some people are, and when they were last seen, for somebody who shares a room with each."""
        missing = [one for one in user_ids if one not in self._people or one in self._unread]
        saved = await self._database.run(rows.read, missing) if self._settings.enabled else {}
        found: dict[str, Glance] = {}
        for user_id in user_ids:
            person = self._people.get(user_id) or Person(user_id)
            if user_id in saved:
                person = person if user_id in self._people else Person(user_id)
                _fill(person, saved[user_id], self._clock.now_ms())
            words = None if person.mood == INVISIBLE else person.status_msg
            found[user_id] = Glance(person.state, words, person.last_active_ms or None)
        return found

    def peek(self, user_id: str) -> str:
        """Whether somebody is online, as far as is in memory, for who shares a room with them. Never waits."""
        person = self._people.get(user_id)
        return OFFLINE if person is None or user_id in self._unread else person.state

    # -- start and end -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Remember who was here before the server was started anew: who does not come back is told to be gone."""
        if not self._settings.enabled:
            return
        until_ms = self._clock.now_ms() + RETURN_MS
        for saved in await self._database.run(rows.not_offline):
            if saved.user_id not in self._people:
                person = self._people[saved.user_id] = Person(saved.user_id)
                _fill(person, saved, self._clock.now_ms())
                person.was_here(_wish(saved.state), until_ms)
        self._look_soon()

    async def close(self) -> None:
        """Write down what is not written yet."""
        for timer in (self._tell_timer, self._look_timer):
            if timer is not None:
                timer.cancel()
        self._tell_timer = self._look_timer = None
        unread = [user_id for user_id in self._unsaved if user_id in self._unread]
        if unread:
            self._learn(unread, await self._database.run(rows.read, unread))
        await self._save()

    # ----------------------------------------------------------------------------------------------------------

    def _meet(self, user_id: str) -> Person:
        person = self._people[user_id] = Person(user_id)
        self._unread.add(user_id)
        if not self._reading:
            self._reading = True
            self._tasks.spawn("presence.read", self._read_moods())
        return person

    async def _read_moods(self) -> None:
        """Find out how those want to be seen who are met for the first time, so that newcomers to a room see them."""
        try:
            while unread := list(self._unread):
                self._learn(unread, await self._database.run(rows.read, unread))
                for user_id in unread:
                    # That somebody invisible is back is nobody's to know.
                    if (person := self._pending.get(user_id)) and person.mood == INVISIBLE and not person.has_chosen:
                        del self._pending[user_id]
        finally:
            self._reading = False

    def _differs(self, person: Person) -> None:
        self._pending[person.user_id] = person
        if person.user_id not in self._strangers:
            self._unsaved[person.user_id] = person
        if self._tell_timer is None:
            self._tell_timer = self._clock.timers.callLater(TELL_SECONDS, self._tell_soon)
        self._look_soon()

    def _tell_soon(self) -> None:
        self._tell_timer = None
        pending, self._pending = self._pending, {}
        self._tasks.spawn("presence.tell", self._tell_all(list(pending.values())))

    async def _tell_all(self, people: list[Person]) -> None:
        self._telling += 1
        try:
            await self._tell(people)
        finally:
            self._telling -= 1

    def _learn(self, unread: list[str], saved: Mapping[str, SavedPresence]) -> None:
        """What was written down of people that are known to be here."""
        for user_id in unread:
            if user_id in self._unread and user_id in saved:
                _fill(self._people[user_id], saved[user_id], self._clock.now_ms())
            self._unread.discard(user_id)

    async def _tell(self, people: list[Person]) -> None:
        unread = [person.user_id for person in people if person.user_id in self._unread]
        homeless = [person.user_id for person in people if self._hub.feed(person.user_id) is None]
        if unread or homeless:
            saved, rooms = await self._database.run(_read, unread, homeless)
            self._learn(unread, saved)
            # That somebody invisible is back is nobody's to know.
            people = [one for one in people if one.user_id not in unread or one.mood != INVISIBLE or one.has_chosen]
        else:
            rooms = {}
        marked: set[int] = set()
        for person in people:
            user_id = person.user_id
            serial = self._hub.next_serial()
            self._log.pop(user_id, None)
            self._log[user_id] = serial
            feed = self._hub.feed(user_id)
            theirs: Collection[int] = rooms.get(user_id, ()) if feed is None else feed.joined
            self._strays.pop(user_id, None)
            self._gone.pop(user_id, None)
            if person.state == OFFLINE:
                self._gone[user_id] = tuple(theirs)
            elif feed is None:
                self._strays[user_id] = theirs
            if feed is not None:
                feed.presence = serial
                self._hub.wake(feed)
            marked.update(theirs)
            self._tell_listeners(person, theirs)
        serial = self._hub.serial
        for room_nid in marked:
            if not self._is_crowded(room_nid):
                for feed in self._hub.feeds_of(room_nid):
                    if feed.presence < serial:
                        feed.presence = serial
                        self._hub.wake(feed)
        self._hub.wake_now()

    def _tell_listeners(self, person: Person, room_nids: Iterable[int]) -> None:
        if self.listeners:
            rooms = [room_nid for room_nid in room_nids if not self._is_crowded(room_nid)]
            content = self._content(person, self._clock.now_ms(), is_own=False)
            for listener in self.listeners:
                listener.presence_told(rooms, person.user_id, content)

    def _meet_in_a_room(self, feed: Feed, user_id: str) -> bool:
        theirs = self._hub.feed(user_id)
        if theirs is not None:
            common: Iterable[int] = theirs.joined.keys() & feed.joined.keys()
        else:
            rooms = self._strays.get(user_id) or self._gone.get(user_id, ())
            common = (room_nid for room_nid in rooms if room_nid in feed.joined)
        return any(not self._is_crowded(room_nid) for room_nid in common)

    def _is_crowded(self, room_nid: int) -> bool:
        feeds = self._hub.feeds_of(room_nid)
        return isinstance(feeds, Sized) and len(feeds) > self._settings.largest_crowd

    def _event(self, person: Person, now_ms: int, viewer: str) -> bytes:
        content = self._content(person, now_ms, is_own=person.user_id == viewer)
        displayname, avatar_url = self._names(person.user_id) or (None, None)
        if displayname is not None:
            content["displayname"] = displayname
        if avatar_url is not None:
            content["avatar_url"] = avatar_url
        return orjson.dumps({"content": content, "sender": person.user_id, "type": "m.presence"})

    def _content(self, person: Person, now_ms: int, *, is_own: bool) -> dict[str, Any]:
        """`is_own`: for the person, who may know what mood it is in."""
        content: dict[str, Any] = {"presence": person.state}
        if person.last_active_ms:
            content["last_active_ago"] = max(0, now_ms - person.last_active_ms)
        if person.state == ONLINE:
            content["currently_active"] = person.currently_active
        if person.status_msg is not None and (is_own or person.mood != INVISIBLE):
            content["status_msg"] = person.status_msg
        if is_own and person.mood is not None:
            content[MOOD] = person.mood
        return content

    def _look_soon(self) -> None:
        if self._look_timer is None:
            self._look_timer = self._clock.timers.callLater(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """Let time do its work; go on as long as there is anybody for whom it may."""
        self._look_timer = None
        now_ms = self._clock.now_ms()
        someone = False
        for person in self._people.values():
            if person.due_ms <= now_ms and person.look(now_ms):
                self._differs(person)
            someone = someone or person.state != OFFLINE
        if (self._unsaved or self._strangers) and self._clock.timers.seconds() >= self._next_save:
            self._next_save = self._clock.timers.seconds() + SAVE_SECONDS
            self._tasks.spawn("presence.save", self._save())
        if someone or self._unsaved:
            self._look_soon()

    async def _save(self) -> None:
        # What the database knows of the others is about to be read, and must not be written over before.
        ready = [person for user_id, person in self._unsaved.items() if user_id not in self._unread]
        if ready:
            for person in ready:
                del self._unsaved[person.user_id]
            await self._database.write(rows.save, [_saved(person) for person in ready])
        self._forget_gone()

    def _forget_gone(self) -> None:
        """Drop those who have been gone for the longest, once they are written down and have been told of."""
        if self._telling:
            return
        gone = [user_id for user_id in self._log if self._people[user_id].state == OFFLINE]
        for user_id in gone[: max(0, len(gone) - MAX_GONE)]:
            if user_id not in self._pending and user_id not in self._unsaved:
                del self._log[user_id], self._people[user_id]
                self._gone.pop(user_id, None)
                self._strangers.discard(user_id)


def _read(
    cursor: Cursor, unread: list[str], homeless: list[str]
) -> tuple[dict[str, SavedPresence], dict[str, frozenset[int]]]:
    return rows.read(cursor, unread), membership_rows.joined_rooms(cursor, homeless)


def _saved(person: Person) -> SavedPresence:
    return SavedPresence(person.user_id, person.state, person.status_msg, person.last_active_ms, person.mood)


def _fill(person: Person, saved: SavedPresence, now_ms: int) -> None:
    """Take over what was written down; what was seen since then is better known."""
    if not person.has_said:
        person.status_msg = saved.status_msg
    if not person.has_chosen:
        person.mood = _mood(saved.mood)
    is_hidden = person.mood == INVISIBLE and not person.has_chosen
    person.last_active_ms = saved.last_active_ts if is_hidden else max(person.last_active_ms, saved.last_active_ts)
    person.look(now_ms)


def _wish(state: str) -> Wish:
    match state:
        case "online" | "unavailable" | "busy":
            return state
        case _:
            return OFFLINE


def _mood(saved: str | None) -> Mood | None:
    match saved:
        case "away" | "busy" | "invisible":
            return saved
        case _:
            return None
