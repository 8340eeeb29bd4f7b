"""The calls of voice: coming in, going, how one is heard and seen, finding a way for the media, and moderating.

Who may come in is decided where the membership is sent, as for any client: `connect` in guilds, levels elsewhere.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec
import structlog
from attrs import define

from homeserver.clock import Clock
from homeserver.delayed.clockwork import Clockwork
from homeserver.errors import Forbidden, InvalidParam, MatrixError, NotFound
from homeserver.gateway.calls import ROOMS, Caller, Calls, Http, Text, at, convert
from homeserver.gateway.voice.booth import Booth, Roll, Seat
from homeserver.gateway.voice.memberships import CALL_MEMBER, content, state_key
from homeserver.guilds.book import GuildBook
from homeserver.guilds.model import VOICE, Channel, Guild
from homeserver.guilds.permissions import (
    CONNECT,
    DEAFEN_MEMBERS,
    MOVE_MEMBERS,
    MUTE_MEMBERS,
    SPEAK,
    STREAM,
    VIEW_CHANNEL,
    Permissions,
)
from homeserver.guilds.ranks import check_above, check_permission
from homeserver.guilds.steward import guild_id_of
from homeserver.http.limits import RateLimiter
from homeserver.http.route import Requester
from homeserver.rooms.access import RoomAccess
from homeserver.rooms.live import LiveRoom

GRACE_MS = 30_000
"""How long somebody whose connection died stays in a channel."""
LARGEST_SIGNAL = 64 * 1024
"""Characters of an offer, answer or candidate."""

NOT_IN = "You are in no voice channel"

_log = structlog.get_logger("homeserver.gateway")


class Everyone(Protocol):
    """Who is connected: `homeserver.gateway.lobby`."""

    def is_here(self, who: Requester) -> bool:
        """Whether the device is connected."""

    def push_to(self, user_id: str, kind: str, data: Mapping[str, Any], device_id: str | None = None) -> bool:
        """Say something to a person's connections, or those of one device. Whether there are any."""


class Join(msgspec.Struct, frozen=True):
    room_id: Text


class SetState(msgspec.Struct, frozen=True):
    muted: bool | None = None
    deafened: bool | None = None
    camera: bool | None = None
    screen: bool | None = None
    speaking: bool | None = None


class Signal(msgspec.Struct, frozen=True):
    to: Text
    """A user."""
    kind: Literal["offer", "answer", "candidate"]
    data: Any
    device_id: Text | None = None
    """One of the user's devices, where there are several in the channel."""


class Moderate(msgspec.Struct, frozen=True):
    user_id: Text
    mute: bool | None = None
    deafen: bool | None = None
    move_to: Text | None = None


