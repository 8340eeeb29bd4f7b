"""What happened between two places of the stream, for one person, as the events that a connection says.

    feed: which rooms changed ── their events since ── may the person see them? ── frames ── in the order of the stream
         ├── what is to be told of friends, in its place among them
         └── receipts, typing, presence: as they are now, after all of it

The same steps as those of a `/sync`, which hands out sections where this hands out events one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import orjson

from federation.service import service
from homeserver.gateway.frames import Frames
from homeserver.gateway.teller import Teller
from homeserver.http.route import Requester
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.render import Reader, client_event
from homeserver.streams.hub import Feed, Hub, newer
from homeserver.sync.engine import Sync
from homeserver.sync.timeline import Span, Viewer
from homeserver.userdata.ignoring import without_ignored
from storage import friend_news, spans
from storage import memberships as membership_rows

MOST_IN_A_ROOM = 500
MOST_MISSED = 2_000
"""Events that a client may have missed, in all rooms: with more it begins anew."""
STEPS = 8
LAST = STEPS - 1


class Place(msgspec.Struct, frozen=True, gc=False):
    """Everything up to `position` was said, but of that one only what has a number up to `step`."""

    position: int
    step: int
    serial: int
    """Up to where what passes (typing, presence) was said."""

    @property
    def seq(self) -> int:
        return self.position * STEPS + self.step

    @staticmethod
    def at_end(position: int, serial: int) -> Place:
        return Place(position, LAST, serial)

    @staticmethod
    def of(seq: int) -> Place | None:
        """The place that a client remembers, which knows nothing of what passes. None for what is none."""
        if not 0 <= seq < 2**53:
            return None
        return Place(seq // STEPS, seq % STEPS, 0)

    def is_at(self, position: int, serial: int) -> bool:
        return self.position >= position and self.step == LAST and self.serial >= serial

    @property
    def after(self) -> int:
        """All positions up to here were said whole."""
        return self.position if self.step == LAST else self.position - 1


class TooFar(Exception):
    """More happened than a connection is told."""


Said = tuple[Place, str, bytes]
"""Where the client is once it has it, the family of its name, and the members of the message."""


class News(msgspec.Struct, gc=False):
    events: list[Said]
    place: Place
    """Where the client is when it has all of them."""


@service
class Stream:
    """See the module's docstring."""

    sync: Sync
    teller: Teller
    frames: Frames

    @property
    def hub(self) -> Hub:
        return self.sync.hub

    async def read(self, who: Requester, feed: Feed, place: Place) -> News:
        """What happened since. Raises TooFar."""
        hub = self.hub
        upto = Place.at_end(hub.position, hub.serial)
        ignored = await self.sync.ignoring.of(who.user_id)
        found: list[Said] = []
        if place.after < upto.position:
            found = await self._happened(who, feed, Viewer(who.user_id, ignored), place, upto)
            if news := await self._friend_news(feed, place, upto):
                found = sorted([*found, *news], key=_by_place)
        found += [(upto, family, body) for family, body in await self._passing(feed, place, upto, ignored)]
        return News(found, upto)

    def took(self, who: Requester, place: Place) -> None:
        """A client has been given everything up to there."""
        self.sync.deliveries.note(who.user_id, place.after)

    async def _friend_news(self, feed: Feed, place: Place, upto: Place) -> list[tuple[Place, str, bytes]]:
        if place.after >= max(feed.floor, feed.news):
            return []
        rows = await self.sync.database.run(friend_news.since, feed.user_id, place.after, upto.position)
        if len(rows) >= friend_news.KEPT:
            raise TooFar()
        return [
            (
                Place(one.position, 0, place.serial),
                one.kind.partition(".")[0],
                _body(one.kind, {"room_id": one.room_id, "user_id": one.other_id}),
            )
            for one in rows
            if one.position != place.position
        ]

    async def _happened(self, who: Requester, feed: Feed, viewer: Viewer, place: Place, upto: Place) -> list[Said]:
        wanted = await self._spans(feed, place, upto)
        live = {nid: room for nid in wanted if (room := self.sync.rooms.peek_nid(nid)) is not None}
        if len(live) < len(wanted):
            live = await self.sync.rooms.get_many(list(wanted))
        found = await self._afar(who, live, wanted, place, upto)
        await self._add_ends(feed, live, wanted, upto)
        wanted = {nid: span for nid, span in wanted.items() if nid in live and span.after < span.upto}
        pages = await self.sync.sections.timelines.read_many(live, wanted, MOST_IN_A_ROOM, viewer)
        if any(len(page.events) > MOST_IN_A_ROOM for page in pages.values()):
            raise TooFar()
        happened = [(stored, live[nid]) for nid, page in pages.items() for stored, _ in page.seen]
        if len(happened) > MOST_MISSED:
            raise TooFar()
        now_ms = self.sync.clock.now_ms()
        for stored, room in happened:
            skipped = place.step if stored.position == place.position else -1
            for step, told in enumerate(await self.teller.tell(room, stored, who.user_id)):
                if step > skipped:
                    body = self.frames.body(room, stored, told, who, now_ms)
                    found.append((Place(stored.position, step, place.serial), told.family, body))
        found.sort(key=lambda said: (said[0].position, said[0].step))
        return found

    async def _afar(
        self, who: Requester, live: Mapping[int, LiveRoom], wanted: dict[int, Span], place: Place, upto: Place
    ) -> list[Said]:
        """What became of the person in rooms that this server is not in, which it knows from others only."""
        nids = [
            nid for nid, span in wanted.items() if not span.upto and (nid not in live or not live[nid].local_joined)
        ]
        found: list[Said] = []
        for row, stored in await self.sync.outside.afar(who.user_id, nids):
            del wanted[row.room_nid]
            if place.after < row.position <= upto.position and row.position != place.position:
                kind = "room.created" if row.membership in ("invite", "knock") else "room.deleted"
                reader = Reader(who.user_id, who.device_id, self.sync.clock.now_ms())
                event = orjson.Fragment(client_event(stored, reader))
                data = {"room_id": row.room_id, "membership": row.membership, "event": event}
                found.append((Place(row.position, 0, place.serial), "room", _body(kind, data)))
        return found

    async def _spans(self, feed: Feed, place: Place, upto: Place) -> dict[int, Span]:
        """Of which rooms to read what: those that the person is in, and those that it came into or left."""
        after = place.after
        if after >= feed.floor:
            changed, moved = newer(feed.changed, after), newer(feed.moved, after)
        else:
            database = self.sync.database
            changed = await database.run(spans.changed_since, sorted(feed.joined), after)
            rows = await database.run(membership_rows.rooms_of, feed.user_id)
            moved = [row.room_nid for row in rows if row.position > after and not row.forgotten]
        found = {}
        for nid in changed:
            joined_at = feed.joined.get(nid)
            if joined_at is not None:
                # What was said before somebody came is history, not news.
                found[nid] = Span(max(after, joined_at - 1), upto.position)
        for nid in moved:
            if nid not in feed.joined:
                found[nid] = Span(after, 0)
        return found

    async def _add_ends(self, feed: Feed, live: Mapping[int, LiveRoom], wanted: dict[int, Span], upto: Place) -> None:
        """Rooms that the person is not in are read up to what became of them; closed ones have only that."""
        for nid, span in wanted.items():
            room = live.get(nid)
            if span.upto or room is None:
                continue
            ref = room.visible.state.get(("m.room.member", feed.user_id))
            stored = None if ref is None else await self.sync.events.get(ref.nid)
            if stored is None or not span.after < stored.position <= upto.position:
                continue
            membership = stored.event.content.get("membership")
            if membership == "invite":
                wishes = await self.sync.outside.invite_filter.of(feed.user_id)
                if wishes.judge(stored.event.sender) != "allow":
                    continue
            was_inside = stored.replaces and not await self.sync.outside.closed.is_closed(room, feed.user_id)
            is_end = membership in ("leave", "ban")
            wanted[nid] = Span(span.after if was_inside and is_end else stored.position - 1, stored.position)

    async def _passing(self, feed: Feed, place: Place, upto: Place, ignored: frozenset[str]) -> list[tuple[str, bytes]]:
        """Receipts, who types, and who is there: as it is now."""
        found: list[tuple[str, bytes]] = []
        if place.after < upto.position:
            rooms = newer(feed.changed, place.after) if place.after >= feed.floor else list(feed.joined)
            wants = {nid: max(place.after, feed.joined[nid] - 1) for nid in rooms if nid in feed.joined}
            receipts = await self.sync.receipts.since_many(wants, feed.user_id, upto.position)
            for nid, content in receipts.items():
                found += await self._about(nid, "receipt", [content], ignored)
        is_known = feed.serial_floor <= place.serial <= upto.serial
        if place.serial >= upto.serial:
            return found
        for nid in newer(feed.stirred, place.serial if is_known else 0):
            if nid in feed.joined:
                found += await self._about(nid, "typing", [self.sync.typing.content(nid)], ignored)
        people = (
            self.sync.presence.changes(feed, place.serial if is_known else 0)
            if feed.presence > place.serial or not is_known
            else []
        )
        for one in without_ignored(people, ignored):
            event = orjson.loads(one)
            data = {"user_id": event["sender"], **event["content"]}
            found.append(("presence", _body("presence.updated", data)))
        return found

    async def _about(
        self, nid: int, kind: str, contents: Sequence[bytes], ignored: frozenset[str]
    ) -> list[tuple[str, bytes]]:
        room = (await self.sync.rooms.get_many([nid])).get(nid)
        found = []
        for content in without_ignored(contents, ignored) if room is not None else ():
            said = orjson.loads(content)["content"]
            more = {"user_ids": said["user_ids"]} if kind == "typing" else {"receipts": said}
            assert room is not None
            found.append((kind, _body(kind, {"room_id": room.room_id, **more})))
        return found


def _by_place(event: tuple[Place, str, bytes]) -> tuple[int, int]:
    return event[0].position, event[0].step


def _body(kind: str, data: Mapping[str, Any]) -> bytes:
    return b'"type":"%b","data":%b' % (kind.encode(), orjson.dumps(data))
