"""Making rooms: which events, in which order, with what in them; and what is no room."""

from __future__ import annotations

from typing import Any

import attrs
import msgspec
import pytest
from twisted.internet.defer import Deferred

from config import make_settings
from federation.room.identifiers import is_room_hash
from federation.room.versions import ROOM_VERSIONS
from homeserver.clock import Clock
from homeserver.errors import Forbidden, MatrixError
from homeserver.rooms.create import CreateRoom, InitialState
from homeserver.rooms.directory import ListAsk
from homeserver.rooms.founding import Founder
from storage import events as event_rows
from storage.ports import StoredEvent
from tests.fixtures_db import SERVER_NAME
from tests.fixtures_rooms import Town, user

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

ALICE, BOB, CAROL = user("alice"), user("bob"), user("carol")
BEGINNING = ["m.room.create", "m.room.member", "m.room.power_levels"]
PRESET = ["m.room.join_rules", "m.room.history_visibility", "m.room.guest_access"]


def events(town: Town, room_id: str) -> list[StoredEvent]:
    return town.wait(town.database.run(event_rows.timeline, town.room(room_id).nid, limit=1000))


def types(town: Town, room_id: str) -> list[str]:
    return [stored.event.type for stored in events(town, room_id)]


def content(town: Town, room_id: str, event_type: str, state_key: str = "") -> dict[str, Any]:
    ref = town.room(room_id).visible.state[event_type, state_key]
    stored = town.wait(town.events.get(ref.nid))
    assert stored is not None
    return dict(stored.event.content)


def refusal(town: Town, **body: Any) -> tuple[int, str]:
    with pytest.raises(MatrixError) as caught:
        town.create("alice", **body)
    assert caught.value.error
    return caught.value.status, caught.value.errcode


@pytest.mark.parametrize("version", ROOM_VERSIONS)
@on_sqlite
def test_every_preset_in_every_version(town: Town, version: str) -> None:
    presets = {"private_chat": "invite", "trusted_private_chat": "invite", "public_chat": "public"}
    for preset, join_rule in presets.items():
        room_id = town.create("alice", preset=preset, room_version=version, invite=[BOB])
        expected_types = [one for one in PRESET if preset != "public_chat" or one != "m.room.guest_access"]
        assert types(town, room_id) == [*BEGINNING, *expected_types, "m.room.member"]
        assert content(town, room_id, "m.room.join_rules") == {"join_rule": join_rule}
        assert content(town, room_id, "m.room.history_visibility") == {"history_visibility": "shared"}
        if preset != "public_chat":  # where silence says that none may
            assert content(town, room_id, "m.room.guest_access") == {"guest_access": "can_join"}
        assert content(town, room_id, "m.room.member", ALICE) == {"membership": "join", "displayname": "Alice"}
        assert content(town, room_id, "m.room.member", BOB) == {"membership": "invite", "displayname": "Bob"}

        create, levels = content(town, room_id, "m.room.create"), content(town, room_id, "m.room.power_levels")
        trusted = preset == "trusted_private_chat"
        expected: dict[str, Any] = {"room_version": version}
        if int(version) < 11:
            expected["creator"] = ALICE
        if version == "12" and trusted:
            expected["additional_creators"] = [BOB]
        assert create == expected
        assert levels["users"] == ({} if version == "12" else {ALICE: 100, **({BOB: 100} if trusted else {})})
        assert levels["events"]["m.room.tombstone"] == (150 if version == "12" else 100) > levels["state_default"]
        power = town.wait(town.door.power_levels(town.room(room_id)))
        assert power.user(ALICE) >= 100 and (power.user(BOB) == power.user(ALICE)) == trusted
        # A room of this version is one to live in.
        town.join("bob", room_id)
        town.say("bob", room_id, "hello")
        town.send("alice", room_id, "m.room.topic", {"topic": "new"}, "")
        assert is_room_hash(room_id) == (version == "12")
        ids = [stored.event.event_id for stored in events(town, room_id)]
        assert all(event_id.endswith(":" + SERVER_NAME) for event_id in ids) == (int(version) < 3)
        assert len(set(ids)) == len(ids) == 7 + len(expected_types)


