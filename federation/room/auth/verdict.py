"""What the authorisation rules say of an event: allowed, or refused by which rule and why."""

from __future__ import annotations

from typing import Literal

import msgspec


class Allowed(msgspec.Struct, frozen=True):
    """The event may stand. True as a condition."""

    def __bool__(self) -> Literal[True]:
        return True


class Refused(msgspec.Struct, frozen=True):
    """The event may not stand. False as a condition.

    `rule` is the number of the rule as the specification of the room's version counts it ("5.3.6"); `why` is for
    people: a clause that can follow "refused, as".
    """

    rule: str
    why: str
    is_malformed: bool = False
    """The content is wrong in itself: nobody's power would let it stand."""

    def __bool__(self) -> Literal[False]:
        return False

    def __str__(self) -> str:
        return f"rule {self.rule}: {self.why}"


Verdict = Allowed | Refused

ALLOWED = Allowed()
