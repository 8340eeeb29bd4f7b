"""Servers that send by themselves: outages, restarts and what passes, and what a crash hides."""

from __future__ import annotations

import orjson
import pytest

from federation.outbound.parcels import Changes, Newest, Owed, Pause
from federation.outbound.transport import Request, Response
from federation.room.hashing import event_id_of
from homeserver.client.typing import SetTyping, set_typing
from homeserver.ephemeral.typing import TypingBoard
from homeserver.federation_out.ledger import OutboundLedger, _may_see
from homeserver.rooms.access import RoomAccess
from homeserver.userdata.read_markers import Mark, ReadMarkers
from storage import destinations
from storage.events import load_by_ids
from storage.ports import Cursor
from tests.fixtures_fleet import Fleet, Member

A, B, C = "a.example", "b.example", "c.example"


def ledger_of(member: Member) -> OutboundLedger:
    house = member.house
    return OutboundLedger(member.name, house.database, house.rooms, house.hub, house.encryption.devices.lists)


def owed_to(member: Member, server: str) -> list[tuple[str, int]]:
    debts = member.wait(member.house.database.run(destinations.debts_to, server, 100))
    return [(debt.room_id, debt.position) for debt in debts]


def position_of(member: Member, event_id: str) -> int:
    return member.wait(member.house.database.run(load_by_ids, [event_id]))[event_id].position


def ids_of(member: Member, found: Newest) -> list[str]:
    version = member.room(found.topic).version
    return [event_id_of(version, orjson.loads(raw)) for raw in found.pdus]


def kick(member: Member, target: str, room_id: str) -> str:
    member.kick("ann", target, room_id)
    return member.state_of(room_id)["m.room.member", target]


