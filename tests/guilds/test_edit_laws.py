"""After whatever was asked of a guild, and wherever its server crashed: its rooms are as its state says.

What levels follow from roles, and that they are sound and as exact as can be, is the matter of `test_projection`; here
it is that they, the join rules and who is in a channel always do follow, with nothing sent that need not be.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from homeserver.errors import MatrixError
from homeserver.guilds.attendance import Attendance
from homeserver.guilds.model import Guild
from homeserver.guilds.permissions import VIEW_CHANNEL
from homeserver.guilds.wanted import is_as_wanted, wanted_in_channel, wanted_in_guild
from storage.guilds import closing, unsettled
from tests.fixtures_db import SERVER_NAME
from tests.guilds.api import ApiHouse, at
from tests.guilds.fixtures import open_guild_house
from tests.guilds.strategies import CARRIED

PEOPLE = ("ann", "bob", "cat", "dan")
ROLES = ("red", "blue", "everyone", "admin")
CHANNELS = ("general", "Voice", "news")
LEVELS = "m.room.power_levels"
MANY = 210
"""Members of a guild that ends: so many that they are put out in several commits."""

permissions = st.lists(
    st.sampled_from([*CARRIED, "manage_roles", "manage_channels", "administrator"]), max_size=5, unique=True
)
in_channel = st.dictionaries(st.sampled_from(CARRIED[:-1]), st.sampled_from(("allow", "deny")), max_size=3).map(
    lambda found: {side: [name for name, put in found.items() if put == side] for side in ("allow", "deny")}
)
someone = st.sampled_from(PEOPLE)
channels = st.sampled_from(CHANNELS)
edits = st.one_of(
    st.tuples(st.just("role"), someone, st.sampled_from(ROLES), permissions),
    st.tuples(st.sampled_from(("give", "take")), someone, st.sampled_from(ROLES[:2] + ROLES[3:]), someone),
    st.tuples(st.just("delete role"), someone, st.sampled_from(ROLES), st.none()),
    st.tuples(st.just("override"), someone, channels, st.tuples(st.sampled_from(ROLES[:3]), in_channel)),
    st.tuples(st.just("for one"), someone, channels, st.tuples(someone, in_channel)),
    st.tuples(st.just("category"), someone, st.sampled_from(ROLES[:3]), in_channel),
    st.tuples(st.sampled_from(("inherit", "out of it", "into it", "delete")), someone, channels, st.none()),
    st.tuples(st.sampled_from(("kick", "ban", "unban", "owner")), someone, someone, st.none()),
    st.tuples(st.sampled_from(("come", "leave")), someone, st.none(), st.none()),
    st.tuples(st.just("leave channel"), someone, channels, st.none()),
    st.tuples(st.just("spoil"), st.none(), channels, st.none()),
)  # fmt: skip
_number = count()


class Place:
    """One guild, and what is asked of it: by those who may and by those who may not."""

    def __init__(self, house: ApiHouse) -> None:
        self.house = house
        self.guild_id = house.new()
        self.at = ("guilds", self.guild_id)
        house.new_channel(self.guild_id, "news", kind="announcement")
        self.ids = {"everyone": "everyone", "admin": "admin"}
        for name in ("red", "blue"):
            self.ids[name] = house.new_role(self.guild_id, name, "view_channel", "kick_members")
        for name in PEOPLE[1:]:
            house.enter(self.guild_id, name)
        guild = house.guild(self.guild_id)
        self.channels = {name: house.channel(self.guild_id, name) for name in CHANNELS}
        (self.category,) = guild.categories
        house.rest()

    def ask(self, what: str, who: Any, whom: Any, how: Any) -> None:
        """Do it, or be refused."""
        try:
            self._ask(what, who, whom, how)
        except MatrixError as error:
            assert error.status < 500, error
        self.house.rest()

    def _ask(self, what: str, who: Any, whom: Any, how: Any) -> None:
        house, target = self.house, self.ids.get(whom, "")
        room_id = self.channels.get(whom, "")
        channel = at(*self.at, "channels", room_id)
        match what:
            case "role":
                house.call(who, "PATCH", at(*self.at, "roles", target), {"permissions": how})
            case "delete role":
                house.call(who, "DELETE", at(*self.at, "roles", target))
            case "give" | "take":
                method = "PUT" if what == "give" else "DELETE"
                house.call(who, method, at(*self.at, "members", house.user(how), "roles", target))
            case "override":
                house.call(who, "PUT", f"{channel}/overrides/{self.ids[how[0]]}", how[1])
            case "for one":
                house.call(who, "PUT", f"{channel}/overrides/{at(house.user(how[0]))}", how[1])
            case "category":
                house.call(who, "PUT", at(*self.at, "categories", self.category, "overrides", target), how)
            case "inherit":
                house.call(who, "DELETE", f"{channel}/overrides")
            case "out of it" | "into it":
                house.call(who, "PATCH", channel, {"category_id": self.category if what == "into it" else None})
            case "delete":
                house.call(who, "DELETE", channel)
            case "owner":
                house.call(who, "POST", at(*self.at, "owner"), {"user_id": house.user(whom)})
            case "kick" | "ban" | "unban":
                house.call(who, "POST", at(*self.at, "members", house.user(whom), what), {})
            case "come":
                house.enter(self.guild_id, who)
            case "leave":
                house.call(who, "POST", at(*self.at, "leave"))
            case "leave channel":
                house.leave(who, room_id)
            case "spoil":  # as a plain server may, which redacts what its people may redact
                (event_id, _) = self.levels()[room_id]
                house.redact("guildhall", room_id, event_id)
                house.advance(1.0)

    def levels(self) -> Mapping[str, tuple[str, Any]]:
        """The levels of each room: their event and what it says."""
        found = {}
        for room_id in (self.guild_id, *self.channels.values()):
            ref = self.house.live(room_id).visible.state[LEVELS, ""]
            found[room_id] = (ref.event_id, self.house.content(room_id, LEVELS))
        return found


def check(house: ApiHouse, guild_id: str) -> None:
    """The guild's rooms are as it says, and looking after them again sends nothing."""
    guild = house.guild(guild_id)
    policy = house.house.guilds.editor.policy
    rooms = {guild_id: wanted_in_guild(guild, policy)}
    rooms |= {room_id: wanted_in_channel(guild, channel, policy) for room_id, channel in guild.channels.items()}
    for room_id, wanted in rooms.items():
        state = house.live(room_id).visible.state
        events = house.wait(house.house.events.get_many([state[key].nid for key in wanted if key in state]))
        for key, content in wanted.items():
            event = events[state[key].nid].event if key in state else None
            assert is_as_wanted(event, content), (room_id, key)
    for room_id in guild.channels:
        check_members(house, guild, room_id)
    position = house.house.hub.position
    house.settle(guild_id)
    assert house.house.hub.position == position


