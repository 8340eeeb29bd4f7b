"""Every route with parameters, in the query and in the path, that are of the wrong kind or of no kind at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from homeserver.guilds.api.fields import API
from homeserver.http.route import Route
from tests.e2e.hostile.calls import QUERY, ROUTES, Call, Scene, evolve, operation_of
from tests.e2e.hostile.conftest import is_intact, new_scene
from tests.e2e.hostile.line import Line, describe, segment
from tests.e2e.hostile.test_bodies import read_everything
from tests.fixtures_server import ServerProcess
from tests.spec.operations import complaints

#: As they stand in the query, encoded.
TEXTS = [
    "", "x", "0", "-1", "+1", "1.5", "1e3", "1e999", "9" * 30, "-" + "9" * 30, "9007199254740993", "NaN", "Infinity",
    "true", "True", "null", "None", "%00", "a%00b", "%FF", "%ED%A0%80", "%C0%80", "%", "%zz", "%F0%9F%8F%B0", "+",
    "%20", "%22", "%27%3B--", "[]", "{}", "x" * 9000, "s1_2_3", "s-1", "s9999999999999999999999", "t1-2_3", "s1", "s0",
    "1_2_3", "p1.e1", quote('{"a":1}'), "%F4%90%80%80",
]  # fmt: skip
#: JSON in the query, and in the body that defines a filter.
FILTERS = [
    "", "{", "[]", "null", "1", '"x"', '{"room":1}', '{"room":{"timeline":1}}', '{"limit":"x"}', '{"limit":-1}',
    '{"limit":0}', '{"limit":1e3}', '{"limit":1.5}', '{"limit":' + "9" * 40 + "}", '{"types":"x"}', '{"types":[1]}',
    '{"types":[null]}', '{"types":["\\u0000"]}', '{"types":["\\ud800"]}', '{"types":["' + "*a" * 500 + 'b"]}',
    '{"not_types":["**************************************************************x"]}', '{"senders":[""]}',
    '{"senders":["\\u0000"]}', '{"not_senders":["@a:b","@a:b"]}', '{"rooms":["!x"]}', '{"rooms":["\\u0000"]}',
    '{"not_rooms":[[]]}', '{"contains_url":"yes"}', '{"contains_url":1}', '{"lazy_load_members":"x"}',
    '{"related_by_rel_types":"x"}', '{"a":' * 3000 + "1" + "}" * 3000, "[" * 10_000,
    '{"room":{"timeline":{"limit":-5}}}',
    '{"event_fields":"x"}', '{"event_fields":["a.b.\\\\.c","",".","\\u0000"]}', '{"event_format":"x"}',
    '{"event_format":"federation"}', '{"room":{"include_leave":"x"}}', '{"room":{"rooms":["\\u0000"]}}',
    '{"room":{"timeline":{"types":["' + "?*" * 200 + '"]}}}', '{"presence":[]}', '{"account_data":{"types":[{}]}}',
    '{"types":["\xed\xa0\x80"]}', '{"room":{"timeline":{"limit":9007199254740993}}}',
    '{"room":{"state":{"limit":true}}}',
]  # fmt: skip
#: Path segments, encoded.
SEGMENTS = [
    "x", "%00", "a%00b", "!", "%21", "!x", "!x:localhost", "!x%00:localhost", "!:localhost", "!x:elsewhere.example",
    "!" + "x" * 300 + ":localhost", "%24x", "$", "$x:localhost", "$" + "x" * 43, "$" + "%00" * 43, "@x:localhost",
    "@:localhost", "@", "@x", "@%00:localhost", "@x:", "@x:localhost:0:0", "@x:[::1", "@" + "x" * 300 + ":localhost",
    "#", "%23", "%23x", "%23x:localhost", "%23x:elsewhere.example", "%23%00:localhost", "%23x:127.0.0.1:1",
    "%F0%9F%8F%B0", "%ED%A0%80", "%FF", "%", "%zz", "%2F", "..", "%2e%2e", ".", "%20", "%0d%0a", "~", "*", "%25",
    "null", "undefined", "0", "-1", "9" * 40, "9223372036854775808", "x" * 5000, "m.read", "m.room.create",
    "m.push_rules", "m.fully_read", "m.ignored_user_list", "m.direct", "avatar_url", "m.tz", "%3B", "a;b", "a=b", "a&b",
    "%C0%AF", "%EF%BF%BF", "%E2%80%AE", "_", "m.read.private", "true",
]  # fmt: skip


def with_queries(call: Call) -> Iterator[tuple[str, str, Call]]:
    """A good call with one parameter of its query spoiled: its name, its text, the call."""
    for name in call.route.query:
        texts = [*TEXTS, *(quote(text) for text in FILTERS)] if name == "filter" else TEXTS
        others = urlencode({other: value for other, value in call.query.items() if other != name})
        path = evolve(call, query={}).target
        for text in texts:
            yield name, text, evolve(call, raw=f"{path}?{others}&{name}={text}")
        yield name, "", evolve(call, raw=f"{path}?{others}&{name}={QUERY[name]}&{name}={QUERY[name]}")
        yield name, "", evolve(call, raw=f"{path}?{others}&{name}")


def is_wrong_for_the_specification(route: Route, name: str, text: str) -> bool:
    """Whether it says that the parameter is of another kind."""
    operation = operation_of(route)
    if operation is None or "%" in text:
        return False
    schema: Any = next((one.schema for one in operation.parameters if (one.place, one.name) == ("query", name)), {})
    match schema.get("type"):
        case "integer":
            return re.fullmatch(r"[+-]?[0-9]+(e[0-9]+)?", text) is None
        case "boolean":
            return text.lower() not in ("true", "false", "0", "1")
        case "string":
            return bool(complaints(schema, text))
    return False


def test_odd_queries(besieged: ServerProcess, line: Line, scene: Scene) -> None:
    wrong, tried = [], 0
    for route in ROUTES:
        for name, text, call in with_queries(scene.call(route)):
            answer = line.ask(
                route.method,
                call.target.encode("utf-8", "surrogatepass").decode("latin-1"),
                call.body,
                token=scene.person.token,
            )
            tried += 1
            wrong += [describe(call, answer, flaw) for flaw in line.flaws(answer)]
            if answer.status == 200 and text and is_wrong_for_the_specification(route, name, text):
                wrong.append(describe(call, answer, f"{name} taken"))
    assert not wrong, f"{len(wrong)} of {tried}\n" + "\n".join(wrong)
    assert tried > 500


def test_odd_filters(line: Line, scene: Scene) -> None:
    """Defined, and used if they can be."""
    wrong = []
    path = f"/_matrix/client/v3/user/{segment(scene.person.user_id)}/filter"
    for text in FILTERS:
        answer = line.ask("POST", path, text.encode("utf-8", "surrogatepass"), token=scene.person.token)
        wrong += [describe(text, answer, flaw) for flaw in line.flaws(answer)]
        if answer.status == 200:
            number = answer.json["filter_id"]
            for target in (f"{path}/{number}", f"/_matrix/client/v3/sync?filter={number}"):
                answer = line.ask("GET", target, token=scene.person.token)
                wrong += [describe((text, target), answer, flaw) for flaw in line.flaws(answer)]
    assert not wrong, "\n".join(wrong)


def test_odd_paths(request: pytest.FixtureRequest, besieged: ServerProcess, line: Line, scene: Scene) -> None:
    """Each segment in each place, on the one database or the other."""
    share = ("sqlite", "postgresql").index(request.node.callspec.params["besieged"])
    wrong, tried = [], 0
    turns = count()
    for route in ROUTES:
        for name in re.findall(r"\{(\w+)\}", route.path):
            # The many calls of the guild API read their paths in the same few ways: each segment is tried in some.
            segments = SEGMENTS[next(turns) % 6 :: 6] if route.path.startswith(API) else SEGMENTS[share::2]
            for text in segments:
                call = scene.call(route)
                mark = f"mark-{name}"
                target = evolve(call, values={**call.values, name: mark}).target.replace(mark, text)
                answer = line.ask(route.method, target, call.body, token=scene.person.token)
                tried += 1
                wrong += [describe((route.method, target), answer, flaw) for flaw in line.flaws(answer)]
        if not is_intact(scene):
            scene = new_scene(besieged)
    assert not wrong, f"{len(wrong)} of {tried}\n" + "\n".join(wrong)
    assert tried > 2000
    read_everything(line, scene)


@pytest.mark.parametrize(
    ("target", "errcode", "name"),
    [
        ("/register/available", "M_MISSING_PARAM", "username"),
        ("/rooms/{}/messages?dir=x", "M_INVALID_PARAM", "dir"),
        ("/rooms/{}/messages?dir=b&limit=x", "M_INVALID_PARAM", "limit"),
        ("/rooms/{}/members?membership=null", "M_INVALID_PARAM", "membership"),
        ("/sync?full_state=perhaps", "M_INVALID_PARAM", "full_state"),
    ],
)
def test_errors_name_the_parameter(line: Line, scene: Scene, target: str, errcode: str, name: str) -> None:
    target = "/_matrix/client/v3" + target.format(segment(scene.room_id))
    answer = line.ask("GET", target, token=scene.person.token)
    assert (answer.status, answer.json["errcode"]) == (400, errcode)
    assert f"'{name}'" in answer.json["error"]
