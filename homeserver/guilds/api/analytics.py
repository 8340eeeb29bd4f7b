"""`…/analytics`: how much a guild and its channels are used, or any other room, by day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

from homeserver.clock import Clock
from homeserver.errors import InvalidParam
from homeserver.guilds.api.desk import Desk
from homeserver.guilds.api.fields import API
from homeserver.guilds.permissions import VIEW_ANALYTICS, VIEW_CHANNEL
from homeserver.guilds.ranks import check_permission
from homeserver.guilds.rights import RoomRights
from homeserver.http.route import USER, VISITOR, Requester, route
from homeserver.records.activity import DAY_MS, Activity
from storage.activity import NOTHING, Key, Tally

USUAL_DAYS = 30
MOST_DAYS = 366
EPOCH = date(1970, 1, 1)

Moment = Annotated[int, Meta(ge=0, le=2**53 - 1)]
"""In ms since 1970."""


class Day(msgspec.Struct, frozen=True):
    day: str
    """`2026-11-27`, in UTC."""
    messages: int
    """Without reactions and edits."""
    active_members: int
    """How many people said something, be it a reaction."""
    joins: int
    leaves: int
    """Kicks and bans among them."""


class RoomFigures(msgspec.Struct, frozen=True):
    room_id: str
    days: list[Day]
    """Every day of the time that was asked for, the oldest first."""


class GuildFigures(msgspec.Struct, frozen=True):
    days: list[Day]
    """`messages`: in the channels that are listed; `active_members`: in all of the guild."""
    channels: list[RoomFigures]
    """Those that the caller may view, in order."""


class OfGuild(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    guild_id: str
    from_: Moment | None = None
    to: Moment | None = None


class OfRoom(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    room_id: str
    from_: Moment | None = None
    to: Moment | None = None


@route("GET", f"{API}/guilds/{{guild_id}}/analytics", auth=VISITOR, rate="read", query=("from", "to"))
async def get_guild_analytics(
    desk: Desk, activity: Activity, clock: Clock, who: Requester, ask: OfGuild
) -> GuildFigures:
    """What happened in a guild by day, the last 30 unless said otherwise. Needs `view_analytics`."""
    room, guild = await desk.look(ask.guild_id, who.user_id)
    check_permission(guild, who.user_id, VIEW_ANALYTICS)
    days = _days(ask.from_, ask.to, clock.now_ms())
    nids: dict[str, int] = {}
    for channel in guild.channels_in_order():
        if guild.permissions(who.user_id, channel) & VIEW_CHANNEL:
            found = await desk.rooms.get(channel.room_id)
            if found is not None:
                nids[channel.room_id] = found.nid
    told = await activity.read([room.nid, *nids.values()], days[0], days[-1])
    whole: dict[Key, Tally] = {}
    for day in days:
        of_room = told.get((room.nid, day), NOTHING)
        in_channels = sum(told.get((nid, day), NOTHING).messages for nid in nids.values())
        whole[room.nid, day] = of_room.plus(messages=in_channels)
    channels = [RoomFigures(room_id, _figures(nid, days, told)) for room_id, nid in nids.items()]
    return GuildFigures(_figures(room.nid, days, whole), channels)


@route("GET", f"{API}/rooms/{{room_id}}/analytics", auth=USER, rate="read", query=("from", "to"))
async def get_room_analytics(
    rights: RoomRights, activity: Activity, clock: Clock, who: Requester, ask: OfRoom
) -> RoomFigures:
    """What happened in a room by day. Needs `view_analytics`; elsewhere, to be one who may change the room."""
    room = await rights.member(ask.room_id, who.user_id)
    await rights.check(room, who.user_id, VIEW_ANALYTICS)
    days = _days(ask.from_, ask.to, clock.now_ms())
    told = await activity.read([room.nid], days[0], days[-1])
    return RoomFigures(room.room_id, _figures(room.nid, days, told))


def _days(start_ts: int | None, end_ts: int | None, now: int) -> Sequence[int]:
    """The days from one moment to another, both included. Raises InvalidParam."""
    last = (now if end_ts is None else min(end_ts, now)) // DAY_MS
    first = last - USUAL_DAYS + 1 if start_ts is None else start_ts // DAY_MS
    first = max(first, 0)
    if first > last:
        raise InvalidParam("`from` is after `to`, or has not come yet")
    if last - first >= MOST_DAYS:
        raise InvalidParam(f"`from` is more than {MOST_DAYS} days before `to`")
    return range(first, last + 1)


def _figures(room_nid: int, days: Sequence[int], told: Mapping[Key, Tally]) -> list[Day]:
    found = []
    for day in days:
        tally = told.get((room_nid, day), NOTHING)
        name = (EPOCH + timedelta(days=day)).isoformat()
        found.append(Day(name, tally.messages, tally.active, tally.joins, tally.leaves))
    return found
