"""Accounts, devices and tokens as rows, on both databases."""

from __future__ import annotations

import pytest

from storage import registration_tokens, sessions
from storage.accounts import Account, add_account, count_accounts, deactivate_account, get_account, set_password_hash
from storage.database import Database
from storage.ports import Cursor
from storage.sessions import Device, DeviceUse, RefreshRow, SessionRow, TokenPair
from tests.fixtures_db import Pump

ALICE = Account("@alice:x", "$argon2id$1", 1000)


class Desk:
    """Runs functions of a cursor and waits for them."""

    def __init__(self, database: Database, pump: Pump) -> None:
        self._database, self._pump = database, pump

    def read(self, function, *args, **kwargs):  # type: ignore[no-untyped-def]
        return self._pump.wait(self._database.run(function, *args, **kwargs))

    def write(self, function, *args, **kwargs):  # type: ignore[no-untyped-def]
        return self._pump.wait(self._database.write(function, *args, **kwargs))

    def pair(self, name: str, *, refresh: bool = True, expires: int | None = None) -> TokenPair:
        return TokenPair(f"A{name}".encode(), expires, f"R{name}".encode() if refresh else None)

    def session(self, name: str) -> SessionRow | None:
        found: SessionRow | None = self.read(sessions.find_session, f"A{name}".encode())
        return found


@pytest.fixture
def desk(database: Database, pump: Pump) -> Desk:
    return Desk(database, pump)


def test_accounts(desk: Desk) -> None:
    guest = Account("@guest:x", None, 5, is_guest=True)
    assert desk.read(get_account, "@alice:x") is None
    assert desk.write(add_account, ALICE)
    assert desk.write(add_account, guest)
    assert not desk.write(add_account, Account("@alice:x", "other", 2000, is_admin=True))
    assert desk.read(get_account, "@alice:x") == ALICE
    assert desk.read(get_account, "@guest:x") == guest
    assert desk.read(count_accounts) == 1
    desk.write(set_password_hash, "@alice:x", "$2", only_if="something else")
    assert desk.read(get_account, "@alice:x") == ALICE
    desk.write(set_password_hash, "@alice:x", "$2", only_if="$argon2id$1")
    desk.write(set_password_hash, "@guest:x", "$3")
    assert desk.read(get_account, "@alice:x").password_hash == "$2"
    assert desk.read(get_account, "@guest:x").password_hash == "$3"
    desk.write(deactivate_account, "@alice:x", erase=True)
    assert desk.read(get_account, "@alice:x") == Account("@alice:x", None, 1000, deactivated=True, erased=True)
    assert not desk.write(add_account, ALICE)
    assert desk.read(count_accounts) == 0


def test_sessions(desk: Desk) -> None:
    desk.write(add_account, ALICE)
    desk.write(sessions.open_session, "@alice:x", "PHONE", "Phone", desk.pair("1", expires=77), 10)
    desk.write(sessions.open_session, "@alice:x", "LAPTOP", None, desk.pair("2", refresh=False), 11)
    assert desk.session("1") == SessionRow("@alice:x", "PHONE", False, False, 77, b"R1", False)
    assert desk.session("2") == SessionRow("@alice:x", "LAPTOP", False, False, None, None, False)
    assert desk.session("3") is None
    assert desk.read(sessions.find_refresh, b"R1") == RefreshRow("@alice:x", "PHONE", None, False)
    # The same device once more: its name stays, its tokens do not.
    desk.write(sessions.open_session, "@alice:x", "PHONE", "Other", desk.pair("3"), 12)
    assert desk.session("1") is None
    assert desk.read(sessions.find_refresh, b"R1") is None
    assert [device.display_name for device in desk.read(sessions.list_devices, "@alice:x")] == [None, "Phone"]
    desk.write(deactivate_account, "@alice:x", erase=False)
    assert desk.session("3") is None
    assert desk.read(sessions.find_refresh, b"R3") is None


