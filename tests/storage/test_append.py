"""What is appended can be read back: events, heads, state, memberships, transaction ids."""

from __future__ import annotations

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.room.parse import load_event
from federation.room.redaction import redact_event
from storage import events, gaps, memberships, rooms, spans, state, strings, transactions
from storage.database import Database
from storage.errors import DuplicateRow, UnknownAuthEvent
from storage.ports import EventAppend, NewEvent, NewRoom, NewSnapshot, RoomHead, StateChange, StateRef, Transaction
from tests.fixtures_db import Pump
from tests.storage.histories import ALICE, BOB, SERVER, VERSION, Room, append_all


@pytest.fixture
def room(database: Database, pump: Pump) -> Room:
    """A public room of Alice's, with Bob in it."""
    room = Room(database.counters)
    append_all(pump, database, *room.create(), room.member(BOB, "join"))
    return room


def test_a_room_is_read_back_as_it_was_written(database: Database, pump: Pump, room: Room) -> None:
    loaded = pump.wait(database.run(rooms.load_room, room.nid))
    assert loaded is not None
    assert (loaded.head, loaded.state, loaded.version) == (room.head, room.state, "11")
    assert loaded.create.event.type == "m.room.create"
    row = loaded.row
    assert (row.room_id, row.creator, row.room_type, row.oldest) == (room.room_id, ALICE, None, 0)
    assert row.newest == database.counters.position - 1
    assert pump.wait(database.run(rooms.find_nid, room.room_id)) == room.nid
    assert pump.wait(database.run(rooms.find_room, room.room_id)) == row
    assert pump.wait(database.run(rooms.load_rows, [room.nid, 77])) == {room.nid: row}


def test_what_is_not_there_is_not_found(database: Database, pump: Pump) -> None:
    assert pump.wait(database.run(rooms.find_nid, "!nowhere:test.example")) is None
    assert pump.wait(database.run(rooms.find_room, "!nowhere:test.example")) is None
    assert pump.wait(database.run(rooms.load_room, 77)) is None
    assert pump.wait(database.run(events.load_events, [77])) == {}
    assert pump.wait(database.run(events.load_events, [])) == {}
    assert pump.wait(database.run(events.load_by_ids, ["$nothing"])) == {}
    assert pump.wait(database.run(events.timeline, 77, limit=10)) == []
    assert pump.wait(database.run(events.recent_timelines, [77], 10)) == {77: []}
    assert pump.wait(database.run(memberships.rooms_of, "@nobody:test.example")) == []
    assert pump.wait(database.run(transactions.used_by_device, "@nobody:test.example", "X")) == []
    assert pump.wait(database.run(transactions.event_of, Transaction("@nobody:test.example", "X", "p", "t"))) is None
    assert pump.wait(database.run(state.read_state, 0)) == {}
    assert pump.wait(database.run(state.read_state, 77, [("m.room.name", "")])) == {}


def test_events_come_back_byte_for_byte(database: Database, pump: Pump, room: Room) -> None:
    sent = room.send("with a device", transaction=Transaction(ALICE, "PHONE", "send/x", "t1"))
    append_all(pump, database, sent)
    stored = sent.events[0].stored
    by_nid = pump.wait(database.run(events.load_events, [stored.nid, 9999]))
    assert list(by_nid) == [stored.nid]
    found = by_nid[stored.nid]
    stored.event.parsed_content = found.event.parsed_content  # a cache
    assert found == stored
    event_id = stored.event.event_id
    assert pump.wait(database.run(events.load_by_ids, [event_id, "$x"])) == {event_id: stored}
    assert pump.wait(database.run(events.find_nids, [event_id, "$x"])) == {event_id: stored.nid}


def test_a_batch_moves_the_head_once_and_keeps_order(database: Database, pump: Pump, room: Room) -> None:
    other = Room(database.counters)
    appends = [*other.create(), room.send("1"), other.send("a"), room.send("2"), other.send("b"), room.send("3")]
    append_all(pump, database, *appends)
    for each in (room, other):
        loaded = pump.wait(database.run(rooms.load_room, each.nid))
        assert loaded is not None
        assert loaded.head == each.head
        assert loaded.state == each.state
    bodies = [
        stored.event.content["body"]
        for stored in pump.wait(database.run(events.timeline, room.nid, limit=3, backwards=True))
    ]
    assert bodies == ["3", "2", "1"]


