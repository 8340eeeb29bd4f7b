"""Addresses of files: `mxc://server/id`.

Spec: https://spec.matrix.org/v1.19/client-server-api/#matrix-content-mxc-uris
"""

from __future__ import annotations

import re
import secrets

from federation.room.identifiers import InvalidIdentifier, parse_server_name
from homeserver.errors import InvalidParam

MEDIA_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")
ID_BYTES = 18
"""Of chance: 24 characters."""


def new_media_id() -> str:
    """An id that nobody guesses."""
    return secrets.token_urlsafe(ID_BYTES)


def uri_of(origin: str, media_id: str) -> str:
    return f"mxc://{origin}/{media_id}"


def check_address(origin: str, media_id: str) -> None:
    """Whether there can be such a file. Raises InvalidParam."""
    try:
        parse_server_name(origin)
    except InvalidIdentifier as error:
        raise InvalidParam(f"Parameter 'server_name': {error}") from None
    check_media_id(media_id)


def check_media_id(media_id: str) -> None:
    if not MEDIA_ID.fullmatch(media_id):
        raise InvalidParam("Parameter 'media_id': only A-Z, a-z, 0-9, _ and - may be in it")


def parse_uri(text: str) -> tuple[str, str] | None:
    """Origin and media id; None for what is no such address."""
    origin, slash, media_id = text.removeprefix("mxc://").partition("/")
    if not text.startswith("mxc://") or not slash:
        return None
    try:
        check_address(origin, media_id)
    except InvalidParam:
        return None
    return origin, media_id
