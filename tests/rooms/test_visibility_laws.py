"""Laws of visibility, over random histories: what is traced is true, and the fast way agrees with the slow one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pytest
from attrs import frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from federation.room.event import Event
from homeserver.errors import MatrixError
from homeserver.rooms.tracing import SETTINGS, STILL, Viewer, trace
from storage.database import open_database
from storage.events import timeline
from storage.ports import StoredEvent
from tests.fixtures_db import SERVER_NAME, Pump
from tests.fixtures_rooms import Town, build_town, user

SETTING = "m.room.history_visibility"
MEMBERSHIPS = ("join", "leave", "invite", "ban", "knock")


# -- tracing, on any graph ---------------------------------------------------------------------------------------


@frozen
class World:
    """Events with the state at each snapshot: (setting, membership of @me)."""

    events: Sequence[StoredEvent]
    truth: Mapping[int, tuple[str, str]]


def make_event(event_type: str, state_key: str | None, content: Mapping[str, str], nid: int) -> Event:
    return Event(f"${nid}", "!r", event_type, state_key, "@you:far", 0, 0, (), (), None, b"", content)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A timeline in which events may stand on any earlier snapshot, or on a merge of two with any outcome."""
    truth = {0: ("shared", "leave"), 1: ("shared", "join")}
    events: list[StoredEvent] = []
    next_snapshot = 2
    for nid in range(1, draw(st.integers(1, 25))):
        before = draw(st.sampled_from(sorted(truth)[-6:]))
        if draw(st.booleans()) and len(truth) > 2:
            other = draw(st.sampled_from(sorted(truth)[-6:]))
            setting = draw(st.sampled_from([truth[before][0], truth[other][0]]))
            membership = draw(st.sampled_from([truth[before][1], truth[other][1]]))
            before = next_snapshot
            truth[before] = (setting, membership)
            next_snapshot += 1
        setting, membership = truth[before]
        kind = draw(st.sampled_from(["message", "message", "name", "setting", "me"]))
        if kind == "message":
            event = make_event("m.room.message", None, {}, nid)
        elif kind == "name":
            event = make_event("m.room.name", "", {}, nid)
        elif kind == "setting":
            setting = draw(st.sampled_from(sorted(SETTINGS)))
            event = make_event(SETTING, "", {"history_visibility": setting}, nid)
        else:
            membership = draw(st.sampled_from(MEMBERSHIPS))
            event = make_event("m.room.member", "@me:here", {"membership": membership}, nid)
        after = before
        if event.state_key is not None:
            after = next_snapshot
            truth[after] = (setting, membership)
            next_snapshot += 1
        events.append(StoredEvent(nid, nid, 1, event, before, after))
    return World(events, truth)


@given(worlds(), st.data())
def test_what_is_traced_is_true(world: World, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(world.events)))
    page = list(world.events[first : data.draw(st.integers(first, len(world.events)))])
    if data.draw(st.booleans()):
        page.reverse()
    now = max(world.truth)
    viewer = Viewer("@me:here", 1, now, *world.truth[now], 1, STILL)
    found = trace(viewer, page, lambda stored: "unknown")
    for which, stretches in enumerate((found.settings, found.memberships)):
        for snapshot, stretch in stretches.items():
            assert stretch.value in (None, world.truth[snapshot][which])
    # What has to be read is enough, and everything on the page is then known.
    for which, unknown in enumerate(found.unknown()):
        for stretch in unknown:
            stretch.value = world.truth[stretch.snapshot][which]
    for which, stretches in enumerate((found.settings, found.memberships)):
        for snapshot, stretch in stretches.items():
            assert stretch.value == world.truth[snapshot][which]
    assert all(stored.after in found.settings and stored.after in found.memberships for stored in page)


# -- whole histories, in the room engine -------------------------------------------------------------------------

PEOPLE = ("bob", "carol")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["say", "say", "setting", "join", "leave", "invite", "kick", "ban", "unban", "name"]),
        st.sampled_from(PEOPLE),
        st.sampled_from(sorted(SETTINGS)),
    ),
    max_size=20,
)


@frozen
class Moment:
    """What was so after an event."""

    setting: str
    memberships: Mapping[str, str]


