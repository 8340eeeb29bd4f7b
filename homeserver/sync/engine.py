"""One `/sync` request: find what changed, wait while nothing has, answer with bytes.

    since ── feed: which rooms changed ── sections of those rooms ── anything? ── answer
                     ▲                                                 │ no
                     └───────────────── hub.wait (woken by a commit) ◄─┘

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec
import orjson

from federation.service import service
from homeserver.clock import Clock
from homeserver.ephemeral.presence import PresenceBoard
from homeserver.ephemeral.receipts import ReceiptBoard
from homeserver.ephemeral.typing import TypingBoard
from homeserver.http.route import Requester
from homeserver.records.deliveries import Deliveries
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.registry import Rooms
from homeserver.rooms.render import Reader
from homeserver.streams.hub import Feed, Hub, newer
from homeserver.streams.tokens import START, StreamToken
from homeserver.sync.feeds import FeedLoader
from homeserver.sync.filters import EventFilter, Filter
from homeserver.sync.joined import Manner, RoomSections, Want
from homeserver.sync.outside import OutsideSections
from homeserver.sync.polls import Polls
from homeserver.sync.ports import Contribution, Contributor
from homeserver.sync.profiles import ProfileNews, users_section
from homeserver.sync.timeline import Span
from homeserver.userdata.account_data import AccountData
from homeserver.userdata.ignoring import Ignorance, without_ignored
from storage import spans
from storage.database import Database


class SyncAsk(msgspec.Struct, frozen=True):
    """One request, its parts understood."""

    filter: Filter
    since: StreamToken | None
    full_state: bool
    timeout_ms: int
    use_state_after: bool


@service
class Sync:
    """Answers `/sync`."""

    clock: Clock
    hub: Hub
    feeds: FeedLoader
    rooms: Rooms
    events: EventCache
    database: Database
    sections: RoomSections
    outside: OutsideSections
    typing: TypingBoard
    receipts: ReceiptBoard
    presence: PresenceBoard
    account_data: AccountData
    ignoring: Ignorance
    contributors: Sequence[Contributor]
    profiles: ProfileNews
    polls: Polls
    deliveries: Deliveries
    max_timeout_ms: int

    async def sync(self, who: Requester, ask: SyncAsk) -> bytes:
        """The JSON of the answer. Waits up to `timeout_ms` where there is nothing to say yet."""
        feed = await self.feeds.get(who.user_id)
        deadline_ms = self.clock.now_ms() + min(ask.timeout_ms, self.max_timeout_ms)
        while True:
            marks = feed.marks
            upto = StreamToken(self.hub.position, self.hub.serial)
            reader = Reader(who.user_id, who.device_id, self.clock.now_ms(), self.events.peek)
            manner = Manner(reader, ask.filter, ask.use_state_after, await self.ignoring.of(who.user_id))
            if ask.since is None or ask.full_state:
                whole = await self._whole(feed, manner, ask.since, upto)
                more = await self._contributions(who, feed, ask.since, upto)
                self.deliveries.note(who.user_id, upto.position)
                return _join(upto, whole, more)
            answer = await self._changes(feed, manner, ask.since, upto)
            more = await self._contributions(who, feed, ask.since, upto)
            remaining_ms = deadline_ms - self.clock.now_ms()
            if answer or remaining_ms <= 0 or self.hub.closing or any(one.is_news for one in more):
                self.deliveries.note(who.user_id, upto.position)
                return _join(upto, answer, more)
            if feed.marks == marks:
                await self.polls.wait(feed, who.device_id, remaining_ms)
                feed = await self.feeds.get(who.user_id)

    async def _contributions(
        self, who: Requester, feed: Feed, since: StreamToken | None, upto: StreamToken
    ) -> list[Contribution]:
        return [await contributor.contribute(who, feed, since, upto) for contributor in self.contributors]

    async def devices_removed(self, user_id: str, device_ids: Sequence[str]) -> None:
        """These devices are logged out: what they wait for is over (`homeserver.accounts.ports.DeviceListener`)."""
        await self.polls.devices_removed(user_id, device_ids)

    async def _whole(
        self, feed: Feed, manner: Manner, since: StreamToken | None, upto: StreamToken
    ) -> dict[str, bytes]:
        """A first sync, or `full_state`: every room with all of its state."""
        after = since or START
        live = await self.rooms.get_many(sorted(feed.joined))
        wants = [
            Want(room, Span(after.position, upto.position, is_first=since is None), True, 0)
            for nid, room in live.items()
            if nid in feed.joined and not _is_hidden(room, manner)
        ]
        data = await self.account_data.everything(feed.user_id)
        for want in wants:
            want.account_data.extend(data.rooms.get(want.room.nid, ()))
        await self._add_ephemeral(feed, wants, START, upto, {want.room.nid: 0 for want in wants}, ())
        rooms = await self._rooms(feed, manner, wants, after, upto, first=since is None)
        people = self.presence.changes(feed, 0)
        fields = manner.filter.profile_fields
        profiles = await self.profiles.everything(feed, fields) if fields else {}
        return {
            **rooms,
            **users_section(profiles, manner.ignored),
            **_events("account_data", manner.filter.account_data, data.global_events),
            **_events("presence", manner.filter.presence, without_ignored(people, manner.ignored)),
        }

    async def _changes(self, feed: Feed, manner: Manner, since: StreamToken, upto: StreamToken) -> dict[str, bytes]:
        """What changed in (since, upto]; empty where nothing did that the filter wants."""
        recent = since.position >= feed.floor
        if recent:
            changed = newer(feed.changed, since.position)
        elif since.position < upto.position:
            changed = await self._changed_rooms(feed, since, upto)
        else:
            changed = []
        # A token of another run of the server holds a serial that says nothing: all that passes is shown again.
        known_serial = feed.serial_floor <= since.serial <= upto.serial
        stirred = newer(feed.stirred, since.serial if known_serial else 0)

        wanted = dict.fromkeys([*changed, *stirred])
        moved = newer(feed.moved, since.position) if recent else None
        answer: dict[str, bytes] = {}
        data_rooms: Mapping[int, Sequence[bytes]] = {}
        if feed.account > since.position or not recent:
            data = await self.account_data.changes(feed.user_id, since.position, upto.position)
            data_rooms = data.rooms
            wanted.update(dict.fromkeys(nid for nid in data_rooms if nid in feed.joined))
            answer.update(_events("account_data", manner.filter.account_data, data.global_events))
        if wanted or moved or not recent:
            answer.update(await self._changed_sections(feed, manner, since, upto, list(wanted), stirred, data_rooms))
        people = self.presence.changes(feed, since.serial) if feed.presence > since.serial or not known_serial else []
        if entered := self._entered(feed, since):
            people += self.presence.present(feed, entered)
        answer.update(_events("presence", manner.filter.presence, without_ignored(people, manner.ignored)))
        if fields := manner.filter.profile_fields:
            profiles = await self.profiles.changes(feed, fields, since.position, upto.position)
            answer.update(users_section(profiles, manner.ignored))
        return answer

    async def _changed_sections(
        self,
        feed: Feed,
        manner: Manner,
        since: StreamToken,
        upto: StreamToken,
        nids: list[int],
        stirred: Sequence[int],
        data: Mapping[int, Sequence[bytes]],
    ) -> dict[str, bytes]:
        wants: list[Want] = []
        receipts: dict[int, int] = {}
        for nid, room in (await self._live(nids)).items():
            joined_at = feed.joined.get(nid)
            if joined_at is None or _is_hidden(room, manner):
                continue  # left: `outside` has it
            # A room that was hidden from the reader is shown as if the reader had just come in.
            is_revealed = not manner.lazy and room.whole_since > since.position
            is_new = joined_at > since.position or is_revealed
            after = 0 if is_new else since.position
            want = Want(room, Span(after, upto.position, is_first=is_new), is_new, after, is_entered=is_new)
            if is_revealed:
                want.account_data.extend((await self.account_data.everything(feed.user_id)).rooms.get(nid, ()))
            else:
                want.account_data.extend(data.get(nid, ()))
            wants.append(want)
            receipts[nid] = after
        await self._add_ephemeral(feed, wants, since, upto, receipts, stirred)
        return await self._rooms(feed, manner, wants, since, upto, first=False)

    async def _live(self, nids: Sequence[int]) -> dict[int, LiveRoom]:
        found = {nid: room for nid in nids if (room := self.rooms.peek_nid(nid)) is not None}
        return found if len(found) == len(nids) else await self.rooms.get_many(nids)

    async def _add_ephemeral(
        self,
        feed: Feed,
        wants: Sequence[Want],
        since: StreamToken,
        upto: StreamToken,
        receipts_after: Mapping[int, int],
        stirred: Collection[int],
    ) -> None:
        if not wants:
            return
        receipts = await self.receipts.since_many(receipts_after, feed.user_id, upto.position)
        for want in wants:
            nid = want.room.nid
            # A first sight of a room tells who types if anybody does; later on, that nobody does any more is news too.
            if nid in stirred or (want.full and not self.typing.is_quiet(nid)):
                want.ephemeral.append(self.typing.content(nid))
            if nid in receipts:
                want.ephemeral.append(receipts[nid])

    async def _rooms(
        self, feed: Feed, manner: Manner, wants: Sequence[Want], since: StreamToken, upto: StreamToken, first: bool
    ) -> dict[str, bytes]:
        ephemeral, account_data = manner.filter.room.ephemeral, manner.filter.room.account_data
        for want in wants:
            heard = without_ignored(want.ephemeral, manner.ignored)
            want.ephemeral = _admitted(ephemeral, heard, want.room.room_id)
            want.account_data = _admitted(account_data, want.account_data, want.room.room_id)
        joined = await self.sections.make(wants, manner)
        outside = await self.outside.make(feed, manner, since, upto, first=first)
        parts = []
        for name, rooms in (
            (b"join", joined),
            (b"invite", outside.invite),
            (b"knock", outside.knock),
            (b"leave", outside.leave),
        ):
            if rooms:
                entries = [orjson.dumps(room_id) + b":" + section for room_id, section in rooms.items()]
                parts.append(b'"%b":{%b}' % (name, b",".join(entries)))
        return {"rooms": b"{" + b",".join(parts) + b"}"} if parts else {}

    def _entered(self, feed: Feed, since: StreamToken) -> list[int]:
        """Rooms that the user has joined since then."""
        if since.position >= feed.floor:
            return [nid for nid in newer(feed.moved, since.position) if nid in feed.joined]
        return [nid for nid, position in feed.joined.items() if position > since.position]

    async def _changed_rooms(self, feed: Feed, since: StreamToken, upto: StreamToken) -> list[int]:
        """The token is older than the feed: ask the database which of the user's rooms have something newer."""
        if since.position == 0:
            return list(feed.joined)
        joined = sorted(feed.joined)
        changed = await self.database.run(spans.changed_since, joined, since.position)
        with_receipts = await self.receipts.since_many(
            dict.fromkeys(joined, since.position), feed.user_id, upto.position
        )
        return [*changed, *(nid for nid in with_receipts if nid not in changed)]


