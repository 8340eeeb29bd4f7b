"""Every route against whoever means ill, or cannot do better: a clear Matrix error each time and never a 500.

The server's log is judged at the end of the run: whatever went wrong inside would stand there as an error.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, get_type_hints
from urllib.parse import quote

import msgspec
import pytest
from attrs import frozen

from homeserver.client.all import ALL_ROUTES
from homeserver.http.bodies import IncomingBody
from homeserver.http.route import Auth, Route, routes_of
from tests.e2e.hostile.line import Line
from tests.fixtures_server import Answer, Person, ServerProcess

ROUTES: list[Route] = [row for module in ALL_ROUTES for row in routes_of(module)]

BEFORE = "what was said before"
AFTER = "what was said after"
ROOM_NAME = "the name of the room"
TOPIC = "the topic that nobody else may read"


def for_each(rows: Iterable[Route]) -> pytest.MarkDecorator:
    listed = list(rows)
    return pytest.mark.parametrize("row", listed, ids=[f"{row.method} {row.path}" for row in listed])


each_route = for_each(ROUTES)
each_with_token = for_each(row for row in ROUTES if row.auth not in (Auth.NONE, Auth.OPTIONAL))
each_with_body = for_each(row for row in ROUTES if row.method != "GET")
each_in_rooms = for_each(row for row in ROUTES if "{room_id}" in row.path or "{room_id_or_alias}" in row.path)


@frozen
class Stage:
    """A private room of Alice's, which Carol has left, and which Mallory was never in."""

    line: Line
    alice: Person
    carol: Person
    mallory: Person
    room_id: str
    event_id: str
    """Of a message that was sent after Carol had left."""

    def values(self, **changes: str) -> Mapping[str, str]:
        """Something good for each parameter in a path."""
        usual = {
            "room_id": self.room_id,
            "room_id_or_alias": self.room_id,
            "room_alias": "#nothing:localhost",
            "alias": "#nothing:localhost",
            "event_id": self.event_id,
            "user_id": self.alice.user_id,
            "event_type": "m.room.name",
            "state_key": "",
            "txn_id": "txn",
            "device_id": self.alice.device_id,
            "receipt_type": "m.read",
            "filter_id": "0",
        }
        return {**usual, **changes}

    def fill(self, path: str, **changes: str) -> str:
        values = self.values(**changes)
        return re.sub(r"\{(\w+)\}", lambda name: quote(values.get(name[1], "x"), safe=""), path)


@pytest.fixture(scope="module")
def stage(shared_server: ServerProcess) -> Iterator[Stage]:
    # Where processes share the work, one of them may come back to this module and set the stage once more.
    scene = secrets.token_hex(4)
    alice, carol, mallory = (shared_server.register(f"{name}-{scene}") for name in ("alice", "carol", "mallory"))
    room_id = alice.create_room(
        preset="private_chat", name=ROOM_NAME, topic=TOPIC, invite=[carol.user_id], initial_state=[joined_only()]
    )
    carol.join(room_id)
    alice.say(room_id, BEFORE)
    carol.call("POST", f"/_matrix/client/v3/rooms/{quote(room_id)}/leave", {})
    event_id = alice.say(room_id, AFTER)
    alice.call("PUT", f"/_matrix/client/v3/rooms/{quote(room_id)}/state/m.room.topic", {"topic": TOPIC + AFTER})
    line = Line(shared_server)
    yield Stage(line, alice, carol, mallory, room_id, event_id)
    line.close()


def joined_only() -> dict[str, Any]:
    return {"type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": "joined"}}


def judge(answer: Answer, *statuses: int) -> Answer:
    """What every answer has to be, whatever was asked."""
    assert answer.status != 500, answer
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    if answer.status >= 400 and answer.json.get("flows") is None:
        assert re.fullmatch(r"M_[A-Z_]+", answer.json["errcode"]), answer
        assert isinstance(answer.json["error"], str)
    if statuses:
        assert answer.status in statuses, answer
    return answer


def token_for(row: Route, person: Person) -> str | None:
    return None if row.auth is Auth.NONE else person.token


# Who is asking


