"""Rooms in use: read once however many ask, never dropped while something is on its way to disk, waited for after a
failure, and never asked of the database under a name that no room can have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred

from homeserver.errors import Forbidden
from homeserver.rooms import registry
from homeserver.rooms.compose import Template
from homeserver.rooms.create import CreateRoom
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.registry import Rooms
from storage.database import Database
from storage.ports import Cursor
from tests.fixtures_db import SERVER_NAME
from tests.fixtures_rooms import Town, user

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@define
class Ledger:
    """The town's database, which notes what is read."""

    database: Database
    asked: list[str] = field(factory=list)

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        self.asked.append(f"{function.__name__} {args[0] if args else ''}")
        return self.database.run(function, *args, **kwargs)


@define
class Scene:
    town: Town
    ledger: Ledger
    rooms: Rooms
    """Another registry of the town's rooms, with nothing in it."""
    ids: list[str]
    nids: list[int]

    def begin(self, work: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(work)


@pytest.fixture
def scene(town: Town) -> Iterator[Scene]:
    ids = [town.create("alice", preset="public_chat") for _ in range(4)]
    ledger = Ledger(town.database)
    rooms = Rooms(ledger, town.events, town.hub, SERVER_NAME)  # type: ignore[arg-type]
    yield Scene(town, ledger, rooms, ids, [town.room(room_id).nid for room_id in ids])


def at_rest(rooms: Rooms) -> bool:
    return not rooms._loading and not rooms._asking and not rooms._condemned


@on_sqlite
def test_a_room_is_read_once_however_many_ask(scene: Scene) -> None:
    one, nid = scene.ids[0], scene.nids[0]
    asked = [scene.begin(work) for work in (scene.rooms.get(one), scene.rooms.get(one), scene.rooms.get_many([nid]))]
    first, second, many = [scene.town.wait(answer) for answer in asked]
    assert first is second is many[nid] is scene.rooms.peek(one) is scene.rooms.peek_nid(nid)
    assert scene.ledger.asked == [f"find_nid {one}", f"read_rooms {[nid]}"]
    assert scene.town.wait(scene.rooms.require(one)) is first and len(scene.rooms) == 1
    assert len(scene.ledger.asked) == 2


@on_sqlite
def test_many_rooms_of_which_some_are_being_read(scene: Scene) -> None:
    a, b, c, d = scene.nids
    first = scene.begin(scene.rooms.get_many([a, b]))
    second = scene.begin(scene.rooms.get_many([a, c, b, d, d, 999]))
    assert list(scene.town.wait(first)) == [a, b]
    assert set(scene.town.wait(second)) == {a, b, c, d}
    assert scene.ledger.asked == [f"read_rooms {[a, b]}", f"read_rooms {[c, d, 999]}"]


@on_sqlite
def test_more_rooms_than_may_be_kept_are_all_given(scene: Scene) -> None:
    scene.rooms.max_weight = 40  # a room like these weighs 25
    found = scene.town.wait(scene.rooms.get_many(scene.nids))
    assert list(found) == scene.nids
    assert {room.nid: room.membership_of(user("alice")) for room in found.values()} == dict.fromkeys(scene.nids, "join")
    assert len(scene.rooms) == 1


@on_sqlite
def test_those_not_used_for_longest_leave_first(scene: Scene) -> None:
    a, b, c, d = scene.nids
    weight = 20 + len(scene.town.room(scene.ids[0]).visible.state)
    scene.rooms.max_weight = weight * 3
    scene.town.wait(scene.rooms.get_many([a, b, c]))
    scene.town.wait(scene.rooms.get_many([a]))
    scene.town.wait(scene.rooms.get(scene.ids[1]))
    scene.town.wait(scene.rooms.get_many([d]))
    # A tenth of the space is made free beyond what is needed.
    assert [nid for nid in scene.nids if scene.rooms.peek_nid(nid)] == [b, d]


@on_sqlite
def test_weights_are_taken_again_as_rooms_grow(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    room_id = town.create("alice", preset="public_chat")
    for number in range(40):
        town.join(f"user{number}", room_id)
    grown = town.room(room_id)
    town.rooms.max_weight = 80
    monkeypatch.setattr(registry, "RECOUNT_AFTER", 2)
    town.create("alice")
    town.create("alice")
    assert town.rooms.peek(room_id) is None
    # However often a room that grew leaves: the sum stays one of weights.
    for _ in range(3):
        grown = town.room(room_id)
        town.rooms.drop(grown)
    others = [town.rooms.peek_nid(nid) for nid in range(1, 9)]
    assert town.rooms._weight == sum(20 + len(room.visible.state) for room in others if room is not None)


@on_sqlite
def test_what_is_on_its_way_to_disk_keeps_its_room(town: Town) -> None:
    busy, idle = (town.create("alice", preset="public_chat") for _ in range(2))
    live = town.room(busy)
    town.rooms.max_weight = 1
    sending = Deferred.fromCoroutine(town.door.send(busy, [Template("m.room.message", user("alice"), {"body": "hi"})]))
    assert live.queued == 1
    making = Deferred.fromCoroutine(town.maker.create(user("alice"), CreateRoom()))
    assert town.rooms.peek(busy) is live and town.rooms.peek(idle) is None
    town.wait(sending)
    newest = town.wait(making)
    assert town.rooms.peek(newest) is not None
    assert town.rooms.peek(busy) is live, "nobody needed the space since"
    town.room(idle)
    assert town.rooms.peek(busy) is None and town.rooms.peek(newest) is None


@pytest.mark.parametrize(
    "room_id",
    [
        *("", "!", "room", "#alias:test.example", "$event", "!no\0where:test.example", "!\0", "!nowhere:not a server"),
        *("!" + "x" * 10_240, "!" + "x" * 250 + ":test.example", "!" + "ö" * 130, "!\ud800:test.example"),
    ],
)
@on_sqlite
def test_what_is_no_room_id_is_not_looked_up(scene: Scene, room_id: str) -> None:
    assert scene.town.wait(scene.rooms.get(room_id)) is None
    with pytest.raises(Forbidden):
        scene.town.wait(scene.rooms.require(room_id))
    assert scene.ledger.asked == []


def _note(served: list[int], number: int, room: LiveRoom) -> LiveRoom:
    served.append(number)
    return room


@on_sqlite
def test_who_asks_first_is_served_first(scene: Scene) -> None:
    served: list[int] = []
    asked = [scene.begin(scene.rooms.get(scene.ids[0])) for _ in range(4)]
    for number, answer in enumerate(asked):
        answer.addCallback(partial(_note, served, number))
    for answer in asked:
        scene.town.wait(answer)
    assert served == [0, 1, 2, 3]


def test_an_unknown_room_is_none(scene: Scene) -> None:
    unknown = ["!nowhere:test.example", "!" + "A" * 43, "!" + "ö" * 127, "!'); DROP TABLE rooms; --:x", "!%s?:x"]
    asked = [scene.begin(scene.rooms.get(room_id)) for room_id in [*unknown, *unknown]]
    assert [scene.town.wait(answer) for answer in asked] == [None] * 10
    assert len(scene.ledger.asked) == 5
    assert scene.town.wait(scene.rooms.get_many([77, 78])) == {}
    assert scene.town.wait(scene.rooms.get_many([])) == {}
    assert at_rest(scene.rooms) and len(scene.rooms) == 0


@on_sqlite
def test_condemned_rooms_are_waited_for(scene: Scene) -> None:
    a, b, c, _ = scene.nids
    condemned: LiveRoom = scene.town.wait(scene.rooms.get_many([a]))[a]
    scene.rooms.condemn(condemned)
    scene.rooms.condemn(condemned)
    assert scene.rooms.peek(scene.ids[0]) is None
    by_id = scene.begin(scene.rooms.get(scene.ids[0]))
    by_nid = scene.begin(scene.rooms.get_many([b, a, c]))
    assert set(scene.town.wait(scene.rooms.get_many([b, c]))) == {b, c}
    scene.town.wait(scene.town.database.run(_nothing))
    assert not by_id.called and not by_nid.called
    scene.rooms.drop(condemned)
    fresh = scene.town.wait(by_id)
    assert fresh is not condemned and scene.town.wait(by_nid)[a] is fresh
    assert scene.ledger.asked.count(f"read_rooms {[a]}") == 2
    assert at_rest(scene.rooms)


def _nothing(cursor: Cursor) -> None:
    """Whatever was asked of the readers before has been answered when this is."""


@on_sqlite
def test_a_failed_read_fails_alone(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    one, nid = scene.ids[0], scene.nids[0]
    good = registry.read_rooms
    monkeypatch.setattr(registry, "read_rooms", _fail)
    first = scene.begin(scene.rooms.get(one))
    second = scene.begin(scene.rooms.get_many([nid]))
    third = scene.begin(scene.rooms.get(one))
    for broken in (first, second, third):
        with pytest.raises(RuntimeError, match="the disk is on fire"):
            scene.town.wait(broken)
    monkeypatch.setattr(registry, "read_rooms", good)
    assert scene.town.wait(scene.rooms.get(one)) is not None and at_rest(scene.rooms)


def _fail(cursor: Cursor, nids: list[int]) -> list[Any]:
    raise RuntimeError("the disk is on fire")


@on_sqlite
def test_a_reader_that_hangs_up_takes_nobody_along(scene: Scene) -> None:
    one = scene.ids[0]
    first, second, third = (scene.begin(scene.rooms.get(one)) for _ in range(3))
    for gone in (first, second):
        gone.addErrback(lambda failure: None)
        gone.cancel()
    assert scene.town.wait(third) is scene.rooms.peek(one) is not None
    assert at_rest(scene.rooms)


@on_sqlite
def test_a_room_that_is_known_by_an_invitation_only_is_none(scene: Scene) -> None:
    def invited_from_afar(cursor: Cursor) -> None:
        cursor.execute(
            "INSERT INTO rooms (nid, room_id, version, creator, room_type, extremities, depth, snapshot, newest,"
            " oldest) VALUES (900, '!far:elsewhere', '10', '@a:elsewhere', NULL, ?, 0, 0, 0, 0)",
            (b"[]",),
        )

    scene.town.wait(scene.town.database.write(invited_from_afar))
    both = [scene.begin(scene.rooms.get("!far:elsewhere")) for _ in range(2)]
    assert [scene.town.wait(one) for one in both] == [None, None]
