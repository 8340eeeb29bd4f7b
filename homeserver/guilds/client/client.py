"""What is asked of the API apart from a single guild: which there are, codes, friends."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from homeserver.guilds.client.guild import GuildClient
from homeserver.guilds.client.session import Caller, at


@frozen
class GuildsClient:
    """The API as somebody sees it."""

    caller: Caller

    def mine(self) -> list[dict[str, Any]]:
        """The guilds that one is in."""
        return list(self.caller.call("GET", at("guilds"))["guilds"])

    def guild(self, guild_id: str) -> GuildClient:
        return GuildClient(self.caller, guild_id)

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
