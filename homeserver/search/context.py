"""What stands around the results of a search: events before and after, and who their senders were then.

Spec: https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3search
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from federation.service import service
from homeserver.rooms.paging import PageAsk, Walk
from homeserver.rooms.tracing import Seen, Viewer
from homeserver.rooms.visibility import Visibility
from homeserver.search.engine import Found
from homeserver.streams.tokens import RoomToken
from homeserver.sync.filters import NO_EVENT_FILTER
from homeserver.userdata.ignoring import Ignorance
from storage.database import Database
from storage.events import load_events
from storage.ports import Cursor, StoredEvent
from storage.state import read_state

MOST_AROUND = 50
"""Events on each side of a result, whatever the client asks for."""


class ContextAsk(msgspec.Struct, frozen=True, gc=False):
    """How many events on each side of a result, and whether with profiles."""

    before: int = 5
    after: int = 5
    with_profiles: bool = False


class Around(msgspec.Struct, gc=False):
    """What stands around one result."""

    before: list[Seen]
    """Newest first."""
    after: list[Seen]
    start: int
    end: int
    """Positions in front of and behind all of it."""
    profiles: dict[str, Mapping[str, Any]]
    """`displayname` and `avatar_url` by user, as they were after the last of these events."""


@service
class Contexts:
    """Reads it."""

    database: Database
    visibility: Visibility
    ignoring: Ignorance

    async def of(self, user_id: str, found: Sequence[Found], ask: ContextAsk) -> list[Around]:
        """For each result, in one crossing."""
        ignored = await self.ignoring.of(user_id)
        viewers = [self.visibility.viewer(one.room, user_id) for one in found]
        targets = [one.event for one in found]
        return await self.database.run(_read_all, self.visibility, viewers, targets, ask, ignored)


# -- in a database thread ----------------------------------------------------------------------------------------


def _read_all(
    cursor: Cursor,
    visibility: Visibility,
    viewers: Sequence[Viewer],
    targets: Sequence[StoredEvent],
    ask: ContextAsk,
    ignored: frozenset[str],
) -> list[Around]:
    return [
        _read(cursor, visibility, viewer, target, ask, ignored) for viewer, target in zip(viewers, targets, strict=True)
    ]


def _read(
    cursor: Cursor,
    visibility: Visibility,
    viewer: Viewer,
    target: StoredEvent,
    ask: ContextAsk,
    ignored: frozenset[str],
) -> Around:
    sides: list[list[Seen]] = []
    for backwards, wanted in ((True, ask.before), (False, ask.after)):
        size = min(wanted, MOST_AROUND)
        start = target.position - 1 if backwards else target.position
        walk = Walk(
            cursor, visibility, viewer, PageAsk(backwards, RoomToken(start), None, size, NO_EVENT_FILTER), ignored
        )
        sides.append(walk.collect() if size else [])
    before, after = sides
    last = after[-1][0] if after else target
    profiles: dict[str, Mapping[str, Any]] = {}
    if ask.with_profiles:
        senders = {target.event.sender, *(stored.event.sender for stored, _ in (*before, *after))}
        profiles = _profiles(cursor, last, senders)
    first = before[-1][0] if before else target
    return Around(before, after, first.position - 1, last.position, profiles)


def _profiles(cursor: Cursor, at: StoredEvent, user_ids: set[str]) -> dict[str, Mapping[str, Any]]:
    nids = read_state(cursor, at.after, [("m.room.member", user_id) for user_id in sorted(user_ids)])
    members = load_events(cursor, list(nids.values()))
    found: dict[str, Mapping[str, Any]] = {}
    for (_, user_id), nid in nids.items():
        if nid in members:
            content = members[nid].event.content
            values = {key: content.get(key) for key in ("displayname", "avatar_url")}
            found[user_id] = {key: value for key, value in values.items() if isinstance(value, str)}
    return found
