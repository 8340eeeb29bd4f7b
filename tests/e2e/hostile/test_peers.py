"""The routes for other servers, asked by somebody who is none: nothing is done or told without a signature."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from homeserver.federation_api.all import FEDERATION_ROUTES
from homeserver.http.route import Auth, Route, routes_of
from tests.e2e.hostile.conftest import SECRET, new_scene
from tests.e2e.hostile.line import Line, describe, segment
from tests.e2e.hostile.test_parameters import SEGMENTS, TEXTS
from tests.fixtures_server import ServerProcess, running_servers

ROUTES = [route for module in FEDERATION_ROUTES for route in routes_of(module)]
SIGNED = [route for route in ROUTES if route.auth is Auth.FEDERATION]
OPEN = [route for route in ROUTES if route.auth is Auth.NONE]
SIGNATURE = "A" * 86
#: A server that nobody answers for: the connection is refused at once.
NOBODY = "127.0.0.1:1"
HEADERS = {
    "none": None,
    "empty": "",
    "a person's": "Bearer abc",
    "the scheme alone": "X-Matrix",
    "no parameters": "X-Matrix ",
    "no signature": f'X-Matrix origin="{NOBODY}",key="ed25519:1"',
    "no origin": f'X-Matrix key="ed25519:1",sig="{SIGNATURE}"',
    "no key": f'X-Matrix origin="{NOBODY}",sig="{SIGNATURE}"',
    "empty parameters": 'X-Matrix origin="",key="",sig="",destination=""',
    "ourselves": f'X-Matrix origin="localhost",destination="localhost",key="ed25519:1",sig="{SIGNATURE}"',
    "for somebody else": f'X-Matrix origin="{NOBODY}",destination="b",key="ed25519:1",sig="{SIGNATURE}"',
    "unreachable": f'X-Matrix origin="{NOBODY}",destination="localhost",key="ed25519:1",sig="{SIGNATURE}"',
    "another algorithm": f'X-Matrix origin="{NOBODY}",destination="localhost",key="rsa:1",sig="{SIGNATURE}"',
    "no base64": f'X-Matrix origin="{NOBODY}",destination="localhost",key="ed25519:1",sig="!!!"',
    "no name": f'X-Matrix origin="@a:b",destination="localhost",key="ed25519:1",sig="{SIGNATURE}"',
    "a path for a name": f'X-Matrix origin="../../etc",destination="localhost",key="ed25519:1",sig="{SIGNATURE}"',
    "an open quote": 'X-Matrix origin="127.0.0.1:1',
    "commas": "X-Matrix ,,,,=,=,",
    "backslashes": 'X-Matrix origin="\\"\\\\",key="\\',
    "not ASCII": "X-Matrix origin=\xe9,key=\xff,sig=\xfe",
    "endless": "X-Matrix " + "origin=a," * 1000,
}
BODIES = [
    b"",
    b"{}",
    b"[]",
    b"{",
    b'{"pdus":[' + b"[" * 9000,
    b"\xff",
    b'{"pdus":[{}],"edus":[{"edu_type":"m.typing"}]}',
]


@pytest.fixture(scope="module")
def besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that federates, but asks nobody about strangers."""
    with running_servers(lambda: tmp_path_factory.mktemp("besieged")) as start:
        yield start(federation__notaries="[]")


def _filled(route: Route, values: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: segment(values.get(match[1], "x")), route.path)


@pytest.mark.parametrize("kind", HEADERS)
def test_unsigned(besieged: ServerProcess, line: Line, kind: str) -> None:
    scene = new_scene(besieged)
    values = {"room_id": scene.room_id, "event_id": scene.event_id, "user_id": f"@a:{NOBODY}"}
    line.secrets = (SECRET,)
    header = HEADERS[kind]
    headers = {} if header is None else {"Authorization": header}
    wrong = []
    for route in SIGNED:
        for body in BODIES if route.method != "GET" else [None]:
            target = _filled(route, values)
            answer = line.ask(route.method, target, body, headers=headers)
            wrong += [describe((route.method, target), answer, flaw) for flaw in line.flaws(answer)]
            if (answer.status, answer.json["errcode"]) != (401, "M_UNAUTHORIZED"):
                wrong.append(describe((route.method, target, body), answer, "not 401"))
    assert not wrong, "\n".join(wrong[:20])


def test_what_is_open(besieged: ServerProcess, line: Line) -> None:
    """Keys and the version may be asked for by anybody, in any odd way."""
    wrong = []
    names = [text for text in SEGMENTS if "localhost" not in text and "." not in text] + ["localhost", NOBODY]
    for route in OPEN:
        for name in re.findall(r"\{(\w+)\}", route.path) or [""]:
            for text in names if name else [""]:
                target = _filled(route, {name: "mark", "server_name": "localhost"} | ({name: "mark"} if name else {}))
                answer = line.ask(route.method, target.replace("mark", text), b"{}" if route.method == "POST" else None)
                wrong += [describe((route.method, target, text), answer, flaw) for flaw in line.flaws(answer)]
        for name in route.query:
            for text in TEXTS:
                target = f"{_filled(route, {'server_name': 'localhost'})}?{name}={text}"
                answer = line.ask(route.method, target, b"{}" if route.method == "POST" else None)
                wrong += [describe((route.method, target), answer, flaw) for flaw in line.flaws(answer)]
    assert not wrong, "\n".join(wrong[:20])


@pytest.mark.parametrize(
    "body",
    [
        *BODIES,
        b'{"server_keys":5}',
        b'{"server_keys":{"a\0b":{}}}',
        b'{"server_keys":{"":{"":{}}}}',
        b'{"server_keys":{"localhost":{"ed25519:1":{"minimum_valid_until_ts":1e400}}}}',
        b'{"server_keys":{"localhost":[]}}',
        b'{"server_keys":{"localhost":{"x":{"minimum_valid_until_ts":9999999999999999999999}}}}',
    ],
)
def test_asking_for_keys(line: Line, body: bytes) -> None:
    answer = line.ask("POST", "/_matrix/key/v2/query", body)
    assert not line.flaws(answer), answer