def test_refreshing(desk: Desk) -> None:
    desk.write(add_account, ALICE)
    desk.write(sessions.open_session, "@alice:x", "PHONE", "Phone", desk.pair("1"), 10)
    assert desk.write(sessions.refresh_session, b"R?", desk.pair("9"), 20) is None
    assert desk.write(sessions.refresh_session, b"R1", desk.pair("2"), 20) == []
    assert desk.write(sessions.refresh_session, b"R1", desk.pair("3"), 21) == [b"A2"]
    assert [desk.session(name) is not None for name in "123"] == [True, False, True]
    assert desk.session("3").unsettled  # type: ignore[union-attr]
    assert desk.write(sessions.settle, b"R3") == [b"A1"]
    assert desk.write(sessions.settle, b"R3") == []
    assert desk.write(sessions.settle, b"R?") == []
    assert [desk.session(name) is not None for name in "123"] == [False, False, True]
    assert desk.read(sessions.find_refresh, b"R1") is None
    # Using the refresh token of an unsettled pair settles it.
    desk.write(sessions.refresh_session, b"R3", desk.pair("4"), 30)
    assert desk.write(sessions.refresh_session, b"R4", desk.pair("5"), 31) == [b"A3"]
    assert [desk.session(name) is not None for name in "345"] == [False, True, True]


def test_devices(desk: Desk) -> None:
    desk.write(add_account, ALICE)
    for number, name in enumerate("ABCD"):
        desk.write(sessions.open_session, "@alice:x", name, name.lower(), desk.pair(name), number)
    desk.write(sessions.open_session, "@bob:x", "A", None, desk.pair("bob"), 9)
    assert desk.read(sessions.get_device, "@alice:x", "A") == Device("A", "a", None, None, None)
    assert desk.read(sessions.get_device, "@alice:x", "Z") is None
    assert desk.write(sessions.rename_device, "@alice:x", "A", "Ä")
    assert not desk.write(sessions.rename_device, "@alice:x", "Z", "z")
    uses = [DeviceUse("@alice:x", "A", 5, "::1", "nio"), DeviceUse("@alice:x", "gone", 5, "::1", "nio")]
    desk.write(sessions.record_uses, uses)
    assert desk.read(sessions.get_device, "@alice:x", "A") == Device("A", "Ä", 5, "::1", "nio")
    assert desk.write(sessions.delete_devices, "@alice:x", ["B", "Z", "B"]) == ["B"]
    assert desk.write(sessions.delete_devices, "@alice:x", []) == []
    assert desk.write(sessions.delete_all_devices, "@alice:x", but="C") == ["A", "D"]
    assert [device.device_id for device in desk.read(sessions.list_devices, "@alice:x")] == ["C"]
    assert desk.read(sessions.find_refresh, b"RA") is None
    assert desk.read(sessions.find_refresh, b"RC") is not None
    assert desk.write(sessions.delete_all_devices, "@alice:x") == ["C"]
    assert len(desk.read(sessions.list_devices, "@bob:x")) == 1


def test_registration_tokens(desk: Desk) -> None:
    assert desk.write(registration_tokens.add_token, "twice", 2, None)
    assert not desk.write(registration_tokens.add_token, "twice", 9, None)
    assert desk.write(registration_tokens.add_token, "until", None, 100)
    assert [desk.write(registration_tokens.use_token, "twice", 1) for _ in range(3)] == [True, True, False]
    assert [desk.read(registration_tokens.is_valid, "until", now) for now in (99, 100)] == [True, False]
    assert [desk.write(registration_tokens.use_token, "until", now) for now in (99, 100)] == [True, False]
    assert not desk.read(registration_tokens.is_valid, "twice", 1)
    assert not desk.read(registration_tokens.is_valid, "unknown", 1)


def test_two_at_once_cannot_take_one_name(desk: Desk, database: Database, pump: Pump) -> None:
    def take(cursor: Cursor, password_hash: str) -> bool:
        return add_account(cursor, Account("@alice:x", password_hash, 1))

    both = [database.write(take, "one"), database.write(take, "two")]
    assert [pump.wait(outcome) for outcome in both] == [True, False]
    assert desk.read(get_account, "@alice:x").password_hash == "one"
