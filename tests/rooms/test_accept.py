"""The one door: what is queued builds on what is queued before it, nobody sees anything before its commit, and an
append that fails takes nothing along but what was built upon it, which is composed afresh.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from attrs import define
from twisted.internet.defer import Deferred, fail

from federation.room.versions import ROOM_VERSIONS
from homeserver.errors import Forbidden, MatrixError, Unavailable
from homeserver.rooms.accept import MAX_ATTEMPTS, Accepted, Door
from homeserver.rooms.compose import MAX_PREV_EVENTS, Draft, Template, found
from homeserver.rooms.live import WINDOW_EVENTS, LiveRoom, Standing
from homeserver.rooms.send import Sender
from storage import events as event_rows
from storage.database import CommitUnknown, RoomPoisoned
from storage.ports import Cursor, EventAppend, NewRoom, RoomHead, StoredEvent, Transaction
from storage.transactions import event_of
from tests.fixtures_house import LivedInHouse
from tests.fixtures_rooms import Town, user

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class Boom(Exception):
    pass


def explode(cursor: Cursor) -> None:
    raise Boom


def message(name: str, text: str) -> Template:
    return Template("m.room.message", user(name), {"msgtype": "m.text", "body": text})


@contextmanager
def writer_held(town: Town) -> Iterator[None]:
    """Meanwhile nothing is committed; what is queued in it is then written as one batch."""
    go = threading.Event()
    held = town.database.write(lambda cursor: go.wait(30))
    try:
        yield
    finally:
        go.set()
        town.wait(held)


def begin(town: Town, room_id: str, *templates: Template, **how: Any) -> Deferred[list[StoredEvent]]:
    return Deferred.fromCoroutine(town.door.send(room_id, templates, **how))


def said(town: Town, room_id: str) -> list[str]:
    """The bodies of all messages that the database has of a room, in order."""
    events = town.wait(town.database.run(event_rows.timeline, town.room(room_id).nid, limit=1000))
    return [stored.event.content["body"] for stored in events if stored.event.type == "m.room.message"]


def at_rest(room: LiveRoom) -> bool:
    return room.queued == 0 and not room.unwritten and room.standing is room.visible


def test_readers_see_nothing_before_the_commit(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    since = house.sync("alice")["next_batch"]
    hub, door = house.house.hub, _door(house)
    live = house.wait(house.house.rooms.require(room_id))
    position, visible, window = hub.position, live.visible, list(live.window)
    go = threading.Event()
    held = house.house.database.write(lambda cursor: go.wait(30))
    waiting = house.start_sync("alice", since, timeout_ms=30_000)
    name = Template("m.room.name", user("alice"), {"name": "New"}, "")
    sent = Deferred.fromCoroutine(door.send(room_id, [name, message("alice", "hello")]))
    assert live.queued == 1 and len(live.unwritten) == 2 and live.standing.head.depth == visible.head.depth + 2
    assert (live.visible, list(live.window), hub.position) == (visible, window, position)
    newest = live.standing.head.extremities[0]
    assert newest not in house.page("alice", room_id, None, None)
    assert not waiting.called and not sent.called
    assert all(house.house.events.peek(nid) is None for nid in live.unwritten)
    go.set()
    house.wait(held)
    stored = house.wait(sent)
    house.advance(0)
    assert newest.encode() in house.wait(waiting)
    assert at_rest(live) and hub.position == stored[-1].position == live.window[-1].position
    assert [house.house.events.peek(one.nid) for one in stored] == stored


def _door(house: LivedInHouse) -> Door:
    return house.house.part(Sender).door


class Silent:
    """The notice of a commit that nobody heard of."""

    position = 0

    def publish(self, hub: Any) -> None: ...


@on_sqlite
def test_a_commit_of_which_nobody_knows(house: LivedInHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection was lost while it was done, and could not be asked afterwards: in truth it is there."""
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    since = house.sync("bob")["next_batch"]
    live = house.wait(house.house.rooms.require(room_id))
    append = house.house.database.append

    def lose_the_answer(what: EventAppend) -> Deferred[None]:
        what.notice = Silent()
        return append(what).addCallback(_lost)

    with monkeypatch.context() as patch:
        patch.setattr(house.house.database, "append", lose_the_answer)
        with pytest.raises(CommitUnknown):
            house.say("alice", room_id, "there", txn_id="t1")
    fresh = house.wait(house.house.rooms.require(room_id))
    assert fresh is not live and at_rest(fresh) and fresh.visible.head.depth == live.visible.head.depth + 1
    # Repeating the request finds it, and what comes next shows both.
    event_id = house.say("alice", room_id, "there", txn_id="t1")
    after = house.say("alice", room_id, "after", txn_id="t2")
    timeline = house.sync("bob", since)["rooms"]["join"][room_id]["timeline"]
    assert [event["event_id"] for event in timeline["events"]] == [event_id, after]
    assert event_id in house.page("bob", room_id, None, None)


