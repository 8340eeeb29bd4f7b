"""What becomes of messages: scheduled, edited, forwarded, delivered, read, reported, counted, and copied to keep."""

from __future__ import annotations

import json
from typing import Any

import pytest

from homeserver.errors import MatrixError
from homeserver.http.route import RequestInfo
from homeserver.records import exports
from homeserver.records.activity import Activity
from homeserver.reports import Reports
from homeserver.userdata.read_markers import Mark, ReadMarkers
from storage import deliveries as delivery_rows
from tests.fixtures_server import ServerProcess
from tests.guilds.api import API, ApiHouse, at, hall
from tests.relations.talk import edit, messages, react, send

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
    assert hall.refused("bob", "POST", f"{path}/forward", {"room_ids": [other]}).startswith("403")


def test_who_got_it_and_who_read_it(hall: ApiHouse) -> None:
    guild_id = hall.new()
    room_id = hall.channel(guild_id, "general")
    for name in ("bob", "cat", "dan"):
        hall.enter(guild_id, name)
    user = hall.user
    first, second = (hall.say("ann", room_id, words) for words in ("first", "second"))
    root = hall.say("bob", room_id, "root")
    relation = {"rel_type": "m.thread", "event_id": root}
    in_thread = send(hall, "ann", room_id, text("in a thread", **{"m.relates_to": relation}))

    def status(event_id: str, by: str = "ann") -> tuple[list[str], list[str]]:
        told = hall.call(by, "GET", at("rooms", room_id, "messages", event_id, "status"))
        return tuple(sorted(one["user_id"] for one in told[kind]) for kind in ("delivered", "read"))  # type: ignore[return-value]

    assert status(first) == ([], [])
    since = hall.sync("bob")["next_batch"]
    assert status(second) == ([user("bob")], [])
    third = hall.say("ann", room_id, "third")
    assert status(third) == ([], [])  # bob's device has not come back yet
    hall.sync("bob", since)
    assert status(third, "cat") == ([user("bob")], [])
    # Whoever comes later was not there, whatever their device is told.
    hall.enter(guild_id, "eve")
    hall.sync("eve")
    assert status(third) == ([user("bob")], [])

    def read(name: str, event_id: str, kind: str = "m.read", thread: str = "") -> None:
        mark = Mark(kind, event_id, thread)
        hall.wait(hall.house.part(ReadMarkers).move(hall.live(room_id).nid, user(name), [mark]))

    read("cat", second)
    read("dan", third, "m.read.private")
    assert status(first) == ([user("bob"), user("cat")], [user("cat")])
    assert status(third) == ([user("bob")], [])
    read("bob", in_thread, thread=root)
    assert status(in_thread)[1] == [user("bob")] and status(second)[1] == [user("cat")]
    assert hall.refused("fay", "GET", at("rooms", room_id, "messages", first, "status")).startswith("404")

    # What memory knew is in the database after a minute, where a restart finds it.
    deliveries = hall.house.records.deliveries
    told = hall.call("ann", "GET", at("rooms", room_id, "messages", third, "status"))
    hall.wait(deliveries.tidy())
    deliveries._held.clear()
    again = hall.call("ann", "GET", at("rooms", room_id, "messages", third, "status"))
    assert {one["user_id"] for one in again["delivered"]} == {user("bob")}
    assert abs(again["delivered"][0]["ts"] - told["delivered"][0]["ts"]) < 60_000
    assert told["sent_ts"] <= told["delivered"][0]["ts"]
    # Later positions do not make it later; and what is forgotten leaves the last of each.
    hall.sync("bob")
    hall.wait(deliveries.tidy())
    hall.wait(hall.house.database.write(delivery_rows.forget, 2**60))
    assert status(third)[0] == [user("bob")]
    hall.wait(deliveries.account_deactivated(user("bob"), erase=False))
    assert status(third)[0] == []


def copy(hall: ApiHouse, name: str, room_id: str, query: str = "") -> str:
    """The whole of an export."""
    target = f"{API}/{at('rooms', room_id, 'export')}"
    match = hall.house.table.match("GET", target.encode())
    assert match.endpoint.reader is not None
    ask = match.endpoint.reader.read(match.values, query, b"")
    reply: Any = hall.wait(match.endpoint.call(hall.who(name), ask, RequestInfo("127.0.0.1", "test", "1")))
    found = b""
    while piece := hall.wait(reply.source.read()):
        found += piece
    return found.decode()


