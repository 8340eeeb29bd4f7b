"""`GET /_guildhall/docs`: the guild API as a page to read, made from its OpenAPI document. It needs no script."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import Any

from homeserver.guilds.api.openapi import operations, whole_document
from homeserver.http.route import NONE, Reply, route

HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "public, max-age=600",
}


@route("GET", "/_guildhall/docs", auth=NONE, rate="anonymous")
async def get_docs() -> Reply:
    return Reply(body=_page(), headers=HEADERS)


@cache
def _page() -> bytes:
    from jinja2 import Environment, StrictUndefined

    source = files("homeserver.templates").joinpath("guild_api.html").read_text("utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(source)
    document = whole_document()
    rows = [_row(method, path, one) for method, path, one in operations(document["paths"])]
    rows.sort(key=lambda row: str(row["tag"]))
    groups = [(tag, list(found)) for tag, found in groupby(rows, key=lambda row: row["tag"])]
    schemas = {name: _pretty(schema) for name, schema in sorted(document["components"]["schemas"].items())}
    return template.render(title=document["info"]["title"], groups=groups, schemas=schemas).encode()


def _row(method: str, path: str, operation: Any) -> dict[str, Any]:
    body = operation.get("requestBody")
    return {
        "tag": operation["tags"][0],
        "id": operation["operationId"],
        "method": method,
        "path": path,
        "summary": operation["summary"],
        "open": not operation["security"],
        "parameters": [
            (one["name"], one["in"], one["required"], _short(one["schema"])) for one in operation["parameters"]
        ],
        "body": None if body is None else _pretty(body["content"]["application/json"]["schema"]),
        "answer": _pretty(operation["responses"]["200"]["content"]["application/json"]["schema"]),
    }


def _short(schema: Any) -> str:
    return json.dumps(schema, ensure_ascii=False)


def _pretty(schema: Any) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False)
