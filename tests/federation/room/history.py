"""Rooms for tests about authorisation and state: events with made-up ids, unsigned, and servers that judge them.

A history is a story of a room that forks, told event by event. On disk it is JSON:

    {
      "story": "what happens, and what must come of it",
      "versions": ["2", "11"],            the room versions that it is told in
      "room": {                           how the room begins; here are the defaults
        "join_rule": "public",
        "power_levels": {},
        "members": ["@bob:b"]
      },
      "events": [                         what happens then
        {"name": "HELLO", "sender": "@bob:b", "type": "m.room.topic", "state_key": "", "content": {"topic": "hello"}},
        {"name": "HI", "sender": "@alice:a", "topic": "hi", "after": ["BOB"]},
        ...
      ],
      "refused": ["HI"],                  the events that servers must refuse; they must not refuse any other
      "state": {                          what the room's state must be in the end, where it matters
        "m.room.topic": "HELLO",
        "m.room.member @bob:b": "BOB",
        "m.room.name": null
      },
      "in": {"2": {"refused": [], "state": {}}},            optional: what is otherwise in some versions
      "forks": [["CREATE", "ALICE"], ["CREATE", "BOB"]]     optional: resolve these states, not those of the last events
    }

A room begins with the events CREATE, ALICE (the creator, @alice:a, joins), POWER, RULES, and a join of each member,
named after them (BOB). `power_levels` are written as for versions where creators have no level; in the others they
get 100 added wherever they have no level.

An event has a short form for what is common: "topic": text; "join_rule": rule; "power_levels": content; and
"membership" with "of" (the sender, if left out); "content" adds to the content. It comes after the event above it
unless "after" names others; a minute after that unless "at" gives a time in seconds; and it cites what a server would
have it cite, unless "citing" names other events.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from attrs import define, field, frozen

from federation.room.auth import Refused, auth_types_of, check_auth, check_auth_events
from federation.room.auth.selection import create_id_of
from federation.room.event import Event, StateKey
from federation.room.resolution import StateMap, resolve
from federation.room.versions import ROOM_VERSIONS, RoomVersion

CREATOR = "@alice:a"


def make_event(
    version: RoomVersion,
    name: str,
    type: str,
    sender: str,
    content: Mapping[str, Any] | None = None,
    *,
    state_key: str | None = None,
    prev: Sequence[str] = (),
    auth: Sequence[str] = (),
    at_ms: int = 0,
    depth: int = 1,
    redacts: str | None = None,
    room_id: str | None = None,
) -> Event:
    """An event whose id is `$name`. `prev` and `auth` are names too. It is in the room whose create event is CREATE."""
    if room_id is None:
        room_id = "!CREATE" if version.room_id_is_hash else "!room:a"
    format = {"type": type, "sender": sender, "content": content or {}, "origin_server_ts": at_ms, "depth": depth}
    if not (version.room_id_is_hash and type == "m.room.create"):
        format["room_id"] = room_id
    if state_key is not None:
        format["state_key"] = state_key
    return Event(
        event_id="$" + name,
        room_id=room_id,
        type=type,
        state_key=state_key,
        sender=sender,
        origin_server_ts=at_ms,
        depth=depth,
        prev_events=tuple("$" + other for other in prev),
        auth_events=tuple("$" + other for other in auth),
        redacts=redacts,
        raw=orjson.dumps(format, option=orjson.OPT_SORT_KEYS),
    )


Resolver = Callable[[RoomVersion, Sequence[StateMap], Mapping[str, Event], Mapping[str, Refused]], StateMap]


def plain_resolver(
    version: RoomVersion, forks: Sequence[StateMap], events: Mapping[str, Event], rejected: Mapping[str, Refused]
) -> StateMap:
    return resolve(version, forks, events, rejected)


@define
class Server:
    """One server's view of a room: it takes events in any order that puts causes first, and judges each."""

    version: RoomVersion
    resolver: Resolver = plain_resolver
    events: dict[str, Event] = field(factory=dict)
    refused: dict[str, Refused] = field(factory=dict)
    state_after: dict[str, StateMap] = field(factory=dict)
    extremities: dict[str, None] = field(factory=dict)

    def receive(self, event: Event) -> None:
        """Judge an event and keep it. What it comes after and what it cites must have been received."""
        before = self.state_before(event)
        cited = [self.events[event_id] for event_id in event.auth_events]
        self.events[event.event_id] = event
        verdict = (
            check_auth_events(self.version, event, cited, self.refused.__contains__)
            and check_auth(self.version, event, self._lookup({(e.type, e.state_key or ""): e.event_id for e in cited}))
            and check_auth(self.version, event, self._lookup(before))
        )
        after = dict(before)
        if isinstance(verdict, Refused):
            self.refused[event.event_id] = verdict
        else:
            self.extremities[event.event_id] = None
            for event_id in event.prev_events:
                self.extremities.pop(event_id, None)
            if event.state_key is not None:
                after[event.type, event.state_key] = event.event_id
        self.state_after[event.event_id] = after

    def state_before(self, event: Event) -> StateMap:
        return self._resolve(event.prev_events)

    def current_state(self) -> StateMap:
        return self._resolve(self.extremities)

    def _resolve(self, event_ids: Iterable[str]) -> StateMap:
        forks = [self.state_after[event_id] for event_id in event_ids]
        return self.resolver(self.version, forks, self.events, self.refused)

    def _lookup(self, state: StateMap) -> Callable[[str, str], Event | None]:
        def lookup(event_type: str, state_key: str) -> Event | None:
            event_id = state.get((event_type, state_key))
            if event_type == "m.room.create" and self.version.room_id_is_hash:
                event_id = create_id_of("!CREATE")
            return self.events[event_id] if event_id is not None else None

        return lookup


