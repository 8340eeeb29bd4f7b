"""People of the simulation and their clients, which remember what they were shown and insist on it.

A client here does what a real one does: it follows `/sync`, fills gaps by paging back with `/messages`, sends again
what it heard no answer to, under the same transaction id, and goes away for a while now and then.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred

from federation.outbound.transport import Request
from homeserver.http.route import Requester
from tests.simulation.machine import Machine
from tests.simulation.network import short

V3 = "/_matrix/client/v3"
POLL_MS = 30_000
PAGE = 10


class Gone(Exception):
    """The server went down before it answered."""


class Broken(Exception):
    """A client was told something that can't be."""


@frozen
class Reply:
    status: int
    json: Any

    @property
    def is_well(self) -> bool:
        return self.status == 200

    def __str__(self) -> str:
        return "ok" if self.is_well else f"{self.status} {self.json.get('errcode')} {self.json.get('error')}"


@define
class Seen:
    """A room as somebody's client knows it, since it was first shown as joined."""

    room_id: str
    timeline: list[str] = field(factory=list)
    """Event ids, oldest first."""
    known: dict[str, dict[str, Any]] = field(factory=dict)
    """The events of the timeline."""
    state: dict[tuple[str, str], dict[str, Any]] = field(factory=dict)
    first_look: int = 0
    """How many events were there when the room was first shown: as the graph has them, not as they came."""
    first_prev_batch: str = ""
    told: set[str] = field(factory=set)
    """State events that the client was ever told of."""

    def content(self, event_type: str, key: str = "") -> Mapping[str, Any]:
        found = self.state.get((event_type, key))
        return {} if found is None else found["content"]

    def members(self, *memberships: str) -> list[str]:
        return sorted(
            key
            for (event_type, key), event in self.state.items()
            if event_type == "m.room.member" and event["content"].get("membership") in memberships
        )

    def add(self, event: dict[str, Any], at: int | None = None) -> None:
        event_id = event["event_id"]
        if event_id in self.known:
            raise Broken(f"{event_id} is shown twice in {self.room_id}")
        self.known[event_id] = event
        self.timeline.insert(len(self.timeline) if at is None else at, event_id)

    def set(self, event: dict[str, Any]) -> None:
        if event.get("state_key") is not None:
            self.state[event["type"], event["state_key"]] = event
            self.told.add(event["event_id"])


