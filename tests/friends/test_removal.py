"""Deleting rooms: everybody is out of them, and nobody finds them."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred

from homeserver.friends.api.rooms import DeleteRoom, delete_room
from homeserver.guilds.api.desk import Desk
from homeserver.guilds.closing import Closer
from homeserver.retention.expiry import Expiry
from homeserver.rooms.removal import Removal
from homeserver.tasks import Tasks
from storage import aliases, directory
from storage.ports import Cursor
from tests.friends.people import FriendHouse, street
from tests.guilds.api import at

__all__ = ["street"]


def test_a_room_is_deleted_by_who_made_it(street: FriendHouse) -> None:
    bob, cat = street.user("bob"), street.user("cat")
    room_id = street.create(
        "ann", preset="public_chat", room_alias_name="place", visibility="public", room_version="10", invite=[cat],
        power_level_content_override={"users": {street.user("ann"): 100, bob: 100}},
    )  # fmt: skip
    for name in ("bob", "dan"):
        street.join(name, room_id)
    path = at("rooms", room_id)
    assert street.refused("bob", "DELETE", path).startswith("403")
    for outsider in ("cat", "eve"):
        assert street.refused(outsider, "DELETE", path).startswith("404")
    assert street.refused("eve", "DELETE", at("rooms", "!none")).startswith("404")
    assert street.refused("eve", "DELETE", at("rooms", "no-room")).startswith("400")
    street.call("ann", "DELETE", path)
    assert {name: street.membership(name, room_id) for name in ("ann", "bob", "cat", "dan")} == dict.fromkeys(
        ("ann", "bob", "cat", "dan"), "leave"
    )
    for name in ("ann", "bob", "cat", "dan"):
        assert "rooms" not in street.sync(name, full_state=True, filter={"room": {"include_leave": True}})
    assert street.content(room_id, "m.room.join_rules") == {"join_rule": "invite"}
    assert room_id not in str(street.wait(street.house.database.run(published)))
    street.call("ann", "DELETE", path)  # once more is no mistake


def published(cursor: Cursor) -> list[object]:
    return [*directory.published(cursor), aliases.find(cursor, "#place:test.example")]


def test_an_admin_may_be_outside(street: FriendHouse) -> None:
    room_id = street.create("ann", preset="private_chat", invite=[street.user("bob")])
    street.join("bob", room_id)
    house = street.house
    admin = attrs.evolve(street.who("dan"), is_admin=True)
    parts = (house.part(Removal), house.part(Desk), house.part(Closer), house.part(Expiry), house.part(Tasks))
    street.wait(Deferred.fromCoroutine(delete_room(*parts, admin, DeleteRoom(room_id))))
    assert street.membership("ann", room_id) == street.membership("bob", room_id) == "leave"


def test_what_was_said_is_purged_where_that_is_asked_for(street: FriendHouse) -> None:
    guild_id = street.new()
    channel = street.channel(guild_id, "general")
    kept = street.create("ann", preset="private_chat")
    room_id = street.create("ann", preset="private_chat")
    for where in (channel, kept, room_id):
        for number in range(3):
            street.say("ann", where, f"a secret of {number}", f"{where}{number}")
    street.call("ann", "DELETE", at("rooms", kept))
    for place in (room_id, guild_id):
        street.call("ann", "DELETE", at("rooms", place) + "?purge=true")
    street.rest()
    assert [street.wait(street.house.database.run(secrets_in, one)) for one in (kept, room_id, channel)] == [3, 0, 0]


def secrets_in(cursor: Cursor, room_id: str) -> int:
    """How many messages of a room still say what they said."""
    rows = cursor.execute(
        "SELECT e.raw FROM events e JOIN rooms r ON r.nid = e.room_nid WHERE r.room_id = ?", (room_id,)
    ).fetchall()
    return sum(b"a secret" in bytes(raw) for (raw,) in rows)


def test_rooms_of_guilds(street: FriendHouse) -> None:
    street.wait(street.house.guilds.start())
    guild_id = street.new()
    general = street.channel(guild_id, "general")
    street.enter(guild_id, "bob")
    assert "`manage_channels`" in street.refused("bob", "DELETE", at("rooms", general))
    assert "owner" in street.refused("bob", "DELETE", at("rooms", guild_id))
    assert street.refused("eve", "DELETE", at("rooms", general)).startswith("404")
    street.call("ann", "DELETE", at("rooms", general))
    street.rest()
    assert street.membership("bob", general) == "leave" and street.membership("bob", guild_id) == "join"
    street.call("ann", "DELETE", at("rooms", guild_id))
    street.rest()
    assert street.membership("bob", guild_id) == street.membership("ann", guild_id) == "leave"
