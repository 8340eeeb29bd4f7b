"""The OpenAPI document and the page that shows it. Whatever the API's other tests are answered is held against it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from homeserver.errors import MatrixError
from homeserver.guilds.api.openapi import DESCRIBED, operations, whole_document
from homeserver.http.route import Auth, routes_of
from tests.fixtures_server import ServerProcess
from tests.guilds.api import API, ApiHouse, at, hall

__all__ = ["hall"]

OPERATIONS = list(operations(whole_document()["paths"]))


def test_it_describes_what_is_served() -> None:
    served = {(row.method, row.path): row for module in DESCRIBED for row in routes_of(module)}
    assert {(method, path) for method, path, _ in OPERATIONS} == set(served)
    assert len({one["operationId"] for _, _, one in OPERATIONS}) == len(OPERATIONS) > 35
    for method, path, one in OPERATIONS:
        assert one["summary"], (method, path)
        assert (one["security"] == []) == (served[method, path].auth is Auth.NONE)
        assert {each["name"] for each in one["parameters"] if each["in"] == "path"} == set(
            re.findall(r"\{(\w+)\}", path)
        )


def test_its_schemas_are_some() -> None:
    document = whole_document()
    referred = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert referred <= set(document["components"]["schemas"])
    for _, _, one in OPERATIONS:
        for schema in schemas_in(one):
            Draft202012Validator.check_schema(schema)


def schemas_in(value: Any) -> list[Any]:
    if isinstance(value, dict):
        found = [inner for name, inner in value.items() if name == "schema"]
        return [*found, *(one for inner in value.values() for one in schemas_in(inner))]
    return [one for inner in value for one in schemas_in(inner)] if isinstance(value, list) else []


#: Members of bodies that are good for what the document says of them, by name; of others some good one is made.
GOOD = {
    "name": "A name", "user_id": "@zoe:test.example", "layout": [], "roles": [], "url": "mxc://a/b", "at_ts": 2**50,
    "content": {}, "room_ids": ["!none"], "state": "open", "status": "online",
    "room_id": "!none",
}  # fmt: skip
WRONG: list[Any] = [[[]], {"a": {"b": 1}}, -1, 1.5, "\\0", "", True]


def test_bodies_are_judged_as_it_says(hall: ApiHouse) -> None:
    """What the document calls wrong is refused with 400 that names the member."""
    guild_id = hall.new()
    room_id = hall.channel(guild_id, "general")
    (category,) = hall.guild(guild_id).categories
    values = {
        "guild_id": guild_id, "room_id": room_id, "category_id": category, "user_id": hall.user("ann"),
        "target": "everyone", "shortcode": "x", "code": "none", "role_id": hall.new_role(guild_id, "x"),
        "event_id": "$none", "schedule_id": "none", "report_id": "0",
    }  # fmt: skip
    components = whole_document()["components"]
    tried = 0
    for method, path, one in OPERATIONS:
        if "requestBody" not in one:
            continue
        body = one["requestBody"]["content"]["application/json"]["schema"]
        good = {name: GOOD[name] for name in body["required"]}
        target = re.sub(r"\{(\w+)\}", lambda match: at(values[match[1]]), path.removeprefix(f"{API}/"))
        for name, schema in body["properties"].items():
            judge = Draft202012Validator({**schema, "components": components})
            for value in WRONG:
                if judge.is_valid(value):
                    continue
                with pytest.raises(MatrixError) as caught:
                    hall.call("ann", method, target, {**good, name: value})
                assert caught.value.status == 400 and name in caught.value.error, (method, path, name, value)
                tried += 1
    assert tried > 100


def test_both_are_there_for_all(shared_server: ServerProcess) -> None:
    assert shared_server.call("GET", "/_guildhall/openapi.json") == json.loads(json.dumps(whole_document()))
    page = shared_server.request("GET", "/_guildhall/docs")
    assert page.status == 200 and page.headers["Content-Type"].startswith("text/html")
    assert "script" not in page.headers["Content-Security-Policy"]
    text = page.body.decode()
    assert not re.search(r'<script|<link|src=|href="http|url\(', text)
    for _, path, one in OPERATIONS:
        assert f'id="{one["operationId"]}"' in text and path in text
