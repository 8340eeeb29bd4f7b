"""Devices, keys and letters between servers: who knows what of whom, through outages, restarts and lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from twisted.internet.defer import Deferred

from federation.outbound.transport import Refused, Request, Response
from homeserver.encryption.queries import KeyQueries
from storage import device_keys, remote_devices, to_device
from storage.one_time_keys import stock_of
from storage.ports import Cursor
from tests.encryption.village import OTK, Identity, Villager, public, signed
from tests.fixtures_fleet import Fleet, Member

A, B, C = "a.example", "b.example", "c.example"
UPDATE, SIGNING, LETTER = "m.device_list_update", "m.signing_key_update", "m.direct_to_device"


@pytest.fixture
def busy(fleet: Fleet) -> Fleet:
    fleet.has_couriers = True
    return fleet


@pytest.fixture
def both(any_fleet: Fleet) -> Fleet:
    any_fleet.has_couriers = True
    return any_fleet


def enter(member: Member, name: str, device_id: str = "DEVICE") -> Villager:
    villager = Villager.enter(member, name, device_id)
    villager.upload(2)
    return villager


def share_a_room(fleet: Fleet, first: Villager, *others: Villager) -> str:
    """A room with all of them in it, which the first one made."""
    host = first.house
    assert isinstance(host, Member)
    room_id = host.create(first.name, preset="public_chat")
    for other in others:
        assert isinstance(other.house, Member)
        other.house.enter(other.name, room_id, None if other.house is host else host)
    fleet.run(3)
    return room_id


def kept(member: Member, user_id: str) -> dict[str, Any] | None:
    """The list of somebody elsewhere as a server has it: device id → keys; None where it has none that it trusts."""

    def read(cursor: Cursor) -> dict[str, Any] | None:
        known = remote_devices.lists_of(cursor, [user_id]).get(user_id)
        if known is None or known.missed:
            return None
        devices = remote_devices.devices_of(cursor, [user_id]).get(user_id, ())
        return {one.device_id: orjson.loads(one.json) for one in devices}

    return member.wait(member.house.database.run(read))


def devices(viewer: Villager, other: Villager) -> dict[str, Any]:
    """What a client sees of another's devices."""
    answer = viewer.query(other.user_id)
    assert answer["failures"] == {}
    found: dict[str, Any] = answer["device_keys"][other.user_id]
    return found


def asked_for_lists(fleet: Fleet) -> int:
    return len(fleet.asked("/user/devices/")) + len(fleet.asked("/user/keys/query"))


def send(origin: Member, target: Member, edu_type: str, content: Mapping[str, Any], txn_id: str) -> Any:
    """A transaction with one EDU that a server makes up."""
    body = {
        "origin": origin.name,
        "origin_server_ts": 0,
        "pdus": [],
        "edus": [{"edu_type": edu_type, "content": content}],
    }
    return origin.ask(target, "PUT", f"/_matrix/federation/v1/send/{txn_id}", body)


