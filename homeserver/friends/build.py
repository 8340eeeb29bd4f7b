"""Puts friends and direct rooms together, on top of rooms.

friends = build_friends(...)       door.observers, and remote.outside.listeners, are told of them
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from federation.outbound.client import FederationClient
from federation.service import service
from homeserver.friends.abroad import FriendsHeard, FriendsServers
from homeserver.friends.direct import DirectRooms, NoGlances
from homeserver.friends.friendships import Friendships
from homeserver.friends.listing import DirectList
from homeserver.friends.mutes import Mutes
from homeserver.friends.notices import News
from homeserver.friends.pairs import Pairs
from homeserver.friends.ports import StandAlone
from homeserver.friends.watch import Watch
from homeserver.friends.words import Words
from homeserver.push.book import RuleBook
from homeserver.rooms.create import RoomMaker
from homeserver.rooms.glimpse import StrippedEvent
from homeserver.rooms.membership import Memberships
from homeserver.rooms.registry import Rooms
from homeserver.rooms.remote.assembly import RemoteRooms
from homeserver.rooms.remote.outside import OutsideRooms
from homeserver.rooms.removal import Removal
from homeserver.streams.hub import Hub
from homeserver.tasks import Tasks
from homeserver.userdata.account_data import AccountData
from homeserver.userdata.invite_filter import InviteFilter
from storage.database import Database


@service
class Friends:
    """Made by `build_friends`."""

    friendships: Friendships
    direct: DirectRooms
    watch: Watch
    news: News
    mutes: Mutes
    """A listener of accounts, to be told of them."""
    removal: Removal
    heard: FriendsHeard | None
    """None for a server that keeps to itself."""

    async def start(self) -> None:
        await self.watch.start()
        await self.mutes.start()

    def close(self) -> None:
        self.mutes.close()

    async def tidy(self) -> None:
        await self.watch.tidy()

    def collaborators(self) -> Mapping[type[Any], object]:
        return {type(part): part for part in (self.friendships, self.direct, self.mutes, self.removal, self.heard)}


@service
class InvitationGlances:
    """What invitations from other servers show of their rooms."""

    outside: OutsideRooms

    async def create_content(self, room_id: str, user_id: str) -> dict[str, Any]:
        found = await self.outside.find(room_id, user_id)
        shown = [] if found is None else msgspec.json.decode(found.glimpse, type=list[StrippedEvent])
        return next((dict(event.content) for event in shown if event.type == "m.room.create"), {})


def build_friends(
    maker: RoomMaker,
    memberships: Memberships,
    rooms: Rooms,
    *,
    database: Database,
    hub: Hub,
    account_data: AccountData,
    invite_filter: InviteFilter,
    tasks: Tasks,
    book: RuleBook,
    remote: RemoteRooms | None,
    client: FederationClient | None,
) -> Friends:
    """Put everything together and hook it in. `remote`, `client`: None for a server that keeps to itself."""
    door = maker.door
    pairs = Pairs(database, rooms, door.events, account_data, invite_filter)
    glances = NoGlances() if remote is None else InvitationGlances(remote.outside)
    news = News(database)
    words = Words(database, door, StandAlone() if client is None else FriendsServers(client, tasks))
    direct = DirectRooms(pairs, maker, memberships, DirectList(account_data), words, news, glances)
    watch = Watch(door.identity.server_name, direct, database, hub, tasks, door.clock.timers)
    door.observers.append(watch)
    if remote is not None:
        remote.outside.listeners.append(watch)
    mutes = Mutes(book, database, door.clock, tasks)
    heard = None if remote is None else FriendsHeard(direct, remote.access)
    removal = Removal(door, rooms, database)
    return Friends(Friendships(pairs, direct, news), direct, watch, news, mutes, removal, heard)