@pytest.mark.parametrize("version", ["1", "2", "3", "12"])
def test_a_room_is_the_same_when_it_is_read_again(town: Town, version: str) -> None:
    everything: dict[str, Any] = {
        "room_alias_name": "pub", "name": "The pub", "topic": "Beer", "invite": [BOB, CAROL], "room_version": version,
        "visibility": "public",
        "initial_state": [{"type": "org.example.odd\0", "state_key": "a\0b", "content": {"nul\0": "\0"}}],
    }  # fmt: skip
    room_id = town.create("alice", **everything)
    live = town.room(room_id)
    town.rooms.drop(live)
    town.events.forget(range(1, 100))
    again = town.room(room_id)
    assert again is not live
    assert (again.visible, again.create.raw, again.version) == (live.visible, live.create.raw, live.version)
    assert (again.joined_count, again.invited_count, again.servers) == (1, 2, {SERVER_NAME: 1})
    town.join("bob", room_id)
    sent = town.send("bob", room_id, "m.room.message", {"body": "hello"})
    assert sent.event.prev_events == (town.room(room_id).visible.state["m.room.member", BOB].event_id,)


def test_who_is_in_a_restricted_room_does_not_let_in_others(town: Town) -> None:
    rules = {"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": []}}
    room_id = town.create("alice", preset="public_chat", initial_state=[rules])
    assert content(town, room_id, "m.room.power_levels")["invite"] == 50
    room_id = town.create("alice", initial_state=[rules], power_level_content_override={"invite": 7})
    assert content(town, room_id, "m.room.power_levels")["invite"] == 7


@on_sqlite
def test_the_order_of_everything(town: Town) -> None:
    state = [
        {"type": "org.example.b", "content": {"n": 1}},
        {"type": "m.room.name", "content": {"name": "overridden"}},
        {"type": "m.room.join_rules", "content": {"join_rule": "knock"}},
        {"type": "org.example.a", "state_key": "corner", "content": {}},
        {"type": "org.example.b", "content": {"n": 2}},
        {"type": "m.room.topic", "content": {"topic": "overridden"}},
    ]
    room_id = town.create(
        "alice", room_alias_name="pub", name="The pub", topic="Beer", initial_state=state, invite=[BOB]
    )
    assert types(town, room_id) == [
        *BEGINNING, "m.room.canonical_alias", "m.room.history_visibility", "m.room.guest_access", "m.room.join_rules",
        "org.example.a", "org.example.b", "m.room.name", "m.room.topic", "m.room.member",
    ]  # fmt: skip
    assert content(town, room_id, "m.room.canonical_alias") == {"alias": f"#pub:{SERVER_NAME}"}
    assert content(town, room_id, "m.room.join_rules") == {"join_rule": "knock"}
    assert content(town, room_id, "org.example.b") == {"n": 2}
    assert content(town, room_id, "m.room.name") == {"name": "The pub"}
    topic = {"topic": "Beer", "m.topic": {"m.text": [{"body": "Beer", "mimetype": "text/plain"}]}}
    assert content(town, room_id, "m.room.topic") == topic
    chain = [stored.event for stored in events(town, room_id)]
    assert [event.prev_events for event in chain[1:]] == [(event.event_id,) for event in chain[:-1]]
    assert [event.depth for event in chain] == list(range(1, len(chain) + 1))
    positions = [stored.position for stored in events(town, room_id)]
    assert positions == list(range(positions[0], positions[0] + len(chain)))


@on_sqlite
def test_empty_words_are_words(town: Town) -> None:
    room_id = town.create("alice", name="", topic="")
    assert content(town, room_id, "m.room.name") == {"name": ""}
    assert content(town, room_id, "m.room.topic")["topic"] == ""
    assert types(town, town.create("alice")) == [*BEGINNING, *PRESET]


