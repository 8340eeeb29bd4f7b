"""What a hostile server does. It runs our code as everybody does, so that it is in rooms and answers; here it lies.

Its events are made by hand, signed with its own key as far as that goes, and sent to some of the honest servers only,
to each as it likes. Whatever they make of them, they must all make the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

import orjson
from attrs import frozen

from federation.outbound.client import path_to
from federation.outbound.transport import PeerError, Request, Response
from federation.room.auth import auth_types_for
from federation.room.build import build_event
from federation.room.event import Event
from federation.room.hashing import encode_base64, reference_hash
from homeserver.app import read_key
from homeserver.rooms.live import LiveRoom
from storage.events import load_by_ids
from tests.simulation.machine import Machine
from tests.simulation.network import short
from tests.simulation.trouble import EVIL, trouble

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

FLOOD = 25

StateIds = Mapping[tuple[str, str], str]


@frozen
class Foothold:
    """A room that the hostile server is in."""

    simulation: Simulation
    dice: Random
    machine: Machine
    room: LiveRoom
    user_id: str

    @property
    def state(self) -> StateIds:
        return {key: ref.event_id for key, ref in self.room.visible.state.items()}

    @property
    def called(self) -> str:
        return self.simulation.called(self.room.room_id)

    @property
    def honest(self) -> list[str]:
        """The others in the room."""
        names = [machine.name for machine in self.simulation.honest]
        return [name for name in names if name in self.room.servers]

    async def make(
        self,
        event_type: str,
        content: dict[str, Any],
        *,
        sender: str | None = None,
        state_key: str | None = None,
        prev: Sequence[str] | None = None,
        auth: Sequence[str] | None = None,
    ) -> Event:
        """An event as it suits: by default what an honest server would make."""
        room, version = self.room, self.room.version
        sender = sender or self.user_id
        wanted = auth_types_for(version, type=event_type, sender=sender, state_key=state_key, content=content)
        state = self.state
        cited = [state[key] for key in wanted if key in state] if auth is None else list(auth)
        before = list(room.visible.head.extremities if prev is None else prev)
        known = await self.machine.here.house.database.run(load_by_ids, [*cited, *before])
        depths = [known[event_id].event.depth for event_id in before if event_id in known]
        own_ids = version.cites_with_hashes
        return build_event(
            version,
            room_id=room.room_id,
            type=event_type,
            sender=sender,
            state_key=state_key,
            content=content,
            prev_events=before,
            auth_events=cited,
            depth=max(depths, default=room.visible.head.depth) + 1,
            origin_server_ts=self.machine.now_ms(),
            server_name=EVIL,
            key=read_key(self.machine.here.house.settings),
            event_id=f"${self.dice.getrandbits(64):016x}:{EVIL}" if own_ids else None,
            references={
                event_id: encode_base64(reference_hash(version, known[event_id].event.to_json()))
                if event_id in known
                else "A" * 43
                for event_id in [*cited, *before]
            }
            if own_ids
            else None,
        )

    async def send(self, *raws: bytes, to: Sequence[str] | None = None) -> list[str]:
        """To some of the others; says to whom."""
        house = self.machine.here.house
        assert house.federation is not None
        able = self.honest
        chosen = to if to is not None else [name for name in able if self.dice.random() < 0.6] or able[:1]
        body = {"origin": EVIL, "origin_server_ts": 0, "pdus": [orjson.loads(raw) for raw in raws]}
        for name in chosen:
            path = path_to("/_matrix/federation/v1/send/{}", f"evil{self.dice.getrandbits(48):012x}")
            with suppress(PeerError):
                await house.federation.client.put(name, path, into=object, body=body)
        return [short(name) for name in chosen]


async def foothold(simulation: Simulation, dice: Random) -> Foothold | None:
    machine = simulation.machines[EVIL]
    able = [(person, room_id) for person in simulation.people if person.machine is machine for room_id in person.rooms]
    if not able or not machine.is_up:
        return None
    person, room_id = dice.choice(able)
    room = await machine.here.house.rooms.get(room_id)
    found = None if room is None else Foothold(simulation, dice, machine, room, person.user_id)
    return found if found is not None and found.honest else None


@trouble(4, is_hostile=True)
async def forged_signature(simulation: Simulation, dice: Random) -> str | None:
    """Somebody else's words, signed by itself."""
    hold = await foothold(simulation, dice)
    if hold is None:
        return None
    victim = dice.choice([person.user_id for person in simulation.people if person.machine.name != EVIL])
    event = await hold.make("m.room.topic", {"topic": "forged"}, state_key="", sender=victim)
    told = await hold.send(event.raw)
    return f"evil puts {event.event_id[:8]} into {victim}'s mouth in {hold.called}, to {told}"


@trouble(4, is_hostile=True)
async def wrong_hash(simulation: Simulation, dice: Random) -> str | None:
    """Words that were changed after they were signed: to each server others."""
    hold = await foothold(simulation, dice)
    if hold is None:
        return None
    event = await hold.make("m.room.message", {"msgtype": "m.text", "body": "before"})
    told = []
    for name in hold.honest:
        fields = {**event.to_json(), "content": {"msgtype": "m.text", "body": f"to {name}"}}
        told += await hold.send(orjson.dumps(fields), to=[name])
    return f"evil says {event.event_id[:8]} in {hold.called}, and means something else by it to each of {told}"


