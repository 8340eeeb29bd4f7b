"""Backups of room keys: versions, the better of two keys, and what counts."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.encryption.backups import KeyBackups, KeyData
from homeserver.errors import MatrixError
from storage.key_backups import RoomKey
from tests.fixtures_house import LivedInHouse

ALICE = "@alice:test.example"
ROOM = "!room:test.example"


class Safe:
    """One person's backups."""

    def __init__(self, house: LivedInHouse, user_id: str = ALICE) -> None:
        self.house, self.user_id = house, user_id
        self.backups = house.house.part(KeyBackups)

    def create(self, **auth_data: Any) -> str:
        return self.house.wait(self.backups.create(self.user_id, "m.megolm_backup.v1", auth_data))

    def get(self, version: str | None = None) -> Any:
        return as_json(self.house.wait(self.backups.get(self.user_id, version)))

    def put(self, version: str, room_id: str = ROOM, **sessions: KeyData) -> Any:
        return self.house.wait(self.backups.put_keys(self.user_id, version, {room_id: sessions}))

    def keys(self, version: str, room_id: str | None = None) -> Any:
        return as_json(self.house.wait(self.backups.get_keys(self.user_id, version, room_id)))

    def delete_keys(self, version: str, *where: str) -> Any:
        return self.house.wait(self.backups.delete_keys(self.user_id, version, *where))

    def delete(self, version: str) -> None:
        self.house.wait(self.backups.delete(self.user_id, version))


def as_json(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))


def key(first: int = 0, forwarded: int = 0, verified: bool = True, **data: Any) -> KeyData:
    return KeyData(first, forwarded, verified, data)


@pytest.fixture
def safe(house: LivedInHouse) -> Safe:
    return Safe(house)


def missing(call: Any, *arguments: Any) -> bool:
    with pytest.raises(MatrixError) as caught:
        call(*arguments)
    return caught.value.errcode == "M_NOT_FOUND"


def test_a_backup_and_its_versions(safe: Safe) -> None:
    assert missing(safe.get)
    first = safe.create(public_key="abc")
    whole = {
        "algorithm": "m.megolm_backup.v1",
        "auth_data": {"public_key": "abc"},
        "count": 0,
        "etag": "0",
        "version": first,
    }
    assert safe.get() == safe.get(first) == whole
    second = safe.create()
    assert safe.get()["version"] == second != first
    safe.delete(second)
    assert missing(safe.get, second) and safe.get()["version"] == first
    safe.delete(second)
    assert missing(safe.delete, "99") and missing(safe.delete, "x") and missing(safe.delete, "9" * 40)
    assert safe.create() not in (first, second), "no version is given twice"


def test_only_the_auth_data_can_be_changed(safe: Safe) -> None:
    version = safe.create()
    update = safe.backups.update
    safe.house.wait(update(ALICE, version, version, "m.megolm_backup.v1", {"new": 1}))
    safe.house.wait(update(ALICE, version, None, "m.megolm_backup.v1", {"new": 2}))
    assert safe.get()["auth_data"] == {"new": 2}
    for named, algorithm in (("77", "m.megolm_backup.v1"), (None, "m.other")):
        with pytest.raises(MatrixError) as caught:
            safe.house.wait(update(ALICE, version, named, algorithm, {}))
        assert caught.value.errcode == "M_INVALID_PARAM"
    assert missing(lambda: safe.house.wait(update(ALICE, "77", None, "m.megolm_backup.v1", {})))


def test_keys_go_into_the_backup_in_use_only(safe: Safe) -> None:
    assert missing(safe.put, "1")
    old, new = safe.create(), safe.create()
    with pytest.raises(MatrixError) as caught:
        safe.put(old, a=key())
    assert caught.value.status == 403 and caught.value.errcode == "M_WRONG_ROOM_KEYS_VERSION"
    assert caught.value.more == {"current_version": new}
    assert safe.put(new, a=key(), b=key()) == {"count": 2, "etag": "1"}
    assert safe.put(new, "!other:test.example", a=key()) == {"count": 3, "etag": "2"}
    assert safe.put(new, a=key()) == {"count": 3, "etag": "2"}, "the same again is no change"
    assert safe.put(new, a=key(), c=key()) == {"count": 4, "etag": "3"}
    assert safe.get()["count"] == 4


