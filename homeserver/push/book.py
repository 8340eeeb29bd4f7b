"""Everybody's push rules where they are kept: in their account data, so that all devices hear of changes by `/sync`.

Spec: https://spec.matrix.org/v1.19/client-server-api/#push-rules-events
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from federation.service import service
from homeserver.errors import MatrixError
from homeserver.push.rules import TYPE, Rules, complete, inherit
from homeserver.userdata.account_data import GLOBAL, AccountData


@service
class RuleBook:
    """Reads and changes rules."""

    account_data: AccountData

    async def of(self, user_id: str) -> Rules:
        content = await self.account_data.get(user_id, GLOBAL, TYPE)
        return complete(user_id, {} if content is None else orjson.loads(content))

    async def change(self, user_id: str, change: Callable[[Rules], None]) -> None:
        """Change somebody's rules in one transaction: all of it, or nothing where `change` raises MatrixError.

        Durable when it answers. What makes no difference is no change.
        """
        wrong: list[MatrixError] = []

        def edit(content: dict[str, Any]) -> dict[str, Any] | None:
            wrong.clear()
            rules = complete(user_id, content)
            try:
                change(rules)
            except MatrixError as error:
                wrong.append(error)  # raised here, it would have the whole batch of writes done again
                return None
            return None if content == {"global": rules} else {"global": rules}

        await self.account_data.edit(user_id, GLOBAL, TYPE, edit)
        if wrong:
            raise wrong[0]

    async def room_replaced(self, user_id: str, old_room_id: str, new_room_id: str) -> None:
        """Somebody is in the room's successor now (`homeserver.userdata.heirlooms.Heir`)."""
        await self.change(user_id, lambda rules: inherit(rules, old_room_id, new_room_id))


def first_rules(user_id: str) -> bytes:
    """The content of `m.push_rules` for somebody who has changed nothing."""
    return orjson.dumps({"global": complete(user_id, {})})
