"""Signatures of events: who must have signed, by which key, and when it must have been valid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given, settings

from federation.keys.signatures import Forged, Genuine, KeyMissing
from federation.room.event import Event
from federation.room.parse import parse_pdu, read_pdu
from federation.room.pdu import Pdu
from federation.room.redaction import redact_event
from federation.room.signing import SigningKey
from federation.room.versions import ROOM_VERSIONS, RoomVersion
from federation.threads import Threads
from tests.federation.doubles import START_MS, outcome
from tests.federation.keys.signers import DAY_MS, HOUR_MS, Bench, Signer, bench
from tests.fixtures_db import Pump
from tests.strategies import KEY, SERVER_NAME, versioned_events

PEER = "peer.example"
V10 = ROOM_VERSIONS["10"]
V4 = ROOM_VERSIONS["4"]


def make(signer: Signer, version: RoomVersion = V10, **members: Any) -> Event:
    """An event that a server has signed, parsed as one that came from a peer."""
    from federation.room.hashing import content_hash
    from federation.room.signing import sign_event

    fields: dict[str, Any] = {
        "type": "m.room.message",
        "sender": f"@a:{signer.name}",
        "room_id": "!r:peer.example",
        "content": {"body": "hello"},
        "prev_events": [],
        "auth_events": [],
        "depth": 1,
        "origin_server_ts": START_MS,
        **members,
    }
    if version.cites_with_hashes:
        fields["event_id"] = f"$e:{signer.name}"
    fields["hashes"] = {"sha256": content_hash(version, fields)}
    return parse_pdu(version, orjson.dumps(sign_event(version, fields, signer.name, signer.key)))


def judge(one: Bench, version: RoomVersion, *events: Event) -> list[Any]:
    return outcome(one.ring.verify_events(version, pdus(version, *events)))


def pdus(version: RoomVersion, *events: Event) -> list[Pdu]:
    return [read_pdu(version, event.raw) for event in events]


def changed(event: Event, version: RoomVersion = V10, **members: Any) -> Event:
    return parse_pdu(version, orjson.dumps({**event.to_json(), **members}))


@pytest.mark.parametrize("identifier", [name for name in ROOM_VERSIONS if name != "12"])
def test_every_room_version(identifier: str) -> None:
    version = ROOM_VERSIONS[identifier]
    one = bench()
    event = make(one.add(PEER), version)
    assert judge(one, version, event) == [Genuine()]
    assert outcome(one.ring.verify(version, pdus(version, event))) == [None]
    assert isinstance(judge(one, version, changed(event, version, sender="@b:peer.example"))[0], Forged)


def test_redacted_and_changed_content_are_for_the_hash_to_find() -> None:
    one = bench()
    event = make(one.add(PEER))
    assert judge(one, V10, redact_event(V10, event), changed(event, content={"body": "other"})) == [Genuine()] * 2


def test_what_is_not_signed() -> None:
    one = bench()
    event = make(one.add(PEER))
    cases: list[Mapping[str, Any]] = [
        {"signatures": {}},
        {"signatures": {"other.example": event.to_json()["signatures"][PEER]}},
        {"signatures": {PEER: {}}},
        {"signatures": {PEER: {"rsa:1": "AAAA"}}},
        {"sender": "@a:other.example"},
        {"depth": 2},
    ]
    for case in cases:
        assert isinstance(judge(one, V10, changed(event, **case))[0], Forged), case


def test_signatures_by_the_wrong_hand() -> None:
    one = bench()
    event = make(one.add(PEER))
    signature = event.to_json()["signatures"][PEER]["ed25519:1"]
    other = signature[:-2] + ("BA" if signature.endswith("AA") else "AA")
    for wrong in ("AAAA", "A" * 86, "?", other, 5, None):
        (verdict,) = judge(one, V10, changed(event, signatures={PEER: {"ed25519:1": wrong}}))
        assert isinstance(verdict, Forged)
    thief = make(Signer(PEER, one.calendar))
    assert isinstance(judge(one, V10, thief)[0], Forged)


def test_one_good_signature_of_a_server_is_enough() -> None:
    """A server that changes its key may sign by both; who never saw the one key can still use the other."""
    one = bench()
    event = make(one.add(PEER))
    both = {PEER: {"ed25519:0unknown": "A" * 86, **event.to_json()["signatures"][PEER]}}
    assert judge(one, V10, changed(event, signatures=both)) == [Genuine()]


def test_all_servers_that_must_have_signed() -> None:
    """A restricted join carries the signature of the server that vouches for it."""
    from federation.room.signing import sign_event

    one = bench()
    joiner, resident = one.add(PEER), one.add("resident.example")
    content = {"membership": "join", "join_authorised_via_users_server": "@admin:resident.example"}
    event = make(joiner, type="m.room.member", state_key="@a:peer.example", content=content)
    (verdict,) = judge(one, V10, event)
    assert verdict == Forged("resident.example", "resident.example has not signed it")
    signed = sign_event(V10, event.to_json(), "resident.example", resident.key)
    assert judge(one, V10, parse_pdu(V10, orjson.dumps(signed))) == [Genuine()]


def test_a_third_party_invite_may_come_from_anybody() -> None:
    one = bench()
    content = {"membership": "invite", "third_party_invite": {"signed": {"mxid": "@b:x", "token": "t"}}}
    event = make(one.add(PEER), type="m.room.member", state_key="@b:x", content=content)
    assert judge(one, V10, changed(event, signatures={})) == [Genuine()]


def test_the_time_of_the_event_counts_since_version_5() -> None:
    one = bench()
    peer = one.add(PEER)
    late = START_MS + 2 * HOUR_MS
    before, after = (make(peer, origin_server_ts=at) for at in (START_MS + HOUR_MS, late))
    v4 = make(peer, V4, origin_server_ts=late)
    one.calendar.pass_ms(HOUR_MS)
    peer.rotate("2")
    one.calendar.pass_ms(DAY_MS)
    verdicts = judge(one, V10, before, after)
    assert verdicts[0] == Genuine()
    assert isinstance(verdicts[1], KeyMissing)
    assert judge(one, V4, v4) == [Genuine()], "until then any key of the server would do"


def test_a_key_is_refreshed_for_a_newer_event() -> None:
    one = bench()
    peer = one.add(PEER)
    assert judge(one, V10, make(peer)) == [Genuine()]
    one.calendar.pass_ms(2 * DAY_MS)
    assert judge(one, V10, make(peer, origin_server_ts=one.calendar.now_ms())) == [Genuine()]
    assert len(one.network.asked()) == 2


def test_events_from_the_far_future_cost_no_requests() -> None:
    one = bench()
    peer = one.add(PEER)
    judge(one, V10, make(peer))
    one.network.asked()
    for number in range(5):
        one.calendar.pass_ms(HOUR_MS)
        (verdict,) = judge(one, V10, make(peer, origin_server_ts=START_MS + (300 + number) * DAY_MS))
        assert isinstance(verdict, KeyMissing)
    assert one.network.asked() == []


def test_an_event_of_a_server_that_is_gone() -> None:
    one = bench()
    (verdict,) = judge(one, V10, make(Signer("gone.example", one.calendar)))
    assert isinstance(verdict, KeyMissing)
    assert verdict.server == "gone.example"


def test_verdicts_come_in_the_order_of_events() -> None:
    one = bench()
    peer, gone = one.add(PEER), Signer("gone.example", one.calendar)
    events = [make(peer, depth=1), make(gone), changed(make(peer, depth=2), signatures={}), make(peer, depth=3)]
    assert [type(verdict) for verdict in judge(one, V10, *events)] == [Genuine, KeyMissing, Forged, Genuine]
    assert judge(one, V10) == []


@pytest.mark.parametrize("number", [1, 7, 8, 9, 16, 33, 100])
def test_in_threads_as_without(number: int) -> None:
    pump = Pump()
    threads = Threads(pump, 3, "signatures")
    one = bench(workers=threads)
    peer = one.add(PEER)
    events = [make(peer, depth=depth) for depth in range(1, number + 1)]
    events[number // 2] = changed(events[number // 2], depth=10_000)
    verdicts = pump.wait(one.ring.verify_events(V10, pdus(V10, *events)))
    assert [isinstance(verdict, Genuine) for verdict in verdicts] == [index != number // 2 for index in range(number)]
    threads.close()


@settings(max_examples=50)
@given(versioned_events())
def test_what_this_server_makes_others_believe(given_event: tuple[RoomVersion, Event]) -> None:
    """Unless it is by somebody else's user, or in somebody else's event id."""
    version, event = given_event
    one = bench(name="reader.example")
    one.network.servers[SERVER_NAME] = Signer(SERVER_NAME, one.calendar, key=SigningKey.from_seed("1", KEY.seed))
    (verdict,) = judge(one, version, event)
    if isinstance(verdict, Genuine):
        return
    assert verdict.server != SERVER_NAME or event.origin_server_ts > one.calendar.now_ms()
