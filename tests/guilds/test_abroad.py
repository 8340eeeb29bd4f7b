"""Members whose home is another server of ours: the same API at home, done by the steward's server in their name."""

from __future__ import annotations

from typing import Any

import pytest

from federation.outbound.client import path_to
from federation.outbound.transport import Refused, Request, Response
from homeserver.accounts.openid import OpenIdTokens
from homeserver.accounts.registration import Registration
from homeserver.errors import Forbidden, UnknownToken
from homeserver.guilds.abroad.errands import ACTIONS
from homeserver.reports import Reports
from tests.guilds.api import at
from tests.guilds.fleet import GuildFleet, GuildMember, guild_fleet

__all__ = ["guild_fleet"]


def settled(fleet: GuildFleet) -> tuple[GuildMember, GuildMember, str]:
    """Two servers, and a guild of the first in which bob of the second is an administrator."""
    a, b = fleet.pair()
    guild_id = a.new_guild("ann")
    a.opened(guild_id)
    b.enter("bob", guild_id, via=a)
    a.done("ann", "PUT", at("guilds", guild_id, "members", b.user("bob"), "roles", "admin"))
    fleet.come_to_rest()
    return a, b, guild_id


def test_the_same_calls_at_home(guild_fleet: GuildFleet) -> None:
    a, b, guild_id = settled(guild_fleet)
    role_id = b.done("bob", "POST", at("guilds", guild_id, "roles"), {"name": "staff", "permissions": ["kick_members"]})
    a.enter("cat", guild_id)
    b.done("bob", "PUT", at("guilds", guild_id, "members", a.user("cat"), "roles", role_id["role_id"]))
    room_id = b.done("bob", "POST", at("guilds", guild_id, "channels"), {"name": "lounge"})["room_id"]
    b.done("bob", "PATCH", at("guilds", guild_id, "channels", room_id), {"topic": "sit down", "slowmode_s": 5})
    assert b.done("bob", "PATCH", at("guilds", guild_id), {"name": "Elsewhere"}) == {}
    code = b.done("bob", "POST", at("guilds", guild_id, "invites"), {"max_uses": 3})["code"]
    assert [one["code"] for one in b.done("bob", "GET", at("guilds", guild_id, "invites"))["invites"]] == [code]
    entries = b.done("bob", "GET", f"{at('guilds', guild_id, 'audit')}?limit=50")["entries"]
    assert {entry["user_id"] for entry in entries if entry["action"] != "guild.update"} >= {b.user("bob")}
    guild_fleet.come_to_rest()
    seen = b.guild(guild_id)
    assert seen == a.guild(guild_id)
    assert seen.member(a.user("cat")).roles == (role_id["role_id"],) and seen.channels[room_id].slowmode_s == 5
    assert b.refused("bob", "DELETE", at("guilds", guild_id)) == "403 M_FORBIDDEN"
    assert b.refused("bob", "POST", at("guilds", guild_id, "channels"), {"name": ""}) == "400 M_BAD_JSON"
    assert b.refused("eve", "POST", at("guilds", guild_id, "roles"), {"name": "x"}) == "404 M_NOT_FOUND"
    guild_fleet.down.add("a.example")
    assert b.refused("bob", "POST", at("guilds", guild_id, "roles"), {"name": "late"}) == "503 M_UNKNOWN"
    assert b.done("bob", "GET", at("guilds", guild_id))["name"] == "Elsewhere"