@each_with_token
def test_without_a_token(stage: Stage, row: Route) -> None:
    answer = judge(stage.line.ask(row.method, stage.fill(row.path)), 401)
    assert answer.json["errcode"] == "M_MISSING_TOKEN"
    for token in ("made up", "x" * 5000, "\N{LATIN SMALL LETTER Y WITH DIAERESIS}"):
        answer = judge(stage.line.ask(row.method, stage.fill(row.path), b"{}", token=token), 401)
        assert answer.json["errcode"] == "M_UNKNOWN_TOKEN"


@each_route
def test_other_methods(stage: Stage, row: Route) -> None:
    path = stage.fill(row.path)
    assert stage.line.ask("OPTIONS", path).status == 204
    answer = judge(stage.line.ask("PROPFIND", path, b"{}", token=stage.mallory.token), 405)
    assert answer.json["errcode"] == "M_UNRECOGNIZED"
    assert row.method in answer.headers["Allow"]
    for wrong in (path + "/more/and/more", "/_matrix/client/v9" + path[19:]):
        assert judge(stage.line.ask(row.method, wrong, token=stage.mallory.token), 404)


# Bodies

BODIES = [
    (b"{", "M_NOT_JSON"),
    (b"\xff\xfe", "M_NOT_JSON"),
    (b'{"a":"\xc3\x28"}', "M_NOT_JSON"),
    (b"{'a': 1}", "M_NOT_JSON"),
    (b'{"a":NaN}', "M_NOT_JSON"),
    (b"[" * 100_000, "M_NOT_JSON"),
    (b"[]", "M_BAD_JSON"),
    (b"null", "M_BAD_JSON"),
    (b'"text"', "M_BAD_JSON"),
    (b"5", "M_BAD_JSON"),
    (b'{"a":' + b"[" * 500 + b"]" * 500 + b"}", "M_BAD_JSON"),
]


@each_with_body
def test_bodies(stage: Stage, row: Route) -> None:
    path, token = stage.fill(row.path), token_for(row, stage.mallory)
    for body, errcode in BODIES:
        if len(body) > row.max_body or not takes_json(row):
            continue
        answer = judge(stage.line.ask(row.method, path, body, token=token), 400)
        assert answer.json["errcode"] == errcode, (body[:20], answer)
    if takes_file(row):
        return
    answer = judge(stage.line.ask(row.method, path, b" " * (row.max_body + 1), token=token), 413)
    assert answer.json["errcode"] == "M_TOO_LARGE"


WRONG: list[Any] = [
    None, True, 5, -1, 2**53, 2**70, 1.5, 1e300, "", "x", "\0", "a" * 3000, "\N{CAT}", "!", "@", "#:", [], [None],
    ["\0"], [[]], [{}], {}, {"": {}}, {"\0": 1}, {"type": []}, {"a": {"b": {"c": [1.5]}}},
]  # fmt: skip


@cache
def ask_of(row: Route) -> type[msgspec.Struct] | None:
    """The Struct that a route's handler takes, if any."""
    kinds = get_type_hints(row.handler).values()
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, msgspec.Struct)), None)


@cache
def takes_json(row: Route) -> bool:
    """Whether the body is JSON: only what comes as bare bytes or as a file is not."""
    kind = ask_of(row)
    return not takes_file(row) and (kind is None or row.body is None or get_type_hints(kind)[row.body] is not bytes)


def takes_file(row: Route) -> bool:
    """Whether the body is taken as it comes. Its limit is a setting, which `tests.media` has tests of."""
    return IncomingBody in get_type_hints(row.handler).values()


def body_fields(row: Route) -> Iterator[str]:
    kind = ask_of(row)
    elsewhere = {*re.findall(r"\{(\w+)\}", row.path), *row.query, row.body}
    for one in msgspec.structs.fields(kind) if kind is not None else ():
        if one.encode_name not in elsewhere:
            yield one.encode_name


