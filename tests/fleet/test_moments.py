"""Events by time: here, within gaps that peers know of, and as far as somebody may see."""

from __future__ import annotations

from typing import Any

import pytest

from federation.outbound.transport import PeerError, Refused, Request, Response
from homeserver.errors import Forbidden, NotFound
from homeserver.rooms.history import History
from homeserver.rooms.moments import Moments
from homeserver.rooms.paging import PageAsk
from homeserver.streams.tokens import RoomToken
from homeserver.sync.filters import NO_EVENT_FILTER
from storage.events import load_by_ids
from storage.ports import StoredEvent
from tests.fixtures_fleet import Fleet, Member

PATH = "/timestamp_to_event/"
CLOSED: dict[str, Any] = {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}


def closest(member: Member, name: str, room_id: str, ts: int, direction: str) -> str | None:
    finder = member.house.part(Moments)
    try:
        found = member.wait(finder.closest(room_id, member.user(name), ts, backwards=direction == "b"))
    except NotFound:
        return None
    return found.event_id


def stored(member: Member, event_id: str) -> StoredEvent:
    return member.wait(member.house.database.run(load_by_ids, [event_id]))[event_id]


def time_of(member: Member, event_id: str) -> int:
    return stored(member, event_id).event.origin_server_ts


def page(member: Member, name: str, room_id: str, start: int, *, backwards: bool, limit: int = 100) -> list[str]:
    ask = PageAsk(backwards=backwards, start=RoomToken(start), stop=None, limit=limit, filter=NO_EVENT_FILTER)
    found = member.wait(member.house.part(History).page(room_id, member.user(name), ask))
    return [one.event.event_id for one, _ in found.events]


def everything(member: Member, name: str, room_id: str, limit: int = 20) -> list[str]:
    """By paging back, oldest first."""
    found: list[str] = []
    start: RoomToken | None = None
    while True:
        ask = PageAsk(backwards=True, start=start, stop=None, limit=limit, filter=NO_EVENT_FILTER)
        read = member.wait(member.house.part(History).page(room_id, member.user(name), ask))
        found += [one.event.event_id for one, _ in read.events]
        if read.end is None:
            return found[::-1]
        start = read.end


def test_here(any_fleet: Fleet) -> None:
    (a,) = any_fleet.open("a")
    room_id = a.create("ann", preset="public_chat")
    one, two, three = (a.say("ann", room_id, text) for text in "123")
    at = time_of(a, two)
    create = a.state_of(room_id)["m.room.create", ""]
    assert closest(a, "ann", room_id, at, "f") == closest(a, "ann", room_id, at, "b") == two
    assert closest(a, "ann", room_id, at + 1, "f") == three
    assert closest(a, "ann", room_id, at - 1, "b") == one
    assert closest(a, "ann", room_id, at + 1, "b") == two
    assert closest(a, "ann", room_id, 0, "f") == create
    assert closest(a, "ann", room_id, 0, "b") is None
    assert closest(a, "ann", room_id, 1 << 70, "b") == three
    assert closest(a, "ann", room_id, 1 << 70, "f") is None
    assert closest(a, "ann", room_id, -(1 << 70), "f") == create
    with pytest.raises(Forbidden):
        closest(a, "eve", room_id, at, "f")


def test_as_far_as_one_may_see(fleet: Fleet) -> None:
    (a,) = fleet.open("a")
    room_id = a.create("ann", preset="public_chat", initial_state=[CLOSED])
    secret = a.say("ann", room_id, "before")
    a.enter("bob", room_id)
    join = a.state_of(room_id)["m.room.member", "@bob:a.example"]
    said = a.say("ann", room_id, "with bob")
    a.leave("bob", room_id)
    left = a.state_of(room_id)["m.room.member", "@bob:a.example"]
    after = a.say("ann", room_id, "without bob")
    assert closest(a, "bob", room_id, time_of(a, secret), "f") == join
    assert closest(a, "bob", room_id, time_of(a, said), "f") == said
    assert closest(a, "bob", room_id, time_of(a, after), "b") == left
    assert closest(a, "bob", room_id, time_of(a, after), "f") is None
    assert closest(a, "ann", room_id, time_of(a, after), "f") == after


def test_many_that_one_may_not_see(fleet: Fleet) -> None:
    (a,) = fleet.open("a")
    room_id = a.create("ann", preset="public_chat", initial_state=[CLOSED])
    first = a.say("ann", room_id, "0")
    for number in range(1, 60):
        a.say("ann", room_id, f"{number}")
    a.enter("bob", room_id)
    join = a.state_of(room_id)["m.room.member", "@bob:a.example"]
    assert closest(a, "bob", room_id, time_of(a, first), "f") == join


@pytest.mark.parametrize("version", ["6", "12"])
def test_from_before_one_came(fleet: Fleet, version: str) -> None:
    """A peer names the event, it gets its place in the past, and one can read on from there in both directions."""
    a, b = fleet.open("a", "b")
    room_id = a.create("ann", preset="public_chat", room_version=version)
    said = [a.say("ann", room_id, f"{number}") for number in range(400)]
    b.enter("bob", room_id, via=a)
    fleet.settle()
    middle = said[200]
    fleet.requests.clear()
    assert closest(b, "bob", room_id, time_of(a, middle), "f") == middle
    assert closest(b, "bob", room_id, time_of(a, middle), "b") == middle
    assert len(fleet.asked(PATH)) == 1, "then it is here"
    position = stored(b, middle).position
    assert page(b, "bob", room_id, position, backwards=True, limit=3) == said[200:197:-1]
    assert page(b, "bob", room_id, position, backwards=False, limit=3) == said[201:204]
    assert everything(b, "bob", room_id) == everything(a, "ann", room_id)
    assert b.state_of(room_id) == a.state_of(room_id)
    fleet.requests.clear()
    assert closest(b, "bob", room_id, time_of(a, said[10]), "b") == said[10]
    assert fleet.asked(PATH) == [], "there is no gap left"


