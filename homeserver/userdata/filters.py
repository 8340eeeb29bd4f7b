"""Filters that clients upload once and then name: kept as they were sent, compiled when they are used.

Spec: https://spec.matrix.org/v1.19/client-server-api/#filtering
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import orjson

from homeserver.errors import InvalidParam, NotFound
from homeserver.sync.filters import NO_FILTER, Filter, parse_filter, parse_inline_filter
from storage import filters as rows
from storage.database import Database

MAX_HELD = 1000


class FilterService:
    """Keeps filters and gives them out compiled. Holds those in use, so that a repeated /sync parses nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._held: OrderedDict[tuple[str, int], Filter] = OrderedDict()

    async def create(self, user_id: str, json: Mapping[str, Any]) -> str:
        """Keep a filter and give its id; the same filter keeps its id. Raises BadJson naming the field."""
        compiled = parse_filter(json)
        number = await self._database.write(rows.add, user_id, orjson.dumps(json, option=orjson.OPT_SORT_KEYS))
        self._hold(user_id, number, compiled)
        return str(number)

    async def get(self, user_id: str, filter_id: str) -> bytes:
        """A filter as JSON. Raises NotFound."""
        json = None
        if (number := _number(filter_id)) is not None:
            json = await self._database.run(rows.get, user_id, number)
        if json is None:
            raise NotFound("There is no such filter")
        return json

    async def resolve(self, user_id: str, text: str | None) -> Filter:
        """The `filter` of a /sync: an id, JSON, or nothing. Raises InvalidParam for an unknown id, BadJson for JSON
        that is no filter.
        """
        if not text:
            return NO_FILTER
        if text[0] == "{":
            return parse_inline_filter(text)
        number = _number(text)
        if number is None:
            raise InvalidParam("`filter` is neither a filter's id nor a JSON object")
        held = self._held.get((user_id, number))
        if held is not None:
            self._held.move_to_end((user_id, number))
            return held
        json = await self._database.run(rows.get, user_id, number)
        if json is None:
            raise InvalidParam("`filter` names no filter of yours")
        compiled = parse_filter(orjson.loads(json))
        self._hold(user_id, number, compiled)
        return compiled

    async def account_registered(self, user_id: str, displayname: str | None) -> None:
        """A new account has none yet (`homeserver.accounts.ports.AccountListener`)."""

    async def account_deactivated(self, user_id: str, *, erase: bool) -> None:
        """The account is closed: its filters are of no use any more."""
        await self._database.write(rows.delete_all, user_id)

    def _hold(self, user_id: str, number: int, compiled: Filter) -> None:
        self._held[user_id, number] = compiled
        if len(self._held) > MAX_HELD:
            self._held.popitem(last=False)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else None
