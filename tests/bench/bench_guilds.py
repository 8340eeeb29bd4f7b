"""What it costs to come into a guild, which is coming into all of its channels at once, and to make a channel in it.

And what a guild of ten thousand costs more than one of a hundred.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from homeserver.guilds.attendance import Attendance
from homeserver.guilds.create import GuildMaker, NewGuild
from tests.bench.busy import open_busy_house
from tests.bench.meter import ROUNDS, Meter, calm_collector
from tests.bench.table import Table
from tests.fixtures_rooms import user
from tests.guilds.api import ApiHouse, at

CHANNELS = 50
MEMBERS = (10, 300)
CROWDS = (100, 1_000, 10_000)
CHANNELS_OF_A_CROWD = 10
TIMES = 20
"""An operation within a round."""


def test_coming_into_a_guild(tmp_path: Path) -> None:
    table = Table(
        f"A guild with {CHANNELS} channels, SQLite: milliseconds of processor time",
        ("operation", *(f"{members} members" for members in MEMBERS)),
    )
    costs: dict[str, list[float]] = {}
    for members in MEMBERS:
        house, guild_id = open_guild(tmp_path / str(members), CHANNELS)
        enter = house.house.part(Attendance).enter
        for number in range(members - 1):
            house.wait(enter(guild_id, user(f"member{number}"), is_invited=True))
        joining, leaving, making = Meter(), Meter(), Meter()
        batches: list[int] = []
        house.house.database.on_commit(partial(_count, batches))
        with calm_collector():
            for turn in range(ROUNDS):
                name = f"guest{turn}"
                batches.clear()
                with joining.running():
                    house.wait(enter(guild_id, user(name), is_invited=True))
                assert batches == [CHANNELS + 1]
                joining.end_round()
                with leaving.running():
                    house.leave(name, guild_id)
                leaving.end_round()
                house.rest()
                with making.running():
                    room_id = house.new_channel(guild_id, f"new {turn}")
                making.end_round()
                house.call("ann", "DELETE", at("guilds", guild_id, "channels", room_id))
                house.rest()
        for operation, meter in (("join", joining), ("leave", leaving), ("make a channel that all join", making)):
            costs.setdefault(operation, []).append(meter.cost.process_us / 1000)
        house.wait(house.house.close())
    for operation, found in costs.items():
        table.add(operation, *found)
    table.print()


def test_a_guild_of_ten_thousand(tmp_path: Path) -> None:
    """Its channels are joined when they are opened, as is the rule above a thousand; everybody is at the default level,
    but for who is given the role.
    """
    columns = ("operation", *(f"{members:,} members" for members in CROWDS), "growth, times")
    table = Table(f"A guild with {CHANNELS_OF_A_CROWD} channels, SQLite: milliseconds of processor time", columns)
    weights = Table("What giving somebody a role weighs", ("", *(f"{members:,} members" for members in CROWDS)))
    costs: dict[str, list[float]] = {}
    bytes_of: dict[str, list[float]] = {}
    for members in CROWDS:
        crowd = Crowd(tmp_path / str(members), members)
        with calm_collector():
            for turn in range(ROUNDS):
                crowd.round(turn)
        for operation, meter in crowd.meters.items():
            costs.setdefault(operation, []).append(meter.cost.process_us / 1000)
        for what, weight in crowd.weigh().items():
            bytes_of.setdefault(what, []).append(weight)
        crowd.house.wait(crowd.house.house.close())
    for operation, found in costs.items():
        table.add(operation, *found, found[-1] / found[0])
    for what, found in bytes_of.items():
        weights.add(what, *found)
    table.print()
    weights.print()


class Crowd:
    """A guild with that many members, and what is done in it."""

    def __init__(self, directory: Path, members: int) -> None:
        self.directory = directory
        self.house, self.guild_id = open_guild(directory, CHANNELS_OF_A_CROWD)
        house, self.at = self.house, ("guilds", self.guild_id)
        house.call("ann", "PATCH", at(*self.at), {"lazy": True})
        self.role_id = house.new_role(self.guild_id, "mods", "manage_messages", "kick_members")
        for number in range(members - 1):
            self.enter(f"member{number}")
        self.meters = {
            name: Meter()
            for name in ("join", "leave", "give a role", "take a role", "change the layout", "open a channel first")
        }
        self.sent: list[int] = []

    def enter(self, name: str) -> None:
        self.house.wait(self.house.house.part(Attendance).enter(self.guild_id, user(name), is_invited=True))

    def role_of(self, number: int) -> str:
        return at(*self.at, "members", user(f"member{number}"), "roles", self.role_id)

    def round(self, turn: int) -> None:
        house, meters = self.house, self.meters
        guests = [f"guest{turn}_{number}" for number in range(TIMES)]
        with meters["join"].running(TIMES):
            for name in guests:
                self.enter(name)
        room_id = sorted(house.guild(self.guild_id).channels)[0]
        with meters["open a channel first"].running(TIMES):
            for name in guests:
                house.join(name, room_id)
        with meters["leave"].running(TIMES):
            for name in guests:
                house.leave(name, self.guild_id)
        house.rest()
        for method, name in (("PUT", "give a role"), ("DELETE", "take a role")):
            with meters[name].running(TIMES):
                for number in range(TIMES):
                    house.call("ann", method, self.role_of(number))
        layouts = [self.layout(backwards=number % 2 == 0) for number in range(TIMES)]
        with meters["change the layout"].running(TIMES):
            for layout in layouts:
                house.call("ann", "PUT", at(*self.at, "layout"), {"layout": layout})
        for meter in meters.values():
            meter.end_round()

    def layout(self, *, backwards: bool) -> list[Any]:
        """The whole order, with the first two channels the one way or the other around."""
        whole = self.house.whole("ann", self.guild_id)
        (category,) = [one["category_id"] for one in whole["categories"]]
        channels = sorted(one["room_id"] for one in whole["channels"])
        if backwards:
            channels[:2] = channels[1::-1]
        return [{"category_id": category, "channels": channels}]

    def weigh(self) -> dict[str, float]:
        """What giving the role means in events that others are sent, and by what the database grows."""
        house, times = self.house, 4 * TIMES
        house.house.database.on_commit(self._note)
        before = self.size()
        for number in range(times):
            house.call("ann", "PUT", self.role_of(number))
        return {
            "events": len(self.sent) / times,
            "these, as other servers are sent them: bytes": sum(self.sent) / times,
            "by which the database grows: bytes": (self.size() - before) / times,
        }

    def size(self) -> int:
        """Bytes of the pages that the database uses."""
        with closing(sqlite3.connect(self.directory / "bench.db")) as database:
            return sum(
                factor * database.execute(f"PRAGMA {name}").fetchone()[0] * 4096
                for name, factor in (("page_count", 1), ("freelist_count", -1))
            )

    def _note(self, notices: Sequence[Any]) -> None:
        self.sent.extend(len(new.stored.event.raw) for notice in notices for new in notice.events)


def open_guild(directory: Path, channels: int) -> tuple[ApiHouse, str]:
    """A server with a guild of ann's with so many channels."""
    directory.mkdir()
    busy = open_busy_house(directory, f"sqlite:///{directory / 'bench.db'}")
    house = ApiHouse(busy.house, busy.reactor)
    house.wait(house.house.guilds.start())
    guild_id = house.wait(house.house.part(GuildMaker).create(user("ann"), NewGuild("A place")))
    for number in range(channels - len(house.guild(guild_id).channels)):
        house.call("ann", "POST", at("guilds", guild_id, "channels"), {"name": f"channel {number}"})
    assert len(house.guild(guild_id).channels) == channels
    return house, guild_id


def _count(batches: list[int], notices: Sequence[object]) -> None:
    batches.append(len(notices))
