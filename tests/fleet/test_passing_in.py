"""Typing, receipts and presence from another server: what is believed, and that nothing hostile gets anywhere."""

from __future__ import annotations

from itertools import count
from typing import Any

import orjson
import pytest
from attrs import define, field

from homeserver.ephemeral.inbound import receipts as receipts_module
from homeserver.ephemeral.inbound.presence import MAX_STATUS_CHARACTERS, PresenceThere
from homeserver.ephemeral.inbound.receipts import ReceiptsThere
from homeserver.ephemeral.inbound.typing import TIMEOUT_MS
from homeserver.ephemeral.presence import TELL_SECONDS
from homeserver.ephemeral.stranger import SILENCE_MS
from homeserver.rooms.serve.inbox import Inbox
from tests.fixtures_fleet import Fleet, Member

ANN, BOB, DAN = "@ann:a.example", "@bob:b.example", "@dan:a.example"

_transactions = count(1)


@define
class Scene:
    """Ann of a and Bob of b are in a room that Ann has made; Cat of c is not in it."""

    fleet: Fleet
    a: Member
    b: Member
    c: Member
    room_id: str
    since: str = field(init=False)

    @classmethod
    def open(cls, fleet: Fleet) -> Scene:
        a, b, c = fleet.open("a", "b", "c")
        room_id = a.create("ann", preset="public_chat")
        b.enter("bob", room_id, a)
        fleet.settle()
        scene = cls(fleet, a, b, c, room_id)
        scene.since = a.sync("ann")["next_batch"]
        return scene

    def tell(self, edu_type: str, content: Any, by: Member | None = None) -> None:
        """One server says something to a, in a transaction that must do well whatever is in it."""
        body = {
            "origin": "b.example",
            "origin_server_ts": 0,
            "pdus": [],
            "edus": [{"edu_type": edu_type, "content": content}],
        }
        path = f"/_matrix/federation/v1/send/edu{next(_transactions)}"
        assert (by or self.b).ask(self.a, "PUT", path, body) == {"pdus": {}}

    def news(self, kind: str, name: str = "ann") -> list[Any]:
        """The contents of what passes in the room, since it was made."""
        room = self.a.sync(name, self.since).get("rooms", {}).get("join", {}).get(self.room_id, {})
        return [event["content"] for event in room.get("ephemeral", {}).get("events", []) if event["type"] == kind]

    def shut_out(self, server: str) -> None:
        acl = {"allow": ["*"], "deny": [server], "allow_ip_literals": True}
        self.a.set_state("ann", self.room_id, "m.room.server_acl", acl)

    @property
    def nid(self) -> int:
        return self.a.room(self.room_id).nid


@pytest.fixture
def scene(fleet: Fleet) -> Scene:
    return Scene.open(fleet)


@pytest.fixture
def any_scene(any_fleet: Fleet) -> Scene:
    return Scene.open(any_fleet)


NO_OBJECTS: list[Any] = [None, 5, "text", [], [[]], True]
"""What an EDU's content must not be."""


@pytest.mark.parametrize("content", [*NO_OBJECTS, {}, {"a": None}])
@pytest.mark.parametrize("edu_type", ["m.typing", "m.receipt", "m.presence", "m.unheard_of", "", "\0"])
def test_contents_that_are_none(scene: Scene, edu_type: str, content: Any) -> None:
    scene.tell(edu_type, content)
    assert scene.news("m.typing") == scene.news("m.receipt") == []


@pytest.mark.parametrize(
    "edu", [*NO_OBJECTS, {}, {"edu_type": 5, "content": {}}, {"content": {}}, {"edu_type": "m.typing"}]
)
def test_edus_that_are_none(scene: Scene, edu: Any) -> None:
    good = {"edu_type": "m.typing", "content": {"room_id": scene.room_id, "user_id": BOB, "typing": True}}
    body = {"origin": "b.example", "origin_server_ts": 0, "pdus": [], "edus": [edu, good]}
    assert scene.b.ask(scene.a, "PUT", "/_matrix/federation/v1/send/odd", body) == {"pdus": {}}
    assert scene.news("m.typing") == [{"user_ids": [BOB]}], "what came with it is taken"