class TestLists:
    def test_a_device_without_keys_is_no_news(self, both: Fleet) -> None:
        a, b = both.open("a", "b")
        ann, bob = enter(a, "ann"), Villager.enter(b, "bob")
        ann.sync()
        share_a_room(both, ann, bob)
        assert "bob" in ann.lists()[0]
        Villager.enter(b, "bob", "SECOND")
        both.run(3)
        assert ann.lists() == ([], [])
        Villager.enter(b, "bob", "THIRD").upload(1)
        both.run(3)
        assert ann.lists() == (["bob"], [])

    def test_who_shares_a_room_is_kept_up_to_date(self, both: Fleet) -> None:
        a, b = both.open("a", "b")
        ann, bob = enter(a, "ann"), enter(b, "bob")
        share_a_room(both, ann, bob)
        assert devices(bob, ann).keys() == {"DEVICE"}
        asked = asked_for_lists(both)
        bob.sync()
        second = enter(a, "ann", "SECOND")
        both.run(3)
        assert bob.lists() == (["ann"], [])
        assert devices(bob, ann) == {"DEVICE": ann.device_keys, "SECOND": second.device_keys}
        a.wait(a.house.accounts.sessions.end_devices(ann.user_id, ["DEVICE"]))
        both.run(3)
        assert bob.lists() == (["ann"], [])
        assert devices(bob, second) == {"SECOND": second.device_keys}
        a.wait(a.house.accounts.devices.rename(ann.user_id, "SECOND", "Telephone"))
        both.run(3)
        assert devices(bob, second)["SECOND"]["unsigned"] == {"device_display_name": "Telephone"}
        assert asked_for_lists(both) == asked, "all of that came by itself"

    def test_a_name_is_told_to_nobody_where_the_settings_say_so(self, busy: Fleet) -> None:
        a, b = busy.open("a", "b")
        ann, bob = enter(a, "ann"), enter(b, "bob")
        a.house.encryption.devices.lists._shows_names = False
        object.__setattr__(a.house.encryption.served, "shows_names", False)
        a.wait(a.house.accounts.devices.rename(ann.user_id, "DEVICE", "Secret"))
        share_a_room(busy, ann, bob)
        assert "unsigned" not in devices(bob, ann)["DEVICE"]
        enter(a, "ann", "SECOND")
        a.wait(a.house.accounts.devices.rename(ann.user_id, "SECOND", "Secret, too"))
        busy.run(3)
        assert all("unsigned" not in one for one in devices(bob, ann).values())
        assert "unsigned" in ann.query(ann.user_id)["device_keys"][ann.user_id]["DEVICE"]

    def test_strangers_are_asked_for_and_not_kept(self, busy: Fleet) -> None:
        a, b = busy.open("a", "b")
        ann, bob = enter(a, "ann"), enter(b, "bob")
        assert devices(bob, ann) == {"DEVICE": ann.device_keys}
        assert kept(b, ann.user_id) is None
        assert bob.query("@nobody:a.example")["device_keys"] == {}

    def test_signing_keys_and_signatures(self, busy: Fleet) -> None:
        a, b = busy.open("a", "b")
        ann, bob = enter(a, "ann"), enter(b, "bob")
        share_a_room(busy, ann, bob)
        devices(bob, ann)
        bob.sync()
        asked = asked_for_lists(busy)
        identity = ann.sign_in_public()
        name = f"ed25519:{public(identity.self_signing)}"
        device = signed(ann.device_keys, ann.user_id, name, identity.self_signing)
        assert ann.put_signatures({ann.user_id: {"DEVICE": device}}) == {}
        busy.run(3)
        assert bob.lists() == (["ann"], [])
        seen = bob.query(ann.user_id)
        assert seen["master_keys"] == {ann.user_id: identity.key("master")}
        assert seen["self_signing_keys"] == {ann.user_id: identity.key("self_signing")}
        assert seen["user_signing_keys"] == {}
        assert seen["device_keys"][ann.user_id] == {"DEVICE": device}
        assert asked_for_lists(busy) == asked
        mine = bob.sign_in_public()
        by = f"ed25519:{public(mine.user_signing)}"
        master = signed(identity.key("master"), bob.user_id, by, mine.user_signing)
        assert bob.put_signatures({ann.user_id: {public(identity.master): master}}) == {}
        assert bob.query(ann.user_id)["master_keys"] == {ann.user_id: master}
        assert ann.query(ann.user_id)["master_keys"] == {ann.user_id: identity.key("master")}

    def test_a_stranger_is_vouched_for(self, busy: Fleet) -> None:
        a, b = busy.open("a", "b")
        ann, bob = enter(a, "ann"), enter(b, "bob")
        theirs, mine = ann.sign_in_public(), bob.sign_in_public()
        by = f"ed25519:{public(mine.user_signing)}"
        master = signed(theirs.key("master"), bob.user_id, by, mine.user_signing)
        assert bob.put_signatures({ann.user_id: {public(theirs.master): master}}) == {}
        assert bob.query(ann.user_id)["master_keys"] == {ann.user_id: master}

    def test_an_outage_is_made_up_for(self, both: Fleet) -> None:
        a, b = both.open("a", "b")
        ann, bob = enter(a, "ann"), enter(b, "bob")
        share_a_room(both, ann, bob)
        devices(bob, ann)
        both.down.add(B)
        for number in range(4):
            enter(a, "ann", f"D{number}")
            both.run(60, 5)
        identity = ann.sign_in_public()
        a.wait(a.house.accounts.sessions.end_devices(ann.user_id, ["D0", "DEVICE"]))
        both.run(60, 5)
        a = both.restart(a)
        both.down.clear()
        bob.sync()
        both.run(400, 10)
        theirs = kept(b, ann.user_id)
        assert theirs is not None and theirs.keys() == {"D1", "D2", "D3"}
        assert bob.lists() == (["ann"], [])
        assert bob.query(ann.user_id)["master_keys"] == {ann.user_id: identity.key("master")}

    def test_what_was_told_just_before_a_crash_is_told_again(self, busy: Fleet) -> None:
        a, b = busy.open("a", "b")
        ann, bob = enter(a, "ann"), enter(b, "bob")
        share_a_room(busy, ann, bob)
        busy.run(30, 5)
        devices(bob, ann)
        enter(a, "ann", "SECOND")  # and before anything could be sent …
        busy.crash(a)
        busy.run(60, 5)
        theirs = kept(b, ann.user_id)
        assert theirs is not None and theirs.keys() == {"DEVICE", "SECOND"}

    def test_a_gap_is_noticed_and_filled(self, busy: Fleet) -> None:
        a, b = busy.open("a", "b")
        ann, bob = enter(a, "ann"), enter(b, "bob")
        share_a_room(busy, ann, bob)
        devices(bob, ann)
        busy.meddler = without_edus(UPDATE)
        enter(a, "ann", "LOST")
        busy.run(3)
        busy.meddler = None
        assert kept(b, ann.user_id) == {"DEVICE": ann.device_keys}
        enter(a, "ann", "SEEN")
        busy.run(5)
        theirs = kept(b, ann.user_id)
        assert theirs is not None and theirs.keys() == {"DEVICE", "LOST", "SEEN"}

    def test_a_gap_is_filled_when_the_server_answers_again_over_a_restart(self, both: Fleet) -> None:
        a, b = both.open("a", "b")
        ann, bob = enter(a, "ann"), enter(b, "bob")
        share_a_room(both, ann, bob)
        devices(bob, ann)
        both.meddler = without_edus(UPDATE)
        enter(a, "ann", "LOST")
        both.run(3)
        both.meddler = lambda origin, request: None if "/user/devices/" in request.path else request
        enter(a, "ann", "SEEN")
        both.run(5)
        assert kept(b, ann.user_id) is None
        answer = bob.query(ann.user_id)
        assert answer["device_keys"] == {} and answer["failures"].keys() == {A}
        b = both.restart(b)
        bob.house = b
        both.run(100, 5)
        assert kept(b, ann.user_id) is None
        both.meddler = None
        both.run(600, 10)
        theirs = kept(b, ann.user_id)
        assert theirs is not None and theirs.keys() == {"DEVICE", "LOST", "SEEN"}

    def test_who_is_not_in_a_room_together_any_more_is_asked_for_again(self, busy: Fleet) -> None:
        a, b = busy.open("a", "b")
        ann, bob = enter(a, "ann"), enter(b, "bob")
        room_id = share_a_room(busy, ann, bob)
        devices(bob, ann)
        bob.sync()
        a.leave("ann", room_id)
        busy.run(3)
        assert bob.lists() == ([], ["ann"])
        enter(a, "ann", "SECOND")
        busy.run(3)
        assert "device_lists" not in bob.sync()
        assert devices(bob, ann).keys() == {"DEVICE", "SECOND"}
        a.join("ann", room_id)
        busy.run(3)
        assert bob.lists() == (["ann"], [])
        enter(a, "ann", "THIRD")
        busy.run(3)
        assert devices(bob, ann).keys() == {"DEVICE", "SECOND", "THIRD"}

    def test_a_server_that_left_and_came_back_relies_on_nothing_from_before(self, busy: Fleet) -> None:
        a, b = busy.open("a", "b")
        ann, bob = enter(a, "ann"), enter(b, "bob")
        room_id = share_a_room(busy, ann, bob)
        devices(bob, ann)
        b.leave("bob", room_id)
        busy.run(3)
        enter(a, "ann", "SECOND")
        busy.run(3)
        b.enter("bob", room_id, a)
        busy.run(3)
        assert devices(bob, ann).keys() == {"DEVICE", "SECOND"}

    def test_servers_that_a_person_meets_are_told(self, busy: Fleet) -> None:
        a, b = busy.open("a", "b")
        ann, bob = enter(a, "ann"), enter(b, "bob")
        seen = watch(busy)
        room_id = b.create("bob", preset="public_chat")
        a.enter("ann", room_id, b)
        busy.run(3)
        told = [edu["content"] for origin, edu in seen if origin == A and edu["edu_type"] == UPDATE]
        assert [(one["user_id"], one["device_id"], one["keys"]) for one in told] == [
            (ann.user_id, "DEVICE", ann.device_keys)
        ]
        assert bob.lists()[0] == []

    def test_of_many_people_of_a_server_all_are_asked_for_at_once(self, busy: Fleet) -> None:
        a, b = busy.open("a", "b")
        crowd = [enter(a, f"ann{number}") for number in range(8)]
        bob = enter(b, "bob")
        share_a_room(busy, *crowd, bob)
        before = len(busy.asked("/user/keys/query"))
        answer = bob.query(*(one.user_id for one in crowd))
        assert answer["device_keys"].keys() == {one.user_id for one in crowd}
        assert len(busy.asked("/user/keys/query")) == before + 1
        busy.run(10)
        assert all(kept(b, one.user_id) == {"DEVICE": one.device_keys} for one in crowd)


