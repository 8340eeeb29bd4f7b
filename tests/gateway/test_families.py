"""What is told of what, family by family: stories, and every event that comes of them."""

from __future__ import annotations

from typing import Any

from homeserver.userdata.account_data import AccountData
from tests.gateway.fixtures import Ear, connect
from tests.guilds.api import ApiHouse, at, hall

__all__ = ["hall"]

#: All families but those that tell of who is there, which come whenever somebody does anything.
QUIET = [
    "message", "reaction", "typing", "receipt", "room", "server", "role", "channel", "category",
]  # fmt: skip


def said(text: str) -> dict[str, Any]:
    return {"msgtype": "m.text", "body": text}


def ask(ear: Ear, method: str, **params: Any) -> Any:
    """Call, and the result; events that come are left for later."""
    ear.say(op="call", id="x", method=method, params=params)
    messages = ear.messages()
    ear.sent = [one for one in messages if one["op"] == "event"]
    (result,) = (one for one in messages if one["op"] == "result")
    return result["ok"]


def test_messages_and_reactions(hall: ApiHouse) -> None:
    room_id = hall.create("ann", preset="public_chat")
    hall.join("bob", room_id)
    ann, bob = connect(hall, "ann", QUIET), connect(hall, "bob", QUIET)
    event_id = ask(ann, "message.send", room_id=room_id, content=said("hi"))["event_id"]
    edit = ask(ann, "message.edit", room_id=room_id, event_id=event_id, content=said("ho"))["event_id"]
    reaction = ask(bob, "reaction.add", room_id=room_id, event_id=event_id, key="+")["event_id"]
    ask(bob, "reaction.remove", room_id=room_id, event_id=event_id, key="+")
    again = ask(bob, "reaction.add", room_id=room_id, event_id=event_id, key="-")["event_id"]
    ask(bob, "reaction.remove", room_id=room_id, event_id=again)
    ask(ann, "message.delete", room_id=room_id, event_id=event_id, reason="no")
    bob_id = hall.user("bob")
    story = [
        ("message.created", room_id, event_id),
        ("message.updated", room_id, event_id),
        ("reaction.added", room_id, event_id, "+", bob_id),
        ("reaction.removed", room_id, reaction, bob_id),
        ("reaction.added", room_id, event_id, "-", bob_id),
        ("reaction.removed", room_id, again, bob_id),
        ("message.deleted", room_id, event_id),
    ]
    messages = bob.messages()
    bob.sent = messages
    assert ann.news("room_id", "event_id", "key", "user_id") == story
    assert bob.news("room_id", "event_id", "key", "user_id") == story
    events = [one["data"]["event"] for one in messages]
    assert events[0]["room_id"] == room_id and events[0]["content"] == said("hi")
    assert events[1]["event_id"] == edit and events[1]["content"]["m.new_content"] == said("ho")
    assert events[-1]["content"]["reason"] == "no"


def test_what_passes(hall: ApiHouse) -> None:
    room_id = hall.create("ann", preset="public_chat")
    hall.join("bob", room_id)
    ann = connect(hall, "ann", ["typing", "receipt", "presence"])
    bob = connect(hall, "bob", [])
    event_id = hall.say("ann", room_id, "hi")
    assert bob.messages()[0]["op"] == "ready" and ann.messages()
    ask(bob, "typing", room_id=room_id, typing=True)
    assert ann.news("room_id", "user_ids") == [("typing", room_id, [hall.user("bob")])]
    ask(bob, "typing", room_id=room_id, typing=False)
    assert ann.news("room_id", "user_ids") == [("typing", room_id, [])]
    ask(bob, "read", room_id=room_id, event_id=event_id)
    ((kind, receipts),) = ann.news("receipts")
    assert kind == "receipt" and list(receipts[event_id]["m.read"]) == [hall.user("bob")]
    ask(bob, "presence", status="away", status_msg="tea")
    assert ann.news("user_id", "presence", "status_msg") == [
        ("presence.updated", hall.user("bob"), "unavailable", "tea")
    ]
    assert bob.news() == []


