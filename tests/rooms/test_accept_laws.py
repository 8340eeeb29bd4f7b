"""The law of the room engine: whatever people do at once, and whatever of it fails, memory says what the disk says."""

from __future__ import annotations

import random
from collections.abc import Coroutine
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred

from homeserver.errors import MatrixError
from homeserver.rooms.registry import Rooms
from homeserver.rooms.send import Sender
from storage import events as event_rows
from storage import memberships as membership_rows
from storage.ports import Cursor, EventAppend
from tests.fixtures_db import SERVER_NAME
from tests.fixtures_house import LivedInHouse
from tests.fixtures_rooms import user

PEOPLE = ("alice", "bob", "carol", "dave")
STEPS = 150
HABITS = {
    "say": 8, "say again": 2, "state": 4, "redact": 4, "join": 6, "leave": 2, "kick": 1, "ban": 1, "unban": 3,
    "invite": 2, "forget": 1, "levels": 1,
}  # fmt: skip
"""How often people do what."""


class DiskFull(Exception):
    pass


def fail(cursor: Cursor) -> None:
    raise DiskFull


@define
class Crowd:
    """People who do things without waiting for each other."""

    house: LivedInHouse
    dice: random.Random
    rooms: list[str]
    said: list[tuple[str, str]] = field(factory=list)
    """Room and event id of what was answered."""
    under_way: list[Deferred[Any]] = field(factory=list)
    count: int = 0

    def act(self) -> None:
        self.count += 1
        name, room_id = self.dice.choice(PEOPLE), self.dice.choice(self.rooms)
        (kind,) = self.dice.choices(list(HABITS), list(HABITS.values()))
        self.begin(self._work(kind, name, room_id), room_id)
        if self.dice.random() < 0.3:
            self.house.wait(self.house.house.database.run(lambda cursor: None))
        if self.dice.random() < 0.05:
            self.settle()
        if self.dice.random() < 0.05:
            self._make_space()

    def begin(self, work: Coroutine[Deferred[Any], Any, Any], room_id: str) -> None:
        def done(result: object) -> None:
            if isinstance(result, str):
                self.said.append((room_id, result))

        self.under_way.append(Deferred.fromCoroutine(work).addCallback(done))

    def settle(self) -> None:
        """Wait until everything under way has its answer, be it a refusal."""
        waiting, self.under_way = self.under_way, []
        for one in waiting:
            try:
                self.house.wait(one)
            except (MatrixError, DiskFull):
                continue

    def _work(self, kind: str, name: str, room_id: str) -> Coroutine[Deferred[Any], Any, Any]:
        sender, memberships = self.house.house.part(Sender), self.house.memberships
        who, target = self.house.who(name), user(self.dice.choice(PEOPLE))
        match kind:
            case "say":
                words = {"body": f"message {self.count}"}
                return sender.message(who, room_id, "m.room.message", words, str(self.count))
            case "say again":
                return sender.message(who, room_id, "m.room.message", {"body": "again"}, str(self.dice.randrange(5)))
            case "state":
                content = {"topic": self.dice.randrange(3)}
                return sender.state(who.user_id, room_id, "m.room.topic", self.dice.choice(("", "x")), content)
            case "levels":
                levels = {"users_default": self.dice.choice((0, 50)), "state_default": 50}
                return sender.state(user("alice"), room_id, "m.room.power_levels", "", levels)
            case "redact":
                place, event_id = self.dice.choice(self.said) if self.said else (room_id, "$nothing")
                return sender.redact(who, place, event_id, {"reason": "law"}, str(self.count))
            case "join":
                return memberships.join(room_id, who.user_id)
            case "leave":
                return memberships.leave(room_id, who.user_id)
            case "forget":
                return memberships.forget(room_id, who.user_id)
            case "kick":
                return memberships.kick(room_id, who.user_id, target)
            case "ban":
                return memberships.ban(room_id, who.user_id, target)
            case "unban":
                return memberships.unban(room_id, who.user_id, target)
            case _:
                return memberships.invite(room_id, who.user_id, target)

    def _make_space(self) -> None:
        """As if memory had run out: what may leave it does."""
        for room_id in self.rooms:
            room = self.house.house.rooms.peek(room_id)
            if room is not None and not room.queued:
                self.house.house.rooms.drop(room)
        held = list(self.house.house.events._held)
        self.house.house.events.forget(self.dice.sample(held, len(held) // 2))


@pytest.mark.parametrize("seed", range(6))
def test_memory_says_what_the_disk_says(
    house: LivedInHouse, seed: int, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    if not database_url.startswith("sqlite") and seed:
        seed += 100  # other stories for the other database
    dice = random.Random(seed)
    append = house.house.database.append

    def fail_sometimes(what: EventAppend) -> Deferred[None]:
        if dice.random() < 0.08 and what.new_room is None:
            what.also = [*what.also, fail]
        return append(what)

    monkeypatch.setattr(house.house.database, "append", fail_sometimes)
    versions = ("12", "10", "1")
    crowd = Crowd(house, dice, [house.create("alice", preset="public_chat", room_version=one) for one in versions])
    for name in PEOPLE:
        house.sync(name)
        for room_id in crowd.rooms:
            crowd.begin(house.memberships.join(room_id, user(name)), room_id)
    crowd.settle()
    for _ in range(STEPS):
        crowd.act()
    crowd.settle()
    check_rooms(house, crowd.rooms)
    check_cache(house)
    check_memberships(house, crowd.rooms)
    check_answers(house, crowd.said)


def check_rooms(house: LivedInHouse, room_ids: list[str]) -> None:
    """Each room in use is what would be read, at rest, with a window onto the newest of its timeline."""
    again = Rooms(house.house.database, house.house.events, house.house.hub, SERVER_NAME)
    for room_id in room_ids:
        live, read = house.wait(house.house.rooms.require(room_id)), house.wait(again.require(room_id))
        assert live.queued == 0 and not live.unwritten and live.standing is live.visible
        assert live.visible == read.visible and live.create.raw == read.create.raw
        for name in ("joined_count", "invited_count", "servers"):
            assert getattr(live, name) == getattr(read, name), name
        assert set(live.local_joined) == set(read.local_joined)
        timeline = house.wait(house.house.database.run(event_rows.timeline, live.nid, limit=1000))
        kept = [stored for stored in timeline if stored.position > live.window_floor]
        window = [entry.stored for entry in live.window if entry.stored is not None]
        assert [(one.position, one.event.raw, one.redacted_by) for one in window] == [
            (one.position, one.event.raw, one.redacted_by) for one in kept
        ]
        # One thread from the first event to the last: nothing that failed left a gap or a fork.
        assert [one.event.prev_events for one in timeline[1:]] == [(one.event.event_id,) for one in timeline[:-1]]
        assert live.visible.head.extremities == (timeline[-1].event.event_id,)
    assert house.house.rooms._loading == {} == house.house.rooms._asking
    assert house.house.hub.position <= house.house.database.counters.position - 1


def check_cache(house: LivedInHouse) -> None:
    held = dict(house.house.events._held)
    kept = house.wait(house.house.database.run(event_rows.load_events, list(held)))
    assert held.keys() == kept.keys()
    for nid, stored in held.items():
        assert (stored.event.raw, stored.redacted_by, stored.position) == (
            kept[nid].event.raw, kept[nid].redacted_by, kept[nid].position,
        )  # fmt: skip
        because, kept_because = stored.redacted_because, kept[nid].redacted_because
        assert (because and because.event.raw) == (kept_because and kept_because.event.raw)


def check_memberships(house: LivedInHouse, room_ids: list[str]) -> None:
    """State, table and feeds: one and the same."""
    rooms = {room_id: house.wait(house.house.rooms.require(room_id)) for room_id in room_ids}
    for name in PEOPLE:
        rows = house.wait(house.house.database.run(membership_rows.rooms_of, user(name)))
        assert {row.room_id: row.membership for row in rows} == {
            room_id: membership
            for room_id, room in rooms.items()
            if (membership := room.membership_of(user(name))) is not None
        }
        feed = house.house.hub.feed(user(name))
        assert feed is not None and set(feed.joined) == {row.room_nid for row in rows if row.membership == "join"}
        assert feed.joined == {row.room_nid: row.since for row in rows if row.membership == "join"}


def check_answers(house: LivedInHouse, said: list[tuple[str, str]]) -> None:
    """Whatever was answered is there."""
    kept = house.wait(house.house.database.run(event_rows.load_by_ids, [event_id for _, event_id in said]))
    assert len(said) > 20 and set(kept) == {event_id for _, event_id in said}