# -- typing ------------------------------------------------------------------------------------------------------


def typing(scene: Scene, user_id: str = BOB, is_typing: Any = True, by: Member | None = None, **more: Any) -> None:
    scene.tell("m.typing", {"room_id": scene.room_id, "user_id": user_id, "typing": is_typing, **more}, by)


def test_somebody_types_and_stops(scene: Scene) -> None:
    typing(scene)
    assert scene.news("m.typing") == [{"user_ids": [BOB]}]
    typing(scene)
    typing(scene, is_typing=False)
    assert scene.news("m.typing") == [{"user_ids": []}]


def test_a_server_that_falls_silent_types_no_more(scene: Scene) -> None:
    typing(scene)
    scene.a.advance(TIMEOUT_MS / 1000 - 1)
    typing(scene)
    scene.a.advance(TIMEOUT_MS / 1000 - 1)
    assert scene.a.house.typing.typing_in(scene.nid) == [BOB]
    scene.a.advance(2)
    assert scene.a.house.typing.typing_in(scene.nid) == []


@pytest.mark.parametrize(
    "more",
    [
        {"user_id": ANN},
        {"user_id": DAN},
        {"user_id": "@nobody:b.example"},
        {"user_id": "@cat:c.example"},
        {"user_id": "bob"},
        {"user_id": ""},
        {"user_id": None},
        {"user_id": ["@bob:b.example"]},
        {"user_id": "@bob:b.example\0"},
        {"user_id": "@" + "x" * 70_000 + ":b.example"},
        {"room_id": "!nowhere:b.example"},
        {"room_id": "room"},
        {"room_id": ""},
        {"room_id": "\0"},
        {"room_id": None},
        {"room_id": {}},
        {"is_typing": "yes"},
        {"is_typing": 1},
        {"is_typing": None},
    ],
)
def test_nobody_types(scene: Scene, more: dict[str, Any]) -> None:
    typing(scene, **more)
    assert scene.a.house.typing.typing_in(scene.nid) == []


def test_who_may_not_say_who_types(scene: Scene) -> None:
    typing(scene, by=scene.c)
    assert scene.a.house.typing.typing_in(scene.nid) == [], "that is another server's to say"
    typing(scene, user_id="@cat:c.example", by=scene.c)
    assert scene.a.house.typing.typing_in(scene.nid) == [], "she is not in the room"
    scene.shut_out("b.example")
    typing(scene)
    assert scene.a.house.typing.typing_in(scene.nid) == [], "MSC4163"


def test_who_has_left_does_not_type(scene: Scene) -> None:
    typing(scene)
    scene.b.leave("bob", scene.room_id)
    scene.fleet.settle()
    assert scene.a.house.typing.typing_in(scene.nid) == []
    typing(scene)
    assert scene.a.house.typing.typing_in(scene.nid) == []


def test_a_room_that_this_server_has_left(scene: Scene) -> None:
    scene.a.leave("ann", scene.room_id)
    typing(scene)
    assert scene.a.house.typing.typing_in(scene.nid) == []


# -- receipts ----------------------------------------------------------------------------------------------------


def receipt(
    scene: Scene, event_id: Any, user_id: str = BOB, by: Member | None = None, kind: str = "m.read", **data: Any
) -> None:
    about = {"event_ids": [event_id], "data": {"ts": 5, **data}}
    scene.tell("m.receipt", {scene.room_id: {kind: {user_id: about}}}, by)


def settle(scene: Scene) -> None:
    """Let what goes on in the background come to its end."""
    while scene.a.house.tasks.names:
        scene.a.wait(scene.a.house.database.run(lambda cursor: None))