@trouble(3, is_hostile=True)
async def circle(simulation: Simulation, dice: Random) -> str | None:
    """Events that follow and cite each other where ids can be made up; elsewhere, ones that follow nothing there is."""
    hold = await foothold(simulation, dice)
    if hold is None:
        return None
    content = {"msgtype": "m.text", "body": "round and round"}
    if not hold.room.version.cites_with_hashes:
        event = await hold.make("m.room.message", content, prev=["$" + "A" * 43])
        return f"evil says {event.event_id[:8]} in {hold.called} after nothing, to {await hold.send(event.raw)}"
    one = await hold.make("m.room.message", content, prev=[f"$other:{EVIL}"])
    other = await hold.make("m.room.message", content, prev=[one.event_id])
    back = await hold.make("m.room.message", content, prev=[other.event_id], auth=[other.event_id])
    return f"evil goes round in {hold.called}, to {await hold.send(one.raw, other.raw, back.raw)}"


@trouble(3, is_hostile=True)
async def forks(simulation: Simulation, dice: Random) -> str | None:
    """Many events that all follow the same one, to each server some of them."""
    hold = await foothold(simulation, dice)
    if hold is None:
        return None
    events = []
    for number in range(FLOOD):
        if number % 5:
            events.append(await hold.make("m.room.message", {"msgtype": "m.text", "body": f"fork {number}"}))
        else:
            content = {"displayname": f"evil {number}", "membership": "join"}
            events.append(await hold.make("m.room.member", content, state_key=hold.user_id))
    told = []
    for name in hold.honest:
        told += await hold.send(*(event.raw for event in events if dice.random() < 0.5), to=[name])
    return f"evil makes {len(events)} forks in {hold.called}, to {told}"


@trouble(5, is_hostile=True)
async def lying_about_auth(simulation: Simulation, dice: Random) -> str | None:
    """What it may not do, with citations by which it might: none, old ones, twice the same, those of another kind."""
    hold = await foothold(simulation, dice)
    if hold is None:
        return None
    state = hold.state
    create, member = state["m.room.create", ""], state["m.room.member", hold.user_id]
    levels = state.get(("m.room.power_levels", ""), create)
    others = [event_id for key, event_id in sorted(state.items()) if key[0] == "m.room.member" and event_id != member]
    start = [] if hold.room.version.room_id_is_hash else [create]
    lies = {
        "nothing": [],
        "no levels": [*start, member],
        "no membership": [*start, levels],
        "one twice": [*start, levels, member, member],
        "somebody else's membership": [*start, levels, member, *others[:1]],
        "what there is not": [*start, levels, "$" + "B" * 43],
    }
    which = dice.choice(sorted(lies))
    content = {"users": {hold.user_id: 100}, "users_default": 50}
    event = await hold.make("m.room.power_levels", content, state_key="", auth=lies[which])
    return f"evil takes power in {hold.called} by {event.event_id[:8]}, citing {which}, to {await hold.send(event.raw)}"


@trouble(4, is_hostile=True)
async def from_long_ago(simulation: Simulation, dice: Random) -> str | None:
    """What it might have done once, said now: beside all that happened since."""
    hold = await foothold(simulation, dice)
    if hold is None:
        return None
    placed = [entry.stored for entry in hold.room.window if entry.stored is not None]
    if not placed:
        return None
    prev = dice.choice(placed).event.event_id
    if dice.random() < 0.5:
        event = await hold.make("m.room.topic", {"topic": "what it was"}, state_key="", prev=[prev])
    else:
        event = await hold.make("m.room.message", {"msgtype": "m.text", "body": "I was there"}, prev=[prev])
    return f"evil says {event.event_id[:8]} in {hold.called} as if it were old, to {await hold.send(event.raw)}"


@trouble(3, is_hostile=True)
async def two_faces(simulation: Simulation, dice: Random) -> str | None:
    """To each server something else after the same."""
    hold = await foothold(simulation, dice)
    if hold is None:
        return None
    told = []
    for name in hold.honest:
        event = await hold.make("m.room.topic", {"topic": f"for {name}"}, state_key="")
        told += await hold.send(event.raw, to=[name])
    return f"evil sets another topic in {hold.called} for each of {told}"


@trouble(3, is_hostile=True)
async def false_answers(simulation: Simulation, dice: Random) -> str | None:
    """For a while it answers what it is asked for with nothing, with noise, or not at all."""
    how = dice.choice(("nothing", "noise", "silence"))

    def meddle(origin: str, request: Request, response: Response) -> Response | None:
        asked = ("get_missing_events", "/backfill/", "/state_ids/", "/state/", "/event/")
        if not any(part in request.path for part in asked):
            return response
        if how == "silence":
            return None
        body = b'{"events":[],"pdus":[],"pdu_ids":[],"auth_chain_ids":[]}' if how == "nothing" else b'{"events":[7,{}]'
        return Response(200, response.headers, body)

    simulation.network.meddlers[EVIL] = meddle
    seconds = 10 + 60 * dice.random()

    def end() -> None:
        if simulation.network.meddlers.get(EVIL) is meddle:
            del simulation.network.meddlers[EVIL]

    simulation.world.later(seconds, end)
    return f"evil answers with {how} for {seconds:.0f} s"