@define(eq=False)
class VoiceDesk:
    """Its methods are calls."""

    _calls: Calls
    _access: RoomAccess
    _book: GuildBook
    _clockwork: Clockwork
    _limits: RateLimiter
    _everyone: Everyone
    _clock: Clock
    roll: Roll

    @property
    def booth(self) -> Booth:
        return self.roll.booth

    # -- calls -------------------------------------------------------------------------------------------------

    async def join(self, caller: Caller, who: Requester, params: Mapping[str, Any]) -> object:
        ask: Join = convert(params, Join)
        seat = await self._enter(who, ask.room_id)
        room = await self._access.member(seat.room_id, who.user_id)
        return {"room_id": seat.room_id, "members": await self.roll.of(room)}

    async def leave(self, caller: Caller, who: Requester, params: Mapping[str, Any]) -> object:
        seat = self.booth.seat(who)
        if seat is not None:
            await self._leave(seat)
        return {}

    async def set_state(self, caller: Caller, who: Requester, params: Mapping[str, Any]) -> object:
        ask: SetState = convert(params, SetState)
        seat, room = await self._seat(who)
        held = await self._permissions(room, who.user_id)
        if held is not None and (ask.camera or ask.screen) and not held & STREAM:
            raise Forbidden("You need the permission `stream`")
        if ask.muted is False and seat.is_silenced:
            raise Forbidden("A moderator muted you")
        if ask.deafened is False and seat.is_deafened:
            raise Forbidden("A moderator deafened you")
        if ask.muted is False and held is not None and not held & SPEAK:
            raise Forbidden("You need the permission `speak`")
        before = seat.shown()
        for name in ("muted", "deafened", "camera", "screen", "speaking"):
            if (value := getattr(ask, name)) is not None:
                setattr(seat, name, value)
        if seat.shown() != before:
            await self._tell(room)
        return {}

    async def signal(self, caller: Caller, who: Requester, params: Mapping[str, Any]) -> object:
        ask: Signal = convert(params, Signal)
        self._limits.charge("to_device", who.user_id)
        if len(msgspec.json.encode(ask.data)) > LARGEST_SIGNAL:
            raise MatrixError(413, "M_TOO_LARGE", f"`params.data` has at most {LARGEST_SIGNAL} characters")
        seat, room = await self._seat(who)
        data = {
            "room_id": seat.room_id,
            "from": who.user_id,
            "device_id": who.device_id,
            "kind": ask.kind,
            "data": ask.data,
        }
        reached = False
        for other in self.booth.of_user(ask.to):
            is_meant = ask.device_id in (None, other.who.device_id) and other is not seat
            if is_meant and other.room_id == seat.room_id and await self._may(room, ask.to, CONNECT):
                reached |= self._everyone.push_to(ask.to, "voice.signal", data, other.who.device_id)
        if not reached:
            raise NotFound("`to` is not in your voice channel over this server's gateway")
        return {}

    async def moderate(self, caller: Caller, who: Requester, params: Mapping[str, Any]) -> object:
        ask: Moderate = convert(params, Moderate)
        if ask.mute is None and ask.deafen is None and ask.move_to is None:
            raise InvalidParam("`params` has `mute`, `deafen` or `move_to`")
        for seat in self.booth.of_user(ask.user_id):
            room = await self._access.rooms.require(seat.room_id)
            guild, channel = await self._place(room)
            if guild is None or channel is None or not guild.permissions(who.user_id, channel) & VIEW_CHANNEL:
                continue
            home = await self._access.rooms.require(guild.room_id)
            if home.membership_of(who.user_id) != "join":
                continue
            await self._moderate(who, ask, seat, room, guild, channel)
            return {}
        raise NotFound("`user_id` is in no voice channel that you may view")

    async def _moderate(
        self, who: Requester, ask: Moderate, seat: Seat, room: LiveRoom, guild: Guild, channel: Channel
    ) -> None:
        needed = ((ask.mute, MUTE_MEMBERS), (ask.deafen, DEAFEN_MEMBERS), (ask.move_to, MOVE_MEMBERS))
        for value, permission in needed:
            if value is not None:
                check_permission(guild, who.user_id, permission, channel)
        if ask.user_id != who.user_id:
            check_above(guild, who.user_id, ask.user_id)
        if ask.move_to is not None:
            target = guild.channels.get(ask.move_to)
            if target is None or not guild.permissions(who.user_id, target) & VIEW_CHANNEL:
                raise NotFound("`move_to`: there is no such channel in this guild")
            check_permission(guild, who.user_id, MOVE_MEMBERS, target)
            if target.kind != VOICE or not guild.permissions(ask.user_id, target) & CONNECT:
                raise Forbidden("`move_to`: they may not connect there")
        if ask.mute is not None:
            seat.is_silenced = ask.mute
        if ask.deafen is not None:
            seat.is_deafened = ask.deafen
        if ask.mute is not None or ask.deafen is not None:
            await self._tell(room)
        if ask.move_to is not None and ask.move_to != seat.room_id:
            moved = await self._enter(seat.who, ask.move_to)
            moved.is_silenced, moved.is_deafened = seat.is_silenced, seat.is_deafened

    # -- what others ask ---------------------------------------------------------------------------------------

    async def beat(self) -> None:
        """Put off the end of those who are still connected; the others' comes by itself. To be called now and then."""
        for seat in self.booth:
            if self._everyone.is_here(seat.who):
                try:
                    await self._clockwork.restart(seat.delay_id, seat.who.user_id)
                except MatrixError:
                    self.booth.leave(seat)  # it has come to its end all the same, as by a kick

    async def show(self, who: Requester) -> None:
        """Tell a device that was away how those in calls are heard and seen by now."""
        for room_id in dict.fromkeys(seat.room_id for seat in self.booth):
            room = await self._access.rooms.get(room_id)
            if room is not None and who.user_id in room.local_joined:
                data = {"room_id": room_id, "members": await self.roll.of(room)}
                self._everyone.push_to(who.user_id, "voice.state", data, who.device_id)

    # ----------------------------------------------------------------------------------------------------------

    async def _enter(self, who: Requester, room_id: str) -> Seat:
        room = await self._access.member(room_id, who.user_id)
        guild, channel = await self._place(room)
        if guild is not None and (channel is None or channel.kind != VOICE):
            raise InvalidParam("`room_id`: this is no voice channel")
        seated = self.booth.seat(who)
        if seated is not None and seated.room_id == room_id:
            return seated
        if seated is not None:
            await self._leave(seated)
        key = state_key(who.user_id, who.device_id)
        now_ms = self._clock.now_ms()
        path = f"{ROOMS}/{at(room_id, 'state', CALL_MEMBER, key)}"
        await self._calls.ask(who, Http("PUT", path, content(who.device_id, now_ms)))
        delay_id = await self._clockwork.add(
            who, room_id, CALL_MEMBER, {}, f"voice-{secrets.token_urlsafe(12)}", delay_ms=GRACE_MS, state_key=key
        )
        seat = Seat(who, room_id, delay_id)
        held = None if guild is None else guild.permissions(who.user_id, channel)
        seat.is_silenced = held is not None and not held & SPEAK
        self.booth.take(seat)
        return seat

    async def _leave(self, seat: Seat) -> None:
        self.booth.leave(seat)
        try:
            await self._clockwork.send(seat.delay_id, seat.who.user_id)
        except MatrixError as error:
            _log.info("a voice channel was left already", why=str(error))

    async def _seat(self, who: Requester) -> tuple[Seat, LiveRoom]:
        """Somebody's seat, and its room, of which it is still a member that may connect."""
        seat = self.booth.seat(who)
        if seat is None:
            raise NotFound(NOT_IN)
        room = await self._access.member(seat.room_id, who.user_id)
        if not await self._may(room, who.user_id, CONNECT):
            await self._leave(seat)
            raise Forbidden("You need the permission `connect`")
        return seat, room

    async def _may(self, room: LiveRoom, user_id: str, permission: Permissions) -> bool:
        held = await self._permissions(room, user_id)
        return room.membership_of(user_id) == "join" and (held is None or bool(held & permission))

    async def _permissions(self, room: LiveRoom, user_id: str) -> Permissions | None:
        """What somebody may do in a channel; None where the room is none."""
        guild, channel = await self._place(room)
        return None if guild is None else guild.permissions(user_id, channel)

    async def _place(self, room: LiveRoom) -> tuple[Guild | None, Channel | None]:
        guild_id = guild_id_of(room)
        home = None if guild_id is None else await self._access.rooms.get(guild_id)
        guild = None if home is None else await self._book.find(home)
        return guild, None if guild is None else guild.channels.get(room.room_id)

    async def _tell(self, room: LiveRoom) -> None:
        data = {"room_id": room.room_id, "members": await self.roll.of(room)}
        for user_id in list(room.local_joined):
            self._everyone.push_to(user_id, "voice.state", data)
