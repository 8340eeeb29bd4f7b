"""Keys of devices: uploaded, asked for, given out once, and what their owner is told of them."""

from __future__ import annotations

import pytest

from homeserver.encryption.uploads import MOST_KEPT, MOST_UPLOADED
from homeserver.errors import MatrixError
from tests.encryption.village import OTK, Villager
from tests.fixtures_house import LivedInHouse, open_house

FALLBACK = f"{OTK}:fallback"


def test_keys_are_what_was_uploaded(house: LivedInHouse) -> None:
    alice, bob = Villager.enter(house, "alice"), Villager.enter(house, "bob")
    assert alice.upload(3) == {OTK: 3}
    assert bob.query(alice.user_id)["device_keys"] == {alice.user_id: {"DEVICE": alice.device_keys}}
    assert bob.query(bob.user_id)["device_keys"] == {bob.user_id: {}}
    assert bob.query("@nobody:test.example")["device_keys"] == {}


def test_only_devices_that_are_asked_for(house: LivedInHouse) -> None:
    phone, laptop = Villager.enter(house, "alice", "PHONE"), Villager.enter(house, "alice", "LAPTOP")
    phone.upload()
    laptop.upload()
    assert set(phone.query(phone.user_id)["device_keys"][phone.user_id]) == {"PHONE", "LAPTOP"}
    from homeserver.encryption.queries import KeyQueries

    found = house.wait(house.house.part(KeyQueries).query(phone.user_id, {phone.user_id: ["LAPTOP", "GONE"]}))
    assert set(found.device_keys[phone.user_id]) == {"LAPTOP"}


def test_a_device_has_the_name_that_its_owner_gave_it(house: LivedInHouse) -> None:
    alice = Villager.enter(house, "alice")
    alice.upload()
    house.wait(house.house.accounts.devices.rename(alice.user_id, "DEVICE", "Telephone"))
    (keys,) = alice.query(alice.user_id)["device_keys"][alice.user_id].values()
    assert keys["unsigned"] == {"device_display_name": "Telephone"}


def test_one_time_keys_go_out_once_in_the_order_of_their_uploads(house: LivedInHouse) -> None:
    alice, bob = Villager.enter(house, "alice"), Villager.enter(house, "bob")
    later, first = f"{OTK}:AAA", f"{OTK}:ZZZ"
    alice.upload({first: alice.new_key()})
    alice.upload({later: alice.new_key()}, device=False)
    given = [set(bob.claim(alice)[alice.user_id]["DEVICE"]) for _ in range(2)]
    assert given == [{first}, {later}]
    assert bob.claim(alice) == {}


def test_a_key_that_was_given_out_does_not_come_back(house: LivedInHouse) -> None:
    """A client that heard no answer uploads the same keys again; meanwhile one of them was claimed."""
    alice, bob = Villager.enter(house, "alice"), Villager.enter(house, "bob")
    keys = alice.new_keys(2)
    alice.upload(keys)
    (given,) = bob.claim(alice)[alice.user_id]["DEVICE"]
    assert alice.upload(keys) == {OTK: 1}
    (other,) = bob.claim(alice)[alice.user_id]["DEVICE"]
    assert {given, other} == set(keys)
    assert bob.claim(alice) == {}


def test_the_same_upload_again_changes_nothing(house: LivedInHouse) -> None:
    alice = Villager.enter(house, "alice")
    keys = alice.new_keys(4)
    assert alice.upload(keys) == {OTK: 4}
    assert alice.upload(keys) == {OTK: 4}
    alice.sync()
    assert alice.upload(keys) == {OTK: 4}
    assert alice.lists() == ([], [])


def test_another_key_by_a_known_name_is_refused_and_nothing_of_the_upload_is_kept(house: LivedInHouse) -> None:
    alice = Villager.enter(house, "alice")
    keys = alice.new_keys(1)
    alice.upload(keys)
    (name,) = keys
    with pytest.raises(MatrixError, match=name):
        alice.upload({**alice.new_keys(1), name: alice.new_key()}, {FALLBACK: alice.new_key(fallback=True)})
    answer = alice.sync()
    assert answer["device_one_time_keys_count"] == {OTK: 1}
    assert answer["device_unused_fallback_key_types"] == []


