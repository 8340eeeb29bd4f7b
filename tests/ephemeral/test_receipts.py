"""Receipts as readers see them: from memory and from the database the same, private ones by nobody else."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.ephemeral import receipts as board_module
from homeserver.ephemeral.receipts import PRIVATE, READ, ReceiptBoard, render
from homeserver.errors import NotFound
from homeserver.userdata.read_markers import FULLY_READ, Mark
from storage.receipts import UNTHREADED, Receipt
from tests.fixtures_userdata import Household, user


class Scene:
    """A room with a few messages, and people who read them."""

    def __init__(self, household: Household, messages: int = 4) -> None:
        self.household = household
        self.town = household.town
        self.room_id = self.town.create("ann", preset="public_chat")
        for name in ("bob", "cat"):
            self.town.join(name, self.room_id)
        self.nid = household.nid(self.room_id)
        self.said = [self.town.say("ann", self.room_id, f"message {number}") for number in range(messages)]

    def mark(self, name: str, number: int, kind: str = READ, thread: str = UNTHREADED) -> None:
        marks = [Mark(kind, self.said[number], thread)]
        self.household.wait(self.household.markers.move(self.nid, user(name), marks))

    @property
    def now(self) -> int:
        return self.town.hub.position

    def seen_by(self, name: str, after: int = 0, board: ReceiptBoard | None = None) -> dict[str, Any]:
        """(event number, type) → users without their domains."""
        board = board or self.household.receipts
        json = self.household.wait(board.since(self.nid, user(name), after, self.now))
        if json is None:
            return {}
        event = orjson.loads(json)
        assert event["type"] == "m.receipt" and set(event) == {"type", "content"}
        found: dict[str, Any] = {}
        for event_id, kinds in event["content"].items():
            for kind, users in kinds.items():
                for user_id, about in users.items():
                    assert isinstance(about["ts"], int)
                    where = f"{self.said.index(event_id)} {kind}"
                    thread = about.get("thread_id")
                    shown = user_id.partition(":")[0][1:] + (f" in {thread}" if thread else "")
                    found.setdefault(where, []).append(shown)
        return found

    def fresh(self) -> ReceiptBoard:
        """A board that remembers nothing."""
        return ReceiptBoard(self.town.hub, self.town.database)


def test_receipts_are_seen_by_all_and_private_ones_by_their_owner(household: Household) -> None:
    scene = Scene(household)
    begun = scene.now
    scene.mark("ann", 1)
    scene.mark("bob", 2, PRIVATE)
    scene.mark("cat", 0)
    public = {"1 m.read": ["ann"], "0 m.read": ["cat"]}
    for after in (0, begun):
        for board in (household.receipts, scene.fresh(), scene.fresh()):
            assert scene.seen_by("ann", after, board) == public
            assert scene.seen_by("bob", after, board) == {**public, "2 m.read.private": ["bob"]}


def test_only_what_is_new_and_only_the_newest(household: Household) -> None:
    scene = Scene(household)
    scene.mark("ann", 0)
    first = scene.now
    scene.mark("bob", 0)
    scene.mark("bob", 1)
    second = scene.now
    for board in (household.receipts, scene.fresh()):
        assert scene.seen_by("cat", first, board) == {"1 m.read": ["bob"]}
        assert scene.seen_by("cat", second, board) == {}


def test_what_came_after_the_moment_that_is_answered_for_is_left_for_the_next(household: Household) -> None:
    scene = Scene(household)
    scene.mark("ann", 0)
    upto = scene.now
    scene.mark("bob", 0)
    for board in (household.receipts, scene.fresh()):
        json = household.wait(board.since(scene.nid, user("cat"), 0, upto))
        assert json is not None and user("bob").encode() not in json


def test_a_receipt_never_moves_back(household: Household) -> None:
    scene = Scene(household)
    scene.mark("ann", 2)
    before = scene.now
    scene.mark("ann", 1)
    scene.mark("ann", 2)
    assert scene.seen_by("bob") == {"2 m.read": ["ann"]} and scene.now == before
    # Each thread has a place of its own, and so have private receipts.
    scene.mark("ann", 0, READ, "main")
    scene.mark("ann", 1, PRIVATE)
    assert scene.seen_by("ann") == {"2 m.read": ["ann"], "0 m.read": ["ann in main"], "1 m.read.private": ["ann"]}


def test_a_position_that_nothing_was_written_at_is_seen_by_nobody(household: Household) -> None:
    scene = Scene(household)
    scene.mark("ann", 2)
    before = scene.now
    scene.mark("ann", 1)
    assert scene.now == before
    scene.mark("ann", 3)
    assert scene.now > before


def test_events_that_are_not_in_the_room_are_refused_and_nothing_is_written(household: Household) -> None:
    scene, other = Scene(household), Scene(household)
    before = scene.now
    for event_id in ("$nothing", other.said[0]):
        marks = [Mark(READ, scene.said[0]), Mark(PRIVATE, event_id)]
        with pytest.raises(NotFound):
            household.wait(household.markers.move(scene.nid, user("bob"), marks))
    assert scene.seen_by("bob") == {} and scene.now == before


def test_one_write_for_all_marks_of_a_request(household: Household) -> None:
    scene = Scene(household)
    feed = household.feed("bob")
    before = scene.now
    marks = [Mark(FULLY_READ, scene.said[1]), Mark(READ, scene.said[3]), Mark(PRIVATE, scene.said[2])]
    household.wait(household.markers.move(scene.nid, user("bob"), marks))
    assert scene.now == before + 1
    assert scene.seen_by("bob", before) == {"3 m.read": ["bob"], "2 m.read.private": ["bob"]}
    changes = household.wait(household.account_data.changes(user("bob"), before, scene.now))
    assert [orjson.loads(event) for event in changes.rooms[scene.nid]] == [
        {"type": "m.fully_read", "content": {"event_id": scene.said[1]}}
    ]
    assert feed.account == scene.now and feed.changed[scene.nid] == scene.now


def test_the_fully_read_marker_never_moves_back(household: Household) -> None:
    scene = Scene(household)
    scene.mark("bob", 2, FULLY_READ)
    before = scene.now
    scene.mark("bob", 1, FULLY_READ)
    assert scene.now == before
    scene.mark("bob", 3, FULLY_READ)
    content = household.wait(household.account_data.get(user("bob"), scene.nid, FULLY_READ))
    assert content is not None and orjson.loads(content) == {"event_id": scene.said[3]}


def test_who_is_woken(household: Household) -> None:
    scene = Scene(household)
    feeds = {name: household.feed(name) for name in ("ann", "bob", "stranger")}
    marks = {name: feed.marks for name, feed in feeds.items()}
    scene.mark("ann", 0, PRIVATE)
    assert feeds["ann"].marks == marks["ann"] + 1 and feeds["bob"].marks == marks["bob"]
    scene.mark("ann", 0)
    assert feeds["ann"].marks == marks["ann"] + 2 and feeds["bob"].marks == marks["bob"] + 1
    assert feeds["stranger"].marks == marks["stranger"]


def test_readers_share_the_bytes(household: Household) -> None:
    scene = Scene(household)
    before = scene.now
    scene.mark("ann", 0)
    scene.mark("bob", 1)

    def of(name: str) -> bytes | None:
        return household.wait(household.receipts.since(scene.nid, user(name), before, scene.now))

    assert of("cat") is of("ann") is of("bob")
    scene.mark("cat", 0, PRIVATE)
    assert of("ann") is of("bob") and of("cat") != of("ann")


def test_many_rooms_are_read_at_once(household: Household) -> None:
    scenes = [Scene(household) for _ in range(3)]
    scenes[0].mark("ann", 0)
    middle = scenes[0].now
    scenes[0].mark("bob", 0)
    scenes[1].mark("ann", 1)
    wants = {scenes[0].nid: middle, scenes[1].nid: 0, scenes[2].nid: 0, 999_999: 0}
    fresh = scenes[0].fresh()
    for _ in range(2):  # from the database, then from memory
        found = household.wait(fresh.since_many(wants, user("cat"), scenes[0].now))
        assert set(found) == {scenes[0].nid, scenes[1].nid}
        assert user("ann").encode() not in found[scenes[0].nid]


def test_after_a_first_sync_the_next_one_needs_no_database(household: Household) -> None:
    scene = Scene(household)
    scene.mark("ann", 0)
    board = scene.fresh()
    first = scene.seen_by("bob", 0, board)
    scene.mark("cat", 1)  # told to the household's board only
    assert scene.seen_by("bob", 0, board) == first
    assert board._rooms[scene.nid].floor == 0


def test_memory_is_bounded_and_what_left_it_is_read(household: Household, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "MAX_HELD_EACH", 2)
    monkeypatch.setattr(board_module, "MAX_HELD", 3)
    one, two = Scene(household), Scene(household)
    begun = one.now
    for scene in (one, two):
        for name in ("ann", "bob", "cat"):
            scene.mark(name, 0)
    assert household.receipts._held <= 3
    for scene in (one, two):
        for after in (0, begun):
            assert set(scene.seen_by("bob", after)["0 m.read"]) == {"ann", "bob", "cat"}


def test_in_a_huge_room_a_first_sync_shows_the_newest_and_ones_own(
    household: Household, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(household)
    scene.mark("ann", 0)
    scene.mark("bob", 1)
    scene.mark("cat", 2)
    monkeypatch.setattr(board_module, "MAX_SHOWN", 1)
    assert scene.seen_by("cat", 0, scene.fresh()) == {"2 m.read": ["cat"]}
    assert scene.seen_by("ann", 0, scene.fresh()) == {"2 m.read": ["cat"], "0 m.read": ["ann"]}


def receipt(thread: str, ts: int, user_id: str = "@ann:a.org", event_id: str = "$e") -> Receipt:
    return Receipt(1, user_id, READ, thread, event_id, ts, ts)


@pytest.mark.parametrize(
    ("threads", "shown"),
    [
        (["", "main"], {"ts": 0}),
        (["main", ""], {"ts": 1}),
        (["main", "$e"], {"ts": 1, "thread_id": "$e"}),
        (["$e", "main", ""], {"ts": 2}),
    ],
)
def test_of_two_receipts_at_one_event_the_one_for_the_whole_room_is_shown(
    threads: list[str], shown: dict[str, Any]
) -> None:
    json = render([receipt(thread, ts) for ts, thread in enumerate(threads)])
    assert orjson.loads(json)["content"] == {"$e": {"m.read": {"@ann:a.org": shown}}}


def test_a_closed_account_leaves_no_private_receipts(household: Household) -> None:
    scene = Scene(household)
    scene.mark("bob", 0)
    scene.mark("bob", 1, PRIVATE)
    household.wait(household.markers.account_deactivated(user("bob"), erase=False))
    assert scene.seen_by("bob", 0, scene.fresh()) == {"0 m.read": ["bob"]}


marks = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([READ, PRIVATE]), st.sampled_from(["", "main"])), max_size=25
)


class FakeHub:
    position = 0

    def mark_room(self, room_nid: int, position: int) -> None: ...

    def feed(self, user_id: str) -> None: ...


@given(marks=marks, cut=st.integers(0, 25), each=st.integers(1, 6))
def test_small_steps_add_up_to_a_large_one(marks: list[tuple[str, str, str]], cut: int, each: int) -> None:
    """What a reader hears in two steps is what it hears in one; where memory has gaps it says so."""
    hub = FakeHub()
    board = ReceiptBoard(hub, None)  # type: ignore[arg-type]
    newest: dict[tuple[str, str, str], int] = {}
    for position, (name, kind, thread) in enumerate(marks, start=1):
        board.publish([Receipt(1, name, kind, thread, f"$e{position}", position, position)])
        newest[name, kind, thread] = position
    room = board._rooms.get(1)
    if room is None:
        return
    for viewer in "abc":
        json = board_module._from_memory(room, viewer, cut, len(marks))
        heard = set() if json is None else set(orjson.loads(json)["content"])
        wanted = {
            f"$e{position}"
            for (name, kind, _), position in newest.items()
            if position > cut and (kind == READ or name == viewer)
        }
        assert heard == wanted
