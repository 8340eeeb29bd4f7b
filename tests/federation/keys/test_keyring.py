"""The key ring: what it finds, whom it asks, and whom it leaves alone."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from federation.keys.keyring import KeyUnavailable
from federation.keys.response import MOST_VALID_MS
from federation.keys.signatures import Forged, Genuine, KeyMissing
from federation.keys.sources import AFTER_ANSWER_MS, AFTER_FAILURE_MS, LONGEST_PAUSE_MS, MANY, NOTARY_BATCH
from federation.outbound.transport import Request, Response
from federation.room.signing import SigningKey, sign_json
from tests.federation.doubles import answer, begin, outcome
from tests.federation.keys.signers import DAY_MS, HOUR_MS, US, Bench, Drawer, bench, serve_as_notary

PEER = "peer.example"
NOTARY = "notary.example"
OWN_PATH = "/_matrix/key/v2/server"
QUERY_PATH = "/_matrix/key/v2/query"


def get(one: Bench, name: str = PEER, key_id: str = "ed25519:1", at: int | None = None) -> bytes:
    return outcome(one.ring.verify_key(name, key_id, one.calendar.now_ms() if at is None else at))


def test_from_the_server_itself_and_then_from_memory() -> None:
    one = bench()
    peer = one.add(PEER)
    assert get(one) == peer.key.verify_key
    assert get(one) == peer.key.verify_key
    assert one.network.asked() == [(PEER, OWN_PATH)]


def test_requests_for_keys_are_not_signed() -> None:
    """The peer would have to ask for our keys before it could answer, and so on."""
    one = bench()
    one.add(PEER)
    get(one)
    assert "Authorization" not in one.network.requests[0].headers


def test_from_the_database_after_a_restart() -> None:
    one = bench()
    peer = one.add(PEER)
    get(one)
    again = bench(drawer=one.drawer, calendar=one.calendar)
    assert get(again) == peer.key.verify_key
    assert again.network.asked() == []


def test_our_own_keys_are_asked_of_nobody() -> None:
    one = bench()
    assert get(one, US, "ed25519:ours") == one.own.signing_key.verify_key
    with pytest.raises(KeyUnavailable):
        get(one, US, "ed25519:other")
    assert one.network.asked() == []


def test_a_key_is_asked_for_anew_when_its_time_is_over() -> None:
    one = bench()
    one.add(PEER)
    get(one)
    one.calendar.pass_ms(DAY_MS)
    get(one)
    assert len(one.network.asked()) == 1
    one.calendar.pass_ms(1)
    get(one)
    assert len(one.network.asked()) == 1


def test_a_key_that_claims_to_be_valid_for_ever_is_asked_for_after_a_week() -> None:
    one = bench()
    one.add(PEER, valid_ms=10_000 * DAY_MS)
    get(one)
    one.calendar.pass_ms(MOST_VALID_MS + 1)
    one.network.servers.clear()
    with pytest.raises(KeyUnavailable, match="not valid any more"):
        get(one)


def test_an_old_key_is_good_for_the_past_only() -> None:
    one = bench()
    peer = one.add(PEER)
    first, changed = peer.key, one.calendar.now_ms() + HOUR_MS
    one.calendar.pass_ms(HOUR_MS)
    peer.rotate("2")
    assert get(one, at=changed) == first.verify_key
    assert get(one, key_id="ed25519:2") == peer.key.verify_key
    one.calendar.pass_ms(AFTER_ANSWER_MS)
    with pytest.raises(KeyUnavailable):
        get(one, at=changed + 1)


def test_a_server_may_take_a_key_back() -> None:
    """Its own word shortens what was known; otherwise a stolen key could not be given up."""
    one = bench()
    peer = one.add(PEER)
    get(one)
    one.calendar.pass_ms(HOUR_MS)
    peer.rotate("2")
    get(one, key_id="ed25519:2")
    with pytest.raises(KeyUnavailable, match="not valid any more"):
        get(one, at=one.calendar.now_ms() + 1)


def test_who_has_just_answered_without_the_key_is_left_alone() -> None:
    one = bench()
    one.add(PEER)
    for number in range(50):
        with pytest.raises(KeyUnavailable):
            get(one, key_id=f"ed25519:guess{number}")
    assert len(one.network.asked()) == 1
    one.calendar.pass_ms(AFTER_ANSWER_MS)
    with pytest.raises(KeyUnavailable):
        get(one, key_id="ed25519:guess")
    assert len(one.network.asked()) == 1


def test_who_does_not_answer_is_left_alone_for_longer_and_longer() -> None:
    one = bench()
    asked_at = []
    while one.calendar.now_ms() < 1_700_000_000_000 + HOUR_MS:
        with pytest.raises(KeyUnavailable):
            get(one)
        if one.network.asked():
            asked_at.append(one.calendar.now_ms())
        one.calendar.pass_ms(1000)
    pauses = [later - earlier for earlier, later in pairwise(asked_at)]
    assert pauses[0] == AFTER_FAILURE_MS
    assert sorted(pauses) == pauses
    assert max(pauses) == LONGEST_PAUSE_MS
    one.add(PEER)
    one.calendar.pass_ms(LONGEST_PAUSE_MS)
    assert get(one), "and is back at once when it answers"


def test_a_server_is_asked_once_at_a_time() -> None:
    one = bench()
    peer = one.add(PEER)
    one.network.held = []
    waiting = [begin(one.ring.verify_key(PEER, "ed25519:1", 0)) for _ in range(5)]
    assert len(one.network.held) == 1
    waiting[0].clear()
    one.network.held[0].callback(None)
    assert waiting[1:] == [[peer.key.verify_key]] * 4


def test_giving_up_does_not_spoil_it_for_others() -> None:
    one = bench()
    peer = one.add(PEER)
    one.network.held = []
    first = Deferred.fromCoroutine(one.ring.verify_key(PEER, "ed25519:1", 0))
    first.addErrback(lambda _: None)
    second = begin(one.ring.verify_key(PEER, "ed25519:1", 0))
    first.cancel()
    one.network.held[0].callback(None)
    assert second == [peer.key.verify_key]


def _lie(signer: Any, **changes: Any) -> Any:
    return lambda request: answer({**signer.published(), **changes})


@pytest.mark.parametrize(
    "make",
    [
        lambda peer: _lie(peer, server_name="other.example"),
        lambda peer: _lie(peer, signatures={}),
        lambda peer: _lie(peer, valid_until_ts=2**50),
        lambda peer: lambda request: answer(b"<html>"),
        lambda peer: lambda request: answer(b"[" * 60_000),
        lambda peer: lambda request: answer({"errcode": "M_UNKNOWN"}, 500),
        lambda peer: lambda request: answer(peer.published(), 404),
    ],
)
def test_hostile_answers_are_no_answers(make: Any) -> None:
    one = bench()
    one.network.servers[PEER] = make(one.add(PEER))
    with pytest.raises(KeyUnavailable):
        get(one)
    assert one.drawer.keys == {}


def test_huge_answers_are_not_read() -> None:
    one = bench()
    one.add(PEER)
    get(one)
    assert one.network.requests[0].max_bytes <= 64 * 1024
    assert one.network.requests[0].timeout_s <= 15


# Notaries


def with_notary() -> tuple[Bench, Bench]:
    """Us and a notary that we trust, in one network and one time."""
    one = bench(notaries=[NOTARY])
    other = bench(name=NOTARY, network=one.network, calendar=one.calendar)
    serve_as_notary(other)
    return one, other


def test_a_notary_speaks_for_the_dead() -> None:
    one, other = with_notary()
    peer = one.add(PEER)
    outcome(other.ring.verify_key(PEER, "ed25519:1", 0))
    del one.network.servers[PEER]
    one.network.requests.clear()
    assert get(one, at=one.calendar.now_ms() - HOUR_MS) == peer.key.verify_key
    assert one.network.asked() == [(PEER, OWN_PATH), (NOTARY, OWN_PATH), (NOTARY, QUERY_PATH)]


def test_a_notary_that_was_asked_for_its_own_keys_just_now() -> None:
    one, other = with_notary()
    peer = one.add(PEER)
    outcome(other.ring.verify_key(PEER, "ed25519:1", 0))
    del one.network.servers[PEER]
    get(one, NOTARY, "ed25519:ours")
    assert get(one, at=one.calendar.now_ms() - HOUR_MS) == peer.key.verify_key


def test_who_is_there_is_asked_itself() -> None:
    one, _ = with_notary()
    one.add(PEER)
    get(one)
    assert one.network.asked() == [(PEER, OWN_PATH)]


def test_a_notary_is_not_asked_again_and_again() -> None:
    one, _ = with_notary()
    for _ in range(5):
        with pytest.raises(KeyUnavailable):
            get(one)
        one.calendar.pass_ms(AFTER_FAILURE_MS)
    assert one.network.asked().count((NOTARY, QUERY_PATH)) == 1


def test_of_many_servers_a_notary_is_asked_first() -> None:
    """Joining a large room must not mean a request to each of its servers."""
    one, other = with_notary()
    names = [f"peer{number}.example" for number in range(NOTARY_BATCH + MANY)]
    for name in names:
        one.add(name)
        outcome(other.ring.verify_key(name, "ed25519:1", 0))
    one.network.requests.clear()
    found = outcome(one.ring.find({(name, "ed25519:1"): 0 for name in names}))
    assert len(found) == len(names)
    assert one.network.asked() == [(NOTARY, OWN_PATH), (NOTARY, QUERY_PATH), (NOTARY, QUERY_PATH)]


def test_what_the_notary_does_not_know_is_asked_of_the_servers() -> None:
    one, _ = with_notary()
    names = [f"peer{number}.example" for number in range(MANY)]
    for name in names:
        one.add(name)
    one.network.servers.pop(NOTARY)
    assert len(outcome(one.ring.find({(name, "ed25519:1"): 0 for name in names}))) == MANY


def test_a_notary_never_shortens_what_is_known() -> None:
    one, other = with_notary()
    peer = one.add(PEER, valid_ms=HOUR_MS)
    outcome(other.ring.verify_key(PEER, "ed25519:1", 0))
    peer.valid_ms = DAY_MS
    get(one)
    until = one.drawer.keys[PEER, "ed25519:1"].valid_until_ts
    one.calendar.pass_ms(AFTER_ANSWER_MS)
    del one.network.servers[PEER]
    with pytest.raises(KeyUnavailable):
        get(one, at=until + 1)
    assert get(one, at=until) == peer.key.verify_key


def _as_notary(one: Bench, change: Any) -> None:
    """Put a notary into the network that does something wrong with its answers."""
    honest = one.network.servers[NOTARY]

    def serve(request: Request) -> Response:
        response = honest(request)
        if request.path == OWN_PATH:
            return response
        import orjson

        return answer(change(orjson.loads(response.body)))

    one.network.servers[NOTARY] = serve


def _drop(value: Any, signer: str) -> Any:
    for response in value["server_keys"]:
        response["signatures"].pop(signer, None)
    return value


def _forge(value: Any) -> Any:
    """A response by a key of the notary's own making, for the peer."""
    key = SigningKey.generate("1")
    forged = {**value["server_keys"][0], "verify_keys": {"ed25519:1": {"key": "A" * 43}}, "signatures": {}}
    return {"server_keys": [sign_json(sign_json(forged, PEER, key), NOTARY, key)]}