def test_keys_are_read_whole_by_room_and_one_by_one(safe: Safe) -> None:
    version = safe.create()
    safe.put(version, a=key(1, 2, False, secret="x"))
    one = {"first_message_index": 1, "forwarded_count": 2, "is_verified": False, "session_data": {"secret": "x"}}
    assert safe.keys(version) == {"rooms": {ROOM: {"sessions": {"a": one}}}}
    assert safe.keys(version, ROOM) == {"sessions": {"a": one}}
    assert as_json(safe.house.wait(safe.backups.get_key(ALICE, version, ROOM, "a"))) == one
    assert safe.keys(version, "!none:test.example") == {"sessions": {}}
    assert missing(lambda: safe.house.wait(safe.backups.get_key(ALICE, version, ROOM, "b")))
    assert missing(safe.keys, "9")


def test_keys_are_deleted(safe: Safe) -> None:
    version = safe.create()
    for room_id in (ROOM, "!other:test.example", "!third:test.example"):
        safe.put(version, room_id, a=key(), b=key())
    assert safe.delete_keys(version, ROOM, "a") == {"count": 5, "etag": "4"}
    assert safe.delete_keys(version, ROOM, "a") == {"count": 5, "etag": "4"}
    assert safe.delete_keys(version, "!other:test.example") == {"count": 3, "etag": "5"}
    assert safe.delete_keys(version) == {"count": 0, "etag": "6"}
    assert safe.keys(version) == {"rooms": {}}


def test_nobody_sees_what_others_have(safe: Safe) -> None:
    version = safe.create()
    safe.put(version, a=key())
    bob = Safe(safe.house, "@bob:test.example")
    assert missing(bob.get) and missing(bob.keys, version) and missing(bob.put, version)
    assert bob.create() == version
    assert bob.keys(version) == {"rooms": {}}
    bob.delete(version)
    assert safe.get()["count"] == 1


def test_a_closed_account_leaves_no_backup(safe: Safe) -> None:
    safe.put(safe.create(), a=key())
    safe.house.wait(safe.backups.forget(ALICE))
    assert missing(safe.get) and missing(safe.keys, "1")


@pytest.mark.parametrize(
    ("room_id", "session_id", "data"),
    [
        ("room", "a", key()),
        (ROOM, "", key()),
        (ROOM, "a\0", key()),
        (ROOM, "x" * 256, key()),
        (ROOM, "a", key(-1)),
        (ROOM, "a", key(2**60)),
        (ROOM, "a", key(secret="x" * 40_000)),
    ],
)
def test_what_is_no_key_is_refused(safe: Safe, room_id: str, session_id: str, data: KeyData) -> None:
    version = safe.create()
    with pytest.raises(MatrixError) as caught:
        safe.put(version, room_id, **{"good": key(), session_id: data})
    assert caught.value.status in (400, 413)
    assert safe.get()["count"] == 0


counts = st.integers(0, 3)
ranks = st.builds(
    lambda verified, first, forwarded: RoomKey(ROOM, "s", verified, first, forwarded, b""),
    st.booleans(),
    counts,
    counts,
)


@given(ranks, ranks)
def test_which_key_is_better(one: RoomKey, other: RoomKey) -> None:
    """The specification's three sentences, word by word."""
    if one.is_verified != other.is_verified:
        better = one.is_verified
    elif one.first_index != other.first_index:
        better = one.first_index < other.first_index
    else:
        better = one.forwarded < other.forwarded
    assert (one.rank < other.rank) == better


def test_of_several_keys_the_best_is_kept_whatever_the_order(safe: Safe) -> None:
    version = safe.create()
    best = key(1, 1, True, which="best")
    for worse in (key(0, 0, False), key(2, 0, True), key(1, 2, True)):
        safe.put(version, a=worse)
        safe.put(version, a=best)
        safe.put(version, a=worse)
        assert safe.keys(version, ROOM)["sessions"]["a"]["session_data"] == {"which": "best"}
        safe.delete_keys(version)