class TestClaims:
    def test_one_time_keys_across_servers(self, both: Fleet) -> None:
        a, b = both.open("a", "b")
        ann, bob = enter(a, "ann"), enter(b, "bob")
        keys = [bob.claim(ann)[ann.user_id]["DEVICE"] for _ in range(2)]
        assert len({name for one in keys for name in one}) == 2
        assert bob.claim(ann) == {}
        assert a.wait(a.house.database.run(stock_of, ann.user_id, "DEVICE")).counts == {}

    def test_dead_servers_are_named(self, busy: Fleet) -> None:
        a, b = busy.open("a", "b")
        ann, bob = enter(a, "ann"), enter(b, "bob")
        busy.down.add(A)
        assert bob.query(ann.user_id, bob.user_id)["failures"].keys() == {A}
        assert bob.query(ann.user_id, bob.user_id)["device_keys"].keys() == {bob.user_id}
        asked = len(busy.asked("/user/keys/query"))
        bob.query(ann.user_id)
        assert len(busy.asked("/user/keys/query")) == asked, "it is left alone for a moment"

    def test_a_server_that_never_answers_is_not_waited_for(self, busy: Fleet) -> None:
        a, b = busy.open("a", "b")
        ann, bob = enter(a, "ann"), enter(b, "bob")
        busy.silent.add(A)
        waiting = Deferred.fromCoroutine(b.house.part(KeyQueries).query(bob.user_id, {ann.user_id: []}, 2_000))
        b.wait(b.house.database.run(lambda cursor: None))
        assert not waiting.called
        busy.run(3)
        assert b.wait(waiting).failures.keys() == {A}