def test_the_fallback_key_is_given_out_again_and_again(house: LivedInHouse) -> None:
    alice, bob = Villager.enter(house, "alice"), Villager.enter(house, "bob")
    fallback = {FALLBACK: alice.new_key(fallback=True)}
    alice.upload(1, fallback)
    assert alice.sync()["device_unused_fallback_key_types"] == [OTK]
    assert FALLBACK not in bob.claim(alice)[alice.user_id]["DEVICE"]
    assert alice.sync()["device_unused_fallback_key_types"] == [OTK]
    for _ in range(2):
        assert bob.claim(alice)[alice.user_id]["DEVICE"] == fallback
        assert alice.sync()["device_unused_fallback_key_types"] == []
    alice.upload(fallback=fallback, device=False)
    assert alice.sync()["device_unused_fallback_key_types"] == [], "the same key again is as used as before"
    alice.upload(fallback={f"{OTK}:second": alice.new_key(fallback=True)}, device=False)
    assert alice.sync()["device_unused_fallback_key_types"] == [OTK]
    assert set(bob.claim(alice)[alice.user_id]["DEVICE"]) == {f"{OTK}:second"}


def test_a_device_hears_at_once_that_its_keys_ran_out(house: LivedInHouse) -> None:
    alice, bob = Villager.enter(house, "alice"), Villager.enter(house, "bob")
    alice.upload(2, {FALLBACK: alice.new_key(fallback=True)})
    since = alice.sync()["next_batch"]
    waiting = house.start_sync("alice", since, timeout_ms=30_000)
    bob.claim(alice)
    house.advance(0)
    assert not waiting.called, "there are some left"
    bob.claim(alice)
    house.advance(0)
    alice.since = since
    house.wait(waiting)
    answer = alice.sync()
    assert answer["device_one_time_keys_count"] == {OTK: 0}
    assert not house.start_sync("alice", alice.since, timeout_ms=30_000).called, "it is told once"
    house.advance(31)


def test_counts_survive_a_restart(house: LivedInHouse, tmp_path: object, database_url: str) -> None:
    from pathlib import Path

    alice, bob = Villager.enter(house, "alice"), Villager.enter(house, "bob")
    keys = alice.new_keys(3)
    alice.upload(keys)
    (given,) = bob.claim(alice)[alice.user_id]["DEVICE"]
    house.wait(house.house.close())
    assert isinstance(tmp_path, Path)
    again = open_house(tmp_path, database_url)
    try:
        bob.house = alice.house = again
        assert alice.sync()["device_one_time_keys_count"] == {OTK: 2}
        rest = [*bob.claim(alice)[alice.user_id]["DEVICE"], *bob.claim(alice)[alice.user_id]["DEVICE"]]
        assert {given, *rest} == set(keys)
    finally:
        house.house = again.house
        house.reactor = again.reactor


def test_uploads_are_limited(house: LivedInHouse) -> None:
    alice = Villager.enter(house, "alice")
    with pytest.raises(MatrixError, match="one_time_keys"):
        alice.upload({f"{OTK}:{number}": {"key": "x"} for number in range(MOST_UPLOADED + 1)})
    for batch in range(MOST_KEPT // MOST_UPLOADED):
        alice.upload({f"{OTK}:{batch}.{number}": {"key": "x"} for number in range(MOST_UPLOADED)})
    left = MOST_KEPT % MOST_UPLOADED
    with pytest.raises(MatrixError, match="one_time_keys"):
        alice.upload({f"{OTK}:x.{number}": {"key": "x"} for number in range(left + 1)})
    assert alice.upload({f"{OTK}:x.{number}": {"key": "x"} for number in range(left)}) == {OTK: MOST_KEPT}


def test_a_device_that_is_gone_leaves_nothing(house: LivedInHouse) -> None:
    alice, bob = Villager.enter(house, "alice"), Villager.enter(house, "bob")
    alice.upload(2, {FALLBACK: alice.new_key(fallback=True)})
    bob.write(alice, "hello")
    house.wait(house.house.accounts.sessions.end_devices(alice.user_id, ["DEVICE"]))
    assert bob.query(alice.user_id)["device_keys"] == {alice.user_id: {}}
    assert bob.claim(alice) == {}
    again = Villager.enter(house, "alice")
    answer = again.sync()
    assert answer["device_one_time_keys_count"] == {OTK: 0}
    assert answer["device_unused_fallback_key_types"] == []
    assert "to_device" not in answer
