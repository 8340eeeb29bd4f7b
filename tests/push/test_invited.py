"""Being invited from afar, to a room that this server is not in: the invited are told."""

from __future__ import annotations

import orjson

from homeserver.push.book import RuleBook
from homeserver.push.listing import Notifications, Told
from homeserver.push.watch import Watch
from tests.fixtures_fleet import Fleet, Member

BOB = "@bob:b.example"


def told(server: Member) -> list[Told]:
    return list(server.wait(server.house.part(Notifications).page(BOB, None, 10, False)).entries)


def test_whoever_is_invited_from_afar_is_told(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    b.wait(b.house.part(Watch).start())
    room_id = a.create("alice", name="Far Hall")
    a.invite("alice", BOB, room_id)
    (entry,) = told(b)
    assert (entry.room_id, entry.stored.event.state_key, entry.is_read) == (room_id, BOB, False)
    assert orjson.loads(entry.actions) == ["notify", {"set_tweak": "sound", "value": "default"}]
    names = b.wait(b.house.push.delivery.naming.of(room_id, entry.stored))
    assert (names.room, names.sender) == ("Far Hall", None)
    b.leave("bob", room_id)
    assert told(b) == []


def test_whoever_wants_to_hear_nothing_is_told_nothing(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    b.wait(b.house.part(Watch).start())

    def be_quiet(rules: dict[str, list[dict[str, object]]]) -> None:
        rules["override"][0]["enabled"] = True  # the master rule

    b.wait(b.house.part(RuleBook).change(BOB, be_quiet))
    a.invite("alice", BOB, a.create("alice"))
    assert told(b) == []
