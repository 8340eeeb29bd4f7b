"""What crosses a server's coming in or its being put out, so that neither side has told the other.

Most of these stories were found by the simulation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from federation.outbound.transport import Request
from homeserver.errors import MatrixError
from homeserver.rooms.receive.receiver import Receiver
from homeserver.rooms.remote.peers import RemotePeers
from tests.fixtures_fleet import Fleet, Member


@pytest.fixture
def busy(fleet: Fleet) -> Fleet:
    """Servers that send by themselves."""
    fleet.has_couriers = True
    return fleet


def has(member: Member, room_id: str, *event_ids: str) -> bool:
    """Whether events have their place in the room there."""
    found = member.wait(member.house.part(Receiver).known.find(member.room(room_id), event_ids))
    return all(event_id in found and found[event_id].position > 0 for event_id in event_ids)


def cut(*lines: tuple[Member, Member]) -> Callable[[str, Request], Request | None]:
    """A meddler that lets no transaction pass from the one to the other."""
    names = {(one.name, other.name) for one, other in lines}
    return lambda origin, request: (
        None if (origin, request.destination) in names and "/send/" in request.path else request
    )


def first_word(one: Member, other: Member) -> Callable[[str, Request], Request | None]:
    """A meddler that lets no transaction pass from the one to the other but what goes before a join."""

    def meddle(origin: str, request: Request) -> Request | None:
        is_of_the_sender = "/send/" in request.path and "%24" not in request.path
        return None if (origin, request.destination) == (one.name, other.name) and is_of_the_sender else request

    return meddle


def hold_joins(monkeypatch: pytest.MonkeyPatch, *servers: Member) -> Deferred[None]:
    """The servers make their joins, and hand them in when the answer fires."""
    gate: Deferred[None] = Deferred()
    held = {member.house.settings.server.name for member in servers}
    hand_in = RemotePeers.send_join

    async def send_join(self: RemotePeers, server: str, room_id: str, event_id: str, raw: bytes) -> Any:
        if any(f":{name}" in raw.decode() and f'"state_key":"@late:{name}"' in raw.decode() for name in held):
            passed: Deferred[None] = Deferred()
            gate.addCallback(lambda _: passed.callback(None))
            await passed
        return await hand_in(self, server, room_id, event_id, raw)

    monkeypatch.setattr(RemotePeers, "send_join", send_join)
    return gate


class TestWhoComesIn:
    def test_hears_of_what_crossed_its_join(self, busy: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
        a, b = busy.open("a", "b")
        room_id = a.create("alice", preset="public_chat")
        gate = hold_joins(monkeypatch, b)
        joining = Deferred.fromCoroutine(b.memberships.join(room_id, b.user("late"), via=[a.name]))
        busy.run(1)
        topic = a.set_state("alice", room_id, "m.room.topic", {"topic": "on its way"})
        said = a.say("alice", room_id, "crossing")
        gate.callback(None)
        busy.run(3)
        assert joining.called and has(b, room_id, said, topic)
        assert b.state_of(room_id) == a.state_of(room_id)

    def test_from_whoever_said_it(self, busy: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
        """b can't tell a for a while, which lets c in; b itself is told of that, and tells c of its second person."""
        a, b, c = busy.open("a", "b", "c")
        room_id = a.create("alice", preset="public_chat")
        b.enter("bob", room_id, via=a)
        busy.run(3)
        gate = hold_joins(monkeypatch, c)
        Deferred.fromCoroutine(c.memberships.join(room_id, c.user("late"), via=[a.name]))
        busy.run(1)
        busy.meddler = cut((b, a))
        b.enter("beth", room_id)
        gate.callback(None)
        busy.run(3)
        assert a.membership("@beth:b.example", room_id) is None
        assert c.membership("@beth:b.example", room_id) == "join"


class TestWhoComesBack:
    """A server tells whom it comes in by how its last stay ended, before it does: else that would cross its entry."""

    @pytest.mark.parametrize("is_banned", [False, True])
    def test_says_first_how_it_went(self, busy: Fleet, is_banned: bool) -> None:
        """a has heard nothing of the levels that bob set and of his going; or of it that c put him out."""
        a, b, c = busy.open("a", "b", "c")
        room_id = a.create("alice", preset="public_chat")
        for member, name in ((b, "bob"), (c, "carol")):
            member.enter(name, room_id, via=a)
        levels = {"users": {"@bob:b.example": 90, "@carol:c.example": 95}}
        a.set_state("alice", room_id, "m.room.power_levels", levels)
        busy.run(3)
        busy.meddler = cut((b, a), (c, a))
        b.set_state("bob", room_id, "m.room.power_levels", {**levels, "state_default": 60})
        if is_banned:
            busy.run(1)
            c.ban("carol", b.user("bob"), room_id)
            busy.run(1)
        else:
            b.leave("bob", room_id)
        assert a.membership("@bob:b.example", room_id) == "join"
        busy.meddler = first_word(b, a)
        if is_banned:
            with pytest.raises(MatrixError) as refused:
                b.enter("bob", room_id, via=a)
            assert refused.value.status == 403
        else:
            b.enter("bob", room_id, via=a)
        busy.meddler = None
        c.say("carol", room_id, "all there?")
        busy.run(60)
        assert a.membership("@bob:b.example", room_id) == ("ban" if is_banned else "join")
        assert c.state_of(room_id) == a.state_of(room_id)
        if not is_banned:
            assert b.state_of(room_id) == a.state_of(room_id)


