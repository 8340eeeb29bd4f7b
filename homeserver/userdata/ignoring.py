"""Whom people ignore: nothing that those say is shown to them, but for state, which a room would look odd without.

Spec: https://spec.matrix.org/v1.19/client-server-api/#ignoring-users
"""

from __future__ import annotations

import orjson

from storage import account_data as rows
from storage.account_data import GLOBAL
from storage.ports import Cursor

IGNORED = "m.ignored_user_list"


def parse_ignored(content: bytes | None) -> frozenset[str]:
    """The user ids in the account data's JSON; nobody where there is none, or it makes no sense."""
    named = orjson.loads(content).get("ignored_users") if content is not None else None
    return frozenset(named) if isinstance(named, dict) else frozenset()


def read_ignored(cursor: Cursor, user_id: str) -> frozenset[str]:
    """Whom a user ignores. In a database thread."""
    return parse_ignored(rows.get(cursor, user_id, GLOBAL, IGNORED))
