"""Canonical JSON: the one sequence of bytes that a JSON value is hashed and signed as.

    ValueError
    └── BadJson      the text is not JSON, or the value is not one that may be signed

Strict canonical JSON (room versions from 6 on, and all that this server makes) has no floats and no integers past
±(2^53 - 1); for such values orjson's sorted output *is* the canonical form, and costs a microsecond. Events of room
versions 1 to 5 may hold both: they go by the reference implementation, `canonicaljson`, whose way of writing floats
is what every server agreed on. A property test holds the two together.

Spec: https://spec.matrix.org/v1.19/appendices/#canonical-json
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, NoReturn

import canonicaljson
import orjson

from federation.room.versions import RoomVersion

MAX_INTEGER: Final = 2**53 - 1
"""The largest integer of strict canonical JSON; its negative is the smallest."""

_MIN_INTEGER: Final = -MAX_INTEGER

MAX_DEPTH: Final = 200
"""How deep arrays and objects may be nested. The specification sets no limit, but every server has one: orjson
writes 254 levels and Rust's usual reader takes 128. Ours leaves room for what an event is later wrapped in."""


class BadJson(ValueError):
    """The text is not JSON, or the value is none that may stand in an event. The message says why."""


def canonical_json(value: object) -> bytes:
    """The canonical form of a strict value: call `check_strict` first on what came from outside.

    Raises `BadJson` for what no JSON text can hold: lone surrogates, keys that are not strings, foreign types.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise BadJson(str(error)) from None


def compact(written: bytes) -> bytes:
    """A copy of what was just written, for whoever keeps it.

    orjson writes into 8 KiB that it doesn't give back where the text is shorter: an event of 700 bytes took six times
    as many.
    """
    return bytes(memoryview(written))


def canonical_json_loose(value: object) -> bytes:
    """The canonical form of any JSON value, floats and huge integers included, as room versions 1 to 5 need it.

    The value must have been parsed with `exact=True`. Raises `BadJson` for NaN, infinity, lone surrogates,
    foreign types, and nesting beyond Python's stack.
    """
    try:
        return canonicaljson.encode_canonical_json(value)
    except RecursionError:
        raise BadJson("nested too deep") from None
    except (ValueError, TypeError) as error:
        raise BadJson(str(error)) from None


def canonical_event(version: RoomVersion, fields: object) -> bytes:
    """The canonical form of an event's fields, by the rules of its room version. Raises `BadJson`."""
    return canonical_json(fields) if version.strict_json else canonical_json_loose(fields)


def check_strict(value: object, max_depth: int = MAX_DEPTH) -> None:
    """Raise `BadJson` unless the value is strictly canonical: no floats, integers within ±(2^53 - 1), keys strings.

    Also refuses nesting beyond `max_depth` and types that JSON does not know. (That strings can be encoded is seen
    by `canonical_json`.)
    """
    # An event may hold 30,000 values and peers choose them, so the common kinds are sorted out without any call, level
    # by level.
    level = [value]
    while level:
        deeper: list[Any] = []
        for one in level:
            items: Iterable[Any]
            if isinstance(one, dict):
                for key in one:
                    if type(key) is not str and not isinstance(key, str):
                        raise BadJson("a key is not a string")
                items = one.values()
            elif isinstance(one, list | tuple):
                items = one
            else:
                _check_scalar(one)
                continue
            if max_depth <= 0:
                raise BadJson("nested too deep")
            for item in items:
                kind = type(item)
                if kind is str or kind is bool or item is None or (kind is int and _MIN_INTEGER <= item <= MAX_INTEGER):
                    continue
                deeper.append(item)
        level = deeper
        max_depth -= 1


def _check_scalar(value: object) -> None:
    match value:
        case str() | bool() | None:
            pass
        case int():
            if not _MIN_INTEGER <= value <= MAX_INTEGER:
                raise BadJson("an integer is outside ±(2^53 - 1)")
        case float():
            raise BadJson("floats are not allowed")
        case _:
            raise BadJson(f"{type(value).__name__} is not a JSON type")


def check_depth(value: object, max_depth: int = MAX_DEPTH) -> None:
    """Raise `BadJson` if arrays and objects are nested more than `max_depth` levels."""
    if isinstance(value, dict):
        _check_room_below(max_depth)
        for item in value.values():
            check_depth(item, max_depth - 1)
    elif isinstance(value, list | tuple):
        _check_room_below(max_depth)
        for item in value:
            check_depth(item, max_depth - 1)


def parse_json(data: bytes, *, exact: bool = False, max_depth: int = MAX_DEPTH) -> Any:
    """Parse JSON text from outside. Raises `BadJson`; deep nesting and broken UTF-8 are no exception to that.

    `exact` keeps integers of any size; without it those past 64 bits come out as floats, which is how orjson reads
    them and makes no difference where floats are refused anyway. Of a repeated key the last value counts.
    """
    try:
        value = json.loads(data.decode(), parse_constant=_refuse_constant) if exact else orjson.loads(data)
    except RecursionError:
        raise BadJson("nested too deep") from None
    except ValueError as error:
        raise BadJson(f"not JSON: {error}") from None
    if data.count(b"[") + data.count(b"{") > max_depth:
        check_depth(value, max_depth)
    return value


def _check_room_below(levels: int) -> None:
    if levels <= 0:
        raise BadJson("nested too deep")


def _refuse_constant(name: str) -> NoReturn:
    raise BadJson(f"{name} is not JSON")
