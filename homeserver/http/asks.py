"""From path, query and body to a handler's ask: each field from the one place the route says, in its right type.

    field named in the path      text, percent-decoded; converted where the ask says so (a Literal, say)
    field named in `query`       converted from text ("10" to 10, "true" to True); a list takes every occurrence
    field named in `headers`     converted from text; `content-type` is the field `content_type`
    the field named by `body`    the whole body: JSON in the field's type, or the bytes themselves if that is `bytes`
    every other field            from the JSON object in the body, strictly in its type

Names are those on the wire: a field `from_` with `msgspec.field(name="from")` is called `from` here.
What is wrong is told by name: `M_NOT_JSON` for what is not JSON, `M_BAD_JSON` for a wrong shape of the body,
`M_MISSING_PARAM` for what is required and absent, `M_INVALID_PARAM` for a wrong value in path or query.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, TypeGuard, Union, get_args, get_origin, get_type_hints
from urllib.parse import unquote_to_bytes

import msgspec
import orjson

from homeserver.errors import BadJson, InvalidParam, MissingParam

MAX_DEPTH = 100
"""How deeply a body may be nested: far more than any event, and less than what JSON libraries recurse into."""

MAX_INTEGER = 2**53 - 1
"""What JSON numbers of Matrix may hold, and far less than what breaks a database."""

_WHERE = re.compile(r" - at `(?:key in )?\$(?:\.([^`\[.]+))?[^`]*`$")
_MISSING = re.compile(r"Object missing required field `([^`]+)`$")


def is_ask(kind: object) -> TypeGuard[type[msgspec.Struct]]:
    """Whether a handler's parameter of this type is its ask."""
    return inspect.isclass(kind) and issubclass(kind, msgspec.Struct)


