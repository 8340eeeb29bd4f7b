"""Puts guilds together, on top of rooms: the room engine knows of them by four hooks.

guilds = build_guilds(...)
door.observers, sender.rules, memberships.wardens, vouching.grants   are told of them
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from federation.outbound.client import FederationClient
from federation.outbound.patience import Patience
from federation.service import service
from homeserver.guilds.abroad.actions import Actions
from homeserver.guilds.abroad.errands import Errands
from homeserver.guilds.abroad.reporting import Reporting
from homeserver.guilds.abroad.tending import Tending
from homeserver.guilds.api.desk import Desk
from homeserver.guilds.api.features import FEATURES
from homeserver.guilds.arrivals import Arrivals
from homeserver.guilds.attendance import Attendance
from homeserver.guilds.book import GuildBook
from homeserver.guilds.closing import Closer
from homeserver.guilds.create import GuildMaker
from homeserver.guilds.doors import GuildDoors
from homeserver.guilds.editor import Editor
from homeserver.guilds.heirs import Heirs
from homeserver.guilds.invites import Invites
from homeserver.guilds.policing import Policing
from homeserver.guilds.reconcile import Reconciler
from homeserver.guilds.rights import RoomRights
from homeserver.guilds.rules import GuildRules
from homeserver.guilds.steward import VIEW_RULE, add_steward, steward_of
from homeserver.guilds.wanted import policy_content
from homeserver.http.limits import RateLimiter
from homeserver.http.table import RouteTable
from homeserver.rooms.accept import Door
from homeserver.rooms.closed import ClosedRooms
from homeserver.rooms.founding import Founder
from homeserver.rooms.membership import MemberProfiles, Memberships
from homeserver.rooms.registry import Rooms
from homeserver.rooms.send import Sender
from homeserver.rooms.serve.access import PeerAccess
from homeserver.tasks import Tasks
from storage import guilds as rows
from storage.database import Database


@service
class Guilds:
    """Made by `build_guilds`."""

    steward: str
    book: GuildBook
    maker: GuildMaker
    editor: Editor
    attendance: Attendance
    reconciler: Reconciler
    closer: Closer
    desk: Desk
    invites: Invites
    heirs: Heirs
    doors: GuildDoors
    errands: Errands
    tending: Tending
    reporting: Reporting
    arrivals: Arrivals
    """A say in what comes from other servers."""
    policing: Policing
    """A say in what this server signs as a policy server."""
    rights: RoomRights
    database: Database
    tasks: Tasks
    door: Door

    async def start(self) -> None:
        """See to it that the steward is there, and take up what a crash left undone."""
        await self.database.write(add_steward, self.steward, self.door.clock.now_ms())
        await self.reconciler.start(await self.doors.spoilt())
        await self.closer.start()
        await self.tending.start()
        for guild_id, people in (await self.database.run(rows.left_behind, self.steward)).items():
            await self.attendance.put_right(guild_id, people)

    def collaborators(self) -> Mapping[type[Any], object]:
        friends: list[object] = [
            self.book, self.maker, self.editor, self.attendance, self.reconciler, self.closer, self.desk,
            self.invites, self.errands, self.rights, self.database, self.tasks,
        ]  # fmt: skip
        return {type(friend): friend for friend in friends}

    def actions(self, parts: Mapping[type[Any], object], access: PeerAccess, limits: RateLimiter) -> Actions:
        """What other servers' requests are answered with. `parts`: what the API's handlers take."""
        table = RouteTable(FEATURES, parts)
        return Actions(self.steward, table, access, self.invites, limits, self.database, self.door.clock)


def build_guilds(
    door: Door,
    database: Database,
    rooms: Rooms,
    book: GuildBook,
    *,
    founder: Founder,
    memberships: Memberships,
    sender: Sender,
    profiles: MemberProfiles,
    tasks: Tasks,
    client: FederationClient | None,
    patience: Patience,
    closed: ClosedRooms,
    policy_key: str | None,
) -> Guilds:
    """Put everything together and hook it in. `client`: asks other servers; None: there are none. `policy_key`: this
    server's as a policy server, None if it is none.
    """
    steward = steward_of(door.identity.server_name)
    policy = policy_content(door.identity.server_name, policy_key)
    reconciler = Reconciler(steward, door, rooms, book, database, tasks, policy)
    editor = Editor(steward, door, book, reconciler, policy)
    attendance = Attendance(steward, door, rooms, book, editor, profiles, memberships.elsewhere)
    maker = GuildMaker(steward, door, database, founder, profiles, policy)
    closer = Closer(steward, door, rooms, database)
    errands = Errands(door.identity.server_name, rooms, door.clock, client, patience)
    doors = GuildDoors(steward, rooms, book, attendance, reconciler, closer, errands, tasks, database)
    arrivals = Arrivals(rooms, book)
    tending = Tending(steward, door, rooms, book, memberships.elsewhere, database, tasks)
    memberships.wardens.append(doors)
    closed.locks.append(doors.is_closed)
    memberships.vouching.grants[VIEW_RULE] = doors.may_view
    sender.rules.append(GuildRules(rooms, book, door.clock))
    door.observers += [doors, tending]
    desk = Desk(rooms, book, editor, door.events)
    invites = Invites(database, door.clock, rooms, attendance)
    heirs = Heirs(editor, book, database)
    return Guilds(
        steward,
        book,
        maker,
        editor,
        attendance,
        reconciler,
        closer,
        desk,
        invites,
        heirs,
        doors,
        errands,
        tending,
        Reporting(rooms, errands, tasks),
        arrivals,
        Policing(steward, rooms, book, arrivals),
        RoomRights(rooms, book, door.events),
        database,
        tasks,
        door,
    )
