"""Account data that the server itself heeds, as a value, from memory where it was read before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from federation.bounded import Bounded
from storage import account_data as rows
from storage.account_data import GLOBAL, AccountDatum
from storage.database import Database

T = TypeVar("T")

MOST_REMEMBERED = 10_000
"""People whose data of one type are in memory; most of them have none."""


class Known(Generic[T]):
    """One type of global account data, of this server's people. A listener of `AccountData`."""

    def __init__(self, database: Database, event_type: str, parse: Callable[[bytes | None], T]) -> None:
        """`parse` is given the content as JSON; None where there is none. It must not raise, nor give None."""
        self._database = database
        self._type = event_type
        self._parse = parse
        self._known: Bounded[str, T] = Bounded(MOST_REMEMBERED)
        self._changes = 0

    async def of(self, user_id: str) -> T:
        """What somebody's data say now."""
        known = self._known.get(user_id)
        if known is not None:
            return known
        before = self._changes
        found = self._parse(await self._database.run(rows.get, user_id, GLOBAL, self._type))
        if before == self._changes:
            self._known.put(user_id, found)
        return found

    def data_changed(self, user_id: str, datum: AccountDatum) -> None:
        """Somebody's account data changed."""
        if datum.type == self._type and datum.room_nid == GLOBAL:
            self._changes += 1
            self._known.put(user_id, self._parse(datum.content))