def test_ignored_people(hall: ApiHouse) -> None:
    room_id = hall.create("ann", preset="public_chat")
    hall.join("bob", room_id)
    ignored: dict[str, Any] = {"ignored_users": {hall.user("bob"): {}}}
    data = hall.house.part(AccountData)
    hall.wait(data.put(hall.user("ann"), 0, "m.ignored_user_list", ignored))
    ann, bob = connect(hall, "ann"), connect(hall, "bob", [])
    ann.messages()
    hall.say("bob", room_id, "psst")
    ask(bob, "typing", room_id=room_id, typing=True)
    ask(bob, "presence", status="away")
    assert ann.news("user_ids") == [("typing", [])]


def test_rooms(hall: ApiHouse) -> None:
    ann, bob = connect(hall, "ann", QUIET), connect(hall, "bob", QUIET)
    room_id = hall.create("ann", preset="private_chat", name="A room")
    kinds = [kind for kind, *_ in ann.news()]
    assert kinds[0] == "room.created" and set(kinds[1:]) == {"room.updated"}
    hall.say("ann", room_id, "before")
    hall.wait(hall.memberships.invite(room_id, hall.user("ann"), hall.user("bob")))
    assert bob.news("room_id", "membership") == [("room.created", room_id, "invite")]
    hall.join("bob", room_id)
    assert bob.news("room_id", "membership") == [("room.created", room_id, "join")]
    hall.set_state("ann", room_id, "m.room.topic", {"topic": "tea"})
    assert bob.news("room_id") == [("room.updated", room_id)]
    hall.say("ann", room_id, "after")
    hall.leave("bob", room_id)
    hall.say("ann", room_id, "alone")
    assert bob.news("room_id", "membership") == [
        ("message.created", room_id), ("room.deleted", room_id, "leave"),
    ]  # fmt: skip
    assert ann.news() == [
        ("message.created",), ("room.updated",), ("room.updated",), ("room.updated",), ("message.created",),
        ("room.updated",), ("message.created",),
    ]  # fmt: skip


def test_members_of_guilds(hall: ApiHouse) -> None:
    ann, bob, cay = (connect(hall, name, QUIET) for name in ("ann", "bob", "cay"))
    guild_id = hall.new()
    channels = sorted(hall.guild(guild_id).channels)
    (first, *others) = ann.news("guild_id", "user_id", "room_id")
    assert first == ("server.member_joined", guild_id, hall.user("ann"))
    assert sorted(others) == [("channel.created", guild_id, channel) for channel in channels]
    for name, ear in (("bob", bob), ("cay", cay)):
        hall.enter(guild_id, name)
        hall.rest()
        assert ann.news("guild_id", "user_id") == [("server.member_joined", guild_id, hall.user(name))]
        assert ear.news("user_id")[0] == ("server.member_joined", hall.user(name))
    assert bob.news("user_id") == [("server.member_joined", hall.user("cay"))]
    hall.call("bob", "POST", at("guilds", guild_id, "leave"))
    hall.rest()
    for ear in (ann, bob, cay):
        assert ear.news("guild_id", "user_id") == [("server.member_left", guild_id, hall.user("bob"))]
    hall.enter(guild_id, "bob")
    hall.rest()
    assert [kind for kind, *_ in bob.news()] == ["server.member_joined", *["channel.created"] * len(channels)]
    cay.news()
    path = at("guilds", guild_id, "members", hall.user("bob"), "kick")
    hall.call("ann", "POST", path, {"reason": "rude"})
    hall.rest()
    for ear in (bob, cay):
        assert ear.news("user_id", "reason") == [("server.member_kicked", hall.user("bob"), "rude")]
    hall.call("ann", "POST", at("guilds", guild_id, "members", hall.user("cay"), "ban"), {})
    hall.rest()
    assert cay.news("user_id", "is_banned") == [("server.member_kicked", hall.user("cay"), True)]
    assert bob.news() == []


