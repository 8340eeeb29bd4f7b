"""What it costs to come into a guild, which is coming into all of its channels at once, and to make a channel in it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from homeserver.guilds.attendance import Attendance
from homeserver.guilds.create import GuildMaker, NewGuild
from tests.bench.busy import open_busy_house
from tests.bench.meter import ROUNDS, Meter, calm_collector
from tests.bench.table import Table
from tests.fixtures_rooms import user
from tests.guilds.api import ApiHouse, at

CHANNELS = 50
MEMBERS = (10, 300)


def test_coming_into_a_guild(tmp_path: Path) -> None:
    table = Table(
        f"A guild with {CHANNELS} channels, SQLite: milliseconds of processor time",
        ("operation", *(f"{members} members" for members in MEMBERS)),
    )
    costs: dict[str, list[float]] = {}
    for members in MEMBERS:
        directory = tmp_path / str(members)
        directory.mkdir()
        busy = open_busy_house(directory, f"sqlite:///{directory / 'bench.db'}")
        house = ApiHouse(busy.house, busy.reactor)
        house.wait(house.house.guilds.start())
        guild_id = house.wait(house.house.part(GuildMaker).create(user("ann"), NewGuild("A place")))
        for number in range(CHANNELS - len(house.guild(guild_id).channels)):
            house.call("ann", "POST", at("guilds", guild_id, "channels"), {"name": f"channel {number}"})
        assert len(house.guild(guild_id).channels) == CHANNELS
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


def _count(batches: list[int], notices: Sequence[object]) -> None:
    batches.append(len(notices))
