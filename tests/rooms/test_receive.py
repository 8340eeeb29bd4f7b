"""Receiving a peer's events: gaps, forks, lies, and what becomes of the room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred

from federation.outbound.transport import Unreachable
from federation.room.auth import auth_types_for
from federation.room.build import build_event
from federation.room.event import Event
from federation.room.pdu import Pdu
from federation.room.signing import SigningKey, verify_event_signature
from federation.room.versions import RoomVersion
from homeserver.client.messages import Messages, get_messages
from homeserver.rooms.receive.gather import Gatherer
from homeserver.rooms.receive.judge import Judge
from homeserver.rooms.receive.known import KnownEvents
from homeserver.rooms.receive.ports import StateIds, Verifying, WholeState
from homeserver.rooms.receive.receiver import Receiver
from homeserver.rooms.receive.states import RoomStates
from tests.fixtures_rooms import Town, user

REMOTE = "remote.example"
MALLORY = f"@mallory:{REMOTE}"
EVE = f"@eve:{REMOTE}"
KEY = SigningKey.generate("r")


@define
class Remote:
    """Another server: what it made, what it answers, and what it was asked."""

    town: Town
    room_id: str
    events: dict[str, Event] = field(factory=dict)
    asked: list[str] = field(factory=list)
    state_of: dict[str, StateIds] = field(factory=dict)
    offers: dict[str, list[Event]] = field(factory=dict)
    """Answers to get_missing_events, by the event it is asked about."""

    def make(
        self,
        event_type: str,
        content: dict[str, Any],
        *,
        sender: str = MALLORY,
        state_key: str | None = None,
        prev: Sequence[Event] | Sequence[str] | None = None,
        state: dict[tuple[str, str], str] | None = None,
        **more: Any,
    ) -> Event:
        """Compose an event as the remote server would, on the room as the town has it or on events of its own."""
        room = self.town.room(self.room_id)
        known = {key: ref.event_id for key, ref in room.standing.state.items()} | (state or {})
        wanted = auth_types_for(room.version, type=event_type, sender=sender, state_key=state_key, content=content)
        prev_ids = [p if isinstance(p, str) else p.event_id for p in (prev or room.standing.head.extremities)]
        depths = [self.events[event_id].depth for event_id in prev_ids if event_id in self.events]
        arguments: dict[str, Any] = {
            "room_id": self.room_id,
            "type": event_type,
            "sender": sender,
            "content": content,
            "state_key": state_key,
            "prev_events": prev_ids,
            "auth_events": [known[key] for key in wanted if key in known],
            "depth": max(depths, default=room.standing.head.depth) + 1,
            "origin_server_ts": self.town.clock.now_ms(),
            "server_name": REMOTE,
            "key": KEY,
            **more,
        }
        event = build_event(room.version, **arguments)
        self.events[event.event_id] = event
        return event

    def say(self, text: str, **more: Any) -> Event:
        return self.make("m.room.message", {"msgtype": "m.text", "body": text}, **more)

    # -- what it answers ---------------------------------------------------------------------------------------

    async def get_missing_events(
        self, server: str, room_id: str, *, earliest: Sequence[str], latest: Sequence[str], limit: int
    ) -> Sequence[bytes]:
        self.asked.append("missing")
        return [event.raw for event in self.offers.get(latest[0], [])][:limit]

    async def state_ids(self, server: str, room_id: str, event_id: str) -> StateIds:
        self.asked.append("state_ids")
        if event_id not in self.state_of:
            raise Unreachable(server, "no such thing")
        return self.state_of[event_id]

    async def state(self, server: str, room_id: str, event_id: str) -> WholeState:
        raise Unreachable(server, "not here")

    async def event(self, server: str, event_id: str) -> bytes:
        self.asked.append("event")
        if event_id not in self.events:
            raise Unreachable(server, "no such event")
        return self.events[event_id].raw

    async def backfill(self, server: str, room_id: str, *, earliest: Sequence[str], limit: int) -> Sequence[bytes]:
        return []

    def begin(self, version: RoomVersion) -> Verifying:
        raise NotImplementedError("nothing here is so large")

    async def verify(self, version: RoomVersion, pdus: Sequence[Pdu]) -> Sequence[str | None]:
        return [
            None
            if not event.sender.endswith(f":{REMOTE}")
            or verify_event_signature(version, event.to_json(), REMOTE, KEY.key_id, KEY.verify_key)
            else "bad signature"
            for event in [pdu.event for pdu in pdus]
        ]


@define
class Meeting:
    """A public room of the town with somebody from the remote server in it."""

    town: Town
    remote: Remote
    receiver: Receiver
    room_id: str

    def receive(self, *events: Event | bytes) -> list[str]:
        raws = [event.raw if isinstance(event, Event) else event for event in events]
        verdicts = self.town.wait(self.receiver.receive(REMOTE, self.room_id, raws))
        return [verdict.outcome for verdict in verdicts]

    def join(self, user_id: str) -> Event:
        join = self.remote.make("m.room.member", {"membership": "join"}, sender=user_id, state_key=user_id)
        assert self.receive(join) == ["accepted"]
        return join

    @property
    def extremities(self) -> set[str]:
        return set(self.town.room(self.room_id).visible.head.extremities)

    def state(self, event_type: str, key: str = "") -> str | None:
        ref = self.town.room(self.room_id).visible.state.get((event_type, key))
        return None if ref is None else ref.event_id

    def heard(self) -> list[str]:
        """Event ids of the timeline as alice reads it, oldest first."""
        ask = Messages(room_id=self.room_id, dir="b", limit=100)
        page = self.town.answer(get_messages(*self.town.reading, self.town.who("alice"), ask))
        return [event["event_id"] for event in reversed(page["chunk"])]


@pytest.fixture(params=["12", "10"])
def meeting(town: Town, request: pytest.FixtureRequest) -> Meeting:
    levels = {"events": {"m.room.topic": 0}}
    room_id = town.create(
        "alice", preset="public_chat", room_version=request.param, power_level_content_override=levels
    )
    remote = Remote(town, room_id)
    receiver = Receiver(
        door=town.door,
        rooms=town.rooms,
        states=RoomStates(town.database, town.door.means),
        known=KnownEvents(town.database, town.events),
        judge=Judge(town.events),
        gatherer=Gatherer(remote, remote),
    )
    meeting = Meeting(town, remote, receiver, room_id)
    meeting.join(MALLORY)
    return meeting


def test_a_message_from_afar_is_heard_once(meeting: Meeting) -> None:
    hello = meeting.remote.say("hello")
    assert meeting.receive(hello, hello) == ["accepted", "known"]
    assert meeting.heard()[-1] == hello.event_id and meeting.extremities == {hello.event_id}
    assert meeting.town.room(meeting.room_id).servers[REMOTE] == 1


def test_two_peers_say_the_same_things_at_once(meeting: Meeting) -> None:
    """Who waits for the other finds its first event known at once, and begins with the next before its wait is over."""
    things = [meeting.remote.say("one").raw]
    for text in ("two", "three", "four"):
        things.append(meeting.remote.say(text, prev=list(meeting.remote.events.values())[-1:]).raw)
    peers = [
        Deferred.fromCoroutine(meeting.receiver.receive(peer, meeting.room_id, things))
        for peer in (REMOTE, "other.example", "third.example")
    ]
    for verdicts in zip(*(meeting.town.wait(peer) for peer in peers), strict=True):
        assert sorted(verdict.outcome for verdict in verdicts) == ["accepted", "known", "known"]
    assert meeting.heard()[-4:] == [event.event_id for event in list(meeting.remote.events.values())[-4:]]


def test_a_gap_is_filled(meeting: Meeting) -> None:
    first = meeting.remote.say("first")
    second = meeting.remote.say("second", prev=[first])
    third = meeting.remote.say("third", prev=[second])
    meeting.remote.offers[third.event_id] = [second, first]
    assert meeting.receive(third) == ["accepted"]
    assert meeting.heard()[-3:] == [first.event_id, second.event_id, third.event_id]
    assert meeting.extremities == {third.event_id}


def test_forks_are_joined_by_what_follows(meeting: Meeting) -> None:
    before = meeting.town.room(meeting.room_id).visible.head.extremities
    one, other = (meeting.remote.say(text, prev=before) for text in ("one", "other"))
    assert meeting.receive(one, other) == ["accepted", "accepted"]
    assert meeting.extremities == {one.event_id, other.event_id}
    mine = meeting.town.say("alice", meeting.room_id, "joining them")
    assert meeting.extremities == {mine}


def test_forked_state_is_resolved_alike_in_any_order(meeting: Meeting) -> None:
    before = meeting.town.room(meeting.room_id).visible.head.extremities
    local = meeting.town.send("alice", meeting.room_id, "m.room.topic", {"topic": "local"}, "").event.event_id
    earlier = meeting.remote.make("m.room.topic", {"topic": "earlier"}, state_key="", prev=before, origin_server_ts=1)
    assert meeting.receive(earlier) == ["accepted"]
    # Of two topics with equal standing the later one is applied last.
    assert meeting.state("m.room.topic") == local
    later = meeting.remote.make(
        "m.room.topic", {"topic": "later"}, state_key="", prev=before, origin_server_ts=1_900_000_000_000
    )
    assert meeting.receive(later) == ["accepted"]
    assert meeting.state("m.room.topic") == later.event_id
    assert meeting.extremities == {local, earlier.event_id, later.event_id}


def test_what_may_not_be_said_is_rejected_and_moves_nothing(meeting: Meeting) -> None:
    before = meeting.extremities
    stranger = meeting.remote.say("let me in", sender=EVE)
    name = meeting.remote.make("m.room.name", {"name": "mine now"}, state_key="")
    assert meeting.receive(stranger, name) == ["rejected", "rejected"]
    assert meeting.extremities == before and meeting.state("m.room.name") is None
    assert stranger.event_id not in meeting.heard()
    # What follows a rejected event stands on its own feet.
    after = meeting.remote.say("after it", prev=[stranger.event_id, *before])
    assert meeting.receive(after) == ["accepted"] and meeting.heard()[-1] == after.event_id


def test_what_evades_a_ban_is_soft_failed(meeting: Meeting) -> None:
    before = meeting.town.room(meeting.room_id).visible.head.extremities
    membership = meeting.state("m.room.member", MALLORY)
    meeting.town.ban("alice", MALLORY, meeting.room_id)
    head = meeting.extremities
    assert membership is not None
    late = meeting.remote.say("ha", prev=before, state={("m.room.member", MALLORY): membership})
    assert meeting.receive(late) == ["soft-failed"]
    assert late.event_id not in meeting.heard() and meeting.extremities == head
    mine = meeting.town.say("alice", meeting.room_id, "silence")
    assert meeting.extremities == {mine}


def test_forgeries_are_dropped_and_tampered_content_is_redacted(meeting: Meeting) -> None:
    forged = meeting.remote.say("forged", key=SigningKey.generate("r"))
    tampered = meeting.remote.say("as it was")
    raw = tampered.raw.replace(b"as it was", b"as it is!")
    assert meeting.receive(forged, raw, b"{}", b"not JSON") == ["dropped", "accepted", "dropped", "dropped"]
    assert forged.event_id not in meeting.heard()
    found = meeting.town.wait(meeting.receiver.known.find(meeting.town.room(meeting.room_id), [tampered.event_id]))
    assert found[tampered.event_id].event.content == {}


def test_a_wide_gap_is_bridged_by_the_peers_state(meeting: Meeting) -> None:
    room = meeting.town.room(meeting.room_id)
    state = {key: ref.event_id for key, ref in room.visible.state.items()}
    # Eve joined and set the topic in the part of the room that this server never sees.
    join = meeting.remote.make("m.room.member", {"membership": "join"}, sender=EVE, state_key=EVE)
    topic = meeting.remote.make(
        "m.room.topic", {"topic": "unseen"}, sender=EVE, state_key="", state={("m.room.member", EVE): join.event_id}
    )
    unseen = state | {("m.room.member", EVE): join.event_id, ("m.room.topic", ""): topic.event_id}
    message = meeting.remote.say("hello", sender=EVE, prev=["$" + "x" * 43], state=unseen)
    newest = meeting.remote.say("anybody?", sender=EVE, prev=[message], state=unseen)
    assert meeting.receive(newest) == ["unfounded"]  # the peer does not say what lies before it
    meeting.remote.state_of[message.event_id] = StateIds(sorted(unseen.values()), [])
    assert meeting.receive(newest) == ["unfounded"]  # of what it sent itself it tells what came just before
    meeting.remote.offers[newest.event_id] = [message]
    assert meeting.receive(newest) == ["accepted"]
    assert meeting.state("m.room.topic") == topic.event_id and meeting.state("m.room.member", EVE) == join.event_id
    assert meeting.heard()[-2:] == [message.event_id, newest.event_id]


def test_the_state_behind_a_gap_is_that_after_what_is_missing(meeting: Meeting) -> None:
    state = {key: ref.event_id for key, ref in meeting.town.room(meeting.room_id).visible.state.items()}
    join = meeting.remote.make("m.room.member", {"membership": "join"}, sender=EVE, state_key=EVE)
    seen = state | {("m.room.member", EVE): join.event_id}
    message = meeting.remote.say("hello", sender=EVE, prev=[join], state=seen)
    newest = meeting.remote.say("anybody?", sender=EVE, prev=[message], state=seen)
    meeting.remote.offers[newest.event_id] = [message]
    meeting.remote.state_of[join.event_id] = StateIds(sorted(state.values()), [])
    assert meeting.receive(newest) == ["accepted"]
    assert meeting.remote.asked == ["missing", "state_ids", "event"]
    assert meeting.state("m.room.member", EVE) == join.event_id


def test_a_state_of_another_room_is_no_state(meeting: Meeting) -> None:
    """A peer says that the levels of a room of its own are those of this one."""
    other_id = meeting.town.create("alice", preset="public_chat", power_level_content_override={"users_default": 100})
    levels = meeting.town.room(other_id).visible.state["m.room.power_levels", ""].event_id
    room = meeting.town.room(meeting.room_id)
    state = {key: ref.event_id for key, ref in room.visible.state.items()}
    true = state["m.room.power_levels", ""]
    message = meeting.remote.say("hello", prev=["$" + "x" * 43])
    newest = meeting.remote.say("anybody?", prev=[message])
    meeting.remote.offers[newest.event_id] = [message]
    lie = state | {("m.room.power_levels", ""): levels}
    meeting.remote.state_of[message.event_id] = StateIds(sorted(lie.values()), [])
    meeting.receive(newest)
    assert meeting.state("m.room.power_levels") in (true, None)
    stored = meeting.town.wait(meeting.receiver.known.find(room, [message.event_id]))[message.event_id]
    told = meeting.town.wait(meeting.receiver.states.get(room, stored.before)).state
    assert levels not in {ref.event_id for ref in told.values()}


def test_a_gap_told_in_several_answers(meeting: Meeting) -> None:
    """Answers overlap, and end where the peer has no more; each event is taken once."""
    said: list[Event] = []
    for number in range(45):
        said.append(meeting.remote.say(f"{number}", **({"prev": said[-1:]} if said else {})))
    newest = meeting.remote.say("newest", prev=said[-1:])
    before = {event.event_id: said[max(0, index - 20) : index] for index, event in enumerate([*said, newest])}
    meeting.remote.offers = before
    assert meeting.receive(newest) == ["accepted"]
    assert meeting.remote.asked == ["missing"] * 3
    assert meeting.heard()[-46:] == [event.event_id for event in (*said, newest)]


def test_what_makes_no_sense_in_a_gap_is_skipped_once(meeting: Meeting) -> None:
    """A malformed predecessor stops what its sender pushes, but not what follows that."""
    bad = meeting.remote.say("bad", key=SigningKey.generate("other"))
    good = meeting.remote.say("good", prev=[bad])
    meeting.remote.offers[good.event_id] = [bad]
    assert meeting.receive(good) == ["unfounded"] and meeting.remote.asked == ["missing"]
    state = {key: ref.event_id for key, ref in meeting.town.room(meeting.room_id).visible.state.items()}
    meeting.remote.state_of[good.event_id] = StateIds(sorted(state.values()), [])
    newest = meeting.remote.say("newest", prev=[good])
    meeting.remote.offers[newest.event_id] = [bad, good]
    assert meeting.receive(newest) == ["accepted"]
    assert meeting.heard()[-2:] == [good.event_id, newest.event_id]


def test_what_is_cited_is_fetched_or_the_event_is_dropped(meeting: Meeting) -> None:
    meeting.join(EVE)
    rejoin = meeting.remote.make("m.room.member", {"membership": "join", "n": 1}, sender=EVE, state_key=EVE)
    said = meeting.remote.say("hi", sender=EVE, state={("m.room.member", EVE): rejoin.event_id})
    held = meeting.remote.events.pop(rejoin.event_id)
    assert meeting.receive(said) == ["unfounded"]
    meeting.remote.events[rejoin.event_id] = held
    assert meeting.receive(said) == ["accepted"]


def test_the_town_reads_the_same_after_a_restart(meeting: Meeting) -> None:
    before = meeting.town.room(meeting.room_id).visible.head.extremities
    one, other = (meeting.remote.say(text, prev=before) for text in ("one", "other"))
    meeting.receive(one, other)
    room = meeting.town.room(meeting.room_id)
    held = {key: ref.event_id for key, ref in room.visible.state.items()}
    meeting.town.rooms.drop(room)
    again = meeting.town.room(meeting.room_id)
    assert again is not room and set(again.visible.head.extremities) == {one.event_id, other.event_id}
    assert {key: ref.event_id for key, ref in again.visible.state.items()} == held
    assert user("alice") in again.local_joined
