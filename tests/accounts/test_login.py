"""Logging in and out, and staying in: passwords, devices, refresh tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bcrypt
import pytest
from twisted.internet.defer import Deferred

from config import Passwords as PasswordSettings
from config import RateLimit, RateLimits, Server, Sessions
from homeserver.errors import Forbidden, LimitExceeded
from storage.accounts import get_account, set_password_hash
from storage.database import Database
from tests.accounts.desk import PASSWORD, Desk, open_settings
from tests.fixtures_db import SERVER_NAME, Pump


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """Only SQLite: what SQL there is, `tests/storage/test_accounts.py` tries on both."""
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture
def desk(database: Database, pump: Pump) -> Desk:
    return Desk.open(database, pump)


def test_flows(desk: Desk) -> None:
    assert desk.get("/login").json == {"flows": [{"type": "m.login.password"}]}


def test_ways_to_say_who_one_is(desk: Desk) -> None:
    desk.register("alice")
    for name in ("alice", "Alice", "@alice:test.example", "@ALICE:test.example"):
        response = desk.login(name)
        assert (response.status, response.json["user_id"]) == (200, "@alice:test.example")
    legacy = {"type": "m.login.password", "user": "alice", "password": PASSWORD}
    assert desk.post("/login", legacy).status == 200


def test_answer(desk: Desk) -> None:
    desk.register("alice")
    found = desk.login("alice", device_id="PHONE", initial_device_display_name="Phone").json
    assert found.keys() == {"user_id", "home_server", "device_id", "access_token"}
    assert found["device_id"] == "PHONE"
    device = desk.get("/devices/PHONE", token=found["access_token"]).json
    assert device["display_name"] == "Phone"


def test_answer_tells_where_the_server_is(database: Database, pump: Pump) -> None:
    server = Server(name=SERVER_NAME, public_baseurl="https://matrix.test.example/")
    desk = Desk.open(database, pump, open_settings(server=server))
    desk.register("alice")
    assert desk.login("alice").json["well_known"] == {"m.homeserver": {"base_url": "https://matrix.test.example"}}


USER = {"type": "m.id.user", "user": "alice"}
REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"password": "wrong"}, 403, "M_FORBIDDEN"),
    ({"password": ""}, 403, "M_FORBIDDEN"),
    ({"password": "x" * 100_000}, 403, "M_FORBIDDEN"),
    ({"identifier": {"type": "m.id.user", "user": "nobody"}}, 403, "M_FORBIDDEN"),
    ({"identifier": {"type": "m.id.user", "user": "@alice:elsewhere.example"}}, 403, "M_FORBIDDEN"),
    ({"identifier": {"type": "m.id.user", "user": "a\0b"}}, 403, "M_FORBIDDEN"),
    ({"identifier": {"type": "m.id.user", "user": "x" * 10_000}}, 403, "M_FORBIDDEN"),
    ({"identifier": {"type": "m.id.thirdparty", "medium": "email", "address": "a@b.c"}}, 403, "M_FORBIDDEN"),
    ({"identifier": {"type": "m.id.pigeon"}}, 400, "M_UNKNOWN"),
    ({"identifier": {"type": "m.id.user"}}, 400, "M_MISSING_PARAM"),
    ({"identifier": None}, 400, "M_MISSING_PARAM"),
    ({"identifier": "alice"}, 400, "M_BAD_JSON"),
    ({"identifier": {"user": "alice"}}, 400, "M_BAD_JSON"),
    ({"password": None}, 400, "M_MISSING_PARAM"),
    ({"password": 5}, 400, "M_BAD_JSON"),
    ({"type": "m.login.pigeon"}, 400, "M_UNKNOWN"),
    ({"type": None}, 400, "M_BAD_JSON"),
    ({"device_id": ""}, 400, "M_INVALID_PARAM"),
    ({"device_id": "a\0"}, 400, "M_INVALID_PARAM"),
]


def test_refused(desk: Desk) -> None:
    desk.register("alice")
    good = {"type": "m.login.password", "identifier": USER, "password": PASSWORD}
    for change, status, errcode in REFUSED:
        response = desk.post("/login", {**good, **change})
        assert (change, response.status, response.errcode) == (change, status, errcode)
    assert desk.post("/login", {}).errcode == "M_MISSING_PARAM"


def test_unknown_and_wrong_look_alike(desk: Desk) -> None:
    desk.register("alice")
    assert desk.login("alice", "wrong").body == desk.login("nobody", "wrong").body


def test_a_known_device_gets_new_tokens_and_the_old_ones_die(desk: Desk) -> None:
    first = desk.register("alice", device_id="PHONE", initial_device_display_name="Phone")
    assert desk.works(first["access_token"])
    second = desk.login("alice", device_id="PHONE", initial_device_display_name="Other name").json
    assert not desk.works(first["access_token"])
    devices = desk.get("/devices", token=second["access_token"]).json["devices"]
    assert [(device["device_id"], device["display_name"]) for device in devices] == [("PHONE", "Phone")]
    assert desk.ear.heard == [("registered", "@alice:test.example", None)]


def test_logout(desk: Desk) -> None:
    phone = desk.register("alice", device_id="PHONE")["access_token"]
    laptop = desk.login("alice", device_id="LAPTOP").json["access_token"]
    assert desk.works(phone)
    assert desk.post("/logout", token=phone).json == {}
    assert not desk.works(phone)
    assert desk.works(laptop)
    devices = desk.get("/devices", token=laptop).json["devices"]
    assert [device["device_id"] for device in devices] == ["LAPTOP"]
    assert desk.ear.heard[-1] == ("devices removed", "@alice:test.example", ["PHONE"])


def test_logout_everywhere(desk: Desk) -> None:
    tokens = [desk.register("alice")["access_token"], *(desk.login("alice").json["access_token"] for _ in range(3))]
    other = desk.register("bob")["access_token"]
    assert all(desk.works(token) for token in tokens)
    assert desk.post("/logout/all", token=tokens[2]).status == 200
    assert not any(desk.works(token) for token in tokens)
    assert desk.works(other)
    assert len(desk.ear.heard[-1][2]) == 4
    assert desk.login("alice").status == 200


def test_sessions_survive_a_restart(desk: Desk, database: Database, pump: Pump) -> None:
    token = desk.register("alice")["access_token"]
    assert Desk.open(database, pump).works(token)


def test_tokens_that_end_by_themselves(database: Database, pump: Pump) -> None:
    desk = Desk.open(database, pump, open_settings(sessions=Sessions(access_token_lifetime_ms=60_000)))
    found = desk.register("alice")
    assert found["expires_in_ms"] == 60_000
    desk.later(59)
    assert desk.works(found["access_token"])
    desk.later(2)
    response = desk.get("/account/whoami", token=found["access_token"])
    assert (response.status, response.errcode, response.json["soft_logout"]) == (401, "M_UNKNOWN_TOKEN", False)


# Refresh tokens


def refresh(desk: Desk, token: str) -> Any:
    response = desk.post("/refresh", {"refresh_token": token})
    return response.json if response.status == 200 else response.errcode


def test_refresh(desk: Desk) -> None:
    first = desk.register("alice", refresh_token=True)
    desk.later(301)
    expired = desk.get("/account/whoami", token=first["access_token"])
    assert (expired.errcode, expired.json["soft_logout"]) == ("M_UNKNOWN_TOKEN", True)
    second = refresh(desk, first["refresh_token"])
    assert second.keys() == {"access_token", "refresh_token", "expires_in_ms"}
    assert desk.works(second["access_token"])
    devices = desk.get("/devices", token=second["access_token"]).json["devices"]
    assert [device["device_id"] for device in devices] == [first["device_id"]]


def test_the_old_pair_lives_until_the_new_one_is_used(desk: Desk) -> None:
    first = desk.register("alice", refresh_token=True)
    lost = refresh(desk, first["refresh_token"])
    assert desk.works(first["access_token"])
    second = refresh(desk, first["refresh_token"])  # the answer got lost: once more
    assert refresh(desk, lost["refresh_token"]) == "M_UNKNOWN_TOKEN"
    assert not desk.works(lost["access_token"])
    assert desk.works(second["access_token"])  # that settles it
    assert not desk.works(first["access_token"])
    assert refresh(desk, first["refresh_token"]) == "M_UNKNOWN_TOKEN"
    assert desk.works(second["access_token"])


def test_a_lost_answer_was_perhaps_not_lost(desk: Desk) -> None:
    """A pair that memory knows already dies too when the refresh is asked for again."""
    first = desk.register("alice", refresh_token=True)
    lost = refresh(desk, first["refresh_token"])
    second = refresh(desk, lost["refresh_token"])  # using the refresh token settles as well
    assert refresh(desk, first["refresh_token"]) == "M_UNKNOWN_TOKEN"
    assert not desk.works(first["access_token"])
    assert desk.works(lost["access_token"])
    assert desk.works(second["access_token"])
    assert not desk.works(lost["access_token"])


def test_a_long_chain(desk: Desk) -> None:
    pair: Any = desk.register("alice", refresh_token=True)
    for _ in range(5):
        old, pair = pair, refresh(desk, pair["refresh_token"])
        assert desk.works(pair["access_token"])
        assert not desk.works(old["access_token"])


def test_refresh_ends_with_the_session(desk: Desk) -> None:
    first = desk.register("alice", refresh_token=True)
    desk.post("/logout", token=first["access_token"])
    assert refresh(desk, first["refresh_token"]) == "M_UNKNOWN_TOKEN"
    assert refresh(desk, "made up") == "M_UNKNOWN_TOKEN"
    assert refresh(desk, first["access_token"]) == "M_UNKNOWN_TOKEN"
    assert desk.post("/refresh", {}).errcode == "M_MISSING_PARAM"


def test_refresh_tokens_that_end_by_themselves(database: Database, pump: Pump) -> None:
    desk = Desk.open(database, pump, open_settings(sessions=Sessions(refresh_token_lifetime_ms=3_600_000)))
    first = desk.register("alice", refresh_token=True)
    desk.later(3000)
    second = refresh(desk, first["refresh_token"])
    desk.later(3000)
    third = refresh(desk, second["refresh_token"])  # each refresh begins a new hour
    desk.later(3601)
    response = desk.post("/refresh", {"refresh_token": third["refresh_token"]})
    assert (response.errcode, response.json["soft_logout"]) == ("M_UNKNOWN_TOKEN", True)


# Guessing, and hashes of other systems


def test_guessing_is_slowed_down(database: Database, pump: Pump) -> None:
    limits = RateLimits(login_failed=RateLimit(0.01, 3), login_address=RateLimit(10, 100))
    desk = Desk.open(database, pump, open_settings(rate_limits=limits))
    desk.register("alice")
    assert [desk.login("alice", "wrong").status for _ in range(4)] == [403, 403, 403, 429]
    assert desk.login("@ALICE:test.example").status == 429  # by another name, and with the right password
    assert [desk.login("nobody", "wrong").status for _ in range(4)] == [403, 403, 403, 429]
    desk.register("bob")
    assert desk.login("bob").status == 200
    desk.later(101)
    assert desk.login("alice").status == 200


def test_guessing_many_at_once_helps_nobody(database: Database, pump: Pump) -> None:
    """All attempts are charged before the first is judged."""
    settings = open_settings(
        rate_limits=RateLimits(login_failed=RateLimit(0.01, 3)),
        passwords=PasswordSettings(argon2_time_cost=1, argon2_memory_kib=1024),
    )
    desk = Desk.open(database, pump, settings)
    desk.register("alice")
    guesses = [
        Deferred.fromCoroutine(desk.accounts.credentials.require_account("alice", f"guess {number}"))
        for number in range(20)
    ]
    outcomes: list[Any] = []
    for guess in guesses:
        guess.addErrback(lambda failure: outcomes.append(type(failure.value)))
    while len(outcomes) < 20:
        pump.wait(database.run(lambda cursor: None))
    assert (outcomes.count(Forbidden), outcomes.count(LimitExceeded)) == (3, 17)
    pump.wait(desk.accounts.close())


def test_limits_per_address_and_account(database: Database, pump: Pump) -> None:
    limits = RateLimits(login_account=RateLimit(0.01, 2), login_address=RateLimit(0.01, 3))
    desk = Desk.open(database, pump, open_settings(rate_limits=limits))
    desk.register("alice")
    assert [desk.login("alice").status for _ in range(3)] == [200, 200, 429]
    assert desk.login("bob").errcode == "M_LIMIT_EXCEEDED"
    assert desk.post("/login", {"type": "x"}, address="192.0.2.9").status == 400


def test_bcrypt_is_accepted_and_upgraded(desk: Desk, database: Database, pump: Pump) -> None:
    desk.register("alice")
    long = "p" * 100
    old = bcrypt.hashpw(long.encode()[:72], bcrypt.gensalt(4)).decode()
    pump.wait(database.write(set_password_hash, "@alice:test.example", old))
    assert desk.login("alice", "wrong").status == 403
    assert desk.login("alice", long).status == 200
    account = pump.wait(database.run(get_account, "@alice:test.example"))
    assert account is not None and account.password_hash is not None
    assert account.password_hash.startswith("$argon2id$")
    assert desk.login("alice", long).status == 200
    assert desk.login("alice", "p" * 72).status == 403  # what bcrypt cut off counts from now on


@pytest.mark.parametrize("kept", ["", "plain", "$argon2id$garbage", "$2b$04$garbage", "$1$md5$x"])
def test_a_broken_hash_lets_nobody_in(desk: Desk, database: Database, pump: Pump, kept: str) -> None:
    desk.register("alice")
    pump.wait(database.write(set_password_hash, "@alice:test.example", kept))
    assert desk.login("alice").status == 403