@each_with_body
def test_wrong_values_in_the_body(stage: Stage, row: Route) -> None:
    path, token = stage.fill(row.path), token_for(row, stage.alice)
    if row.body is not None:
        for value in WRONG:
            judge(stage.line.ask(row.method, path, {"name": value, "membership": value, "x": value}, token=token))
    fields = list(body_fields(row))
    for name in fields:
        for value in WRONG:
            answer = judge(stage.line.ask(row.method, path, {name: value}, token=token))
            if answer.status == 400:
                assert answer.json["errcode"] not in ("M_NOT_JSON", "M_UNRECOGNIZED")
    if fields:
        for value in WRONG:
            judge(stage.line.ask(row.method, path, dict.fromkeys(fields, value), token=token))


QUERIES = [
    "", "x", "null", "-1", "1.5", "99999999999999999999999", "%00", "%ff", "%F0%9F%90%88", "a" * 3000, "{", "[]", "{}",
]  # fmt: skip


@each_route
def test_wrong_values_in_the_query(stage: Stage, row: Route) -> None:
    path, token = stage.fill(row.path), token_for(row, stage.alice)
    for name in row.query:
        for value in QUERIES:
            for start in ("", *(f"{other}=1&" for other in row.query if other != name)):
                target = f"{path}?{start}{name}={value}"
                answer = judge(stage.line.ask(row.method, target, b"{}" if row.method != "GET" else None, token=token))
                if value == "%ff":
                    assert answer.json["errcode"] == "M_INVALID_PARAM"


PATHS = [
    "x", "!", "!x", "@x", "@:", "#", "#x:", "$", "$x", "\0", "\N{CAT}", "a" * 300, "a/b", "..", "%", "?",
    "!x:localhost", "@x:localhost", "@x:elsewhere.example", "$" + "a" * 43,
]  # fmt: skip


@each_route
def test_wrong_values_in_the_path(stage: Stage, row: Route) -> None:
    names = re.findall(r"\{(\w+)\}", row.path)
    body = None if row.method == "GET" else b"{}"
    token = token_for(row, stage.mallory)
    for name in names:
        for value in PATHS:
            judge(stage.line.ask(row.method, stage.fill(row.path, **{name: value}), body, token=token))
        broken = re.sub(r"\{" + name + r"\}", "%ff%fe", row.path)
        answer = judge(stage.line.ask(row.method, stage.fill(broken), body, token=token), 400)
        assert answer.json["errcode"] == "M_INVALID_PARAM"


# Who may not know

#: What does not depend on being in the room: one's own settings for it, and whether it is listed.
FOR_ALL = ("/account_data/", "/tags", "/directory/list/")


def leaks(answer: Answer, secrets: Iterable[str]) -> list[str]:
    return [secret for secret in secrets if secret.encode() in answer.body]


@each_in_rooms
def test_rooms_of_others(stage: Stage, row: Route) -> None:
    """Nobody learns anything of a room that they are not in, nor whether it is there."""
    body = None if row.method == "GET" else b"{}"
    mine = {"user_id": stage.mallory.user_id}
    there = judge(stage.mallory.request(row.method, stage.fill(row.path, **mine), body))
    assert not leaks(there, (BEFORE, AFTER, ROOM_NAME, TOPIC))
    nowhere = judge(stage.mallory.request(row.method, stage.fill(row.path, room_id="!nowhere:localhost", **mine), body))
    if any(part in row.path for part in FOR_ALL):
        return
    if there.status < 400:
        assert there.json in ({}, {"joined": False}), there  # the same as for a room that is not there
    assert (there.status < 400) == (nowhere.status < 400), (there, nowhere)
    assert nowhere.status in (400, 403, 404), nowhere


@each_in_rooms
def test_rooms_that_one_has_left(stage: Stage, row: Route) -> None:
    """Who has left does not learn what came later."""
    if row.path.endswith("/forget"):
        return  # that is what may be done, and this test does not end with it
    body = None if row.method == "GET" else b"{}"
    answer = judge(stage.carol.request(row.method, stage.fill(row.path, user_id=stage.carol.user_id), body))
    assert not leaks(answer, (AFTER, TOPIC + AFTER)), answer


def test_the_fields_are_known() -> None:
    """What the tables above rest on: most routes with a body have fields."""
    assert sum(1 for row in ROUTES if list(body_fields(row))) > 15
