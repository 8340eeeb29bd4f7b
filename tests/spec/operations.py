"""The operations of the specification as values, and which of them are not served yet.

`operations.json` is written by `write_operations.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from attrs import frozen
from jsonschema import Draft202012Validator

from homeserver.client.all import ALL_ROUTES
from homeserver.http.table import RouteTable
from tests.spec.anybody import Anybody

DATA = json.loads(Path(__file__).with_name("operations.json").read_text("utf-8"))


@frozen
class Parameter:
    name: str
    place: Literal["path", "query", "header"]
    required: bool
    schema: Any


@frozen
class Operation:
    """One row of the specification's table."""

    id: str
    module: str
    """The file of the specification that it stands in."""
    method: str
    path: str
    deprecated: bool
    since: str
    """The version of the specification that brought it; `v1.0` where that was before v1.1."""
    auth: Literal["none", "optional", "required"]
    parameters: Sequence[Parameter]
    body: Any = None
    """Schema of the request's JSON; None if it takes none."""
    answer: Any = None
    """Schema of the JSON that comes with 200; None if it is no JSON."""
    challenge: Any = None
    """Schema of the JSON that comes with 401: what user-interactive authentication wants next."""


def _operation(row: Mapping[str, Any]) -> Operation:
    parameters = [Parameter(one["name"], one["in"], one["required"], one["schema"]) for one in row["parameters"]]
    return Operation(**{**row, "parameters": parameters})


OPERATIONS = [_operation(row) for row in DATA["operations"]]
BY_ID = {operation.id: operation for operation in OPERATIONS}

NOT_YET_SERVED: Mapping[str, frozenset[str]] = {
    "accounts by OAuth and SSO, application services, administration": frozenset(
        {
            "admin", "appservice_ping", "appservice_room_directory", "login_token", "oauth_server_metadata",
            "sso_login_redirect", "third_party_lookup",
        }
    ),
}  # fmt: skip
"""Theme of the work that will bring them → modules of the specification. What is here answers 404 `M_UNRECOGNIZED`."""

LATER = frozenset().union(*NOT_YET_SERVED.values())
SERVED = [operation for operation in OPERATIONS if operation.module not in LATER]


@cache
def route_table() -> RouteTable:
    """The table of the running server, without what stands behind it."""
    return RouteTable(ALL_ROUTES, Anybody())


def validator(schema: Any) -> Draft202012Validator:
    """Of a schema of the table, with what it refers to. Spec: OpenAPI 3.1 speaks JSON Schema 2020-12."""
    return Draft202012Validator({**schema, "$defs": DATA["$defs"]})


def complaints(schema: Any, value: Any) -> list[str]:
    """What a value does not keep of a schema, in words, sorted by place."""
    found = sorted(validator(schema).iter_errors(value), key=lambda error: error.json_path)
    return [f"{error.json_path}: {error.message[:300]}" for error in found]