def test_pages_of_a_timeline(database: Database, pump: Pump, room: Room) -> None:
    append_all(pump, database, *(room.send(str(number)) for number in range(10)))
    everything = pump.wait(database.run(events.timeline, room.nid, limit=100))
    positions = [stored.position for stored in everything]
    assert positions == sorted(positions)
    assert len(everything) == 15

    def page(**how: int | bool) -> list[int]:
        return [stored.position for stored in pump.wait(database.run(events.timeline, room.nid, **how))]  # type: ignore[arg-type]

    assert page(limit=4) == positions[:4]
    assert page(limit=4, after=positions[3]) == positions[4:8]
    assert page(limit=4, backwards=True) == positions[:-5:-1]
    assert page(limit=100, after=positions[3], upto=positions[6]) == positions[4:7]
    assert page(limit=2, after=positions[3], upto=positions[6], backwards=True) == [positions[6], positions[5]]
    recent = pump.wait(database.run(events.recent_timelines, [room.nid, 77], 3, positions[9]))
    assert [stored.position for stored in recent[room.nid]] == positions[7:10]
    assert recent[77] == []


def test_what_was_judged_badly_is_in_no_timeline(database: Database, pump: Pump, room: Room) -> None:
    bad = room.store(room.event("m.room.message", {"body": "rejected"}), rejected=True)
    soft = room.store(room.event("m.room.message", {"body": "soft-failed"}), soft_failed=True)
    append_all(pump, database, EventAppend(room.nid, [NewEvent(bad), NewEvent(soft)], None))
    shown = pump.wait(database.run(events.timeline, room.nid, limit=100))
    assert {bad.nid, soft.nid}.isdisjoint({stored.nid for stored in shown})
    found = pump.wait(database.run(events.load_events, [bad.nid, soft.nid]))
    assert (found[bad.nid].rejected, found[bad.nid].soft_failed) == (True, False)
    assert (found[soft.nid].rejected, found[soft.nid].soft_failed) == (False, True)
    row = pump.wait(database.run(rooms.find_room, room.room_id))
    assert row is not None
    assert row.head == room.head
    assert row.newest == soft.position


def test_an_outlier_gets_its_place_later(database: Database, pump: Pump, room: Room) -> None:
    event = room.event("m.room.name", {"name": "from afar"}, state_key="")
    outlier = room.store(event, position=0, before=0, after=0)
    append_all(pump, database, EventAppend(room.nid, [NewEvent(outlier)], None))
    assert outlier.nid not in {stored.nid for stored in pump.wait(database.run(events.timeline, room.nid, limit=100))}
    assert pump.wait(database.run(events.load_events, [outlier.nid]))[outlier.nid].position == 0

    append = room.accept(event)
    placed = append.events[0]
    snapshot = NewSnapshot(placed.stored.after, placed.stored.before, ((("m.room.name", ""), outlier.nid),))
    placed.stored.nid = outlier.nid
    placed.was_outlier = True
    append.snapshots = [snapshot]
    append_all(pump, database, append)
    found = pump.wait(database.run(events.load_events, [outlier.nid]))[outlier.nid]
    assert found.position == placed.stored.position
    assert pump.wait(database.run(state.read_state, room.head.snapshot, types=["m.room.name"])) == {
        ("m.room.name", ""): outlier.nid
    }


def test_backfilled_events_lie_before_all_others(database: Database, pump: Pump, room: Room) -> None:
    for number in range(3):
        database.counters.backfill -= 1
        old = room.store(room.event("m.room.message", {"body": str(number)}), position=database.counters.backfill)
        append_all(pump, database, EventAppend(room.nid, [NewEvent(old)], None))
    first = pump.wait(database.run(events.timeline, room.nid, limit=3))
    assert [stored.position for stored in first] == [-3, -2, -1]
    row = pump.wait(database.run(rooms.find_room, room.room_id))
    assert row is not None
    assert row.oldest == -3
    assert row.head == room.head


def test_missing_previous_events_are_remembered_until_they_come(database: Database, pump: Pump, room: Room) -> None:
    late = room.event("m.room.message", {"body": "late"})
    early = room.accept(room.event("m.room.message", {}, prev_events=[late.event_id, "$never:seen"]))
    early.missing_prev = [late.event_id, "$never:seen"]
    append_all(pump, database, early)
    position = early.events[0].stored.position
    gap = pump.wait(database.run(gaps.find_gap, room.nid, after=position - 1, upto=position))
    assert gap == gaps.Gap(position, tuple(sorted([late.event_id, "$never:seen"])))
    append_all(pump, database, room.accept(late))
    left = pump.wait(database.run(gaps.find_gap, room.nid, after=0, upto=events.LAST))
    assert left == gaps.Gap(position, ("$never:seen",))


