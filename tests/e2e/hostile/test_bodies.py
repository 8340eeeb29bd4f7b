"""Every route that reads a body, with bodies that are no JSON, too deep, too large, or wrong in one member."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from homeserver.http.route import Route
from tests.e2e.hostile.calls import ROUTES, Call, Scene, evolve, fields_of, operation_of, takes_bytes
from tests.e2e.hostile.conftest import is_intact, new_scene
from tests.e2e.hostile.line import Line, describe, segment
from tests.fixtures_server import ServerProcess
from tests.spec.operations import complaints

METHODS = ("PUT", "POST", "PATCH", "DELETE")
READING = [route for route in ROUTES if route.method in METHODS and not takes_bytes(route)]
DEEP = 10_000


def deep(opening: str, levels: int = DEEP) -> bytes:
    closing = {"[": "]", "{": "}"}
    inner = opening if opening == "[" else '{"a":'
    return (inner * levels + ("" if opening == "[" else "1") + closing[opening] * levels).encode()


NO_JSON: dict[str, bytes] = {
    "no JSON": b"hello",
    "a form": b"user=alice&password=secret",
    "cut off": b'{"a": {',
    "two of them": b"{}{}",
    "bad UTF-8": b'{"a": "\xff\xfe"}',
    "overlong UTF-8": b'{"a": "\xc0\x80"}',
    "a surrogate in UTF-8": b'{"a": "\xed\xa0\x80"}',
    "a lone surrogate": b'{"a": "\\ud800"}',
    "a lone surrogate as a name": b'{"\\udfff": 1}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "NUL": b"\0",
    "NUL in a text": b'{"a": "\0"}',
    "NaN": b'{"a": NaN}',
    "infinity": b'{"a": Infinity}',
    "too large a number": b'{"a": 1e400}',
    "hexadecimal": b'{"a": 0x10}',
    "a leading zero": b'{"a": 01}',
    "a comment": b'{"a": 1 /* one */}',
    "a trailing comma": b'{"a": 1,}',
    "single quotes": b"{'a': 1}",
    "deep without an end": b"[" * DEEP,
    "deep objects without an end": b'{"a":' * DEEP,
}
WRONG_SHAPE: dict[str, bytes] = {
    "null": b"null",
    "true": b"true",
    "a number": b"42",
    "a text": b'"hello"',
    "a list": b"[]",
    "a list of objects": b"[{}]",
    "deep": b'{"a":' + deep("[", 900) + b"}",
    "deep objects": deep("{", 900),
}
"""900 levels are parsed; more is not JSON to the parser."""


@pytest.mark.parametrize("kind", [*NO_JSON, *WRONG_SHAPE])
def test_bodies_that_are_none(line: Line, scene: Scene, kind: str) -> None:
    body = NO_JSON.get(kind) or WRONG_SHAPE[kind]
    codes = ("M_NOT_JSON",) if kind in NO_JSON else ("M_BAD_JSON",)
    wrong = []
    for route in READING:
        call = evolve(scene.call(route), body=body)
        answer = call.send(line, scene.person.token)
        wrong += [describe(call, answer, flaw) for flaw in line.flaws(answer)]
        if answer.status != 400 or answer.json["errcode"] not in codes:
            wrong.append(describe(call, answer, f"not {codes}"))
    assert is_intact(scene)
    assert not wrong, "\n".join(wrong)


def test_deep_bodies(line: Line, scene: Scene) -> None:
    """10,000 levels, in every member that may hold anything."""
    wrong = []
    for route in READING:
        names = ["content", *fields_of(route)]
        for name in names:
            for inner in (deep("["), deep("{")):
                call = evolve(scene.call(route), body=b'{"%b": %b}' % (name.encode(), inner))
                answer = call.send(line, scene.person.token)
                wrong += [describe(call, answer, flaw) for flaw in line.flaws(answer)]
                if answer.status not in (400, 413):
                    wrong.append(describe(call, answer, "not refused"))
    assert is_intact(scene)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
def test_huge_bodies(besieged: ServerProcess, scene: Scene, chunked: bool) -> None:
    """Refused by their size alone, before they are read."""
    wrong = []
    for route in READING:
        line = Line(besieged)
        body = b'{"a": "' + b"x" * route.max_body + b'"}'
        headers = {"Transfer-Encoding": "chunked"} if chunked else {}
        data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
        answer = line.ask(route.method, scene.call(route).target, data, token=scene.person.token, headers=headers)
        line.close()
        wrong += [describe(route.path, answer, flaw) for flaw in line.flaws(answer)]
        if (answer.status, answer.json["errcode"]) != (413, "M_TOO_LARGE"):
            wrong.append(describe(f"{route.method} {route.path}", answer, "not 413"))
    assert not wrong, "\n".join(wrong)


VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "zero": 0,
    "minus one": -1,
    "a float": 1.5,
    "a whole float": 5.0,
    "past 2^53": 2**53,
    "past 2^63": 2**63,
    "past 2^64": 2**64,
    "past all": 10**400,
    "very small": -(2**63) - 1,
    "nothing": "",
    "a text": "x",
    "NUL": "a\0b",
    "control characters": "\x01\x1b[31m\x7f\u2028\u202e",
    "an emoji": "🏰" * 50,
    "a long text": "x" * 60_000,
    "a list": [],
    "a list of a list": [[]],
    "a list of null": [None],
    "a list of texts": ["x", "x", ""],
    "a long list": ["x"] * 10_000,
    "an object": {},
    "an object with NUL": {"a\0b": "c\0d", "type": "\0", "user": "\0", "session": "\0", "password": "\0"},
    "an object of objects": {"type": {}, "session": [], "identifier": 5, "user": {}, "password": {}, "content": 1},
    "a list of odd objects": [{"type": "\0", "state_key": "\0", "content": {"\0": 2**60}}],
}


def spoiled(call: Call) -> Iterator[tuple[str, Any, Call]]:
    """A good call with one member of its body replaced: the member's name, its value, the call."""
    for name in fields_of(call.route):
        for value in VALUES.values():
            yield name, value, evolve(call, body={**call.body, name: value})


