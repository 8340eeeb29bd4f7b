"""Invitations by code, emoji, and the audit log."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, DeferredList

from homeserver.errors import Unavailable
from homeserver.guilds.invites import Invites
from tests.guilds.api import ApiHouse, at, hall

__all__ = ["hall"]


def test_a_code_lets_people_in(hall: ApiHouse) -> None:
    guild_id = hall.new(topic="What for", icon="mxc://a/b")
    general = hall.channel(guild_id, "general")
    path = at("guilds", guild_id, "invites")
    made = hall.call("ann", "POST", path, {"room_id": general})
    assert made | {"code": "", "created_ts": 0} == {
        "code": "", "created_ts": 0, "room_id": general, "user_id": hall.user("ann"), "uses": 0, "max_uses": None,
        "expires_ts": None,
    }  # fmt: skip
    one = at("invites", made["code"])
    assert hall.call(None, "GET", one) == {
        "code": made["code"], "guild_id": guild_id, "name": "A place", "topic": "What for", "icon": "mxc://a/b",
        "member_count": 1, "expires_ts": None,
    }  # fmt: skip
    assert hall.call("bob", "POST", f"{one}/join") == {"guild_id": guild_id, "room_id": general}
    assert hall.membership("bob", general) == "join"
    hall.call("bob", "POST", f"{one}/join")
    assert [invite["uses"] for invite in hall.call("ann", "GET", path)["invites"]] == [1]
    hall.call("ann", "POST", at("guilds", guild_id, "members", hall.user("bob"), "ban"))
    assert hall.refused("bob", "POST", f"{one}/join").startswith("403")
    hall.call("ann", "DELETE", at("guilds", guild_id, "invites", made["code"]))
    for method, rest in (("GET", ""), ("POST", "/join")):
        assert hall.refused("cat", method, one + rest).startswith("404 M_NOT_FOUND")
    assert hall.refused("ann", "DELETE", at("guilds", guild_id, "invites", made["code"])).startswith("404")


def test_codes_end(hall: ApiHouse) -> None:
    guild_id = hall.new()
    path = at("guilds", guild_id, "invites")
    once = hall.call("ann", "POST", path, {"max_uses": 1})["code"]
    brief = hall.call("ann", "POST", path, {"lifetime_ms": 1})["code"]
    assert hall.refused("bob", "POST", at("invites", brief, "join")).startswith("404")
    assert [one["code"] for one in hall.call("ann", "GET", path)["invites"]] == [once]
    # Many come at the same moment: one of them gets in.
    invites = hall.house.part(Invites)
    coming = [Deferred.fromCoroutine(invites.redeem(once, hall.user(name))) for name in ("bob", "cat", "dan")]

    async def all_of_them() -> list[bool]:
        return [came for came, _ in await DeferredList(coming, consumeErrors=True)]

    assert sum(hall.wait(all_of_them())) == 1
    assert hall.whole("ann", guild_id)["member_count"] == 2
    assert hall.refused("eve", "POST", at("invites", once, "join")).startswith("404")
    assert hall.call("ann", "GET", path) == {"invites": []}


def test_who_may_invite(hall: ApiHouse) -> None:
    guild_id = hall.new()
    path = at("guilds", guild_id, "invites")
    hall.enter(guild_id, "bob")
    code = hall.call("bob", "POST", path, {})["code"]
    assert "`manage_guild`" in hall.refused("bob", "GET", path)
    others = hall.call("ann", "POST", path, {})["code"]
    assert "`manage_guild`" in hall.refused("bob", "DELETE", at("guilds", guild_id, "invites", others))
    hall.call("bob", "DELETE", at("guilds", guild_id, "invites", code))
    hall.call("ann", "PATCH", at("guilds", guild_id, "roles", "everyone"), {"permissions": ["view_channel"]})
    assert "`create_invite`" in hall.refused("bob", "POST", path, {})
    assert hall.refused("eve", "POST", path, {}).startswith("404")
    assert hall.refused("ann", "POST", path, {"room_id": "!none"}).startswith("404")
    for body in ({"max_uses": 0}, {"lifetime_ms": -1}, {"max_uses": "x"}, {"room_id": 5}):
        (field,) = body
        refusal = hall.refused("ann", "POST", path, body)
        assert refusal.startswith("400") and field in refusal
    hall.call("ann", "DELETE", at("guilds", guild_id))
    assert hall.refused(None, "GET", at("invites", others)).startswith("404")


def test_emoji(hall: ApiHouse) -> None:
    guild_id = hall.new()
    hall.enter(guild_id, "bob")
    path = at("guilds", guild_id, "emoji")
    picture = {"url": "mxc://a/b", "info": {"w": 32, "h": 32, "mimetype": "image/png"}}
    hall.call("ann", "PUT", at("guilds", guild_id, "emoji", "party"), picture)
    hall.call("ann", "PUT", at("guilds", guild_id, "emoji", "é"), {"url": "mxc://a/c"})
    assert hall.call("bob", "GET", path) == {"emoji": {"party": picture, "é": {"url": "mxc://a/c", "info": {}}}}
    assert hall.call("bob", "GET", at("guilds", guild_id, "emoji", "party")) == picture
    pack = hall.content(guild_id, "m.room.image_pack")
    assert pack["images"]["party"] == picture and pack["pack"] == {"usage": ["emoticon"]}
    assert "`manage_emoji`" in hall.refused("bob", "PUT", at("guilds", guild_id, "emoji", "x"), picture)
    for name in ("a b", "a:b", "a\nb", "x" * 101):
        assert "shortcode" in hall.refused("ann", "PUT", at("guilds", guild_id, "emoji", name), picture)
    assert "url" in hall.refused("ann", "PUT", at("guilds", guild_id, "emoji", "x"), {"url": "https://a/b"})
    hall.call("ann", "DELETE", at("guilds", guild_id, "emoji", "é"))
    assert hall.refused("ann", "DELETE", at("guilds", guild_id, "emoji", "é")).startswith("404")
    assert hall.refused("bob", "GET", at("guilds", guild_id, "emoji", "é")).startswith("404")


def test_the_audit_log(hall: ApiHouse) -> None:
    guild_id = hall.new()
    hall.enter(guild_id, "bob")
    role = hall.new_role(guild_id, "one")
    hall.call("ann", "PATCH", at("guilds", guild_id, "roles", role), {"name": "two"})
    hall.call("ann", "PATCH", at("guilds", guild_id), {"name": "Another place"})
    hall.call("ann", "POST", at("guilds", guild_id, "members", hall.user("bob"), "kick"), {"reason": "because"})
    path = at("guilds", guild_id, "audit")
    told = hall.call("ann", "GET", path)["entries"]
    assert [entry["action"] for entry in told] == ["member.kick", "guild.update", "role.update", "role.create"]
    assert {entry["user_id"] for entry in told} == {hall.user("ann")}
    kick, renamed, update, create = told
    assert (kick["target"], kick["reason"]) == (hall.user("bob"), "because")
    assert renamed["before"] == {"m.room.name": {"name": "A place"}}
    assert (update["target"], update["before"]["name"], update["after"]["name"]) == (role, "one", "two")
    assert create["before"] == {} and create["ts"] <= update["ts"]
    first = hall.call("ann", "GET", f"{path}?limit=3")
    rest = hall.call("ann", "GET", f"{path}?limit=3&from={first['next']}")
    assert first["entries"] + rest["entries"] == told and "next" not in rest
    assert "`from`" in hall.refused("ann", "GET", f"{path}?from=x")
    hall.enter(guild_id, "cat")
    assert "`manage_guild`" in hall.refused("cat", "GET", path)


def test_joining_fails_without_losing_a_use(hall: ApiHouse) -> None:
    guild_id = hall.new()
    code = hall.call("ann", "POST", at("guilds", guild_id, "invites"), {"max_uses": 1})["code"]
    invites = hall.house.part(Invites)
    # Somebody of another server is invited, by a server that can't be reached: it comes to nothing, after the use was
    # counted.
    with pytest.raises(Unavailable):
        hall.wait(invites.redeem(code, "@far:away.example"))
    hall.call("bob", "POST", at("invites", code, "join"))