def test_what_a_guild_is(hall: ApiHouse) -> None:
    guild_id = hall.new()
    hall.enter(guild_id, "bob")
    hall.rest()
    ann, bob = connect(hall, "ann", QUIET), connect(hall, "bob", QUIET)
    hall.call("ann", "PATCH", at("guilds", guild_id), {"name": "Another place"})
    assert bob.news("guild_id", "room_id") == [("server.updated", guild_id)]
    category = hall.new_category(guild_id, "Talk")
    assert ("category.created", category) in bob.news("category_id")
    hall.call("ann", "PATCH", at("guilds", guild_id, "categories", category), {"name": "More talk"})
    assert bob.news("category_id") == [("category.updated", category)]
    channel = hall.new_channel(guild_id, "new", kind="text", category_id=category)
    assert bob.news("guild_id", "room_id") == [("channel.created", guild_id, channel)]
    hall.call("ann", "PATCH", at("guilds", guild_id, "channels", channel), {"topic": "tea", "category_id": None})
    assert sorted(bob.news("room_id")) == [("channel.updated", channel), ("channel.updated", channel)]
    hall.call("ann", "DELETE", at("guilds", guild_id, "categories", category))
    assert bob.news("category_id") == [("category.deleted", category)]
    role = hall.new_role(guild_id, "mods", "view_channel", "manage_messages")
    assert bob.news("role_id") == [("role.created", role), ("role.updated", "admin")]
    hall.give_role(guild_id, "bob", role)
    hall.rest()
    assert bob.news("user_id") == [("server.updated", hall.user("bob"))]
    hall.call("ann", "PATCH", at("guilds", guild_id, "roles", role), {"color": "#ff0000"})
    assert bob.news("role_id") == [("role.updated", role)]
    overrides = at("guilds", guild_id, "channels", channel, "overrides", "everyone")
    hall.call("ann", "PUT", overrides, {"allow": [], "deny": ["view_channel"]})
    hall.rest()
    assert bob.news("room_id") == [("channel.deleted", channel)]
    hall.call("ann", "PATCH", at("guilds", guild_id, "channels", channel), {"name": "secret"})
    hall.call("ann", "PATCH", at("guilds", guild_id, "channels", channel), {"slowmode_s": 5})
    assert bob.news() == []
    hall.call("ann", "DELETE", overrides)
    hall.rest()
    assert ("channel.created", channel) in bob.news("room_id")
    hall.call("ann", "DELETE", at("guilds", guild_id, "channels", channel))
    hall.rest()
    assert bob.news("room_id") == [("channel.deleted", channel)]
    assert ann.news("room_id")[-1] == ("channel.deleted", channel)
    hall.call("ann", "DELETE", at("guilds", guild_id, "roles", role))
    hall.rest()
    assert ("role.deleted", role) in bob.news("role_id")
    hall.call("ann", "DELETE", at("guilds", guild_id))
    hall.rest()
    assert bob.news("guild_id")[-1] == ("server.deleted", guild_id)
    assert [kind for kind, *_ in ann.news()][-1] == "server.deleted"


def test_a_view_of_a_room(hall: ApiHouse) -> None:
    room_id = hall.create("ann", preset="public_chat")
    hall.join("bob", room_id)
    events = [hall.say("ann", room_id, str(number)) for number in range(5)]
    ann = connect(hall, "ann", [])
    ann.messages()
    view = ask(ann, "room.subscribe", room_id=room_id, limit=3)
    assert [event["event_id"] for event in view["messages"]] == events[2:]
    assert view["online"] == [{"user_id": hall.user("ann"), "presence": "online"}]
    assert ask(ann, "room.unsubscribe", room_id=room_id) == {}