def _lost(nothing: None) -> None:
    raise CommitUnknown("the connection was lost")


@pytest.mark.parametrize("in_one_batch", [True, False])
def test_a_failed_append_is_as_if_it_had_never_been(house: LivedInHouse, in_one_batch: bool) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    other = house.create("alice")
    since = house.sync("bob")["next_batch"]
    door, database = _door(house), house.house.database
    live = house.wait(house.house.rooms.require(room_id))
    elsewhere = house.wait(house.house.rooms.require(other))
    extremity = live.visible.head.extremities[0]
    transaction = Transaction(user("alice"), "DEVICE", f"send/{room_id}/m.room.message", "t1")
    go = threading.Event()
    held = database.write(lambda cursor: go.wait(30)) if in_one_batch else None
    doomed = Deferred.fromCoroutine(
        door.send(room_id, [message("alice", "doomed")], transaction=transaction, also=[explode])
    )
    (lost,) = live.unwritten.values()
    after = [Deferred.fromCoroutine(door.send(room_id, [message("bob", f"after {number}")])) for number in range(3)]
    beside = Deferred.fromCoroutine(door.send(other, [message("alice", "beside")]))
    assert live.queued == 4
    go.set()
    if held is not None:
        house.wait(held)
    with pytest.raises(Boom):
        house.wait(doomed)
    (first,), (second,), (third,) = [house.wait(one) for one in after]
    house.wait(beside)

    # It never was: neither in the database, nor in the graph, nor in the sender's transactions.
    assert first.event.prev_events == (extremity,)
    assert second.event.prev_events == (first.event.event_id,) and third.event.prev_events == (second.event.event_id,)
    assert house.wait(database.run(event_rows.load_by_ids, [lost.event.event_id])) == {}
    assert house.wait(database.run(event_of, transaction)) is None
    # The room was read again; another room was left alone; nothing is kept of either.
    fresh = house.house.rooms.peek(room_id)
    assert fresh is not None and fresh is not live and house.house.rooms.peek(other) is elsewhere
    assert at_rest(fresh) and at_rest(elsewhere) and live.queued == 0 and not live.unwritten
    assert house.house.events.peek(lost.nid) is None
    # What is read from memory and what is read from the database is the same.
    answer = house.sync("bob", since)["rooms"]["join"]
    assert set(answer) == {room_id}
    timeline = answer[room_id]["timeline"]
    assert [event["content"]["body"] for event in timeline["events"]] == ["after 0", "after 1", "after 2"]
    assert not timeline["limited"]
    everything = [one.event.event_id for (one,) in ([third], [second], [first])]
    assert house.page("bob", room_id, None, None)[:4] == [*everything, house.page("bob", room_id, None, None)[3]]
    assert lost.event.event_id not in house.page("bob", room_id, None, None)


@on_sqlite
def test_what_was_built_on_a_failed_event_is_judged_afresh(town: Town) -> None:
    room_id = town.create("alice", preset="public_chat")
    town.join("bob", room_id)
    levels = {"users": {user("bob"): 50}}
    with writer_held(town):
        promotion = begin(town, room_id, Template("m.room.power_levels", user("alice"), levels, ""), also=[explode])
        topic = begin(town, room_id, Template("m.room.topic", user("bob"), {"topic": "mine"}, ""))
        plain = begin(town, room_id, message("bob", "hello"))
        assert town.room(room_id).queued == 3
    with pytest.raises(Boom):
        town.wait(promotion)
    with pytest.raises(Forbidden):
        town.wait(topic)
    town.wait(plain)
    assert said(town, room_id) == ["hello"]
    # And the levels that never came into force are not remembered.
    levels_now = town.wait(town.door.power_levels(town.room(room_id)))
    assert levels_now.user(user("bob")) == 0
    town.send("alice", room_id, "m.room.power_levels", levels, "")
    town.send("bob", room_id, "m.room.topic", {"topic": "mine"}, "")


@on_sqlite
def test_a_join_that_waits_on_a_room_that_fails(town: Town) -> None:
    with writer_held(town):
        making = _made(town, also=[explode])
        (nid,) = [nid for nid in range(1, 20) if town.rooms.peek_nid(nid)]
        room = town.rooms.peek_nid(nid)
        assert room is not None and room.membership_of(user("alice")) is None
        joining = Deferred.fromCoroutine(town.memberships.join(room.room_id, user("bob")))
        town.wait(town.database.run(lambda cursor: None))
    with pytest.raises(Boom):
        town.wait(making)
    with pytest.raises(MatrixError):
        town.wait(joining)
    assert len(town.rooms) == 0 and room.queued == 0 and not room.unwritten
    assert town.wait(town.rooms.get(room.room_id)) is None and town.rooms._loading == {} == town.rooms._asking


