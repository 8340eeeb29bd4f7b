"""The protocol's centre: what composing, reading and judging one event costs."""

from __future__ import annotations

from typing import Any

import canonicaljson
import pytest

from federation.room.auth import Allowed, PowerLevels, auth_types_of, check_auth
from federation.room.build import build_event
from federation.room.canonical import canonical_json, check_strict, parse_json
from federation.room.event import Event
from federation.room.hashing import event_id_of
from federation.room.parse import content_hash_matches, load_event, parse_pdu
from federation.room.redaction import redact_event
from federation.room.resolution import find_conflict, resolve_conflict
from federation.room.signing import SigningKey
from federation.room.versions import ROOM_VERSIONS
from homeserver.rooms.render import Reader, client_event
from storage.ports import StoredEvent
from tests.bench.busy import TEXT
from tests.bench.meter import calm_collector, time_of
from tests.bench.table import Table
from tests.federation.room.history import Author

VERSION = ROOM_VERSIONS["12"]
KEY = SigningKey.generate("bench")
ROOM_ID = "!" + "r" * 43
ALICE = "@alice:test.example"


def build(content: dict[str, Any]) -> Event:
    return build_event(
        VERSION,
        room_id=ROOM_ID,
        type="m.room.message",
        sender=ALICE,
        content=content,
        prev_events=["$" + "p" * 43],
        auth_events=["$" + letter * 43 for letter in "ab"],
        depth=1234,
        origin_server_ts=1_700_000_000_000,
        server_name="test.example",
        key=KEY,
    )


@pytest.mark.timeout(0)
def test_protocol() -> None:
    table = Table("The protocol's centre", ["CPU µs", "each"])

    def row(name: str, operation: Any, times: int = 2_000) -> None:
        table.add(name, time_of(operation, times).process_us)

    content = {"msgtype": "m.text", "body": TEXT}
    event = build(content)
    fields = event.to_json()
    large = build({"msgtype": "m.text", "body": TEXT * 500})
    stored = StoredEvent(1, 1, 1, event, 1, 1)
    reader = Reader(ALICE, "DEVICE", 1_700_000_001_000)
    author = Author(VERSION)
    author.begin("public", {}, [f"@m{n}:a" for n in range(1_000)])
    author.write("HELLO", "m.room.message", "@m7:a", {"body": "hello"})
    server = author.server
    state = server.current_state()
    message = author.written[-1]
    join = server.events["$M7"]
    needed = {key: server.events[state[key]] for key in auth_types_of(VERSION, message) if key in state}
    needed["m.room.create", ""] = server.events["$CREATE"]

    def look(event_type: str, state_key: str) -> Event | None:
        return needed.get((event_type, state_key))

    power = PowerLevels.parse(VERSION, needed["m.room.create", ""], needed["m.room.power_levels", ""])
    assert isinstance(check_auth(VERSION, message, look, power), Allowed)
    with calm_collector():
        row("build_event: compose, hash, sign a message", lambda: build(content))
        row("  of which signing", lambda: KEY.sign(event.raw))
        row("build_event, 40,000 bytes", lambda: build({"msgtype": "m.text", "body": TEXT * 500}), 200)
        row("parse_pdu: take a message from a peer apart", lambda: parse_pdu(VERSION, event.raw))
        row("  of which its content's hash", lambda: content_hash_matches(event))
        row("  its event id", lambda: event_id_of(VERSION, fields))
        row("  its JSON alone", lambda: parse_json(event.raw))
        row("load_event: the same from the database", lambda: load_event(VERSION, event.event_id, event.raw))
        row("check_auth: a message", lambda: check_auth(VERSION, message, look, power))
        row("check_auth: a join, levels to be parsed", lambda: check_auth(VERSION, join, look))
        row("canonical JSON of a message's event", lambda: canonical_json(fields))
        row("  by canonicaljson", lambda: canonicaljson.encode_canonical_json(fields))
        row("  and whether it is strict", lambda: check_strict(fields))
        row("redact a message", lambda: redact_event(VERSION, event))
        row("render a reader's copy", lambda: client_event(stored, reader))
        row("render a reader's copy of 40,000 bytes", lambda: client_event(StoredEvent(2, 2, 1, large, 1, 1), reader))
        for count in (1, 10):
            forks = fork(author, count)
            conflict = find_conflict(VERSION, forks)
            row(
                f"resolve_conflict: {len(conflict.keys)} keys of 1,000, no index",
                lambda conflict=conflict: resolve_conflict(VERSION, conflict, server.events),
                100,
            )
    table.print()


def fork(author: Author, count: int) -> list[Any]:
    """Two forks of the room that differ in its topic and the names of so many people."""
    base = author.written[-1].event_id[1:]
    forks = []
    for side in "LR":
        name = f"{side}{count}"
        author.write(name, "m.room.topic", "@alice:a", {"topic": side}, state_key="", after=[base])
        for n in range(count):
            content = {"membership": "join", "displayname": side}
            author.write(f"{name}_{n}", "m.room.member", f"@m{n}:a", content, state_key=f"@m{n}:a")
        forks.append(author.server.state_after[author.written[-1].event_id])
    return forks
