"""What is left of somebody whose account ends: nothing that it said, if it wants that, and no membership."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from homeserver import departures
from homeserver.errors import Forbidden, NotFound
from homeserver.userdata.profiles import Profiles
from storage import accounts
from storage import events as event_rows
from storage import memberships as membership_rows
from storage.ports import StoredEvent
from tests.fixtures_house import LivedInHouse, open_house
from tests.fixtures_rooms import user

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

ALICE, BOB = user("alice"), user("bob")


def deactivate(house: LivedInHouse, *, erase: bool) -> None:
    house.wait(house.house.accounts.listeners.account_deactivated(BOB, erase=erase))


def of_bob(house: LivedInHouse) -> list[StoredEvent]:
    """Everything in the database that Bob sent, redacted or not."""
    nids = house.wait(
        house.house.database.run(
            lambda cursor: cursor.execute("SELECT nid FROM events WHERE position IS NOT NULL").fetchall()
        )
    )
    found = house.wait(house.house.database.run(event_rows.load_events, [nid for (nid,) in nids]))
    return [stored for stored in found.values() if stored.event.sender == BOB]


def memberships(house: LivedInHouse) -> set[str]:
    return {row.membership for row in house.wait(house.house.database.run(membership_rows.rooms_of, BOB))}


def timeline(house: LivedInHouse, name: str, room_id: str) -> list[dict[str, Any]]:
    answer = house.sync(name, filter={"room": {"timeline": {"limit": 50}}})
    events: list[dict[str, Any]] = answer["rooms"]["join"][room_id]["timeline"]["events"]
    return events


def settle_in(house: LivedInHouse) -> dict[str, str]:
    """Bob, in every kind of relation to a room that there is; in those where he was, he said something."""
    house.wait(house.house.part(Profiles).set_field(BOB, "displayname", "Robert"))
    rooms = {name: house.create("alice", preset="public_chat") for name in ("joined", "left", "banned", "mute")}
    rooms |= {
        "invited": house.create("alice", invite=[BOB]),
        "own": house.create("bob", name="Bob's", preset="public_chat"),
    }
    for name in ("joined", "left", "banned", "mute"):
        house.join("bob", rooms[name])
        house.say("bob", rooms[name], f"secret in {name}", txn_id=name)
        house.say("alice", rooms[name], f"harmless in {name}", txn_id=name)
    house.join("alice", rooms["own"])
    house.say("bob", rooms["own"], "secret in own", txn_id="own")
    where = {"where": "secret place"}
    house.set_state("alice", rooms["joined"], "m.room.power_levels", {"events": {"org.example.beacon": 0}})
    house.set_state("bob", rooms["joined"], "org.example.beacon", where, BOB)
    house.leave("bob", rooms["left"])
    house.wait(house.memberships.ban(rooms["banned"], ALICE, BOB, "too many secrets"))
    house.set_state("alice", rooms["mute"], "m.room.power_levels", {"events_default": 1})
    return rooms


def test_an_erased_person_leaves_nothing_behind(house: LivedInHouse, tmp_path: Path, database_url: str) -> None:
    rooms = settle_in(house)
    for room_id in rooms.values():
        if room_id != rooms["invited"]:
            assert b"secret" in orjson.dumps(timeline(house, "alice", room_id))
    since = house.sync("alice")["next_batch"]
    deactivate(house, erase=True)
    # Those who read along are told so, where Bob was still in the room and might say so.
    told = house.sync("alice", since)["rooms"]["join"][rooms["joined"]]["timeline"]["events"]
    assert {event["type"] for event in told} == {"m.room.redaction", "m.room.member"}
    nothing_is_left(house, rooms)
    before = len(of_bob(house))
    deactivate(house, erase=True)
    assert len(of_bob(house)) == before, "once is enough"
    house.wait(house.house.close())
    again = open_house(tmp_path, database_url)
    try:
        nothing_is_left(again, rooms)
    finally:
        again.wait(again.house.close())


def nothing_is_left(house: LivedInHouse, rooms: dict[str, str]) -> None:
    assert memberships(house) == {"leave", "ban"}
    for stored in of_bob(house):
        event, content = stored.event, dict(stored.event.content)
        if event.type == "m.room.member":
            assert set(content) == {"membership"}
        elif event.type == "m.room.redaction":
            assert set(content) == {"redacts"}
        elif event.state_key is None or event.state_key == BOB:
            assert content == {}
        assert b"secret" not in event.raw and b"Robert" not in event.raw
    for name, room_id in rooms.items():
        if name == "invited":
            continue
        shown = orjson.dumps(timeline(house, "alice", room_id))
        assert b"secret in" not in shown and b"secret place" not in shown and b"Robert" not in shown
        assert b"harmless" in shown or name == "own"
        live = house.wait(house.house.rooms.require(room_id))
        assert live.membership_of(BOB) in ("leave", "ban") and BOB not in live.local_joined
        pages = house.page("alice", room_id, None, None)
        kept = house.wait(house.house.database.run(event_rows.load_by_ids, pages))
        assert not any(b"secret in" in stored.event.raw for stored in kept.values())
    # The room keeps the name that it was given, and who banned him their reason.
    assert b"Bob's" in orjson.dumps(timeline(house, "alice", rooms["own"]))
    assert b"too many" in orjson.dumps(timeline(house, "alice", rooms["banned"]))
    with pytest.raises(NotFound):
        house.wait(house.house.part(Profiles).get(BOB))


def test_what_a_crash_interrupts_is_taken_up_again(house: LivedInHouse, tmp_path: Path, database_url: str) -> None:
    rooms = settle_in(house)
    # The account is closed, and then the lights go out.
    house.wait(house.house.database.write(accounts.deactivate_account, BOB, erase=True))
    house.wait(house.house.close())
    again = open_house(tmp_path, database_url)
    try:
        again.wait(again.house.accounts.changes.resume())
        nothing_is_left(again, rooms)
        assert again.wait(again.house.database.run(accounts.departures)) == []
    finally:
        again.wait(again.house.close())


@on_sqlite
def test_without_erasure_the_words_stay(house: LivedInHouse) -> None:
    rooms = settle_in(house)
    for _ in range(2):
        deactivate(house, erase=False)
        assert memberships(house) == {"leave", "ban"}
        assert b"secret in joined" in orjson.dumps(timeline(house, "alice", rooms["joined"]))
    said = [stored for stored in of_bob(house) if stored.event.type == "m.room.redaction"]
    assert said == []
    # It can still be done later.
    deactivate(house, erase=True)
    nothing_is_left(house, rooms)


@on_sqlite
def test_long_stories_are_erased_page_by_page(house: LivedInHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(departures, "PAGE", 3)
    rooms = [house.create("alice", preset="public_chat", room_version=version) for version in ("1", "12")]
    for room_id in rooms:
        house.join("bob", room_id)
        for number in range(7):
            house.say("bob", room_id, f"secret {number}", txn_id=f"{room_id}{number}")
    house.leave("bob", rooms[1])
    deactivate(house, erase=True)
    assert not any(b"secret" in stored.event.raw for stored in of_bob(house))
    redactions = [stored for stored in of_bob(house) if stored.event.type == "m.room.redaction"]
    # Eight events in the room where he was: the join and what he said.
    assert len(redactions) == 8


@on_sqlite
def test_what_somebody_redacted_before_stays_as_it_is(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    event_id = house.say("bob", room_id, "secret")
    redaction_id = house.redact("alice", room_id, event_id)
    deactivate(house, erase=True)
    (found,) = [event for event in timeline(house, "alice", room_id) if event["event_id"] == event_id]
    assert found["unsigned"]["redacted_because"]["event_id"] == redaction_id


@on_sqlite
def test_somebody_who_was_nowhere(house: LivedInHouse) -> None:
    deactivate(house, erase=True)
    assert memberships(house) == set() and of_bob(house) == []
    house.wait(house.house.accounts.listeners.account_registered(BOB, "Bob"))


@on_sqlite
def test_a_removed_device_is_let_go_of(house: LivedInHouse) -> None:
    room_id = house.create("bob")
    event_id = house.say("bob", room_id, "hello", txn_id="t")
    log = house.house.transactions
    assert (BOB, "DEVICE") in log._devices
    house.wait(house.house.accounts.listeners.devices_removed(BOB, ["OTHER", "DEVICE"]))
    assert log._devices == {}
    # What it sent under that id it sent: a device of the same name is told so.
    assert house.say("bob", room_id, "hello", txn_id="t") == event_id


@on_sqlite
def test_who_is_gone_says_nothing_more(house: LivedInHouse) -> None:
    rooms = settle_in(house)
    deactivate(house, erase=True)
    for room_id in rooms.values():
        with pytest.raises(Forbidden):
            house.say("bob", room_id, "ghost", txn_id="ghost")