def check_members(house: ApiHouse, guild: Guild, room_id: str) -> None:
    """In a channel is who is in the guild and may view it, but for those who left it by their own hand."""
    room = house.live(room_id)
    for name in PEOPLE:
        user_id = house.user(name)
        is_member = house.membership(name, guild.room_id) == "join"
        may_view = bool(guild.permissions(user_id, guild.channels[room_id]) & VIEW_CHANNEL)
        if room.membership_of(user_id) == "join":
            assert is_member and may_view, (name, room_id)
        elif is_member and may_view:
            ref = room.visible.state["m.room.member", user_id]
            event = house.wait(house.house.events.get_many([ref.nid]))[ref.nid].event
            assert event.sender == user_id and event.content["membership"] == "leave", (name, room_id)


class Snapshots:
    """What a SIGKILL would leave: the database after each of some commits."""

    def __init__(self, directory: Path, url: str) -> None:
        self._directory, self._source = directory, url.removeprefix("sqlite:///")
        self.taken: list[Path] = []
        self.is_on = False
        self._skip = 0

    def every(self, skip: int = 0) -> None:
        """Take one at each commit from now on, but for the first."""
        self.is_on, self._skip = True, skip

    def committed(self, notices: Sequence[object]) -> None:
        if not self.is_on:
            return
        if self._skip:
            self._skip -= 1
            return
        directory = self._directory / f"crash-{next(_number)}"
        directory.mkdir()
        with sqlite3.connect(self._source) as source, sqlite3.connect(directory / "found.db") as copy:
            source.backup(copy)
        self.taken.append(directory)

    @contextmanager
    def opened(self, taken: Path) -> Iterator[ApiHouse]:
        """The server as it comes up again on what was left, when it has come to rest."""
        opened = open_guild_house(taken, f"sqlite:///{taken / 'found.db'}")
        house = ApiHouse(opened.house, opened.reactor)
        try:
            house.wait(house.house.guilds.start())
            house.rest()
            yield house
        finally:
            house.wait(house.house.close())