@on_sqlite
def test_power_levels_are_overridden_key_by_key(town: Town) -> None:
    override = {"invite": 50, "events": {"m.room.name": 7}, "org.example": "kept", "users": {ALICE: 100, BOB: 9}}
    levels = content(town, town.create("alice", power_level_content_override=override, room_version="11"), BEGINNING[2])
    assert {key: levels[key] for key in override} == override and levels["ban"] == 50
    # Whoever made the room can be less than what it takes, as long as it gets it done.
    room_id = town.create("alice", power_level_content_override={"users": {ALICE: 50}, "events": {}}, room_version="11")
    assert content(town, room_id, BEGINNING[2])["users"] == {ALICE: 50}
    given = {"users": {ALICE: 100}, "state_default": 0}
    state = [{"type": "m.room.power_levels", "content": given}]
    room_id = town.create("alice", initial_state=state, room_version="11", power_level_content_override={"ban": 1})
    assert content(town, room_id, BEGINNING[2]) == given
    assert types(town, room_id).count("m.room.power_levels") == 1


@pytest.mark.parametrize(
    ("version", "override", "errcode"),
    [
        ("11", {"users": {}}, "M_INVALID_ROOM_STATE"),
        ("11", {"users": {ALICE: 49}}, "M_INVALID_ROOM_STATE"),
        ("11", {"users": {ALICE: "100"}}, "M_INVALID_ROOM_STATE"),
        ("11", {"users": {"alice": 100}}, "M_INVALID_ROOM_STATE"),
        ("11", {"users": [ALICE]}, "M_INVALID_ROOM_STATE"),
        ("11", {"users": None}, "M_INVALID_ROOM_STATE"),
        ("11", {"events": {"m.room.name": "50"}}, "M_INVALID_ROOM_STATE"),
        ("11", {"state_default": True}, "M_INVALID_ROOM_STATE"),
        ("11", {"invite": 101, "state_default": 101}, "M_INVALID_ROOM_STATE"),
        ("11", {"ban": 50.5}, "M_BAD_JSON"),
        ("11", {"ban": 2**53}, "M_BAD_JSON"),
        ("5", {"users": {ALICE: "many"}}, "M_INVALID_ROOM_STATE"),
        ("5", {"ban": 50.0}, "M_BAD_JSON"),
        ("12", {"users": {ALICE: 100}}, "M_INVALID_ROOM_STATE"),
        ("12", {"users": {BOB: 100.5}}, "M_BAD_JSON"),
    ],
)
@on_sqlite
def test_levels_that_make_no_room(town: Town, version: str, override: dict[str, Any], errcode: str) -> None:
    body = {"room_version": version, "power_level_content_override": override, "invite": [BOB], "name": "x"}
    assert refusal(town, **body) == (400, errcode)
    assert len(town.rooms) == 0 and town.hub.position == 0
    # A creator of version 12 may not be named, whoever it is.
    if version == "12":
        body |= {"preset": "trusted_private_chat", "power_level_content_override": {"users": {BOB: 100}}}
        assert refusal(town, **body) == (400, "M_INVALID_ROOM_STATE")


@on_sqlite
def test_levels_of_old_versions_may_be_text(town: Town) -> None:
    room_id = town.create("alice", room_version="9", power_level_content_override={"users": {ALICE: "100"}, "ban": "7"})
    levels = town.wait(town.door.power_levels(town.room(room_id)))
    assert (levels.user(ALICE), levels.ban) == (100, 7)


@on_sqlite
def test_what_the_create_event_carries(town: Town) -> None:
    given = {
        "m.federate": False, "type": "m.space", "org.example": {"any": [1, None]},
        "predecessor": {"room_id": "!old:test.example", "event_id": "$old"},
        "room_version": "1", "creator": BOB,
    }  # fmt: skip
    for version in ("10", "11", "12"):
        create = content(town, town.create("alice", room_version=version, creation_content=given), "m.room.create")
        expected = {**given, "room_version": version, "creator": ALICE}
        if version != "10":
            del expected["creator"]
        assert create == expected
    spaces = town.wait(town.database.run(lambda cursor: cursor.execute("SELECT room_type FROM rooms").fetchall()))
    assert spaces == [(b"m.space",)] * 3
    # It takes no shape away from what nobody but clients reads.
    odd = town.create("alice", creation_content={"type": 5, "m.federate": "no", "predecessor": []})
    assert content(town, odd, "m.room.create")["type"] == 5
    assert refusal(town, creation_content={"org.example": 1.5}) == (400, "M_BAD_JSON")
    assert refusal(town, creation_content={"org.example": "x" * 70_000}) == (413, "M_TOO_LARGE")


