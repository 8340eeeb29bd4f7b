"""Small pieces of SQL that differ between the two databases, or that driver and planner are particular about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from storage.ports import Cursor

Value = int | str | bytes

MOST_PLACEHOLDERS = 256
"""Past this, SQLite is given one JSON list (numbers and text) or several queries (bytes)."""


def among(cursor: Cursor, column: str, values: Sequence[int] | Sequence[str]) -> tuple[str, list[Any]]:
    """A condition that `column` has one of `values`, with its parameters. `values` is not empty.

    The text depends only on the rough size of the list, so that both databases can keep the prepared statement.
    """
    if cursor.dialect == "postgresql":
        return f"{column} = ANY(?)", [list(values)]
    if len(values) > MOST_PLACEHOLDERS:
        return f"{column} IN (SELECT value FROM json_each(?))", [orjson.dumps(list(values)).decode()]
    return _padded(column, values)


def among_bytes(cursor: Cursor, column: str, values: Sequence[bytes]) -> tuple[str, list[Any]]:
    """`among` for a blob column; at most `MOST_PLACEHOLDERS` values, which JSON could not carry."""
    if cursor.dialect == "postgresql":
        return f"{column} = ANY(?)", [list(values)]
    return _padded(column, values)


def chunks(values: Sequence[bytes]) -> list[Sequence[bytes]]:
    """Cut a list for `among_bytes`."""
    return [values[start : start + MOST_PLACEHOLDERS] for start in range(0, len(values), MOST_PLACEHOLDERS)]


def _padded(column: str, values: Sequence[Value]) -> tuple[str, list[Any]]:
    size = 1
    while size < len(values):
        size *= 2
    padded = [*values, *([values[-1]] * (size - len(values)))]
    return f"{column} IN ({','.join('?' * size)})", padded


def to_blob(text: str) -> bytes:
    """Text from outside as it is stored: PostgreSQL's text columns refuse NUL, and a lone surrogate is not UTF-8."""
    return text.encode("utf-8", "surrogatepass")


def from_blob(blob: bytes) -> str:
    return blob.decode("utf-8", "surrogatepass")


def from_blob_or_none(blob: bytes | None) -> str | None:
    return None if blob is None else blob.decode("utf-8", "surrogatepass")