@pytest.mark.parametrize(
    "change",
    [
        lambda value: _drop(value, NOTARY),
        lambda value: _drop(value, PEER),
        _forge,
        lambda value: {"server_keys": [{**one, "valid_until_ts": 2**50} for one in value["server_keys"]]},
        lambda value: {"server_keys": [{**one, "server_name": "other.example"} for one in value["server_keys"]]},
        lambda value: {"server_keys": {}},
        lambda value: {"server_keys": [None, 5, [], {}]},
        lambda value: {},
        lambda value: [],
    ],
)
def test_hostile_notaries(change: Any) -> None:
    one, other = with_notary()
    one.add(PEER)
    outcome(other.ring.verify_key(PEER, "ed25519:1", 0))
    del one.network.servers[PEER]
    _as_notary(one, change)
    with pytest.raises(KeyUnavailable):
        get(one)
    assert all(name != PEER for name, _ in one.drawer.keys)


def test_answers_about_whom_nobody_asked_are_left_out() -> None:
    one, other = with_notary()
    for name in (PEER, "other.example"):
        one.add(name)
        outcome(other.ring.verify_key(name, "ed25519:1", 0))
        del one.network.servers[name]
    everything = [outcome(other.notary.answer({name: _any()}))[0] for name in (PEER, "other.example")]
    _as_notary(one, lambda value: {"server_keys": everything})
    get(one, at=0)
    assert ("other.example", "ed25519:1") not in one.drawer.keys


def _any() -> Any:
    from federation.keys.notary import Wanted

    return Wanted(frozenset(), 0)


# Other JSON


def test_signed_json() -> None:
    one = bench()
    peer = one.add(PEER)
    now = one.calendar.now_ms()
    signed = sign_json({"a": 1}, PEER, peer.key)
    assert outcome(one.ring.verify_json(signed, PEER, now)) == Genuine()
    assert isinstance(outcome(one.ring.verify_json({**signed, "a": 2}, PEER, now)), Forged)
    assert isinstance(outcome(one.ring.verify_json({"a": 1}, PEER, now)), Forged)
    assert isinstance(outcome(one.ring.verify_json(signed, "other.example", now)), Forged)
    elsewhere = sign_json({"a": 1}, "dead.example", peer.key)
    assert isinstance(outcome(one.ring.verify_json(elsewhere, "dead.example", now)), KeyMissing)
    assert isinstance(outcome(one.ring.verify_json(signed, PEER, now + 10 * DAY_MS)), KeyMissing)


def test_the_database_is_not_read_for_what_is_in_memory() -> None:
    drawer = Drawer()
    one = bench(drawer=drawer)
    one.add(PEER)
    get(one)
    before = drawer.reads
    get(one)
    assert drawer.reads == before
