"""The guild API: what each call does, and what it leaves in the rooms."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.guilds.projection import project
from tests.guilds.api import ApiHouse, at, hall

__all__ = ["hall"]


def names(hall: ApiHouse, guild_id: str, who: str = "ann") -> list[tuple[str | None, str]]:
    """(category, channel) in order."""
    whole = hall.whole(who, guild_id)
    categories = {one["category_id"]: one["name"] for one in whole["categories"]}
    return [(categories.get(one["category_id"]), one["name"]) for one in whole["channels"]]


def channel_of(hall: ApiHouse, guild_id: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in hall.whole("ann", guild_id)["channels"] if one["name"] == name]
    return dict(found)


def test_a_guild_whole(hall: ApiHouse) -> None:
    guild_id = hall.new(topic="What for", icon="mxc://a/icon", banner="mxc://a/banner")
    whole = hall.whole("ann", guild_id)
    channels = whole.pop("channels")
    assert [role.pop("role_id") for role in whole["roles"]] == ["admin", "everyone"]
    assert [role["position"] for role in whole.pop("roles")] == [1, 0]
    (category,) = whole.pop("categories")
    assert "administrator" in whole.pop("my_permissions")
    assert whole == {
        "guild_id": guild_id,
        "name": "A place",
        "topic": "What for",
        "icon": "mxc://a/icon",
        "banner": "mxc://a/banner",
        "owner": hall.user("ann"),
        "member_count": 1,
        "settings": {
            "discoverable": False,
            "lazy": None,
            "policy": False,
            "transcription": None,
            "system_channel": None,
            "server_acl": None,
        },
    }
    assert [(one["name"], one["kind"], one["joined"]) for one in channels] == [
        ("general", "text", True),
        ("Voice", "voice", True),
    ]
    assert {one["category_id"] for one in channels} == {category["category_id"]}
    assert all(one["overrides"] is None and "send_messages" in one["permissions"] for one in channels)
    mine = hall.call("ann", "GET", "guilds")["guilds"]
    assert [(one["guild_id"], one["name"], one["member_count"]) for one in mine] == [(guild_id, "A place", 1)]
    assert hall.call("bob", "GET", "guilds") == {"guilds": []}


def test_outsiders_learn_nothing(hall: ApiHouse) -> None:
    guild_id = hall.new()
    room_id = hall.channel(guild_id, "general")
    other = hall.create("ann", preset="public_chat")
    for place in (guild_id, "!none:test.example", "", room_id, other):
        for method, rest in (("GET", ""), ("GET", "/roles"), ("GET", "/members"), ("POST", "/leave"), ("POST", "/join"),
                             ("GET", "/bans"), ("DELETE", "")):  # fmt: skip
            if place:
                assert hall.refused("bob", method, at("guilds", place) + rest).startswith("404 M_NOT_FOUND"), rest


def test_settings(hall: ApiHouse) -> None:
    guild_id = hall.new(topic="x")
    general = hall.channel(guild_id, "general")
    path = at("guilds", guild_id)
    hall.call("ann", "PATCH", path, {"name": "Two", "topic": None, "icon": "mxc://a/b", "discoverable": True})
    hall.call("ann", "PATCH", path, {"banner": "mxc://a/c", "lazy": True, "system_channel": general})
    acl = {"allow": ["*"], "deny": ["evil.example"], "allow_ip_literals": False}
    hall.call("ann", "PATCH", path, {"server_acl": acl, "transcription": "upload"})
    whole = hall.whole("ann", guild_id)
    assert (whole["name"], whole["topic"], whole["icon"], whole["banner"]) == ("Two", None, "mxc://a/b", "mxc://a/c")
    assert whole["settings"] == {
        "discoverable": True,
        "lazy": True,
        "policy": False,
        "transcription": "upload",
        "system_channel": general,
        "server_acl": acl,
    }
    assert hall.content(general, "m.room.server_acl") == acl
    assert hall.content(guild_id, "m.room.join_rules")["join_rule"] == "public"
    hall.call("ann", "PATCH", path, {"server_acl": None, "banner": None, "lazy": None, "system_channel": None})
    settings = hall.whole("ann", guild_id)["settings"]
    assert settings["lazy"] is None and settings["system_channel"] is None
    assert hall.content(general, "m.room.server_acl")["deny"] == []
    assert "server_acl" in hall.refused("ann", "PATCH", path, {"server_acl": {"allow": ["other.example"]}})
    assert "system_channel" in hall.refused("ann", "PATCH", path, {"system_channel": "!none"})
    hall.call("bob", "POST", at("guilds", guild_id, "join"))
    assert "403 M_FORBIDDEN: You need the permission `manage_guild`" in hall.refused(
        "bob", "PATCH", path, {"name": "x"}
    )
    position = hall.house.hub.position
    hall.call("ann", "PATCH", path, {"name": "Two"})
    assert hall.house.hub.position == position


def test_coming_and_going(hall: ApiHouse) -> None:
    guild_id = hall.new()
    general = hall.channel(guild_id, "general")
    path = at("guilds", guild_id)
    hall.enter(guild_id, "bob")
    assert hall.whole("bob", guild_id)["member_count"] == 2
    hall.call("bob", "POST", path + "/leave")
    assert hall.membership("bob", general) == "leave"
    assert hall.refused("bob", "GET", path).startswith("404")
    hall.enter(guild_id, "bob")
    bob = at("guilds", guild_id, "members", hall.user("bob"))
    assert "owner" in hall.refused("ann", "POST", path + "/leave")
    assert "`kick_members`" in hall.refused("bob", "POST", at("guilds", guild_id, "members", hall.user("ann"), "kick"))
    hall.call("ann", "POST", bob + "/kick", {"reason": "a \0 reason"})
    assert hall.membership("bob", general) == "leave"
    assert hall.refused("ann", "POST", bob + "/kick").startswith("404")
    hall.call("ann", "POST", bob + "/ban", {"reason": "again"})
    (ban,) = hall.call("ann", "GET", path + "/bans")["bans"]
    assert (ban["user_id"], ban["reason"]) == (hall.user("bob"), "again") and ban["ts"] > 0
    assert hall.membership("bob", general) == "ban"
    assert "banned" in hall.refused("bob", "POST", path + "/join")
    hall.call("ann", "POST", bob + "/unban")
    assert hall.refused("ann", "POST", bob + "/unban").startswith("404")
    assert hall.call("ann", "GET", path + "/bans") == {"bans": []}
    hall.enter(guild_id, "bob")
    assert hall.refused("bob", "POST", path + "/owner", {"user_id": hall.user("bob")}).startswith("403")
    assert hall.refused("ann", "POST", path + "/owner", {"user_id": hall.user("zoe")}).startswith("404")
    hall.call("ann", "POST", path + "/owner", {"user_id": hall.user("bob")})
    assert hall.whole("ann", guild_id)["owner"] == hall.user("bob")
    assert hall.levels(general).user(hall.user("bob")) == 150
    hall.call("ann", "POST", path + "/leave")


def test_members(hall: ApiHouse) -> None:
    guild_id = hall.new()
    for name in ("bob", "cat", "dan"):
        hall.enter(guild_id, name)
    staff = hall.new_role(guild_id, "Staff")
    hall.give_role(guild_id, "cat", staff)
    path = at("guilds", guild_id, "members")
    hall.call("dan", "PATCH", at("guilds", guild_id, "members", hall.user("dan")), {"nick": "Danny boy"})
    everybody = hall.call("ann", "GET", path)
    assert [one["user_id"] for one in everybody["members"]] == [
        hall.user(name) for name in ("ann", "bob", "cat", "dan")
    ]
    assert "next" not in everybody
    seen, token = [], ""
    while True:
        page = hall.call("ann", "GET", f"{path}?limit=1{token}")
        seen += [one["user_id"] for one in page["members"]]
        if "next" not in page:
            break
        token = f"&from={page['next']}"
    assert seen == [one["user_id"] for one in everybody["members"]]
    (cat,) = hall.call("ann", "GET", f"{path}?role={staff}")["members"]
    assert (cat["user_id"], cat["roles"]) == (hall.user("cat"), [staff])
    (dan,) = hall.call("ann", "GET", f"{path}?q=DANNY")["members"]
    assert (dan["nick"], dan["status"]) == ("Danny boy", "offline")
    assert hall.refused("ann", "GET", f"{path}?role=none").startswith("404")
    assert "limit" in hall.refused("ann", "GET", f"{path}?limit=0")


def test_roles_stand_in_order(hall: ApiHouse) -> None:
    guild_id = hall.new()
    low, mid, top = (hall.new_role(guild_id, name) for name in ("low", "mid", "top"))
    assert hall.roles(guild_id) == ["admin", "top", "mid", "low", "everyone"]
    hall.enter(guild_id, "bob")
    hall.give_role(guild_id, "bob", mid)
    hall.call("ann", "PATCH", at("guilds", guild_id, "roles", mid), {"permissions": ["manage_roles", "view_channel"]})
    hall.new_role(guild_id, "bob's", "view_channel", by="bob", color="#aaBB00")
    assert hall.roles(guild_id) == ["admin", "top", "mid", "bob's", "low", "everyone"]
    positions = [role["position"] for role in hall.call("ann", "GET", at("guilds", guild_id, "roles"))["roles"]]
    assert positions == [5, 4, 3, 2, 1, 0]
    guild = hall.guild(guild_id)
    assert {role_id: guild.roles[role_id].position for role_id in (low, mid, top, "admin")} == {
        low: 1, mid: 3, top: 4, "admin": 5,
    }  # fmt: skip
    order = [role.role_id for role in guild.roles_in_order()][1:-1]
    path = at("guilds", guild_id, "roles", "order")
    hall.call("bob", "PUT", path, {"roles": [*order[:2], order[3], order[2]]})
    assert hall.roles(guild_id) == ["admin", "top", "mid", "low", "bob's", "everyone"]
    assert "below your own" in hall.refused("bob", "PUT", path, {"roles": [order[1], order[0], *order[2:]]})
    for wrong in (order[:-1], [*order, "admin"], [*order[:-1], order[0]], [*order, "none"]):
        assert hall.refused("ann", "PUT", path, {"roles": wrong}).startswith("400 M_INVALID_PARAM: `roles`")
    hall.call("ann", "DELETE", at("guilds", guild_id, "roles", mid))
    assert [role["position"] for role in hall.call("ann", "GET", at("guilds", guild_id, "roles"))["roles"]] == [
        4, 3, 2, 1, 0,
    ]  # fmt: skip
    (bob,) = hall.call("ann", "GET", at("guilds", guild_id, "members") + "?q=bob")["members"]
    assert bob["roles"] == []


def test_rank_and_permission(hall: ApiHouse) -> None:
    guild_id = hall.new()
    top = hall.new_role(guild_id, "top", "manage_roles", "manage_nicknames", "kick_members", "ban_members")
    for name in ("bob", "cat", "dan"):
        hall.enter(guild_id, name)
    hall.give_role(guild_id, "bob", top)
    hall.give_role(guild_id, "cat", top)
    low = hall.new_role(guild_id, "low", by="bob")
    members = at("guilds", guild_id, "members")

    def of(name: str, *rest: str) -> str:
        return at("guilds", guild_id, "members", hall.user(name), *rest)

    for who, method, path, body, words in (
        ("dan", "POST", at("guilds", guild_id, "roles"), {"name": "x"}, "`manage_roles`"),
        ("bob", "POST", at("guilds", guild_id, "roles"), {"name": "x", "permissions": ["administrator"]}, "don't have"),
        ("bob", "PATCH", at("guilds", guild_id, "roles", top), {"name": "x"}, "below your own"),
        ("bob", "PATCH", at("guilds", guild_id, "roles", "admin"), {"name": "x"}, "below your own"),
        ("bob", "PATCH", at("guilds", guild_id, "roles", low), {"permissions": ["manage_guild"]}, "`manage_guild`"),
        ("bob", "DELETE", at("guilds", guild_id, "roles", top), None, "below your own"),
        ("bob", "PUT", of("bob", "roles", "admin"), None, "below your own"),
        ("bob", "DELETE", of("cat", "roles", top), None, "below your own"),
        ("bob", "PATCH", of("bob"), {"roles": [top, "admin"]}, "below your own"),
        ("bob", "PATCH", of("cat"), {"nick": "x"}, "does not stand below you"),
        ("bob", "PATCH", of("ann"), {"nick": "x"}, "owner"),
        ("bob", "PATCH", of("ann"), {"roles": [low]}, "owner"),
        ("dan", "PATCH", of("bob"), {"nick": "x"}, "`manage_nicknames`"),
        ("bob", "POST", of("cat", "kick"), {}, "does not stand below you"),
        ("bob", "POST", of("ann", "ban"), {}, "owner"),
    ):
        refusal = hall.refused(who, method, path, body)
        assert refusal.startswith("403 M_FORBIDDEN") and words in refusal, (path, refusal)
    for role_id in ("admin", "everyone"):
        assert hall.refused("ann", "DELETE", at("guilds", guild_id, "roles", role_id)).startswith("400")
    assert hall.refused("ann", "PUT", of("bob", "roles", "everyone")).startswith("403")
    assert hall.refused("ann", "PATCH", of("bob"), {"roles": ["none"]}).startswith("400")
    assert hall.refused("ann", "PUT", of("zoe", "roles", low)).startswith("404")
    assert hall.refused("ann", "PUT", of("bob", "roles", "none")).startswith("404")
    hall.call("ann", "PATCH", at("guilds", guild_id, "roles", "admin"), {"name": "Boss", "color": "#112233"})
    assert "permissions" in hall.refused("ann", "PATCH", at("guilds", guild_id, "roles", "admin"), {"permissions": []})
    hall.call("bob", "PATCH", of("dan"), {"nick": "D", "roles": [low]})
    (dan,) = hall.call("ann", "GET", f"{members}?q=dan")["members"]
    assert (dan["nick"], dan["roles"]) == ("D", [low])
    hall.call("dan", "PATCH", of("dan"), {"nick": None})
    assert hall.guild(guild_id).member(hall.user("dan")).nick is None


def test_channels(hall: ApiHouse) -> None:
    guild_id = hall.new()
    hall.enter(guild_id, "bob")
    (category,) = hall.guild(guild_id).categories
    batches: list[int] = []
    hall.house.database.on_commit(lambda notices: batches.append(len(notices)))
    room_id = hall.new_channel(guild_id, "news", kind="announcement", topic="All of it", category_id=category)
    assert batches[0] == 2  # the channel's room and the guild's, together
    assert names(hall, guild_id) == [("Channels", "general"), ("Channels", "Voice"), ("Channels", "news")]
    assert hall.membership("ann", room_id) == "join"
    assert hall.content(room_id, "m.space.parent", guild_id)["canonical"] is True
    path = at("guilds", guild_id, "channels", room_id)
    hall.call("ann", "PATCH", path, {"name": "News", "topic": None, "avatar": "mxc://a/b", "slowmode_s": 30})
    hall.call("ann", "PATCH", path, {"retention": {"max_lifetime": 86_400_000}, "history_visibility": "joined"})
    hall.call("ann", "PATCH", path, {"encrypted": True, "category_id": None})
    found = channel_of(hall, guild_id, "News")
    assert (found["topic"], found["slowmode_s"], found["category_id"]) == (None, 30, None)
    assert hall.content(room_id, "m.room.avatar")["url"] == "mxc://a/b"
    assert hall.content(room_id, "m.room.retention")["max_lifetime"] == 86_400_000
    assert hall.content(room_id, "m.room.encryption")["algorithm"] == "m.megolm.v1.aes-sha2"
    assert hall.content(room_id, "m.room.name")["chat.guildhall.on_behalf_of"] == hall.user("ann")
    assert names(hall, guild_id)[0] == (None, "News")
    assert "encrypted" in hall.refused("ann", "PATCH", path, {"encrypted": False})
    assert "`edit_channel`" in hall.refused("bob", "PATCH", path, {"name": "x"})
    assert "`manage_channels`" in hall.refused("bob", "PATCH", path, {"slowmode_s": 0})
    assert "`manage_channels`" in hall.refused("bob", "DELETE", path)
    hall.join("bob", room_id)
    hall.call("ann", "DELETE", path)
    hall.rest()
    assert names(hall, guild_id) == [("Channels", "general"), ("Channels", "Voice")]
    assert hall.membership("bob", room_id) == hall.membership("ann", room_id) == "leave"
    assert room_id not in hall.sync("bob").get("rooms", {}).get("leave", {})
    assert hall.refused("ann", "PATCH", path, {"name": "x"}).startswith("404")


def test_overrides(hall: ApiHouse) -> None:
    guild_id = hall.new()
    (category,) = hall.guild(guild_id).categories
    staff = hall.new_role(guild_id, "staff", "manage_roles", "view_channel")
    for name in ("bob", "cat"):
        hall.enter(guild_id, name)
    hall.give_role(guild_id, "bob", staff)
    general = hall.channel(guild_id, "general")
    base = at("guilds", guild_id, "channels", general, "overrides")
    shared = at("guilds", guild_id, "categories", category, "overrides")
    hall.call("ann", "PUT", f"{shared}/everyone", {"deny": ["add_reactions"]})
    voice = at("guilds", guild_id, "channels", hall.channel(guild_id, "Voice"), "permissions", hall.user("cat"))
    assert "add_reactions" not in hall.call("cat", "GET", voice)["permissions"]
    hall.call("ann", "PUT", f"{base}/{staff}", {"allow": ["manage_messages"]})
    assert channel_of(hall, guild_id, "general")["overrides"] == {
        "everyone": {"allow": [], "deny": ["add_reactions"]},
        staff: {"allow": ["manage_messages"], "deny": []},
    }
    assert "manage_messages" in hall.call("bob", "GET", at("guilds", guild_id, "channels", general, "permissions",
                                                          hall.user("bob")))["permissions"]  # fmt: skip
    hall.call("ann", "PUT", base + "/" + at(hall.user("cat")), {"deny": ["view_channel"]})
    assert hall.membership("cat", general) == "leave"
    assert general not in [one["room_id"] for one in hall.whole("cat", guild_id)["channels"]]
    assert hall.refused("cat", "PUT", f"{base}/everyone", {}).startswith("404")
    for body, words in (
        ({"allow": ["administrator"]}, "`allow`: administrator can't be overridden"),
        ({"deny": ["kick_members"]}, "`deny`: kick_members can't be overridden"),
        ({"allow": ["speak"], "deny": ["speak"]}, "`deny`: speak"),
        ({"allow": ["fly"]}, "'fly' is not a permission"),
        ({"allow": [5]}, "'allow"),
    ):
        refusal = hall.refused("ann", "PUT", f"{base}/everyone", body)
        assert refusal.startswith("400") and words in refusal, refusal
    assert "don't have" in hall.refused("bob", "PUT", f"{base}/everyone", {"allow": ["manage_channels"]})
    assert "below your own" in hall.refused("bob", "PUT", f"{base}/{staff}", {})
    assert "owner" in hall.refused("bob", "PUT", base + "/" + at(hall.user("ann")), {"deny": ["speak"]})
    assert hall.refused("ann", "PUT", f"{base}/none", {}).startswith("404")
    assert hall.refused("ann", "PUT", base + "/" + at(hall.user("zoe")), {}).startswith("404")
    assert hall.refused("ann", "PUT", f"{base}/@x", {}).startswith("400")
    hall.call("ann", "DELETE", f"{base}/{staff}")
    assert hall.refused("ann", "DELETE", f"{base}/{staff}").startswith("404")
    hall.call("ann", "DELETE", base)
    assert channel_of(hall, guild_id, "general")["overrides"] is None
    hall.call("ann", "DELETE", f"{shared}/everyone")
    assert hall.whole("ann", guild_id)["categories"][0]["overrides"] == {}
    hall.settle(guild_id)
    guild = hall.guild(guild_id)
    for room_id, channel in guild.channels.items():
        assert hall.content(room_id, "m.room.power_levels") == project(guild, channel)


def test_deleting_a_private_category_keeps_its_channels_private(hall: ApiHouse) -> None:
    guild_id = hall.new()
    hall.enter(guild_id, "bob")
    category = hall.new_category(guild_id, "Backstage", overrides={"everyone": {"deny": ["view_channel"]}})
    inherits = hall.new_channel(guild_id, "secret", category_id=category)
    own = hall.new_channel(guild_id, "open", category_id=category, overrides={})
    assert [one["name"] for one in hall.whole("bob", guild_id)["channels"]] == ["general", "Voice", "open"]
    hall.call("ann", "DELETE", at("guilds", guild_id, "categories", category))
    assert names(hall, guild_id)[:2] == [(None, "secret"), (None, "open")]
    guild = hall.guild(guild_id)
    assert not guild.is_open(guild.channels[inherits]) and guild.is_open(guild.channels[own])
    assert [one["name"] for one in hall.whole("bob", guild_id)["channels"]] == ["open", "general", "Voice"]
    assert hall.refused("ann", "DELETE", at("guilds", guild_id, "categories", category)).startswith("404")


def test_layout(hall: ApiHouse) -> None:
    guild_id = hall.new()
    (first,) = hall.guild(guild_id).categories
    second = hall.new_category(guild_id, "Second")
    rooms = {name: hall.channel(guild_id, name) for name in ("general", "Voice")}
    rooms |= {name: hall.new_channel(guild_id, name, category_id=second) for name in ("a", "b", "c")}
    path = at("guilds", guild_id, "layout")

    def put(*groups: tuple[str | None, list[str]], who: str = "ann") -> list[tuple[str | None, str]]:
        layout = [{"category_id": one, "channels": [rooms[name] for name in inside]} for one, inside in groups]
        before = hall.house.hub.position
        hall.call(who, "PUT", path, {"layout": layout})
        put.cost = hall.house.hub.position - before  # type: ignore[attr-defined]
        return names(hall, guild_id, who)

    put((first, ["general", "Voice"]), (second, ["a", "b", "c"]))
    assert put.cost == 0  # type: ignore[attr-defined]
    found = put((first, ["general", "Voice"]), (second, ["c", "a", "b"]))
    assert [name for _, name in found] == ["general", "Voice", "c", "a", "b"]
    assert put.cost == 1  # type: ignore[attr-defined]
    found = put((None, ["Voice"]), (second, ["c", "a", "b", "general"]), (first, []))
    assert found == [(None, "Voice"), ("Second", "c"), ("Second", "a"), ("Second", "b"), ("Second", "general")]
    for layout in (
        [{"category_id": first, "channels": list(rooms.values())}],
        [{"category_id": first, "channels": []}, {"category_id": second, "channels": []}],
        [{"category_id": first, "channels": list(rooms.values())}, {"category_id": second, "channels": [rooms["a"]]}],
        [{"channels": list(rooms.values())}, {"channels": []}, {"category_id": first, "channels": []},
         {"category_id": second, "channels": []}],
    ):  # fmt: skip
        assert "`layout`" in hall.refused("ann", "PUT", path, {"layout": layout})
    hall.enter(guild_id, "bob")
    assert "`manage_channels`" in hall.refused("bob", "PUT", path, {"layout": []})


def test_moving_a_channel_does_not_open_it(hall: ApiHouse) -> None:
    """Whoever may only manage channels must not let others see, by moving it, what they were not to see."""
    guild_id = hall.new()
    movers = hall.new_role(guild_id, "movers", "manage_channels")
    hall.enter(guild_id, "bob")
    hall.give_role(guild_id, "bob", movers)
    overrides = {"everyone": {"deny": ["view_channel"]}, movers: {"allow": ["view_channel"]}}
    private = hall.new_category(guild_id, "Private", overrides=overrides)
    room_id = hall.new_channel(guild_id, "secret", category_id=private)
    path = at("guilds", guild_id, "channels", room_id)
    assert "`manage_roles`" in hall.refused("bob", "PATCH", path, {"category_id": None})
    hall.call("ann", "PATCH", path, {"category_id": None})
    assert hall.guild(guild_id).is_open(hall.guild(guild_id).channels[room_id])


def test_explained(hall: ApiHouse) -> None:
    guild_id = hall.new()
    general = hall.channel(guild_id, "general")
    hall.enter(guild_id, "bob")
    path = at("guilds", guild_id, "channels", general)
    hall.call("ann", "PUT", f"{path}/overrides/everyone", {"deny": ["send_messages"]})
    told = hall.call("bob", "GET", at("guilds", guild_id, "channels", general, "permissions", hall.user("bob")))
    assert [(step["rule"], step["source"]) for step in told["steps"]] == [
        ("role", "everyone"),
        ("override", "everyone"),
    ]
    assert told["steps"][1]["deny"] == ["send_messages"] and "send_messages" not in told["permissions"]
    assert told["steps"][-1]["result"] == told["permissions"]
    levels = hall.levels(general)
    assert told["levels"]["level"] == levels.user(hall.user("bob")) < levels.events_default
    assert 0 < told["levels"]["size_bytes"] < told["levels"]["most_bytes"]
    whole = hall.call("bob", "GET", at("guilds", guild_id, "permissions", hall.user("ann")))
    assert whole["steps"][-1]["rule"] == "owner" and "administrator" in whole["permissions"]
    assert hall.refused("bob", "GET", at("guilds", guild_id, "permissions", hall.user("zoe"))).startswith("404")


def test_deleting_a_guild(hall: ApiHouse) -> None:
    guild_id = hall.new()
    rooms = [guild_id, *hall.guild(guild_id).channels]
    hall.enter(guild_id, "bob")
    assert "owner" in hall.refused("bob", "DELETE", at("guilds", guild_id))
    hall.call("ann", "DELETE", at("guilds", guild_id))
    assert hall.refused("ann", "GET", at("guilds", guild_id)).startswith("404")
    hall.rest()
    for name in ("ann", "bob"):
        assert {hall.membership(name, room_id) for room_id in rooms} == {"leave"}
        assert hall.call(name, "GET", "guilds") == {"guilds": []}
        assert not hall.sync(name, full_state=True, filter={"room": {"include_leave": True}}).get("rooms")


def test_what_is_too_large_is_refused_for_channels_too(hall: ApiHouse) -> None:
    guild_id = hall.new()
    role = hall.new_role(guild_id, "x")
    general = hall.channel(guild_id, "general")
    hall.call("ann", "PUT", at("guilds", guild_id, "channels", general, "overrides", role), {"deny": ["send_messages"]})

    def crowd(edit: Any) -> None:
        for number in range(400):
            edit.set("chat.guildhall.member", f"_@{'x' * 200}{number}:test.example", {"roles": [role]})

    position = hall.house.hub.position
    with pytest.raises(Exception, match="400 M_TOO_LARGE"):
        hall.edit(guild_id, "ann", crowd)
    assert hall.house.hub.position == position
