"""Rooms whose servers know different things for a while: what each must still tell, and what is no news.

Most of these stories were found by the simulation.
"""

from __future__ import annotations

import pytest

from federation.outbound.transport import Refused
from homeserver.rooms.receive.redactions import Effect, Redactions
from tests.fixtures_fleet import Fleet, Member

V1 = "/_matrix/federation/v1"


def lose(member: Member, *others: Member) -> None:
    """What waits for these servers never comes."""
    for other in others:
        member.post.waiting.pop(other.name, None)


def shown(member: Member, name: str, room_id: str, since: str | None = None, part: str = "join") -> list[str]:
    """Ids of what somebody's next sync shows of a room."""
    room = member.sync(name, since).get("rooms", {}).get(part, {}).get(room_id)
    return [] if room is None else [event["event_id"] for event in room["timeline"]["events"]]


class TestWhoIsGone:
    """A server that is out of a room has said things there that others lack, and must find out how it was put out."""

    def test_a_server_that_left_tells_what_it_said_before(self, fleet: Fleet) -> None:
        a, b, c = fleet.open("a", "b", "c")
        room_id = a.create("alice", preset="public_chat")
        for member, name in ((b, "bob"), (c, "carol")):
            member.enter(name, room_id, via=a)
        fleet.settle()
        b.say("bob", room_id, "goodbye")
        lose(b, a, c)
        b.leave("bob", room_id)
        fleet.settle()
        assert a.membership("@bob:b.example", room_id) == "leave"
        assert c.membership("@bob:b.example", room_id) == "leave"
        assert a.texts("alice", room_id) == c.texts("carol", room_id) == ["goodbye"]

    def test_a_server_that_is_put_out_learns_of_it(self, fleet: Fleet) -> None:
        a, b = fleet.open("a", "b")
        room_id = a.create("alice", preset="public_chat")
        b.enter("bob", room_id, via=a)
        fleet.settle()
        a.say("alice", room_id, "one last thing")
        lose(a, b)
        a.kick("alice", "@bob:b.example", room_id)
        fleet.settle()
        assert b.membership("bob", room_id) == "leave"

    def test_it_learns_of_nothing_else(self, fleet: Fleet) -> None:
        a, b, c = fleet.open("a", "b", "c")
        room_id = a.create("alice", preset="public_chat")
        b.enter("bob", room_id, via=a)
        a.kick("alice", "@bob:b.example", room_id)
        kick = a.state_of(room_id)["m.room.member", "@bob:b.example"]
        later = a.say("alice", room_id, "among us")
        body = {"earliest_events": [], "latest_events": [later, kick], "limit": 10}
        events = b.ask(a, "POST", f"{V1}/get_missing_events/{room_id}", body)["events"]
        assert events and later not in str(events)
        with pytest.raises(Refused):
            b.ask(a, "GET", f"{V1}/event/{later}")
        for method, path, asked in (
            ("POST", f"{V1}/get_missing_events/{room_id}", body),
            ("GET", f"{V1}/event/{kick}", None),
        ):
            with pytest.raises(Refused) as refused:
                c.ask(a, method, path, asked)
            assert refused.value.status == 403


class TestThePast:
    """What lies before a server's entry, and what comes after what follows it, is no news."""

    def test_what_was_before_this_server_came_is_not_taken_for_news(self, fleet: Fleet) -> None:
        a, b = fleet.open("a", "b")
        room_id = a.create("alice", preset="public_chat")
        past = [a.say("alice", room_id, text) for text in ("one", "two")]
        b.enter("bob", room_id, via=a)
        since = b.sync("bob")["next_batch"]
        # A fork from before the entry: what it rests on is behind that.
        stray = a.make(room_id, "alice", "m.room.message", {"body": "stray"}, prev=past[:1])
        assert a.receive("a.example", room_id, stray.raw) == ["accepted"]
        a.say("alice", room_id, "both ends")
        fleet.settle()
        assert b.texts("bob", room_id)[-1] == "both ends"
        assert not set(past) & set(shown(b, "bob", room_id, since))
        assert b.room(room_id).visible.head.extremities == a.room(room_id).visible.head.extremities
        assert b.state_of(room_id) == a.state_of(room_id)

    def test_what_comes_late_is_not_the_newest(self, fleet: Fleet) -> None:
        """The state behind a gap was taken on a peer's word, and then an event of the gap comes after all."""
        a, b = fleet.open("a", "b")
        room_id = a.create("alice", preset="public_chat")
        b.enter("bob", room_id, via=a)
        fleet.settle()
        a.set_state("alice", room_id, "m.room.topic", {"topic": "first"})
        early = a.post.waiting.pop(b.name)
        a.set_state("alice", room_id, "m.room.topic", {"topic": "second"})
        newest = a.say("alice", room_id, "after that")
        fleet.meddler = lambda origin, request: None if "get_missing_events" in request.path else request
        fleet.settle()
        fleet.meddler = None
        assert b.room(room_id).visible.head.extremities[-1] == newest
        assert b.receive("a.example", room_id, *(event.raw for event in early)) == ["accepted"]
        assert b.room(room_id).visible.head.extremities == (newest,)
        assert b.state_of(room_id) == a.state_of(room_id)
        assert early[0].event_id in shown(b, "bob", room_id)


