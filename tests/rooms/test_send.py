"""Saying things: what becomes an event, what is refused and how, and that nothing odd reaches a database unasked."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from twisted.internet.defer import Deferred

from federation.room.canonical import MAX_DEPTH
from homeserver.errors import BadJson, Forbidden, MatrixError
from homeserver.harness.person import V3, in_path
from homeserver.http.route import Requester
from homeserver.rooms.render import Reader, client_event
from homeserver.rooms.send import Sender
from storage import events as event_rows
from storage.ports import StoredEvent
from tests.fixtures_house import LivedInHouse
from tests.fixtures_rooms import user
from tests.fixtures_server import ServerProcess

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

ALICE, BOB = user("alice"), user("bob")
MAX_INTEGER = 2**53 - 1


def send(
    house: LivedInHouse,
    name: str,
    room_id: str,
    content: dict[str, Any],
    event_type: str = "m.room.message",
    txn_id: str | None = None,
) -> str:
    send.count += 1  # type: ignore[attr-defined]
    txn_id = txn_id or f"t{send.count}"  # type: ignore[attr-defined]
    return house.wait(house.house.part(Sender).message(house.who(name), room_id, event_type, content, txn_id))


send.count = 0  # type: ignore[attr-defined]


def kept(house: LivedInHouse, event_id: str) -> StoredEvent:
    return house.wait(house.house.database.run(event_rows.load_by_ids, [event_id]))[event_id]


def refusal(work: Any) -> tuple[int, str]:
    with pytest.raises(MatrixError) as caught:
        work()
    assert caught.value.error
    return caught.value.status, caught.value.errcode


# -- odd but good -------------------------------------------------------------------------------------------------


def test_whatever_json_can_carry_comes_back_as_it_was(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    content = {
        "nul\0": "\0\0", "": "", "😀": "\U0010ffff", "quotes": '"\\/\b\f\n\r\t', "line": "\u2028\u2029\x7f",
        "numbers": [0, -1, MAX_INTEGER, -MAX_INTEGER], "words": [True, False, None], "empty": [{}, []],
    }  # fmt: skip
    names = ("org.example", "nul\0", "a" * 255, "ö" * 127 + "x", " ", "a/b?c#d%00", "'; --", "%s ? :1", "\U0010ffff")
    ids = [send(house, "alice", room_id, {**content, "of": name}, name) for name in names]
    keys = [
        ("org.example", ""),
        ("t\0", "k\0"),
        ("k" * 255, "ö" * 127),
        ("", ""),
        ("org.example", "_@bob:x"),
        (" ", "/"),
    ]
    ids += [house.set_state("alice", room_id, event_type, {**content, "at": key}, key) for event_type, key in keys]
    assert len(set(ids)) == len(names) + len(keys)
    house.house.events.forget(range(1, 1000))
    for event_id, name in zip(ids, names, strict=False):
        stored = kept(house, event_id)
        assert (stored.event.type, stored.event.state_key) == (name, None)
        assert stored.event.content == {**content, "of": name}
    for event_id, (event_type, key) in zip(ids[len(names) :], keys, strict=True):
        stored = kept(house, event_id)
        assert (stored.event.type, stored.event.state_key, stored.event.content["at"]) == (event_type, key, key)
    synced = {
        event["event_id"]: event
        for event in house.sync("alice", filter={"room": {"timeline": {"limit": 50}}})["rooms"]["join"][room_id][
            "timeline"
        ]["events"]
    }
    assert [synced[event_id]["type"] for event_id in ids] == [*names, *(event_type for event_type, _ in keys)]
    # And the room is the same when it is read again.
    live = house.wait(house.house.rooms.require(room_id))
    house.house.rooms.drop(live)
    assert house.wait(house.house.rooms.require(room_id)).visible == live.visible


@on_sqlite
def test_the_largest_event_that_there_is(house: LivedInHouse) -> None:
    room_id = house.create("alice")
    size = len(kept(house, send(house, "alice", room_id, {"body": ""})).event.raw)
    # The number of digits of `depth` and `origin_server_ts` stays the same.
    largest = send(house, "alice", room_id, {"body": "x" * (65_536 - size)})
    assert len(kept(house, largest).event.raw) == 65_536
    content = {"body": "x" * (65_537 - size)}
    assert refusal(lambda: send(house, "alice", room_id, content)) == (413, "M_TOO_LARGE")
    # What counts is the canonical form: escapes that JSON does not need are not counted, and bytes are.
    assert refusal(lambda: send(house, "alice", room_id, {"body": "ö" * 33_000})) == (413, "M_TOO_LARGE")
    assert refusal(lambda: send(house, "alice", room_id, {"body": "\0" * 11_000})) == (413, "M_TOO_LARGE")
    send(house, "alice", room_id, {"body": "ö" * 32_000})


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("version", ["1", "5", "6", "12"])
@on_sqlite
def test_content_that_is_none(house: LivedInHouse, version: str) -> None:
    """Also in room versions that would take it from peers: what this server makes is strict."""
    room_id = house.create("alice", room_version=version)
    before = house.wait(house.house.rooms.require(room_id)).standing
    bad: list[Any] = [
        1.0, 0.5, -0.0, 1e300, float("nan"), float("inf"), 2**53, -(2**53), 2**63, 2**64, 10**400, deep(MAX_DEPTH),
        deep(100_000), "\ud800", {"\ud800": 1}, {1: 2}, {None: 1}, b"bytes", {"a": {"b": [{"c": 1.5}]}},
    ]  # fmt: skip
    for value in bad:
        content = {"body": value}
        for work in (
            lambda content=content: send(house, "alice", room_id, content),
            lambda content=content: house.set_state("alice", room_id, "org.example", content),
            lambda content=content: house.set_state(
                "alice", room_id, "m.room.member", {"membership": "join", **content}, ALICE
            ),
        ):
            assert refusal(work) == (400, "M_BAD_JSON"), str(value)[:50]
    live = house.wait(house.house.rooms.require(room_id))
    assert live.standing is before and live.queued == 0
    send(house, "alice", room_id, {"body": deep(MAX_DEPTH - 2)})


@on_sqlite
def test_types_and_keys_that_are_too_long(house: LivedInHouse) -> None:
    room_id = house.create("alice")
    for name in ("x" * 256, "ö" * 128, "x" * 100_000):
        assert refusal(lambda name=name: send(house, "alice", room_id, {}, name)) == (413, "M_TOO_LARGE")
        for event_type, key in ((name, ""), ("org.example", name)):
            work = lambda event_type=event_type, key=key: house.set_state("alice", room_id, event_type, {}, key)  # noqa: E731
            assert refusal(work) == (413, "M_TOO_LARGE")
    for event_type, key in (("\ud800", ""), ("org.example", "\ud800")):
        with pytest.raises(BadJson):
            house.set_state("alice", room_id, event_type, {}, key)


# -- who may ------------------------------------------------------------------------------------------------------


@on_sqlite
def test_who_may_say_what(house: LivedInHouse) -> None:
    levels: dict[str, Any] = {
        "events": {"org.example.high": 60, "org.example.state": 10, "m.room.topic": 0}, "events_default": 5,
        "users": {user("loud"): 5, user("mod"): 60},
    }  # fmt: skip
    room_id = house.create("alice", preset="public_chat", power_level_content_override=levels)
    for name in ("bob", "loud", "mod"):
        house.join(name, room_id)
    for name, event_type, may in (
        ("bob", "m.room.message", False), ("loud", "m.room.message", True), ("loud", "org.example.high", False),
        ("mod", "org.example.high", True), ("stranger", "m.room.message", False),
    ):  # fmt: skip
        if may:
            send(house, name, room_id, {}, event_type)
        else:
            with pytest.raises(Forbidden):
                send(house, name, room_id, {}, event_type)
    for name, event_type, key, may in (
        ("bob", "m.room.topic", "", True), ("loud", "org.example.state", "", False),
        ("mod", "org.example.state", "", True), ("mod", "org.example.other", "x", True),
        ("loud", "org.example.other", "x", False), ("bob", "m.room.topic", BOB, True),
        ("bob", "m.room.topic", ALICE, False), ("alice", "m.room.topic", BOB, False),
        ("bob", "m.room.topic", "@", False), ("bob", "m.room.topic", "@nobody", False),
        ("bob", "m.room.topic", f"_{ALICE}", True), ("stranger", "m.room.topic", user("stranger"), False),
    ):  # fmt: skip
        if may:
            house.set_state(name, room_id, event_type, {"by": name, "at": key}, key)
        else:
            with pytest.raises(Forbidden):
                house.set_state(name, room_id, event_type, {"by": name, "at": key}, key)
    house.leave("loud", room_id)
    house.wait(house.memberships.ban(room_id, ALICE, BOB))
    for name in ("loud", "bob"):
        with pytest.raises(Forbidden):
            send(house, name, room_id, {})


@pytest.mark.parametrize("version", ["1", "11", "12"])
@on_sqlite
def test_what_begins_a_room_is_not_said_in_it(house: LivedInHouse, version: str) -> None:
    room_id = house.create("alice", room_version=version)
    for work in (
        lambda: send(house, "alice", room_id, {"room_version": version}, "m.room.create"),
        lambda: house.set_state("alice", room_id, "m.room.create", {"room_version": version, "again": 1}),
        lambda: house.set_state("alice", room_id, "m.room.create", {"room_version": version}, "other"),
        lambda: send(house, "alice", room_id, {"membership": "join"}, "m.room.member"),
        lambda: house.set_state("alice", room_id, "m.room.member", {"membership": "join"}),
    ):
        assert refusal(work)[0] in (400, 403)
    send(house, "alice", room_id, {})


# -- state --------------------------------------------------------------------------------------------------------


@on_sqlite
def test_setting_what_is_set_makes_no_event(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat", power_level_content_override={"state_default": 0})
    house.join("bob", room_id)
    first = house.set_state("alice", room_id, "org.example", {"b": 1, "a": [{"y": None, "x": "é\0"}]}, "k")
    assert house.set_state("alice", room_id, "org.example", {"a": [{"x": "é\0", "y": None}], "b": 1}, "k") == first
    different: list[dict[str, Any]] = [{"b": 1}, {}, {"b": True}, {"b": "1"}]
    ids = [house.set_state("alice", room_id, "org.example", content, "k") for content in different]
    assert len({first, *ids}) == len(different) + 1
    assert house.set_state("alice", room_id, "org.example", {"b": "1"}, "") != ids[-1]
    # The same from somebody else is news, and so is what was set before something else.
    assert house.set_state("bob", room_id, "org.example", {"b": "1"}, "k") != ids[-1]
    assert house.set_state("alice", room_id, "org.example", {"b": 1}, "k") not in ids
    # Who has left says nothing, not even what is the case.
    house.leave("bob", room_id)
    with pytest.raises(Forbidden):
        house.set_state("bob", room_id, "org.example", {"b": 1}, "k")


@on_sqlite
def test_state_says_what_it_replaced(house: LivedInHouse) -> None:
    room_id = house.create("alice")
    first = house.set_state("alice", room_id, "m.room.topic", {"topic": "old"})
    second = kept(house, house.set_state("alice", room_id, "m.room.topic", {"topic": "new"}))
    reader = Reader(ALICE, "DEVICE", 0, house.house.events.peek)
    unsigned = orjson.loads(client_event(second, reader))["unsigned"]
    assert (unsigned["prev_content"], unsigned["replaces_state"]) == ({"topic": "old"}, first)
    assert second.before != second.after == kept(house, send(house, "alice", room_id, {})).before


@on_sqlite
def test_a_canonical_alias_must_lead_here(house: LivedInHouse) -> None:
    room_id = house.create("alice", room_alias_name="pub")
    other = house.create("alice", room_alias_name="elsewhere")
    for content, errcode in (
        ({"alias": "#elsewhere:test.example"}, "M_BAD_ALIAS"), ({"alias": "#nowhere:test.example"}, "M_BAD_ALIAS"),
        ({"alt_aliases": ["#pub:test.example", "#elsewhere:test.example"]}, "M_BAD_ALIAS"),
        ({"alias": "pub"}, "M_INVALID_PARAM"), ({"alias": 5}, "M_BAD_JSON"), ({"alt_aliases": "x"}, "M_BAD_JSON"),
        ({"alias": "#nul\0:test.example"}, "M_INVALID_PARAM"),
    ):  # fmt: skip
        work = lambda content=content: house.set_state("alice", room_id, "m.room.canonical_alias", dict(content))  # noqa: E731
        assert refusal(work) == (400, errcode)
    house.set_state("alice", room_id, "m.room.canonical_alias", {"alt_aliases": ["#pub:test.example"]})
    house.set_state("alice", other, "m.room.canonical_alias", {})
    # Outsiders are not told which names lead where.
    assert refusal(
        lambda: house.set_state("bob", room_id, "m.room.canonical_alias", {"alias": "#nowhere:test.example"})
    ) == (403, "M_FORBIDDEN")


@on_sqlite
def test_power_levels_of_all_kinds_of_nonsense(house: LivedInHouse) -> None:
    room_id = house.create("alice")
    nonsense: tuple[Any, ...] = (
        {"users": 5},
        {"users": {"bob": 5}},
        {"events": []},
        {"ban": "50"},
        {"users": {ALICE: 100}},
    )
    for content in nonsense:
        work = lambda content=content: house.set_state("alice", room_id, "m.room.power_levels", dict(content))  # noqa: E731
        assert refusal(work)[0] == 400
    house.set_state("alice", room_id, "m.room.power_levels", {})
    house.set_state("alice", room_id, "m.room.power_levels", {"users_default": MAX_INTEGER})


# -- ids from outside ---------------------------------------------------------------------------------------------


def test_room_ids_that_are_none_are_unknown_rooms(house: LivedInHouse) -> None:
    sender = house.house.part(Sender)
    for room_id in ("!nul\0:test.example", "!" + "x" * 10_240, "", "room", "#pub:test.example", "!\0", "!x:\0"):
        for work in (
            lambda room_id=room_id: send(house, "alice", room_id, {"body": "hello"}),
            lambda room_id=room_id: house.set_state("alice", room_id, "m.room.topic", {}),
            lambda room_id=room_id: house.wait(sender.redact(house.who("alice"), room_id, "$x", {}, "t")),
            lambda room_id=room_id: house.leave("alice", room_id),
            lambda room_id=room_id: house.page("alice", room_id, None, None),
        ):
            assert refusal(work) == (403, "M_FORBIDDEN")
        assert refusal(lambda room_id=room_id: house.join("alice", room_id)) == (404, "M_NOT_FOUND")


@on_sqlite
def test_everything_sent_at_once_is_there_once(house: LivedInHouse) -> None:
    """Without waiting for answers, from several people: each event follows the one before it."""
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    people = [house.who("alice"), house.who("bob")]
    cold = at_once(house, room_id, people, "cold")
    newest = house.page("alice", room_id, None, None)[:40]
    assert set(newest) == set(cold)
    # In a room and on devices that are in memory, they are there in the order in which they were sent.
    warm = at_once(house, room_id, people, "warm")
    assert house.page("alice", room_id, None, None)[:80] == [*warm[::-1], *newest]
    chain = [kept(house, event_id).event for event_id in [*newest[::-1], *warm]]
    assert [event.prev_events for event in chain[1:]] == [(event.event_id,) for event in chain[:-1]]
    assert [event.depth for event in chain] == list(range(chain[0].depth, chain[0].depth + 80))
    assert [event.content["body"] for event in chain[40:]] == [f"warm {number}" for number in range(40)]


def at_once(house: LivedInHouse, room_id: str, people: list[Requester], word: str) -> list[str]:
    if word == "cold":
        house.house.rooms.drop(house.wait(house.house.rooms.require(room_id)))
        house.house.events.forget(range(1, 1000))
    sender = house.house.part(Sender)
    sends = [
        Deferred.fromCoroutine(
            sender.message(
                people[number % 2], room_id, "m.room.message", {"body": f"{word} {number}"}, f"{word}{number}"
            )
        )
        for number in range(40)
    ]
    return [house.wait(one) for one in sends]


def test_forms_of_long_ago(shared_server: ServerProcess) -> None:
    """Without transaction ids: each call says it once more."""
    ann = shared_server.register("ann_of_long_ago")
    room_id = ann.create_room()
    room = f"{V3}/rooms/{in_path(room_id)}"
    said = [ann.call("POST", f"{room}/send/m.room.message", {"body": "hello"})["event_id"] for _ in range(2)]
    assert len(set(said)) == 2
    redaction = ann.call("POST", f"{room}/redact/{in_path(said[0])}", {"reason": "enough"})["event_id"]
    assert ann.event(room_id, said[0])["unsigned"]["redacted_because"]["event_id"] == redaction
    assert ann.event(room_id, said[1])["content"] == {"body": "hello"}