def test_actions_are_done_once_and_for_ones_own(guild_fleet: GuildFleet) -> None:
    a, b, guild_id = settled(guild_fleet)
    now = a.house.clock.now_ms()

    def act(**changes: Any) -> Any:
        body = {
            "action_id": "one",
            "origin_server_ts": a.house.clock.now_ms(),
            "user_id": b.user("bob"),
            "action": f"POST guilds/{at(guild_id)}/roles",
            "params": {"name": "staff"},
            **changes,
        }
        return b.ask(a, "POST", path_to(ACTIONS, guild_id), body)

    assert act()["role_id"]
    for changes, status, words in (
        ({}, 403, "already"),
        ({"action_id": "2", "user_id": a.user("ann")}, 403, "your server's people"),
        ({"action_id": "2", "user_id": a.steward}, 403, "your server's people"),
        ({"action_id": "2", "user_id": "bob"}, 400, "user_id"),
        ({"action_id": "2", "origin_server_ts": now - 301_000}, 403, "five minutes"),
        ({"action_id": "2", "origin_server_ts": now + 400_000}, 403, "five minutes"),
        ({"action_id": ""}, 400, "action_id"),
        ({"action_id": "2", "action": f"POST guilds/{at(guild_id)}/join"}, 400, "own people"),
        ({"action_id": "2", "action": f"POST guilds/{at(guild_id)}/nothing"}, 400, "no call"),
        ({"action_id": "2", "action": "POST guilds"}, 400, "another guild"),
        ({"action_id": "2", "action": f"POST guilds/{at(a.new_guild('ann'))}/roles"}, 400, "another guild"),
        ({"action_id": "2", "action": "GET invites/none"}, 400, "another guild"),
        ({"action_id": "3", "params": {"name": 5}}, 400, "name"),
        ({"action_id": "4", "user_id": b.user("eve")}, 404, ""),
    ):  # fmt: skip
        with pytest.raises(Refused) as caught:
            act(**changes)
        assert caught.value.status == status and words in str(caught.value), changes
    restarted = guild_fleet.restart(a)
    assert isinstance(restarted, GuildMember)
    a = restarted
    with pytest.raises(Refused, match="already"):
        act()
    assert [role["name"] for role in a.done("ann", "GET", at("guilds", guild_id, "roles"))["roles"]].count("staff") == 1


def test_an_openid_token_will_do(guild_fleet: GuildFleet) -> None:
    """People of servers that know no guilds call the steward's server themselves."""
    a, b, _ = settled(guild_fleet)
    visitors = a.house.visitors
    assert visitors is not None
    b.wait(b.house.part(Registration).make("bob", None))
    token = str(b.wait(b.house.part(OpenIdTokens).issue(b.user("bob")))["access_token"])
    assert a.wait(visitors(token, "b.example")).user_id == b.user("bob")
    asked = len(guild_fleet.asked("userinfo"))
    assert a.wait(visitors(token, "b.example")).user_id == b.user("bob")
    assert len(guild_fleet.asked("userinfo")) == asked == 1
    own = str(a.wait(a.house.part(OpenIdTokens).issue(a.user("ann")))["access_token"])
    for wrong, server in ((token + "x", "b.example"), (own, "a.example"), (token, "not a name"), ("", "b.example")):
        with pytest.raises(UnknownToken):
            a.wait(visitors(wrong, server))

    def liar(origin: str, request: Request) -> Response | Request:
        return Response(200, {}, b'{"sub":"@ann:a.example"}') if "userinfo" in request.path else request

    guild_fleet.meddler = liar
    with pytest.raises(UnknownToken):
        a.wait(visitors(token + "y", "b.example"))


def test_a_code_of_another_server(guild_fleet: GuildFleet) -> None:
    """CODE@server: shown, and redeemed, at home."""
    a, b = guild_fleet.pair()
    guild_id = a.new_guild("ann", name="Codes")
    general = a.names("ann", guild_id)["general"]
    code = a.done("ann", "POST", at("guilds", guild_id, "invites"), {"max_uses": 1, "room_id": general})["code"]
    afar = at("invites", f"{code}@a.example")
    shown = b.done("bob", "GET", afar)
    assert (shown["name"], shown["guild_id"], shown["code"]) == ("Codes", guild_id, f"{code}@a.example")
    for wrong, status in ((f"{code}@b.example", 404), (f"{code}@nowhere.example", 503), (f"{code}@not a name", 404)):
        assert b.call("bob", "GET", at("invites", wrong))[0] == status
    assert b.refused("bob", "POST", at("invites", "wrong@a.example", "join")) == "404 M_NOT_FOUND"
    assert b.done("bob", "POST", f"{afar}/join") == {"guild_id": guild_id, "room_id": general}
    guild_fleet.come_to_rest()
    assert {b.membership("bob", room_id) for room_id in (guild_id, *a.guild(guild_id).channels)} == {"join"}
    assert b.refused("eve", "POST", f"{afar}/join") == "404 M_NOT_FOUND"  # it was for one
    own = a.done("ann", "POST", at("guilds", guild_id, "invites"), {})["code"]
    assert a.done("cat", "POST", at("invites", f"{own}@a.example", "join"))["guild_id"] == guild_id