def _is_hidden(room: LiveRoom, manner: Manner) -> bool:
    """A client that does not load members lazily takes the members that it is told of for all there are: it is not
    shown a room before that is so. COMPAT Synapse, which does the same.
    """
    return room.partial is not None and not manner.lazy


def _events(name: str, filter: EventFilter, events: Sequence[bytes]) -> dict[str, bytes]:
    admitted = _admitted(filter, events)
    return {name: b'{"events":[%b]}' % b",".join(admitted)} if admitted else {}


def _admitted(filter: EventFilter, events: Sequence[bytes], room_id: str | None = None) -> list[bytes]:
    """Ephemeral and account data events that the filter wants. They are few and small: parsed only if it filters."""
    if filter.is_open or not events:
        return list(events)
    found = []
    for event in events:
        parsed = orjson.loads(event)
        if filter.admits(parsed["type"], parsed.get("sender", "")):
            found.append(event)
    return found


def _join(upto: StreamToken, parts: Mapping[str, bytes], more: Sequence[Contribution]) -> bytes:
    behind = next((one.inbox for one in more if one.inbox is not None), 0)
    fields = [b'"next_batch":"%b"' % str(StreamToken(upto.position, upto.serial, behind)).encode()]
    fields += [b'"%b":%b' % (name.encode(), value) for name, value in parts.items()]
    for one in more:
        fields += one.members
    return b"{" + b",".join(fields) + b"}"
