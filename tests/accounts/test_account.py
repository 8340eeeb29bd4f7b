"""One's own account: devices, password, the end; all confirmed by password, and by nobody else's."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from config import Passwords, RateLimit, RateLimits, Registration, Server
from homeserver.accounts.interactive import MAX_SESSIONS, SESSION_MS
from storage.accounts import count_accounts
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


def proof(name: str, password: str = PASSWORD, session: str | None = None, **more: Any) -> dict[str, Any]:
    auth = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": name}, "password": password}
    return {**auth, **({"session": session} if session else {}), **more}


# Devices


def test_devices(desk: Desk) -> None:
    token = desk.register("alice", device_id="PHONE", initial_device_display_name="Phone")["access_token"]
    desk.login("alice", device_id="LAPTOP")
    assert desk.get("/devices", token=token).json == {
        "devices": [
            {"device_id": "LAPTOP"},
            {
                "device_id": "PHONE",
                "display_name": "Phone",
                "last_seen_ip": "192.0.2.7",
                "last_seen_ts": 1_000_000_000,
            },
        ]
    }
    assert desk.ask("PUT", "/_matrix/client/v3/devices/LAPTOP", {"display_name": "Läptop"}, token=token).json == {}
    assert desk.get("/devices/LAPTOP", token=token).json == {"device_id": "LAPTOP", "display_name": "Läptop"}
    assert desk.ask("PUT", "/_matrix/client/v3/devices/LAPTOP", {}, token=token).json == {}
    assert desk.get("/devices/LAPTOP", token=token).json["display_name"] == "Läptop"


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_devices_that_are_not_there(desk: Desk, method: str) -> None:
    token = desk.register("alice", device_id="PHONE")["access_token"]
    desk.register("bob", device_id="SECRET")
    for device_id in ("OTHER", "SECRET", "%00", "x" * 300):
        for body in ({"display_name": "Mine"}, {}):
            path = f"/_matrix/client/v3/devices/{device_id}"
            assert desk.ask(method, path, body if method == "PUT" else None, token=token).errcode == "M_NOT_FOUND"


def test_device_names(desk: Desk) -> None:
    token = desk.register("alice", device_id="PHONE", initial_device_display_name="a\0b" + "x" * 200)["access_token"]
    assert desk.get("/devices/PHONE", token=token).json["display_name"] == "ab" + "x" * 98
    for name, errcode in (("x" * 101, "M_INVALID_PARAM"), ("a\0", "M_INVALID_PARAM"), (5, "M_BAD_JSON")):
        path = "/_matrix/client/v3/devices/PHONE"
        assert desk.ask("PUT", path, {"display_name": name}, token=token).errcode == errcode


def test_last_seen_is_written_down_now_and_then(desk: Desk, database: Database, pump: Pump) -> None:
    token = desk.register("alice", device_id="PHONE")["access_token"]
    assert desk.works(token)
    desk.later(100)
    assert desk.works(token)
    pump.wait(desk.accounts.close())
    other = Desk.open(database, pump)
    other.later(5000)
    laptop = other.login("alice").json["access_token"]
    found = other.get("/devices/PHONE", token=laptop).json
    assert (found["last_seen_ts"], found["last_seen_ip"]) == (1_000_000_000, "192.0.2.7")


def delete(desk: Desk, device_id: str, token: str, auth: Any = None) -> Any:
    body = {} if auth is None else {"auth": auth}
    return desk.ask("DELETE", f"/_matrix/client/v3/devices/{device_id}", body, token=token)


def test_deleting_a_device(desk: Desk) -> None:
    token = desk.register("alice", device_id="PHONE")["access_token"]
    laptop = desk.login("alice", device_id="LAPTOP").json["access_token"]
    first = delete(desk, "LAPTOP", token)
    assert (first.status, first.json["flows"]) == (401, [{"stages": ["m.login.password"]}])
    session = first.json["session"]
    wrong = delete(desk, "LAPTOP", token, proof("alice", "wrong", session))
    assert (wrong.status, wrong.errcode, wrong.json["session"]) == (401, "M_FORBIDDEN", session)
    assert wrong.json["flows"] == first.json["flows"]
    assert desk.works(laptop)
    assert delete(desk, "LAPTOP", token, proof("alice", session=session)).json == {}
    assert not desk.works(laptop)
    assert desk.works(token)
    assert desk.ear.heard[-1] == ("devices removed", "@alice:test.example", ["LAPTOP"])
    assert delete(desk, "LAPTOP", token, proof("alice")).status == 200  # gone already
    assert delete(desk, "LAPTOP", token, proof("alice", session=session)).status == 401  # a session is good once


def test_without_any_body(desk: Desk) -> None:
    token = desk.register("alice", device_id="PHONE")["access_token"]
    assert desk.ask("DELETE", "/_matrix/client/v3/devices/PHONE", token=token).status == 401


def test_somebody_elses_password_is_no_proof(desk: Desk) -> None:
    token = desk.register("alice", device_id="PHONE")["access_token"]
    desk.register("bob", password="bobs own password")
    for auth in (proof("bob", "bobs own password"), proof("@alice:elsewhere.example"), proof("a\0b")):
        refused = delete(desk, "PHONE", token, auth)
        assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN")
    assert desk.works(token)


def test_a_proof_without_a_name_means_oneself(desk: Desk) -> None:
    token = desk.register("alice", device_id="PHONE")["access_token"]
    assert delete(desk, "X", token, {"type": "m.login.password", "password": PASSWORD}).status == 200
    assert delete(desk, "X", token, {"type": "m.login.password", "user": "Alice", "password": PASSWORD}).status == 200
    assert delete(desk, "X", token, {"type": "m.login.password"}).errcode == "M_MISSING_PARAM"
    assert delete(desk, "X", token, {"type": "m.login.password", "password": 5}).errcode == "M_BAD_JSON"
    assert delete(desk, "X", token, {"type": "m.login.dummy"}).status == 401


def test_a_session_is_for_one_thing_of_one_user(desk: Desk) -> None:
    alice = desk.register("alice", device_id="PHONE")["access_token"]
    bob = desk.register("bob")["access_token"]
    session = delete(desk, "LAPTOP", alice).json["session"]
    auth = proof("alice", session=session)
    assert delete(desk, "PHONE", alice, auth).errcode == "M_FORBIDDEN"
    assert desk.post("/delete_devices", {"devices": ["PHONE"], "auth": auth}, token=alice).errcode == "M_FORBIDDEN"
    assert desk.post("/account/deactivate", {"auth": auth}, token=alice).errcode == "M_FORBIDDEN"
    change = {"new_password": "something else", "auth": auth}
    assert desk.post("/account/password", change, token=alice).errcode == "M_FORBIDDEN"
    assert delete(desk, "LAPTOP", bob, proof("bob", session=session)).errcode == "M_FORBIDDEN"
    assert desk.post("/register", {"password": PASSWORD, "auth": auth}).errcode == "M_FORBIDDEN"
    assert desk.works(alice)
    assert delete(desk, "LAPTOP", alice, auth).status == 200


def test_deleting_many_devices(desk: Desk) -> None:
    token = desk.register("alice", device_id="PHONE")["access_token"]
    others = [desk.login("alice", device_id=name).json["access_token"] for name in "ABC"]
    body: dict[str, Any] = {"devices": ["A", "B", "A", "NOTHING"]}
    session = desk.post("/delete_devices", body, token=token).json["session"]
    body = {"devices": ["B", "A", "NOTHING"], "auth": proof("alice", session=session)}
    assert desk.post("/delete_devices", body, token=token).json == {}
    assert [desk.works(other) for other in others] == [False, False, True]
    for devices in (None, "A", [1], {"A": 1}):
        assert desk.post("/delete_devices", {"devices": devices}, token=token).errcode == "M_BAD_JSON"
    assert desk.post("/delete_devices", {}, token=token).errcode == "M_MISSING_PARAM"


# Passwords


def change_password(desk: Desk, token: str, new: object, **more: Any) -> Any:
    return desk.post("/account/password", {"new_password": new, "auth": proof("alice"), **more}, token=token)


def test_changing_the_password(desk: Desk) -> None:
    token = desk.register("alice")["access_token"]
    other = desk.login("alice").json["access_token"]
    assert desk.post("/account/password", {"new_password": "a new password"}, token=token).status == 401
    assert change_password(desk, token, "a new password").json == {}
    assert desk.login("alice").status == 403
    assert desk.login("alice", "a new password").status == 200
    assert desk.works(token)
    assert not desk.works(other)


def test_changing_the_password_and_staying_logged_in(desk: Desk) -> None:
    token = desk.register("alice")["access_token"]
    other = desk.login("alice").json["access_token"]
    assert change_password(desk, token, "a new password", logout_devices=False).status == 200
    assert desk.works(other)


def test_passwords_that_cannot_be(desk: Desk) -> None:
    token = desk.register("alice")["access_token"]
    for new, errcode in (("short", "M_WEAK_PASSWORD"), ("x" * 513, "M_WEAK_PASSWORD"), (5, "M_BAD_JSON")):
        assert change_password(desk, token, new).errcode == errcode
    assert desk.post("/account/password", {"auth": proof("alice")}, token=token).errcode == "M_MISSING_PARAM"
    assert desk.post("/account/password", {"new_password": "a new password"}).errcode == "M_MISSING_TOKEN"
    assert desk.login("alice").status == 200


# The end


@pytest.mark.parametrize("erase", [False, True])
def test_deactivating(desk: Desk, database: Database, pump: Pump, erase: bool) -> None:
    token = desk.register("alice", device_id="PHONE", refresh_token=True)["access_token"]
    refreshable = desk.login("alice", device_id="OTHER", refresh_token=True).json
    bob = desk.register("bob")["access_token"]
    body = {"erase": True} if erase else {}
    session = desk.post("/account/deactivate", body, token=token).json["session"]
    assert desk.post("/account/deactivate", {**body, "auth": proof("alice", "x", session)}, token=token).status == 401
    assert desk.works(token)
    done = desk.post("/account/deactivate", {**body, "auth": proof("alice", session=session)}, token=token)
    assert done.json == {"id_server_unbind_result": "success"}
    assert not desk.works(token)
    assert not desk.works(refreshable["access_token"])
    assert desk.post("/refresh", {"refresh_token": refreshable["refresh_token"]}).errcode == "M_UNKNOWN_TOKEN"
    assert desk.login("alice").errcode == "M_USER_DEACTIVATED"
    assert desk.get("/register/available?username=alice").errcode == "M_USER_IN_USE"
    assert desk.ear.heard[-2:] == [
        ("devices removed", "@alice:test.example", ["OTHER", "PHONE"]),
        ("deactivated", "@alice:test.example", erase),
    ]
    assert desk.works(bob)
    assert pump.wait(database.run(count_accounts)) == 1


def test_a_confirmation_to_leave_does_not_erase(desk: Desk) -> None:
    token = desk.register("alice")["access_token"]
    session = desk.post("/account/deactivate", {}, token=token).json["session"]
    body = {"erase": True, "auth": proof("alice", session=session)}
    assert desk.post("/account/deactivate", body, token=token).errcode == "M_FORBIDDEN"


# Interactive authentication


def test_asking_how_far_one_is(desk: Desk) -> None:
    token = desk.register("alice")["access_token"]
    session = delete(desk, "X", token).json["session"]
    again = delete(desk, "X", token, {"session": session})
    assert (again.status, again.json["session"], "errcode" in again.json) == (401, session, False)


def test_sessions_end(desk: Desk) -> None:
    token = desk.register("alice")["access_token"]
    session = delete(desk, "X", token).json["session"]
    desk.later(SESSION_MS / 1000 + 1)
    late = delete(desk, "X", token, proof("alice", session=session))
    assert (late.status, late.errcode) == (401, "M_UNKNOWN")
    assert delete(desk, "X", token, proof("alice", session=late.json["session"])).status == 200


def test_sessions_are_bounded(desk: Desk) -> None:
    interactive = desk.accounts.interactive
    for _ in range(MAX_SESSIONS + 10):
        coroutine = interactive.require("x", [["m.login.dummy"]], None, user_id=None, address="")
        with pytest.raises(Exception, match="401"):
            coroutine.send(None)
    assert len(interactive._sessions) == MAX_SESSIONS


def submit(desk: Desk, kind: str, **fields: str) -> Any:
    return desk.ask("POST", f"/_matrix/client/v3/auth/{kind}/fallback/web", urlencode(fields).encode())


def test_stages_in_a_browser(desk: Desk) -> None:
    token = desk.register("alice")["access_token"]
    session = delete(desk, "X", token).json["session"]
    path = "/_matrix/client/v3/auth/m.login.password/fallback/web?session="
    page = desk.ask("GET", path + session)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert f'name="session" value="{session}"' in page.body.decode()
    assert 'type="password"' in page.body.decode()
    wrong = submit(desk, "m.login.password", session=session, password="<b>wrong")
    assert "Wrong user name or password" in wrong.body.decode()
    assert delete(desk, "X", token, {"session": session}).status == 401
    done = submit(desk, "m.login.password", session=session, password=PASSWORD)
    script = done.body.decode().partition("<script>")[2].partition("</script>")[0]
    assert "onAuthDone" in script
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in done.headers["content-security-policy"]
    assert desk.ask("GET", path + session).errcode == "M_NOT_FOUND"
    assert delete(desk, "X", token, {"session": session}).status == 200


def test_stages_in_a_browser_that_are_not_there(desk: Desk) -> None:
    token = desk.register("alice")["access_token"]
    session = delete(desk, "X", token).json["session"]
    for kind, given in (("m.login.password", "made-up"), ("m.login.dummy", session), ("<script>", session)):
        assert desk.ask("GET", f"/_matrix/client/v3/auth/{quote(kind)}/fallback/web?session={given}").status == 404
        assert submit(desk, quote(kind), session=given).status == 404
    path = "/_matrix/client/v3/auth/m.login.password/fallback/web"
    assert desk.ask("GET", path).errcode == "M_MISSING_PARAM"
    assert desk.ask("POST", path, b"session=%ff").errcode == "M_INVALID_PARAM"
    assert desk.ask("POST", path, b"\xff\x00&&==").errcode == "M_NOT_FOUND"
    assert desk.ask("POST", path, b"x" * 4097).errcode == "M_TOO_LARGE"


def test_guessing_by_a_stolen_token(database: Database, pump: Pump) -> None:
    limits = RateLimits(login_failed=RateLimit(0.001, 3))
    desk = Desk.open(database, pump, open_settings(rate_limits=limits))
    token = desk.register("alice")["access_token"]
    found = [delete(desk, "X", token, proof("alice", f"guess {number}")).status for number in range(4)]
    assert found == [401, 401, 401, 429]


# The rest of the front desk


def test_addresses_of_people(desk: Desk) -> None:
    token = desk.register("alice")["access_token"]
    assert desk.get("/account/3pid", token=token).json == {"threepids": []}
    for path in ("/account/3pid/add", "/account/3pid/bind", "/account/3pid", "/register/email/requestToken"):
        refused = desk.post(path, {}, token=token)
        assert (refused.status, refused.errcode) == (403, "M_THREEPID_DENIED")
    assert desk.post("/account/3pid/delete", {}, token=token).json == {"id_server_unbind_result": "no-support"}


def test_versions_and_capabilities(desk: Desk) -> None:
    versions = desk.ask("GET", "/_matrix/client/versions").json
    assert "v1.1" in versions["versions"]
    assert desk.ask("GET", "/_matrix/client/versions", token="expired").status == 200
    token = desk.register("alice")["access_token"]
    found = desk.get("/capabilities", token=token).json["capabilities"]
    assert found["m.room_versions"]["default"] in found["m.room_versions"]["available"]
    assert found["m.change_password"] == {"enabled": True}
    assert desk.get("/capabilities").errcode == "M_MISSING_TOKEN"


@pytest.mark.parametrize(
    ("base_url", "contact", "client", "server", "support"),
    [
        (None, None, None, None, None),
        (
            "https://m.example/",
            "mailto:ops@m.example",
            {"m.homeserver": {"base_url": "https://m.example"}},
            {"m.server": "m.example:443"},
            {"contacts": [{"role": "m.role.admin", "email_address": "ops@m.example"}]},
        ),
        (
            "https://m.example:8448",
            "https://m.example/help",
            {"m.homeserver": {"base_url": "https://m.example:8448"}},
            {"m.server": "m.example:8448"},
            {"support_page": "https://m.example/help"},
        ),
        ("http://10.0.0.1:8008", None, {"m.homeserver": {"base_url": "http://10.0.0.1:8008"}}, None, None),
    ],
)
def test_discovery(
    database: Database, pump: Pump, base_url: str | None, contact: str | None, client: Any, server: Any, support: Any
) -> None:
    settings = open_settings(server=Server(name=SERVER_NAME, public_baseurl=base_url, admin_contact=contact))
    desk = Desk.open(database, pump, settings)
    for what, expected in (("client", client), ("server", server), ("support", support)):
        response = desk.ask("GET", f"/.well-known/matrix/{what}")
        if expected is None:
            assert (response.status, response.errcode) == (404, "M_NOT_FOUND")
        else:
            assert response.json == expected


@pytest.mark.parametrize(
    ("registration", "words"),
    [
        (Registration(enabled=True), "make an account there yourself"),
        (Registration(enabled=True, requires_token=True), "With a registration token"),
        (Registration(enabled=False), "made by the people who run this server"),
    ],
)
def test_landing_page(database: Database, pump: Pump, registration: Registration, words: str) -> None:
    server = Server(name=SERVER_NAME, description="<script>alert(1)</script>", admin_contact="ops@test.example")
    desk = Desk.open(database, pump, open_settings(server=server, registration=registration))
    response = desk.ask("GET", "/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    page = response.body.decode()
    assert words in page
    assert SERVER_NAME in page
    assert 'href="mailto:ops@test.example"' in page
    assert "<script>" not in page


def test_health(desk: Desk) -> None:
    response = desk.ask("GET", "/health")
    assert (response.status, response.body) == (200, b"OK")


def test_hashing_in_a_thread(database: Database, pump: Pump) -> None:
    desk = Desk.open(database, pump, open_settings(passwords=Passwords(argon2_time_cost=1, argon2_memory_kib=1024)))
    desk.register("alice")
    assert desk.login("alice").status == 200
    assert desk.login("alice", "wrong").status == 403
    pump.wait(desk.accounts.close())


def test_tokens_are_not_in_the_database(database: Database, pump: Pump, desk: Desk) -> None:
    found = desk.register("alice", refresh_token=True)
    rows = pump.wait(
        database.run(
            lambda cursor: [
                cursor.execute(f"SELECT * FROM {table}").fetchall()
                for table in ("users", "devices", "access_tokens", "refresh_tokens")
            ]
        )
    )
    written = repr([[tuple(bytes(c) if isinstance(c, memoryview) else c for c in row) for row in t] for t in rows])
    for secret in (found["access_token"], found["refresh_token"], PASSWORD):
        assert secret not in written
