"""Two servers share a room: joining, talking, leaving and coming back, in every kind of room version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from twisted.internet.defer import Deferred

from federation.outbound.transport import Request, Response
from homeserver.errors import MatrixError, NotFound
from homeserver.http.answer import Answer
from homeserver.rooms.send import Sender
from tests.fixtures_fleet import Fleet, Member

VERSIONS = ["1", "2", "3", "6", "10", "11", "12"]


def same(room_id: str, *members: Member) -> None:
    """Everybody thinks the same of the room."""
    first = members[0]
    for other in members[1:]:
        assert other.state_of(room_id) == first.state_of(room_id)
        assert set(other.room(room_id).visible.head.extremities) == set(first.room(room_id).visible.head.extremities)


@pytest.mark.parametrize("version", VERSIONS)
def test_two_servers_talk(fleet: Fleet, version: str) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat", name="Harbour", room_version=version)
    a.say("alice", room_id, "before bob")
    b.enter("bob", room_id, via=a)
    assert b.membership("bob", room_id) == "join" and a.membership("@bob:b.example", room_id) == "join"
    same(room_id, a, b)
    a.say("alice", room_id, "hello")
    fleet.settle()
    b.say("bob", room_id, "hello to you")
    fleet.settle()
    assert a.texts("alice", room_id)[-2:] == ["hello", "hello to you"]
    assert b.texts("bob", room_id)[-2:] == ["hello", "hello to you"]
    same(room_id, a, b)


def test_with_a_server_that_knows_the_first_forms_only(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    a.invite("alice", "@bea:b.example", room_id)

    def old(origin: str, request: Request) -> Request | Response:
        is_new = request.destination == a.name and "/v2/send_" in request.path
        return Response(404, {}, b'{"errcode": "M_UNRECOGNIZED", "error": "?"}') if is_new else request

    fleet.meddler = old
    b.leave("bea", room_id)
    b.enter("bob", room_id, via=a)
    fleet.settle()
    assert a.membership("@bob:b.example", room_id) == "join" and a.membership("@bea:b.example", room_id) == "leave"
    same(room_id, a, b)
    asked = {path.split("/")[3] + "/" + path.split("/")[4] for _, _, _, path in fleet.requests if "/send_" in path}
    assert asked == {"v1/send_join", "v2/send_join", "v1/send_leave", "v2/send_leave"}


def test_what_is_said_of_a_version_that_is_not_known_here_is_passed_on(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    refusal = b'{"errcode": "M_INCOMPATIBLE_ROOM_VERSION", "error": "no", "room_version": "x.y"}'
    fleet.meddler = lambda origin, request: Response(400, {}, refusal)
    with pytest.raises(MatrixError) as refused:
        b.enter("bob", room_id, via=a)
    assert refused.value.errcode == "M_INCOMPATIBLE_ROOM_VERSION"
    assert refused.value.more == {"room_version": "x.y"}


def test_on_both_databases(any_fleet: Fleet) -> None:
    a, b = any_fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    a.say("alice", room_id, "hello")
    b.say("bob", room_id, "at the same time")
    any_fleet.settle()
    assert sorted(b.texts("bob", room_id)) == sorted(a.texts("alice", room_id)) == ["at the same time", "hello"]
    a.set_state("alice", room_id, "m.room.topic", {"topic": "forks"})
    any_fleet.settle()
    same(room_id, a, b)
    b.leave("bob", room_id)
    any_fleet.settle()
    assert a.membership("@bob:b.example", room_id) == "leave"
    b.enter("bob", room_id, via=a)
    any_fleet.settle()
    same(room_id, a, b)


def test_a_third_server_hears_of_a_join(fleet: Fleet) -> None:
    a, b, c = fleet.open("a", "b", "c")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    c.enter("carol", room_id, via=b)
    fleet.settle()
    same(room_id, a, b, c)
    c.say("carol", room_id, "hello all")
    fleet.settle()
    assert a.texts("alice", room_id) == b.texts("bob", room_id) == ["hello all"]


def test_a_second_person_joins_without_asking_anybody(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    fleet.requests.clear()
    b.enter("beth", room_id)
    assert fleet.requests == []
    fleet.settle()
    assert a.membership("@beth:b.example", room_id) == "join"


def test_joining_by_whoever_can_be_reached(fleet: Fleet) -> None:
    a, b, c = fleet.open("a", "b", "c")
    room_id = a.create("alice", preset="public_chat", room_version="10")
    b.enter("bob", room_id, via=a)
    c.enter("carol", a.create("alice", preset="public_chat"), via=a)  # so c has a's keys, as any notary would
    fleet.settle()
    fleet.down.add(a.name)
    c.wait(c.memberships.join(room_id, "@carol:c.example", via=["nowhere.example", a.name, b.name]))
    assert c.membership("carol", room_id) == "join"
    fleet.settle()
    assert b.membership("@carol:c.example", room_id) == "join"
    fleet.down.clear()
    fleet.settle()
    same(room_id, a, b, c)


def test_joins_that_are_refused(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    private = a.create("alice", preset="private_chat")
    with pytest.raises(NotFound):
        b.enter("bob", private)  # nobody is named who could help
    with pytest.raises(MatrixError) as refusal:
        b.enter("bob", private, via=a)
    assert (refusal.value.status, refusal.value.errcode) == (403, "M_FORBIDDEN")
    with pytest.raises(MatrixError) as refusal:
        b.enter("bob", "!nothing:a.example", via=a)
    assert refusal.value.status == 404
    fleet.down.add(a.name)
    with pytest.raises(MatrixError) as refusal:
        b.enter("bob", private, via=a)
    assert refusal.value.status == 502


def test_what_arrives_before_the_room_does_waits_for_it(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    early: list[Deferred[Any]] = []

    async def speak() -> Any:
        """Alice greets who has just come in, while the answer to the join is on its way to b."""
        content = {"msgtype": "m.text", "body": "welcome"}
        await a.house.part(Sender).message(a.who("alice"), room_id, "m.room.message", content, "1")
        body = {"pdus": [orjson.loads(event.raw) for event in a.post.waiting.pop(b.name)]}
        assert a.house.federation is not None
        return await a.house.federation.client.put(b.name, "/_matrix/federation/v1/send/1", into=dict, body=body)

    async def serve(member: Member, request: Request) -> Answer:
        answer = await plain(member, request)
        if "/send_join/" in request.path:
            early.append(Deferred.fromCoroutine(speak()))
        return answer

    plain = Member.serve
    monkeypatch.setattr(Member, "serve", serve)
    b.enter("bob", room_id, via=a)
    answer = a.wait(early[0])
    assert list(answer["pdus"].values()) == [{}]
    assert b.texts("bob", room_id) == ["welcome"]
    same(room_id, a, b)


def lies() -> dict[str, Callable[[dict[str, Any]], None]]:
    """What a server may answer to a join instead of the room."""

    def without(event_type: str) -> Callable[[dict[str, Any]], None]:
        def lie(answer: dict[str, Any]) -> None:
            answer["state"] = [event for event in answer["state"] if event["type"] != event_type]

        return lie

    def forge(answer: dict[str, Any]) -> None:
        for event in answer["state"]:
            event["signatures"] = {}

    def ban(answer: dict[str, Any]) -> None:
        for event in answer["state"]:
            if event["type"] == "m.room.join_rules":
                event["content"] = {"join_rule": "invite"}  # its hash does not fit any more: it is redacted

    return {
        "no creation": without("m.room.create"),
        "nothing": lambda answer: answer.update(state=[], auth_chain=[]),
        "forged": forge,
        "no rules": without("m.room.join_rules"),
        "other rules": ban,
        "not JSON events": lambda answer: answer.update(state=[1, None, {}, "x"]),
        "members left out, of nobody knows where": lambda answer: answer.update(
            members_omitted=True, servers_in_room=[]
        ),
    }


@pytest.mark.parametrize("lie", lies())
def test_a_server_that_lies_about_the_room(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat", room_version="10")

    async def serve(member: Member, request: Request) -> Answer:
        answer = await plain(member, request)
        if "/send_join/" not in request.path:
            return answer
        body = orjson.loads(answer.body)
        lies()[lie](body)
        return Answer(answer.status, orjson.dumps(body))

    plain = Member.serve
    monkeypatch.setattr(Member, "serve", serve)
    with pytest.raises(MatrixError) as refusal:
        b.enter("bob", room_id, via=a)
    assert refusal.value.status in (403, 502)
    assert b.wait(b.house.rooms.get(room_id)) is None
    assert room_id not in b.sync("bob").get("rooms", {}).get("join", {})
    # And when it has come to its senses, nothing is left of that.
    monkeypatch.undo()
    b.enter("bob", room_id, via=a)
    fleet.settle()
    same(room_id, a, b)


def test_after_a_restart(any_fleet: Fleet) -> None:
    a, b = any_fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    private = a.create("alice", preset="private_chat", name="Attic")
    a.invite("alice", "@bob:b.example", private)
    a.say("alice", room_id, "in the post")
    a, b = any_fleet.restart(a), any_fleet.restart(b)
    any_fleet.settle()
    assert b.texts("bob", room_id) == ["in the post"]
    shown = b.sync("bob")["rooms"]["invite"][private]["invite_state"]["events"]
    assert {"m.room.create", "m.room.name", "m.room.member"} <= {event["type"] for event in shown}
    b.enter("bob", private)
    any_fleet.settle()
    b = any_fleet.restart(b)
    same(private, a, b)
    same(room_id, a, b)


def test_coming_back_after_the_room_went_on(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat", power_level_content_override={"events": {"m.room.topic": 0}})
    b.enter("bob", room_id, via=a)
    b.set_state("bob", room_id, "m.room.topic", {"topic": "as bob left it"})
    b.leave("bob", room_id)
    fleet.settle()
    a.set_state("alice", room_id, "m.room.topic", {"topic": "new"})
    a.set_state("alice", room_id, "m.room.name", {"name": "New"})
    a.say("alice", room_id, "unheard")
    fleet.settle()
    assert ("m.room.name", "") not in b.state_of(room_id)
    b.enter("bob", room_id, via=a)
    fleet.settle()
    same(room_id, a, b)
    b.say("bob", room_id, "back")
    fleet.settle()
    assert a.texts("alice", room_id)[-1] == "back"


def test_kicked_and_banned_by_another_server(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    b.enter("beth", room_id)
    fleet.settle()
    a.kick("alice", "@bob:b.example", room_id)
    fleet.settle()
    assert b.membership("bob", room_id) == "leave"
    b.enter("bob", room_id)
    fleet.settle()
    a.ban("alice", "@bob:b.example", room_id)
    a.kick("alice", "@beth:b.example", room_id)
    fleet.settle()
    assert b.membership("bob", room_id) == "ban" and b.membership("beth", room_id) == "leave"
    same(room_id, a, b)
    with pytest.raises(MatrixError) as refusal:
        b.enter("bob", room_id, via=a)
    assert refusal.value.status == 403


def test_a_restricted_room_is_opened_by_a_server_that_may(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    club = a.create("alice", preset="public_chat", room_version="10")
    rules = {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": club}]}
    room_id = a.create(
        "alice",
        room_version="10",
        power_level_content_override={"invite": 50},
        initial_state=[{"type": "m.room.join_rules", "content": rules}],
    )
    with pytest.raises(MatrixError) as refusal:
        b.enter("bob", room_id, via=a)
    assert refusal.value.status == 403
    b.enter("bob", club, via=a)
    b.enter("bob", room_id, via=a)
    fleet.settle()
    same(room_id, a, b)
    # Nobody on b may vouch, so a is asked although b is in the room.
    b.enter("beth", club)
    fleet.settle()
    b.enter("beth", room_id)
    fleet.settle()
    assert a.membership("@beth:b.example", room_id) == "join"
    same(room_id, a, b)
    with pytest.raises(NotFound):
        b.enter("bob", "!unknown", via=None)
