"""Hostile bytes against the protocol's centre: it says what is wrong with them, and never anything else."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import canonicaljson
import pytest

from federation.room.auth import Allowed, PowerLevels, Refused, auth_types_for, check_auth, check_auth_events
from federation.room.build import build_event
from federation.room.canonical import BadJson, canonical_json, canonical_json_loose, check_strict, parse_json
from federation.room.event import Event, StateKey
from federation.room.format import BadEvent
from federation.room.parse import content_hash_matches, load_event, parse_pdu
from federation.room.redaction import redact, redact_event
from federation.room.signing import SigningKey
from federation.room.versions import ROOM_VERSIONS, RoomVersion
from tests.fuzz.mutate import as_json, spoil, spoil_bytes
from tests.fuzz.rounds import TIMEOUT_S, Play

pytestmark = pytest.mark.timeout(TIMEOUT_S)

KEY = SigningKey.from_seed("a", bytes(32))
ALICE, BOB = "@alice:a", "@bob:a"
VERSIONS = list(ROOM_VERSIONS.values())


class Room:
    """A small room of one version: all that the rules look at, and a message."""

    def __init__(self, version: RoomVersion) -> None:
        self.version = version
        self.state: dict[StateKey, Event] = {}
        self.events: list[Event] = []
        self._add("m.room.create", "", {"room_version": version.identifier, "creator": ALICE})
        self._add("m.room.member", ALICE, {"membership": "join", "displayname": "Alice"})
        levels = {"events": {"m.room.name": 50}, "users_default": 0, "ban": 50, "notifications": {"room": 20}}
        self._add("m.room.power_levels", "", levels | ({} if version.privileged_creators else {"users": {ALICE: 100}}))
        self._add("m.room.join_rules", "", {"join_rule": "public", "allow": [{"type": "m.room_membership"}]})
        self._add("m.room.member", BOB, {"membership": "join"}, sender=BOB)
        self._add("m.room.third_party_invite", "token", {"public_key": "x", "public_keys": [{"public_key": "y"}]})
        invite = {"membership": "invite", "third_party_invite": {"signed": {"mxid": "@c:a", "token": "token"}}}
        self._add("m.room.member", "@c:a", invite)
        self._add("m.room.topic", "", {"topic": "Rain, beans and the cat"})
        self._add("m.room.message", None, {"msgtype": "m.text", "body": "hello", "m.mentions": {}})
        self._add("m.room.redaction", None, {"reason": "no"}, redacts=self.events[-1].event_id)

    def _add(
        self,
        type: str,
        state_key: str | None,
        content: Mapping[str, Any],
        *,
        sender: str = ALICE,
        redacts: str | None = None,
    ) -> None:
        version, number = self.version, len(self.events)
        room_id = self.events[0].room_id if self.events else None if version.room_id_is_hash else "!room:a"
        keys = auth_types_for(version, type=type, sender=sender, state_key=state_key, content=content)
        event = build_event(
            version,
            room_id=room_id,
            type=type,
            sender=sender,
            content=dict(content),
            state_key=state_key,
            redacts=redacts,
            prev_events=[each.event_id for each in self.events[-1:]],
            auth_events=[self.state[key].event_id for key in keys if key in self.state],
            depth=number + 1,
            origin_server_ts=1_700_000_000_000 + number,
            server_name="a",
            key=KEY,
            event_id=f"$event{number}:a" if version.cites_with_hashes else None,
            references={each.event_id: "A" * 43 for each in self.events} if version.cites_with_hashes else None,
        )
        self.events.append(event)
        if state_key is not None:
            self.state[type, state_key] = event

    def look_up(self, type: str, state_key: str) -> Event | None:
        return self.state.get((type, state_key))

    def spoiled(self, chance: Random) -> Event | None:
        """One of the room's events, spoiled, if anything that can be called an event is left of it."""
        fields = chance.choice(self.events).to_json()
        fields["unsigned"] = {"age": 1}
        data = as_json(spoil(chance, fields)) if chance.random() < 0.8 else spoil_bytes(chance, as_json(fields))
        try:
            return parse_pdu(self.version, data)
        except BadEvent:
            return None


ROOMS = {version: Room(version) for version in ROOM_VERSIONS.values()}


def test_canonical_json(play: Play) -> None:
    seeds = [event.to_json() for event in ROOMS[ROOM_VERSIONS["12"]].events]

    def check(chance: Random) -> None:
        data = as_json(spoil(chance, chance.choice(seeds)))
        if chance.random() < 0.5:
            data = spoil_bytes(chance, data)
        try:
            exact = parse_json(data, exact=True)
            loose = canonical_json_loose(exact)
        except BadJson:
            pass
        else:
            assert canonical_json_loose(parse_json(loose, exact=True)) == loose
        try:
            value = parse_json(data)
            check_strict(value)
        except BadJson:
            return
        strict = canonical_json(value)
        assert strict == canonicaljson.encode_canonical_json(value)
        assert parse_json(strict) == value

    assert play(check) > 0


def test_events(play: Play) -> None:
    def check(chance: Random) -> None:
        version = chance.choice(VERSIONS)
        event = ROOMS[version].spoiled(chance)
        if event is None:
            return
        assert len(event.raw) <= 65536
        loaded = load_event(version, event.event_id, event.raw)
        assert (loaded, loaded.content) == (event, event.content)
        assert parse_pdu(version, event.raw) == event, "what we hand on is what we took in"
        content_hash_matches(event)
        once = redact(version, event.to_json())
        assert redact(version, once) == once
        redacted = redact_event(version, event)
        assert (redacted.event_id, redacted.room_id) == (event.event_id, event.room_id)
        assert parse_pdu(version, redacted.raw).event_id == event.event_id

    assert play(check) > 0


def test_auth_rules(play: Play) -> None:
    """A room to which spoiled events happen; what the rules allow becomes its state, and they judge the next by it."""

    def check(chance: Random) -> None:
        version = chance.choice(VERSIONS)
        start = ROOMS[version]
        state = dict(start.state)
        for _ in range(10):
            event = start.spoiled(chance)
            if event is None:
                continue
            verdict = check_auth(version, event, lambda type, key, state=state: state.get((type, key)))  # type: ignore[misc]
            assert isinstance(verdict, Allowed | Refused)
            cited = chance.sample(list(state.values()), 3)
            assert isinstance(check_auth_events(version, event, cited, lambda _: False), Allowed | Refused)
            if verdict and event.state_key is not None and event.type != "m.room.create":
                state[event.type, event.state_key] = event
        power = PowerLevels.parse(version, start.events[0], state.get(("m.room.power_levels", "")))
        power.user(ALICE), power.event("m.room.topic", True), power.notifications("room")

    assert play(check) > 0