class TestWhoIsPutOut:
    def test_by_resolution_learns_by_what(self, busy: Fleet) -> None:
        """c comes in through b, while a shuts the door: neither a nor b ever takes c for a member afterwards."""
        a, b, c = busy.open("a", "b", "c")
        room_id = a.create("alice", preset="public_chat")
        b.enter("bob", room_id, via=a)
        a.say("alice", room_id, "hello")
        busy.run(3)
        busy.meddler = cut((a, b), (b, a))
        a.set_state("alice", room_id, "m.room.topic", {"topic": "we close"})
        a.set_state("alice", room_id, "m.room.join_rules", {"join_rule": "invite"})
        c.enter("carol", room_id, via=b)
        busy.run(3)
        assert c.membership("carol", room_id) == "join" == b.membership("@carol:c.example", room_id)
        busy.meddler = None
        a.say("alice", room_id, "anybody there?")
        busy.run(60)
        assert b.membership("@carol:c.example", room_id) is None
        assert not c.room(room_id).local_joined

    def test_by_what_rests_on_what_it_never_heard_of(self, fleet: Fleet) -> None:
        """c came in beside what b's people said, and is put out by b on grounds of that."""
        a, b, c = fleet.open("a", "b", "c")
        room_id = a.create("alice", preset="public_chat")
        b.enter("bob", room_id, via=a)
        a.set_state("alice", room_id, "m.room.power_levels", {"users": {b.user("bob"): 90}})
        fleet.settle()
        b.set_state("bob", room_id, "m.room.power_levels", {"users": {b.user("bob"): 90}, "kick": 60})
        b.set_state("bob", room_id, "m.room.topic", {"topic": "nobody else hears of this"})
        b.post.waiting.clear()
        c.enter("carol", room_id, via=a)
        join = a.state_of(room_id)["m.room.member", c.user("carol")]
        known = a.wait(a.house.part(Receiver).known.find(a.room(room_id), [join]))
        assert b.receive(a.name, room_id, known[join].event.raw) == ["accepted"]
        fleet.run(1)
        b.post.waiting.clear()  # nor is c told of it
        b.kick("bob", "@carol:c.example", room_id)
        fleet.meddler = lambda _, request: None if "get_missing_events" in request.path else request
        fleet.settle()
        assert c.membership("carol", room_id) == "leave"

    def test_and_speaks_on_is_told(self, fleet: Fleet) -> None:
        a, b = fleet.open("a", "b")
        room_id = a.create("alice", preset="public_chat")
        b.enter("bob", room_id, via=a)
        fleet.settle()
        a.kick("alice", b.user("bob"), room_id)
        a.say("alice", room_id, "among us")
        a.ban("alice", b.user("bob"), room_id)
        a.post.waiting.clear()
        assert b.membership("bob", room_id) == "join"
        b.say("bob", room_id, "is anybody there?")
        fleet.settle()
        fleet.run(1)
        fleet.settle()
        assert b.membership("bob", room_id) == "leave"


def test_more_ends_than_an_event_can_join(fleet: Fleet) -> None:
    """Three servers say a lot beside each other: what is kept is what the next event can follow, and no more."""
    a, *others = fleet.open("a", "b", "c", "d")
    room_id = a.create("alice", preset="public_chat", room_version="10")
    for member in others:
        member.enter("guest", room_id, via=a)
    fleet.settle()
    for member in others:
        head = member.room(room_id).visible.head.extremities
        forks = [
            member.make(room_id, "guest", "m.room.message", {"body": f"{member.name} {number}"}, prev=head)
            for number in range(9)
        ]
        assert set(a.receive(member.name, room_id, *(event.raw for event in forks))) == {"accepted"}
    ends = a.room(room_id).visible.head.extremities
    assert len(ends) == 20
    said = a.say("alice", room_id, "to sum up")
    stored = a.wait(a.house.part(Receiver).known.find(a.room(room_id), [said]))[said]
    assert stored.event.prev_events == ends and a.room(room_id).visible.head.extremities == (said,)


def test_a_flood_takes_nothing_along_that_others_said(fleet: Fleet) -> None:
    """b follows what alice said, and then makes so many forks that its own oldest ends are let go."""
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat", room_version="10")
    b.enter("guest", room_id, via=a)
    fleet.settle()
    start = b.room(room_id).visible.head.extremities
    said = a.say("alice", room_id, "listen")
    first = b.make(room_id, "guest", "m.room.message", {"body": "after it"}, prev=[said])
    second = b.make(room_id, "guest", "m.room.message", {"body": "and after that"}, prev=[first.event_id])
    flood = [b.make(room_id, "guest", "m.room.message", {"body": f"{number}"}, prev=start) for number in range(12)]
    assert set(a.receive(b.name, room_id, *(one.raw for one in (first, second, *flood)))) == {"accepted"}
    ends = a.room(room_id).visible.head.extremities
    assert said in ends and not {first.event_id, second.event_id} & set(ends)
    assert len(set(ends) & {one.event_id for one in flood}) == 10
