"""Calling the guild API in a house: through the route table and the asks, without sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from attrs import define
from jsonschema import Draft202012Validator

from homeserver.errors import MatrixError
from homeserver.guilds.api.openapi import whole_document
from homeserver.http.answer import answer_of
from homeserver.http.route import RequestInfo
from tests.guilds.fixtures import GuildHouse, open_guild_house

API = "/_guildhall/client/v1"


@define
class ApiHouse(GuildHouse):
    """People are named by their localparts."""

    def call(self, name: str | None, method: str, path: str, body: Any = None) -> Any:
        """Call an endpoint as somebody, or as nobody; the JSON of its answer. Raises MatrixError.

        `path` is what follows the prefix; `guilds/{}/roles`-like paths are written with `at`.
        """
        return self.wait(self.start(name, method, path, body))

    async def start(self, name: str | None, method: str, path: str, body: Any = None) -> Any:
        """`call`, while others do something too."""
        target, _, query = path.partition("?")
        match = self.house.table.match(method, f"{API}/{target}".encode())
        endpoint = match.endpoint
        raw = b"" if body is None else json.dumps(body).encode()
        ask = None if endpoint.reader is None else endpoint.reader.read(match.values, query, raw)
        info = RequestInfo("127.0.0.1", "test", "1")
        who = None if name is None else self.who(name)
        answer = orjson.loads(answer_of(await endpoint.call(who, ask, info)).body)
        complaints = list(answers_of(method, endpoint.route.path).iter_errors(answer))
        assert not complaints, complaints[:3]
        return answer

    def refused(self, name: str | None, method: str, path: str, body: Any = None) -> str:
        """Call an endpoint that must refuse: `STATUS ERRCODE: words`."""
        with pytest.raises(MatrixError) as caught:
            self.call(name, method, path, body)
        return str(caught.value)

    def whole(self, name: str, guild_id: str) -> Any:
        return self.call(name, "GET", at("guilds", guild_id))

    def new(self, name: str = "ann", **body: Any) -> str:
        """A guild of somebody's; its id."""
        return str(self.call(name, "POST", "guilds", {"name": "A place", **body})["guild_id"])

    def new_role(self, guild_id: str, name: str, *permissions: str, by: str = "ann", **more: Any) -> str:
        body = {"name": name, "permissions": list(permissions), **more}
        return str(self.call(by, "POST", at("guilds", guild_id, "roles"), body)["role_id"])

    def new_channel(self, guild_id: str, name: str, by: str = "ann", **more: Any) -> str:
        return str(self.call(by, "POST", at("guilds", guild_id, "channels"), {"name": name, **more})["room_id"])

    def new_category(self, guild_id: str, name: str, by: str = "ann", **more: Any) -> str:
        return str(self.call(by, "POST", at("guilds", guild_id, "categories"), {"name": name, **more})["category_id"])

    def give_role(self, guild_id: str, name: str, role_id: str, by: str = "ann") -> None:
        self.call(by, "PUT", at("guilds", guild_id, "members", self.user(name), "roles", role_id))

    def roles(self, guild_id: str) -> list[str]:
        """Names, highest first."""
        return [role["name"] for role in self.call("ann", "GET", at("guilds", guild_id, "roles"))["roles"]]


@cache
def answers_of(method: str, path: str) -> Draft202012Validator:
    """What the OpenAPI document says of an operation's answers."""
    document = whole_document()
    schema = document["paths"][path][method.lower()]["responses"]["200"]["content"]["application/json"]["schema"]
    return Draft202012Validator({**schema, "components": document["components"]})


def at(*parts: str) -> str:
    """A path of these segments."""
    return "/".join(quote(part, safe="") for part in parts)


@pytest.fixture
def hall(tmp_path: Path, database_url: str) -> Iterator[ApiHouse]:
    opened = open_guild_house(tmp_path, database_url)
    house = ApiHouse(opened.house, opened.reactor)
    house.wait(house.house.guilds.start())
    yield house
    house.rest()
    house.wait(house.house.close())