@on_sqlite
def test_additional_creators(town: Town) -> None:
    def creators(**body: Any) -> Any:
        return content(town, town.create("alice", **body), "m.room.create").get("additional_creators")

    trusted = {"preset": "trusted_private_chat", "invite": [BOB, CAROL, BOB, ALICE]}
    assert creators(**trusted) == [BOB, CAROL]
    assert creators(**trusted, creation_content={"additional_creators": [CAROL, "@dan:far.example", CAROL]}) == [
        CAROL, "@dan:far.example", BOB,
    ]  # fmt: skip
    assert creators(preset="private_chat", invite=[BOB], creation_content={"additional_creators": [CAROL]}) == [CAROL]
    assert creators(preset="trusted_private_chat") is None
    # Before version 12 the word means nothing.
    assert creators(**trusted, room_version="11", creation_content={"additional_creators": "x"}) == "x"
    nonsense: tuple[Any, ...] = ("x", None, {}, [1], ["bob"], [[BOB]], [{}], [None], ["@bob"], [BOB, "@nul\0:x.org"])
    for bad in nonsense:
        for preset in ("trusted_private_chat", "private_chat"):
            body = {"preset": preset, "invite": [BOB], "creation_content": {"additional_creators": bad}}
            assert refusal(town, **body) == (400, "M_BAD_JSON"), bad
    # The invited creators are as much as the first one once they are there.
    room_id = town.create("alice", **trusted)
    town.join("bob", room_id)
    town.send("bob", room_id, "m.room.tombstone", {"replacement_room": "!x"}, "")
    with pytest.raises(Forbidden):
        town.kick("alice", "bob", room_id)


@on_sqlite
def test_members_in_the_initial_state(town: Town) -> None:
    """They can do no more than the calls for it: nobody who can't be, nobody who can't be reached."""

    def member(key: str, **words: Any) -> list[dict[str, Any]]:
        return [{"type": "m.room.member", "state_key": key, "content": words}]

    room_id = town.create("alice", initial_state=member(BOB, membership="invite", reason="come"))
    assert town.room(room_id).membership_of(BOB) == "invite"
    room_id = town.create("alice", initial_state=member(BOB, membership="ban"), invite=[CAROL])
    assert town.room(room_id).membership_of(BOB) == "ban"
    assert refusal(town, initial_state=member("bob", membership="invite")) == (400, "M_INVALID_PARAM")
    assert refusal(town, initial_state=member("", membership="ban")) == (400, "M_INVALID_PARAM")
    assert refusal(town, initial_state=member("@dan:far.example", membership="invite")) == (403, "M_FORBIDDEN")
    for words in ({"membership": "join"}, {"membership": "odd"}, {}, {"membership": 5}):
        assert refusal(town, initial_state=member(BOB, **words))[0] == 400
    assert refusal(town, initial_state=member(BOB, membership="ban"), invite=[BOB]) == (400, "M_INVALID_ROOM_STATE")
    # Who leaves a room in the middle of making it has not made it.
    assert refusal(town, initial_state=member(ALICE, membership="leave"), name="x") == (400, "M_INVALID_ROOM_STATE")


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({"type": "m.room.create", "content": {}}, (400, "M_BAD_JSON")),
        ({"type": "m.room.name", "content": {"name": 1.5}}, (400, "M_BAD_JSON")),
        ({"type": "m.room.name", "content": {"name": 2**70}}, (400, "M_BAD_JSON")),
        ({"type": "m.room.name", "content": {"name": "x" * 65_536}}, (413, "M_TOO_LARGE")),
        ({"type": "t" * 256, "content": {}}, (413, "M_TOO_LARGE")),
        ({"type": "t", "state_key": "ö" * 128, "content": {}}, (413, "M_TOO_LARGE")),
        ({"type": "t", "state_key": "@bob:test.example", "content": {}}, (400, "M_INVALID_ROOM_STATE")),
        ({"type": "m.room.power_levels", "content": {"users": "all"}}, (400, "M_INVALID_ROOM_STATE")),
    ],
)
@on_sqlite
def test_state_that_makes_no_room(town: Town, given: dict[str, Any], answer: tuple[int, str]) -> None:
    assert refusal(town, initial_state=[given]) == answer
    assert len(town.rooms) == 0 and town.hub.position == 0
    longest = {"type": "t" * 255, "state_key": "ö" * 127, "content": {}}
    town.create("alice", initial_state=[longest])


