"""Transaction ids: whatever becomes of the first request, repeating it does no harm."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail

from homeserver.errors import Forbidden
from homeserver.http.route import Requester
from homeserver.rooms import transactions
from homeserver.rooms.send import Sender
from homeserver.rooms.transactions import KEPT_MS, TransactionLog
from storage import transactions as rows
from tests.fixtures_house import LivedInHouse, open_house
from tests.fixtures_rooms import user

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

HELLO = {"msgtype": "m.text", "body": "hello"}


def begin(
    house: LivedInHouse, room_id: str, txn_id: str, who: Requester | None = None, event_type: str = "m.room.message"
) -> Deferred[str]:
    send = house.house.part(Sender).message(who or house.who("alice"), room_id, event_type, dict(HELLO), txn_id)
    return Deferred.fromCoroutine(send)


def send(house: LivedInHouse, *ask: Any, **more: Any) -> str:
    return house.wait(begin(house, *ask, **more))


def length(house: LivedInHouse, room_id: str) -> int:
    return len(house.page("alice", room_id, None, None))


@contextmanager
def writer_held(house: LivedInHouse) -> Iterator[None]:
    go = threading.Event()
    held = house.house.database.write(lambda cursor: go.wait(30))
    try:
        yield
    finally:
        go.set()
        house.wait(held)


def test_a_request_repeated_at_any_time_makes_one_event(house: LivedInHouse, tmp_path: Path, database_url: str) -> None:
    room_id = house.create("alice")
    before = length(house, room_id)
    with writer_held(house):
        running = [begin(house, room_id, "t1") for _ in range(3)]
        # Nobody is answered before it is durable, whoever asked first.
        house.wait(house.house.database.run(lambda cursor: None))
        assert not any(one.called for one in running)
    (event_id,) = {house.wait(one) for one in running}
    assert send(house, room_id, "t1") == event_id
    house.house.transactions.forget_device(user("alice"), "DEVICE")
    assert {house.wait(one) for one in [begin(house, room_id, "t1") for _ in range(3)]} == {event_id}
    house.wait(house.house.close())
    again = open_house(tmp_path, database_url)
    try:
        assert send(again, room_id, "t1") == event_id
        assert length(again, room_id) == before + 1
        assert send(again, room_id, "t2") != event_id
    finally:
        again.wait(again.house.close())


@on_sqlite
def test_an_id_counts_for_one_device_and_one_path(house: LivedInHouse) -> None:
    room_id, other = house.create("alice", preset="public_chat"), house.create("alice")
    house.join("bob", room_id)
    asks: list[tuple[Any, ...]] = [
        (room_id, "t"),
        (other, "t"),
        (room_id, "t", house.who("alice"), "org.example.other"),
        (room_id, "t", house.who("alice", "PHONE")),
        (room_id, "t", house.who("bob")),
        (room_id, "T"),
        (room_id, ""),
        (room_id, "t\0"),
        (room_id, "ö" * 500),
        (room_id, "t/../t?%00"),
    ]
    first = [send(house, *ask) for ask in asks]
    assert len(set(first)) == len(asks)
    assert [send(house, *ask) for ask in asks] == first
    # A redaction has a path of its own, for each event.
    sender = house.house.part(Sender)
    redactions = [house.wait(sender.redact(house.who("alice"), room_id, first[0], {}, "t")) for _ in range(2)]
    assert redactions[0] == redactions[1] not in first
    assert house.wait(sender.redact(house.who("alice"), other, first[1], {}, "t")) != redactions[0]
    by_message = {"redacts": first[2], "reason": "typo"}
    redactions = [
        house.wait(sender.message(house.who("alice"), room_id, "m.room.redaction", by_message, "t")) for _ in range(2)
    ]
    assert redactions[0] == redactions[1] not in first


@on_sqlite
def test_a_failed_attempt_uses_nothing_up(house: LivedInHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    room_id = house.create("alice", preset="public_chat")
    with pytest.raises(Forbidden):
        send(house, room_id, "t1", house.who("bob"))
    house.join("bob", room_id)
    event_id = send(house, room_id, "t1", house.who("bob"))
    # Also where it fails at the very end, and others wait for it: the next in line tries.
    append, failures = house.house.database.append, iter([True, True, False])

    def fail_at_first(*what: Any) -> Deferred[None]:
        return fail(OSError("the disk is full")) if next(failures) else append(*what)

    with monkeypatch.context() as patch:
        patch.setattr(house.house.database, "append", fail_at_first)
        asked = [begin(house, room_id, "t2", house.who("bob")) for _ in range(4)]
        for one in asked[:2]:
            with pytest.raises(OSError, match="the disk is full"):
                house.wait(one)
        second, third = house.wait(asked[2]), house.wait(asked[3])
    assert second == third != event_id
    assert send(house, room_id, "t2", house.who("bob")) == second
    assert house.house.transactions._running == {} == house.house.transactions._reading


@on_sqlite
def test_who_left_is_still_told_what_was_sent(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    event_id = send(house, room_id, "t1", house.who("bob"))
    house.leave("bob", room_id)
    assert send(house, room_id, "t1", house.who("bob")) == event_id
    with pytest.raises(Forbidden):
        send(house, room_id, "t2", house.who("bob"))


def test_a_day_later_an_id_means_something_new(house: LivedInHouse) -> None:
    room_id = house.create("alice")
    first = send(house, room_id, "t1")
    clock, log = house.house.clock, house.house.transactions
    house.wait(log.forget_old())
    assert send(house, room_id, "t1") == first
    later = TransactionLog(house.house.database, _Later(clock, KEPT_MS + 60_000))  # type: ignore[arg-type]
    house.wait(later.forget_old())
    log._devices.clear()
    second = send(house, room_id, "t1")
    assert second != first and send(house, room_id, "t1") == second


class _Later:
    """A clock that is ahead."""

    def __init__(self, clock: Any, by_ms: int) -> None:
        self._clock, self._by_ms = clock, by_ms

    def now_ms(self) -> int:
        return int(self._clock.now_ms()) + self._by_ms


@on_sqlite
def test_what_is_forgotten_on_disk_only_is_no_answer(house: LivedInHouse) -> None:
    """Memory says that the id was used, and the row has just been dropped."""
    room_id = house.create("alice")
    first = send(house, room_id, "t1")
    later = TransactionLog(house.house.database, _Later(house.house.clock, KEPT_MS + 60_000))  # type: ignore[arg-type]
    house.wait(later.forget_old())
    assert send(house, room_id, "t1") != first


@on_sqlite
def test_memory_holds_some_devices_and_reads_the_others_again(
    house: LivedInHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "MAX_DEVICES", 2)
    room_id = house.create("alice")
    devices = [house.who("alice", f"D{number}") for number in range(5)]
    first = [send(house, room_id, "t", who) for who in devices]
    assert [send(house, room_id, "t", who) for who in devices] == first
    assert list(house.house.transactions._devices) == [(user("alice"), "D3"), (user("alice"), "D4")]
    send(house, room_id, "u", devices[3])
    send(house, room_id, "u", devices[0])
    assert list(house.house.transactions._devices) == [(user("alice"), "D3"), (user("alice"), "D0")]


@on_sqlite
def test_a_warm_device_needs_no_sql(house: LivedInHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    room_id = house.create("alice")
    cold = [begin(house, room_id, f"cold {number}") for number in range(3)]
    for one in cold:
        house.wait(one)

    def refuse(*what: Any, **more: Any) -> Any:
        raise AssertionError("a warm send reads nothing")

    with monkeypatch.context() as patch:
        patch.setattr(house.house.database, "run", refuse)
        warm = [send(house, room_id, f"warm {number}") for number in range(3)]
    assert len(set(warm)) == 3


@on_sqlite
def test_a_failed_read_is_told_to_all_who_wait(house: LivedInHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    room_id = house.create("alice")

    def broken(*what: Any) -> Any:
        raise OSError("the disk is on fire")

    with monkeypatch.context() as patch:
        patch.setattr(rows, "used_by_device", broken)
        for one in [begin(house, room_id, "t1") for _ in range(2)]:
            with pytest.raises(OSError, match="the disk is on fire"):
                house.wait(one)
    assert send(house, room_id, "t1") == send(house, room_id, "t1")


@on_sqlite
def test_the_house_forgets_old_ids_by_itself(house: LivedInHouse) -> None:
    room_id = house.create("alice")
    send(house, room_id, "t1")
    house.house._keep_house(1)
    assert house.house.transactions._devices
    house.house._keep_house(0)
    assert "forget old transactions" in house.house.tasks.names
    house.wait(house.house.database.write(lambda cursor: None))
    assert not house.house.transactions._devices
    assert "forget old transactions" not in house.house.tasks.names
