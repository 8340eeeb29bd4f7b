"""The events that a resolution may look at, and what to do when one is not at hand."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from attrs import define, field

from federation.room.auth import PowerLevels, auth_types_of
from federation.room.auth.selection import CREATE, POWER_LEVELS, create_id_of
from federation.room.event import Event, StateKey
from federation.room.resolution.precedents import Precedents
from federation.room.versions import RoomVersion


class MissingEvent(LookupError):
    """Resolution needs events that it was not given. Fetch those of `event_ids` (sorted), and ask again."""

    def __init__(self, event_ids: Iterable[str]) -> None:
        self.event_ids = tuple(sorted(event_ids))
        super().__init__(f"{len(self.event_ids)} events are missing, among them {self.event_ids[0]}")


@define(eq=False)
class Evidence:
    """The events of one resolution, by id, with what was read from them."""

    version: RoomVersion
    _events: Mapping[str, Event]
    rejected: Container[str]
    precedents: Precedents | None = None
    _power: dict[str | None, PowerLevels] = field(factory=dict, init=False)
    _cited_power: dict[str, Event | None] = field(factory=dict, init=False)

    def gather(self, event_ids: Iterable[str]) -> None:
        """Make sure that all these events are at hand. Raises `MissingEvent` naming all that are not."""
        missing = {event_id for event_id in event_ids if event_id not in self._events}
        if missing:
            raise MissingEvent(missing)

    def require(self, event_id: str) -> Event:
        """The event of this id. Raises `MissingEvent`."""
        try:
            return self._events[event_id]
        except KeyError:
            raise MissingEvent([event_id]) from None

    def cited_at(self, event: Event, key: StateKey) -> Event | None:
        """The event that `event` cites for a piece of state.

        Where the create event is not cited, the room id names it. Raises `MissingEvent`.
        """
        if key == CREATE and self.version.room_id_is_hash:
            return self.require(self.create_id(event))
        self.gather(event.auth_events)
        for event_id in event.auth_events:
            cited = self._events[event_id]
            if (cited.type, cited.state_key) == key:
                return cited
        return None

    def asked_for(self, event: Event) -> Sequence[StateKey]:
        """What an event is judged by: all that the rules may ask the state for, but for the create event."""
        if self.precedents is None:
            return auth_types_of(self.version, event)
        asked = self.precedents.asked_for.get(event.event_id)
        if asked is None:
            asked = self.precedents.asked_for[event.event_id] = tuple(auth_types_of(self.version, event))
        return asked

    def create_id(self, event: Event) -> str:
        """The id of the create event that the room id of `event` names, where room ids do."""
        return create_id_of(event.room_id)

    def cited_power_levels(self, event: Event) -> Event | None:
        """The power levels that `event` cites, remembered as they are asked for often. Raises `MissingEvent`."""
        try:
            return self._cited_power[event.event_id]
        except KeyError:
            cited = self._cited_power[event.event_id] = self.cited_at(event, POWER_LEVELS)
            return cited

    def power(self, create: Event | None, power_levels: Event | None) -> PowerLevels:
        """The levels that hold under a power levels event, read once. A room has only one create event."""
        if create is None:
            return PowerLevels.parse(self.version, None, power_levels)
        name = power_levels.event_id if power_levels is not None else None
        power = self._power.get(name)
        if power is None:
            power = self._power[name] = PowerLevels.parse(self.version, create, power_levels)
        return power