@on_sqlite
def test_invitations(town: Town) -> None:
    room_id = town.create("alice", invite=[BOB, CAROL, BOB, ALICE, BOB], is_direct=True)
    assert [(stored.event.state_key, stored.event.content) for stored in events(town, room_id)[-2:]] == [
        (BOB, {"membership": "invite", "displayname": "Bob", "is_direct": True}),
        (CAROL, {"membership": "invite", "displayname": "Carol", "is_direct": True}),
    ]
    for bad in ("bob", "@bob", "#pub:test.example", "", "@nul\0:test.example", "@x:" + "y" * 255, "@b ob:no server"):
        assert refusal(town, invite=[BOB, bad]) == (400, "M_INVALID_PARAM"), bad
    assert refusal(town, invite=["@dan:far.example"]) == (403, "M_FORBIDDEN")
    third = {"id_server": "x", "id_access_token": "y", "medium": "email", "address": "a@b.c"}
    assert refusal(town, invite_3pid=[third]) == (403, "M_THREEPID_DENIED")


@on_sqlite
def test_versions(town: Town) -> None:
    for unknown in ("13", "0", "", "12 ", "org.matrix.msc2176", "\u0661"):
        assert refusal(town, room_version=unknown) == (400, "M_UNSUPPORTED_ROOM_VERSION")
    settings = make_settings({"profile": "test", "server": {"name": SERVER_NAME}, "rooms": {"default_version": "9"}})
    maker = attrs.evolve(town.maker, settings=settings)
    room_id = town.wait(maker.create(ALICE, CreateRoom()))
    assert content(town, room_id, "m.room.create")["room_version"] == "9"


def listed(town: Town) -> list[str]:
    return [room["room_id"] for room in town.wait(town.directory.list(ListAsk()))["chunk"]]


@on_sqlite
def test_publishing(town: Town) -> None:
    assert listed(town) == []
    public = town.create("alice", visibility="public")
    assert content(town, public, "m.room.join_rules") == {"join_rule": "public"}
    private = town.create("alice", visibility="public", preset="private_chat")
    assert content(town, private, "m.room.join_rules") == {"join_rule": "invite"}
    unlisted = town.create("alice", visibility="private", preset="public_chat")
    assert set(listed(town)) == {public, private} and unlisted
    settings = make_settings({"server": {"name": SERVER_NAME}})
    strict = attrs.evolve(town.maker, settings=settings)
    with pytest.raises(Forbidden):
        town.wait(strict.create(ALICE, CreateRoom(visibility="public", room_alias_name="pub")))
    by_admin = town.wait(strict.create(ALICE, CreateRoom(visibility="public", room_alias_name="pub"), is_admin=True))
    assert by_admin in listed(town)


