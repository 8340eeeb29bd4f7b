"""The Python client says what the API hears: each operation is called by one of its methods, as the document has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

import pytest
from attrs import define, field
from jsonschema import Draft202012Validator

from homeserver.guilds.api.openapi import whole_document
from homeserver.guilds.client import GuildsClient, NotReached, Refused, Session
from homeserver.harness.ours import ServerProcess
from tests.guilds.api import API

DOCUMENT = whole_document()
OPERATIONS = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
USER, ROOM = "@ann/b:example.org", "!room/1"
SLASHED = (USER, ROOM, "!guild/1", "code/1", "$event/1")


@define
class Ear:
    """A `Caller` that remembers, and gives an answer in which everything is found."""

    heard: list[tuple[str, str, Any, Any]] = field(factory=list)

    def call(self, method: str, path: str, body: object = None, query: Any = None) -> Any:
        self.heard.append((method, path, body, query))
        answer: dict[str, Any] = dict.fromkeys(("guild_id", "role_id", "category_id", "room_id", "id"), "x")
        return Everything(answer)


class Everything(dict[str, Any]):
    """Lists that are empty, under every name."""

    def __missing__(self, key: str) -> Any:
        if key == "next":
            raise KeyError(key)
        return []


def everything(guilds: GuildsClient) -> list[Callable[[], object]]:
    """One call of each method."""
    guild, room = guilds.guild("!guild/1"), guilds.room(ROOM)
    return [
        guilds.mine,
        lambda: guilds.create("A place", topic="x", template="team"),
        lambda: guilds.invite("code/1"),
        lambda: guilds.join_by("code@example.org"),
        guild.whole,
        lambda: guild.edit(name="Two", lazy=None),
        guild.delete,
        guild.join,
        guild.leave,
        lambda: guild.hand_over(USER),
        lambda: guild.arrange([{"category_id": None, "channels": [ROOM]}]),
        lambda: list(guild.members(role="red", q="an", limit=5)),
        lambda: guild.edit_member(USER, nick="Ann"),
        lambda: guild.kick(USER, "why"),
        lambda: guild.ban(USER),
        lambda: guild.unban(USER, "why not"),
        guild.bans,
        guild.roles,
        lambda: guild.create_role("red", color="#ff0000", permissions=["connect"]),
        lambda: guild.edit_role("red", hoist=True),
        lambda: guild.delete_role("red"),
        lambda: guild.order_roles(["red", "blue"]),
        lambda: guild.give_role(USER, "red"),
        lambda: guild.take_role(USER, "red"),
        lambda: guild.permissions(USER),
        lambda: guild.permissions(USER, ROOM),
        lambda: guild.create_category("away"),
        lambda: guild.edit_category("away", name="far away"),
        lambda: guild.delete_category("away"),
        lambda: guild.create_channel("general", topic="x"),
        lambda: guild.edit_channel(ROOM, slowmode_s=5),
        lambda: guild.delete_channel(ROOM),
        lambda: guild.override(ROOM, USER, allow=["connect"]),
        lambda: guild.remove_override(ROOM, USER),
        lambda: guild.inherit(ROOM),
        lambda: guild.override_category("away", "red", deny=["connect"]),
        lambda: guild.remove_category_override("away", "red"),
        guild.invites,
        lambda: guild.create_invite(max_uses=1),
        lambda: guild.delete_invite("code"),
        guild.emoji,
        lambda: guild.one_emoji("smile"),
        lambda: guild.put_emoji("smile", "mxc://a/b"),
        lambda: guild.delete_emoji("smile"),
        lambda: list(guild.audit(limit=5)),
        lambda: list(guild.reports(state="open")),
        lambda: guild.report(ROOM, "$event/1", "rude"),
        lambda: guild.decide_report("7", "resolved", "done"),
        lambda: guild.analytics(**{"from": 1, "to": 2}),
        guilds.friends,
        lambda: guilds.ask_friend(USER),
        lambda: guilds.accept_friend(USER),
        lambda: guilds.decline_friend(USER),
        lambda: guilds.cancel_friend(USER),
        lambda: guilds.unfriend(USER),
        guilds.dms,
        lambda: guilds.dm(USER),
        lambda: guilds.transcript("example.org", "abc"),
        lambda: guilds.set_status("busy", status_msg="baking"),
        lambda: guilds.mute(ROOM, 5),
        lambda: guilds.unmute(ROOM),
        lambda: room.delete(purge=True),
        lambda: room.status("$event/1"),
        lambda: room.edits("$event/1"),
        lambda: room.forward("$event/1", [ROOM]),
        room.scheduled,
        lambda: room.schedule(5, {"msgtype": "m.text", "body": "x"}),
        lambda: room.change_scheduled("id", at_ts=6),
        lambda: room.cancel_scheduled("id"),
        room.analytics,
        lambda: room.export(**{"from": 1}),
    ]


def test_each_operation_is_called_as_the_document_says() -> None:
    ear = Ear()
    found = set()
    for call in everything(GuildsClient(ear)):
        call()
        method, path, body, query = ear.heard[-1]
        template, values = template_of(method, path)
        found.add((method, template))
        operation = DOCUMENT["paths"][template][method.lower()]
        assert all("/" not in value or value in SLASHED for value in values)
        known = {one["name"] for one in operation.get("parameters", []) if one["in"] == "query"}
        assert set(query or ()) <= known, path
        schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        if schema is not None:
            validator = Draft202012Validator({**schema, "components": DOCUMENT["components"]})
            assert not list(validator.iter_errors(body)), (method, path, body)
            assert set(body or {}) <= set(properties(schema)), (method, path)
        else:
            assert not body, (method, path)
    assert found == OPERATIONS


def template_of(method: str, path: str) -> tuple[str, list[str]]:
    """The document's path that a path is one of, the one with the most fixed segments, and what stands in its gaps."""
    segments = path.split("/")
    fitting: list[tuple[int, str, list[str]]] = []
    for known, template in OPERATIONS:
        parts = template.split("/")
        if known != method or len(parts) != len(segments):
            continue
        gaps = [(part, segment) for part, segment in zip(parts, segments, strict=True) if part.startswith("{")]
        fixed = [part == segment for part, segment in zip(parts, segments, strict=True) if not part.startswith("{")]
        if all(fixed):
            fitting.append((len(fixed), template, [unquote(segment) for _, segment in gaps]))
    assert fitting, (method, path)
    _, template, values = max(fitting)
    return template, values


def properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an object of this schema may have in it."""
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return dict(schema.get("properties", {}))


def test_a_session_speaks_to_a_server(shared_server: ServerProcess) -> None:
    ann = shared_server.register("ann-of-clients")
    guilds = GuildsClient(Session(shared_server.base, ann.token))
    guild = guilds.create("Gardeners", template="community")
    role_id = guild.create_role("mods", permissions=["kick_members"])
    guild.give_role(ann.user_id, role_id)
    assert [one["user_id"] for one in guild.members(role=role_id)] == [ann.user_id]
    assert next(guild.audit(limit=1))["action"].startswith("member.")
    assert guild.guild_id in [one["guild_id"] for one in guilds.mine()]
    with pytest.raises(Refused) as caught:
        guilds.guild("!none").whole()
    assert (caught.value.status, caught.value.errcode) == (404, "M_NOT_FOUND")
    with pytest.raises(NotReached):
        Session("http://127.0.0.1:9", "x").call("GET", API)