def is_wrong_for_the_specification(call: Call, name: str, value: Any) -> bool:
    """Whether it says that the member is of another kind."""
    operation = operation_of(call.route)
    schema = (operation.body or {}).get("properties", {}).get(name) if operation is not None else None
    if schema is None or value is None:  # clients say null for what they do not want to say
        return False
    if value == 5.0 and schema.get("type") == "integer":  # JSON Schema calls 5.0 an integer
        return False
    return bool(complaints(schema, value))


#: Members whose exact shape does not matter to us, so that any is taken. `algorithm` (of backups): COMPAT Complement,
#: which has one of its own.
LENIENT = {
    "algorithm",
    "third_party_signed",
    "client_secret",
    "send_attempt",
    "id_server",
    "third_party_instance_id",
    "auth",
}


def mend(scene: Scene, route: Route) -> None:
    """Let everybody be in the room again, so that the next call has something to end."""
    path = f"/_matrix/client/v3/rooms/{segment(scene.room_id)}"
    match route.path.rpartition("/")[2]:
        case "leave":
            scene.person.join(scene.room_id)
        case "kick" | "ban":
            scene.person.request("POST", f"{path}/unban", {"user_id": scene.friend.user_id})
            scene.friend.join(scene.room_id)


def test_wrong_members(besieged: ServerProcess, line: Line, scene: Scene) -> None:
    wrong, tried = [], 0
    for route in READING:
        if not is_intact(scene):
            scene = new_scene(besieged)
        for name, value, call in spoiled(scene.call(route)):
            answer = call.send(line, scene.person.token)
            tried += 1
            wrong += [describe(call, answer, flaw) for flaw in line.flaws(answer)]
            if answer.status == 200 and name not in LENIENT and is_wrong_for_the_specification(call, name, value):
                wrong.append(describe(call, answer, f"{name} taken"))
            if answer.status == 200:
                mend(scene, route)
    assert not wrong, f"{len(wrong)} of {tried}\n" + "\n".join(wrong)
    assert tried > 1000
    read_everything(line, scene)


WHOLE = [route for route in READING if route.body is not None]
CONTENTS: dict[str, Any] = {
    **{f"{kind} as a member": {"a": value, "displayname": value} for kind, value in VALUES.items()},
    "an empty name": {"": ""},
    "NUL as a name": {"\0": "\0"},
    "many members": {str(number): number for number in range(5_000)},
    "too much": {"a": "x" * 70_000},
    "almost too deep": {"a": [[[[[[[[[[{"b": 1}]]]]]]]]]]},
    "what only servers say": {"membership": "join", "join_authorised_via_users_server": "@a:b", "unsigned": {"age": 1}},
}


def test_odd_contents(besieged: ServerProcess, line: Line, scene: Scene) -> None:
    """Where the whole body is somebody's own: it is kept as it is or refused, and what was kept can be read again."""
    wrong = []
    for route in WHOLE:
        for content in CONTENTS.values():
            call = evolve(scene.call(route), body=content)
            answer = call.send(line, scene.person.token)
            wrong += [describe(call, answer, flaw) for flaw in line.flaws(answer)]
    assert not wrong, "\n".join(wrong)
    assert is_intact(scene)
    read_everything(line, scene)


