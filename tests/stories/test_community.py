"""A place with roles, channels and categories, friends and direct messages: what people know from Discord."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.guilds.client import GuildsClient
from homeserver.harness.client import Refused, until
from homeserver.harness.ours import ServerProcess
from homeserver.harness.person import V3, Person, in_path
from tests.gateway.client import CallFailed, GatewayClient
from tests.stories.people import forbidden, mentioned, people_of, reactions_of, upload


def test_a_community(shared_server: ServerProcess) -> None:
    ann, bob, cat, dan = people_of(shared_server, "ann", "bob", "cat", "dan")
    guilds = {person.user_id: GuildsClient(person) for person in (ann, bob, cat, dan)}

    # -- the place, and who may do what in it
    guild = guilds[ann.user_id].create("The allotments", topic="Beans and neighbours", template="community")
    code = guild.create_invite(max_uses=3)["code"]
    assert guilds[bob.user_id].invite(code)["name"] == "The allotments"
    for person in (bob, cat, dan):
        guilds[person.user_id].join_by(code)
    assert guild.whole()["member_count"] == 4
    with pytest.raises(Refused):
        people_of(shared_server, "eve")[0].call("POST", f"/_guildhall/client/v1/invites/{code}/join", {})
    wardens = guild.create_role(
        "wardens", color="#228b22", permissions=["kick_members", "manage_messages", "mute_members"], mentionable=True
    )
    guild.give_role(bob.user_id, wardens)
    yard = guild.create_category("The yard")
    talk = guild.create_channel("talk", topic="Over the fence", category_id=yard)
    shed = guild.create_channel("shed", category_id=yard)
    guild.override(shed, wardens, allow=["view_channel"])
    guild.override(shed, "everyone", deny=["view_channel"])
    seen = {one["name"] for one in guilds[cat.user_id].guild(guild.guild_id).whole()["channels"]}
    assert "talk" in seen and "shed" not in seen
    assert shed in bob.rooms() and shed not in cat.rooms()
    assert forbidden(lambda: cat.say(shed, "let me in"))
    assert forbidden(lambda: cat.call("GET", f"{V3}/rooms/{in_path(shed)}/messages?dir=b"))
    assert "send_messages" in guild.permissions(cat.user_id, talk)["permissions"]

    # -- what is said in it, heard by a light client
    bot = GatewayClient(shared_server.port, dan.token)
    assert guild.guild_id in [one["guild_id"] for one in bot.ready["guilds"]]
    first = cat.say(talk, "Who took my watering can?")
    heard = bot.until("message.created")
    assert (heard["room_id"], heard["event"]["event_id"]) == (talk, first)
    reply = bot.call(
        "message.send",
        room_id=talk,
        content={
            "msgtype": "m.text",
            "body": "It is behind the hedge",
            "m.mentions": {"user_ids": [cat.user_id]},
            "m.relates_to": {"m.in_reply_to": {"event_id": first}},
        },
    )["event_id"]
    assert mentioned(cat, talk) == 1
    bot.call("reaction.add", room_id=talk, event_id=first, key="🪴")
    until(lambda: reactions_of(cat, talk, first), {"🪴": 1})
    bot.call("message.edit", room_id=talk, event_id=reply, content={"msgtype": "m.text", "body": "Behind the shed"})
    shown = cat.event(talk, reply)
    assert shown["unsigned"]["m.relations"]["m.replace"]["content"]["m.new_content"]["body"] == "Behind the shed"
    picture = upload(cat, b"\x89PNG\r\n\x1a\n" + bytes(64), "image/png", "can.png")
    image = {"msgtype": "m.image", "body": "can.png", "url": picture, "info": {"mimetype": "image/png"}}
    shown_at = cat.send(talk, "m.room.message", image)
    assert heard_of(bot, shown_at)["content"]["url"] == picture
    cat.send(
        talk,
        "m.room.message",
        {"msgtype": "m.text", "body": "Wardens?", "m.mentions": {"chat.guildhall.roles": [wardens]}},
    )
    until(lambda: mentioned(bob, talk), 1)

    # -- order is kept
    bad = dan.say(talk, "Buy my seeds! Buy my seeds!")
    assert forbidden(lambda: cat.redact(talk, bad))
    bob.redact(talk, bad, "advertising")
    deleted = bot.until("message.deleted")
    assert deleted["room_id"] == talk
    guild.override(talk, dan.user_id, deny=["send_messages"])  # muted, in this channel
    assert forbidden(lambda: dan.say(talk, "But they are good seeds"))
    with pytest.raises(CallFailed) as caught:
        bot.call("message.send", room_id=talk, content={"msgtype": "m.text", "body": "Seeds!"})
    assert caught.value.errcode == "M_FORBIDDEN"
    guild.remove_override(talk, dan.user_id)
    dan.say(talk, "Sorry.")
    guilds[bob.user_id].guild(guild.guild_id).kick(dan.user_id, "seeds again")
    assert bot.until("server.member_kicked")["guild_id"] == guild.guild_id
    assert forbidden(lambda: dan.say(talk, "Hello?"))
    actions = [entry["action"] for entry in guild.audit()]
    assert actions[0] == "member.kick" and "role.create" in actions

    # -- everything has its place
    whole = guild.whole()
    layout = [{"category_id": one["category_id"], "channels": []} for one in reversed(whole["categories"])]
    by_id: dict[Any, list[str]] = {one["category_id"]: one["channels"] for one in layout}
    for channel in reversed(whole["channels"]):
        by_id[channel["category_id"]].append(channel["room_id"])
    guild.arrange(layout)
    assert [one["name"] for one in guild.whole()["categories"]] == [
        one["name"] for one in reversed(whole["categories"])
    ]

    # -- friends
    _friends(cat, dan, bot)
    guild.hand_over(bob.user_id)
    guild.leave()
    guilds[bob.user_id].guild(guild.guild_id).delete()
    assert guilds[cat.user_id].mine() == []


def heard_of(bot: GatewayClient, event_id: str) -> Any:
    """A message, once the client has heard of it."""
    while (event := bot.until("message.created")["event"])["event_id"] != event_id:
        pass
    return event


def _friends(cat: Person, dan: Person, bot: GatewayClient) -> None:
    """They become friends although one of them was put out, and talk among themselves. `bot`: dan's."""
    one, other = GuildsClient(cat), GuildsClient(dan)
    one.ask_friend(dan.user_id)
    assert bot.until("friend_request.received")["user_id"] == cat.user_id
    other.accept_friend(cat.user_id)
    assert [friend["user_id"] for friend in one.friends()["friends"]] == [dan.user_id]
    room_id = one.dm(dan.user_id)
    assert other.dm(cat.user_id) == room_id
    cat.say(room_id, "The can was yours, wasn't it?")
    until(lambda: dan.texts(room_id), ["The can was yours, wasn't it?"])
    other.unfriend(cat.user_id)
    assert one.friends()["friends"] == []
