"""What a server tells its peers, and whom: servers in the room, by its ACL, and what they may see of it."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import orjson
import pytest

from federation.outbound.transport import Refused, Request, Response
from federation.room.build import build_event
from federation.room.event import Event
from federation.room.parse import parse_pdu
from federation.room.versions import ROOM_VERSIONS
from homeserver.app import read_key
from homeserver.errors import Forbidden, MatrixError
from homeserver.rooms.serve.inbox import Inbox
from tests.fixtures_fleet import Fleet, Member

V1 = "/_matrix/federation/v1"


def refusal(
    member: Member, other: Member, method: str, path: str, body: object = None, **query: str
) -> tuple[int, str]:
    with pytest.raises(Refused) as error:
        member.ask(other, method, path, body, **query)
    return error.value.status, error.value.errcode


def questions(room_id: str, event_id: str) -> list[tuple[str, str, Any, dict[str, str]]]:
    """Everything that may be asked about a room that both are in."""
    missing = {"earliest_events": [], "latest_events": [event_id], "limit": 10}
    return [
        ("GET", f"{V1}/state/{room_id}", None, {"event_id": event_id}),
        ("GET", f"{V1}/state_ids/{room_id}", None, {"event_id": event_id}),
        ("GET", f"{V1}/event_auth/{room_id}/{event_id}", None, {}),
        ("GET", f"{V1}/backfill/{room_id}", None, {"v": event_id, "limit": "10"}),
        ("POST", f"{V1}/get_missing_events/{room_id}", missing, {}),
        ("GET", f"{V1}/event/{event_id}", None, {}),
    ]


def test_outsiders_are_told_nothing(fleet: Fleet) -> None:
    a, b, c = fleet.open("a", "b", "c")
    room_id = a.create("alice", preset="public_chat", room_version="10")
    b.enter("bob", room_id, via=a)
    said = a.say("alice", room_id, "among us")
    fleet.settle()
    for method, path, body, query in questions(room_id, said):
        assert b.ask(a, method, path, body, **query)
        assert refusal(c, a, method, path, body, **query) == (403, "M_FORBIDDEN")
        if "/event/" not in path:
            elsewhere = path.replace(room_id, "!unknown:a.example")
            assert refusal(c, a, method, elsewhere, body, **query) == (404, "M_NOT_FOUND")


def test_a_redacted_acl_keeps_everybody_out(fleet: Fleet) -> None:
    """At once, and not only once this server was started anew. Our own people are told so instead."""
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat", room_version="10")
    b.enter("bob", room_id, via=a)
    a.set_state("alice", room_id, "m.room.power_levels", {"users": {a.user("alice"): 100, b.user("bob"): 100}})
    acl = a.set_state("alice", room_id, "m.room.server_acl", {"allow": ["*"]})
    fleet.settle()
    with pytest.raises(Forbidden):
        a.redact("alice", room_id, acl)
    redaction = b.make(room_id, "bob", "m.room.redaction", {}, redacts=acl)
    body = {"pdus": [orjson.loads(redaction.raw)]}
    assert b.ask(a, "PUT", f"{V1}/send/1", body)["pdus"] == {redaction.event_id: {}}
    with pytest.raises(Refused) as refused:
        b.ask(a, "GET", f"{V1}/event/{acl}")
    assert refused.value.status == 403


def test_who_is_kept_out_by_the_acl(fleet: Fleet) -> None:
    a, b, c = fleet.open("a", "b", "c")
    room_id = a.create("alice", preset="public_chat", room_version="10")
    b.enter("bob", room_id, via=a)
    c.enter("carol", room_id, via=a)
    fleet.settle()
    a.set_state("alice", room_id, "m.room.server_acl", {"allow": ["*"], "deny": ["b.*"]})
    fleet.settle()
    said = a.say("alice", room_id, "without b")
    before = a.room(room_id).visible.head.extremities
    for method, path, body, query in questions(room_id, said):
        assert refusal(b, a, method, path, body, **query) == (403, "M_FORBIDDEN")
    for step in ("make_join", "make_leave"):
        assert refusal(b, a, "GET", f"{V1}/{step}/{room_id}/@bob:b.example", ver="10")[0] == 403
    b.say("bob", room_id, "hello?")
    event = b.post.waiting[a.name][0]
    body = {"pdus": [orjson.loads(event.raw)]}
    answer = b.ask(a, "PUT", f"{V1}/send/1", body)["pdus"]
    assert "not allowed" in answer[event.event_id]["error"]
    assert a.room(room_id).visible.head.extremities == before
    c.say("carol", room_id, "i am still here")
    fleet.settle()
    assert a.texts("alice", room_id)[-1] == "i am still here"


def test_transactions_are_taken_once(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    b.say("bob", room_id, "once")
    event = b.post.waiting.pop(a.name)[0]
    heard: list[Any] = []

    async def hear(origin: str, content: Any) -> None:
        heard.append((origin, content))

    a.house.part(Inbox).edus.handlers["m.test"] = hear
    body = {"pdus": [orjson.loads(event.raw)], "edus": [{"edu_type": "m.test", "content": {"n": 1}}, {"edu_type": "x"}]}
    first = b.ask(a, "PUT", f"{V1}/send/same", body)
    assert first == {"pdus": {event.event_id: {}}}
    assert b.ask(a, "PUT", f"{V1}/send/same", body) == first
    assert heard == [("b.example", {"n": 1})]
    assert a.texts("alice", room_id) == ["once"]
    assert b.ask(a, "PUT", f"{V1}/send/other", body) == first  # known already


def test_what_can_not_be_looked_at_now_is_sent_again(fleet: Fleet) -> None:
    """Without its database a server says so, instead of blaming the events: then nobody would send them again."""
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    b.say("bob", room_id, "not lost")
    event = b.post.waiting.pop(a.name)[0]
    body = {"pdus": [orjson.loads(event.raw)]}
    a.room(room_id)
    a.wait(a.house.database.close())
    assert refusal(b, a, "PUT", f"{V1}/send/same", body) == (503, "M_UNKNOWN")
    a = fleet.restart(a)
    assert b.ask(a, "PUT", f"{V1}/send/same", body) == {"pdus": {event.event_id: {}}}
    assert a.texts("alice", room_id) == ["not lost"]


def test_what_makes_no_sense_in_a_transaction(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat", room_version="10")
    b.enter("bob", room_id, via=a)
    nowhere = b.make(room_id, "bob", "m.room.message", {})
    stray = {**orjson.loads(nowhere.raw), "room_id": "!other:b.example"}
    junk: list[Any] = [{}, {"room_id": room_id}, {"room_id": 7}, [], None, "x"]
    answer = b.ask(a, "PUT", f"{V1}/send/1", {"pdus": [*junk, stray, orjson.loads(nowhere.raw)]})["pdus"]
    assert answer[nowhere.event_id] == {}
    assert [result.get("error") for name, result in answer.items() if name != nowhere.event_id] == [
        "This server is not in that room"
    ] or len(answer) <= 3
    assert refusal(b, a, "PUT", f"{V1}/send/2", {"pdus": [{}] * 51}) == (400, "M_BAD_JSON")
    assert refusal(b, a, "PUT", f"{V1}/send/3", {"edus": [{}] * 101}) == (400, "M_BAD_JSON")
    assert refusal(b, a, "PUT", f"{V1}/send/4", {"pdus": 1}) == (400, "M_BAD_JSON")


def test_what_is_rejected_is_no_error(fleet: Fleet) -> None:
    """It was dealt with. COMPAT Synapse, Sytest."""
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat", room_version="10")
    b.enter("bob", room_id, via=a)
    topic = b.make(room_id, "bob", "m.room.topic", {"topic": "mine"}, state_key="")
    assert b.ask(a, "PUT", f"{V1}/send/1", {"pdus": [orjson.loads(topic.raw)]})["pdus"] == {topic.event_id: {}}
    assert ("m.room.topic", "") not in a.room(room_id).visible.state


def test_rooms_do_not_wait_for_each_other(fleet: Fleet) -> None:
    """One room's events need what nobody gives; the other's go in all the same."""
    a, b = fleet.open("a", "b")
    rooms = [a.create("alice", preset="public_chat") for _ in range(2)]
    for room_id in rooms:
        b.enter("bob", room_id, via=a)
    lost = b.make(rooms[0], "bob", "m.room.message", {"body": "lost"}, prev=["$" + "x" * 43])
    fine = b.make(rooms[1], "bob", "m.room.message", {"body": "fine"})
    body = {"pdus": [orjson.loads(lost.raw), orjson.loads(fine.raw)]}
    answer = b.ask(a, "PUT", f"{V1}/send/1", body)["pdus"]
    assert answer == {lost.event_id: {}, fine.event_id: {}}  # nobody is to blame for what is missing
    assert [a.texts("alice", room_id) for room_id in rooms] == [[], ["fine"]]


def member_event(member: Member, name: str, template: Any, version: str, **changes: Any) -> Event:
    fields = {
        name: template[name]
        for name in ("room_id", "type", "sender", "content", "state_key", "prev_events", "auth_events", "depth")
    }
    arguments = {**fields, "origin_server_ts": 1, "server_name": member.name, **changes}
    arguments.setdefault("key", read_key(member.house.settings))
    return build_event(ROOM_VERSIONS[version], **arguments)


def test_joins_handed_in_are_looked_at(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat", room_version="10")
    bob = "@bob:b.example"
    make = f"{V1}/make_join/{room_id}/{bob}"
    assert refusal(b, a, "GET", make, ver="1") == (400, "M_INCOMPATIBLE_ROOM_VERSION")
    assert refusal(b, a, "GET", make) == (400, "M_INCOMPATIBLE_ROOM_VERSION")
    assert refusal(b, a, "GET", f"{V1}/make_join/{room_id}/@alice:a.example", ver="10") == (403, "M_FORBIDDEN")
    assert refusal(b, a, "GET", f"{V1}/make_leave/{room_id}/{bob}") == (403, "M_FORBIDDEN")
    assert refusal(b, a, "GET", f"{V1}/make_knock/{room_id}/{bob}", ver="10") == (403, "M_FORBIDDEN")
    made = b.ask(a, "GET", make, ver="10")
    assert made["room_version"] == "10"
    template = made["event"]

    def send(event: Event, step: str = "v2/send_join", named: str | None = None) -> tuple[int, str]:
        path = f"/_matrix/federation/{step}/{room_id}/{named or event.event_id}"
        return refusal(b, a, "PUT", path, orjson.loads(event.raw))

    join = member_event(b, "bob", template, "10")
    assert send(join, named="$other") == (400, "M_INVALID_PARAM")
    assert send(join, "v2/send_leave") == (400, "M_INVALID_PARAM")
    assert send(member_event(b, "bob", template, "10", type="m.room.message", state_key=None)) == (
        400,
        "M_INVALID_PARAM",
    )
    assert send(member_event(b, "bob", template, "10", sender="@alice:a.example")) == (400, "M_INVALID_PARAM")
    assert send(member_event(b, "bob", template, "10", state_key="@beth:b.example")) == (400, "M_INVALID_PARAM")
    assert send(member_event(b, "bob", template, "10", room_id="!other:a.example")) == (400, "M_INVALID_PARAM")
    assert send(member_event(b, "bob", template, "10", key=read_key(a.house.settings))) == (400, "M_INVALID_PARAM")
    assert a.membership(bob, room_id) is None
    answer = b.ask(a, "PUT", f"/_matrix/federation/v2/send_join/{room_id}/{join.event_id}", orjson.loads(join.raw))
    assert a.membership(bob, room_id) == "join"
    assert {event["type"] for event in answer["state"]} >= {"m.room.create", "m.room.member", "m.room.power_levels"}
    assert answer["members_omitted"] is False and answer["event"]["state_key"] == bob


def test_members_are_left_out_when_asked(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat", room_version="10", name="Named")
    for name in ("amy", "ann", "abe"):
        a.enter(name, room_id)
    template = b.ask(a, "GET", f"{V1}/make_join/{room_id}/@bob:b.example", ver="10")["event"]
    join = member_event(b, "bob", template, "10")
    path = f"/_matrix/federation/v2/send_join/{room_id}/{join.event_id}"
    answer = b.ask(a, "PUT", path, orjson.loads(join.raw), omit_members="true")
    assert answer["members_omitted"] is True and answer["servers_in_room"] == ["a.example"]
    assert "m.room.member" not in {event["type"] for event in answer["state"]}
    # What the rest rests on is there all the same: alice's own membership.
    assert [event["state_key"] for event in answer["auth_chain"] if event["type"] == "m.room.member"] == [
        "@alice:a.example"
    ]


def handover(a: Member, b: Member, room_id: str, name: str = "bob") -> dict[str, Any]:
    """What somebody's join is answered with, members left out."""
    template = b.ask(a, "GET", f"{V1}/make_join/{room_id}/@{name}:b.example", ver="10")["event"]
    join = member_event(b, name, template, "10")
    path = f"/_matrix/federation/v2/send_join/{room_id}/{join.event_id}"
    answer: dict[str, Any] = b.ask(a, "PUT", path, orjson.loads(join.raw), omit_members="true")
    return answer


