"""Hypothesis strategies for the whole suite: JSON, identifiers, and events of every room version."""

from __future__ import annotations

import base64
from typing import Any

from hypothesis import strategies as st

from federation.room.build import build_event
from federation.room.canonical import MAX_INTEGER
from federation.room.event import Event
from federation.room.redaction import kept_content
from federation.room.signing import SigningKey
from federation.room.versions import ROOM_VERSIONS, EventIdFormat, RoomVersion

SERVER_NAME = "domain"
KEY = SigningKey.from_seed("1", base64.b64decode("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1="))
"""Server and key of the specification's test vectors."""

# JSON

json_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
"""Any text that UTF-8 can carry, NUL and other control characters included."""

strict_integers = st.integers(-MAX_INTEGER, MAX_INTEGER)
strict_scalars = st.none() | st.booleans() | strict_integers | json_text
loose_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | json_text


def _nested(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(json_text, inner, max_size=4),
        max_leaves=12,
    )


strict_json = _nested(strict_scalars)
"""Any value that strict canonical JSON allows."""

loose_json = _nested(loose_scalars)
"""Any value that events of room versions 1 to 5 may hold."""

strict_objects = st.dictionaries(json_text, strict_json, max_size=5)
loose_objects = st.dictionaries(json_text, loose_json, max_size=5)

# Identifiers


def _short(alphabet: st.SearchStrategy[str], min_size: int) -> st.SearchStrategy[str]:
    """Text that keeps an identifier within 255 bytes even if every character takes four."""
    return st.text(alphabet, min_size=min_size, max_size=40)


_localpart_characters = st.characters(exclude_categories=["Cs"], exclude_characters=":\0")
_base64_digests = st.binary(min_size=32, max_size=32)

server_names = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9.-]{0,60}(:[0-9]{1,5})?", fullmatch=True).filter(
    lambda name: not name.partition(":")[0].replace(".", "").isdigit()
) | st.sampled_from(["127.0.0.1", "127.0.0.1:8448", "[::1]", "[2001:db8::1]:8448", "localhost:8008"])

new_localparts = st.from_regex(r"[a-z0-9._=/+-]{1,40}", fullmatch=True)
user_ids = st.builds("@{}:{}".format, _short(_localpart_characters, 0), server_names)
"""User ids of the historical grammar, the widest there is."""

domain_room_ids = st.builds("!{}:{}".format, _short(_localpart_characters, 1), server_names)
hash_room_ids = _base64_digests.map(lambda digest: "!" + base64.urlsafe_b64encode(digest).decode().rstrip("="))
room_aliases = st.builds("#{}:{}".format, _short(_localpart_characters, 1), server_names)

room_versions = st.sampled_from(list(ROOM_VERSIONS.values()))


def room_ids(version: RoomVersion) -> st.SearchStrategy[str]:
    """Room ids of the kind that the version has."""
    return hash_room_ids if version.room_id_is_hash else domain_room_ids


def event_ids(version: RoomVersion) -> st.SearchStrategy[str]:
    """Event ids of the kind that the version has."""
    match version.event_id_format:
        case EventIdFormat.DOMAIN:
            return st.builds("${}:{}".format, _short(st.sampled_from("abcXYZ019"), 1), server_names)
        case EventIdFormat.HASH:
            return _base64_digests.map(lambda digest: "$" + base64.b64encode(digest).decode().rstrip("="))
        case EventIdFormat.URLSAFE_HASH:
            return _base64_digests.map(lambda digest: "$" + base64.urlsafe_b64encode(digest).decode().rstrip("="))


# Events

_redactable_types = [*kept_content(ROOM_VERSIONS["1"]), *kept_content(ROOM_VERSIONS["12"]), "m.room.message"]
_protected_keys = sorted(
    {key for version in ROOM_VERSIONS.values() for keys in kept_content(version).values() for key in keys}
)

event_types = st.sampled_from(_redactable_types) | json_text
event_contents = st.dictionaries(
    st.sampled_from([*_protected_keys, "third_party_invite", "body"]) | json_text,
    st.just({"signed": {"mxid": "@a:b"}, "display_name": "A"}) | strict_json,
    max_size=6,
).map(lambda content: {k: v for k, v in content.items() if k != "join_authorised_via_users_server"})
"""Contents in which the keys that redaction keeps are frequent."""


@st.composite
def build_arguments(draw: st.DrawFn, version: RoomVersion) -> dict[str, Any]:
    """Keyword arguments from which `build_event` makes a valid event of this room version."""
    creates_room = version.room_id_is_hash and draw(st.booleans())
    event_type = "m.room.create" if creates_room else draw(event_types.filter(lambda name: name != "m.room.create"))
    prev_events = draw(st.lists(event_ids(version), max_size=20 if draw(st.booleans()) else 2))
    auth_events = draw(st.lists(event_ids(version), max_size=10 if draw(st.booleans()) else 3))
    content = draw(event_contents)
    redacts = None
    if event_type == "m.room.redaction":
        redacts = draw(st.none() | event_ids(version))
        content.pop("redacts", None)
    arguments: dict[str, Any] = {
        "room_id": None if creates_room else draw(room_ids(version)),
        "type": event_type,
        "sender": draw(user_ids),
        "content": content,
        "state_key": "" if creates_room else draw(st.none() | json_text),
        "redacts": redacts,
        "prev_events": prev_events,
        "auth_events": auth_events,
        "depth": draw(st.integers(0, MAX_INTEGER)),
        "origin_server_ts": draw(strict_integers),
        "server_name": SERVER_NAME,
        "key": KEY,
    }
    if version.cites_with_hashes:
        arguments["event_id"] = draw(event_ids(version))
        arguments["references"] = {event_id: "hash of " + event_id for event_id in [*prev_events, *auth_events]}
    return arguments


@st.composite
def versioned_events(draw: st.DrawFn) -> tuple[RoomVersion, Event]:
    """A room version and an event of it that this server made."""
    version = draw(room_versions)
    return version, build_event(version, **draw(build_arguments(version)))
