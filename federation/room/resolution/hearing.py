"""Iterative auth checks: events are heard in order, and those that the state so far allows become part of it.

Spec: https://spec.matrix.org/v1.19/rooms/v12/#definitions
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from federation.room.auth import check_auth
from federation.room.auth.selection import CREATE, POWER_LEVELS
from federation.room.event import Event, StateKey
from federation.room.resolution.evidence import Evidence

AgreedState = Callable[[StateKey], str | None]
"""Which event stands at a key of the state that a hearing starts from."""


def gather_for_hearing(events: Iterable[Event], agreed: AgreedState, evidence: Evidence) -> None:
    """Make sure that all is at hand that hearings of these events can ask for. Raises `MissingEvent` naming it all."""
    needed: set[str] = set()
    for event in events:
        needed.update(event.auth_events)
        if evidence.version.room_id_is_hash:
            needed.add(evidence.create_id(event))
        needed.update(filter(None, map(agreed, evidence.asked_for(event))))
    evidence.gather(needed)


def hear(events: Sequence[Event], agreed: AgreedState, resolved: dict[StateKey, str], evidence: Evidence) -> None:
    """Apply the iterative auth checks to state events in order. Those that pass are put into `resolved`.

    The state that an event is judged by is `resolved` laid over `agreed`; what it lacks is taken from the events that
    the event cites. Rejected events serve neither way, as nobody judges them again in this role.
    """
    precedents = evidence.precedents
    for event in events:
        if event.state_key is None:
            continue  # cannot be state, whoever cited it as such

        def state(event_type: str, state_key: str, event: Event = event) -> Event | None:
            key = (event_type, state_key)
            if not (key == CREATE and evidence.version.room_id_is_hash):
                event_id = resolved.get(key) or agreed(key)
                if event_id is not None and event_id not in evidence.rejected:
                    return evidence.require(event_id)
            cited = evidence.cited_at(event, key)
            return cited if cited is not None and cited.event_id not in evidence.rejected else None

        case: tuple[str | None, ...] = ()
        allowed = None
        if precedents is not None:  # then nearly all of them were heard before, by the same state
            found = [state(*CREATE), *(state(*key) for key in evidence.asked_for(event))]
            case = (event.event_id, *(None if one is None else one.event_id for one in found))
            allowed = precedents.verdicts.get(case)
        if allowed is None:
            power = evidence.power(state(*CREATE), state(*POWER_LEVELS))
            allowed = bool(check_auth(evidence.version, event, state, power))
            if precedents is not None:
                precedents.verdicts[case] = allowed
        if allowed:
            resolved[event.type, event.state_key] = event.event_id
