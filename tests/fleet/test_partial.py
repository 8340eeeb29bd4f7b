"""Joining a room with its members left out: what can be done at once, and how it becomes whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from attrs import define, field
from twisted.internet.defer import Deferred

from federation.outbound.transport import Refused, Request, Response
from homeserver.errors import MatrixError
from homeserver.http.answer import Answer
from homeserver.rooms.history import History, PageAsk
from homeserver.rooms.live import StillPartial
from homeserver.rooms.partial import retrial
from homeserver.rooms.receive import told
from homeserver.rooms.send import Sender
from homeserver.rooms.state_view import MembersAsk, StateView
from homeserver.sync.filters import NO_EVENT_FILTER
from tests.fixtures_fleet import Fleet, Line, Member

LAZY = {"room": {"state": {"lazy_load_members": True}}}
PATIENCE_S = 60.0
CROWD = ("amy", "ann", "abe")


@define
class Ferry:
    """A meddler that loses what asks for the states of rooms, as long as it is not let through."""

    lost: bool = True
    asked: list[tuple[str, str]] = field(factory=list)
    """Who asked whom."""
    also: Callable[[str, Request], Request | Response | None] | None = None

    def __call__(self, origin: str, request: Request) -> Request | Response | None:
        if "/state_ids/" in request.path:
            self.asked.append((origin, request.destination))
            if self.lost:
                return None
        return request if self.also is None else self.also(origin, request)


def crowded(member: Member, name: str = "alice", **more: Any) -> str:
    """A room of whose members most are left out of a join."""
    room_id = member.create(name, preset="public_chat", name="Harbour", **more)
    for one in CROWD:
        member.enter(one, room_id)
    return room_id


def is_partial(member: Member, room_id: str) -> bool:
    return member.room(room_id).partial is not None


def let_through(fleet: Fleet, seconds: float = 15.0) -> None:
    """States can be had again, and time passes until everybody has tried."""
    assert isinstance(fleet.meddler, Ferry)
    fleet.meddler.lost = False
    fleet.reactor.timers.advance(seconds)
    fleet.settle()


def same(room_id: str, *members: Member) -> None:
    first = members[0]
    for other in members[1:]:
        assert other.state_of(room_id) == first.state_of(room_id)
        assert set(other.room(room_id).visible.head.extremities) == set(first.room(room_id).visible.head.extremities)
        assert other.room(room_id).servers == first.room(room_id).servers
        assert other.room(room_id).joined_count == first.room(room_id).joined_count


def members_in(section: dict[str, Any], part: str = "state") -> set[str]:
    return {event["state_key"] for event in section[part]["events"] if event["type"] == "m.room.member"}


def test_a_room_is_of_use_before_it_is_whole(any_fleet: Fleet) -> None:
    fleet = any_fleet
    a, b = fleet.open("a", "b")
    room_id = crowded(a)
    fleet.meddler = Ferry()
    before = b.sync("bob")["next_batch"]
    b.enter("bob", room_id, via=a)
    assert is_partial(b, room_id) and len(b.state_of(room_id)) < len(a.state_of(room_id))
    b.say("bob", room_id, "already here")
    fleet.settle()
    a.say("alice", room_id, "so i see")
    fleet.settle()
    assert a.texts("alice", room_id) == ["already here", "so i see"]

    # A client that loads members lazily has the room, with those who speak in it and no word on how many there are.
    shown = b.sync("bob", filter=LAZY)
    section = shown["rooms"]["join"][room_id]
    assert [e["content"].get("body") for e in section["timeline"]["events"][-2:]] == ["already here", "so i see"]
    assert "@alice:a.example" in members_in(section) and "m.joined_member_count" not in section.get("summary", {})
    # Any other client is told nothing of it rather than half.
    assert room_id not in b.sync("bob").get("rooms", {}).get("join", {})
    eager = b.sync("bob", before)
    assert room_id not in eager.get("rooms", {}).get("join", {})

    let_through(fleet)
    assert not is_partial(b, room_id)
    same(room_id, a, b)
    everybody = {f"@{name}:a.example" for name in ("alice", *CROWD)} | {"@bob:b.example"}
    later = b.sync("bob", shown["next_batch"], filter=LAZY)["rooms"]["join"][room_id]
    assert later["summary"]["m.joined_member_count"] == 5 and members_in(later) == set()
    revealed = b.sync("bob", eager["next_batch"])["rooms"]["join"][room_id]
    assert revealed["timeline"]["limited"] is True
    assert members_in(revealed) | members_in(revealed, "timeline") == everybody
    assert "so i see" in [event["content"].get("body") for event in revealed["timeline"]["events"]]
    whole = b.sync("bob")["rooms"]["join"][room_id]
    assert members_in(whole) | members_in(whole, "timeline") == everybody
    a.say("alice", room_id, "more")
    fleet.settle()
    assert b.texts("bob", room_id)[-1] == "more"
    same(room_id, a, b)


def test_a_reader_that_waits_is_shown_the_room_once_it_is_whole(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = crowded(a)
    fleet.meddler = Ferry()
    b.enter("bob", room_id, via=a)
    since = b.sync("bob")["next_batch"]
    waiting = b.start_sync("bob", since, timeout_ms=300_000)
    fleet.run(2)
    assert not waiting.called
    fleet.meddler.lost = False
    fleet.run(30)
    assert waiting.called
    assert room_id in orjson.loads(b.wait(waiting))["rooms"]["join"]


def test_what_needs_all_members_waits_for_them(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = crowded(a, power_level_content_override={"users": {"@bob:b.example": 50}})
    fleet.meddler = Ferry()
    b.enter("bob", room_id, via=a)
    view, bob = b.house.part(StateView), b.user("bob")
    # The room's own state, and who of this server is in it, is certain.
    assert b.wait(view.piece(room_id, bob, ("m.room.name", ""))).event.content == {"name": "Harbour"}
    assert b.wait(view.piece(room_id, bob, ("m.room.member", bob))).event.sender == bob
    b.set_state("bob", room_id, "m.room.topic", {"topic": "set at once"})
    b.set_state("bob", room_id, "m.room.member", {"membership": "join", "displayname": "Bobby"}, bob)
    asks: dict[str, Any] = {
        "members": lambda: view.members(room_id, bob, MembersAsk()),
        "members then": lambda: view.members(room_id, bob, MembersAsk(at=b.house.hub.position)),
        "joined": lambda: view.joined_members(room_id, bob),
        "state": lambda: view.whole(room_id, bob),
        "somebody": lambda: view.piece(room_id, bob, ("m.room.member", "@amy:a.example")),
        "kick": lambda: b.memberships.kick(room_id, bob, "@amy:a.example"),
        "ban": lambda: b.memberships.ban(room_id, bob, "@abe:a.example"),
        "invite": lambda: b.memberships.invite(room_id, bob, "@beth:b.example"),
    }
    waiting = {name: _begin(ask()) for name, ask in asks.items()}
    fleet.run(5)
    assert not any(one.called for one in waiting.values())
    let_through(fleet)
    answers = {name: b.wait(one) for name, one in waiting.items()}
    assert {"@alice:a.example", "@amy:a.example", bob} <= {one.event.state_key for one in answers["members"]}
    assert len(answers["joined"]) == 5 and len(answers["members then"]) == 5
    assert answers["somebody"].event.state_key == "@amy:a.example"
    fleet.settle()
    assert a.membership("@amy:a.example", room_id) == "leave" and a.membership("@abe:a.example", room_id) == "ban"
    assert b.membership("beth", room_id) == "invite"
    same(room_id, a, b)


def test_waiting_has_an_end(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = crowded(a)
    fleet.meddler = Ferry()
    b.enter("bob", room_id, via=a)
    waiting = _begin(b.house.part(StateView).members(room_id, b.user("bob"), MembersAsk()))
    fleet.run(PATIENCE_S)
    with pytest.raises(StillPartial) as refusal:
        b.wait(waiting)
    assert refusal.value.status == 503


def _begin(work: Any) -> Any:
    return Deferred.fromCoroutine(work)


def refusal(asking: Member, asked: Member, method: str, path: str, body: object = None, **query: str) -> int:
    with pytest.raises(Refused) as error:
        asking.ask(asked, method, path, body, **query)
    return error.value.status


def test_what_peers_are_told_of_a_partial_room(fleet: Fleet) -> None:
    a, b, c = fleet.open("a", "b", "c")
    room_id = crowded(a, room_version="10")
    c.enter("carol", room_id, via=a)
    fleet.settle()
    ferry = fleet.meddler = Ferry()
    b.enter("bob", room_id, via=a)
    said = b.say("bob", room_id, "hello")
    fleet.settle()
    assert c.texts("carol", room_id)[-1] == "hello"  # b was told who is in the room
    ferry.lost = False
    v1 = "/_matrix/federation/v1"
    assert is_partial(b, room_id)
    # States can't be told, nor can anybody be let in; what was said here can.
    assert refusal(c, b, "GET", f"{v1}/state_ids/{room_id}", event_id=said) == 403
    assert refusal(c, b, "GET", f"{v1}/state/{room_id}", event_id=said) == 403
    for step, who in (("join", "cecil"), ("knock", "cecil"), ("leave", "carol")):
        assert refusal(c, b, "GET", f"{v1}/make_{step}/{room_id}/@{who}:c.example", ver="10") == 404
    assert c.ask(b, "GET", f"{v1}/event/{said}")["pdus"]
    assert c.ask(b, "GET", f"{v1}/backfill/{room_id}", v=said, limit="5")["pdus"]
    assert c.ask(b, "GET", f"{v1}/event_auth/{room_id}/{said}")["auth_chain"]
    let_through(fleet)
    assert c.ask(b, "GET", f"{v1}/state_ids/{room_id}", event_id=said)["pdu_ids"]
    same(room_id, a, b, c)


def test_what_a_peer_may_not_see_for_all_that_is_known_is_not_redacted_for_it(fleet: Fleet) -> None:
    a, b, c = fleet.open("a", "b", "c")
    room_id = crowded(
        a,
        room_version="10",
        initial_state=[{"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}],
    )
    c.enter("carol", room_id, via=a)
    fleet.settle()
    ferry = fleet.meddler = Ferry()
    b.enter("bob", room_id, via=a)
    said = b.say("bob", room_id, "hello")
    fleet.settle()
    ferry.lost = False
    path = f"/_matrix/federation/v1/event/{said}"
    assert refusal(c, b, "GET", path) == 403
    let_through(fleet)
    assert c.ask(b, "GET", path)["pdus"][0]["content"]["body"] == "hello"


def test_a_second_person_is_let_in_by_who_knows_everybody(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = crowded(a)
    a.ban("alice", "@bill:b.example", room_id)
    fleet.meddler = Ferry()
    b.enter("bob", room_id, via=a)
    b.enter("beth", room_id)
    with pytest.raises(MatrixError) as error:
        b.enter("bill", room_id)
    assert error.value.status == 403
    assert is_partial(b, room_id) and a.membership("@beth:b.example", room_id) == "join"
    b.say("beth", room_id, "me too")
    fleet.settle()
    assert a.texts("alice", room_id)[-1] == "me too"
    b.leave("bob", room_id)
    fleet.settle()
    let_through(fleet)
    assert not is_partial(b, room_id)
    same(room_id, a, b)


def test_leaving_does_not_wait_and_coming_back_begins_anew(any_fleet: Fleet) -> None:
    fleet = any_fleet
    a, b = fleet.open("a", "b")
    room_id = crowded(a)
    ferry = fleet.meddler = Ferry()
    b.enter("bob", room_id, via=a)
    b.say("bob", room_id, "only looking")
    b.leave("bob", room_id)
    fleet.settle()
    assert a.membership("@bob:b.example", room_id) == "leave"
    # What bob could read stays readable, and nobody waits for what will never come.
    assert b.wait(b.house.part(StateView).members(room_id, b.user("bob"), MembersAsk()))
    asked = len(ferry.asked)
    fleet.reactor.timers.advance(10_000)
    fleet.settle()
    assert len(ferry.asked) == asked  # who is not in the room any more asks nothing
    a.say("alice", room_id, "gone again")
    a.kick("alice", "@abe:a.example", room_id)
    b.enter("bob", room_id, via=a)
    b = fleet.restart(b)
    b.say("bob", room_id, "back")
    fleet.settle()
    assert is_partial(b, room_id)
    let_through(fleet)
    same(room_id, a, b)
    assert a.texts("alice", room_id)[-1] == "back"
    # The state of the first stay was never known whole, so nobody is told of it.
    left = b.room(room_id).blurred
    assert len(left) == 1 and left[0].until is not None
    a.say("alice", room_id, "a last word")
    fleet.settle()
    assert b.texts("bob", room_id)[-1] == "a last word"


@pytest.mark.parametrize("how", ["kick", "ban"])
def test_being_shown_the_door_meanwhile(fleet: Fleet, how: str) -> None:
    a, b = fleet.open("a", "b")
    room_id = crowded(a)
    fleet.meddler = Ferry()
    b.enter("bob", room_id, via=a)
    (a.kick if how == "kick" else a.ban)("alice", "@bob:b.example", room_id)
    fleet.settle()
    assert b.membership("bob", room_id) == ("leave" if how == "kick" else "ban")
    assert not is_partial(b, room_id)
    let_through(fleet)
    left = b.sync("bob", filter={"room": {"include_leave": True}})["rooms"]["leave"][room_id]
    assert left["timeline"]["events"][-1]["content"]["membership"] in ("leave", "ban")
    if how == "ban":
        a.wait(a.memberships.unban(room_id, a.user("alice"), "@bob:b.example"))
    b.enter("bob", room_id, via=a)
    fleet.settle()
    same(room_id, a, b)


def test_another_server_is_asked_where_the_first_one_is_gone(fleet: Fleet) -> None:
    a, b, c = fleet.open("a", "b", "c")
    room_id = crowded(a)
    c.enter("carol", room_id, via=a)
    fleet.settle()
    ferry = fleet.meddler = Ferry()
    b.enter("bob", room_id, via=a)
    fleet.settle()
    fleet.down.add(a.name)
    ferry.asked.clear()
    let_through(fleet)
    assert ferry.asked == [(b.name, a.name), (b.name, c.name)]
    assert not is_partial(b, room_id) and b.state_of(room_id) == c.state_of(room_id)
    fleet.down.clear()
    fleet.settle()
    same(room_id, a, b, c)


def test_failures_are_counted_over_restarts_and_who_shows_up_is_asked(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = crowded(a)
    ferry = fleet.meddler = Ferry()
    b.enter("bob", room_id, via=a)
    for _ in range(5):
        fleet.reactor.timers.advance(1_000)
        b.rest()
    stay = b.room(room_id).partial
    assert stay is not None and 4 <= stay.failures <= 8
    asked = len(ferry.asked)
    b = fleet.restart(b)
    again = b.room(room_id).partial
    assert again is not None and again.failures == stay.failures and again.servers == stay.servers
    assert len(ferry.asked) == asked  # the pause goes on, too
    ferry.lost = False
    a.say("alice", room_id, "anybody there?")
    fleet.settle()
    assert is_partial(b, room_id)  # a started a moment ago: it is left alone for the shortest pause
    fleet.reactor.timers.advance(11)
    a.say("alice", room_id, "hello?")
    fleet.settle()
    assert not is_partial(b, room_id)
    same(room_id, a, b)


def test_who_had_left_deceives_nobody_for_long(any_fleet: Fleet) -> None:
    """Events that cite memberships of old are believed until the room is whole, and then taken out again."""
    fleet = any_fleet
    a, b, c = fleet.open("a", "b", "c")
    room_id = crowded(a, room_version="10")
    c.enter("carol", room_id, via=a)
    fleet.settle()
    a.set_state("alice", room_id, "m.room.power_levels", {"users": {a.user("alice"): 100, "@carol:c.example": 50}})
    fleet.settle()
    joined = c.state_of(room_id)["m.room.member", "@carol:c.example"]
    levels = c.state_of(room_id)["m.room.power_levels", ""]
    create = c.state_of(room_id)["m.room.create", ""]
    c.enter("cecil", room_id)
    fleet.settle()
    c.leave("carol", room_id)
    fleet.settle()
    fleet.meddler = Ferry()
    b.enter("bob", room_id, via=a)
    fleet.settle()
    assert is_partial(b, room_id)
    topic = c.make(
        room_id, "carol", "m.room.topic", {"topic": "still mine"}, state_key="", auth_events=[create, levels, joined]
    )
    said = c.make(
        room_id, "carol", "m.room.message", {"body": "boo"}, prev=[topic.event_id], auth_events=[create, levels, joined]
    )
    assert b.receive(c.name, room_id, topic.raw, said.raw) == ["accepted", "accepted"]
    assert b.state_of(room_id)["m.room.topic", ""] == topic.event_id
    since = b.sync("bob", filter=LAZY)
    assert "boo" in [e["content"].get("body") for e in since["rooms"]["join"][room_id]["timeline"]["events"]]
    b.say("bob", room_id, "on top of it")
    let_through(fleet)
    assert ("m.room.topic", "") not in b.state_of(room_id)
    assert "boo" not in b.texts("bob", room_id) and "on top of it" in b.texts("bob", room_id)
    assert b.membership("@carol:c.example", room_id) == "leave"
    b.say("bob", room_id, "and on")
    fleet.settle()
    assert a.texts("alice", room_id)[-1] == "and on"
    assert b.state_of(room_id) == a.state_of(room_id)


# -- who lies ------------------------------------------------------------------------------------------------------


def answering(part: str, change: Callable[[dict[str, Any]], None], of: Member) -> Callable[[Member, Request], Any]:
    """Puts something else in the place of a server's answers."""
    plain = Member.serve

    async def serve(member: Member, request: Request) -> Answer:
        answer = await plain(member, request)
        if part not in request.path or member.name != of.name or answer.status != 200:
            return answer
        body = orjson.loads(answer.body)
        change(body)
        return Answer(answer.status, orjson.dumps(body))

    return serve


