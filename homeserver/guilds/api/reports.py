"""`guilds/{guild_id}/reports`: what members reported in the rooms of a guild, and what was done about it.

Members report by the Matrix API (`homeserver.client.report`), whichever server they are of, or by a call here. Whoever
holds `manage_messages` in a channel deals with what was reported there; for the guild's own room it must be held in the
guild.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from homeserver.clock import Clock
from homeserver.errors import InvalidParam, NotFound
from homeserver.guilds.api.desk import Desk, require_channel
from homeserver.guilds.api.fields import API, Id, Limit, Reason
from homeserver.guilds.model import Guild
from homeserver.guilds.permissions import MANAGE_MESSAGES
from homeserver.guilds.ranks import check_permission
from homeserver.http.route import VISITOR, Requester, route
from homeserver.reports import MOST_LISTED, Reports
from storage.database import Database
from storage.guilds import add_audit_aside
from storage.reports import DISMISSED, OPEN, RESOLVED, Report

ALL = f"{API}/guilds/{{guild_id}}/reports"
NO_REPORT = "There is no such report in this guild"

State = Literal["open", "resolved", "dismissed"]
ACTIONS = {OPEN: "report.reopen", RESOLVED: "report.resolve", DISMISSED: "report.dismiss"}


class ReportAnswer(msgspec.Struct, frozen=True):
    id: str
    room_id: str
    event_id: str | None
    """None where the room itself was reported."""
    user_id: str | None
    """Who sent the event."""
    reporter: str
    reason: str
    ts: int
    state: State
    note: str | None
    """What was done, in words."""
    decided_by: str | None
    decided_ts: int | None


class ReportPage(msgspec.Struct, frozen=True, omit_defaults=True):
    reports: list[ReportAnswer]
    """Newest first."""
    next: str | None = None
    """Absent on the last page."""


class ListReports(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    guild_id: str
    limit: Limit = 50
    from_: str | None = None
    state: State | None = None


class MakeReport(msgspec.Struct, frozen=True):
    guild_id: str
    room_id: Id
    """A channel, or the guild itself."""
    event_id: Id | None = None
    """None: the room is reported."""
    reason: str = ""


class Decide(msgspec.Struct, frozen=True):
    guild_id: str
    report_id: str
    state: State
    note: Reason | None = None


@route("GET", ALL, auth=VISITOR, rate="read", query=("limit", "from", "state"))
async def list_reports(desk: Desk, reports: Reports, who: Requester, ask: ListReports) -> ReportPage:
    """Reports of the guild's rooms, newest first. Needs `manage_messages`, in the guild or in some channel."""
    guild = await desk.guild(ask.guild_id, who.user_id)
    room_ids = _rooms_of(guild, who.user_id)
    before = None if ask.from_ is None else _parse_number(ask.from_)
    if ask.from_ is not None and before is None:
        raise InvalidParam("`from` is no place in the list")
    limit = min(ask.limit, MOST_LISTED - 1)
    found = await reports.page(before, limit + 1, room_ids=room_ids, state=ask.state)
    page = found[:limit]
    return ReportPage([_answer(one) for one in page], str(page[-1].nid) if len(found) > limit else None)


@route("POST", ALL, auth=VISITOR, rate="report")
async def make_report(desk: Desk, reports: Reports, who: Requester, ask: MakeReport) -> None:
    """Report a message, or all of a room, to those who moderate the guild. So do the Matrix API's calls."""
    guild = await desk.guild(ask.guild_id, who.user_id)
    if ask.room_id != ask.guild_id:
        require_channel(guild, who.user_id, ask.room_id)
    if ask.event_id is None:
        await reports.room(who.user_id, ask.room_id, ask.reason)
    else:
        await reports.event(who.user_id, ask.room_id, ask.event_id, ask.reason)


@route("PATCH", f"{ALL}/{{report_id}}", auth=VISITOR, rate="write")
async def decide_report(
    desk: Desk, reports: Reports, database: Database, clock: Clock, who: Requester, ask: Decide
) -> ReportAnswer:
    """Say what became of a report; the audit log tells it. Needs `manage_messages` where it happened."""
    room, guild = await desk.look(ask.guild_id, who.user_id)
    room_ids = _rooms_of(guild, who.user_id)
    number = _parse_number(ask.report_id)
    before = None if number is None else await reports.get(number)
    if number is None or before is None or before.room_id not in room_ids:
        raise NotFound(NO_REPORT)
    note = None if ask.note is None else ask.note.replace("\0", "")
    after = await reports.decide(number, who.user_id, ask.state, note)
    if after is None:
        raise NotFound(NO_REPORT)
    told = [msgspec.json.encode({"state": one.state, "note": one.resolution}) for one in (before, after)]
    position = desk.editor.door.means.counters.position - 1  # edits take the next
    await database.write(
        add_audit_aside,
        room.nid,
        position,
        ts=clock.now_ms(),
        user_id=who.user_id,
        action=ACTIONS[ask.state],
        target=before.event_id or before.room_id,
        before=told[0],
        after=told[1],
    )
    return _answer(after)


def _rooms_of(guild: Guild, user_id: str) -> list[str]:
    """Where somebody deals with reports. Raises Forbidden where that is nowhere."""
    found = [
        channel.room_id
        for channel in guild.channels_in_order()
        if guild.permissions(user_id, channel) & MANAGE_MESSAGES
    ]
    if guild.permissions(user_id) & MANAGE_MESSAGES:
        found.append(guild.room_id)
    if not found:
        check_permission(guild, user_id, MANAGE_MESSAGES)
    return found


def _parse_number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) else None


def _answer(report: Report) -> ReportAnswer:
    assert report.room_id is not None
    return ReportAnswer(
        str(report.nid),
        report.room_id,
        report.event_id,
        report.user_id,
        report.reporter,
        report.reason,
        report.created_ts,
        report.state,
        report.resolution,
        report.resolved_by,
        report.resolved_ts,
    )
