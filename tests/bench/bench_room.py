"""What the protocol's centre costs for one message of a room of 100 members."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import pytest

from federation.room.auth import PowerLevels, auth_types_for, check_auth
from federation.room.build import build_event
from federation.room.canonical import canonical_json, check_strict, parse_json
from federation.room.event import Event, StateKey
from federation.room.hashing import event_id_of
from federation.room.parse import content_hash_matches, load_event, parse_pdu
from federation.room.redaction import redact_event
from federation.room.resolution import resolve
from federation.room.signing import SigningKey
from federation.room.versions import ROOM_VERSIONS

VERSION = ROOM_VERSIONS["12"]
KEY = SigningKey.from_seed("a", bytes(32))
ALICE = "@alice:example.org"
MEMBERS = 100
ROUNDS = 15
ROUND_S = 0.1


class _Room:
    def __init__(self) -> None:
        self.state: dict[StateKey, Event] = {}
        self.events: dict[str, Event] = {}
        self.room_id: str | None = None
        self.last: list[str] = []
        create = self.add("m.room.create", "", {"room_version": VERSION.identifier})
        self.room_id = create.room_id
        self.add("m.room.member", ALICE, {"membership": "join"})
        self.add("m.room.power_levels", "", {"events": {"m.room.topic": 50}})
        self.add("m.room.join_rules", "", {"join_rule": "public"})
        for number in range(MEMBERS):
            member = f"@member{number}:example.org"
            self.add("m.room.member", member, {"membership": "join", "displayname": f"Member {number}"}, member)

    def add(self, type: str, state_key: str | None, content: dict[str, Any], sender: str = ALICE) -> Event:
        event = self.build(type, state_key, content, sender)
        self.events[event.event_id] = event
        self.last = [event.event_id]
        if state_key is not None:
            self.state[type, state_key] = event
        return event

    def build(self, type: str, state_key: str | None, content: dict[str, Any], sender: str = ALICE) -> Event:
        keys = auth_types_for(VERSION, type=type, sender=sender, state_key=state_key, content=content)
        return build_event(
            VERSION,
            room_id=self.room_id,
            type=type,
            sender=sender,
            content=content,
            state_key=state_key,
            prev_events=self.last,
            auth_events=[self.state[key].event_id for key in keys if key in self.state],
            depth=len(self.events) + 1,
            origin_server_ts=1_700_000_000_000 + len(self.events),
            server_name="example.org",
            key=KEY,
        )

    def look_up(self, type: str, state_key: str) -> Event | None:
        return self.state.get((type, state_key))


_CONTENT = {"msgtype": "m.text", "body": "Rain, beans and the cat. " * 4, "m.mentions": {}}


def _benchmarks() -> Mapping[str, Callable[[], object]]:
    room = _Room()
    message = room.build("m.room.message", None, _CONTENT)
    fields = message.to_json()
    power = PowerLevels.parse(VERSION, room.state["m.room.create", ""], room.state["m.room.power_levels", ""])
    base = {key: event.event_id for key, event in room.state.items()}
    forks = []
    for topic in ("one", "other"):
        event = room.build("m.room.topic", "", {"topic": topic})
        room.events[event.event_id] = event
        forks.append({**base, ("m.room.topic", ""): event.event_id})
    return {
        "canonical JSON of a message": lambda: canonical_json(fields),
        "strictness of a message": lambda: check_strict(fields),
        "parsing a message's JSON": lambda: parse_json(message.raw),
        "event id of a message": lambda: event_id_of(VERSION, fields),
        "building and signing a message": lambda: room.build("m.room.message", None, _CONTENT),
        "reading a peer's message": lambda: parse_pdu(VERSION, message.raw),
        "content hash of a message": lambda: content_hash_matches(message),
        "loading a stored message": lambda: load_event(VERSION, message.event_id, message.raw),
        "redacting a message": lambda: redact_event(VERSION, message),
        "auth rules, power levels parsed": lambda: check_auth(VERSION, message, room.look_up, power),
        "auth rules": lambda: check_auth(VERSION, message, room.look_up),
        "resolving two topics, 100 members": lambda: resolve(VERSION, forks, room.events),
    }


def measure(work: Callable[[], object]) -> list[float]:
    """CPU time per call of each round, in microseconds."""
    work()
    calls = 1
    while (taken := _time(work, calls)) < ROUND_S:
        calls = max(calls * 2, int(calls * ROUND_S / max(taken, 1e-9)))
    gc.collect()
    gc.disable()
    try:
        return [_time(work, calls) / calls * 1e6 for _ in range(ROUNDS)]
    finally:
        gc.enable()


def _time(work: Callable[[], object], calls: int) -> float:
    started = time.process_time()
    for _ in range(calls):
        work()
    return time.process_time() - started


def test_hot_paths(capsys: pytest.CaptureFixture[str]) -> None:
    """Prints the median and the best of its rounds."""
    with capsys.disabled():
        print(f"\n{'microseconds of CPU per call':40} {'median':>8} {'best':>8}")
        for name, work in _benchmarks().items():
            figures = measure(work)
            print(f"{name:40} {median(figures):8.1f} {min(figures):8.1f}")