class TestLetters:
    def test_they_arrive_once_and_in_order(self, both: Fleet) -> None:
        a, b = both.open("a", "b")
        ann, bob = enter(a, "ann"), enter(b, "bob")
        texts = [str(number) for number in range(150)]
        for text in texts:
            ann.write(bob, text)
        both.run(10)
        assert bob.letters() + bob.letters() == texts
        both.run(30, 5)
        assert a.wait(a.house.database.run(to_device.destinations)) == []

    def test_through_an_outage_and_restarts(self, both: Fleet) -> None:
        a, b = both.open("a", "b")
        ann, bob = enter(a, "ann"), enter(b, "bob")
        bob.sync()
        both.down.add(B)
        for number in range(60):
            ann.write(bob, str(number), f"t{number}")
            if number % 20 == 0:
                both.run(40, 5)
        a = both.crash(a)
        ann.house = a
        ann.write(bob, "0", "t0")  # a client that never heard
        ann.write(bob, "60", "t60")
        both.run(100, 10)
        both.down.clear()
        both.run(400, 10)
        assert bob.letters() == [str(number) for number in range(61)]
        assert a.wait(a.house.database.run(to_device.destinations)) == []

    def test_answers_that_get_lost(self, both: Fleet) -> None:
        a, b = both.open("a", "b")
        ann, bob = enter(a, "ann"), enter(b, "bob")
        both.deaf.add(A)
        ann.write(bob, "one")
        ann.write(bob, "two")
        both.run(3)
        b = both.restart(b)  # it forgets which transactions it took
        bob.house = b
        both.deaf.clear()
        both.run(60, 5)
        assert bob.letters() == ["one", "two"]

    def test_all_devices_of_people_elsewhere(self, busy: Fleet) -> None:
        a, b = busy.open("a", "b")
        ann = enter(a, "ann")
        phone, laptop, cat = enter(b, "bob", "PHONE"), enter(b, "bob", "LAPTOP"), enter(b, "cat")
        ann.send({phone.user_id: {"*": {"text": "all"}}, cat.user_id: {"DEVICE": {"text": "one"}}})
        busy.run(3)
        assert (phone.letters(), laptop.letters(), cat.letters()) == (["all"], ["all"], ["one"])

    def test_large_ones_go_in_several_pieces(self, busy: Fleet) -> None:
        a, b = busy.open("a", "b")
        ann, bobs = enter(a, "ann"), [enter(b, f"bob{number}") for number in range(5)]
        seen = watch(busy)
        ann.send({bob.user_id: {"DEVICE": {"text": f"{number}" * 30_000}} for number, bob in enumerate(bobs)})
        busy.run(3)
        assert len([edu for _, edu in seen if edu["edu_type"] == LETTER]) == 5
        for number, bob in enumerate(bobs):
            assert bob.letters() == [f"{number}" * 30_000]


