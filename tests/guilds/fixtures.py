"""A house with guilds in it, and the short ways of doing things there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define

from federation.room.auth import PowerLevels
from homeserver.guilds.attendance import Attendance
from homeserver.guilds.book import GuildBook
from homeserver.guilds.create import GuildMaker, NewGuild
from homeserver.guilds.editor import Edit, Editor
from homeserver.guilds.model import Channel, Guild
from homeserver.guilds.reconcile import Reconciler
from homeserver.rooms.live import LiveRoom
from tests.fixtures_house import LivedInHouse, open_house


@define
class GuildHouse(LivedInHouse):
    """People are named by their localparts, channels by their names."""

    @property
    def steward(self) -> str:
        return self.user("guildhall")

    def make_guild(self, owner: str = "ann", **ask: Any) -> str:
        return self.wait(self.house.part(GuildMaker).create(self.user(owner), NewGuild(**{"name": "A place", **ask})))

    def guild(self, guild_id: str) -> Guild:
        return self.wait(self.house.part(GuildBook).require(guild_id))

    def channel(self, guild_id: str, name: str) -> str:
        """The room id of a channel."""
        for channel in self.guild(guild_id).channels.values():
            if self.content(channel.room_id, "m.room.name")["name"] == name:
                return channel.room_id
        raise LookupError(name)

    def as_channel(self, guild_id: str, name: str) -> Channel:
        return self.guild(guild_id).channels[self.channel(guild_id, name)]

    def live(self, room_id: str) -> LiveRoom:
        return self.wait(self.house.rooms.require(room_id))

    def content(self, room_id: str, event_type: str, key: str = "") -> dict[str, Any]:
        ref = self.live(room_id).visible.state[event_type, key]
        return dict(self.wait(self.house.events.get_many([ref.nid]))[ref.nid].event.content)

    def levels(self, room_id: str) -> PowerLevels:
        room = self.live(room_id)
        ref = room.visible.state["m.room.power_levels", ""]
        return PowerLevels.parse(
            room.version, room.create, self.wait(self.house.events.get_many([ref.nid]))[ref.nid].event
        )

    def membership(self, name: str, room_id: str) -> str | None:
        return self.live(room_id).membership_of(self.user(name))

    def edit(self, guild_id: str, actor: str, work: Any) -> Any:
        return self.wait(self.house.part(Editor).edit(guild_id, self.user(actor), work))

    def set(self, guild_id: str, event_type: str, key: str, content: dict[str, Any], actor: str = "ann") -> None:
        def work(edit: Edit) -> None:
            edit.change("test", event_type, key, content)

        self.edit(guild_id, actor, work)

    def give(self, guild_id: str, name: str, *roles: str) -> None:
        self.set(guild_id, "chat.guildhall.member", f"_{self.user(name)}", {"roles": list(roles)})

    def enter(self, guild_id: str, name: str, *, invited: bool = True) -> None:
        self.wait(self.house.part(Attendance).enter(guild_id, self.user(name), is_invited=invited))

    @property
    def attendance(self) -> Attendance:
        return self.house.part(Attendance)

    def settle(self, guild_id: str) -> None:
        """A whole pass over the guild, as after a crash."""
        self.wait(self.house.part(Reconciler).settle(guild_id))

    def rest(self) -> None:
        """Let what goes on in the background come to its end."""
        until = time.monotonic() + 60
        while self.house.tasks.names:
            assert time.monotonic() < until, f"still busy: {self.house.tasks.names}"
            self.advance(0.1)
            self.wait(self.house.database.run(lambda cursor: None))
            time.sleep(0.001)


def open_guild_house(directory: Path, database_url: str) -> GuildHouse:
    opened = open_house(directory, database_url)
    return GuildHouse(opened.house, opened.reactor)


@pytest.fixture
def town(tmp_path: Path, database_url: str) -> Iterator[GuildHouse]:
    opened = open_guild_house(tmp_path, database_url)
    opened.wait(opened.house.guilds.start())
    yield opened
    opened.wait(opened.house.close())