@define
class Author:
    """Writes the events of a history, each as a server would that has seen all before it."""

    version: RoomVersion
    server: Server = field(init=False)
    written: list[Event] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.server = Server(self.version)

    def begin(self, join_rule: str, power_levels: Mapping[str, Any], members: Iterable[str]) -> None:
        """Write how a room begins."""
        creator = {} if self.version.creator_is_sender else {"creator": CREATOR}
        create = {"room_version": self.version.identifier, **creator}
        self.write("CREATE", "m.room.create", CREATOR, create, state_key="", after=())
        self.write("ALICE", "m.room.member", CREATOR, {"membership": "join"}, state_key=CREATOR)
        self.write("POWER", "m.room.power_levels", CREATOR, power_levels, state_key="")
        self.write("RULES", "m.room.join_rules", CREATOR, {"join_rule": "public"}, state_key="")
        for user_id in members:
            name = user_id[1:].partition(":")[0].upper()
            self.write(name, "m.room.member", user_id, {"membership": "join"}, state_key=user_id)
        if join_rule != "public":
            self.write("CLOSED", "m.room.join_rules", CREATOR, {"join_rule": join_rule}, state_key="")

    def write(
        self,
        name: str,
        type: str,
        sender: str,
        content: Mapping[str, Any],
        *,
        state_key: str | None = None,
        after: Sequence[str] | None = None,
        citing: Sequence[str] | None = None,
        at_ms: int | None = None,
    ) -> Event:
        """Write an event. `after` defaults to the event written before, `citing` to what the rules ask for."""
        if type == "m.room.power_levels" and not self.version.privileged_creators:
            content = {**content, "users": {CREATOR: 100, **content.get("users", {})}}
        if after is None:
            after = [self.written[-1].event_id[1:]]
        before = [self.server.events["$" + other] for other in after]
        draft = make_event(
            self.version,
            name,
            type,
            sender,
            content,
            state_key=state_key,
            prev=after,
            depth=1 + max((event.depth for event in before), default=0),
            at_ms=len(self.written) * 60_000 if at_ms is None else at_ms,
        )
        if citing is None:
            state = self.server.state_before(draft)
            keys = auth_types_of(self.version, draft)
            draft.auth_events = tuple(state[key] for key in keys if key in state)
        else:
            draft.auth_events = tuple("$" + other for other in citing)
        self.server.receive(draft)
        self.written.append(draft)
        return draft


@frozen
class History:
    """A story from disk, told in one room version."""

    version: RoomVersion
    events: Sequence[Event]
    refused: frozenset[str]
    """Ids of the events that servers must refuse."""
    expected: Mapping[StateKey, str | None]
    """What must stand at some keys of the state in the end; None for nothing."""
    forks: Sequence[StateMap] | None


def versions_of(path: Path) -> list[str]:
    """The room versions that a history is told in."""
    versions: list[str] = json.loads(path.read_text())["versions"]
    return versions


def read_history(path: Path, version: RoomVersion | str) -> History:
    """Read a history as it goes in one room version."""
    if isinstance(version, str):
        version = ROOM_VERSIONS[version]
    story = json.loads(path.read_text())
    room = story.get("room", {})
    author = Author(version)
    author.begin(room.get("join_rule", "public"), room.get("power_levels", {}), room.get("members", ["@bob:b"]))
    for entry in story["events"]:
        type, state_key, content = _read_kind(entry)
        author.write(
            entry["name"],
            type,
            entry["sender"],
            {**content, **entry.get("content", {})},
            state_key=state_key,
            after=entry.get("after"),
            citing=entry.get("citing"),
            at_ms=entry["at"] * 1000 if "at" in entry else None,
        )
    otherwise = story.get("in", {}).get(version.identifier, {})
    state = story["state"] | otherwise.get("state", {})
    return History(
        version=version,
        events=author.written,
        refused=frozenset("$" + name for name in otherwise.get("refused", story.get("refused", []))),
        expected={_read_key(key): None if name is None else "$" + name for key, name in state.items()},
        forks=[_read_fork(names, author.server.events) for names in story["forks"]] if "forks" in story else None,
    )


def _read_kind(entry: Mapping[str, Any]) -> tuple[str, str | None, Mapping[str, Any]]:
    if "membership" in entry:
        return "m.room.member", entry.get("of", entry["sender"]), {"membership": entry["membership"]}
    if "power_levels" in entry:
        return "m.room.power_levels", "", entry["power_levels"]
    if "join_rule" in entry:
        return "m.room.join_rules", "", {"join_rule": entry["join_rule"]}
    if "topic" in entry:
        return "m.room.topic", "", {"topic": entry["topic"]}
    return entry["type"], entry.get("state_key"), {}


def _read_key(text: str) -> StateKey:
    event_type, _, state_key = text.partition(" ")
    return event_type, state_key


def _read_fork(names: Sequence[str], events: Mapping[str, Event]) -> StateMap:
    members = [events["$" + name] for name in names]
    return {(event.type, event.state_key or ""): event.event_id for event in members}
