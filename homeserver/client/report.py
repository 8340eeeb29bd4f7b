"""`POST /_matrix/client/v3/…/report…`: tell those who moderate of an event, a room or a person.

Spec: https://spec.matrix.org/v1.19/client-server-api/#reporting-content
"""

from __future__ import annotations

import msgspec

from homeserver.http.route import USER, Requester, route
from homeserver.reports import Reports


class ReportEvent(msgspec.Struct, frozen=True):
    room_id: str
    event_id: str
    reason: str = ""


class ReportRoom(msgspec.Struct, frozen=True):
    room_id: str
    reason: str


class ReportUser(msgspec.Struct, frozen=True):
    user_id: str
    reason: str


@route("POST", "/_matrix/client/v3/rooms/{room_id}/report/{event_id}", auth=USER, rate="report")
async def report_event(reports: Reports, who: Requester, ask: ReportEvent) -> None:
    await reports.event(who.user_id, ask.room_id, ask.event_id, ask.reason)


@route("POST", "/_matrix/client/v3/rooms/{room_id}/report", auth=USER, rate="report")
async def report_room(reports: Reports, who: Requester, ask: ReportRoom) -> None:
    await reports.room(who.user_id, ask.room_id, ask.reason)


@route("POST", "/_matrix/client/v3/users/{user_id}/report", auth=USER, rate="report")
async def report_user(reports: Reports, who: Requester, ask: ReportUser) -> None:
    await reports.user(who.user_id, ask.user_id, ask.reason)