@pytest.fixture
def world(tmp_path: Path, made_sqlite_url: str) -> Iterator[tuple[ApiHouse, Snapshots]]:
    """A house, and snapshots of its database."""
    opened = open_guild_house(tmp_path, made_sqlite_url)
    house = ApiHouse(opened.house, opened.reactor)
    house.wait(house.house.guilds.start())
    snapshots = Snapshots(tmp_path, made_sqlite_url)
    house.house.database.on_commit(snapshots.committed)
    yield house, snapshots
    house.wait(house.house.close())


def test_rooms_follow_whatever_is_edited_and_nothing_is_sent_in_vain(world: tuple[ApiHouse, Snapshots]) -> None:
    house, _ = world

    @settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(edits, min_size=4, max_size=12))
    def law(some: list[tuple[str, Any, Any, Any]]) -> None:
        place = Place(house)
        check(house, place.guild_id)
        for edit in some:
            before = place.levels()
            place.ask(*edit)
            after = place.levels()
            if edit[0] != "spoil":
                for room_id, (event_id, content) in after.items():
                    assert (event_id == before[room_id][0]) == (content == before[room_id][1]), (edit, room_id)
            check(house, place.guild_id)

    law()


def test_a_crash_after_any_commit_is_made_up_for_at_the_next_start(world: tuple[ApiHouse, Snapshots]) -> None:
    house, snapshots = world

    @settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @example([], [("spoil", None, "general", None)], 0)
    @given(st.lists(edits, max_size=6), st.lists(edits, min_size=1, max_size=3), st.integers(0, 2))
    def law(some: list[tuple[str, Any, Any, Any]], last: list[tuple[str, Any, Any, Any]], skip: int) -> None:
        place = Place(house)
        for edit in some:
            place.ask(*edit)
        snapshots.every(skip)
        for edit in last:
            place.ask(*edit)
        snapshots.is_on = False
        found, snapshots.taken = snapshots.taken[:3], []
        for taken in found:
            with snapshots.opened(taken) as again:
                check(again, place.guild_id)
                assert again.wait(again.house.database.run(unsettled)) == []
                assert again.wait(again.house.database.run(closing)) == []

    law()


def test_a_guild_that_ends_ends_whole_wherever_its_server_crashes(world: tuple[ApiHouse, Snapshots]) -> None:
    house, snapshots = world
    guild_id = house.new()
    for number in range(MANY):
        house.wait(house.house.part(Attendance).enter(guild_id, f"@m{number}:{SERVER_NAME}", is_invited=True))
    rooms = [guild_id, *house.guild(guild_id).channels]
    snapshots.every()
    house.call("ann", "DELETE", at("guilds", guild_id))
    house.rest()
    assert len(snapshots.taken) > len(rooms)
    for taken in snapshots.taken[:: max(1, len(snapshots.taken) // 5)]:
        with snapshots.opened(taken) as again:
            for room_id in rooms:
                left = [user_id for user_id, ref in again.live(room_id).members() if ref.membership == "join"]
                assert left == [again.steward], taken
            assert again.refused("ann", "GET", at("guilds", guild_id)).startswith("404")
            assert again.call("ann", "GET", "guilds") == {"guilds": []}
            assert again.wait(again.house.database.run(closing)) == []