#: Type of an EDU → members that are not what they should be.
ODD: list[tuple[str, dict[str, Any]]] = [
    (UPDATE, {"stream_id": "x"}),
    (UPDATE, {"stream_id": -1}),
    (UPDATE, {"stream_id": 2**60}),
    (UPDATE, {"prev_id": "x"}),
    (UPDATE, {"prev_id": [2**62]}),
    (UPDATE, {"device_id": ""}),
    (UPDATE, {"device_id": "a\0b"}),
    (UPDATE, {"device_id": "x" * 300}),
    (UPDATE, {"device_display_name": "\0" * 10_000}),
    (UPDATE, {"keys": []}),
    (UPDATE, {"keys": {}}),
    (UPDATE, {"keys": {"user_id": "@bob:b.example", "device_id": "NEW", "algorithms": [], "keys": {}}}),
    (UPDATE, {"user_id": "@ann:a.example:"}),
    (UPDATE, {"user_id": None}),
    (SIGNING, {"master_key": []}),
    (SIGNING, {"master_key": {"user_id": "@ann:a.example", "usage": ["master"], "keys": {"x": "y"}}}),
    (SIGNING, {"self_signing_key": {"keys": 1}}),
    (LETTER, {"message_id": "\0"}),
    (LETTER, {"message_id": "x" * 1000}),
    (LETTER, {"type": ""}),
    (LETTER, {"messages": {"@bob:b.example": {"*": []}}}),
    (LETTER, {"messages": {"@bob:b.example": {"a\0b": {}, "\0": {"x": 1}}}}),
    (LETTER, {"messages": {"bob": {"*": {}}, "@x\0:b.example": {"*": {}}, ":b.example": {"*": {}}}}),
    (LETTER, {"messages": {"@bob:b.example": {"*": {"text": "x" * 200_000}}}}),
    (LETTER, {"sender": "@:a.example", "messages": {"@nobody:b.example": {"*": {"a": 1}}}}),
]


