"""Messages from device to device: each comes once, in order, and goes when its device says that it has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from homeserver.encryption import letters as module
from homeserver.encryption.letters import LETTERS_AT_A_TIME, MAX_LETTER_BYTES, surplus
from homeserver.errors import MatrixError
from storage.to_device import Weight, weights
from tests.encryption.village import Villager
from tests.fixtures_house import QUIET, LivedInHouse, open_house


def waiting(villager: Villager) -> int:
    """How many letters are kept for a device."""
    database = villager.house.house.database
    villager.house.wait(database.write(lambda cursor: None))  # what was acknowledged is gone
    return len(villager.house.wait(database.run(weights, villager.user_id, villager.device_id)))


def test_a_message_comes_until_it_is_acknowledged(house: LivedInHouse) -> None:
    alice, bob = Villager.enter(house, "alice"), Villager.enter(house, "bob")
    before = bob.sync()["next_batch"]
    alice.write(bob, "hello")
    event = {"sender": alice.user_id, "type": "m.dummy", "content": {"text": "hello"}}
    assert bob.sync(before)["to_device"] == {"events": [event]}
    assert bob.letters(before) == ["hello"], "the first answer may have got lost"
    assert waiting(bob) == 1
    assert set(bob.sync()) == QUIET
    assert waiting(bob) == 0
    assert bob.letters(before) == []


def test_a_first_sync_brings_what_waits(house: LivedInHouse) -> None:
    alice, bob = Villager.enter(house, "alice"), Villager.enter(house, "bob")
    alice.write(bob, "one")
    alice.write(bob, "two")
    assert bob.letters() == ["one", "two"]
    assert bob.letters() == []


def test_a_waiting_device_gets_it_at_once_and_no_other(house: LivedInHouse) -> None:
    alice = Villager.enter(house, "alice")
    phone, laptop = Villager.enter(house, "bob", "PHONE"), Villager.enter(house, "bob", "LAPTOP")
    since = phone.sync()["next_batch"]
    laptop.sync()
    waiting = house.start_sync("bob", since, timeout_ms=30_000, device_id="PHONE")
    alice.write(phone, "hello")
    house.advance(0)
    assert b"hello" in house.wait(waiting)
    assert laptop.letters() == []


def test_all_devices_of_somebody(house: LivedInHouse) -> None:
    alice = Villager.enter(house, "alice")
    devices = [Villager.enter(house, "bob", name) for name in ("PHONE", "LAPTOP", "TABLET")]
    bob = devices[0].user_id
    alice.send({bob: {"*": {"text": "to all"}, "TABLET": {"text": "to you"}, "GONE": {"text": "to nobody"}}})
    assert [device.letters() for device in devices] == [["to all"], ["to all"], ["to you"]]
    alice.send({alice.user_id: {"*": {"text": "to me"}}, "@nobody:test.example": {"*": {"text": "x"}}})
    assert alice.letters() == ["to me"]


def test_a_transaction_is_done_once(house: LivedInHouse, tmp_path: Path, database_url: str) -> None:
    alice, bob = Villager.enter(house, "alice"), Villager.enter(house, "bob")
    alice.write(bob, "once", "t1")
    alice.write(bob, "once", "t1")
    alice.send({bob.user_id: {"DEVICE": {"text": "of another type"}}}, "t1", "m.other")
    Villager.enter(house, "alice", "OTHER").write(bob, "from another device", "t1")
    house.wait(house.house.close())
    again = open_house(tmp_path, database_url)
    house.house, house.reactor = again.house, again.reactor
    alice.write(bob, "once", "t1")
    assert bob.letters() == ["once", "of another type", "from another device"]


def test_what_was_shown_before_a_restart_is_shown_again_or_gone(
    house: LivedInHouse, tmp_path: Path, database_url: str
) -> None:
    alice, bob = Villager.enter(house, "alice"), Villager.enter(house, "bob")
    before = bob.sync()["next_batch"]
    alice.write(bob, "one")
    assert bob.letters() == ["one"]
    shown = bob.since
    alice.write(bob, "two")
    house.wait(house.house.close())
    again = open_house(tmp_path, database_url)
    house.house, house.reactor = again.house, again.reactor
    assert bob.letters(before) == ["one", "two"]
    assert bob.letters(shown) == ["two"]
    assert waiting(bob) == 1
    assert bob.letters(before) == ["two"], "the token of the first said that it had come"
    assert bob.letters() == []
    assert waiting(bob) == 0


def test_many_come_in_portions_without_waiting(house: LivedInHouse) -> None:
    alice, bob = Villager.enter(house, "alice"), Villager.enter(house, "bob")
    bob.sync()
    room_id = house.create("bob")
    texts = [str(number) for number in range(2 * LETTERS_AT_A_TIME + 7)]
    for text in texts:
        alice.write(bob, text)
    first = bob.sync()
    assert len(first["to_device"]["events"]) == LETTERS_AT_A_TIME and room_id in first["rooms"]["join"]
    second = bob.sync()
    assert len(second["to_device"]["events"]) == LETTERS_AT_A_TIME and "rooms" not in second
    got = [event["content"]["text"] for answer in (first, second) for event in answer["to_device"]["events"]]
    assert got + bob.letters() == texts
    assert set(bob.sync()) == QUIET
    assert waiting(bob) == 0


def test_large_ones_come_in_smaller_portions(house: LivedInHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BYTES_AT_A_TIME", 1000)
    alice, bob = Villager.enter(house, "alice"), Villager.enter(house, "bob")
    for number in range(3):
        alice.write(bob, f"{number}" * 600)
    assert [len(bob.letters()) for _ in range(4)] == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("messages", "errcode"),
    [
        ({"bob": {"*": {}}}, "M_INVALID_PARAM"),
        ({"@bob:test.example": {"": {}}}, "M_INVALID_PARAM"),
        ({"@bob:test.example": {"x" * 256: {}}}, "M_INVALID_PARAM"),
        ({"@bob:test.example": {"a\0b": {}}}, "M_INVALID_PARAM"),
        ({"@bob:test.example": {"*": {"text": "x" * MAX_LETTER_BYTES}}}, "M_TOO_LARGE"),
        ({"@bob:elsewhere.org": {"*": {"number": 1.5}}}, "M_BAD_JSON"),
    ],
)
def test_what_can_not_be_sent_is_told_and_nothing_of_it_is_sent(
    house: LivedInHouse, messages: dict[str, Any], errcode: str
) -> None:
    alice = Villager.enter(house, "alice")
    with pytest.raises(MatrixError) as caught:
        alice.send({alice.user_id: {"*": {"text": "to me"}}, **messages})
    assert caught.value.errcode == errcode
    assert alice.letters() == []


def test_a_full_box_loses_what_the_noisiest_left_first() -> None:
    def box(*senders: str) -> list[Weight]:
        return [Weight(number, 10, sender) for number, sender in enumerate(senders)]

    loud = [f"@spam{number}:noise.org" for number in range(18)]
    letters = box("@ann:us.org", *loud, "@bob:us.org", "@eve:far.org")
    assert surplus(letters, "us.org", most=21) == []
    gone = surplus(letters, "us.org", most=20)
    assert gone == [1, 2, 3], "people of one server count as one"
    assert surplus(letters, "us.org", most=1000, most_bytes=100) == list(range(1, 13))
    own = box(*["@ann:us.org"] * 5, "@bob:us.org")
    assert surplus(own, "us.org", most=4) == [0, 1, 2], "our own people are told apart"


def test_a_box_does_not_grow_for_ever(house: LivedInHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_AFTER", 10)
    monkeypatch.setattr(module.surplus, "__defaults__", (20, 10**6))
    alice, bob = Villager.enter(house, "alice"), Villager.enter(house, "bob")
    for number in range(100):
        alice.write(bob, str(number))
    house.wait(house.house.database.write(lambda cursor: None))
    assert waiting(bob) < 20 + 10
    assert bob.letters()[-1] == "99"
