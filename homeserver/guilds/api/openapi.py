"""`GET /_guildhall/openapi.json`: the guild API as an OpenAPI 3.1 document, made from the route table itself.

Paths, parameters, bodies and answers are read off the handlers: the asks and answers are Structs, and what a handler's
docstring says first is its summary. So the document cannot say anything else than what is served.

https://spec.openapis.org/oas/v3.1.1.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec

from homeserver.friends.api.all import FRIEND_FEATURES
from homeserver.guilds.api.features import FEATURES
from homeserver.guilds.api.fields import API
from homeserver.http.asks import is_ask
from homeserver.http.route import NONE, Auth, Reply, Route, route, routes_of

DESCRIBED: Sequence[ModuleType] = (*FEATURES, *FRIEND_FEATURES)
VERSION = "1"
COMPONENT = "#/components/schemas/{name}"
SECURITY: Mapping[Auth, Sequence[Mapping[str, Sequence[str]]]] = {
    Auth.NONE: [],
    Auth.USER: [{"token": []}],
    Auth.VISITOR: [{"token": []}, {"openid": []}],
}
ERRORS = {
    "400": "What was sent makes no sense; the error names the field. `M_TOO_LARGE`: it would not fit.",
    "403": "One may not do that; the error names the permission that is missing.",
    "404": "There is nothing of the kind, or one may not know of it.",
    "429": "Too many requests: try again after `retry_after_ms`.",
}


@route("GET", "/_guildhall/openapi.json", auth=NONE, rate="anonymous")
async def get_document() -> Reply:
    """This document."""
    return Reply(body=whole_document())


@cache
def whole_document() -> Mapping[str, Any]:
    """The document of the whole guild API."""
    return document(DESCRIBED)


def document(modules: Sequence[ModuleType]) -> dict[str, Any]:
    """The document of the routes of these modules that belong to the guild API."""
    rows = [row for module in modules for row in routes_of(module) if row.path.startswith(API)]
    asks = {row: ask for row in rows if (ask := _ask_of(row)) is not None}
    types = {kind for ask in asks.values() for kind in _types_of(ask).values()}
    types |= {answer for row in rows if (answer := _answer_of(row)) is not None}
    ordered = sorted(types, key=repr)
    schemas, components = msgspec.json.schema_components(ordered, ref_template=COMPONENT)
    by_type = dict(zip(ordered, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (row.path, row.method)):
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, asks.get(row), by_type)
    error = {
        "type": "object",
        "properties": {"errcode": {"type": "string"}, "error": {"type": "string"}},
        "required": ["errcode", "error"],
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Guildhall: guilds", "version": VERSION},
        "paths": paths,
        "components": {
            "schemas": {**components, "Error": error},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "openid": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "`MatrixOpenID TOKEN SERVER`: an OpenID token of somebody's own server.",
                },
            },
        },
    }


Schemas = Mapping[Any, Mapping[str, Any]]
"""By type."""


def _operation(row: Route, ask: type[msgspec.Struct] | None, by_type: Schemas) -> dict[str, Any]:
    in_path = re.findall(r"\{(\w+)\}", row.path)
    kinds = {} if ask is None else _types_of(ask)
    required = set() if ask is None else {one.encode_name for one in msgspec.structs.fields(ask) if one.required}
    parameters = [
        {
            "name": name,
            "in": "path" if name in in_path else "query",
            "required": name in in_path or name in required,
            "schema": by_type[kinds[name]],
        }
        for name in [*in_path, *row.query]
    ]
    answer = _answer_of(row)
    schema = {"type": "object"} if answer is None else by_type[answer]
    operation: dict[str, Any] = {
        "operationId": row.handler.__name__,
        "summary": _summary(row),
        "tags": [row.path.removeprefix(f"{API}/").replace("guilds/{guild_id}/", "").split("/")[0]],
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done.", "content": {"application/json": {"schema": schema}}},
            **{status: _error(words) for status, words in ERRORS.items()},
        },
        "security": SECURITY[row.auth],
    }
    members = [name for name in kinds if name not in in_path and name not in row.query]
    if members and row.method != "GET":
        body = {
            "type": "object",
            "properties": {name: by_type[kinds[name]] for name in members},
            "required": [name for name in members if name in required],
        }
        content = {"application/json": {"schema": body}}
        operation["requestBody"] = {"required": bool(body["required"]), "content": content}
    return operation


def _error(words: str) -> dict[str, Any]:
    return {
        "description": words,
        "content": {"application/json": {"schema": {"$ref": COMPONENT.format(name="Error")}}},
    }


def _summary(row: Route) -> str:
    return " ".join((row.handler.__doc__ or "").split("\n\n")[0].split())


def _ask_of(row: Route) -> type[msgspec.Struct] | None:
    hints = get_type_hints(row.handler)
    return next((kind for name, kind in hints.items() if name != "return" and is_ask(kind)), None)


def _answer_of(row: Route) -> type[msgspec.Struct] | None:
    answer = get_type_hints(row.handler).get("return")
    return answer if is_ask(answer) else None


def _types_of(ask: type[msgspec.Struct]) -> dict[str, Any]:
    """What the fields of an ask may be, by their names on the wire; that a field may be absent is said elsewhere."""
    hints = get_type_hints(ask, include_extras=True)
    return {one.encode_name: _without_unset(hints[one.name]) for one in msgspec.structs.fields(ask)}


def _without_unset(kind: Any) -> Any:
    if get_origin(kind) is Annotated or msgspec.UnsetType not in get_args(kind):
        return kind
    left = [one for one in get_args(kind) if one is not msgspec.UnsetType]
    found = left[0]
    for one in left[1:]:
        found = found | one
    return found


def operations(paths: Mapping[str, Mapping[str, Any]]) -> Iterable[tuple[str, str, Mapping[str, Any]]]:
    """(method, path, operation) of a document's `paths`."""
    for path, methods in paths.items():
        for method, operation in methods.items():
            yield method.upper(), path, operation