class TestLies:
    """What a server says of others' people, or what makes no sense, changes nothing."""

    def test_only_their_own_people(self, busy: Fleet) -> None:
        a, b, c = busy.open("a", "b", "c")
        ann, bob, cat = enter(a, "ann"), enter(b, "bob"), enter(c, "cat")
        share_a_room(busy, ann, bob, cat)
        devices(bob, ann)
        bob.sync()
        fake = Identity(ann.user_id)
        letter = {
            "sender": ann.user_id,
            "type": "x",
            "message_id": "1",
            "messages": {bob.user_id: {"*": {"text": "x"}}},
        }
        update = {"user_id": ann.user_id, "device_id": "DEVICE", "stream_id": 99, "prev_id": [], "deleted": True}
        send(c, b, LETTER, letter, "1")
        send(c, b, UPDATE, update, "2")
        send(c, b, SIGNING, {"user_id": ann.user_id, **fake.body("master", "self_signing")}, "3")
        busy.run(5)
        assert devices(bob, ann) == {"DEVICE": ann.device_keys}
        assert bob.query(ann.user_id)["master_keys"] == {}
        assert bob.sync().keys().isdisjoint({"to_device", "device_lists"})

    def test_odd_contents(self, both: Fleet) -> None:
        a, b = both.open("a", "b")
        ann, bob = enter(a, "ann"), enter(b, "bob")
        share_a_room(both, ann, bob)
        devices(bob, ann)
        bob.sync()
        good: dict[str, dict[str, Any]] = {
            UPDATE: {"user_id": ann.user_id, "device_id": "NEW", "stream_id": 50, "prev_id": [2], "keys": {}},
            SIGNING: {"user_id": ann.user_id},
            LETTER: {"sender": ann.user_id, "type": "x", "message_id": "1", "messages": {}},
        }
        for number, (edu_type, content) in enumerate(ODD):
            assert send(a, b, edu_type, {**good[edu_type], **content}, f"odd{number}") == {"pdus": {}}
            assert "to_device" not in bob.sync(), content
            both.run(5, 5)
            assert devices(bob, ann) == {"DEVICE": ann.device_keys}, content
        ann.write(bob, "still there")
        both.run(30, 5)
        assert bob.letters() == ["still there"]

    def test_answers_that_make_no_sense(self, busy: Fleet) -> None:
        a, b = busy.open("a", "b")
        ann, bob = enter(a, "ann"), enter(b, "bob")
        other = enter(b, "cat")
        wrong = {**ann.device_keys, "user_id": bob.user_id}
        good = ann.device_keys
        answers: list[Any] = [
            {"device_keys": {ann.user_id: {"DEVICE": good, "X": good, "Y": wrong, "Z": 5, "\0": good}}},
            {"device_keys": {ann.user_id: {"DEVICE": good}, bob.user_id: {"DEVICE": good}, "x": {}}},
            {"device_keys": {ann.user_id: {"DEVICE": good}}, "master_keys": {ann.user_id: other.device_keys, "y": 5}},
        ]
        for answer in answers:
            busy.meddler = answering("/user/keys/query", answer)
            found = bob.query(ann.user_id)
            assert found["device_keys"] == {ann.user_id: {"DEVICE": good}} and found["master_keys"] == {}
        nonsense: list[Any] = [[], {"device_keys": []}, {"device_keys": {ann.user_id: []}}]
        for answer in nonsense:
            busy.meddler = answering("/user/keys/query", answer)
            assert bob.query(ann.user_id)["failures"].keys() == {A}
        key = {f"{OTK}:x": ann.new_key()}
        busy.meddler = answering(
            "/user/keys/claim",
            {"one_time_keys": {ann.user_id: {"DEVICE": {"other:x": ann.new_key(), "\0": 5, **key}, "OTHER": key}}},
        )
        assert bob.claim(ann) == {ann.user_id: {"DEVICE": key}}

    def test_whose_list_is_not_for_the_asking(self, busy: Fleet) -> None:
        a, b = busy.open("a", "b")
        bob = enter(b, "bob")
        for body, path in (
            ({"device_keys": {"@cat:c.example": []}}, "/user/keys/query"),
            ({"one_time_keys": {"@cat:c.example": {"X": "y"}}}, "/user/keys/claim"),
            ({"device_keys": {"bob": []}}, "/user/keys/query"),
        ):
            with pytest.raises(Refused) as caught:
                a.ask(b, "POST", f"/_matrix/federation/v1{path}", body)
            assert caught.value.status == 400
        with pytest.raises(Refused) as caught:
            a.ask(b, "GET", "/_matrix/federation/v1/user/devices/@nobody:b.example")
        assert caught.value.status == 404
        found = a.ask(b, "GET", f"/_matrix/federation/v1/user/devices/{bob.user_id}")
        assert found["devices"] == [{"device_id": "DEVICE", "keys": bob.device_keys}] and found["stream_id"] >= 1