def test_how_far_somebody_has_read(any_scene: Scene) -> None:
    scene = any_scene
    first, second = (scene.a.say("ann", scene.room_id, text) for text in ("one", "two"))
    scene.fleet.settle()
    receipt(scene, second)
    shown = {second: {"m.read": {BOB: {"ts": 5}}}}
    assert scene.news("m.receipt") == [shown]
    receipt(scene, first)
    assert scene.news("m.receipt") == [shown], "nobody reads backwards"
    receipt(scene, first, thread_id="main")
    assert scene.news("m.receipt") == [{first: {"m.read": {BOB: {"ts": 5, "thread_id": "main"}}}, **shown}]


def test_many_at_once(scene: Scene) -> None:
    scene.b.enter("bea", scene.room_id)
    scene.fleet.settle()
    said = scene.a.say("ann", scene.room_id, "hello")
    about = {"event_ids": [said], "data": {"ts": 5}}
    users = {BOB: about, ANN: about, "@bea:b.example": about, "@no:b.example": about, "x": None, "@y:b.example": 5}
    scene.tell(
        "m.receipt",
        {"!nowhere:b.example": {"m.read": {BOB: about}}, "": 5, scene.room_id: {"m.read": users, "m.other": users}},
    )
    assert scene.news("m.receipt") == [{said: {"m.read": {BOB: {"ts": 5}, "@bea:b.example": {"ts": 5}}}}]


def test_in_a_thread(scene: Scene) -> None:
    root = scene.a.say("ann", scene.room_id, "root")
    receipt(scene, root, thread_id=root)
    receipt(scene, root, thread_id="$nothing")
    assert scene.news("m.receipt") == [{root: {"m.read": {BOB: {"ts": 5, "thread_id": root}}}}]


@pytest.mark.parametrize("ts", [-5, 2**53 - 1, None])
def test_when_it_was_read_is_never_later_than_now(scene: Scene, ts: int | None) -> None:
    said = scene.a.say("ann", scene.room_id, "hello")
    receipt(scene, said, ts=ts)
    shown = scene.news("m.receipt")[0][said]["m.read"][BOB]["ts"]
    assert 0 <= shown <= scene.a.house.clock.now_ms()


def test_a_receipt_that_is_here_before_its_event(any_scene: Scene) -> None:
    scene = any_scene
    said = scene.b.say("bob", scene.room_id, "on its way")
    receipt(scene, said)
    assert scene.news("m.receipt") == []
    scene.fleet.settle()
    settle(scene)
    assert scene.news("m.receipt") == [{said: {"m.read": {BOB: {"ts": 5}}}}]
    waiting = scene.a.house.part(Inbox).edus.handlers["m.receipt"]
    assert isinstance(waiting, ReceiptsThere) and not waiting._waiting and not waiting._by_event


def test_waiting_has_its_bounds(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts_module, "MOST_WAITING", 3)
    waiting = scene.a.house.part(Inbox).edus.handlers["m.receipt"]
    assert isinstance(waiting, ReceiptsThere)
    names = ["bea", "ben", "bill", "bo"]
    for name in names:
        scene.b.enter(name, scene.room_id)
    scene.fleet.settle()
    for number in range(3):
        for name in names:
            receipt(scene, f"$nothing{number}", user_id=f"@{name}:b.example")
    assert len(waiting._waiting) == 3 and sum(map(len, waiting._by_event.values())) == 3
    for name in names:
        receipt(scene, f"$other{name}", user_id="@bo:b.example")
    assert len(waiting._waiting) == 3
    said = scene.a.say("ann", scene.room_id, "hello")
    receipt(scene, said, user_id="@bo:b.example")
    assert len(waiting._waiting) == 2, "what was read since then counts"