class TestLedger:
    """What is owed, and with which events that is made up for."""

    def test_a_server_in_the_room_is_told_of_its_newest_events(self, any_fleet: Fleet) -> None:
        a, b = any_fleet.open("a", "b")
        rooms = [a.create("ann", preset="public_chat") for _ in range(3)]
        for room_id in rooms:
            b.enter("bob", room_id, a)
        first = a.say("ann", rooms[0], "one")
        newest = a.say("ann", rooms[0], "two")
        ledger = ledger_of(a)
        position = position_of(a, first)
        debts = [Owed(B, rooms[0], position), Owed(B, rooms[1], 1)]
        a.wait(ledger.save(Changes(owed=debts)))
        zero, one = a.wait(ledger.newest(B, 50))
        assert ids_of(a, zero) == [newest] and zero.upto == a.house.hub.position
        assert one.topic == rooms[1] and one.pdus == []  # bob's own coming in is the newest
        assert [found.topic for found in a.wait(ledger.newest(B, 1))] == [rooms[0]]
        assert a.wait(ledger.newest(C, 50)) == []
        a.wait(ledger.save(Changes(settled=[Owed(B, rooms[0], zero.upto)])))
        assert owed_to(a, B) == [(rooms[1], 1)]

    def test_a_server_that_was_put_out_is_told_so(self, any_fleet: Fleet) -> None:
        a, b = any_fleet.open("a", "b")
        room_id = a.create("ann", preset="public_chat")
        b.enter("bob", room_id, a)
        kicked = kick(a, "@bob:b.example", room_id)
        a.say("ann", room_id, "he is gone")
        position = position_of(a, kicked)
        ledger = ledger_of(a)
        a.wait(ledger.save(Changes(owed=[Owed(B, room_id, position)])))
        (found,) = a.wait(ledger.newest(B, 50))
        assert ids_of(a, found) == [kicked] and found.upto == position

    def test_whatever_it_was_to_hear_since(self, any_fleet: Fleet) -> None:
        """Somebody's server may be told of more after it was put out: of what it is owed one event is written down."""
        a, b = any_fleet.open("a", "b")
        room_id = a.create("ann", preset="public_chat")
        b.enter("bob", room_id, a)
        kicked = kick(a, "@bob:b.example", room_id)
        later = a.say("ann", room_id, "you were put out by this")
        ledger = ledger_of(a)
        a.wait(ledger.save(Changes(owed=[Owed(B, room_id, position_of(a, later))])))
        (found,) = a.wait(ledger.newest(B, 50))
        assert ids_of(a, found) == [kicked, later]

    def test_what_a_crash_hid_is_found_in_the_stream(self, any_fleet: Fleet) -> None:
        a, b, c = any_fleet.open("a", "b", "c")
        room_id, other_id, own_id = (a.create("ann", preset="public_chat") for _ in range(3))
        for member, name in ((b, "bob"), (c, "cat")):
            member.enter(name, room_id, a)
            member.enter(name, other_id, a)
        any_fleet.settle()
        mark = a.house.hub.position
        a.say("ann", room_id, "hello")
        kicked = kick(a, "@cat:c.example", room_id)
        last = a.say("ann", room_id, "and another thing")
        a.say("ann", own_id, "talking to myself")
        b.say("bob", other_id, "not for a to tell")
        any_fleet.settle()
        a.wait(a.house.database.write(destinations.write_upto, mark))
        recovered = a.wait(ledger_of(a).recover(a.house.hub.position))
        assert recovered.owed == [B, C]
        assert owed_to(a, B) == [(room_id, position_of(a, last))]
        assert owed_to(a, C) == [(room_id, position_of(a, kicked))]
        assert a.wait(a.house.database.run(destinations.read_upto)) == a.house.hub.position

    def test_who_came_in_by_this_server_is_told_to_the_others_after_a_crash(self, any_fleet: Fleet) -> None:
        a, b, c = any_fleet.open("a", "b", "c")
        room_id = a.create("ann", preset="public_chat")
        b.enter("bob", room_id, a)
        mark = a.house.hub.position
        c.enter("cat", room_id, a)
        a.wait(a.house.database.write(destinations.write_upto, mark))
        ledger = ledger_of(a)
        a.wait(ledger.recover(a.house.hub.position))
        join = a.state_of(room_id)["m.room.member", "@cat:c.example"]
        (found,) = a.wait(ledger.newest(B, 50))
        assert ids_of(a, found) == [join]
        (found,) = a.wait(ledger.newest(C, 50))
        assert found.pdus == []

    def test_pauses(self, any_fleet: Fleet) -> None:
        (a,) = any_fleet.open("a")
        ledger = ledger_of(a)
        a.wait(ledger.save(Changes(pauses={B: Pause(3, 1_700_000_000_000), C: Pause(1, 5)})))
        a.wait(ledger.save(Changes(pauses={C: None})))
        assert a.wait(ledger.recover(0)).pauses == {B: Pause(3, 1_700_000_000_000)}

    @pytest.mark.parametrize(("setting", "seen"), [("shared", True), ("invited", False), ("joined", False)])
    def test_what_was_said_before_a_server_came(self, fleet: Fleet, setting: str, seen: bool) -> None:
        a, b = fleet.open("a", "b")
        room_id = a.create("ann", preset="public_chat")
        a.set_state("ann", room_id, "m.room.history_visibility", {"history_visibility": setting})
        early = a.say("ann", room_id, "early")
        b.enter("bob", room_id, a)
        late = a.say("ann", room_id, "late")

        def look(cursor: Cursor) -> list[bool]:
            stored = load_by_ids(cursor, [early, late])
            return [_may_see(cursor, B, stored[event_id]) for event_id in (early, late)]

        assert a.wait(a.house.database.run(look)) == [seen, True]


@pytest.fixture
def busy(any_fleet: Fleet) -> Fleet:
    any_fleet.has_couriers = True
    return any_fleet


