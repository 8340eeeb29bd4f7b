"""What passes between servers and is kept nowhere: the content of typing, receipt and presence EDUs.

Those that hold many things are read one thing at a time, so that one that is malformed takes no others along.

Spec: https://spec.matrix.org/v1.19/server-server-api/#edus
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Literal, TypeVar

import msgspec

T = TypeVar("T")

MOST_SAID = 1000
"""Receipts of one room, or presences, that are read of one EDU."""
MOST_ROOMS = 100
"""Rooms that one EDU may hold receipts of."""


class Typing(msgspec.Struct, frozen=True):
    """Content of `m.typing`."""

    room_id: str
    user_id: str
    typing: bool


class ReceiptData(msgspec.Struct, frozen=True):
    ts: int | None = None
    """In ms since 1970, by the other server's clock."""
    thread_id: str | None = None


class UserReceipt(msgspec.Struct, frozen=True):
    """How far one person has read."""

    event_ids: list[str]
    """One, says the specification."""
    data: ReceiptData = ReceiptData()


STATUS = "chat.guildhall.status"
"""In an entry of `push`, between servers of this kind: `busy`, for which the specification has no name."""
BUSY_WORDS = "Busy"
"""What others are told of who is busy and says nothing more."""


class UserPresence(msgspec.Struct, frozen=True, rename={"status": STATUS}):
    """One entry of `push` in an `m.presence`."""

    user_id: str
    presence: Literal["online", "unavailable", "offline"]
    last_active_ago: int | None = None
    """In ms."""
    currently_active: bool = False
    status_msg: str | None = None
    status: Any = None

    @property
    def is_busy(self) -> bool:
        return self.presence == "unavailable" and self.status == "busy"


def read(content: object, kind: type[T]) -> T | None:
    """A value of already parsed JSON in its shape; None where it does not fit."""
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError:
        return None


def read_receipts(content: Mapping[str, Any], receipt_type: str) -> Iterator[tuple[str, dict[str, UserReceipt]]]:
    """Of an `m.receipt`: each room, with the receipts of a type by user. Rooms without any are left out."""
    for room_id, kinds in islice(content.items(), MOST_ROOMS):
        users = kinds.get(receipt_type) if isinstance(kinds, dict) else None
        if not isinstance(users, dict):
            continue
        found = {}
        for user_id, about in islice(users.items(), MOST_SAID):
            receipt = read(about, UserReceipt)
            if receipt is not None and receipt.event_ids:
                found[user_id] = receipt
        if found:
            yield room_id, found


def read_presence(content: Mapping[str, Any]) -> Iterator[UserPresence]:
    """The entries of an `m.presence`."""
    pushed = content.get("push")
    for entry in islice(pushed if isinstance(pushed, list) else (), MOST_SAID):
        presence = read(entry, UserPresence)
        if presence is not None:
            yield presence
