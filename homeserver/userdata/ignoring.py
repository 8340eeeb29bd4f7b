"""Whom people ignore: nothing that those say is shown to them, but for state, which a room would look odd without.

Spec: https://spec.matrix.org/v1.19/client-server-api/#ignoring-users
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import orjson

from homeserver.userdata.known import Known
from storage.database import Database

IGNORED = "m.ignored_user_list"

NOBODY: frozenset[str] = frozenset()


class Ignorance(Protocol):
    """Knows whom people ignore."""

    async def of(self, user_id: str) -> frozenset[str]: ...


class Ignoring(Known[frozenset[str]]):
    """The lists of this server's people."""

    def __init__(self, database: Database, never: Collection[str] = ()) -> None:
        """`never`: accounts of the server's own, which nobody can ignore."""
        super().__init__(database, IGNORED, lambda content: parse_ignored(content).difference(never))


def parse_ignored(content: bytes | None) -> frozenset[str]:
    """The user ids in the account data's JSON; nobody where there is none, or it makes no sense."""
    named = orjson.loads(content).get("ignored_users") if content is not None else None
    return frozenset(named) if isinstance(named, dict) and named else NOBODY


def without_ignored(events: Sequence[bytes], ignored: frozenset[str]) -> list[bytes]:
    """Typing, receipts and presence (as JSON) without what they tell of ignored people."""
    if not ignored:
        return list(events)
    return [kept for event in events if (kept := _without(event, ignored)) is not None]


def _without(event: bytes, ignored: frozenset[str]) -> bytes | None:
    parsed = orjson.loads(event)
    content = parsed["content"]
    match parsed["type"]:
        case "m.presence":
            return None if parsed["sender"] in ignored else event
        case "m.typing":
            # That nobody is typing any more is news too.
            content["user_ids"] = [user_id for user_id in content["user_ids"] if user_id not in ignored]
        case "m.receipt":
            for types in content.values():
                for receipt_type, users in types.items():
                    types[receipt_type] = {user_id: one for user_id, one in users.items() if user_id not in ignored}
            kept = {
                event_id: there
                for event_id, types in content.items()
                if (there := {receipt_type: users for receipt_type, users in types.items() if users})
            }
            if not kept:
                return None
            parsed["content"] = kept
    return orjson.dumps(parsed)