@on_sqlite
def test_encryption_by_default(town: Town) -> None:
    def algorithms(when: str) -> list[Any]:
        rooms = {"encryption_by_default": when}
        settings = make_settings({"profile": "test", "server": {"name": SERVER_NAME}, "rooms": rooms})
        maker = attrs.evolve(town.maker, settings=settings)
        own = [{"type": "m.room.encryption", "content": {"algorithm": "own"}}]
        made = [
            town.wait(maker.create(ALICE, ask))
            for ask in (
                CreateRoom(preset="private_chat"),
                CreateRoom(preset="public_chat"),
                CreateRoom(initial_state=make_state(own)),
            )
        ]
        key = ("m.room.encryption", "")
        return [
            content(town, room_id, key[0])["algorithm"] if key in town.room(room_id).visible.state else None
            for room_id in made
        ]

    megolm = "m.megolm.v1.aes-sha2"
    assert algorithms("none") == [None, None, "own"]
    assert algorithms("private") == [megolm, None, "own"]
    assert algorithms("all") == [megolm, megolm, "own"]


def make_state(given: list[dict[str, Any]]) -> Any:
    return msgspec.convert(given, list[InitialState])


def test_an_alias_is_for_one_room(town: Town) -> None:
    first = town.create("alice", room_alias_name="Pub-1_ö")
    alias = f"#Pub-1_ö:{SERVER_NAME}"
    assert town.wait(town.aliases.resolve(alias)).room_id == first
    assert refusal(town, room_alias_name="Pub-1_ö") == (400, "M_ROOM_IN_USE")
    # Several at once pass the first look: one wins, and of the other rooms nothing is left.
    position, rooms = town.hub.position, len(town.rooms)
    making = [
        Deferred.fromCoroutine(town.maker.create(ALICE, CreateRoom(room_alias_name="race", visibility="public")))
        for _ in range(4)
    ]
    others = Deferred.fromCoroutine(town.maker.create(BOB, CreateRoom()))
    outcomes: list[str] = []
    for one in making:
        try:
            outcomes.append(town.wait(one))
        except MatrixError as error:
            assert (error.status, error.errcode) == (400, "M_ROOM_IN_USE")
    assert town.wait(others)
    (winner,) = outcomes
    assert town.wait(town.aliases.resolve(f"#race:{SERVER_NAME}")).room_id == winner
    assert len(town.rooms) == rooms + 2 and town.hub.position > position and listed(town) == [winner]
    known = town.wait(town.database.run(lambda cursor: cursor.execute("SELECT room_id FROM rooms").fetchall()))
    assert {room_id for (room_id,) in known} >= {first, winner} and len(known) == 3
    assert town.rooms._loading == {} and town.rooms._condemned == set()
    # The room's oldest alias comes first, and this one was its first.
    town.wait(town.aliases.create(town.who("alice"), f"#aaa:{SERVER_NAME}", first))
    assert town.wait(town.aliases.of_room(first, ALICE)) == [alias, f"#aaa:{SERVER_NAME}"]


@on_sqlite
def test_what_is_no_alias(town: Town) -> None:
    for bad in ("", "a:b", "white space", "tab\t", "nul\0", "\u3000", "x" * 250, "#a:b", ":"):
        assert refusal(town, room_alias_name=bad) == (400, "M_INVALID_PARAM"), bad
    assert len(town.rooms) == 0


@on_sqlite
def test_identical_rooms_made_at_once_are_two_rooms(town: Town) -> None:
    """In version 12 a room's id is the hash of its create event, which holds nothing but who and when."""
    still = Clock(town.clock.timers, lambda: 1_700_000_000_000)
    door = town.door
    door.clock = still
    making = [Deferred.fromCoroutine(town.maker.create(ALICE, CreateRoom())) for _ in range(3)]
    made = [town.wait(one) for one in making]
    assert len(set(made)) == 3
    # A clock that was set back while the server was down finds the moment taken, and takes the next one.
    again = attrs.evolve(town.maker, founder=Founder(town.door.means))
    made.append(town.wait(again.create(ALICE, CreateRoom())))
    assert len(set(made)) == 4 and set(made) == {town.room(room_id).room_id for room_id in made}


@on_sqlite
def test_many_invitations_cost_what_each_costs(town: Town) -> None:
    room_id = town.create("alice", invite=[user(f"guest{number}") for number in range(300)], room_version="1")
    assert town.room(room_id).invited_count == 300 and town.room(room_id).visible.head.depth == 306
