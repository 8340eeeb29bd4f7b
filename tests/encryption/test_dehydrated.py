"""Devices that are left on the server: at most one a person, whose messages stay until it is woken up or replaced."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.encryption.dehydrated import DehydratedDevices, check_dehydrated
from homeserver.encryption.uploads import check_upload
from homeserver.errors import MatrixError
from tests.encryption.village import OTK, Identity, Villager, public
from tests.fixtures_house import LivedInHouse

DATA = {"algorithm": "org.example", "secret": "x"}


def leave(owner: Villager, device_id: str = "base64+key/x") -> Villager:
    """Leave a device; as it would be if it were awake."""
    asleep = Villager(owner.house, owner.name, owner.house.who(owner.name, device_id))
    keys = check_upload(asleep.user_id, device_id, asleep.device_keys, asleep.new_keys(2), {})
    new = check_dehydrated(device_id, DATA, "Dehydrated device", keys)
    owner.house.wait(owner.house.house.part(DehydratedDevices).put(owner.user_id, new))
    return asleep


def get(owner: Villager) -> Any:
    return owner.house.wait(owner.house.house.part(DehydratedDevices).get(owner.user_id))


def events(owner: Villager, device_id: str, batch: str | None = None) -> tuple[int, str]:
    found = owner.house.wait(owner.house.house.part(DehydratedDevices).events(owner.user_id, device_id, batch))
    return len(found["events"]), found["next_batch"]


def test_it_receives_and_is_woken_up(house: LivedInHouse) -> None:
    alice, bob = Villager.enter(house, "alice"), Villager.enter(house, "bob")
    with pytest.raises(MatrixError) as caught:
        get(alice)
    assert caught.value.errcode == "M_NOT_FOUND"
    asleep = leave(alice)
    assert get(alice)["device_id"] == asleep.device_id
    assert (
        bob.query(alice.user_id)["device_keys"][alice.user_id][asleep.device_id]["keys"] == asleep.device_keys["keys"]
    )
    assert len(bob.claim(asleep)) == 1
    for number in range(150):
        bob.write(asleep, str(number))
    for _ in range(2):  # nothing is deleted by reading it
        first, batch = events(alice, asleep.device_id)
        second, batch = events(alice, asleep.device_id, batch)
        assert (first, second) == (100, 50)
        assert events(alice, asleep.device_id, batch)[0] == 0


def test_the_next_one_takes_its_place(house: LivedInHouse) -> None:
    alice, bob = Villager.enter(house, "alice"), Villager.enter(house, "bob")
    old = leave(alice, "OLD")
    bob.write(old, "hello")
    leave(alice, "NEW")
    devices = bob.query(alice.user_id)["device_keys"][alice.user_id]
    assert set(devices) == {"NEW"}
    assert bob.claim(old) == {}
    with pytest.raises(MatrixError) as caught:
        events(alice, "OLD")
    assert (caught.value.status, caught.value.errcode) == (403, "M_FORBIDDEN")
    leave(alice, "NEW")
    assert events(alice, "NEW")[0] == 0


def test_it_goes_when_it_is_told_to_and_not_when_others_log_out(house: LivedInHouse) -> None:
    alice, bob = Villager.enter(house, "alice"), Villager.enter(house, "bob")
    leave(alice, "ASLEEP")
    house.wait(house.house.accounts.sessions.end_all(alice.user_id))
    assert set(bob.query(alice.user_id)["device_keys"][alice.user_id]) == {"ASLEEP"}
    assert house.wait(house.house.part(DehydratedDevices).delete(alice.user_id)) == "ASLEEP"
    assert bob.query(alice.user_id)["device_keys"][alice.user_id] == {}
    with pytest.raises(MatrixError):
        house.wait(house.house.part(DehydratedDevices).delete(alice.user_id))
    leave(alice, "ASLEEP")
    house.wait(house.house.accounts.changes.deactivate(alice.user_id, erase=False))
    assert bob.query(alice.user_id)["device_keys"][alice.user_id] == {}


def test_it_is_not_another_device(house: LivedInHouse) -> None:
    alice, bob = Villager.enter(house, "alice"), Villager.enter(house, "bob")
    alice.upload(1)
    identity = Identity(alice.user_id)
    alice.sign_in_public(identity=identity)
    before = leave(alice, "ASLEEP")
    for taken in ("DEVICE", public(identity.master)):
        with pytest.raises(MatrixError) as caught:
            leave(alice, taken)
        assert caught.value.errcode == "M_INVALID_PARAM"
    assert get(alice)["device_id"] == before.device_id, "nothing of a bad request is kept"
    with pytest.raises(MatrixError):
        events(bob, "ASLEEP")
    with pytest.raises(MatrixError) as caught:
        events(alice, "ASLEEP", "x")
    assert caught.value.errcode == "M_INVALID_PARAM"
    assert set(bob.claim(alice)[alice.user_id]["DEVICE"].popitem()[0].split(":")[:1]) == {OTK}
