"""What the rules of history visibility ask about the state at a snapshot.

Spec: https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from federation.room.event import StateKey
from storage import memberships, strings
from storage.ports import Cursor
from storage.sql import among
from storage.state import read_state

HISTORY_VISIBILITY: StateKey = ("m.room.history_visibility", "")


class VisibilityState(msgspec.Struct, frozen=True, gc=False):
    """The two pieces of state that decide what one user may see."""

    setting: object
    """`history_visibility` of the event's content as somebody wrote it: any JSON value; None where there is none."""
    membership: str | None
    """None: no member event."""


def state_at(cursor: Cursor, snapshot: int, user_id: str) -> VisibilityState:
    """What decided at a snapshot. Costs a walk down the snapshot's chain, whatever the size of the state."""
    member: StateKey = ("m.room.member", user_id)
    nids = read_state(cursor, snapshot, (HISTORY_VISIBILITY, member))
    setting: object = None
    membership: str | None = None
    if nids:
        condition, parameters = among(cursor, "nid", list(nids.values()))
        for nid, number, raw in cursor.execute(
            f"SELECT nid, membership, raw FROM events WHERE {condition}", parameters
        ).fetchall():
            if nid == nids.get(member):
                membership = memberships.NAMES[number or 0]
            else:
                setting = _read(raw).content.history_visibility
    return VisibilityState(setting, membership)


def memberships_of_server(cursor: Cursor, snapshot: int, server_name: str) -> set[str]:
    """Which memberships the people of a server had at a snapshot. Costs a look at every member."""
    suffix = ":" + server_name
    members = read_state(cursor, snapshot, types=["m.room.member"])
    nids = [nid for (_, user_id), nid in members.items() if user_id.endswith(suffix)]
    if not nids:
        return set()
    condition, parameters = among(cursor, "nid", nids)
    rows = cursor.execute(f"SELECT DISTINCT membership FROM events WHERE {condition}", parameters).fetchall()
    return {name for (number,) in rows if (name := memberships.NAMES[number or 0]) is not None}


def setting_at(cursor: Cursor, snapshot: int) -> object:
    """`history_visibility` at a snapshot as somebody wrote it: any JSON value; None where there is none."""
    nid = read_state(cursor, snapshot, (HISTORY_VISIBILITY,)).get(HISTORY_VISIBILITY)
    row = None if nid is None else cursor.execute("SELECT raw FROM events WHERE nid = ?", (nid,)).fetchone()
    return None if row is None else _read(row[0]).content.history_visibility


def settings_ever(cursor: Cursor, room_nids: Collection[int]) -> dict[int, list[object]]:
    """By room, every `history_visibility` that was not rejected, as somebody wrote it, outliers' too."""
    settings: dict[int, list[object]] = {room_nid: [] for room_nid in room_nids}
    event_type, state_key = HISTORY_VISIBILITY
    found = strings.find_many(cursor, HISTORY_VISIBILITY)
    if event_type not in found or state_key not in found or not settings:
        return settings
    condition, parameters = among(cursor, "room_nid", list(settings))
    for room_nid, raw in cursor.execute(
        f"SELECT room_nid, raw FROM events WHERE {condition} AND type_nid = ? AND key_nid = ? AND flags IN (0, 2)",
        [*parameters, found[event_type], found[state_key]],
    ).fetchall():
        settings[room_nid].append(_read(raw).content.history_visibility)
    return settings


def next_turn(cursor: Cursor, room_nid: int, user_id: str, position: int, backwards: bool) -> int | None:
    """Position of the nearest event past `position` that changes the room's history visibility or the user's
    membership, looking back or forward in the timeline; None where nothing changes any more.
    """
    found = strings.find_many(cursor, ("m.room.history_visibility", "", "m.room.member", user_id))
    nearest: int | None = None
    for event_type, state_key in (HISTORY_VISIBILITY, ("m.room.member", user_id)):
        if event_type not in found or state_key not in found:
            continue
        pick, side = ("MAX", "<") if backwards else ("MIN", ">")
        row = cursor.execute(
            f"SELECT {pick}(position) FROM events WHERE room_nid = ? AND type_nid = ? AND key_nid = ?"
            f" AND position {side} ?",
            (room_nid, found[event_type], found[state_key], position),
        ).fetchone()
        at = None if row is None else row[0]
        if at is not None and (nearest is None or (at > nearest) == backwards):
            nearest = at
    return nearest


class _Content(msgspec.Struct, gc=False):
    history_visibility: object = None


class _Raw(msgspec.Struct, gc=False):
    content: _Content


_read = msgspec.json.Decoder(_Raw).decode
