"""Friendship as two halves: what each side says in the room of the two, and what follows from both. Pure.

    nothing ──ask──► requested ──the other is willing──► accepted
                        │                                   │
                        └─ take back, be declined ─► removed ◄─ end it, or the other does

Friends are two who are both willing. Who asked is willing already, so an answer or a request that crosses it is enough;
each side's server then says `accepted`, and takes its half back when the other side does after that. Which came first
each server tells by its own order of the room.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from storage.friends import FRIENDS, INCOMING, NONE, OUTGOING

FRIEND: Final = "chat.guildhall.friend"
"""Type of the state event; its state key is the user's own id, so nobody else can set it."""
REQUEST: Final = "chat.guildhall.friend_request"
"""In an invitation that is a friend request too."""

State = Literal["requested", "accepted", "removed"]
STATES: Final[tuple[State, ...]] = ("requested", "accepted", "removed")


class Half(msgspec.Struct, frozen=True):
    """What one side says, and when: a position of this server's stream; 0: before it knew the room."""

    state: State
    position: int

    @property
    def is_willing(self) -> bool:
        return self.state != "removed"


def read_state(content: Any) -> State | None:
    """What the content of an event says; None where it makes no sense."""
    given = content.get("state")
    return next((state for state in STATES if state == given), None)


def relation_of(mine: Half | None, theirs: Half | None) -> int:
    """What the other is to me."""
    willing, they_are = mine is not None and mine.is_willing, theirs is not None and theirs.is_willing
    if willing and they_are:
        return FRIENDS
    if mine is not None and mine.state == "requested" and (theirs is None or theirs.position < mine.position):
        return OUTGOING
    if theirs is not None and theirs.state == "requested" and (mine is None or mine.position < theirs.position):
        return INCOMING
    return NONE


def settled(mine: Half | None, theirs: Half | None, their_membership: str | None) -> State | None:
    """What my half has to become after what the other side did; None: it may stay."""
    if mine is None or not mine.is_willing:
        return None
    if their_membership in ("leave", "ban"):
        return "removed"
    if theirs is None:
        return None
    if not theirs.is_willing:
        return "removed" if mine.position < theirs.position else None
    return "accepted" if mine.state == "requested" else None
