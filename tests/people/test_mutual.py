"""The rooms that one shares with somebody."""

from __future__ import annotations

import pytest

import homeserver.people.mutual
from homeserver.errors import InvalidParam
from homeserver.people.mutual import MutualRooms
from tests.fixtures_house import LivedInHouse
from tests.fixtures_rooms import user

ALICE, BOB = user("alice"), user("bob")


def test_rooms_shared(house: LivedInHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    mutual = house.house.part(MutualRooms)
    rooms = [house.create("alice", preset="public_chat") for _ in range(5)]
    for room_id in rooms[:4]:
        house.join("bob", room_id)
    house.leave("bob", rooms[1])
    house.create("alice", preset="private_chat", invite=[BOB])
    shared = [rooms[0], rooms[2], rooms[3]]
    assert house.wait(mutual.with_user(ALICE, BOB)) == {"joined": shared, "count": 3}
    assert house.wait(mutual.with_user(BOB, ALICE)) == {"joined": shared, "count": 3}
    assert house.wait(mutual.with_user(ALICE, "@nobody:far.example")) == {"joined": [], "count": 0}
    monkeypatch.setattr(homeserver.people.mutual, "AT_ONCE", 2)
    first = house.wait(mutual.with_user(ALICE, BOB))
    assert first["joined"] == shared[:2] and first["count"] == 3
    rest = house.wait(mutual.with_user(ALICE, BOB, first["next_batch"]))
    assert rest == {"joined": shared[2:], "count": 3}
    for other, token in (
        (ALICE, None), ("bob", None), ("@bob", None), ("@böb:test.example", None), ("", None), (BOB, "nonsense"),
        (BOB, "r-1"), (BOB, "r" + "9" * 40), (BOB, "r²"),
    ):  # fmt: skip
        with pytest.raises(InvalidParam):
            house.wait(mutual.with_user(ALICE, other, token))