def members_in(answer: dict[str, Any]) -> list[str]:
    return [event["state_key"] for event in answer["state"] if event["type"] == "m.room.member"]


def test_by_whom_a_room_without_a_name_is_known_is_not_left_out(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat", room_version="10")
    names = ["alice", *(f"m{n}" for n in range(6))]
    for name in names[1:]:
        a.enter(name, room_id)
    a.leave("m1", room_id)
    a.invite("alice", "@bob:b.example", room_id)
    answer = handover(a, b, room_id)
    # The first five who are there: who left is none of them, nor is who joins.
    assert members_in(answer) == [f"@{name}:a.example" for name in ("alice", "m0", "m2", "m3", "m4")]
    assert answer["members_omitted"] is True and answer["servers_in_room"] == ["a.example"]
    named = {event_id for event in answer["state"] for event_id in event["auth_events"]}
    given = {event.event_id for part in ("state", "auth_chain") for event in parsed(answer[part])}
    assert named <= given and not {event.event_id for event in parsed(answer["auth_chain"])} & {
        event.event_id for event in parsed(answer["state"])
    }


def test_nobody_is_left_out_of_a_small_room(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat", room_version="10")
    a.enter("amy", room_id)
    answer = handover(a, b, room_id)
    assert answer["members_omitted"] is True and len(members_in(answer)) == 2
    assert handover(a, b, room_id, "beth")["servers_in_room"] == ["a.example", "b.example"]


def parsed(pdus: list[dict[str, Any]]) -> list[Event]:
    return [parse_pdu(ROOM_VERSIONS["10"], pdu) for pdu in pdus]


@pytest.mark.parametrize("version", ["1", "11", "12"])
def test_invitations_handed_in_are_looked_at(fleet: Fleet, version: str) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="private_chat", room_version=version, name="Attic")
    bob = "@bob:b.example"
    caught: list[Request] = []

    def catch(origin: str, request: Request) -> Request | None:
        if "/invite/" in request.path:
            caught.append(request)
            return None
        return request

    fleet.meddler = catch
    with pytest.raises(MatrixError):
        a.invite("alice", bob, room_id)
    fleet.meddler = None
    body = orjson.loads(caught[0].body or b"")
    path = caught[0].path

    def send(**changes: Any) -> tuple[int, str]:
        return refusal(a, b, "PUT", unquote(path), {**body, **changes})

    assert send(room_version="nonsense") == (400, "M_INCOMPATIBLE_ROOM_VERSION")
    if version == "12":
        assert send(invite_room_state=[]) == (400, "M_MISSING_PARAM")
        create = next(event for event in body["invite_room_state"] if event["type"] == "m.room.create")
        stripped = {name: create[name] for name in ("type", "sender", "state_key", "content")}
        assert send(invite_room_state=[stripped]) == (400, "M_MISSING_PARAM")
        assert send(invite_room_state=[{**create, "signatures": {}}]) == (400, "M_INVALID_PARAM")
        assert send(invite_room_state=[create, {**stripped, "type": "m.room.name"}]) == (400, "M_INVALID_PARAM")
        other = b.create("bob", name="Elsewhere", room_version=version)
        stray = b.make(other, "bob", "m.room.topic", {"topic": "x"}, state_key="").to_json()
        assert send(invite_room_state=[create, stray]) == (400, "M_INVALID_PARAM")
    event = body["event"]
    assert send(event={**event, "sender": "@carol:c.example"})[0] == 400
    assert send(event={**event, "content": {"membership": "join"}})[0] == 400
    assert send(event={**event, "signatures": {}})[0] == 400
    assert b.sync("bob").get("rooms", {}).get("invite", {}) == {}
    if version == "12":
        shown = [
            {**one, "signatures": {}} if one["type"] == "m.room.name" else one for one in body["invite_room_state"]
        ]
        a.ask(b, "PUT", unquote(path), {**body, "invite_room_state": shown})
        invited = b.sync("bob")["rooms"]["invite"][room_id]["invite_state"]["events"]
        assert {"m.room.create", "m.room.member"} <= {event["type"] for event in invited}
        assert "m.room.name" not in {event["type"] for event in invited}, "nobody vouches for that name"


def test_a_server_that_does_not_sign_an_invitation(fleet: Fleet) -> None:
    a, _ = fleet.open("a", "b")
    room_id = a.create("alice", preset="private_chat")

    def answer(origin: str, request: Request) -> Request | Response:
        if "/invite/" in request.path:
            return Response(200, {}, orjson.dumps({"event": orjson.loads(request.body or b"")["event"]}))
        return request

    fleet.meddler = answer
    with pytest.raises(MatrixError) as refused:
        a.invite("alice", "@bob:b.example", room_id)
    assert refused.value.status == 502 and a.membership("@bob:b.example", room_id) is None


def test_forks_of_state_meet(fleet: Fleet) -> None:
    a, b, c = fleet.open("a", "b", "c")
    free = {"events": {"m.room.topic": 0, "m.room.name": 0}}
    room_id = a.create("alice", preset="public_chat", power_level_content_override=free)
    b.enter("bob", room_id, via=a)
    c.enter("carol", room_id, via=a)
    fleet.settle()
    for number in range(3):
        for member, name in ((a, "alice"), (b, "bob"), (c, "carol")):
            member.set_state(name, room_id, "m.room.topic", {"topic": f"{name} {number}"})
            member.say(name, room_id, f"{name} says {number}")
        fleet.settle()
        assert a.state_of(room_id) == b.state_of(room_id) == c.state_of(room_id)
    said = {f"{name} says {number}" for name in ("alice", "bob", "carol") for number in range(3)}
    for member, name in ((a, "alice"), (b, "bob"), (c, "carol")):
        # A first sync shows the newest ten events; what is left out is read by paging back.
        assert set(member.texts(name, room_id)) <= said
    a.say("alice", room_id, "done")
    fleet.settle()
    heads = {frozenset(member.room(room_id).visible.head.extremities) for member in (a, b, c)}
    assert len(heads) == 1 and len(next(iter(heads))) == 1


def test_text_that_is_no_text_spoils_nothing_but_itself(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    b.say("bob", room_id, "sound")
    event = b.post.waiting.pop(a.name)[0]
    broken = b'{"room_id":"\xff"}'
    body = b'{"pdus":[%b,%b],"edus":[{"edu_type":"\xff"}]}' % (broken, event.raw)
    answer = fleet.wait(a.house.part(Inbox).take("b.example", "broken", body))
    assert answer == {"pdus": {event.event_id: {}}}