def test_a_redacted_event_brings_its_redaction(database: Database, pump: Pump, room: Room) -> None:
    victim = room.send("regrettable")
    append_all(pump, database, victim)
    target = victim.events[0].stored
    redaction = room.event("m.room.redaction", {"redacts": target.event.event_id, "reason": "spam"})
    raw = redact_event(VERSION, target.event).raw
    append = room.accept(redaction)
    redaction_nid = append.events[0].stored.nid
    append.also = [lambda cursor: events.apply_redaction(cursor, target.nid, raw, redaction_nid)]
    append_all(pump, database, append)
    found = pump.wait(database.run(events.load_events, [target.nid]))[target.nid]
    assert found.event.raw == raw
    assert found.event.content == {}
    assert found.redacted_by == redaction_nid
    assert found.redacted_because is not None
    assert found.redacted_because.event.content["reason"] == "spam"
    by_sender = pump.wait(database.run(events.events_of_sender, ALICE))
    assert target.nid not in {nid for nid, _, _ in by_sender}
    assert redaction_nid in {nid for nid, _, _ in by_sender}


def test_events_of_a_sender_come_in_pages(database: Database, pump: Pump, room: Room) -> None:
    other = Room(database.counters, creator=BOB)
    append_all(pump, database, *other.create(), *(room.send(sender=BOB) for _ in range(5)), room.send(sender=ALICE))
    everything = pump.wait(database.run(events.events_of_sender, BOB))
    assert len(everything) == 1 + 4 + 5
    assert everything == sorted(everything)
    paged: list[tuple[int, int, str]] = []
    while page := pump.wait(
        database.run(events.events_of_sender, BOB, after_nid=paged[-1][0] if paged else 0, limit=3)
    ):
        assert len(page) <= 3
        paged += page
    assert paged == everything
    here = pump.wait(database.run(events.events_of_sender, BOB, room_nid=room.nid))
    assert {room_nid for _, room_nid, _ in here} == {room.nid}
    assert len(here) == 6
    assert pump.wait(database.run(events.events_of_sender, "@nobody:test.example")) == []


def test_a_transaction_id_counts_once(database: Database, pump: Pump, room: Room) -> None:
    transaction = Transaction(ALICE, "PHONE", f"send/{room.room_id}/m.room.message", "nul\0txn")
    first = room.send("once", transaction=transaction)
    append_all(pump, database, first)
    key = (transaction.path, transaction.txn_id)
    event_id = first.events[0].stored.event.event_id
    ts = first.events[0].stored.received_ts
    assert pump.wait(database.run(transactions.used_by_device, ALICE, "PHONE")) == [key]
    assert pump.wait(database.run(transactions.used_by_device, ALICE, "TABLET")) == []
    assert pump.wait(database.run(transactions.event_of, transaction)) == event_id
    other = msgspec.structs.replace(transaction, txn_id="other")
    assert pump.wait(database.run(transactions.event_of, other)) is None
    with pytest.raises(DuplicateRow):
        append_all(pump, database, room.send("again", transaction=transaction))
    database.clear_poison(room.nid)
    assert len(pump.wait(database.run(events.timeline, room.nid, limit=100))) == 6
    assert pump.wait(database.write(transactions.forget_transactions, ts)) == 0
    assert pump.wait(database.write(transactions.forget_transactions, ts + 1)) == 1
    assert pump.wait(database.run(transactions.used_by_device, ALICE, "PHONE")) == []
    assert pump.wait(database.run(transactions.event_of, transaction)) is None


def test_an_event_is_stored_once(database: Database, pump: Pump, room: Room) -> None:
    append = room.send()
    append_all(pump, database, append)
    again = EventAppend(room.nid, [NewEvent(room.store(append.events[0].stored.event))], None)
    with pytest.raises(DuplicateRow):
        append_all(pump, database, again)


