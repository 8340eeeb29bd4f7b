"""OpenID tokens over HTTP: whose they are, for how long, and that they open nothing else."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from homeserver.accounts.openid import LIFETIME_S
from storage.database import Database
from tests.accounts.desk import PASSWORD, Desk
from tests.fixtures_db import SERVER_NAME, Pump
from tests.http.wire import Response

ANN = f"@ann:{SERVER_NAME}"


@pytest.fixture
def desk(database: Database, pump: Pump) -> Desk:
    return Desk.open(database, pump)


def issue(desk: Desk, access: str, user_id: str = ANN) -> Response:
    return desk.post(f"/user/{quote(user_id)}/openid/request_token", token=access)


def who_is(desk: Desk, token: str) -> Response:
    return desk.ask("GET", f"/_matrix/federation/v1/openid/userinfo?access_token={quote(token, safe='')}")


def test_a_token_proves_who_made_it(desk: Desk) -> None:
    access = desk.register("ann")["access_token"]
    made = issue(desk, access)
    assert made.status == 200
    token = made.json["access_token"]
    assert made.json == {
        "access_token": token,
        "token_type": "Bearer",
        "matrix_server_name": SERVER_NAME,
        "expires_in": LIFETIME_S,
    }
    again = issue(desk, access).json["access_token"]
    assert again != token
    for each in (token, again, token):
        answer = who_is(desk, each)
        assert (answer.status, answer.json) == (200, {"sub": ANN})
    assert not desk.works(token), "it is no access token"
    assert who_is(desk, access).status == 401, "and an access token is none of these"


def test_a_token_is_kept_as_a_hash_only(desk: Desk) -> None:
    token = issue(desk, desk.register("ann")["access_token"]).json["access_token"]
    rows = desk.pump.wait(desk.database.run(lambda cursor: cursor.execute("SELECT * FROM openid_tokens").fetchall()))
    assert len(rows) == 1
    assert token not in str(rows) and token.encode() not in bytes(rows[0][0])


def test_it_expires_and_is_forgotten(desk: Desk) -> None:
    access = desk.register("ann")["access_token"]
    token = issue(desk, access).json["access_token"]
    desk.later(LIFETIME_S - 1)
    assert who_is(desk, token).status == 200
    desk.later(1)
    refused = who_is(desk, token)
    assert (refused.status, refused.errcode) == (401, "M_UNKNOWN_TOKEN")
    issue(desk, access)
    count = desk.pump.wait(
        desk.database.run(lambda cursor: cursor.execute("SELECT COUNT(*) FROM openid_tokens").fetchone())
    )
    assert count == (1,)


def test_it_dies_with_the_account(desk: Desk) -> None:
    access = desk.register("ann")["access_token"]
    token = issue(desk, access).json["access_token"]
    auth = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "ann"}, "password": PASSWORD}
    assert desk.post("/account/deactivate", {"auth": auth}, token=access).status == 200
    assert who_is(desk, token).status == 401


def test_nobody_gets_one_for_somebody_else(desk: Desk) -> None:
    access = desk.register("ann")["access_token"]
    refused = issue(desk, access, f"@bob:{SERVER_NAME}")
    assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN")
    assert desk.post(f"/user/{quote(ANN)}/openid/request_token").errcode == "M_MISSING_TOKEN"


@pytest.mark.parametrize("token", ["", "x", "gho_", "\0", "ü" * 50, "a" * 600, "'; DROP TABLE users"])
def test_what_is_no_token_is_nobodys(desk: Desk, token: str) -> None:
    refused = who_is(desk, token)
    assert (refused.status, refused.errcode) == (401, "M_UNKNOWN_TOKEN")


def test_a_token_must_be_named(desk: Desk) -> None:
    missing = desk.ask("GET", "/_matrix/federation/v1/openid/userinfo")
    assert (missing.status, missing.errcode) == (401, "M_MISSING_TOKEN")
