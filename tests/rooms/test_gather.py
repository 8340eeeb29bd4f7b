"""Large answers of peers: taken apart and checked in pieces, of which some are checked sooner than others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import orjson

from federation.room.event import Event
from federation.room.parse import parse_pdu
from federation.threads import Inline, Threads
from homeserver.rooms.receive.gather import AT_ONCE, Gatherer
from homeserver.rooms.receive.ports import Peers
from tests.federation.doubles import begin
from tests.federation.keys.signers import Bench, bench
from tests.federation.keys.test_signatures import PEER, V10, changed, make
from tests.fixtures_db import Pump

NOBODY = cast(Peers, None)
"""No peer is asked for anything here."""
ROOM = "!r:peer.example"


def gatherer(one: Bench) -> Gatherer:
    return Gatherer(NOBODY, one.ring, Inline())


def done(results: Sequence[Any]) -> Any:
    assert results, "it still waits"
    return results[0]


def forge(event: Event, number: int) -> Event:
    return changed(event, depth=number)


def a_mixture(one: Bench) -> tuple[list[bytes], list[Event | None]]:
    """Raw events in five pieces and what of them is good: among the good ones some with a forged depth, some that are
    none, and the last piece with one of a server that was not heard of before."""
    peer, other = one.add(PEER), one.add("other.example")
    raws: list[bytes] = []
    good: list[Event | None] = []
    for number in range(4 * AT_ONCE + 10):
        is_late = number == 4 * AT_ONCE + 5
        event = make(other if is_late else peer, content={"body": str(number)})
        if number % 100 == 50:
            raws.append(forge(event, number).raw)
            good.append(None)
        elif number % 100 == 70:
            raws.append(orjson.dumps({"type": number}))
            good.append(None)
        else:
            raws.append(event.raw)
            good.append(event)
    return raws, good


def test_each_verdict_stands_where_its_event_does() -> None:
    one = bench()
    raws, good = a_mixture(one)
    checked = done(begin(gatherer(one).check(V10, raws)))
    assert [event if isinstance(event, Event) else None for event in checked] == good
    assert "signature" in checked[50] and "not an event" in checked[70]


def test_the_same_in_threads(pump: Pump) -> None:
    one = bench()
    raws, good = a_mixture(one)
    threads = Threads(pump, 3, "gather")
    checked = pump.wait(Gatherer(NOBODY, one.ring, threads).check(V10, raws))
    threads.close()
    assert [event if isinstance(event, Event) else None for event in checked] == good


def test_sifted_by_id() -> None:
    """What is known, or of another room, is left out; what is not validly signed is told."""
    one = bench()
    raws, good = a_mixture(one)
    known = {event.event_id for event in good[:300] if event is not None}
    elsewhere = make(one.add("third.example"), room_id="!other:peer.example")
    given = done(begin(gatherer(one).sift(V10, ROOM, [*raws, elsewhere.raw, raws[-1]], known)))
    assert list(given.events.values()) == [event for event in good[300:] if event is not None]
    assert given.spoilt == {parse_pdu(V10, raw).event_id for number, raw in enumerate(raws) if number % 100 == 50}


def test_each_server_is_asked_for_its_keys_once() -> None:
    one = bench()
    signers = [one.add(f"s{number}.example") for number in range(40)]
    events = [make(signers[number % 40], content={"body": str(number)}) for number in range(3 * AT_ONCE)]
    checked = done(begin(gatherer(one).check(V10, [event.raw for event in events])))
    assert checked == events
    asked = [server for server, _ in one.network.asked()]
    assert sorted(asked) == sorted(signer.name for signer in signers)
