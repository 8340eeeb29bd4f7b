"""Being a notary: what is handed on, when it is asked for anew, and for whom nothing is said."""

from __future__ import annotations

from typing import Any

from federation.keys.notary import Wanted
from federation.keys.response import read_key_response
from federation.keys.sources import AFTER_ANSWER_MS
from federation.room.signing import verify_signed_json
from tests.federation.doubles import outcome
from tests.federation.keys.signers import DAY_MS, HOUR_MS, US, Bench, bench

PEER = "peer.example"


def ask(one: Bench, *key_ids: str, until: int | None = None, name: str = PEER) -> list[Any]:
    wish = Wanted(frozenset(key_ids), one.calendar.now_ms() if until is None else until)
    return outcome(one.notary.answer({name: wish}))


def test_a_response_is_handed_on_with_our_signature() -> None:
    one = bench()
    peer = one.add(PEER, more={"new.member": [1]})
    (value,) = ask(one)
    assert verify_signed_json(value, US, "ed25519:ours", one.own.signing_key.verify_key)
    assert verify_signed_json(value, PEER, peer.key.key_id, peer.key.verify_key)
    assert value["new.member"] == [1]
    read_key_response(value, PEER, one.calendar.now_ms())


def test_it_is_asked_for_anew_after_half_its_time() -> None:
    one = bench()
    one.add(PEER)
    ask(one)
    one.calendar.pass_ms(12 * HOUR_MS - 1)
    ask(one)
    assert len(one.network.asked()) == 1
    one.calendar.pass_ms(1)
    ask(one)
    assert len(one.network.asked()) == 1


def test_for_the_dead_the_last_word_is_repeated() -> None:
    one = bench()
    one.add(PEER)
    first = ask(one)
    one.network.servers.clear()
    one.calendar.pass_ms(30 * DAY_MS)
    assert ask(one) == first
    assert ask(one, "ed25519:never") == first


def test_of_strangers_nothing_is_said() -> None:
    one = bench()
    assert ask(one) == []
    assert ask(one, name="a.example") == []


def test_of_ourselves() -> None:
    one = bench()
    assert ask(one, name=US) == [outcome(one.own.response())]
    assert one.network.asked() == []


def test_wishes_that_make_it_ask() -> None:
    one = bench()
    peer = one.add(PEER)
    ask(one)
    one.network.asked()
    one.calendar.pass_ms(AFTER_ANSWER_MS)
    ask(one, "ed25519:1")
    assert one.network.asked() == []
    ask(one, until=one.calendar.now_ms() + DAY_MS)
    assert len(one.network.asked()) == 1
    one.calendar.pass_ms(AFTER_ANSWER_MS)
    peer.rotate("2")
    (value,) = ask(one, "ed25519:2")
    assert set(value["verify_keys"]) == {"ed25519:2"}


def test_nobody_can_make_us_ask_all_the_time() -> None:
    one = bench()
    one.add(PEER)
    for number in range(50):
        ask(one, f"ed25519:guess{number}", until=one.calendar.now_ms() + 5 * DAY_MS)
    assert len(one.network.asked()) == 1


def test_a_key_that_its_server_no_longer_names() -> None:
    """The response in which it stood last is kept for those who have old events."""
    one = bench()
    peer = one.add(PEER)
    ask(one)
    one.calendar.pass_ms(DAY_MS)
    peer.rotate("2")
    peer.old.clear()
    assert [set(value["verify_keys"]) for value in ask(one)] == [{"ed25519:2"}]
    assert [set(value["verify_keys"]) for value in ask(one, "ed25519:1")] == [{"ed25519:1"}]
    both = ask(one, "ed25519:1", "ed25519:2")
    assert [set(value["verify_keys"]) for value in both] == [{"ed25519:2"}, {"ed25519:1"}]