class AskReader:
    """Makes asks of one type for one route. Raises `TypeError` where route and ask do not fit together."""

    def __init__(
        self,
        kind: type[msgspec.Struct],
        *,
        path: Sequence[str],
        query: Sequence[str] = (),
        body: str | None = None,
        headers: Sequence[str] = (),
    ) -> None:
        hints = get_type_hints(kind, include_extras=True)
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        from_headers = {header: header.replace("-", "_") for header in headers}
        for name in [*path, *query, *([body] if body else []), *from_headers.values()]:
            if name not in fields:
                raise TypeError(f"{kind.__name__} has no field {name!r}")
        types = {name: hints[field.name] for name, field in fields.items()}
        elsewhere = {*path, *query, body, *from_headers.values()}
        self._kind = kind
        self._path = tuple(path)
        self._query = tuple(
            (name, _without_none(types[name]), _is_list(types[name]), fields[name].required) for name in query
        )
        self._body = body
        self._body_type = types[body] if body else None
        self._raw_body = self._body_type is bytes
        self._members = tuple(name for name in fields if name not in elsewhere)
        self._headers = from_headers
        self._outside = {*path, *query, *from_headers.values()}
        # Where nothing is left to check, the ask is made without a second look at every value.
        self._attributes = {name: field.name for name, field in fields.items()}
        self._integers = tuple((name, field.name) for name, field in fields.items() if int in _options(types[name]))
        self._plain = not self._members and all(types[name] is str for name in path)

    @property
    def reads_members(self) -> bool:
        """Whether something is taken from the body."""
        return bool(self._members) or self._body is not None

    def read(
        self, values: Sequence[str], query: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> msgspec.Struct:
        """Make the ask. `values` are the path's parameters in order, `query` is undecoded, `headers` are those wanted.

        Raises `BadJson`, `MissingParam` or `InvalidParam`.
        """
        found: dict[str, Any] = {}
        whole: dict[str, Any] = {}
        if self._body is not None:
            whole = {} if self._raw_body else parse_object(body)
        elif self._members:
            json = parse_object(body)
            for name in self._members:
                if name in json:
                    found[name] = json[name]
        elif body:
            parse_object(body)
        if self._query:
            self._read_query(query, found)
        if self._body is not None:
            found[self._body] = body if self._raw_body else self._convert_body(whole)
        if headers:
            found.update((self._headers[name], text) for name, text in headers.items())
        found.update(zip(self._path, values, strict=True))
        if self._plain:
            attributes = self._attributes
            ask = self._kind(**{attributes[name]: value for name, value in found.items()})
        else:
            try:
                ask = msgspec.convert(found, self._kind)
            except msgspec.ValidationError as error:
                raise self._blame(str(error)) from None
        for name, attribute in self._integers:
            value = getattr(ask, attribute)
            if value is not None and type(value) is int and not -MAX_INTEGER <= value <= MAX_INTEGER:
                raise self._blame(f"Expected an integer up to {MAX_INTEGER} in size - at `$.{name}`")
        return ask

    def _convert_body(self, whole: dict[str, Any]) -> Any:
        if self._body_type in (dict, dict[str, Any]):
            return whole
        try:
            return msgspec.convert(whole, self._body_type)
        except msgspec.ValidationError as error:
            raise self._blame(str(error)) from None

    def _read_query(self, query: str, found: dict[str, Any]) -> None:
        given = parse_query(query) if query else {}
        for name, kind, many, required in self._query:
            texts = given.get(name)
            if texts is None:
                if required:
                    raise MissingParam(f"Missing query parameter '{name}'")
                continue
            text: Any = texts if many else texts[0]
            if kind is str:
                found[name] = text
                continue
            try:
                found[name] = msgspec.convert(text, kind, strict=False)
            except msgspec.ValidationError as error:
                raise InvalidParam(f"Query parameter '{name}': {_reason(str(error))}") from None

    def _blame(self, message: str) -> BadJson | MissingParam | InvalidParam:
        if missing := _MISSING.match(message):
            return MissingParam(f"Missing parameter '{missing[1]}'")
        where = _WHERE.search(message)
        name = where[1] if where else None
        if name in self._outside:
            return InvalidParam(f"Parameter '{name}': {_reason(message)}")
        if name is None:
            return BadJson(message)
        path = message[message.index("`$") + 3 : -1]
        return BadJson(f"'{path}': {_reason(message)}")


def parse_object(body: bytes) -> dict[str, Any]:
    """Parse a body that must be a JSON object; no body at all counts as an empty one, as many clients send it.

    Raises `BadJson`: `M_NOT_JSON`, or `M_BAD_JSON` for what is no object or nested deeper than `MAX_DEPTH`.
    """
    if not body:
        return {}
    try:
        json = orjson.loads(body)
    except (ValueError, RecursionError):
        raise BadJson("The body is not JSON in UTF-8", "M_NOT_JSON") from None
    if type(json) is not dict:
        raise BadJson("The body is not a JSON object")
    # Counting brackets is nearly free and settles it for all honest bodies.
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _deeper_than(json, MAX_DEPTH):
        raise BadJson(f"The body is nested more than {MAX_DEPTH} levels deep")
    return json


def parse_query(query: str) -> Mapping[str, list[str]]:
    """Split a query string into its parameters' texts. Raises `InvalidParam` for what is not UTF-8 when decoded."""
    found: dict[str, list[str]] = {}
    for pair in query.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            found.setdefault(_decode(name), []).append(_decode(value))
    return found


def _decode(text: str) -> str:
    if "+" in text:
        text = text.replace("+", " ")
    if "%" not in text:
        return text
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise InvalidParam("The query string is not UTF-8 after percent-decoding") from None


def _deeper_than(value: object, levels: int) -> bool:
    """Level by level, without recursion."""
    layer: list[Any] = [value]
    for _ in range(levels):
        below: list[Any] = []
        for item in layer:
            if type(item) is dict:
                below.extend(child for child in item.values() if type(child) in (dict, list))
            else:
                below.extend(child for child in item if type(child) in (dict, list))
        if not below:
            return False
        layer = below
    return True


def _without_none(kind: Any) -> Any:
    """What a parameter may be where it is given: in a query `null` is a word like any other."""
    if get_origin(kind) in (Union, UnionType):
        return Union[tuple(one for one in get_args(kind) if one is not type(None))]  # noqa: UP007
    return kind


def _is_list(kind: Any) -> bool:
    return any(one in (list, tuple, set, frozenset) for one in _options(kind))


def _options(kind: Any) -> list[Any]:
    """What a value of this type may be: the members of a union, without the constraints and parameters on them."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _options(get_args(kind)[0])
    if origin in (Union, UnionType):
        return [option for one in get_args(kind) for option in _options(one)]
    return [origin or kind]


def _reason(message: str) -> str:
    return _WHERE.sub("", message)