class Tale:
    """A room with a record of its own of who was what at each event."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.room_id = town.create("alice", preset="public_chat")
        start = Moment("shared", dict.fromkeys(PEOPLE, "leave"))
        self.made = len(self.timeline())
        self.moments: list[Moment] = [start] * self.made

    def timeline(self) -> list[StoredEvent]:
        room = self.town.room(self.room_id)
        return self.town.wait(self.town.database.run(timeline, room.nid, limit=1000))

    def step(self, action: str, name: str, setting: str) -> None:
        town, room_id, now = self.town, self.room_id, self.moments[-1]
        memberships = dict(now.memberships)
        try:
            if action == "say":
                town.say("alice", room_id, "words")
            elif action == "name":
                town.send("alice", room_id, "m.room.name", {"name": f"{len(self.moments)}"}, "")
            elif action == "setting":
                town.send("alice", room_id, SETTING, {"history_visibility": setting}, "")
                now = Moment(setting, memberships)
            else:
                member = {"join": "join", "invite": "invite", "ban": "ban"}.get(action, "leave")
                if memberships[name] == member:
                    return
                if action in ("join", "leave"):
                    getattr(town, action)(name, room_id)
                else:
                    getattr(town, action)("alice", name, room_id)
                memberships[name] = member
        except MatrixError:
            return
        self.moments.append(Moment(now.setting, memberships))

    def is_visible(self, index: int, event: Event, name: str) -> bool:
        """The rules as the specification words them."""
        if event.type == "m.room.member" and event.state_key == user(name):
            return True
        after = self.moments[index]
        moments = [after, self.moments[index - 1]] if event.type == SETTING and index else [after]
        joins_later = any(moment.memberships[name] == "join" for moment in self.moments[index:])
        for moment in moments:
            membership = after.memberships[name]
            if moment.setting == "world_readable" or membership == "join":
                return True
            if joins_later and (moment.setting == "shared" or (moment.setting, membership) == ("invited", "invite")):
                return True
        return False


@pytest.fixture
def one_town(sqlite_url: str, pump: Pump) -> Iterator[Town]:
    """One for all examples, with a room for each."""
    database = open_database(sqlite_url, pump, server_name=SERVER_NAME)
    yield build_town(database, pump)
    pump.wait(database.close())


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, data=st.data())
def test_fast_and_slow_ways_agree_with_the_rules(
    one_town: Town, steps: Sequence[tuple[str, str, str]], data: st.DataObject
) -> None:
    tale = Tale(one_town)
    for step in steps:
        tale.step(*step)
    events = tale.timeline()
    assert len(events) == len(tale.moments)
    town = tale.town.fresh_readers()
    room = town.room(tale.room_id)
    for name in PEOPLE:
        visible = {
            stored.nid: tale.moments[index].memberships[name]
            for index, stored in enumerate(events)
            if tale.is_visible(index, stored.event, name)
        }
        if data.draw(st.booleans()):
            town.events.forget([stored.nid for stored in events])
        size = data.draw(st.integers(1, len(events)))
        for first in range(len(events)):
            page = events[first : first + size]
            if first % 2:
                page = page[::-1]
            expected = [(stored.nid, visible[stored.nid]) for stored in page if stored.nid in visible]
            reader = town.fresh_readers().visibility
            fast = reader.filter_fast(room, user(name), page)
            assert fast is None or [(stored.nid, membership) for stored, membership in fast] == expected
            seen = town.wait(reader.filter(room, user(name), page))
            assert [(stored.nid, membership) for stored, membership in seen] == expected
            assert reader.filter_fast(room, user(name), page) == seen, "what was read once is remembered"
        viewer = town.visibility.viewer(room, user(name))
        in_thread = town.wait(town.database.run(town.visibility.seen_with, viewer, events))
        assert {stored.nid: membership for stored, membership in in_thread} == visible


def test_the_usual_reader_needs_no_sql(town: Town) -> None:
    """A member since before the page, whatever others do meanwhile; and the page of its own arrival."""
    for setting in sorted(SETTINGS):
        initial = [{"type": SETTING, "content": {"history_visibility": setting}}]
        room_id = town.create("alice", preset="public_chat", initial_state=initial)
        town.join("bob", room_id)
        for name in ("carol", "dave"):
            town.join(name, room_id)
            town.say(name, room_id, "hello")
        room = town.room(room_id)
        events = town.wait(town.database.run(timeline, room.nid, limit=100))
        fresh = town.fresh_readers().visibility
        for page in (events, events[-3:], events[::-1]):
            assert fresh.filter_fast(room, user("bob"), page) is not None
