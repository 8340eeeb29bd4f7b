"""What becomes of messages: scheduled, edited, forwarded."""

from __future__ import annotations

from typing import Any

from tests.guilds.api import ApiHouse, at, hall
from tests.relations.talk import edit, messages, send

__all__ = ["hall"]

HOUR_MS = 3_600_000


def pass_ms(hall: ApiHouse, ms: int) -> None:
    """Let time pass, on the wall too."""
    clock = hall.house.clock
    before = clock.now_ms
    object.__setattr__(clock, "now_ms", lambda: before() + ms)
    hall.advance(ms / 1000)
    hall.rest()


def said(hall: ApiHouse, name: str, room_id: str) -> list[str]:
    page = messages(hall, name, room_id)["chunk"][::-1]
    return [event["content"]["body"] for event in page if event["type"] == "m.room.message"]


def text(body: str, **more: Any) -> dict[str, Any]:
    return {"msgtype": "m.text", "body": body, **more}


def test_scheduled_messages(hall: ApiHouse) -> None:
    """They are listed, changed, cancelled, sent when it is time, and judged again then."""
    guild_id = hall.new()
    room_id = hall.channel(guild_id, "general")
    hall.enter(guild_id, "bob")
    path = at("rooms", room_id, "scheduled")
    now = hall.house.clock.now_ms()

    def plan(name: str, body: str, at_ts: int, **more: Any) -> str:
        return str(hall.call(name, "POST", path, {"at_ts": at_ts, "content": text(body), **more})["id"])

    first, second = plan("ann", "first", now + 2 * HOUR_MS), plan("ann", "second", now + HOUR_MS)
    soon = now + HOUR_MS + 1_000
    assert plan("ann", "again", soon, txn_id="x") == plan("ann", "again", soon, txn_id="x")
    bobs, late = plan("bob", "bob's", now + HOUR_MS), plan("ann", "in months", now + 2_000 * HOUR_MS)
    told = hall.call("ann", "GET", path)["scheduled"]
    assert [one["content"]["body"] for one in told] == ["second", "again", "first", "in months"]
    assert told[0] == {
        "id": second, "at_ts": now + HOUR_MS, "type": "m.room.message", "content": text("second"), "state": "waiting",
    }  # fmt: skip
    assert [one["id"] for one in hall.call("bob", "GET", path)["scheduled"]] == [bobs]
    # Others' are nobody's business, and neither are one's own in other rooms.
    assert hall.refused("bob", "DELETE", f"{path}/{second}").startswith("404")
    assert hall.refused("bob", "PATCH", f"{path}/{second}", {"at_ts": now + HOUR_MS}).startswith("404")
    assert hall.refused("ann", "DELETE", at("rooms", guild_id, "scheduled", second)).startswith("404")
    assert hall.refused("eve", "GET", path).startswith("403")
    hall.call("ann", "PATCH", f"{path}/{first}", {"content": text("changed"), "at_ts": now + 3 * HOUR_MS})
    hall.call("ann", "DELETE", f"{path}/{told[1]['id']}")
    for wrong in (now - 1, now + 10_000 * HOUR_MS):
        assert "at_ts" in hall.refused("ann", "POST", path, {"at_ts": wrong, "content": {}})
        assert "at_ts" in hall.refused("ann", "PATCH", f"{path}/{late}", {"at_ts": wrong})
    # Bob may not write any more by the time that his is due.
    hall.call("ann", "PATCH", at("guilds", guild_id, "roles", "everyone"), {"permissions": ["view_channel"]})
    assert "`send_messages`" in hall.refused("bob", "POST", path, {"at_ts": now + HOUR_MS, "content": text("x")})
    pass_ms(hall, HOUR_MS + 60_000)
    assert said(hall, "ann", room_id) == ["second"]
    (failed,) = hall.call("bob", "GET", path)["scheduled"]
    assert (failed["id"], failed["state"], failed["errcode"]) == (bobs, "failed", "M_FORBIDDEN")
    assert "`send_messages`" in failed["error"]
    for method, body in (("DELETE", None), ("PATCH", {"content": text("too late")})):
        assert hall.refused("ann", method, f"{path}/{second}", body).startswith("409")
    # What waits is in the database alone, for whoever starts next.
    clockwork = hall.house.clockwork
    clockwork.close()
    clockwork._waiting.clear()
    hall.wait(clockwork.start())
    pass_ms(hall, HOUR_MS + 60_000)
    assert said(hall, "ann", room_id) == ["second"]
    pass_ms(hall, HOUR_MS)
    assert said(hall, "ann", room_id) == ["second", "changed"]
    assert [one["id"] for one in hall.call("ann", "GET", path)["scheduled"]] == [late]


def test_edits_and_copies(hall: ApiHouse) -> None:
    guild_id = hall.new()
    general, other = hall.channel(guild_id, "general"), hall.new_channel(guild_id, "other")
    secret = hall.new_channel(guild_id, "secret", overrides={"everyone": {"allow": [], "deny": ["view_channel"]}})
    hall.enter(guild_id, "bob")
    plain = hall.create("bob", name="Elsewhere")
    event_id = send(hall, "ann", general, text("one", **{"m.mentions": {"user_ids": [hall.user("bob")]}}))
    for words in ("two", "three"):
        edit(hall, "ann", general, event_id, words)
    edit(hall, "bob", general, event_id, "not mine to edit")
    path = at("rooms", general, "messages", event_id)
    told = hall.call("bob", "GET", f"{path}/edits")
    assert [one["content"]["body"] for one in told["edits"]] == ["two", "three"]
    assert told["original"]["event_id"] == event_id and told["original"]["content"]["body"] == "one"
    assert told["original"]["ts"] < told["edits"][0]["ts"] < told["edits"][1]["ts"]
    assert hall.refused("eve", "GET", f"{path}/edits").startswith("404")

    wanted = {"room_ids": [other, secret, plain, other], "txn_id": "t"}
    done = hall.call("bob", "POST", f"{path}/forward", wanted)
    assert set(done["events"]) == {other, plain} and set(done["errors"]) == {secret}
    assert done["errors"][secret]["errcode"] == "M_FORBIDDEN"
    assert hall.call("bob", "POST", f"{path}/forward", wanted)["events"] == done["events"]
    copies = {room_id: messages(hall, "bob", room_id)["chunk"][0] for room_id in (other, plain)}
    for room_id, copy in copies.items():
        assert copy["event_id"] == done["events"][room_id] and copy["sender"] == hall.user("bob")
        where = {"room_id": general, "event_id": event_id} if room_id == other else {}
        forwarded = {"ts": told["original"]["ts"], **where}
        assert copy["content"] == {**text("three"), "chat.guildhall.forwarded": forwarded}
    assert hall.refused("bob", "POST", f"{path}/forward", {"room_ids": [secret]}).startswith("403")
    assert hall.refused("eve", "POST", f"{path}/forward", {"room_ids": [general]}).startswith("404")
    assert "room_ids" in hall.refused("bob", "POST", f"{path}/forward", {"room_ids": []})

    hall.redact("ann", general, event_id)
    assert hall.call("ann", "GET", f"{path}/edits")["edits"] == []
    assert hall.refused("bob", "POST", f"{path}/forward", {"room_ids": [other]}).startswith("400")