class TestServers:
    """Whole servers, each with its own sender."""

    @pytest.mark.parametrize("is_blamed", [False, True])
    def test_an_event_that_was_not_taken_is_not_sent_again(self, busy: Fleet, is_blamed: bool) -> None:
        """Whether the peer finds fault with it or just could not take it: whoever takes the next one asks for it."""
        a, b = busy.open("a", "b")
        room_id = a.create("ann", preset="public_chat")
        b.enter("bob", room_id, a)
        busy.run(1)
        sent: list[list[str]] = []

        def refuse(origin: str, request: Request) -> Request | Response:
            if origin != A or "/send/" not in request.path:
                return request
            version = a.room(room_id).version
            sent.append([event_id_of(version, pdu) for pdu in orjson.loads(request.body or b"")["pdus"]])
            if len(sent) > 1:
                return request
            result = {"error": "its auth events are missing"} if is_blamed else {}
            return Response(200, {}, orjson.dumps({"pdus": dict.fromkeys(sent[0], result)}))

        busy.meddler = refuse
        first = a.say("ann", room_id, "one")
        busy.run(60, 2)
        assert sent == [[first]] and b.texts("bob", room_id) == []
        second = a.say("ann", room_id, "two")
        busy.run(2)
        assert sent == [[first], [second]]
        assert b.texts("bob", room_id) == ["one", "two"]
        assert owed_to(a, B) == []

    def test_an_outage_is_made_up_for(self, busy: Fleet) -> None:
        a, b = busy.open("a", "b")
        room_id = a.create("ann", preset="public_chat")
        b.enter("bob", room_id, a)
        a.say("ann", room_id, "one")
        busy.run(1)
        b.say("bob", room_id, "two")
        busy.run(1)
        assert a.texts("ann", room_id) == b.texts("bob", room_id) == ["one", "two"]
        busy.down.add(B)
        for number in range(5):
            a.say("ann", room_id, f"a{number}")
        busy.run(100, 4)
        a.say("ann", room_id, "last")
        busy.run(20, 5)
        assert owed_to(a, B) != []
        a = busy.restart(a)
        busy.down.clear()
        busy.run(300, 20)
        assert b.texts("bob", room_id) == ["one", "two", "a0", "a1", "a2", "a3", "a4", "last"]
        assert owed_to(a, B) == [] and a.house.sending is not None and a.house.sending.sender.destination_count == 0

    def test_a_sign_of_life(self, busy: Fleet) -> None:
        a, b = busy.open("a", "b")
        room_id = a.create("ann", preset="public_chat")
        b.enter("bob", room_id, a)
        busy.run(2)
        busy.down.add(B)
        a.say("ann", room_id, "hello?")
        busy.run(200, 10)
        busy.down.clear()
        b.say("bob", room_id, "here I am")
        busy.run(12, 1)
        assert set(b.texts("bob", room_id)) == {"hello?", "here I am"}

    def test_put_out_while_away(self, busy: Fleet) -> None:
        a, b = busy.open("a", "b")
        room_id = a.create("ann", preset="public_chat")
        b.enter("bob", room_id, a)
        busy.run(2)
        busy.down.add(B)
        kick(a, "@bob:b.example", room_id)
        a.say("ann", room_id, "he is gone")
        busy.run(200, 10)
        busy.down.clear()
        busy.run(300, 20)
        assert b.membership("bob", room_id) == "leave"

    def test_who_types_and_who_has_read(self, busy: Fleet) -> None:
        a, b = busy.open("a", "b")
        room_id = a.create("ann", preset="public_chat")
        b.enter("bob", room_id, a)
        said = b.say("bob", room_id, "hello")
        busy.run(2)
        nid = b.room(room_id).nid

        def typing_at_b() -> list[str]:
            return b.house.part(TypingBoard).typing_in(nid)

        def types(is_typing: bool) -> None:
            ask = SetTyping(room_id, "@ann:a.example", is_typing)
            a.wait(set_typing(a.house.part(TypingBoard), a.house.part(RoomAccess), a.who("@ann:a.example"), ask))

        since = b.sync("bob")["next_batch"]
        types(True)
        busy.run(2)
        assert typing_at_b() == ["@ann:a.example"]
        for _ in range(8):
            busy.run(10, 5)
            types(True)
        assert typing_at_b() == ["@ann:a.example"]  # said again before b took it for done
        types(False)
        busy.run(2)
        assert typing_at_b() == []

        marks = [Mark("m.read.private", said, "main"), Mark("m.read", said)]
        a.wait(a.house.part(ReadMarkers).move(a.room(room_id).nid, "@ann:a.example", marks))
        busy.run(5)
        passing = b.sync("bob", since)["rooms"]["join"][room_id]["ephemeral"]["events"]
        (receipt,) = [event["content"] for event in passing if event["type"] == "m.receipt"]
        assert list(receipt[said]) == ["m.read"] and list(receipt[said]["m.read"]) == ["@ann:a.example"]
