"""The `X-Matrix` authorisation of requests between servers: what is signed, and the header that carries it.

    ValueError
    └── BadHeader    a header that is none of this kind; the message says why, for the peer

Spec: https://spec.matrix.org/v1.19/server-server-api/#request-authentication
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
import orjson

from federation.room.identifiers import InvalidIdentifier, ServerName, parse_server_name

MAX_HEADER = 4096
"""Characters; an honest header has some 600 at most."""

_SCHEME = re.compile(r"x-matrix +", re.IGNORECASE)
# RFC 9110, 5.6.6 and 11.2. COMPAT older servers: values that should be quoted, as those with colons, are taken as they
# are, up to the next comma.
_PARAMETER = re.compile(
    r"""(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"\\]+))"""
)
_BETWEEN = re.compile(r"[ \t]*(?:,[ \t]*)+|[ \t]*$")
_ESCAPED = re.compile(r"\\(.)")


class BadHeader(ValueError):
    """An `Authorization` header that cannot be understood."""


class Credentials(msgspec.Struct, frozen=True):
    """What a header claims. Nothing of it is verified."""

    origin: ServerName
    key_id: str
    signature: str
    """In Base64."""
    destination: str | None = None
    """Whom the request is meant for; servers that are older than version 1.3 of the specification do not say."""


def signed_request(method: str, uri: str, origin: str, destination: str | None, content: bytes | None) -> bytes:
    """What the signature of a request covers, as canonical JSON.

    `content` is the body as canonical JSON already, None where there is no body. `uri` is the path with the query.
    """
    parts = []
    if content is not None:
        parts.append(b'"content":' + content)
    if destination is not None:
        parts.append(b'"destination":' + orjson.dumps(destination))
    parts.append(b'"method":' + orjson.dumps(method))
    parts.append(b'"origin":' + orjson.dumps(origin))
    parts.append(b'"uri":' + orjson.dumps(uri))
    return b"{" + b",".join(parts) + b"}"


def write_header(credentials: Credentials) -> str:
    """The header's value. Neither names of servers and keys nor Base64 hold what would have to be escaped."""
    destination = f'destination="{credentials.destination}",' if credentials.destination is not None else ""
    return (
        f'X-Matrix origin="{credentials.origin}",{destination}key="{credentials.key_id}",sig="{credentials.signature}"'
    )


def read_header(text: str) -> Credentials:
    """Read a header's value. Raises `BadHeader`."""
    if len(text) > MAX_HEADER:
        raise BadHeader("the Authorization header is too long")
    scheme = _SCHEME.match(text)
    if scheme is None:
        raise BadHeader("an Authorization header of the scheme X-Matrix is needed")
    found: dict[str, str] = {}
    for name, value in _parameters(text, scheme.end()):
        if name in found:
            raise BadHeader(f"the Authorization header has {name} twice")
        found[name] = value
    missing = [name for name in ("origin", "key", "sig") if not found.get(name)]
    if missing:
        raise BadHeader(f"the Authorization header lacks {', '.join(missing)}")
    try:
        origin = parse_server_name(found["origin"])
    except InvalidIdentifier:
        raise BadHeader("the origin in the Authorization header is not a server name") from None
    return Credentials(origin, found["key"], found["sig"], found.get("destination"))


def _parameters(text: str, position: int) -> Iterator[tuple[str, str]]:
    """Names in lower case, values without their quotes. Empty places between commas are no parameters."""
    between = _BETWEEN.match(text, position)
    position = between.end() if between is not None else position
    while position < len(text):
        parameter = _PARAMETER.match(text, position)
        if parameter is None:
            raise BadHeader("the Authorization header is malformed")
        quoted = parameter["quoted"]
        yield parameter["name"].lower(), parameter["plain"] if quoted is None else _ESCAPED.sub(r"\1", quoted)
        between = _BETWEEN.match(text, parameter.end())
        if between is None:
            raise BadHeader("the Authorization header is malformed")
        position = between.end()
