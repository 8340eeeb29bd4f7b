"""The verdicts on a peer's event: by what it cites, by the state before it, by the room as it is now.

Each verdict is a value; nothing is written here.

Spec: https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu (steps 4 to 6)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from federation.room.auth import PowerLevels, Refused, Verdict, auth_types_of, check_auth, check_auth_events, is_plain
from federation.room.event import Event, StateKey
from federation.room.format import is_oversized
from federation.room.versions import RoomVersion
from federation.service import service
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import CREATE, POWER_LEVELS, LiveRoom, State
from storage.ports import StoredEvent


class Grounds(msgspec.Struct, frozen=True):
    """What an event cites."""

    cited: Sequence[Event]
    rejected: frozenset[str]
    """Ids of those that were."""
    state: Mapping[StateKey, Event]
    power: PowerLevels | None
    """None: they are read when they are needed."""


class Docket(msgspec.Struct):
    """What was read for one batch of events, many of which cite the same."""

    powers: dict[tuple[str, str], PowerLevels] = msgspec.field(default_factory=dict)
    """By the ids of the create event and of the power levels."""
    grounds: dict[tuple[str, ...], Grounds] = msgspec.field(default_factory=dict)
    """By the ids of what is cited."""
    verdicts: dict[tuple[object, ...], Verdict] = msgspec.field(default_factory=dict)
    """On plain events, by all that the rules look at."""


@service
class Judge:
    """Judges events against states."""

    events: EventCache

    def by_auth_events(
        self, room: LiveRoom, event: Event, cited: Mapping[str, StoredEvent], docket: Docket | None = None
    ) -> Verdict:
        """Step 4. `cited` holds every auth event of the event. `docket`: for many events that cite the same."""
        if not room.version.strict_sizes and is_oversized(event.type, event.state_key):
            return Refused("size", "its type or state key is too long")
        if docket is None or not is_plain(event):
            return _by_grounds(room, event, _grounds(room, event, cited, docket))
        alike = event.auth_events, event.room_id, event.type, event.sender, event.is_state
        verdict = docket.verdicts.get(alike)
        if verdict is None:
            verdict = docket.verdicts[alike] = _by_grounds(room, event, _grounds(room, event, cited, docket))
        return verdict

    async def by_state(self, room: LiveRoom, event: Event, state: State) -> Verdict:
        """Steps 5 and 6: against a state of the room."""
        refs = {key: ref for key in auth_types_of(room.version, event) if (ref := state.get(key)) is not None}
        found: dict[StateKey, Event] = {CREATE: room.create} if CREATE in state else {}
        missing = []
        for key, ref in refs.items():
            stored = room.unwritten.get(ref.nid) or self.events.peek(ref.nid)
            if stored is None:
                missing.append(ref.nid)
            else:
                found[key] = stored.event
        if missing:
            read = await self.events.get_many(missing)
            for key, ref in refs.items():
                if ref.nid in read:
                    found[key] = read[ref.nid].event
        return self.against(room, event, found)

    def against(self, room: LiveRoom, event: Event, state: Mapping[StateKey, Event]) -> Verdict:
        """Against a state whose events are at hand."""
        return check_auth(_rules_for(room, event), event, lambda event_type, key: state.get((event_type, key)))


def _rules_for(room: LiveRoom, event: Event) -> RoomVersion:
    """A redaction that was redacted has lost what it was let in by: who had it whole let it in. It redacts nothing."""
    if room.version.redaction_auth and event.type == "m.room.redaction" and event.redacts is None:
        return msgspec.structs.replace(room.version, redaction_auth=False)
    return room.version


def _grounds(room: LiveRoom, event: Event, cited: Mapping[str, StoredEvent], docket: Docket | None) -> Grounds:
    if docket is not None and (found := docket.grounds.get(event.auth_events)) is not None:
        return found
    chosen = [cited[event_id] for event_id in event.auth_events]
    state: dict[StateKey, Event] = {}
    for stored in chosen:
        if stored.event.state_key is not None:
            state[stored.event.type, stored.event.state_key] = stored.event
    if room.version.room_id_is_hash:
        state[CREATE] = room.create
    grounds = Grounds(
        [stored.event for stored in chosen],
        frozenset(stored.event.event_id for stored in chosen if stored.rejected),
        state,
        None if docket is None else _power(room, state, docket),
    )
    if docket is not None:
        docket.grounds[event.auth_events] = grounds
    return grounds


def _by_grounds(room: LiveRoom, event: Event, grounds: Grounds) -> Verdict:
    verdict = check_auth_events(room.version, event, grounds.cited, grounds.rejected.__contains__)
    if isinstance(verdict, Refused):
        return verdict
    state, rules = grounds.state, _rules_for(room, event)
    return check_auth(rules, event, lambda event_type, key: state.get((event_type, key)), grounds.power)


def _power(room: LiveRoom, state: Mapping[StateKey, Event], docket: Docket) -> PowerLevels:
    create, event = state.get(CREATE), state.get(POWER_LEVELS)
    key = ("" if create is None else create.event_id, "" if event is None else event.event_id)
    found = docket.powers.get(key)
    if found is None:
        found = docket.powers[key] = PowerLevels.parse(room.version, create, event)
    return found
