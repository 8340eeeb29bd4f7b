"""What somebody has missed, as far as mail may tell of it.

What is said in encrypted rooms is not for mail, whoever said it in the clear: there it is only told that something was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

import msgspec

from config.email import Email
from federation.service import service
from homeserver.push.listing import Notifications, Told
from homeserver.push.naming import Names, Naming
from storage import mail as rows
from storage.database import Database
from storage.mail import Mailed

MOST_READ = 200
"""Entries that are looked at."""
MOST_ROOMS = 20
MOST_LINES = 5
LONGEST_LINE = 300
LONGEST_NAME = 100
LONGEST_PAUSE_MS = 24 * 3_600_000


class Line(msgspec.Struct, frozen=True):
    sender: str
    text: str
    """Nothing where it is not for mail: `what` it is has to do."""
    what: str = ""


class MissedRoom(msgspec.Struct, frozen=True):
    title: str
    link: str
    lines: Sequence[Line]
    """Oldest first."""
    more: int


class Missed(msgspec.Struct, frozen=True):
    rooms: Sequence[MissedRoom]
    more_rooms: int
    newest: int
    """Position of the newest."""
    mailed: Sequence[Mailed]
    """What is to be written down when it is sent."""
    next_ms: int | None
    """In so long there may be more to tell."""


@service
class Misses:
    """Finds out."""

    database: Database
    notifications: Notifications
    naming: Naming
    settings: Email

    async def of(self, user_id: str, after: int, now_ms: int) -> Missed:
        """What came after a position, is not read, and was not told yet, of rooms that may be spoken of again."""
        page = await self.notifications.page(user_id, None, MOST_READ, False)
        known = await self.database.run(rows.rooms_mailed, user_id)
        by_room: dict[int, list[Told]] = {}
        for told in page.entries:
            if not told.is_read and told.position > after:
                by_room.setdefault(told.stored.room_nid, []).append(told)
        next_ms: int | None = None
        rooms: list[MissedRoom] = []
        mailed: list[Mailed] = []
        newest = more_rooms = 0
        for nid, entries in by_room.items():
            before = known.get(nid)
            fresh = [told for told in entries if before is None or told.position > before.upto]
            if not fresh:
                continue
            pause_ms = self.settings.room_pause_ms
            if before is not None:
                # Who has not read what they were told of last is told ever more seldom.
                pause_ms = before.pause_ms if len(fresh) < len(entries) else min(before.pause_ms, pause_ms)
                wait_ms = before.ts + pause_ms - now_ms
                if wait_ms > 0:
                    next_ms = wait_ms if next_ms is None else min(next_ms, wait_ms)
                    continue
                if len(fresh) < len(entries):
                    pause_ms = min(2 * pause_ms, LONGEST_PAUSE_MS)
            mailed.append(Mailed(nid, now_ms, fresh[0].position, pause_ms))
            newest = max(newest, fresh[0].position)
            if len(rooms) < MOST_ROOMS:
                rooms.append(await self._show(user_id, fresh))
            else:
                more_rooms += 1
        return Missed(rooms, more_rooms, newest, mailed, next_ms)

    async def _show(self, user_id: str, newest_first: Sequence[Told]) -> MissedRoom:
        lines: list[Line] = []
        names = Names()
        for told in newest_first[:MOST_LINES]:
            found = await self.naming.of(told.room_id, told.stored)
            names = found if not lines else names
            lines.insert(0, _line(user_id, told, found))
        newest = newest_first[0]
        title = _short(names.room or names.alias or lines[-1].sender, LONGEST_NAME)
        link = f"https://matrix.to/#/{quote(newest.room_id, safe='')}/{quote(newest.stored.event.event_id, safe='')}"
        return MissedRoom(title, link, lines, max(0, len(newest_first) - MOST_LINES))


def _line(user_id: str, told: Told, names: Names) -> Line:
    event = told.stored.event
    sender = _short(names.sender or event.sender, LONGEST_NAME)
    if event.type == "m.room.member" and event.state_key == user_id:
        return Line(sender, "", "invited you")
    body = event.content.get("body")
    if event.type == "m.room.encrypted" or names.is_encrypted:
        return Line(sender, "", "sent an encrypted message")
    if event.type == "m.room.message" and isinstance(body, str) and body.strip():
        return Line(sender, _short(body, LONGEST_LINE))
    return Line(sender, "", "sent something")


def _short(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


def mapping(missed: Missed) -> Mapping[str, object]:
    """What the templates are given."""
    return {"rooms": missed.rooms, "more_rooms": missed.more_rooms}