def test_our_own_people_move_the_room_while_an_event_is_judged(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    effect_of = Redactions.effect_of
    moved: list[str] = []

    async def interrupted(self: Redactions, *args: object) -> Effect:
        if not moved:
            moved.append(room_id)
            await a.memberships.join(room_id, a.user("ann"))
        return await effect_of(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Redactions, "effect_of", interrupted)
    topic = b.make(
        room_id, "bob", "m.room.member", {"membership": "join", "displayname": "B"}, state_key="@bob:b.example"
    )
    assert a.receive("b.example", room_id, topic.raw) == ["accepted"]
    assert a.state_of(room_id)["m.room.member", "@bob:b.example"] == topic.event_id
    assert a.membership("ann", room_id) == "join"


@pytest.mark.parametrize("is_told_of_the_gap", [True, False])
def test_an_invitation_from_before_the_room_was_here_meets_a_fork(fleet: Fleet, is_told_of_the_gap: bool) -> None:
    """It was kept without what it cites, so that it has no place in the auth graph."""
    a, b, c = fleet.open("a", "b", "c")
    room_id = a.create("alice", preset="public_chat")
    c.enter("carol", room_id, via=a)
    fleet.settle()
    a.invite("alice", "@ben:b.example", room_id)
    lose(a, c)
    b.enter("bob", room_id, via=c)  # which has not heard of the invitation
    fleet.settle()
    if not is_told_of_the_gap:
        fleet.meddler = lambda origin, request: None if "get_missing_events" in request.path else request
    a.say("alice", room_id, "on one side")
    fleet.settle()
    fleet.meddler = None
    assert b.membership("ben", room_id) == "invite"
    assert b.texts("bob", room_id) == ["on one side"]
    b.say("bob", room_id, "both ends")
    fleet.settle()
    assert b.state_of(room_id) == a.state_of(room_id) == c.state_of(room_id)


def test_a_reader_is_not_given_what_another_may_see(fleet: Fleet) -> None:
    """On a fork somebody was not there who is in the room now: nothing that is made for one of them is for all."""
    a, b = fleet.open("a", "b")
    room_id = b.create("bob", preset="public_chat")
    b.set_state("bob", room_id, "m.room.history_visibility", {"history_visibility": "joined"})
    a.enter("alice", room_id, via=b)
    fleet.settle()
    a.join("ann", room_id)
    since = a.sync("alice")["next_batch"]
    waiting, a.post.waiting = a.post.waiting, {}
    said = b.say("bob", room_id, "alice and me")
    fleet.settle()
    assert shown(a, "alice", room_id, since) == [said]
    assert said not in shown(a, "ann", room_id, since)
    assert said not in a.page("ann", room_id, None, None)
    a.post.waiting = waiting
    fleet.settle()


class TestWhoIsPutOutByResolution:
    """Two forks meet, and somebody is no member any more: there is no event to say so, but the client must hear."""

    def test_who_never_was_in_before(self, fleet: Fleet) -> None:
        a, b = fleet.open("a", "b")
        room_id = a.create("alice", preset="public_chat", room_version="10")
        b.enter("bob", room_id, via=a)
        fleet.settle()
        closed = a.make(room_id, "alice", "m.room.join_rules", {"join_rule": "invite"}, state_key="")
        b.join("ben", room_id)
        since = b.sync("ben")["next_batch"]
        lose(b, a)
        assert b.receive("a.example", room_id, closed.raw) == ["accepted"]
        assert b.membership("ben", room_id) is None
        assert b.sync("ben", since)["rooms"]["leave"][room_id]["timeline"]["events"] == []
        assert "leave" not in b.sync("ben").get("rooms", {})

    def test_who_had_left_before(self, fleet: Fleet) -> None:
        a, b = fleet.open("a", "b")
        room_id = a.create("alice", preset="public_chat", room_version="10")
        b.enter("bob", room_id, via=a)
        b.join("ben", room_id)
        b.leave("ben", room_id)
        fleet.settle()
        left = b.state_of(room_id)["m.room.member", "@ben:b.example"]
        closed = a.make(room_id, "alice", "m.room.join_rules", {"join_rule": "invite"}, state_key="")
        b.join("ben", room_id)
        since = b.sync("ben")["next_batch"]
        lose(b, a)
        assert b.receive("a.example", room_id, closed.raw) == ["accepted"]
        assert b.state_of(room_id)["m.room.member", "@ben:b.example"] == left
        (told,) = b.sync("ben", since)["rooms"]["leave"][room_id]["state"]["events"]
        assert told["event_id"] == left