def test_what_members_report_comes_to_those_who_moderate(guild_fleet: GuildFleet) -> None:
    a, b, guild_id = settled(guild_fleet)
    general = a.names("ann", guild_id)["general"]
    rude = a.say("ann", general, "rude")
    guild_fleet.come_to_rest()
    b.wait(b.house.part(Reports).event(b.user("bob"), general, rude, "by any client"))
    guild_fleet.come_to_rest()
    reports = ("guilds", guild_id, "reports")
    b.done("bob", "POST", at(*reports), {"room_id": general, "event_id": rude, "reason": "by the guild's call"})
    found = a.done("ann", "GET", at(*reports))["reports"]
    assert [(one["reporter"], one["event_id"], one["reason"]) for one in found] == [
        (b.user("bob"), rude, "by the guild's call"),
        (b.user("bob"), rude, "by any client"),
    ]
    assert b.refused("bob", "POST", at(*reports), {"room_id": general, "event_id": "$none"}) == "404 M_NOT_FOUND"
    assert b.refused("bob", "POST", at(*reports), {"room_id": "!other"}) == "404 M_NOT_FOUND"
    assert b.refused("eve", "POST", at(*reports), {"room_id": general}) == "404 M_NOT_FOUND"


def test_partitions_and_restarts(guild_fleet: GuildFleet) -> None:
    """While the guild's server is away what exists goes on; and what was said without having heard is shown to nobody
    who had."""
    a, b, guild_id = settled(guild_fleet)
    (c,) = guild_fleet.open("c")
    assert isinstance(c, GuildMember)
    c.enter("cat", guild_id, via=a)
    guild_fleet.come_to_rest()
    general = a.names("ann", guild_id)["general"]
    guild_fleet.down.add("a.example")
    b.say("bob", general, "anybody here?")
    guild_fleet.settle()
    c.say("cat", general, "me")
    guild_fleet.settle()
    assert b.texts("bob", general)[-2:] == c.texts("cat", general)[-2:] == ["anybody here?", "me"]
    assert b.refused("bob", "POST", at("guilds", guild_id, "channels"), {"name": "late"}) == "503 M_UNKNOWN"
    guild_fleet.down.clear()
    guild_fleet.come_to_rest()
    assert a.texts("ann", general)[-2:] == ["anybody here?", "me"]
    guild_fleet.run(5)  # a server that did not answer is left alone for a moment
    # Now c does not hear that cat is to be silent.
    guild_fleet.down.add("c.example")
    muting = {"allow": [], "deny": ["send_messages"]}
    b.done("bob", "PUT", at("guilds", guild_id, "channels", general, "overrides", c.user("cat")), muting)
    c.say("cat", general, "said too late")
    again = guild_fleet.crash(a)
    assert isinstance(again, GuildMember)
    a = again
    guild_fleet.settle()
    guild_fleet.down.clear()
    guild_fleet.come_to_rest()
    assert "said too late" not in a.texts("ann", general) + b.texts("bob", general)
    with pytest.raises(Forbidden):
        c.say("cat", general, "again")
    assert a.guild(guild_id) == b.guild(guild_id) == c.guild(guild_id)
    assert a.state_of(general) == b.state_of(general) == c.state_of(general)
