"""What is asked of the API apart from a single guild: which there are, codes, friends."""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.guilds.client.guild import GuildClient
from homeserver.guilds.client.room import RoomClient
from homeserver.guilds.client.session import Caller, at


class GuildsClient(msgspec.Struct, frozen=True):
    """The API as somebody sees it."""

    caller: Caller

    def mine(self) -> list[dict[str, Any]]:
        """The guilds that one is in."""
        return list(self.caller.call("GET", at("guilds"))["guilds"])

    def guild(self, guild_id: str) -> GuildClient:
        return GuildClient(self.caller, guild_id)

    def room(self, room_id: str) -> RoomClient:
        return RoomClient(self.caller, room_id)

    def create(self, name: str, **more: Any) -> GuildClient:
        """Make a guild. `more`: `topic`, `icon`, `banner`, `template`."""
        made = self.caller.call("POST", at("guilds"), {"name": name, **more})
        return self.guild(made["guild_id"])

    def invite(self, code: str) -> dict[str, Any]:
        """What a code leads to; for that one need not be logged in."""
        return dict(self.caller.call("GET", at("invites", code)))

    def join_by(self, code: str) -> dict[str, Any]:
        """Come into a guild by a code; `CODE@server` is one of another server's."""
        return dict(self.caller.call("POST", at("invites", code, "join"), {}))

    # -- friends and direct messages ---------------------------------------------------------------------------

    def friends(self) -> dict[str, Any]:
        """`friends`, and the requests that are `incoming` and `outgoing`."""
        return dict(self.caller.call("GET", at("friends")))

    def ask_friend(self, user_id: str) -> None:
        self.caller.call("POST", at("friends", "requests"), {"user_id": user_id})

    def accept_friend(self, user_id: str) -> None:
        self._answer(user_id, "accept")

    def decline_friend(self, user_id: str) -> None:
        self._answer(user_id, "decline")

    def cancel_friend(self, user_id: str) -> None:
        """Take one's own request back."""
        self._answer(user_id, "cancel")

    def _answer(self, user_id: str, how: str) -> None:
        self.caller.call("POST", at("friends", "requests", user_id, how), {})

    def unfriend(self, user_id: str) -> None:
        self.caller.call("DELETE", at("friends", user_id))

    def dms(self) -> list[dict[str, Any]]:
        """One's direct rooms, and with whom they are."""
        return list(self.caller.call("GET", at("dms"))["dms"])

    def dm(self, user_id: str) -> str:
        """The direct room with somebody, made if there is none; its id."""
        return str(self.caller.call("POST", at("dms"), {"user_id": user_id})["room_id"])

    # -- oneself -----------------------------------------------------------------------------------------------

    def set_status(self, status: str, **more: str | None) -> None:
        """`status`: online, away, busy or invisible; `more`: `status_msg`."""
        self.caller.call("PUT", at("status"), {"status": status, **more})

    def mute(self, room_id: str, until_ts: int | None = None) -> None:
        """Hear nothing of a room, for good or until then (ms since 1970)."""
        self.caller.call("PUT", at("mutes", room_id), {} if until_ts is None else {"until_ts": until_ts})

    def unmute(self, room_id: str) -> None:
        self.caller.call("DELETE", at("mutes", room_id))

    # -- voice messages ----------------------------------------------------------------------------------------

    def transcript(self, server_name: str, media_id: str) -> dict[str, Any]:
        """What is said in an audio file, or how far one is with writing it down; asking begins it."""
        return dict(self.caller.call("GET", at("media", server_name, media_id, "transcript")))

    def waveform(self, server_name: str, media_id: str) -> dict[str, Any]:
        """How loud an audio file is over its time, and how long that is."""
        return dict(self.caller.call("GET", at("media", server_name, media_id, "waveform")))
