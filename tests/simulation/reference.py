"""What a room must have come to, worked out from all of its events by the letter of the specification.

Slow and plain, and nothing of it is shared with the room engine but the authorisation rules: state at an event is
resolved anew from the states before it, by walking whole auth chains. Room versions with state resolution 2 and 2.1.

Spec: https://spec.matrix.org/v1.19/rooms/v2/#state-resolution and https://spec.matrix.org/v1.19/rooms/v12/#state-resolution
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from attrs import define, field

from federation.room.auth import PowerLevels, Refused, Verdict, auth_types_of, check_auth, check_auth_events
from federation.room.event import Event, StateKey
from federation.room.versions import RoomVersion, StateResolution

CREATE: StateKey = ("m.room.create", "")
POWER: StateKey = ("m.room.power_levels", "")

State = Mapping[StateKey, str]


@define
class Reference:
    """All events of one room, judged in an order that puts causes first."""

    version: RoomVersion
    events: Mapping[str, Event]
    after: dict[str, State] = field(factory=dict)
    """State after each event that could be judged."""
    refused: dict[str, Refused] = field(factory=dict)
    unjudged: set[str] = field(factory=set)
    """Events of which something before them is not there."""
    create: str = ""
    _chains: dict[str, frozenset[str]] = field(factory=dict)
    _resolved: dict[frozenset[frozenset[tuple[StateKey, str]]], State] = field(factory=dict)

    def judge_all(self) -> None:
        waiting = dict(sorted(self.events.items()))
        while True:
            ready = [
                event_id
                for event_id, event in waiting.items()
                if all(other in self.after for other in event.prev_events)
                and all(other in self.after for other in event.auth_events)
            ]
            if not ready:
                self.unjudged = set(waiting)
                return
            for event_id in ready:
                self._judge(waiting.pop(event_id))

    def state_of(self, extremities: Iterable[str]) -> State:
        """What follows from the states after these events."""
        return self._resolve([self.after[event_id] for event_id in sorted(extremities)])

    def past(self, event_id: str) -> set[str]:
        """An event and everything before it that is there."""
        found: set[str] = set()
        frontier = [event_id]
        while frontier:
            one = frontier.pop()
            if one in self.events and one not in found:
                found.add(one)
                frontier.extend(self.events[one].prev_events)
        return found

    # -- events ------------------------------------------------------------------------------------------------

    def _judge(self, event: Event) -> None:
        if (event.type, event.state_key) == CREATE:
            self.create = event.event_id
        before = self.state_of(event.prev_events)
        cited = [self.events[event_id] for event_id in event.auth_events]
        verdict = check_auth_events(self.version, event, cited, self.refused.__contains__)
        if not isinstance(verdict, Refused):
            told = {(one.type, one.state_key or ""): one.event_id for one in cited}
            if self.version.room_id_is_hash and event.event_id != self.create:
                told[CREATE] = self.create
            verdict = self._check(event, told)
        if not isinstance(verdict, Refused):
            verdict = self._check(event, before)
        if isinstance(verdict, Refused):
            self.refused[event.event_id] = verdict
            self.after[event.event_id] = before
        elif event.state_key is not None:
            self.after[event.event_id] = {**before, (event.type, event.state_key): event.event_id}
        else:
            self.after[event.event_id] = before

    def _check(self, event: Event, state: State) -> Verdict:
        def lookup(event_type: str, key: str) -> Event | None:
            event_id = state.get((event_type, key))
            return None if event_id is None else self.events[event_id]

        version = self.version
        if version.redaction_auth and event.type == "m.room.redaction" and event.redacts is None:
            # It was redacted, and lost what it was judged by.
            version = msgspec.structs.replace(version, redaction_auth=False)
        return check_auth(version, event, lookup)

    # -- resolution ----------------------------------------------------------------------------------------------

    def _resolve(self, forks: Sequence[State]) -> State:
        different = {frozenset(fork.items()): fork for fork in forks}
        if not different:
            return {}
        if len(different) == 1:
            return forks[0]
        name = frozenset(different)
        if name not in self._resolved:
            self._resolved[name] = self._resolve_forks(list(different.values()))
        return self._resolved[name]

    def _resolve_forks(self, forks: Sequence[State]) -> State:
        keys = {key for fork in forks for key in fork}
        agreed = {key: forks[0][key] for key in keys if len({fork.get(key) for fork in forks}) == 1}
        conflicted = {fork[key] for fork in forks for key in keys - agreed.keys() if key in fork}
        chains = [frozenset().union(*map(self._chain, fork.values())) for fork in forks]
        full = conflicted | (frozenset().union(*chains) - chains[0].intersection(*chains[1:]))
        if self.version.state_resolution is StateResolution.V2_1:
            full |= {
                event_id
                for start in conflicted
                for event_id in self._chain(start)
                if self._chain(event_id) & conflicted
            }
        power = {event_id for event_id in full if _is_power_event(self.events[event_id])}
        first = power | {cited for event_id in power for cited in self._grounds(event_id, full)}
        state = {} if self.version.state_resolution is StateResolution.V2_1 else dict(agreed)
        for event_id in self._by_power(first):
            self._hear(self.events[event_id], state)
        rest = self._by_mainline(full - first, state.get(POWER))
        for event_id in rest:
            self._hear(self.events[event_id], state)
        return {**state, **agreed}

    def _chain(self, event_id: str) -> frozenset[str]:
        """An event with all that it rests on."""
        chain = self._chains.get(event_id)
        if chain is None:
            cited = [other for other in self.events[event_id].auth_events if other in self.events]
            chain = self._chains[event_id] = frozenset([event_id]).union(*map(self._chain, cited))
        return chain

    def _grounds(self, event_id: str, full: set[str]) -> set[str]:
        """What is reached from an event by its citations without leaving the conflicted set."""
        found: set[str] = set()
        frontier = [event_id]
        while frontier:
            for cited in self.events[frontier.pop()].auth_events:
                if cited in full and cited not in found:
                    found.add(cited)
                    frontier.append(cited)
        return found

    def _hear(self, event: Event, state: dict[StateKey, str]) -> None:
        if event.state_key is None:
            return
        seen: dict[StateKey, str] = {}
        for event_id in event.auth_events:
            cited = self.events[event_id]
            if event_id not in self.refused:
                seen[cited.type, cited.state_key or ""] = event_id
        for key in (*auth_types_of(self.version, event), CREATE):
            if key in state and state[key] not in self.refused:
                seen[key] = state[key]
        if self.version.room_id_is_hash:
            seen[CREATE] = self.create
        if not isinstance(self._check(event, seen), Refused):
            state[event.type, event.state_key] = event.event_id

    def _by_power(self, event_ids: set[str]) -> list[str]:
        """Reverse topological power ordering: again and again, the first of those that cite none of the rest."""
        ordered: list[str] = []
        waiting = set(event_ids)
        while waiting:
            free = [one for one in waiting if not waiting.intersection(self.events[one].auth_events)]
            first = min(free, key=self._power_rank)
            ordered.append(first)
            waiting.remove(first)
        return ordered

    def _power_rank(self, event_id: str) -> tuple[float, int, str]:
        event = self.events[event_id]
        create = self.events[self.create]
        levels = PowerLevels.parse(self.version, create, self._cited_power(event))
        return -levels.user(event.sender), event.origin_server_ts, event_id

    def _cited_power(self, event: Event) -> Event | None:
        cited = (self.events[event_id] for event_id in event.auth_events)
        return next((one for one in cited if (one.type, one.state_key) == POWER), None)

    def _line(self, event: Event | None) -> list[str]:
        line = []
        while event is not None and event.event_id not in line:
            line.append(event.event_id)
            event = self._cited_power(event)
        return line

    def _by_mainline(self, event_ids: Iterable[str], power_levels: str | None) -> list[str]:
        mainline = self._line(None if power_levels is None else self.events[power_levels])

        def rank(event_id: str) -> tuple[float, int, str]:
            event = self.events[event_id]
            line = self._line(self._cited_power(event))
            place = next((mainline.index(one) for one in line if one in mainline), math.inf)
            return -place, event.origin_server_ts, event_id

        return sorted(event_ids, key=rank)


def _is_power_event(event: Event) -> bool:
    if (event.type, event.state_key) in (POWER, ("m.room.join_rules", "")):
        return True
    is_of_another = event.type == "m.room.member" and event.state_key is not None and event.sender != event.state_key
    return is_of_another and event.content.get("membership") in ("leave", "ban")