def test_memberships_and_since_when(database: Database, pump: Pump, room: Room) -> None:
    joined = pump.wait(database.run(memberships.membership_of, room.nid, BOB))
    assert joined is not None
    assert (joined.membership, joined.since, joined.position) == ("join", joined.position, joined.position)
    assert joined.event_nid == room.state["m.room.member", BOB].nid

    append_all(pump, database, room.member(BOB, "join", displayname="Bob"), room.member(BOB, "join", displayname="B"))
    renamed = pump.wait(database.run(memberships.membership_of, room.nid, BOB))
    assert renamed is not None
    assert renamed.since == joined.since
    assert renamed.position > joined.position

    # Out and in again within one batch breaks it, however the batch is cut.
    append_all(
        pump, database, room.send(), room.member(BOB, "leave"), room.member(BOB, "join"), room.member(BOB, "join")
    )
    back = pump.wait(database.run(memberships.membership_of, room.nid, BOB))
    assert back is not None
    assert back.since == back.position - 1

    assert pump.wait(database.run(memberships.rooms_of, BOB)) == [back]
    assert pump.wait(database.run(memberships.rooms_of, BOB, ["join", "invite"])) == [back]
    assert pump.wait(database.run(memberships.rooms_of, BOB, ["ban"])) == []
    assert pump.wait(database.run(memberships.members_of, room.nid)) == [(ALICE, "join"), (BOB, "join")]
    assert pump.wait(database.run(memberships.members_of, room.nid, ["leave"])) == []
    history = pump.wait(database.run(memberships.membership_history, room.nid, BOB))
    assert [step.membership for step in history] == ["join", "join", "join", "leave", "join", "join"]
    assert [step.position for step in history] == sorted(step.position for step in history)
    assert pump.wait(database.run(memberships.membership_history, room.nid, "@nobody:test.example")) == []


def test_a_forgotten_room_is_remembered_by_the_next_membership(database: Database, pump: Pump, room: Room) -> None:
    append_all(pump, database, room.member(BOB, "leave"))
    pump.wait(database.write(memberships.set_forgotten, room.nid, BOB))
    assert [found.forgotten for found in pump.wait(database.run(memberships.rooms_of, BOB))] == [True]
    append_all(pump, database, room.set("m.room.member", BOB, {"membership": "invite"}, sender=ALICE))
    assert [found.forgotten for found in pump.wait(database.run(memberships.rooms_of, BOB))] == [False]


def test_an_invite_to_a_room_of_another_server(database: Database, pump: Pump) -> None:
    afar = Room(database.counters)
    event = afar.event("m.room.member", {"membership": "invite"}, state_key=BOB, auth_events=[])
    invite = afar.store(event, position=0)
    position = database.next_position()
    change = StateChange(("m.room.member", BOB), StateRef(invite.nid, event.event_id, "invite"), None)
    append_all(
        pump,
        database,
        EventAppend(
            afar.nid,
            [NewEvent(invite, [change])],
            None,
            new_room=afar.take_new_room(),
            position=position,
            notice="invite",
        ),
    )
    found = pump.wait(database.run(memberships.rooms_of, BOB))
    assert [(each.membership, each.position, each.room_id) for each in found] == [("invite", position, afar.room_id)]
    assert pump.wait(database.run(rooms.load_room, afar.nid)) is None
    assert pump.wait(database.run(spans.state_steps, afar.nid, 0, position)) == []


def test_resolution_takes_a_membership_away(database: Database, pump: Pump, room: Room) -> None:
    append = room.send()
    old = room.state.pop(("m.room.member", BOB))
    append.events[0].changes = [StateChange(("m.room.member", BOB), None, old)]
    position = append.events[0].stored.position
    snapshot = database.counters.snapshot
    database.counters.snapshot += 1
    append.snapshots = [NewSnapshot(snapshot, room.head.snapshot, ((("m.room.member", BOB), 0),))]
    append.head = room.head = RoomHead(room.head.extremities, room.head.depth, snapshot)
    append_all(pump, database, append)
    loaded = pump.wait(database.run(rooms.load_room, room.nid))
    assert loaded is not None
    assert loaded.state == room.state
    gone = pump.wait(database.run(memberships.membership_of, room.nid, BOB))
    assert gone is not None
    assert (gone.membership, gone.event_nid, gone.position) == ("leave", 0, position)
    steps = pump.wait(database.run(spans.state_steps, room.nid, position - 1, position))
    assert steps == [(position, ("m.room.member", BOB), 0)]