@pytest.mark.parametrize("user_id", [ANN, "@nobody:b.example", "@cat:c.example", "bob", "", "\0", "@bob:b.example:1"])
def test_receipts_of_whom_it_may_not_speak(scene: Scene, user_id: str) -> None:
    said = scene.a.say("ann", scene.room_id, "hello")
    receipt(scene, said, user_id=user_id)
    assert scene.news("m.receipt") == []


@pytest.mark.parametrize("kind", ["m.read.private", "m.fully_read", "m.unheard_of", ""])
def test_kinds_of_receipts_that_are_nobodys_to_say(scene: Scene, kind: str) -> None:
    receipt(scene, scene.a.say("ann", scene.room_id, "hello"), kind=kind)
    assert scene.news("m.receipt") == []


def test_servers_that_may_not_say_who_has_read(scene: Scene) -> None:
    said = scene.a.say("ann", scene.room_id, "hello")
    receipt(scene, said, by=scene.c)
    scene.shut_out("b.example")
    receipt(scene, said)
    assert scene.news("m.receipt") == []


@pytest.mark.parametrize(
    "about",
    [
        *NO_OBJECTS,
        {},
        {"event_ids": []},
        {"event_ids": None},
        {"event_ids": ["x"]},
        {"event_ids": [""]},
        {"event_ids": [5]},
        {"event_ids": ["$\0"]},
        {"event_ids": ["$" + "x" * 300]},
        {"event_ids": ["$ID"], "data": None},
        {"event_ids": ["$ID"], "data": {"ts": "now"}},
        {"event_ids": ["$ID"], "data": {"ts": 1.5}},
        {"event_ids": ["$ID"], "data": {"ts": 5, "thread_id": 5}},
        {"event_ids": ["$ID"], "data": {"ts": 5, "thread_id": ""}},
        {"event_ids": ["$ID"], "data": {"ts": 5, "thread_id": "\0"}},
        {"event_ids": ["$ID"], "data": {"ts": 5, "thread_id": "MAIN"}},
    ],
)
def test_odd_receipts(scene: Scene, about: Any) -> None:
    said = scene.a.say("ann", scene.room_id, "hello")
    about = orjson.loads(orjson.dumps(about).replace(b"$ID", said.encode()))
    scene.tell("m.receipt", {scene.room_id: {"m.read": {BOB: about}}})
    assert scene.news("m.receipt") == []


# -- presence ----------------------------------------------------------------------------------------------------


@define
class Reader:
    """Ann, who follows how others are."""

    scene: Scene
    since: str

    @classmethod
    def open(cls, scene: Scene) -> Reader:
        board = scene.a.house.presence
        scene.a.house.part(Inbox).edus.handlers["m.presence"] = PresenceThere(board)
        return cls(scene, scene.a.sync("ann")["next_batch"])

    def news(self) -> dict[str, Any]:
        self.scene.a.advance(TELL_SECONDS)
        settle(self.scene)
        answer = self.scene.a.sync("ann", self.since)
        self.since = answer["next_batch"]
        events = answer.get("presence", {}).get("events", [])
        return {event["sender"]: event["content"] for event in events if event["sender"] != ANN}

    def status(self, user_id: str = BOB) -> dict[str, Any]:
        return self.scene.a.wait(self.scene.a.house.presence.status(ANN, user_id))


def present(scene: Scene, user_id: Any = BOB, presence: Any = "online", by: Member | None = None, **more: Any) -> None:
    pushed = {"user_id": user_id, "presence": presence, "last_active_ago": 5000, **more}
    scene.tell("m.presence", {"push": [pushed]}, by)


def test_presence_is_not_heard_unless_the_settings_say_so(scene: Scene) -> None:
    assert "m.presence" not in scene.a.house.part(Inbox).edus.handlers
    present(scene)
    assert not scene.a.house.presence._people.get(BOB)