@define(eq=False)
class Person:
    """Somebody, and their client."""

    machine: Machine
    name: str
    dice: Random
    timeline_limit: int = 10
    """How many events a sync may bring of a room; with few there are gaps."""
    use_state_after: bool = False
    since: str | None = None
    rooms: dict[str, Seen] = field(factory=dict)
    """Joined."""
    invited: dict[str, list[dict[str, Any]]] = field(factory=dict)
    """With what was shown of the room."""
    knocking: set[str] = field(factory=set)
    is_away: bool = False
    sent: dict[str, str] = field(factory=dict)
    """What was answered: text → event id."""
    syncs: int = 0
    broken: list[str] = field(factory=list)
    _transactions: int = 0

    @property
    def user_id(self) -> str:
        return f"@{self.name}:{self.machine.name}"

    @property
    def label(self) -> str:
        return f"{self.name}@{short(self.machine.name)}"

    def may_set(self, room_id: str, event_type: str) -> bool:
        """Whether they have the power for a piece of state, as far as they know."""
        seen = self.rooms[room_id]
        levels = seen.content("m.room.power_levels")
        needed = levels.get("events", {}).get(event_type, levels.get("state_default", 50))
        creator = seen.state.get(("m.room.create", ""), {}).get("sender")
        return creator == self.user_id or bool(levels.get("users", {}).get(self.user_id, 0) >= needed)

    # -- asking ------------------------------------------------------------------------------------------------

    async def ask(self, method: str, path: str, body: object = None, *, insist: bool = False, **query: object) -> Reply:
        """Ask the server something. Raises Gone where it went down; `insist`: then it is asked again."""
        world = self.machine.world
        target = f"{path}?{urlencode(query)}" if query else path
        content = None if body is None else orjson.dumps(body)
        while True:
            await world.sleep(0.001 + 0.02 * self.dice.random())
            if self.machine.is_up:
                request = Request(self.machine.name, method, target, body=content)
                who = Requester(self.user_id, "DEVICE", self.name.encode())
                try:
                    answer = await self.machine.handle(request, who)
                except CancelledError:
                    pass
                else:
                    await world.sleep(0.001 + 0.02 * self.dice.random())
                    return Reply(answer.status, orjson.loads(answer.body) if answer.body else {})
            if not insist:
                raise Gone(self.machine.name)
            await world.sleep(1 + 4 * self.dice.random())

    async def room(self, method: str, room_id: str, what: str, body: object = None, **more: Any) -> Reply:
        """Ask about a room."""
        return await self.ask(method, f"{V3}/rooms/{quote(room_id, safe='')}{what}", body, **more)

    async def say(self, room_id: str, text: str) -> Reply:
        self._transactions += 1
        content = {"msgtype": "m.text", "body": text}
        what = f"/send/m.room.message/t{self._transactions}"
        reply = await self.room("PUT", room_id, what, content, insist=True)
        if reply.is_well:
            self.sent[text] = reply.json["event_id"]
        return reply

    async def redact(self, room_id: str, event_id: str) -> Reply:
        self._transactions += 1
        what = f"/redact/{quote(event_id, safe='')}/t{self._transactions}"
        return await self.room("PUT", room_id, what, {}, insist=True)

    async def set_state(self, room_id: str, event_type: str, content: object, key: str = "") -> Reply:
        return await self.room("PUT", room_id, f"/state/{event_type}/{quote(key, safe='')}", content, insist=True)

    # -- following ---------------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Follow `/sync` for good."""
        while True:
            try:
                await self.follow(POLL_MS)
            except Gone:
                await self.machine.world.sleep(0.5 + self.dice.random())
            while self.is_away:
                await self.machine.world.sleep(1.0)

    async def follow(self, timeout_ms: int) -> None:
        """One `/sync`, and what is needed to make sense of it."""
        filter = {"room": {"timeline": {"limit": self.timeline_limit}}}
        query: dict[str, Any] = {"timeout": timeout_ms, "filter": orjson.dumps(filter).decode()}
        if self.since is not None:
            query["since"] = self.since
        if self.use_state_after:
            query["use_state_after"] = "true"
        reply = await self.ask("GET", V3 + "/sync", **query)
        if not reply.is_well:
            raise Broken(f"{self.label} can't sync: {reply}")
        sections = reply.json.get("rooms", {})
        gaps = []
        for room_id, section in sections.get("join", {}).items():
            gap = self._take_joined(room_id, section)
            if gap is not None:
                gaps.append(gap)
        for room_id in sections.get("leave", {}):
            self.rooms.pop(room_id, None)
            self.invited.pop(room_id, None)
            self.knocking.discard(room_id)
        for room_id, section in sections.get("invite", {}).items():
            self.invited[room_id] = section.get("invite_state", {}).get("events", [])
        self.knocking.update(sections.get("knock", {}))
        self.since = reply.json["next_batch"]
        self.syncs += 1
        for seen, place, prev_batch in gaps:
            await self._fill(seen, place, prev_batch)

    def _take_joined(self, room_id: str, section: Mapping[str, Any]) -> tuple[Seen, int, str] | None:
        """The gap that it leaves: before which place of the timeline, and where to page back from."""
        self.invited.pop(room_id, None)
        self.knocking.discard(room_id)
        is_new = room_id not in self.rooms
        seen = self.rooms.setdefault(room_id, Seen(room_id))
        timeline = section.get("timeline", {})
        place = len(seen.timeline)
        for event in section.get("state_after" if self.use_state_after else "state", {}).get("events", []):
            seen.set(event)
        for event in timeline.get("events", []):
            seen.add(event)
            if not self.use_state_after:
                seen.set(event)
        if is_new:
            seen.first_look = len(seen.timeline)
            seen.first_prev_batch = timeline.get("prev_batch", "")
        if timeline.get("limited") and not is_new and place:
            return seen, place, timeline["prev_batch"]
        return None

    async def _fill(self, seen: Seen, place: int, prev_batch: str) -> None:
        """Page back until what is known already."""
        known = set(seen.timeline[:place])
        token: str | None = prev_batch
        while token is not None:
            reply = await self.room(
                "GET", seen.room_id, "/messages", dir="b", limit=PAGE, insist=True, **{"from": token}
            )
            if not reply.is_well:
                return  # kicked out meanwhile: that is the end of it
            for event in reply.json["chunk"]:
                if event["event_id"] in known:
                    return
                seen.add(event, place)
            token = reply.json.get("end")

    async def read_all(self, room_id: str) -> list[dict[str, Any]]:
        """Everything in a room, newest first, as paging back from now shows it."""
        found: list[dict[str, Any]] = []
        token: str | None = None
        while True:
            query: dict[str, Any] = {"dir": "b", "limit": 50}
            if token is not None:
                query["from"] = token
            reply = await self.room("GET", room_id, "/messages", insist=True, **query)
            if not reply.is_well:
                raise Broken(f"{self.label} can't read {room_id}: {reply}")
            found += reply.json["chunk"]
            token = reply.json.get("end")
            if token is None:
                return found


def begin(work: Any) -> Deferred[Any]:
    """Run a coroutine from now on."""
    return Deferred.fromCoroutine(work)