def test_what_came_while_one_was_away_is_put_in_between(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("ann", preset="public_chat")
    b.enter("bob", room_id, via=a)
    fleet.settle()
    before = a.say("ann", room_id, "before")
    fleet.settle()
    fleet.down.add(b.name)
    lost = [a.say("ann", room_id, f"{number}") for number in range(250)]
    a.post.waiting[b.name].clear()
    fleet.down.discard(b.name)
    token = b.sync("bob")["next_batch"]
    last = a.say("ann", room_id, "last")
    fleet.settle()
    assert b.texts("bob", room_id)[-1] == "last"
    assert stored(b, last).position > stored(b, before).position
    fleet.requests.clear()
    assert closest(b, "bob", room_id, time_of(a, lost[5]), "f") == lost[5]
    assert len(fleet.asked(PATH)) == 1
    assert stored(b, before).position < stored(b, lost[5]).position < stored(b, last).position
    assert everything(b, "bob", room_id) == everything(a, "ann", room_id)
    # What came late is no news: a sync goes on from the token as if it had never been away.
    shown = b.sync("bob", token)["rooms"]["join"][room_id]["timeline"]["events"]
    assert shown[-1]["event_id"] == last
    assert b.state_of(room_id) == a.state_of(room_id)
    b = fleet.restart(b)
    assert everything(b, "bob", room_id, limit=7) == everything(a, "ann", room_id)


def test_peers_are_not_asked_where_nothing_is_missing(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("ann", preset="public_chat")
    b.enter("bob", room_id, via=a)
    fleet.settle()
    said = [a.say("ann", room_id, f"{number}") for number in range(3)]
    fleet.settle()
    fleet.requests.clear()
    assert closest(b, "bob", room_id, time_of(a, said[1]) + 1, "f") == said[2]
    assert closest(a, "ann", room_id, 0, "b") is None
    assert fleet.asked(PATH) == []


LIES: list[bytes] = [
    b"nonsense",
    b"{}",
    b'{"event_id": "$nothing", "origin_server_ts": %d}',
    b'{"event_id": 5, "origin_server_ts": 5}',
    b'{"event_id": "$x", "origin_server_ts": 99999999999999999999}',
]


@pytest.mark.parametrize("lie", LIES)
def test_peers_that_lie(fleet: Fleet, lie: bytes) -> None:
    """What they name is fetched and judged like everything; of what can't be had nothing comes."""
    a, b = fleet.open("a", "b")
    room_id = a.create("ann", preset="public_chat")
    said = a.say("ann", room_id, "x")
    at = time_of(a, said)
    b.enter("bob", room_id, via=a)
    fleet.settle()
    body = lie % at if b"%d" in lie else lie
    fleet.meddler = lambda origin, request: Response(200, {}, body) if PATH in request.path else request
    join = b.state_of(room_id)["m.room.member", "@bob:b.example"]
    assert closest(b, "bob", room_id, at, "f") == join
    assert closest(b, "bob", room_id, at, "b") is None


def test_an_event_of_another_room(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id, other = (a.create("ann", preset="public_chat") for _ in range(2))
    elsewhere = a.say("ann", other, "elsewhere")
    b.enter("bob", room_id, via=a)
    b.enter("bob", other, via=a)
    fleet.settle()
    answer = b'{"event_id": "%b", "origin_server_ts": %d}' % (elsewhere.encode(), time_of(a, elsewhere))

    def lie(origin: str, request: Request) -> Request | Response:
        return Response(200, {}, answer) if PATH in request.path else request

    fleet.meddler = lie
    assert closest(b, "bob", room_id, time_of(a, elsewhere), "b") is None


def test_peers_that_can_not_be_reached_are_left_alone_for_a_while(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("ann", preset="public_chat")
    b.enter("bob", room_id, via=a)
    fleet.settle()
    fleet.down.add(a.name)
    fleet.requests.clear()
    for _ in range(3):
        assert closest(b, "bob", room_id, 0, "b") is None
    assert len(fleet.asked(PATH)) == 1


def test_what_peers_are_told(fleet: Fleet) -> None:
    a, b, c = fleet.open("a", "b", "c")
    room_id = a.create("ann", preset="public_chat", initial_state=[CLOSED])
    secret = a.say("ann", room_id, "before")
    b.enter("bob", room_id, via=a)
    fleet.settle()
    said = a.say("ann", room_id, "with bob")
    fleet.settle()

    def ask(member: Member, ts: object, direction: str, room: str = room_id) -> Any:
        path = f"/_matrix/federation/v1/timestamp_to_event/{room}"
        return member.ask(a, "GET", path, ts=str(ts), dir=direction)

    assert ask(b, time_of(a, said), "f") == {"event_id": said, "origin_server_ts": time_of(a, said)}
    join = a.state_of(room_id)["m.room.member", "@bob:b.example"]
    assert ask(b, time_of(a, secret), "f")["event_id"] == join, "no word of what that server may not see"
    refused = [
        (b, 0, "b", room_id, 404),
        (b, 0, "x", room_id, 400),
        (b, "x", "f", room_id, 400),
        (b, 0, "f", "!nowhere:a.example", 404),
        (c, 0, "f", room_id, 403),
    ]
    for member, ts, direction, room, status in refused:
        with pytest.raises(PeerError) as caught:
            ask(member, ts, direction, room)
        assert isinstance(caught.value, Refused)
        assert caught.value.status == status
    assert ask(b, 2**53 - 1, "b")["event_id"] == said