def test_somebody_comes_and_goes(any_scene: Scene) -> None:
    scene = any_scene
    reader = Reader.open(scene)
    present(scene, currently_active=True, status_msg="here")
    content = reader.news()[BOB]
    assert content.pop("last_active_ago") >= 5000
    assert content == {"presence": "online", "currently_active": True, "status_msg": "here"}
    present(scene, currently_active=True, status_msg="here")
    assert reader.news() == {}, "there is nothing new"
    present(scene, presence="unavailable")
    assert reader.news()[BOB]["presence"] == "unavailable"
    assert reader.status()["presence"] == "unavailable"
    present(scene, presence="offline")
    assert reader.news()[BOB]["presence"] == "offline"
    rows = scene.a.wait(
        scene.a.house.database.run(lambda cursor: cursor.execute("SELECT user_id FROM presence").fetchall())
    )
    assert (BOB,) not in rows


def test_who_comes_later_is_told_who_is_there(scene: Scene) -> None:
    Reader.open(scene)
    present(scene)
    scene.a.advance(TELL_SECONDS)
    settle(scene)
    scene.a.enter("dan", scene.room_id)
    events = scene.a.sync("dan")["presence"]["events"]
    assert BOB in {event["sender"] for event in events}


def test_a_server_that_falls_silent_has_nobody_there(scene: Scene) -> None:
    reader = Reader.open(scene)
    present(scene)
    assert BOB in reader.news()
    ticks = SILENCE_MS // 10
    for _ in range(ticks):
        scene.a.house.clock.now_ms()
    scene.a.advance(10)
    assert reader.news()[BOB]["presence"] == "offline"


def test_strangers_do_not_matter(scene: Scene) -> None:
    reader = Reader.open(scene)
    present(scene, user_id="@nobody:b.example")
    present(scene, user_id="@cat:c.example", by=scene.c)
    present(scene, user_id=BOB, by=scene.c)
    present(scene, user_id=ANN)
    present(scene, user_id=DAN)
    present(scene, presence="offline")
    assert reader.news() == {}
    assert set(scene.a.house.presence._people) <= {ANN}


def test_nobody_says_how_the_people_here_are(scene: Scene) -> None:
    reader = Reader.open(scene)
    scene.a.house.presence.set(DAN, "PHONE", "online", "mine")
    handler = PresenceThere(scene.a.house.presence)
    scene.a.wait(handler("a.example", {"push": [{"user_id": DAN, "presence": "offline", "last_active_ago": 0}]}))
    scene.a.house.presence.seen(DAN)
    assert scene.a.house.presence._people[DAN].status_msg == "mine"
    assert reader.news() == {}


@pytest.mark.parametrize(
    "more",
    [
        {"presence": "busy"},
        {"presence": None},
        {"presence": 5},
        {"user_id": None},
        {"user_id": 5},
        {"user_id": "bob"},
        {"user_id": "\0"},
        {"last_active_ago": "long"},
        {"currently_active": "yes"},
        {"status_msg": {}},
    ],
)
def test_odd_presence(scene: Scene, more: dict[str, Any]) -> None:
    reader = Reader.open(scene)
    present(scene, **more)
    assert reader.news() == {}
    scene.tell("m.presence", {"push": [None, 5, [], {}, {"user_id": BOB, "presence": "online"}]})
    assert reader.news() == {BOB: {"presence": "online", "currently_active": False}}


@pytest.mark.parametrize("ago", [-5, 0, 2**53 - 1])
def test_ages_that_make_no_sense(scene: Scene, ago: int) -> None:
    reader = Reader.open(scene)
    present(scene, last_active_ago=ago)
    content = reader.news()[BOB]
    assert 0 <= content.get("last_active_ago", 0) <= scene.a.house.clock.now_ms()


def test_long_texts_are_cut(scene: Scene) -> None:
    reader = Reader.open(scene)
    present(scene, status_msg="x" * 50_000)
    assert reader.news()[BOB]["status_msg"] == "x" * MAX_STATUS_CHARACTERS