def _made(town: Town, also: list[Callable[[Cursor], None]]) -> Deferred[None]:
    """A public room whose append has something to do beside."""
    draft = found(town.door.means, ROOM_VERSIONS["12"], None, Template("m.room.create", user("alice"), {}, ""))
    draft.add(Template("m.room.member", user("alice"), {"membership": "join"}, user("alice")))
    draft.add(Template("m.room.join_rules", user("alice"), {"join_rule": "public"}, ""))
    room = draft.room
    return town.door.append(draft, also=also, new_room=NewRoom(room.nid, room.room_id, "12", user("alice")))


@on_sqlite
def test_everything_returns_to_rest_after_a_storm(town: Town) -> None:
    rooms = [town.create("alice", preset="public_chat") for _ in range(3)]
    before = [town.room(room_id) for room_id in rooms]
    sends = []
    for number in range(120):
        also = [explode] if number % 7 == 0 else []
        sends.append(begin(town, rooms[number % 3], message("alice", str(number)), also=also))
    done = {number for number, send in enumerate(sends) if _succeeds(town, send)}
    assert done == {number for number in range(120) if number % 7}
    for index, room_id in enumerate(rooms):
        live = town.room(room_id)
        assert live is not before[index] and at_rest(live) and len(live.window) <= WINDOW_EVENTS
        # Those that were composed afresh may have changed places, but every one is there once.
        assert sorted(map(int, said(town, room_id))) == [number for number in sorted(done) if number % 3 == index]
        depths = [stored.event.depth for stored in (entry.stored for entry in live.window) if stored is not None]
        assert depths == sorted(depths)
    assert (
        town.rooms._loading == {} == town.rooms._asking
        and town.rooms._condemned == set()
        and town.database.queue_length == 0
    )


def _succeeds(town: Town, send: Deferred[Any]) -> bool:
    try:
        town.wait(send)
    except Boom:
        return False
    return True