def test_copies_of_rooms(hall: ApiHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "PAGE", 5)
    guild_id = hall.new()
    room_id = hall.channel(guild_id, "general")
    hall.enter(guild_id, "bob")
    ids = [hall.say("ann", room_id, f"line {number}") for number in range(20)]
    edit(hall, "ann", room_id, ids[0], "<b>better</b>\nand longer")
    hall.redact("ann", room_id, ids[1])
    picture = {"msgtype": "m.image", "body": "cat & dog.png", "url": "mxc://a.example/pic"}
    send(hall, "bob", room_id, picture)
    whole = json.loads(copy(hall, "bob", room_id))
    assert whole["room_id"] == room_id and whole["name"] == "general" and whole["exported_by"] == hall.user("bob")
    assert [event["event_id"] for event in whole["events"] if event["event_id"] in ids] == ids
    assert whole["events"][0]["type"] == "m.room.create"
    plain = copy(hall, "bob", room_id, "format=txt")
    assert "line 0" not in plain and "line 1\n" not in plain and "(deleted)" in plain
    assert f"<{hall.user('ann')}>: <b>better</b>\n    and longer (edited)\n" in plain
    assert "cat & dog.png\n    /_matrix/client/v1/media/download/a.example/pic\n" in plain
    page = copy(hall, "bob", room_id, "format=html")
    assert "<b>better</b>" not in page and "&lt;b&gt;better&lt;/b&gt;" in page and "cat &amp; dog.png</a>" in page
    times = {event["event_id"]: event["origin_server_ts"] for event in whole["events"]}
    part = json.loads(copy(hall, "bob", room_id, f"from={times[ids[3]]}&to={times[ids[8]]}"))
    assert [event["event_id"] for event in part["events"]] == ids[3:9]
    assert json.loads(copy(hall, "bob", room_id, "from=1&to=2"))["events"] == []
    # Only what one may see, and as long as one may.
    for name in ("eve", "fay"):
        with pytest.raises(MatrixError, match="403"):
            copy(hall, name, room_id)
    hall.call("ann", "PATCH", at("guilds", guild_id, "channels", room_id), {"history_visibility": "joined"})
    hidden = hall.say("ann", room_id, "before cat")
    hall.enter(guild_id, "cat")
    seen = {event["event_id"] for event in json.loads(copy(hall, "cat", room_id))["events"]}
    assert hidden not in seen and ids[5] in seen


def test_a_copy_over_the_wire(shared_server: ServerProcess) -> None:
    """It has no length, and ends where it says that it ends."""
    ann = shared_server.register("copyist")
    room_id = ann.create_room(name="A long story")
    said = [ann.say(room_id, f"{number} " + "x" * 9_000) for number in range(60)]
    target = f"{API}/{at('rooms', room_id, 'export')}"
    answer = ann.request("GET", target)
    assert answer.headers["Transfer-Encoding"] == "chunked" and "Content-Length" not in answer.headers
    assert (
        answer.headers["Content-Disposition"].startswith("attachment")
        and "sandbox" in answer.headers["Content-Security-Policy"]
    )
    found = [event["event_id"] for event in answer.json["events"]]
    assert [event_id for event_id in found if event_id in said] == said
    assert ann.request("GET", target, query={"format": "pdf"}).status == 400
    assert ann.request("GET", target, query={"from": "x"}).status == 400


def test_reports_and_what_becomes_of_them(hall: ApiHouse) -> None:
    guild_id = hall.new()
    general, other = hall.channel(guild_id, "general"), hall.new_channel(guild_id, "other")
    for name in ("bob", "cat"):
        hall.enter(guild_id, name)
    reports = hall.house.part(Reports)
    for room_id, words in ((general, "rude"), (other, "spam")):
        said = hall.say("bob", room_id, words)
        hall.wait(reports.event(hall.user("cat"), room_id, said, f"it is {words}"))
    elsewhere = hall.create("bob")
    hall.wait(reports.event(hall.user("bob"), elsewhere, hall.say("bob", elsewhere, "x"), "mine"))
    path = at("guilds", guild_id, "reports")
    assert "`manage_messages`" in hall.refused("bob", "GET", path)
    assert hall.refused("eve", "GET", path).startswith("404")
    told = hall.call("ann", "GET", path)["reports"]
    assert [(one["room_id"], one["reason"], one["state"]) for one in told] == [
        (other, "it is spam", "open"),
        (general, "it is rude", "open"),
    ]
    assert (told[0]["reporter"], told[0]["user_id"]) == (hall.user("cat"), hall.user("bob"))
    first = hall.call("ann", "GET", f"{path}?limit=1")
    assert first["reports"] == told[:1]
    assert hall.call("ann", "GET", f"{path}?limit=1&from={first['next']}")["reports"] == told[1:]
    # Somebody who moderates one channel only sees what happened there.
    override = at("guilds", guild_id, "channels", other, "overrides", hall.user("cat"))
    hall.call("ann", "PUT", override, {"allow": ["manage_messages"], "deny": []})
    assert hall.call("cat", "GET", path)["reports"] == told[:1]
    one, another = (f"{path}/{each['id']}" for each in told)
    assert hall.refused("cat", "PATCH", another, {"state": "resolved"}).startswith("404")
    assert "`manage_messages`" in hall.refused("bob", "PATCH", one, {"state": "dismissed"})
    assert hall.refused("ann", "PATCH", f"{path}/3", {"state": "dismissed"}).startswith("404")
    done = hall.call("cat", "PATCH", one, {"state": "resolved", "note": "talked\0 to him"})
    assert (done["state"], done["note"], done["decided_by"]) == ("resolved", "talked to him", hall.user("cat"))
    assert hall.call("ann", "GET", f"{path}?state=open")["reports"] == told[1:]
    assert hall.call("ann", "GET", f"{path}?state=resolved")["reports"] == [done]
    assert hall.call("ann", "PATCH", one, {"state": "open"}) == told[0]
    log = hall.call("ann", "GET", at("guilds", guild_id, "audit"))["entries"][:2]
    assert [(entry["action"], entry["user_id"]) for entry in log] == [
        ("report.reopen", hall.user("ann")),
        ("report.resolve", hall.user("cat")),
    ]
    assert log[1]["before"] == {"state": "open", "note": None} and log[1]["target"] == told[0]["event_id"]
    assert log[1]["after"] == {"state": "resolved", "note": "talked to him"}


