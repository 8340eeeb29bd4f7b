"""One event before the rules: what they look at, read when first asked for."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from federation.room.auth.numbering import rule_numbers
from federation.room.auth.power_levels import PowerLevels
from federation.room.auth.selection import POWER_LEVELS
from federation.room.auth.verdict import Refused
from federation.room.event import Event
from federation.room.identifiers import ServerName
from federation.room.versions import RoomVersion

StateLookup = Callable[[str, str], Event | None]
"""Gives the event that a room's state holds at (event type, state key)."""

SignedBy = Callable[[Event, ServerName], bool]
"""Tells whether an event carries a valid signature of a server."""


@define(eq=False)
class Case:
    """An event, the state it is judged against, and the rules of its room version."""

    version: RoomVersion
    event: Event
    state: StateLookup
    create: Event
    signed_by: SignedBy | None
    _power: PowerLevels | None = field(alias="power")

    @property
    def power(self) -> PowerLevels:
        """The room's power levels."""
        power = self._power
        if power is None:
            power = self._power = PowerLevels.parse(self.version, self.create, self.state(*POWER_LEVELS))
        return power

    def level(self, user_id: str) -> float:
        """The power level of a user."""
        return self.power.user(user_id)

    def membership(self, user_id: str) -> str:
        """The membership of a user: one who was never here has left."""
        member = self.state("m.room.member", user_id)
        membership = member.content.get("membership") if member is not None else None
        return membership if isinstance(membership, str) else "leave"

    def refuse(self, rule: str, why: str) -> Refused:
        """A refusal by the rule of this name, under the number it has in this room version."""
        return Refused(rule_numbers(self.version)[rule], why)

    def refuse_malformed(self, rule: str, why: str) -> Refused:
        """As `refuse`, where the fault is in the content alone."""
        return Refused(rule_numbers(self.version)[rule], why, is_malformed=True)