def strange(a: Member, room_id: str, event_type: str = "m.room.topic") -> dict[str, Any]:
    """A state event, validly signed, that nobody in the room was allowed to send."""
    event = a.make(room_id, "stranger", event_type, {"topic": "let me in"}, state_key="")
    made: dict[str, Any] = orjson.loads(event.raw)
    return made


def without(event_type: str) -> Callable[[dict[str, Any]], None]:
    def change(answer: dict[str, Any]) -> None:
        answer["state"] = [event for event in answer["state"] if event["type"] != event_type]

    return change


HANDOVERS: dict[str, Callable[[dict[str, Any]], None]] = {
    "no visibility": without("m.room.history_visibility"),
    "no name": without("m.room.name"),
    "servers that are not there": lambda answer: answer.update(
        servers_in_room=["nowhere.example", "a.example", "not a name", "[", "b.example"]
    ),
    "no servers but others": lambda answer: answer.update(servers_in_room=["nowhere.example"]),
    "nothing said to be left out": lambda answer: answer.update(members_omitted=False),
    "a chain with strangers": lambda answer: answer["auth_chain"].append({"type": "m.room.member"}),
}


@pytest.mark.parametrize("lie", HANDOVERS)
def test_what_a_lie_about_the_room_made_of_it_is_mended(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    a, b = fleet.open("a", "b")
    room_id = crowded(a, room_version="10")
    fleet.meddler = Ferry()
    monkeypatch.setattr(Member, "serve", answering("/send_join/", HANDOVERS[lie], a))
    b.enter("bob", room_id, via=a)
    monkeypatch.undo()
    b.say("bob", room_id, "hello")
    fleet.settle()
    let_through(fleet)
    if lie == "nothing said to be left out":
        # Then there is nothing to be fetched: as with a join of old, what a resident leaves out is not there.
        assert not is_partial(b, room_id)
        return
    same(room_id, a, b)
    assert a.texts("alice", room_id) == ["hello"]


def test_a_state_that_its_own_chain_does_not_allow(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = fleet.open("a", "b")
    room_id = crowded(a, room_version="10")
    topic = strange(a, room_id)
    fleet.meddler = Ferry()
    monkeypatch.setattr(Member, "serve", answering("/send_join/", lambda answer: answer["state"].append(topic), a))
    b.enter("bob", room_id, via=a)
    assert ("m.room.topic", "") not in b.state_of(room_id)
    let_through(fleet)
    same(room_id, a, b)


def lies_about_states(a: Member, room_id: str) -> dict[str, tuple[str, Callable[[dict[str, Any]], None]]]:
    create = a.state_of(room_id)["m.room.create", ""]
    rules = a.state_of(room_id)["m.room.join_rules", ""]
    name = a.state_of(room_id)["m.room.name", ""]

    def drop(*event_ids: str) -> Callable[[dict[str, Any]], None]:
        def change(answer: dict[str, Any]) -> None:
            answer["pdu_ids"] = [one for one in answer["pdu_ids"] if one not in event_ids]

        return change

    return {
        "without a beginning": ("/state_ids/", drop(create)),
        "that keeps us out": ("/state_ids/", drop(rules)),
        "with events that nobody has": ("/state_ids/", lambda answer: answer["pdu_ids"].append("$" + "x" * 43)),
        "with two names": (
            "/state_ids/",
            lambda answer: answer["pdu_ids"].append(
                a.make(room_id, "alice", "m.room.name", {"name": "Other"}, state_key="").event_id
            ),
        ),
        "that is none": ("/state_ids/", lambda answer: answer.update(pdu_ids=[1])),
        "whose events are not given": ("/event/", lambda answer: answer.update(pdus=[])),
        "of which others are given": ("/event/", lambda answer: answer.update(pdus=[{"type": "m.room.message"}])),
        "of nothing": ("/state_ids/", lambda answer: answer.update(pdu_ids=[], auth_chain_ids=[])),
        "of the name alone": ("/state_ids/", lambda answer: answer.update(pdu_ids=[name], auth_chain_ids=[])),
    }


LIES = [
    "without a beginning", "that keeps us out", "with events that nobody has", "with two names", "that is none",
    "whose events are not given", "of which others are given", "of nothing", "of the name alone",
]  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_state_that_does_not_hold_is_had_from_another(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    a, b, c = fleet.open("a", "b", "c")
    room_id = crowded(a, room_version="10")
    c.enter("carol", room_id, via=a)
    fleet.settle()
    ferry = fleet.meddler = Ferry()
    b.enter("bob", room_id, via=a)
    fleet.settle()
    part, change = lies_about_states(a, room_id)[lie]
    monkeypatch.setattr(Member, "serve", answering(part, change, a))
    ferry.asked.clear()
    let_through(fleet)
    assert ferry.asked == [(b.name, a.name), (b.name, c.name)]
    monkeypatch.undo()
    same(room_id, a, b, c)


@pytest.mark.parametrize("step", ["/state_ids/", "/state/", "/event/"])
def test_a_restart_at_any_step(any_fleet: Fleet, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """The server stops while it waits for an answer, and goes on when it is there again."""
    fleet = any_fleet
    a, b = fleet.open("a", "b")
    room_id = crowded(a)
    if step == "/state/":
        monkeypatch.setattr(told, "MANY", 1)
    stuck: list[Deferred[None]] = []
    plain = Line.send

    async def send(line: Line, request: Request) -> Response:
        if step in request.path and not stuck:
            stuck.append(Deferred())
            await stuck[0]
        return await plain(line, request)

    monkeypatch.setattr(Line, "send", send)
    b.enter_partly("bob", room_id, via=a)
    while not stuck:
        b.wait(b.house.database.run(lambda cursor: None))
    b.say("bob", room_id, "while it waits")
    b = fleet.restart(b)
    b.rest()
    fleet.settle()
    same(room_id, a, b)
    assert a.texts("alice", room_id) == ["while it waits"]


def test_more_events_than_are_judged_at_a_time(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrial, "AT_ONCE", 3)
    a, b = fleet.open("a", "b")
    room_id = crowded(a)
    fleet.meddler = Ferry()
    b.enter("bob", room_id, via=a)
    for n in range(5):
        a.say("alice", room_id, f"a{n}")
        b.say("bob", room_id, f"b{n}")  # forks
        a.set_state("alice", room_id, "m.room.topic", {"topic": str(n)})
        fleet.settle()
    let_through(fleet)
    same(room_id, a, b)
    everything = b.page("bob", room_id, None, None)
    assert len(everything) > 15 and set(everything) <= set(a.page("alice", room_id, None, None))
    # The states at all of these events are the same here and there.
    path = f"/_matrix/federation/v1/state_ids/{room_id}"
    for event_id in everything[:8]:
        assert set(b.ask(a, "GET", path, event_id=event_id)["pdu_ids"]) == set(
            a.ask(b, "GET", path, event_id=event_id)["pdu_ids"]
        )


def test_what_local_people_say_while_the_room_is_put_right_waits_for_it(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = fleet.open("a", "b")
    room_id = crowded(a)
    fleet.meddler = Ferry()
    b.enter("bob", room_id, via=a)
    sent: list[Deferred[Any]] = []
    plain = retrial.Retrial.standing

    async def standing(trial: retrial.Retrial) -> Any:
        content = {"msgtype": "m.text", "body": "in the middle"}
        sender = b.house.part(Sender)
        sent.append(Deferred.fromCoroutine(sender.message(b.who("bob"), room_id, "m.room.message", content, "1")))
        return await plain(trial)

    monkeypatch.setattr(retrial.Retrial, "standing", standing)
    let_through(fleet)
    assert b.wait(sent[0])
    fleet.settle()
    same(room_id, a, b)
    assert a.texts("alice", room_id)[-1] == "in the middle"


def test_scrolling_back_waits_for_the_members(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = crowded(a)
    said = a.say("alice", room_id, "before you came")
    ferry = fleet.meddler = Ferry()
    b.enter("bob", room_id, via=a)
    page = _begin(b.house.part(History).page(room_id, b.user("bob"), back()))
    fleet.run(3)
    assert not page.called
    ferry.lost = False
    fleet.run(10)
    assert said in [stored.event.event_id for stored, _ in b.wait(page).events]
    same(room_id, a, b)


def test_scrolling_back_where_the_members_do_not_come(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = crowded(a)
    fleet.meddler = Ferry()
    b.enter("bob", room_id, via=a)
    page = _begin(b.house.part(History).page(room_id, b.user("bob"), back()))
    fleet.run(15)
    found = b.wait(page)
    assert len(found.events) == 1 and found.end is not None  # its own join, and the rest another time


def back() -> PageAsk:
    return PageAsk(backwards=True, start=None, stop=None, limit=50, filter=NO_EVENT_FILTER)
