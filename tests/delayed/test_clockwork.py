"""Delayed events: sent when they are due, in order, once each, whatever happens in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from homeserver.client import delayed_events
from homeserver.delayed.clockwork import RETRY_S
from homeserver.errors import Forbidden, InvalidParam, LimitExceeded, MatrixError, NotFound, Unavailable
from homeserver.http.route import Requester
from homeserver.rooms.send import Sender
from storage import delayed as rows
from tests.fixtures_house import LivedInHouse, open_house
from tests.relations.talk import messages, parsed

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

HOUR_MS = 3_600_000


def delay(
    house: LivedInHouse,
    name: str,
    room_id: str,
    text: str,
    delay_ms: int = 10_000,
    *,
    key: str | None = None,
    **more: Any,
) -> str:
    """Ask for a message later, or with `key` for a topic."""
    content = {"body": text, "msgtype": "m.text"} if key is None else {"topic": text}
    event_type = "m.room.message" if key is None else "org.example.topic"
    asking = house.house.clockwork.add(
        house.who(name), room_id, event_type, content, more.pop("txn", text), delay_ms=delay_ms, state_key=key, **more
    )
    return house.wait(asking)


def settle(house: LivedInHouse) -> None:
    while house.house.tasks.names:
        house.wait(house.house.database.write(lambda cursor: None))


def wait_ms(house: LivedInHouse, ms: int) -> None:
    """Let time pass. (The house's wall clock goes on by 10 ms whenever somebody looks at it.)"""
    wall[0] += ms
    house.advance(ms / 1000)
    settle(house)


wall = [0]


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Any:
    opened = open_clocked(tmp_path, database_url)
    yield opened
    opened.wait(opened.house.close())


def open_clocked(tmp_path: Path, database_url: str) -> LivedInHouse:
    """A house whose wall clock is the test's."""
    opened = open_house(tmp_path, database_url)
    real = opened.house.clock.now_ms
    object.__setattr__(opened.house.clock, "now_ms", lambda: real() + wall[0])
    return opened


def said(house: LivedInHouse, room_id: str, name: str = "alice") -> list[str]:
    """What was said, the oldest first."""
    page = messages(house, name, room_id)["chunk"][::-1]
    return [event["content"]["body"] for event in page if event["type"] == "m.room.message"]


def state(house: LivedInHouse, room_id: str, key: str = "") -> Any:
    room = house.wait(house.house.rooms.require(room_id))
    ref = room.visible.state.get(("org.example.topic", key))
    stored = None if ref is None else house.wait(house.house.events.get(ref.nid))
    return None if stored is None else stored.event.content["topic"]


def told(house: LivedInHouse, name: str, delay_id: str) -> Any:
    return parsed(house, delayed_events.get_one(house.house.clockwork, house.who(name), delayed_events.One(delay_id)))


def act(house: LivedInHouse, action: str, delay_id: str, name: str | None = None) -> None:
    user_id = None if name is None else house.user(name)
    house.wait(getattr(house.house.clockwork, action)(delay_id, user_id))


def test_when_its_time_has_come(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    late = delay(house, "alice", room_id, "late", 20_000)
    early = delay(house, "alice", room_id, "early", 10_000)
    delay(house, "alice", room_id, "topic", 5_000, key="")
    assert said(house, room_id) == [] and state(house, room_id) is None
    wait_ms(house, 6_000)
    assert state(house, room_id) == "topic"
    wait_ms(house, 6_000)
    assert said(house, room_id) == ["early"]
    wait_ms(house, 10_000)
    assert said(house, room_id) == ["early", "late"]
    for delay_id in (early, late):
        answer = told(house, "alice", delay_id)
        assert answer["outcome"] == "sent"
        assert answer["event_id"] in [event["event_id"] for event in messages(house, "alice", room_id)["chunk"]]
    wait_ms(house, HOUR_MS)
    assert len(said(house, room_id)) == 2


def test_what_one_can_do_about_it(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    sent, cancelled, restarted = (delay(house, "alice", room_id, name) for name in ("sent", "cancelled", "restarted"))
    act(house, "send", sent)
    assert said(house, room_id) == ["sent"]
    act(house, "cancel", cancelled, "alice")
    wait_ms(house, 8_000)
    act(house, "restart", restarted)
    wait_ms(house, 8_000)
    assert said(house, room_id) == ["sent"]
    wait_ms(house, 3_000)
    assert said(house, room_id) == ["sent", "restarted"]
    # Saying the same again is no error; what contradicts how it ended is.
    act(house, "send", sent)
    act(house, "cancel", cancelled)
    for action, delay_id in (("cancel", sent), ("restart", sent), ("send", cancelled), ("restart", cancelled)):
        with pytest.raises(MatrixError) as caught:
            act(house, action, delay_id)
        assert caught.value.status == 409
    assert said(house, room_id) == ["sent", "restarted"]


def test_who_may(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    delay_id = delay(house, "alice", room_id, "mine")
    for action in ("send", "cancel", "restart"):
        for wrong_id, name in ((delay_id, "bob"), ("nothing", "alice"), ("nothing", None)):
            with pytest.raises(NotFound):
                act(house, action, wrong_id, name)
    with pytest.raises(NotFound):
        told(house, "bob", delay_id)
    with pytest.raises(Forbidden):
        delay(house, "carol", room_id, "not in there")
    with pytest.raises(Forbidden):
        delay(house, "carol", "!nothing", "not there")
    listed = parsed(house, delayed_events.list_all(house.house.clockwork, house.who("alice")))
    (one,) = listed["delayed_events"]
    assert (one["delay_id"], one["delay_ms"], one["content"]["body"]) == (delay_id, 10_000, "mine")
    nobody = parsed(house, delayed_events.list_all(house.house.clockwork, house.who("bob")))
    assert nobody == {"delayed_events": [], "scheduled": [], "finalised": []}


def test_limits(house: LivedInHouse) -> None:
    room_id = house.create("alice")
    most = house.house.settings.limits.max_event_delay_ms
    for wrong in (0, -5):
        with pytest.raises(InvalidParam):
            delay(house, "alice", room_id, "x", wrong)
    with pytest.raises(MatrixError) as caught:
        delay(house, "alice", room_id, "x", most + 1)
    assert caught.value.more == {
        "org.matrix.msc4140.errcode": "M_MAX_DELAY_EXCEEDED",
        "org.matrix.msc4140.max_delay": most,
    }
    for content, status in (({"body": 1.5}, 400), ({"body": "x" * 70_000}, 413)):
        with pytest.raises(MatrixError) as caught:
            house.wait(
                house.house.clockwork.add(house.who("alice"), room_id, "m.room.message", content, "t", delay_ms=5)
            )
        assert caught.value.status == status
    for number in range(house.house.settings.limits.max_delayed_events):
        delay(house, "alice", room_id, f"{number}", 10_000 + number)
    with pytest.raises(LimitExceeded) as limited:
        delay(house, "alice", room_id, "one more")
    assert 0 < limited.value.retry_after_ms <= 10_000
    assert delay(house, "alice", room_id, "0") == delay(house, "alice", room_id, "0")  # repeated, not new


def test_the_same_request_asks_once(house: LivedInHouse) -> None:
    room_id = house.create("alice")
    first = delay(house, "alice", room_id, "hello", txn="t")
    assert delay(house, "alice", room_id, "hello", txn="t") == first
    other = house.wait(
        house.house.clockwork.add(
            house.who("alice", "OTHER"), room_id, "m.room.message", {"body": "x"}, "t", delay_ms=10_000
        )
    )
    assert other != first
    wait_ms(house, 11_000)
    assert sorted(said(house, room_id)) == ["hello", "x"]


def test_what_can_not_be_sent(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    delay_id = delay(house, "bob", room_id, "after I left")
    house.leave("bob", room_id)
    wait_ms(house, 11_000)
    answer = told(house, "bob", delay_id)
    assert (answer["outcome"], answer["error"]["errcode"]) == ("failed", "M_FORBIDDEN")
    again = delay(house, "alice", room_id, "x", key="@bob:test.example")
    with pytest.raises(MatrixError):
        act(house, "send", again)  # told to whoever asked
    assert told(house, "alice", again)["outcome"] == "failed"


def test_somebody_else_sets_the_same_state(house: LivedInHouse) -> None:
    levels = {"events": {"org.example.topic": 0}}
    room_id = house.create("alice", preset="public_chat", power_level_content_override=levels)
    house.join("bob", room_id)
    outdated = delay(house, "alice", room_id, "old", key="a")
    kept = delay(house, "alice", room_id, "mine", key="b")
    other = delay(house, "alice", room_id, "other", key="c")
    house.set_state("bob", room_id, "org.example.topic", {"topic": "new"}, "a")
    house.set_state("alice", room_id, "org.example.topic", {"topic": "before"}, "b")
    settle(house)
    assert told(house, "alice", outdated)["outcome"] == "cancelled"
    wait_ms(house, 11_000)
    assert [state(house, room_id, key) for key in "abc"] == ["new", "mine", "other"]
    assert {told(house, "alice", one)["outcome"] for one in (kept, other)} == {"sent"}


@on_sqlite
def test_a_closed_account_says_nothing_more(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    delay_id = delay(house, "alice", room_id, "hello")
    house.wait(house.house.clockwork.account_deactivated(house.user("alice"), erase=False))
    wait_ms(house, 11_000)
    assert said(house, room_id) == []
    assert told(house, "alice", delay_id)["outcome"] == "cancelled"


def test_over_restarts(tmp_path: Path, database_url: str) -> None:
    """What is overdue is sent at the start, in order; what is not waits on; what was being sent is sent once."""
    house = open_clocked(tmp_path, database_url)
    room_id = house.create("alice", preset="public_chat")
    for text, ms in (("third", 30_000), ("first", 10_000), ("second", 20_000), ("later", 900_000)):
        delay(house, "alice", room_id, text, ms)
    sending = delay(house, "alice", room_id, "being sent", 15_000)
    # It was sent, and the server stopped before it could note that.
    assert house.wait(house.house.database.write(rows.claim, sending, 2**62))
    content = {"body": "being sent", "msgtype": "m.text"}
    who = Requester(house.user("alice"), "DEVICE", b"")
    house.wait(house.house.part(Sender).message(who, room_id, "m.room.message", content, f"delayed-{sending}"))
    house.wait(house.house.close())

    wall[0] += 60_000
    house = open_clocked(tmp_path, database_url)
    house.wait(house.house.clockwork.start())
    settle(house)
    assert said(house, room_id) == ["being sent", "first", "second", "third"]
    assert told(house, "alice", sending)["outcome"] == "sent"
    wait_ms(house, 900_000)
    assert said(house, room_id)[-1] == "later"
    wait_ms(house, 8 * 24 * HOUR_MS)
    house.wait(house.house.clockwork.tidy())
    with pytest.raises(NotFound):
        told(house, "alice", sending)
    house.wait(house.house.close())


@on_sqlite
def test_trouble_of_our_own_is_no_end(house: LivedInHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    room_id = house.create("alice", preset="public_chat")
    delay(house, "alice", room_id, "hello")
    sender = house.house.clockwork.sender

    async def fail(*args: Any, **more: Any) -> str:
        raise Unavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(type(sender), "message", fail)
        wait_ms(house, 11_000)
    assert said(house, room_id) == []
    wait_ms(house, int(RETRY_S * 1000) + 1)
    assert said(house, room_id) == ["hello"]
