"""Every route without a token, with a wrong one, with somebody else's; wrong methods, and paths that lead nowhere."""

from __future__ import annotations

import re

import pytest

from homeserver.http.route import Auth
from tests.e2e.hostile.calls import ROUTES, Scene, evolve
from tests.e2e.hostile.conftest import SECRET
from tests.e2e.hostile.line import Line, describe
from tests.fixtures_server import ServerProcess

WITH_TOKEN = [route for route in ROUTES if route.auth not in (Auth.NONE, Auth.OPTIONAL)]
METHODS = ("GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "TRACE", "PROPFIND", "get")
TOKENS = {
    "unknown": "not_a_token",
    "of a known shape": "syt_YWxpY2U_abcdefghijklmnopqrst_1a2b3c",
    "endless": "a" * 8000,
    "not ASCII": "t\xf6k\xe9n",
    "quoted": "'; DROP TABLE sessions; --",
}


def test_without_a_token(line: Line, scene: Scene) -> None:
    line.secrets = (SECRET,)
    wrong = []
    for route in WITH_TOKEN:
        call = scene.call(route)
        answer = call.send(line, None)
        wrong += [describe(call, answer, flaw) for flaw in line.flaws(answer)]
        if (answer.status, (answer.json or {}).get("errcode")) != (401, "M_MISSING_TOKEN"):
            wrong.append(describe(call, answer, "not 401"))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("kind", TOKENS)
def test_with_an_unknown_token(line: Line, scene: Scene, kind: str) -> None:
    line.secrets = (SECRET,)
    wrong = []
    for route in ROUTES:
        if route.auth is Auth.NONE:
            continue
        call = scene.call(route)
        answer = call.send(line, TOKENS[kind])
        wrong += [describe(call, answer, flaw) for flaw in line.flaws(answer)]
        if (answer.status, (answer.json or {}).get("errcode")) != (401, "M_UNKNOWN_TOKEN"):
            wrong.append(describe(call, answer, "not 401"))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("header", ["Basic YWxpY2U6c2VjcmV0", "Bearer", "Bearer ", "bearer", "", "X-Matrix origin=a"])
def test_with_something_else_for_a_token(line: Line, header: str) -> None:
    answer = line.ask("GET", "/_matrix/client/v3/account/whoami", headers={"Authorization": header})
    assert (answer.status, answer.json["errcode"]) == (401, "M_MISSING_TOKEN")


def test_with_a_token_that_is_over(besieged: ServerProcess, line: Line, scene: Scene) -> None:
    gone = besieged.register("gone" + scene.alias[1:].partition(":")[0])
    gone.call("POST", "/_matrix/client/v3/logout", {})
    line.secrets = (SECRET,)
    wrong = []
    for route in WITH_TOKEN:
        call = scene.call(route)
        answer = call.send(line, gone.token)
        if (answer.status, answer.json["errcode"]) != (401, "M_UNKNOWN_TOKEN"):
            wrong.append(describe(call, answer, "not 401"))
    assert not wrong, "\n".join(wrong)


#: Everybody may look at these of anybody's.
PUBLIC = {
    "POST /_matrix/client/v3/users/{user_id}/report",  # and is told nothing by it
    "GET /_matrix/client/v3/profile/{user_id}",
    "GET /_matrix/client/v3/profile/{user_id}/{key}",
}


def test_with_anothers_token(besieged: ServerProcess, line: Line, scene: Scene) -> None:
    """Where the path names a user or a device, another may neither look nor touch, and learns nothing."""
    mallory = besieged.register("mallory" + scene.alias[1:].partition(":")[0])
    data = f"/_matrix/client/v3/user/{scene.person.user_id}/account_data/org.example.data"
    scene.person.call("PUT", data, {"mine": SECRET})
    scene.person.call("PUT", f"/_matrix/client/v3/devices/{scene.person.device_id}", {"display_name": SECRET})
    line.secrets = (SECRET,)
    wrong, tried = [], 0
    for route in ROUTES:
        if not re.search(r"\{(user_id|device_id)\}", route.path) or f"{route.method} {route.path}" in PUBLIC:
            continue
        call = scene.call(route)
        answer = call.send(line, mallory.token)
        wrong += [describe(call, answer, flaw) for flaw in line.flaws(answer)]
        # Deleting begins by asking for a password, whether there is such a device or not.
        if answer.status not in (403, 404) and (route.method, answer.status) != ("DELETE", 401):
            wrong.append(describe(call, answer, "not refused"))
        tried += 1
    assert not wrong, "\n".join(wrong)
    assert tried > 15
    assert scene.person.call("GET", data) == {"mine": SECRET}


def test_with_wrong_methods(line: Line, scene: Scene) -> None:
    served: dict[str, set[str]] = {}
    for route in ROUTES:
        served.setdefault(re.sub(r"\{\w+\}", "{}", route.path), set()).add(route.method)
    line.secrets = (SECRET,)
    wrong = []
    for route in ROUTES:
        known = served[re.sub(r"\{\w+\}", "{}", route.path)]
        for method in METHODS:
            if method in known or (method == "HEAD" and "GET" in known):
                continue
            call = scene.call(route)
            answer = line.ask(method, call.target, b"{}", token=scene.person.token)
            if method != "HEAD":
                wrong += [describe(call, answer, flaw) for flaw in line.flaws(answer)]
            if answer.status != 405 or not known <= {*answer.headers["Allow"].split(", ")}:
                wrong.append(describe((method, call), answer, "not 405"))
    assert not wrong, "\n".join(wrong)


def test_head_is_get_without_a_body(line: Line, scene: Scene) -> None:
    wrong = []
    for route in ROUTES:
        if route.method != "GET":
            continue
        call = scene.call(route)
        answer = line.ask("HEAD", call.target, token=scene.person.token)
        whole = line.ask("GET", call.target, token=scene.person.token)
        if answer.body or answer.status != whole.status:
            wrong.append(describe(call, answer, "not like GET"))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "target",
    [
        "/_matrix",
        "/_matrix/",
        "/_matrix/client",
        "/_matrix/client/v3",
        "/_matrix/client/v3/",
        "/_matrix/client/v3/nothing",
        "/_matrix/client/v5/sync",
        "/_matrix/client/unstable/org.example/sync",
        "/_matrix/client/v3/sync/",
        "/_matrix/client/v3/sync/more",
        "/_matrix/client/v3//sync",
        "//_matrix/client/v3/sync",
        "/_matrix/client/v3/rooms//state",
        "/_matrix/client/v3/rooms/%21a/../sync",
        "/_matrix/client/v3/%73ync",
        "/_matrix/client/V3/sync",
        "/_matrix/federation/v1/none",
        "/_matrix/media/v3/nothing",
        "/_matrix/app/v1/ping",
        "/_synapse/admin/v2/users",
        "/_guildhall/",
        "/etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/.git/config",
        "/.well-known/matrix/nothing",
        "/" + "a/" * 2000,
        "/" + "a" * 10_000,
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_paths_that_lead_nowhere(line: Line, method: str, target: str) -> None:
    for token in (None, "unknown"):
        answer = line.ask(method, target, b"{}" if method == "POST" else None, token=token)
        assert (answer.status, answer.json["errcode"]) == (404, "M_UNRECOGNIZED")
        assert not line.flaws(answer)


def test_the_old_prefix_is_the_same(line: Line, scene: Scene) -> None:
    """What is served under v3 is served under r0, to the same people."""
    wrong = []
    for route in ROUTES:
        if route.path.startswith("/_matrix/client/v3/") and route.auth is not Auth.NONE:
            call = scene.call(route)
            answer = evolve(call, raw=call.target.replace("/v3/", "/r0/", 1)).send(line, "unknown")
            if (answer.status, answer.json["errcode"]) != (401, "M_UNKNOWN_TOKEN"):
                wrong.append(describe(call, answer, "not the same"))
    assert not wrong, "\n".join(wrong)