#: Type → what its events must hold to be taken, and the members that the server reads in it.
STATE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "m.room.create": ({}, ["creator", "type", "predecessor", "additional_creators", "m.federate", "room_version"]),
    "m.room.member": (
        {"membership": "join"},
        ["displayname", "avatar_url", "reason", "is_direct", "third_party_invite", "join_authorised_via_users_server"],
    ),
    "m.room.power_levels": (
        {},
        ["ban", "events_default", "invite", "kick", "redact", "state_default", "users_default", "users", "events",
         "notifications"],
    ),
    "m.room.join_rules": ({}, ["join_rule", "allow"]),
    "m.room.history_visibility": ({}, ["history_visibility"]),
    "m.room.guest_access": ({}, ["guest_access"]),
    "m.room.canonical_alias": ({}, ["alias", "alt_aliases"]),
    "m.room.name": ({}, ["name"]),
    "m.room.topic": ({}, ["topic", "m.topic"]),
    "m.room.avatar": ({}, ["url"]),
    "m.room.encryption": ({}, ["algorithm"]),
    "m.room.third_party_invite": ({}, ["display_name", "public_key", "public_keys"]),
    "m.room.tombstone": ({}, ["replacement_room"]),
    "m.room.redaction": ({}, ["redacts"]),
    "m.room.aliases": ({}, ["aliases"]),
}  # fmt: skip


@pytest.mark.parametrize("version", ["1", "12"])
def test_odd_state(besieged: ServerProcess, line: Line, version: str) -> None:
    """State of the types that the server reads, with every kind of value: the room stays readable."""
    wrong, taken = [], set()
    for event_type, (base, members) in STATE.items():
        scene = new_scene(besieged, version)
        for value in VALUES.values():
            path = f"/_matrix/client/v3/rooms/{segment(scene.room_id)}/state"
            whose = {"m.room.member": scene.person.user_id, "m.room.aliases": besieged.name}
            state_key = segment(whose.get(event_type, ""))
            for content in [{**base, name: value} for name in members] + [{**base, **dict.fromkeys(members, value)}]:
                answer = line.ask("PUT", f"{path}/{event_type}/{state_key}", content, token=scene.person.token)
                wrong += [describe((event_type, content), answer, flaw) for flaw in line.flaws(answer)]
                if answer.status == 200:
                    taken.add(event_type)
            if line.ask("PUT", f"{path}/org.example.thing", {}, token=scene.person.token).status != 200:
                # What was taken took the right to say more.
                read_everything(line, scene)
                scene = new_scene(besieged, version)
        read_everything(line, scene)
    assert not wrong, "\n".join(wrong)
    assert STATE.keys() - taken == {"m.room.create", "m.room.redaction"}  # never state of a client's


def test_transaction_ids_and_types_with_nul(line: Line, scene: Scene) -> None:
    """PostgreSQL cannot keep NUL in a text: whatever is taken must come back as it was."""
    wrong = []
    scene.more = {"event_type": "org\0example", "state_key": "\0", "txn_id": "a\0b", "tag": "u.\0", "type": "a\0b"}
    for route in ROUTES:
        if {"{event_type}", "{state_key}", "{txn_id}", "{tag}", "{type}"} & {*route.path.split("/")}:
            call = scene.call(route)
            answer = call.send(line, scene.person.token)
            wrong += [describe(call, answer, flaw) for flaw in line.flaws(answer)]
    assert not wrong, "\n".join(wrong)
    read_everything(line, scene)


def read_everything(line: Line, scene: Scene) -> None:
    """A person's rooms and data are still there to be read, by themselves and by their friend."""
    for target in (
        "/_matrix/client/v3/sync?full_state=true",
        "/_matrix/client/v3/joined_rooms",
        "/_matrix/client/v3/publicRooms",
        *(
            f"/_matrix/client/v3/rooms/{scene.room_id}/{what}"
            for what in ("state", "members", "joined_members", "messages?dir=b&limit=1000", "messages?dir=f&limit=1000")
        ),
        f"/_matrix/client/v3/rooms/{scene.room_id}/context/{scene.event_id}?limit=100",
    ):
        answer = line.ask("GET", target, token=scene.person.token)
        assert answer.status == 200, f"{target}: {answer.status} {answer.body[:300]!r}"
        assert answer.json is not None
