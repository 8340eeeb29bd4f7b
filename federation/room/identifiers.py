"""Matrix identifiers: checked once where they come in, and told apart by their type from then on.

Every identifier is a plain string at run time. `parse_` functions take whatever JSON held and either give it back
under its own type or raise `InvalidIdentifier`, which says what is wrong with it. The grammars are those of servers:
what exists in old rooms is accepted, what this server makes itself is held to the strict form
(`parse_new_user_localpart`).

Spec: https://spec.matrix.org/v1.19/appendices/#identifier-grammar
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import NewType

ServerName = NewType("ServerName", str)
UserId = NewType("UserId", str)
RoomId = NewType("RoomId", str)
EventId = NewType("EventId", str)
RoomAlias = NewType("RoomAlias", str)
DeviceId = NewType("DeviceId", str)

MAX_IDENTIFIER_BYTES = 255

REMEMBERED = 2_000
"""Identifiers of which is known that they are well formed: the same few come again and again."""

_HASH = re.compile(r"[A-Za-z0-9_-]{43}")
_HASHED_EVENT_ID = re.compile(r"\$[A-Za-z0-9_-]{43}")
"""What nearly all of them are today."""
_NEW_LOCALPART = re.compile(r"[a-z0-9._=/+-]+")
_COMPLIANT_LOCALPART = re.compile(r"[\x21-\x39\x3b-\x7e]+")
_SERVER_NAME = re.compile(
    r"(?:(?P<quad>[0-9]{1,3}(?:\.[0-9]{1,3}){3})|\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]|[A-Za-z0-9.-]{1,255})(?::[0-9]{1,5})?"
)


class InvalidIdentifier(ValueError):
    """A string is not the identifier it should be. `what` names the kind ("user id"); the message gives the reason."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what} {reason}")
        self.what = what


def parse_server_name(text: object) -> ServerName:
    """Check a server name: host name, IPv4 or bracketed IPv6 literal, each with an optional port.

    Case is kept and counts. Raises `InvalidIdentifier`.
    Spec: https://spec.matrix.org/v1.19/appendices/#server-name
    """
    if not isinstance(text, str):
        raise InvalidIdentifier("server name", "is not a string")
    _check_server_name("server name", text)
    return ServerName(text)


def parse_user_id(text: object, *, historical: bool = True) -> UserId:
    """Check a user id (`@localpart:server`). Raises `InvalidIdentifier`.

    With `historical` the localpart may hold anything but ":" and NUL, or be empty, as events of every room version
    may carry such senders. Without it, it must be non-empty printable ASCII: those are the ids that servers may
    speak of outside an event.
    Spec: https://spec.matrix.org/v1.19/appendices/#historical-user-ids
    """
    localpart = _check_with_domain("user id", "@", text)
    if not historical and not _COMPLIANT_LOCALPART.fullmatch(localpart):
        raise InvalidIdentifier("user id", "has a localpart that is empty or not printable ASCII")
    return UserId(str(text))


def parse_new_user_localpart(text: object) -> str:
    """Check the localpart of an account to be made here: the strict grammar `a-z 0-9 . _ = - / +`, not empty.

    The length of the whole id depends on the server's name: check that by `parse_user_id` on the whole.
    Raises `InvalidIdentifier`.
    """
    if not isinstance(text, str) or not _NEW_LOCALPART.fullmatch(text):
        raise InvalidIdentifier("user name", "may only hold the characters a-z, 0-9 and ._=-/+, and at least one")
    return text


def parse_room_id(text: object) -> RoomId:
    """Check a room id of either kind: `!opaque:server` (room versions 1 to 11) or `!hash` (12).

    Without knowing the version, a domainless id is taken as opaque; `is_room_hash` is the exact test.
    Raises `InvalidIdentifier`.
    """
    if isinstance(text, str) and ":" not in text:
        _check_opaque("room id", "!", text)
    elif _check_with_domain("room id", "!", text) == "":
        raise InvalidIdentifier("room id", "has nothing between its sigil and its domain")
    return RoomId(str(text))


def parse_event_id(text: object) -> EventId:
    """Check an event id: `$` and something opaque, of at most 255 bytes. Raises `InvalidIdentifier`."""
    if not (type(text) is str and _HASHED_EVENT_ID.fullmatch(text)):
        _check_opaque("event id", "$", text)
    return EventId(str(text))


def parse_room_alias(text: object) -> RoomAlias:
    """Check a room alias (`#localpart:server`, the localpart not empty). Raises `InvalidIdentifier`."""
    if _check_with_domain("room alias", "#", text) == "":
        raise InvalidIdentifier("room alias", "has nothing between its sigil and its domain")
    return RoomAlias(str(text))


def is_room_hash(text: str) -> bool:
    """Whether this is a room id of the kind that room version 12 brought: `!` and 32 bytes as URL-safe Base64."""
    return len(text) == 44 and text[0] == "!" and _HASH.fullmatch(text, 1) is not None


def server_of(identifier: str) -> ServerName:
    """The server that an identifier names: all that follows its first colon. The identifier must be parsed already.

    Raises `InvalidIdentifier` for one without a domain (room ids since version 12, event ids since version 3).
    """
    _, colon, server = identifier.partition(":")
    if not colon:
        raise InvalidIdentifier("identifier", "names no server")
    return ServerName(server)


def localpart_of(identifier: str) -> str:
    """What stands between the sigil and the first colon (or the end). The identifier must be parsed already."""
    return identifier[1:].partition(":")[0]


def _check_with_domain(what: str, sigil: str, text: object) -> str:
    """Check `&localpart:server` and give the localpart, which may be empty."""
    if not isinstance(text, str):
        raise InvalidIdentifier(what, "is not a string")
    return _check_text_with_domain(what, sigil, text)


@lru_cache(REMEMBERED)
def _check_text_with_domain(what: str, sigil: str, text: str) -> str:
    _check_opaque(what, sigil, text)
    localpart, colon, server = text.partition(":")
    if not colon:
        raise InvalidIdentifier(what, "has no domain")
    _check_server_name(what, server)
    return localpart[1:]


def _check_opaque(what: str, sigil: str, text: object) -> None:
    if not isinstance(text, str):
        raise InvalidIdentifier(what, "is not a string")
    if not text.startswith(sigil):
        raise InvalidIdentifier(what, f"does not begin with {sigil!r}")
    if len(text) == 1:
        raise InvalidIdentifier(what, "is only a sigil")
    if "\0" in text:
        raise InvalidIdentifier(what, "contains NUL")
    if byte_length(text, what) > MAX_IDENTIFIER_BYTES:
        raise InvalidIdentifier(what, f"is longer than {MAX_IDENTIFIER_BYTES} bytes")


def byte_length(text: str, what: str = "text") -> int:
    """How many bytes `text` has as UTF-8. A lone surrogate cannot be encoded and raises `InvalidIdentifier`."""
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise InvalidIdentifier(what, "contains a lone surrogate") from None


def _check_server_name(what: str, text: str) -> None:
    match = _SERVER_NAME.fullmatch(text)
    if match is None:
        raise InvalidIdentifier(what, "does not name a valid server")
    if match["v6"] is not None:
        try:
            IPv6Address(match["v6"])
        except AddressValueError:
            raise InvalidIdentifier(what, "names a server by an invalid IPv6 address") from None
    elif match["quad"] is not None and any(int(part) > 255 for part in match["quad"].split(".")):
        raise InvalidIdentifier(what, "names a server by an invalid IPv4 address")
