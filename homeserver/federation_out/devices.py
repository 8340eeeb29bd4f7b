"""News of people's devices on its way to other servers: to all that share a room with the person.

    DeviceLists (committed) ──┐
                              ├── one after the other: which servers are in those rooms? ── Sender.send_news
    a local person joins ─────┘

A room may have to be read for that, so it takes a while; until then `floor` holds back the sender's book-keeping, and
what a crash hides is found in the stream.

Spec: https://spec.matrix.org/v1.19/server-server-api/#device-management
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, Protocol

import msgspec
from attrs import field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from federation.room.identifiers import server_of
from federation.service import service
from homeserver.encryption.lists import DeviceLists, edu_json
from homeserver.rooms.accept import Accepted
from homeserver.rooms.registry import Rooms
from homeserver.streams.hub import Hub
from storage.database import Database

TRY_AGAIN_SECONDS = 10.0


class NewsPost(Protocol):
    """Takes news to other servers (`federation.outbound.sender.Sender`)."""

    def send_news(self, user_id: str, edus: Sequence[bytes], destinations: Collection[str], position: int) -> None: ...


class _Change(msgspec.Struct, frozen=True):
    """Something to be told to the servers in some rooms."""

    user_id: str
    position: int
    room_nids: Collection[int]
    edus: Sequence[bytes] | None
    """None: the newest, whatever it is by then."""
    known_nids: Collection[int] = ()
    """Rooms whose servers know already."""


@service
class DeviceNewsOut:
    """A `homeserver.encryption.lists.ListListener`, and an observer of the door."""

    server_name: str
    rooms: Rooms
    hub: Hub
    database: Database
    lists: DeviceLists
    timers: IReactorTime
    spawn: Callable[[str, Coroutine[Deferred[Any], Any, None]], None]
    _waiting: deque[_Change] = field(factory=deque, init=False)
    """The first of them is being worked on."""
    _posts: list[NewsPost] = field(factory=list, init=False)

    def send_by(self, post: NewsPost) -> None:
        """Who takes them away. To be called once, before anything happens."""
        self._posts.append(post)

    def floor(self) -> int:
        """Everything up to here was handed over."""
        return self._waiting[0].position - 1 if self._waiting else self.hub.position

    def devices_changed(
        self, user_id: str, room_nids: Collection[int], edus: Sequence[tuple[str, bytes]], position: int
    ) -> None:
        if room_nids:
            self._add(_Change(user_id, position, room_nids, [edu_json(*edu) for edu in edus]))

    def accepted(self, accepted: Accepted) -> None:
        """Servers that have come to share a room with somebody here are to hear of the person's devices."""
        room = accepted.room
        if len(room.servers) <= (self.server_name in room.servers):
            return
        for new in accepted.events:
            for change in new.changes:
                if change.key[0] != "m.room.member" or change.new is None or change.new.membership != "join":
                    continue
                user_id = change.key[1]
                was_in = change.old is not None and change.old.membership == "join"
                if not was_in and server_of(user_id) == self.server_name:
                    feed = self.hub.feed(user_id)
                    known = () if feed is None else [nid for nid in feed.joined if nid != room.nid]
                    self._add(_Change(user_id, accepted.position, [room.nid], None, known))

    # ----------------------------------------------------------------------------------------------------------

    def _add(self, change: _Change) -> None:
        self._waiting.append(change)
        if len(self._waiting) == 1:
            self.spawn("news of devices to other servers", self._work())

    async def _work(self) -> None:
        while self._waiting:
            try:
                await self._tell(self._waiting[0])
            except CancelledError:
                raise
            except Exception:
                # The rooms could not be read: the database is away for a moment.
                await deferLater(self.timers, TRY_AGAIN_SECONDS, lambda: None)
                continue
            self._waiting.popleft()

    async def _tell(self, change: _Change) -> None:
        live = await self.rooms.get_many(change.room_nids)
        servers = {server for room in live.values() for server in room.servers} - {self.server_name}
        for nid in change.known_nids:
            known = self.rooms.peek_nid(nid)  # where it is not in use, those servers hear it once more
            servers -= set() if known is None else set(known.servers)
        if not servers:
            return
        edus = change.edus
        if edus is None:
            edus = [edu_json(*edu) for edu in await self.database.run(self.lists.catch_up, change.user_id)]
        for post in self._posts:
            post.send_news(change.user_id, edus, sorted(servers), change.position)
