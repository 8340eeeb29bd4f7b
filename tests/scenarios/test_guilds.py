"""A guild on three servers: its own, another of this kind, and a Synapse that knows only rooms and levels."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import nio
import pytest

from homeserver.harness.client import until
from homeserver.harness.person import Person, in_path
from tests.fixtures_town import Cast, Casting, wait_for_members

API = "/_guildhall/client/v1"
HIDDEN: dict[str, Any] = {"overrides": {"everyone": {"allow": [], "deny": ["view_channel"]}}}

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


def call(who: Person, method: str, *path: str, **body: Any) -> Any:
    return who.call(method, "/".join([API, *(in_path(part) for part in path)]), body or None)


def status(who: Person, room_id: str, text: str) -> int:
    """What saying something comes to: the judgement of one's own server."""
    path = f"/_matrix/client/v3/rooms/{in_path(room_id)}/send/m.room.message/{in_path(text)}"
    return who.request("PUT", path, {"msgtype": "m.text", "body": text}).status


def joins(who: Person, room_id: str, via: Any) -> int:
    path = f"/_matrix/client/v3/join/{in_path(room_id)}?via={in_path(via.name)}&server_name={in_path(via.name)}"
    return who.request("POST", path, {}).status


@pytest.mark.timeout(300)
@pytest.mark.parametrize("cast", [Casting(("ours", "ours", "synapse"), "12")], indirect=True, ids=str)
def test_a_guild_on_three_servers(cast: Cast) -> None:
    home, other, plain = cast
    ann, bob, sue = cast.person("ann", home), cast.person("bob", other), cast.person("sue", plain)
    guild_id = call(ann, "POST", "guilds", name="Three")["guild_id"]
    call(ann, "PATCH", "guilds", guild_id, discoverable=True)
    general = next(
        one["room_id"] for one in call(ann, "GET", "guilds", guild_id)["channels"] if one["name"] == "general"
    )
    closed = call(ann, "POST", "guilds", guild_id, "channels", name="closed", **HIDDEN)["room_id"]

    # Joining: with all channels from one of ours, room by room from a plain server.
    bob.join(guild_id, via=[home])
    until(lambda: general in bob.rooms(), True)
    assert joins(sue, guild_id, home) == 200
    assert joins(sue, general, home) == 200
    wait_for_members(general, ann, bob, sue, everybody=[ann, bob, sue, home_steward(ann)])
    for person, text in ((ann, "from home"), (bob, "from another"), (sue, "from afar")):
        assert status(person, general, text) == 200
    for reader in (ann, bob, sue):
        until(lambda reader=reader: set(reader.texts(general)), {"from home", "from another", "from afar"})  # type: ignore[misc]
    listening(sue, general, guild_id)

    # What is closed stays closed, over whatever server.
    for way in (home, other):
        assert joins(sue, closed, way) >= 400
        assert joins(bob, closed, way) >= 400

    # A member on another of our servers uses the same API at home.
    call(ann, "PUT", "guilds", guild_id, "members", bob.user_id, "roles", "admin")
    until(lambda: closed in bob.rooms(), True)
    lounge = call(bob, "POST", "guilds", guild_id, "channels", name="lounge")["room_id"]
    until(lambda: lounge in bob.rooms(), True)
    until(lambda: lounge in ann.rooms(), True)
    assert joins(sue, lounge, home) == 200

    # A member of the plain server calls the guild's own server, and says who she is by a token of her own.
    made = sue.call("POST", f"/_matrix/client/v3/user/{in_path(sue.user_id)}/openid/request_token", {})
    header = {"Authorization": f"MatrixOpenID {made['access_token']} {made['matrix_server_name']}"}
    me = f"{API}/guilds/{in_path(guild_id)}/members/{in_path(sue.user_id)}"
    assert home.request("PATCH", me, {"nick": "Suzie"}, headers=header).status == 200
    assert home.request("PATCH", me, {"roles": ["admin"]}, headers=header).status == 403
    members = call(bob, "GET", "guilds", guild_id, "members")["members"]
    assert {one["user_id"] for one in members} == {person.user_id for person in (ann, bob, sue)}
    until(lambda: "Suzie" in str(call(bob, "GET", "guilds", guild_id, "members")), True)

    # A role change is enforced by the Synapse on its own people.
    muting = {"allow": [], "deny": ["send_messages"]}
    assert status(sue, lounge, "still") == 200
    call(bob, "PUT", "guilds", guild_id, "channels", lounge, "overrides", sue.user_id, **muting)
    until(lambda: status(sue, lounge, f"muted {len(sue.texts(lounge))}"), 403)
    assert status(sue, general, "not here") == 200
    call(bob, "DELETE", "guilds", guild_id, "channels", lounge, "overrides", sue.user_id)
    until(lambda: status(sue, lounge, "again"), 200)

    # Who loses the view is put out, and a plain client that is kicked is out of everything.
    hiding = {"allow": [], "deny": ["view_channel"]}
    call(bob, "PUT", "guilds", guild_id, "channels", lounge, "overrides", sue.user_id, **hiding)
    until(lambda: lounge in sue.rooms(), False)
    call(bob, "POST", "guilds", guild_id, "members", sue.user_id, "kick")
    until(lambda: sue.rooms() & {guild_id, general, lounge}, set())
    assert joins(sue, general, home) >= 400
    assert joins(sue, guild_id, home) == 200
    call(bob, "POST", "guilds", guild_id, "members", sue.user_id, "ban")
    until(lambda: joins(sue, guild_id, home), 403)  # as long as her server has not heard of it, she is in it
    assert guild_id not in sue.rooms()
    assert joins(sue, general, other) >= 400

    # A member of ours who is put out is out of everything as well.
    call(ann, "POST", "guilds", guild_id, "members", bob.user_id, "kick")
    until(lambda: bob.rooms() & {guild_id, general, closed, lounge}, set())


def home_steward(ann: Person) -> Person:
    """The guild's own account, as far as tests need to name it."""
    return Person(ann.server, f"@guildhall:{ann.server.name}", "", "")


def listening(sue: Person, room_id: str, guild_id: str) -> None:
    """A client library that has never heard of guilds: it sees the space and its channel, and speaks there."""

    async def story() -> None:
        client = nio.AsyncClient(sue.server.base, sue.user_id)
        client.access_token, client.user_id, client.device_id = sue.token, sue.user_id, sue.device_id
        try:
            assert isinstance(await client.sync(timeout=0, full_state=True), nio.SyncResponse)
            channel, space = client.rooms[room_id], client.rooms[guild_id]
            assert channel.name == "general" and space.name == "Three" and space.room_type == "m.space"
            assert guild_id in channel.parents and room_id in space.children
            content = {"msgtype": "m.text", "body": "by nio"}
            assert isinstance(await client.room_send(room_id, "m.room.message", content), nio.RoomSendResponse)
            assert isinstance(
                await client.room_put_state(room_id, "m.room.topic", {"topic": "x"}), nio.RoomPutStateError
            )
        finally:
            await client.close()

    with ThreadPoolExecutor(1) as stage:
        stage.submit(asyncio.run, story()).result()