def test_text_may_hold_anything_that_json_can(database: Database, pump: Pump, room: Room) -> None:
    strange = 'nul\0 quote" percent%s question? 雪 \N{GRINNING FACE}'
    afar = Room(database.counters)
    afar.new_room = NewRoom(afar.nid, afar.room_id, "11", ALICE, is_space_type=strange)
    append_all(
        pump,
        database,
        *afar.create(),
        room.set(strange, strange, {"body": strange}),
        room.send(strange, transaction=Transaction(ALICE, strange, strange, strange)),
    )
    loaded = pump.wait(database.run(rooms.load_room, room.nid))
    assert loaded is not None
    assert loaded.state == room.state
    assert pump.wait(database.run(state.read_state, room.head.snapshot, [(strange, strange)])) == {
        (strange, strange): room.state[strange, strange].nid
    }
    last = pump.wait(database.run(events.timeline, room.nid, limit=1, backwards=True))[0]
    assert (last.device_id, last.txn_id, last.event.content["body"]) == (strange, strange, strange)
    assert pump.wait(database.run(transactions.used_by_device, ALICE, strange)) == [(strange, strange)]
    by_transaction = database.run(transactions.event_of, Transaction(ALICE, strange, strange, strange))
    assert pump.wait(by_transaction) == last.event.event_id
    row = pump.wait(database.run(rooms.find_room, afar.room_id))
    assert row is not None
    assert row.room_type == strange


def test_strings_are_interned_once(database: Database, pump: Pump) -> None:
    # Hypothesis inside the test: pytest-twisted wraps a decorated one again for each database.
    @settings(max_examples=20)
    @given(texts=st.sets(st.text(alphabet=st.characters(), max_size=20), max_size=20))
    def check(texts: set[str]) -> None:
        first = pump.wait(database.write(strings.intern_many, texts))
        assert set(first) == texts
        assert len(set(first.values())) == len(texts)
        assert pump.wait(database.write(strings.intern_many, texts)) == first
        assert pump.wait(database.run(strings.find_many, texts)) == first
        back = {nid: text for text, nid in first.items()}
        assert pump.wait(database.run(strings.texts_of, list(back))) == back

    check()


def test_state_that_cites_what_is_not_stored_is_refused(database: Database, pump: Pump, room: Room) -> None:
    event = room.event("m.room.name", {}, state_key="", auth_events=["$unknown"])
    with pytest.raises(UnknownAuthEvent):
        append_all(pump, database, EventAppend(room.nid, [NewEvent(room.store(event))], None))
    database.clear_poison(room.nid)
    rejected = room.store(event, rejected=True)
    append_all(pump, database, EventAppend(room.nid, [NewEvent(rejected)], None))
    assert rejected.nid in pump.wait(database.run(events.load_events, [rejected.nid]))


def test_a_huge_state_comes_at_once(database: Database, pump: Pump) -> None:
    """As when a server joins a large room: ten thousand events that are in no timeline, and one snapshot of them."""
    room = Room(database.counters)
    append_all(pump, database, *room.create())
    users = [f"@user{number}:{SERVER}" for number in range(10_000)]
    template = orjson.loads(room.event("m.room.member", {"membership": "join"}, state_key="@x:y").raw)
    outliers: list[NewEvent] = []
    for user in users:
        raw = orjson.dumps({**template, "state_key": user, "sender": user}, option=orjson.OPT_SORT_KEYS)
        outliers.append(NewEvent(room.store(load_event(VERSION, f"${user}", raw), position=0, before=0, after=0)))
    snapshot = database.counters.snapshot
    database.counters.snapshot += 1
    delta = [(("m.room.member", str(new.stored.event.state_key)), new.stored.nid) for new in outliers]
    head = RoomHead(room.head.extremities, room.head.depth, snapshot)
    append = EventAppend(
        room.nid, outliers, head, snapshots=[NewSnapshot(snapshot, room.head.snapshot, delta)], position=1
    )
    append_all(pump, database, append)
    loaded = pump.wait(database.run(rooms.load_room, room.nid))
    assert loaded is not None
    assert len(loaded.state) == 10_004
    assert loaded.state["m.room.member", users[77]] == StateRef(outliers[77].stored.nid, f"${users[77]}", "join")
    wanted = [("m.room.member", user) for user in users[:500]]
    assert pump.wait(database.run(state.read_state, snapshot, wanted)) == dict(delta[:500])
    assert pump.wait(database.run(state.read_state, snapshot, wanted[:3])) == dict(delta[:3])
