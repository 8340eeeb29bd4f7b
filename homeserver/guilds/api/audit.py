"""`guilds/{guild_id}/audit`: who changed what in a guild, with what it was before and after."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import orjson

from homeserver.errors import InvalidParam
from homeserver.guilds.api.desk import Desk
from homeserver.guilds.api.fields import API, Limit
from homeserver.guilds.permissions import MANAGE_GUILD
from homeserver.guilds.ranks import check_permission
from homeserver.http.route import VISITOR, Requester, route
from storage.database import Database
from storage.guilds import AuditEntry, read_audit

MOST_ENTRIES = 200
"""In one answer."""


class AuditAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    ts: int
    user_id: str
    action: str
    target: str
    """A role, category, room or user id."""
    before: dict[str, Any]
    """What it was, as in the guild's state; empty where there was nothing."""
    after: dict[str, Any]
    reason: str | None = None


class AuditPage(msgspec.Struct, frozen=True, omit_defaults=True):
    entries: list[AuditAnswer]
    """Newest first."""
    next: str | None = None
    """Absent on the last page."""


class ReadAudit(msgspec.Struct, frozen=True):
    guild_id: str
    limit: Limit = 50
    from_: str | None = msgspec.field(name="from", default=None)


@route("GET", f"{API}/guilds/{{guild_id}}/audit", auth=VISITOR, rate="read", query=("limit", "from"))
async def get_audit(desk: Desk, database: Database, who: Requester, ask: ReadAudit) -> AuditPage:
    """The guild's audit log, newest first. Needs `manage_guild`."""
    room, guild = await desk.look(ask.guild_id, who.user_id)
    check_permission(guild, who.user_id, MANAGE_GUILD)
    start = None if ask.from_ is None else _parse_place(ask.from_)
    limit = min(ask.limit, MOST_ENTRIES)
    entries = await database.run(read_audit, room.nid, start, limit + 1)
    page = [_answer(entry) for entry in entries[:limit]]
    last = entries[limit - 1] if len(entries) > limit else None
    return AuditPage(page, None if last is None else f"{last.position}.{last.number}")


def _answer(entry: AuditEntry) -> AuditAnswer:
    before, after = (None if one is None else orjson.loads(one) for one in (entry.before, entry.after))
    return AuditAnswer(entry.ts, entry.user_id, entry.action, entry.target, before or {}, after or {}, entry.reason)


def _parse_place(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,18})\.([0-9]{1,9})", text, re.ASCII)
    if found is None:
        raise InvalidParam("`from` is no place in the audit log")
    return int(found[1]), int(found[2])
