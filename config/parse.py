"""From what somebody wrote to frozen settings: one generic walk over the attrs classes.

The classes are the schema: a field's annotation says which type is wanted, its default what is missing, its checks
what is allowed. Numbers in `…_ms` fields may be written as `90s`, `5m`, `24h`, `7d`, those in `…_bytes` as `50M`.
"""

from __future__ import annotations

import re
import types
import typing
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import attrs

from config.field import BadSetting
from config.source import Given, SettingsError

T = TypeVar("T")

#: What may stand behind a number, by the ending of the setting's name.
UNITS = {
    "_ms": {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000},
    "_bytes": {"B": 1, "K": 1024, "M": 1024**2, "G": 1024**3},
}
_AMOUNT = re.compile(r"([0-9]+) ?([A-Za-z]+)")


def parse_object(cls: type[T], given: Given, path: str = "", base: T | None = None) -> T:
    """Build `cls` from a mapping; what the mapping leaves out comes from `base`, or else from the fields' defaults.

    `path` is the dotted name of the object, for messages. Raises SettingsError naming the first bad field.
    """
    entries = given.value
    if entries is None:
        entries = {}
    if not isinstance(entries, dict):
        raise _error(path or "the settings", "must be a section with settings below it", given)
    fields = attrs.fields_dict(cls)  # type: ignore[arg-type]
    for key, unknown in entries.items():
        if key not in fields:
            raise _error(_join(path, key), f"there is no such setting{_suggest(key, list(fields))}", unknown)

    hints = _types_of(cls)  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for name, field in fields.items():
        below = getattr(base, name) if base is not None else default_of(field)
        if name in entries:
            values[name] = _parse_value(hints[name], entries[name], _join(path, name), below)
        elif below is not attrs.NOTHING:
            values[name] = below
        elif attrs.has(hints[name]):
            values[name] = parse_object(hints[name], Given({}, given.place), _join(path, name))
        else:
            raise _error(_join(path, name), "is missing and has no default", given)
    try:
        return cls(**values)
    except BadSetting as bad:
        raise _error(_join(path, bad.field), bad.why, entries.get(bad.field, given)) from None


@cache
def _types_of(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _parse_value(wanted: Any, given: Given, path: str, default: Any) -> Any:
    """Turn one written value into `wanted`, an annotation. `default` fills up a mapping that is only half written."""
    if get_origin(wanted) in (types.UnionType, Union):
        return _parse_optional(wanted, given, path, default)
    if attrs.has(wanted):
        return parse_object(wanted, given, path, default if isinstance(default, wanted) else None)
    if get_origin(wanted) is Literal:
        # A bare 12 reads as a number, but can only mean the word "12".
        text = given.text if given.text is not None else str(given.value)
        if text not in get_args(wanted):
            raise _error(path, f"must be one of {', '.join(get_args(wanted))}, not {_describe(given.value)}", given)
        return text
    if get_origin(wanted) is tuple:
        if not isinstance(given.value, list):
            raise _error(path, "must be a list", given)
        inner = get_args(wanted)[0]
        return tuple(_parse_value(inner, entry, f"{path}[{key}]", attrs.NOTHING) for key, entry in given.children())
    return _parse_scalar(wanted, given, path)


def _parse_optional(wanted: Any, given: Given, path: str, default: Any) -> Any:
    if given.value is None:
        return None
    inner = next(each for each in get_args(wanted) if each is not types.NoneType)
    return _parse_value(inner, given, path, default)


def _parse_scalar(wanted: type, given: Given, path: str) -> object:
    value = given.value
    if wanted in (str, Path):
        if given.text is not None:
            return wanted(given.text)
        if isinstance(value, str):
            return wanted(value)
        hint = "" if isinstance(value, dict | list | None) else " (put it in quotes)"
        raise _error(path, f"must be text, not {_describe(value)}{hint}", given)
    if wanted is bool:
        if isinstance(value, bool):
            return value
        raise _error(path, f"must be true or false, not {_describe(value)}", given)
    if wanted is int and isinstance(value, str):
        for suffix, units in UNITS.items():
            if path.endswith(suffix) and (amount := _AMOUNT.fullmatch(value)) and amount[2] in units:
                return int(amount[1]) * units[amount[2]]
    if wanted is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    kind = "a whole number" if wanted is int else "a number"
    raise _error(path, f"must be {kind}, not {_describe(value)}", given)


def default_of(field: attrs.Attribute[Any]) -> Any:
    """The value that a field has when nothing is given, `attrs.NOTHING` where it must be given."""
    if isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
        return field.default.factory()  # type: ignore[union-attr]
    return field.default


def _describe(value: object) -> str:
    match value:
        case None:
            return "empty"
        case dict():
            return "a section"
        case list():
            return "a list"
        case bool():
            return "true" if value else "false"
        case _:
            return repr(value)


def _suggest(key: str, names: list[str]) -> str:
    import difflib  # only whoever made a mistake pays for it

    close = difflib.get_close_matches(key, names, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _error(path: str, why: str, given: Given) -> SettingsError:
    return SettingsError(f"{path}: {why} ({given.place})")
