"""Whom people ignore: nothing that those say is shown to them, but for state, which a room would look odd without.

Spec: https://spec.matrix.org/v1.19/client-server-api/#ignoring-users
"""

from __future__ import annotations

from typing import Protocol

import orjson

from federation.bounded import Bounded
from storage import account_data as rows
from storage.account_data import GLOBAL, AccountDatum
from storage.database import Database

IGNORED = "m.ignored_user_list"

MOST_REMEMBERED = 10_000
"""People whose lists are in memory; most of them are empty."""

NOBODY: frozenset[str] = frozenset()


class Ignorance(Protocol):
    """Knows whom people ignore."""

    async def of(self, user_id: str) -> frozenset[str]: ...


class Ignoring:
    """The lists of this server's people, from memory where they were read before."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: Bounded[str, frozenset[str]] = Bounded(MOST_REMEMBERED)
        self._changes = 0

    async def of(self, user_id: str) -> frozenset[str]:
        """Whom a user ignores now."""
        known = self._known.get(user_id)
        if known is not None:
            return known
        before = self._changes
        found = parse_ignored(await self._database.run(rows.get, user_id, GLOBAL, IGNORED))
        if before == self._changes:
            self._known.put(user_id, found)
        return found

    def data_changed(self, user_id: str, datum: AccountDatum) -> None:
        """Somebody's account data changed (`AccountData.listeners`)."""
        if datum.type == IGNORED and datum.room_nid == GLOBAL:
            self._changes += 1
            self._known.put(user_id, parse_ignored(datum.content))


def parse_ignored(content: bytes | None) -> frozenset[str]:
    """The user ids in the account data's JSON; nobody where there is none, or it makes no sense."""
    named = orjson.loads(content).get("ignored_users") if content is not None else None
    return frozenset(named) if isinstance(named, dict) and named else NOBODY