def test_how_much_rooms_are_used(hall: ApiHouse) -> None:
    guild_id = hall.new()
    hall.wait(hall.house.records.start())
    general, other = hall.channel(guild_id, "general"), hall.new_channel(guild_id, "other")
    secret = hall.new_channel(guild_id, "secret", overrides={"everyone": {"allow": [], "deny": ["view_channel"]}})
    for name in ("bob", "cat"):
        hall.enter(guild_id, name)
    path = at("guilds", guild_id, "analytics")

    def today(room_id: str, by: str = "ann") -> tuple[int, int, int, int]:
        told = hall.call(by, "GET", at("rooms", room_id, "analytics"))
        assert len(told["days"]) == 30
        day = told["days"][-1]
        return day["messages"], day["active_members"], day["joins"], day["leaves"]

    said = hall.say("ann", general, "one")
    for number in range(3):
        hall.say("bob", general, f"more {number}")
    edit(hall, "ann", general, said, "no message of its own")
    react(hall, "cat", general, said)
    hall.say("ann", other, "elsewhere")
    hall.say("ann", secret, "where nobody sees")
    hall.set_state("ann", general, "m.room.topic", {"topic": "no message"})
    assert today(general) == (4, 3, 3, 0)
    hall.call("bob", "POST", at("guilds", guild_id, "leave"))
    assert today(general) == (4, 3, 3, 1) and today(other) == (1, 1, 3, 1)
    whole = hall.call("ann", "GET", path)
    assert whole["days"][-1] | {"day": ""} == {
        "day": "", "messages": 6, "active_members": 3, "joins": 3, "leaves": 1,
    }  # fmt: skip
    assert [one["room_id"] for one in whole["channels"]] == [
        one["room_id"] for one in hall.whole("ann", guild_id)["channels"]
    ]
    assert {one["messages"] for one in whole["days"][:-1]} == {0}
    # Who may know, and of which channels.
    assert "`view_analytics`" in hall.refused("cat", "GET", path)
    assert "`view_analytics`" in hall.refused("cat", "GET", at("rooms", general, "analytics"))
    assert hall.refused("eve", "GET", path).startswith("404")
    assert hall.refused("eve", "GET", at("rooms", general, "analytics")).startswith("403")
    hall.give_role(guild_id, "cat", hall.new_role(guild_id, "counts", "view_analytics"))
    part = hall.call("cat", "GET", path)
    assert secret not in [one["room_id"] for one in part["channels"]] and part["days"][-1]["messages"] == 5
    assert hall.refused("cat", "GET", at("rooms", secret, "analytics")).startswith("403")
    plain = hall.create("bob", preset="public_chat")
    hall.join("cat", plain)
    assert today(plain, "bob") == (0, 0, 2, 0)
    assert hall.refused("cat", "GET", at("rooms", plain, "analytics")).startswith("403")
    for wrong in ("from=2000000000000", "from=200000000&to=4", "from=1"):
        assert "from" in hall.refused("ann", "GET", f"{path}?{wrong}")


def test_what_was_not_written_is_counted_again(hall: ApiHouse) -> None:
    """A crash loses what was in memory; the events are there."""
    records = hall.house.records
    hall.wait(records.start())
    room_id = hall.create("ann", preset="public_chat")
    hall.join("bob", room_id)
    hall.say("ann", room_id, "one")
    hall.wait(records.tidy())
    hall.say("bob", room_id, "two")
    hall.say("bob", room_id, "three")
    hall.leave("bob", room_id)
    # As the next start finds it: another observer with nothing in its memory.
    again = Activity(hall.house.database, hall.house.rooms, hall.house.hub, hall.house.clock)
    hall.wait(again.start())
    for _ in range(2):
        day = hall.call("ann", "GET", at("rooms", room_id, "analytics"))["days"][-1] if _ else None
        found = hall.wait(again.read([hall.live(room_id).nid], 0, 10**6))
        assert [(one.messages, one.active, one.joins, one.leaves) for one in found.values()] == [(3, 2, 2, 1)]
        records.activity._tallies.clear()
        records.activity._people.clear()
    assert day is not None and day["messages"] == 3