def test_a_closed_account_is_gone_everywhere(busy: Fleet) -> None:
    a, b = busy.open("a", "b")
    ann, bob = enter(a, "ann"), enter(b, "bob")
    share_a_room(busy, bob, ann)
    ann.sign_in_public()
    busy.run(3)
    assert devices(bob, ann)
    a.wait(a.house.accounts.changes.deactivate(ann.user_id, erase=False))
    busy.run(5)
    assert a.wait(a.house.database.run(device_keys.cross_signing_of, [ann.user_id])) == {}
    found = bob.query(ann.user_id)
    assert found["device_keys"] == {ann.user_id: {}} and found["master_keys"] == {}


# ------------------------------------------------------------------------------------------------------------------


def edus_in(origin: str, request: Request) -> list[tuple[str, Any]]:
    if "/send/" not in request.path:
        return []
    return [(origin, edu) for edu in orjson.loads(request.body or b"{}")["edus"]]


def watch(fleet: Fleet) -> list[tuple[str, Any]]:
    """Who tells what from now on: origin and EDU."""
    seen: list[tuple[str, Any]] = []

    def look(origin: str, request: Request) -> Request:
        seen.extend(edus_in(origin, request))
        return request

    fleet.meddler = look
    return seen


def without_edus(edu_type: str) -> Any:
    """A meddler that answers transactions with nothing but such EDUs in the place of who they are for."""

    def meddle(origin: str, request: Request) -> Request | Response:
        edus = edus_in(origin, request)
        if edus and all(edu["edu_type"] == edu_type for _, edu in edus) and b'"pdus":[]' in (request.body or b""):
            return Response(200, {}, b'{"pdus":{}}')
        return request

    return meddle


def answering(part: str, answer: Any) -> Any:
    """A meddler that answers some requests with something of its own."""

    def meddle(origin: str, request: Request) -> Request | Response:
        return Response(200, {}, orjson.dumps(answer)) if part in request.path else request

    return meddle
