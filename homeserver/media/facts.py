"""What looking into a file has found: kept beside it, so that nobody has to look twice; failures too, for a day."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from homeserver.media.workshop.jobs import Failure, Picture, Sound
from storage import media as rows
from storage.media import MediaKey, Medium
from storage.ports import Cursor

FORGIVE_MS = 24 * 60 * 60 * 1000


class Fault(msgspec.Struct, frozen=True):
    """Looking into it failed."""

    failure: Failure
    ts: int


class Facts(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that is known; what nobody asked for yet is None."""

    picture: Picture | None = None
    no_picture: Fault | None = None
    sound: Sound | None = None
    no_sound: Fault | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Facts).decode


def facts_of(medium: Medium) -> Facts:
    return Facts() if medium.facts is None else _decode(medium.facts)


def is_recent(fault: Fault | None, now: int) -> bool:
    """Whether another try would be in vain."""
    return fault is not None and now - fault.ts < FORGIVE_MS


def learn(
    cursor: Cursor,
    key: MediaKey,
    *,
    picture: Picture | Fault | None = None,
    sound: Sound | Fault | None = None,
) -> None:
    """Add to what is known of a file, if it is still there. For the writer."""
    medium = rows.get(cursor, *key)
    if medium is None:
        return
    facts = facts_of(medium)
    match picture:
        case Picture():
            facts = replace(facts, picture=picture, no_picture=None)
        case Fault():
            facts = replace(facts, no_picture=picture)
    match sound:
        case Sound():
            facts = replace(facts, sound=sound, no_sound=None)
        case Fault():
            facts = replace(facts, no_sound=sound)
    rows.set_facts(cursor, key, _encode(facts))
