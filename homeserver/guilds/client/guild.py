"""One guild, as somebody who is in it sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from homeserver.guilds.client.session import Caller, Query, at

Json = dict[str, Any]


class GuildClient(msgspec.Struct, frozen=True):
    """The calls below `guilds/{guild_id}`. `changes` are the fields of a PATCH, named as in the answers."""

    caller: Caller
    guild_id: str

    def _call(self, method: str, *segments: str, body: object = None, query: Query | None = None) -> Any:
        return self.caller.call(method, at("guilds", self.guild_id, *segments), body, query)

    # -- the guild ---------------------------------------------------------------------------------------------

    def whole(self) -> Json:
        """Everything about it that one may see."""
        return dict(self._call("GET"))

    def edit(self, **changes: Any) -> None:
        self._call("PATCH", body=changes)

    def delete(self) -> None:
        self._call("DELETE")

    def join(self) -> None:
        self._call("POST", "join", body={})

    def leave(self) -> None:
        self._call("POST", "leave", body={})

    def hand_over(self, user_id: str) -> None:
        """Make somebody else the owner."""
        self._call("POST", "owner", body={"user_id": user_id})

    def arrange(self, layout: Sequence[Mapping[str, Any]]) -> None:
        """The whole order at once: `{category_id, channels}` for each category, and one of None for what is in none."""
        self._call("PUT", "layout", body={"layout": list(layout)})

    # -- members -----------------------------------------------------------------------------------------------

    def members(self, *, role: str | None = None, q: str | None = None, limit: int = 100) -> Iterator[Json]:
        """All of them, page by page. `role`: who has it; `q`: what their names begin with."""
        wanted = {key: value for key, value in (("role", role), ("q", q)) if value is not None}
        return self._pages("members", {**wanted, "limit": limit})

    def edit_member(self, user_id: str, **changes: Any) -> None:
        self._call("PATCH", "members", user_id, body=changes)

    def kick(self, user_id: str, reason: str | None = None, *, purge: bool = False) -> None:
        """Put somebody out. `purge`: with all that they said since they came."""
        self._put_out("kick", user_id, reason, purge)

    def ban(self, user_id: str, reason: str | None = None, *, purge: bool = False) -> None:
        """Put somebody out for good. `purge`: as in `kick`."""
        self._put_out("ban", user_id, reason, purge)

    def unban(self, user_id: str, reason: str | None = None) -> None:
        self._put_out("unban", user_id, reason)

    def _put_out(self, how: str, user_id: str, reason: str | None, purge: bool = False) -> None:
        body: Json = {} if reason is None else {"reason": reason}
        self._call("POST", "members", user_id, how, body={**body, "purge": True} if purge else body)

    def bans(self) -> list[Json]:
        return list(self._call("GET", "bans")["bans"])

    # -- roles and permissions ---------------------------------------------------------------------------------

    def roles(self) -> list[Json]:
        """Highest first."""
        return list(self._call("GET", "roles")["roles"])

    def create_role(self, name: str, **more: Any) -> str:
        """Make a role, just below one's own highest; its id. `more`: `color`, `permissions`, `hoist`, `mentionable`."""
        return str(self._call("POST", "roles", body={"name": name, **more})["role_id"])

    def edit_role(self, role_id: str, **changes: Any) -> None:
        self._call("PATCH", "roles", role_id, body=changes)

    def delete_role(self, role_id: str) -> None:
        self._call("DELETE", "roles", role_id)

    def order_roles(self, role_ids: Sequence[str]) -> None:
        """Highest first, without `admin` and `everyone`."""
        self._call("PUT", "roles", "order", body={"roles": list(role_ids)})

    def give_role(self, user_id: str, role_id: str) -> None:
        self._call("PUT", "members", user_id, "roles", role_id)

    def take_role(self, user_id: str, role_id: str) -> None:
        self._call("DELETE", "members", user_id, "roles", role_id)

    def permissions(self, user_id: str, channel: str | None = None) -> Json:
        """What somebody may do, in the guild or in a channel, and by which steps that comes about."""
        where = () if channel is None else ("channels", channel)
        return dict(self._call("GET", *where, "permissions", user_id))

    # -- categories and channels -------------------------------------------------------------------------------

    def create_category(self, name: str, **more: Any) -> str:
        """Its id. `more`: `overrides`."""
        return str(self._call("POST", "categories", body={"name": name, **more})["category_id"])

    def edit_category(self, category_id: str, **changes: Any) -> None:
        self._call("PATCH", "categories", category_id, body=changes)

    def delete_category(self, category_id: str) -> None:
        self._call("DELETE", "categories", category_id)

    def create_channel(self, name: str, kind: str = "text", **more: Any) -> str:
        """Its room id. `kind`: text, voice or announcement; `more`: `topic`, `category_id`, `overrides`."""
        return str(self._call("POST", "channels", body={"name": name, "kind": kind, **more})["room_id"])

    def edit_channel(self, room_id: str, **changes: Any) -> None:
        self._call("PATCH", "channels", room_id, body=changes)

    def delete_channel(self, room_id: str) -> None:
        self._call("DELETE", "channels", room_id)

    def override(self, room_id: str, target: str, allow: Sequence[str] = (), deny: Sequence[str] = ()) -> None:
        """What a role or a member may and may not do in a channel. The first copies those of its category."""
        self._call("PUT", "channels", room_id, "overrides", target, body={"allow": list(allow), "deny": list(deny)})

    def remove_override(self, room_id: str, target: str) -> None:
        self._call("DELETE", "channels", room_id, "overrides", target)

    def inherit(self, room_id: str) -> None:
        """Let a channel be as its category says again."""
        self._call("DELETE", "channels", room_id, "overrides")

    def override_category(
        self, category_id: str, target: str, allow: Sequence[str] = (), deny: Sequence[str] = ()
    ) -> None:
        body = {"allow": list(allow), "deny": list(deny)}
        self._call("PUT", "categories", category_id, "overrides", target, body=body)

    def remove_category_override(self, category_id: str, target: str) -> None:
        self._call("DELETE", "categories", category_id, "overrides", target)

    # -- invitations and emoji ---------------------------------------------------------------------------------

    def invites(self) -> list[Json]:
        return list(self._call("GET", "invites")["invites"])

    def create_invite(self, **more: Any) -> Json:
        """A code that lets people in. `more`: `max_uses`, `lifetime_ms`, `room_id`."""
        return dict(self._call("POST", "invites", body=more))

    def delete_invite(self, code: str) -> None:
        self._call("DELETE", "invites", code)

    def emoji(self) -> dict[str, Json]:
        return dict(self._call("GET", "emoji")["emoji"])

    def one_emoji(self, shortcode: str) -> Json:
        return dict(self._call("GET", "emoji", shortcode))

    def put_emoji(self, shortcode: str, url: str, **more: Any) -> None:
        """`url`: an mxc: URI; `more`: `info`."""
        self._call("PUT", "emoji", shortcode, body={"url": url, **more})

    def delete_emoji(self, shortcode: str) -> None:
        self._call("DELETE", "emoji", shortcode)

    # -- looking back ------------------------------------------------------------------------------------------

    def reports(self, *, state: str | None = None, limit: int = 50) -> Iterator[Json]:
        """What members reported, newest first, page by page. `state`: open, resolved or dismissed."""
        return self._pages("reports", {"limit": limit, **({} if state is None else {"state": state})})

    def report(self, room_id: str, event_id: str | None = None, reason: str = "") -> None:
        """Report a message, or all of a room, to those who moderate."""
        body = {"room_id": room_id, "reason": reason, **({} if event_id is None else {"event_id": event_id})}
        self._call("POST", "reports", body=body)

    def decide_report(self, report_id: str, state: str, note: str | None = None) -> None:
        self._call("PATCH", "reports", report_id, body={"state": state, **({} if note is None else {"note": note})})

    def analytics(self, **query: int) -> Json:
        """How much was said, and who came and went, by day and channel. `query`: `from` and `to`."""
        return dict(self._call("GET", "analytics", query=query))

    def audit(self, limit: int = 100) -> Iterator[Json]:
        """Who did what, newest first, page by page."""
        return self._pages("audit", {"limit": limit}, "entries")

    def _pages(self, what: str, query: Mapping[str, str | int], key: str | None = None) -> Iterator[Json]:
        place: Mapping[str, str] = {}
        while True:
            page = self._call("GET", what, query={**query, **place})
            yield from page[key or what]
            if page.get("next") is None:
                return
            place = {"from": page["next"]}
