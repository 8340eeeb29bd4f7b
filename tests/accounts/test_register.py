"""Making accounts: the steps, the names, the tokens, the secret; and what is refused."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Any

import pytest

from config import RateLimit, RateLimits, Registration
from storage.database import Database
from storage.registration_tokens import add_token
from tests.accounts.desk import PASSWORD, V3, Desk, open_settings, with_secret
from tests.fixtures_db import Pump

DUMMY = {"type": "m.login.dummy"}


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """Only SQLite: what SQL there is, `tests/storage/test_accounts.py` tries on both."""
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture
def desk(database: Database, pump: Pump) -> Desk:
    return Desk.open(database, pump)


def test_step_by_step(desk: Desk) -> None:
    body = {"username": "alice", "password": PASSWORD, "device_id": "PHONE", "initial_device_display_name": "Phone"}
    first = desk.post("/register", body)
    assert first.status == 401
    assert first.json["flows"] == [{"stages": ["m.login.dummy"]}]
    assert "errcode" not in first.json
    done = desk.post("/register", {**body, "auth": {**DUMMY, "session": first.json["session"]}})
    assert done.status == 200
    assert done.json["user_id"] == "@alice:test.example"
    assert done.json["device_id"] == "PHONE"
    assert "refresh_token" not in done.json
    assert desk.get("/account/whoami", token=done.json["access_token"]).json == {
        "user_id": "@alice:test.example",
        "device_id": "PHONE",
        "is_guest": False,
    }
    assert desk.ear.heard == [("registered", "@alice:test.example", None)]


def test_what_clients_send_first_to_learn_the_flows(desk: Desk) -> None:
    assert desk.post("/register", {}).status == 401
    assert desk.post("/register", b"").status == 401
    assert desk.post("/register?kind=user", {}).status == 401


def test_without_a_name_or_a_login(desk: Desk) -> None:
    response = desk.post("/register", {"password": PASSWORD, "auth": DUMMY, "inhibit_login": True})
    assert response.status == 200
    assert set(response.json) == {"user_id", "home_server"}
    name = response.json["user_id"].partition(":")[0]
    assert desk.login(name[1:]).status == 200


def test_refreshable(desk: Desk) -> None:
    found = desk.register("alice", refresh_token=True)
    assert found["expires_in_ms"] == 300_000
    assert found["refresh_token"] != found["access_token"]


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"username": "taken"}, 400, "M_USER_IN_USE"),
    ({"username": "TAKEN"}, 400, "M_USER_IN_USE"),
    ({"username": "not good"}, 400, "M_INVALID_USERNAME"),
    ({"username": ""}, 400, "M_INVALID_USERNAME"),
    ({"username": "@alice:test.example"}, 400, "M_INVALID_USERNAME"),
    ({"username": "\N{CAT}"}, 400, "M_INVALID_USERNAME"),
    ({"username": "a\0b"}, 400, "M_INVALID_USERNAME"),
    ({"username": "_bridge_x"}, 400, "M_INVALID_USERNAME"),
    ({"username": "a" * 255}, 400, "M_INVALID_USERNAME"),
    ({"username": 5}, 400, "M_BAD_JSON"),
    ({"password": "short"}, 400, "M_WEAK_PASSWORD"),
    ({"password": "x" * 513}, 400, "M_WEAK_PASSWORD"),
    ({"password": None}, 400, "M_MISSING_PARAM"),
    ({"device_id": "a\0"}, 400, "M_INVALID_PARAM"),
    ({"device_id": "x" * 256}, 400, "M_INVALID_PARAM"),
    ({"auth": "dummy"}, 400, "M_BAD_JSON"),
    ({"auth": {"type": 5}}, 400, "M_BAD_JSON"),
    ({"auth": {"type": "m.login.dummy", "session": 5}}, 400, "M_BAD_JSON"),
    ({"auth": {"type": "m.login.dummy", "session": "gone"}}, 401, "M_UNKNOWN"),
    ({"auth": {"type": "m.login.password"}}, 401, "M_UNKNOWN"),
    ({"inhibit_login": "yes"}, 400, "M_BAD_JSON"),
]


def test_refused(desk: Desk) -> None:
    desk.register("taken")
    good = {"username": "alice", "password": PASSWORD, "auth": DUMMY}
    for change, status, errcode in REFUSED:
        response = desk.post("/register", {**good, **change})
        assert (change, response.status, response.errcode) == (change, status, errcode)
    assert desk.login("alice").status == 403


def test_names_are_checked_before_any_step(desk: Desk) -> None:
    assert desk.post("/register", {"username": "not good"}).errcode == "M_INVALID_USERNAME"
    assert desk.post("/register", {"password": "short"}).errcode == "M_WEAK_PASSWORD"


def test_good_names(desk: Desk) -> None:
    for name in ("a", "0", "a.b_c=d-e/f+g", "x" * 241):
        assert desk.register(name)["user_id"] == f"@{name}:test.example"


def test_capitals_become_small(desk: Desk) -> None:
    assert desk.register("Alice")["user_id"] == "@alice:test.example"


def test_availability(desk: Desk) -> None:
    desk.register("taken")
    assert desk.get("/register/available?username=free").json == {"available": True}
    assert desk.get("/register/available?username=taken").errcode == "M_USER_IN_USE"
    assert desk.get("/register/available?username=not%20good").errcode == "M_INVALID_USERNAME"
    assert desk.get("/register/available").errcode == "M_MISSING_PARAM"


def test_closed(database: Database, pump: Pump) -> None:
    desk = Desk.open(database, pump, open_settings(registration=Registration(enabled=False)))
    validity = "/_matrix/client/v1/register/m.login.registration_token/validity?token=x"
    assert desk.post("/register", {"username": "alice", "password": PASSWORD, "auth": DUMMY}).errcode == "M_FORBIDDEN"
    assert desk.get("/register/available?username=alice").status == 403
    assert desk.ask("GET", validity).status == 403
    assert desk.post("/register?kind=guest").errcode == "M_GUEST_ACCESS_FORBIDDEN"
    assert desk.post("/register?kind=robot").errcode == "M_INVALID_PARAM"


def test_guests(database: Database, pump: Pump) -> None:
    desk = Desk.open(database, pump, open_settings(registration=Registration(allow_guests=True)))
    response = desk.post("/register?kind=guest", {"initial_device_display_name": "Browser", "device_id": "MINE"})
    assert response.status == 200
    assert response.json["device_id"] != "MINE"
    token = response.json["access_token"]
    assert desk.get("/account/whoami", token=token).json["is_guest"] is True
    assert len(desk.get("/devices", token=token).json["devices"]) == 1
    assert desk.post("/account/password", {"new_password": PASSWORD}, token=token).errcode == "M_GUEST_ACCESS_FORBIDDEN"


def test_a_guest_who_wants_an_account(database: Database, pump: Pump) -> None:
    desk = Desk.open(database, pump, open_settings(registration=Registration(enabled=True, allow_guests=True)))
    guest = desk.post("/register?kind=guest").json
    name = guest["user_id"][1:].partition(":")[0]
    body = {"username": name, "password": PASSWORD, "auth": DUMMY, "guest_access_token": guest["access_token"]}
    for changes, errcode in (
        ({"guest_access_token": "gha_nonsense"}, "M_FORBIDDEN"),
        ({"guest_access_token": desk.register("other")["access_token"]}, "M_FORBIDDEN"),
        ({"guest_access_token": 1}, "M_BAD_JSON"),
        ({"username": "somebody"}, "M_FORBIDDEN"),
        ({"username": None}, "M_MISSING_PARAM"),
        ({"password": "short"}, "M_WEAK_PASSWORD"),
        ({"guest_access_token": None}, "M_USER_IN_USE"),
    ):
        assert desk.post("/register", {**body, **changes}).errcode == errcode
    assert desk.get("/account/whoami", token=guest["access_token"]).json["is_guest"] is True
    done = desk.post("/register", body)
    assert done.status == 200 and done.json["user_id"] == guest["user_id"]
    for token in (guest["access_token"], done.json["access_token"]):
        assert desk.get("/account/whoami", token=token).json["is_guest"] is False
    assert len(desk.get("/devices", token=done.json["access_token"]).json["devices"]) == 2
    login = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": name}, "password": PASSWORD}
    assert desk.post("/login", login).status == 200
    assert desk.post("/register", body).errcode == "M_FORBIDDEN"  # no guest any more


def test_too_many_from_one_address(database: Database, pump: Pump) -> None:
    limits = RateLimits(registration=RateLimit(0.01, 2))
    desk = Desk.open(database, pump, open_settings(rate_limits=limits))
    for name in ("a", "b"):
        desk.register(name)
    refused = desk.post("/register", {"username": "c", "password": PASSWORD, "auth": DUMMY})
    assert refused.errcode == "M_LIMIT_EXCEEDED"
    other = desk.post("/register", {"username": "c", "password": PASSWORD, "auth": DUMMY}, address="192.0.2.99")
    assert other.status == 200


# Tokens


@pytest.fixture
def picky(database: Database, pump: Pump) -> Desk:
    registration = Registration(enabled=True, requires_token=True, tokens=("friend", "family"))
    limits = RateLimits(login_failed=RateLimit(0.01, 3), registration=RateLimit(1, 100))
    desk = Desk.open(database, pump, open_settings(registration=registration, rate_limits=limits))
    pump.wait(database.write(add_token, "once", 1, None))
    pump.wait(database.write(add_token, "late", None, 999_000_000))
    pump.wait(database.write(add_token, "today", None, 1_001_000_000))
    return desk


def with_token(desk: Desk, name: str, token: object) -> Any:
    auth = {"type": "m.login.registration_token", "token": token}
    return desk.post("/register", {"username": name, "password": PASSWORD, "auth": auth})


def test_registration_tokens(picky: Desk) -> None:
    assert picky.post("/register", {}).json["flows"] == [{"stages": ["m.login.registration_token"]}]
    assert picky.post("/register", {"password": PASSWORD, "auth": DUMMY}).status == 401
    for name, token in (("a", "friend"), ("b", "friend"), ("c", "family"), ("d", "once"), ("e", "today")):
        assert with_token(picky, name, token).status == 200
    for token in ("once", "late"):
        refused = with_token(picky, "f", token)
        assert (refused.status, refused.errcode) == (401, "M_UNAUTHORIZED")
        assert refused.json["session"]
    picky.later(100_000)
    assert with_token(picky, "f", "today").errcode == "M_UNAUTHORIZED"
    picky.later(1_000)
    assert with_token(picky, "f", None).errcode == "M_MISSING_PARAM"


def test_tokens_cannot_be_guessed_for_ever(picky: Desk) -> None:
    found = [with_token(picky, "a", f"guess{number}").errcode for number in range(4)]
    assert found == ["M_UNAUTHORIZED"] * 3 + ["M_LIMIT_EXCEEDED"]


def test_validity(picky: Desk) -> None:
    path = "/_matrix/client/v1/register/m.login.registration_token/validity"
    for token, valid in (("friend", True), ("once", True), ("late", False), ("x", False), ("%00", False), ("", False)):
        assert picky.ask("GET", f"{path}?token={token}").json == {"valid": valid}


def test_the_last_use_of_a_token_goes_to_one(picky: Desk) -> None:
    """Two sessions that both passed the stage: the second registration finds the token used up."""
    proofs = {"m.login.registration_token": "once"}
    registration = picky.accounts.registration
    picky.pump.wait(registration.make("a", PASSWORD, proofs=proofs))
    with pytest.raises(Exception, match="used up"):
        picky.pump.wait(registration.make("b", PASSWORD, proofs=proofs))
    assert picky.login("b").status == 403


# The shared secret

ADMIN_REGISTER = "/_synapse/admin/v1/register"


def mac_of(secret: str, *words: str) -> str:
    return hmac.new(secret.encode(), b"\0".join(word.encode() for word in words), hashlib.sha1).hexdigest()


def with_mac(desk: Desk, secret: str, **changes: Any) -> Any:
    nonce = desk.ask("GET", ADMIN_REGISTER).json["nonce"]
    mac = mac_of(secret, nonce, "Root", PASSWORD, "admin")
    body = {"nonce": nonce, "username": "Root", "password": PASSWORD, "admin": True, "mac": mac, **changes}
    return desk.ask("POST", ADMIN_REGISTER, body)


def test_shared_secret(database: Database, pump: Pump) -> None:
    desk = Desk.open(database, pump, with_secret("s3cret"))
    response = with_mac(desk, "s3cret", displayname="The Root")
    assert response.status == 200
    assert response.json["user_id"] == "@root:test.example"
    assert desk.works(response.json["access_token"])
    assert desk.ear.heard == [("registered", "@root:test.example", "The Root")]
    who = pump.wait(desk.accounts.sessions.authenticate.find(response.json["access_token"]))
    assert who.is_admin
    assert with_mac(desk, "s3cret").errcode == "M_USER_IN_USE"


SECRET_REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"mac": "00"}, 403, "M_FORBIDDEN"),
    ({"mac": "\N{CAT}"}, 403, "M_FORBIDDEN"),
    ({"admin": False}, 403, "M_FORBIDDEN"),
    ({"user_type": "bot"}, 403, "M_FORBIDDEN"),
    ({"username": "other"}, 403, "M_FORBIDDEN"),
    ({"nonce": "made up"}, 400, "M_UNKNOWN"),
    ({"password": "a\0b"}, 400, "M_INVALID_PARAM"),
    ({"admin": "yes"}, 400, "M_BAD_JSON"),
    ({"mac": None}, 400, "M_BAD_JSON"),
]


def test_shared_secret_refused(database: Database, pump: Pump) -> None:
    desk = Desk.open(database, pump, with_secret("s3cret"))
    for changes, status, errcode in SECRET_REFUSED:
        response = with_mac(desk, "s3cret", **changes)
        assert (changes, response.status, response.errcode) == (changes, status, errcode)


def test_a_nonce_is_good_once_and_for_a_minute(database: Database, pump: Pump) -> None:
    desk = Desk.open(database, pump, with_secret("s3cret"))
    nonce = desk.ask("GET", ADMIN_REGISTER).json["nonce"]
    body = {"nonce": nonce, "username": "x", "password": PASSWORD, "mac": "wrong"}
    assert desk.ask("POST", ADMIN_REGISTER, body).status == 403
    right = {**body, "mac": mac_of("s3cret", nonce, "x", PASSWORD, "notadmin")}
    assert desk.ask("POST", ADMIN_REGISTER, right).errcode == "M_UNKNOWN"
    nonce = desk.ask("GET", ADMIN_REGISTER).json["nonce"]
    desk.later(61)
    right = {**body, "nonce": nonce, "mac": mac_of("s3cret", nonce, "x", PASSWORD, "notadmin")}
    assert desk.ask("POST", ADMIN_REGISTER, right).errcode == "M_UNKNOWN"


def test_without_a_secret(database: Database, pump: Pump) -> None:
    desk = Desk.open(database, pump, with_secret(None))
    assert desk.ask("GET", ADMIN_REGISTER).errcode == "M_UNKNOWN"
    body = {"nonce": "", "username": "x", "password": PASSWORD, "mac": mac_of("", "", "x", PASSWORD, "notadmin")}
    assert desk.ask("POST", ADMIN_REGISTER, body).errcode == "M_UNKNOWN"


def test_the_old_way_in(desk: Desk) -> None:
    """r0 paths answer too."""
    assert desk.ask("POST", V3.replace("v3", "r0") + "/register", {}).status == 401
