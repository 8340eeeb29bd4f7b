"""A server on each database for all hostile tests of this process, and a scene on it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.e2e.hostile.calls import GUILDS, Scene
from tests.e2e.hostile.line import Line, segment
from tests.fixtures_db import PostgresServer
from tests.fixtures_server import Person, ServerProcess, running_servers
from tests.media.files import picture

SECRET = "the-cake-is-in-the-cellar"


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def besieged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose log may hold no error in the end, whatever is sent to it."""
    database = None
    if request.param == "postgresql":
        postgres: PostgresServer = request.getfixturevalue("postgres")
        database = postgres.new_database()
    with running_servers(lambda: tmp_path_factory.mktemp("besieged")) as start:
        # Odd names of servers are to be judged here, not looked for in the world; `test_peers.py` opens that door.
        yield start(database=database, registration__allow_guests="true", federation__enabled="false")


@pytest.fixture
def line(besieged: ServerProcess) -> Iterator[Line]:
    opened = Line(besieged)
    yield opened
    opened.close()


@pytest.fixture
def scene(besieged: ServerProcess) -> Scene:
    return new_scene(besieged)


def new_scene(server: ServerProcess, version: str | None = None) -> Scene:
    """Somebody new with a room of their own, an alias, and a friend in it; what they say there is secret."""
    name = f"alice{secrets.token_hex(4)}"
    alice, bob = server.register(name), server.register(name.replace("alice", "bob"))
    room_id = alice.create_room(
        preset="public_chat", room_alias_name=name, topic=SECRET, name=SECRET, room_version=version
    )
    bob.join(room_id)
    event_id = alice.say(room_id, SECRET)
    made = alice.call("POST", f"/_matrix/client/v3/user/{segment(alice.user_id)}/filter", {"room": {}})
    uploaded = alice.request("POST", "/_matrix/media/v3/upload", picture())
    media_id = str(uploaded.json["content_uri"]).rpartition("/")[2]
    scene = Scene(alice, room_id, event_id, bob, str(made["filter_id"]), f"#{name}:{server.name}", media_id)
    scene.guild = new_guild(alice)
    return scene


def new_guild(owner: Person) -> dict[str, str]:
    """A guild of somebody's, as path parameters; its name is secret."""
    guild_id = owner.call("POST", GUILDS[:-1], {"name": SECRET})["guild_id"]
    path = f"{GUILDS}{segment(guild_id)}"
    whole = owner.call("GET", path)
    return {
        "guild_id": guild_id,
        "guild_channel": whole["channels"][0]["room_id"],
        "category_id": whole["categories"][0]["category_id"],
        "role_id": owner.call("POST", f"{path}/roles", {"name": "A role"})["role_id"],
        "target": "everyone",
        "code": owner.call("POST", f"{path}/invites", {})["code"],
        "shortcode": "party",
    }


def is_intact(scene: Scene) -> bool:
    """Whether its person is still logged in and in the room."""
    member = f"/_matrix/client/v3/rooms/{segment(scene.room_id)}/state/m.room.member/{segment(scene.person.user_id)}"
    answer = scene.person.request("GET", member)
    return answer.status == 200 and answer.json.get("membership") == "join"