@on_sqlite
def test_a_room_that_cannot_be_written_is_given_up(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    room_id = town.create("alice")
    nid = town.room(room_id).nid
    attempts = []

    def refuse(append: Any) -> Deferred[None]:
        attempts.append(append)
        return fail(RoomPoisoned(nid))

    with monkeypatch.context() as patch:
        patch.setattr(town.database, "append", refuse)
        with pytest.raises(Unavailable):
            town.say("alice", room_id, "hello")
    assert len(attempts) == MAX_ATTEMPTS
    assert at_rest(town.room(room_id))
    town.say("alice", room_id, "hello")


@on_sqlite
def test_several_events_are_one_unit(town: Town) -> None:
    room_id = town.create("alice")
    live = town.room(room_id)
    standing, counters = live.standing, town.database.counters
    with pytest.raises(Forbidden):
        town.wait(begin(town, room_id, message("alice", "one"), Template("m.room.topic", user("bob"), {}, "")))
    assert live.standing is standing and at_rest(live) and said(town, room_id) == []
    # Positions are taken by what is queued only, so that there are no gaps to wait for.
    position = counters.position
    one, two = town.wait(begin(town, room_id, message("alice", "one"), message("alice", "two")))
    assert (one.position, two.position) == (position, position + 1) and two.event.prev_events == (one.event.event_id,)


@on_sqlite
def test_a_check_sees_the_room_as_it_will_be(town: Town) -> None:
    room_id = town.create("alice", preset="public_chat")
    seen: list[bool] = []

    def look(draft: Draft) -> None:
        seen.append(("m.room.member", user("bob")) in draft.standing.state)

    with writer_held(town):
        joining = Deferred.fromCoroutine(town.memberships.join(room_id, user("bob")))
        town.wait(town.database.run(lambda cursor: None))
        begin(town, room_id, message("alice", "one"), check=look)
    town.wait(joining)
    assert seen == [True]


@pytest.mark.parametrize("version", ["1", "12"])
def test_nothing_need_be_in_memory(town: Town, version: str) -> None:
    room_id = town.create("alice", preset="public_chat", room_version=version)
    town.join("bob", room_id)
    town.events._max_bytes = 1
    town.events.forget(range(1, 100))
    assert len(town.events) == 0
    for _ in range(2):
        town.rooms.drop(town.room(room_id))
        stored = town.send("bob", room_id, "m.room.message", {"body": "hello"})
        assert stored.event.prev_events and len(stored.event.auth_events) == (2 if version == "12" else 3)
    sends = [begin(town, room_id, message(name, name)) for name in ("alice", "bob", "alice", "bob")]
    for send in sends:
        town.wait(send)
    assert at_rest(town.room(room_id))


@on_sqlite
def test_a_room_with_many_extremities(town: Town) -> None:
    room_id = town.create("alice")
    live = town.room(room_id)
    ids = tuple(f"$fork{number}" for number in range(MAX_PREV_EVENTS))
    head = live.standing.head
    live.standing = Standing(RoomHead(ids, 2**53 - 1, head.snapshot), live.standing.state)
    stored = town.send("alice", room_id, "m.room.message", {"body": "joins them"})
    assert stored.event.prev_events == ids and stored.event.depth == 2**53 - 1
    assert live.standing.head.extremities == (stored.event.event_id,)
    town.rooms.drop(live)
    assert town.room(room_id).standing.head == live.standing.head


@on_sqlite
def test_whoever_cannot_be_does_not_stop_the_batch(town: Town) -> None:
    room_id, other = town.create("alice"), town.create("alice")
    strange = [
        Template("m.room.member", user("alice"), {"membership": membership}, key)
        for key, membership in (
            ("nobody", "invite"),
            ("", "ban"),
            (":", "invite"),
            ("a\0b", "ban"),
            ("x:y:z", "invite"),
        )
    ]
    with writer_held(town):
        sends = [begin(town, room_id, template) for template in strange]
        sends += [begin(town, other, message("alice", "beside"))]
    for send in sends:
        town.wait(send)
    assert at_rest(town.room(room_id)) and at_rest(town.room(other))
    assert town.hub.position == town.database.counters.position - 1
    town.rooms.drop(town.room(room_id))
    assert town.room(room_id).invited_count == 3


@define(eq=False)
class Clumsy:
    """An observer that breaks its word."""

    told: int = 0

    def accepted(self, accepted: Accepted) -> None:
        self.told += 1
        if self.told == 1:
            raise RuntimeError("did not expect that")


@on_sqlite
def test_an_observer_that_fails_does_not_stop_the_batch(town: Town) -> None:
    room_id, other = town.create("alice"), town.create("alice")
    clumsy = Clumsy()
    town.door.observers.append(clumsy)
    with writer_held(town):
        sends = [begin(town, one, message("alice", "hello")) for one in (room_id, other, room_id)]
    for send in sends:
        town.wait(send)
    assert clumsy.told == 3 and at_rest(town.room(room_id)) and at_rest(town.room(other))
    assert town.hub.position == town.database.counters.position - 1


@on_sqlite
def test_a_read_that_a_redaction_overtakes_does_not_bring_it_back(town: Town) -> None:
    room_id = town.create("alice")
    stored = town.send("alice", room_id, "m.room.message", {"body": "secret"})
    beside = town.send("alice", room_id, "m.room.message", {"body": "harmless"})
    pruned = msgspec.structs.replace(stored, redacted_by=1)
    town.events.forget([stored.nid, beside.nid])
    reading = Deferred.fromCoroutine(town.events.get_many([stored.nid, beside.nid]))
    town.events.rewrite(pruned)
    assert town.wait(reading)[stored.nid] is pruned
    assert town.events.peek(stored.nid) is pruned and town.events.peek(beside.nid) is None
    # The same where the new form has left the memory already.
    reading = Deferred.fromCoroutine(town.events.get_many([stored.nid]))
    town.events.forget([stored.nid])
    town.wait(reading)
    assert town.events.peek(stored.nid) is None
    assert town.events.held_bytes >= 0
    town.wait(town.events.get_many([stored.nid, beside.nid]))
    assert town.events.peek(stored.nid) is not None


@on_sqlite
def test_the_cache_of_events_keeps_to_its_size(town: Town) -> None:
    room_id = town.create("alice")
    sent = [town.send("alice", room_id, "m.room.message", {"body": "x" * 1000}) for _ in range(10)]
    everything = [stored.nid for stored in sent]
    town.events.forget(range(1, 1000))
    assert (len(town.events), town.events.held_bytes) == (0, 0)
    town.events._max_bytes = 12_000
    found = town.wait(town.events.get_many([*everything, 999_999]))
    assert list(found) == everything and 0 < len(town.events) < 5 and town.events.held_bytes <= 12_000
    for stored in sent:
        town.events.put(stored)
        town.events.put(stored)
    assert town.events.held_bytes <= 12_000 and town.events.peek(sent[-1].nid) is sent[-1]
    town.events.forget(everything)
    assert town.events.held_bytes == 0
