"""Coming and going: every way in and out of a room, for everybody who may and may not."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred

from homeserver.errors import Forbidden, InvalidParam, MatrixError, NotFound
from homeserver.rooms.send import Sender
from homeserver.rooms.transactions import TransactionLog
from storage import memberships as membership_rows
from storage.ports import StoredEvent
from tests.fixtures_rooms import Town, user

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

ALICE, BOB, CAROL = user("alice"), user("bob"), user("carol")
NOWHERE = "!nowhere:test.example"


def member(town: Town, room_id: str, name: str) -> StoredEvent:
    ref = town.room(room_id).visible.state["m.room.member", user(name)]
    stored = town.wait(town.events.get(ref.nid))
    assert stored is not None
    return stored


def content(town: Town, room_id: str, name: str) -> dict[str, Any]:
    return dict(member(town, room_id, name).event.content)


def membership(town: Town, room_id: str, name: str) -> str | None:
    """What memory, the database's table and its state say: one and the same."""
    room = town.room(room_id)
    ref = room.visible.state.get(("m.room.member", user(name)))
    row = town.wait(town.database.run(membership_rows.membership_of, room.nid, user(name)))
    assert room.membership_of(user(name)) == (None if row is None else row.membership)
    assert (ref is None) == (row is None)
    return None if ref is None else ref.membership


def refusal(town: Town, work: Any) -> tuple[int, str]:
    with pytest.raises(MatrixError) as caught:
        town.wait(work)
    return caught.value.status, caught.value.errcode


FORBIDDEN = (403, "M_FORBIDDEN")


def put_member(town: Town, name: str, room_id: str, target: str, words: dict[str, Any], is_guest: bool = False) -> str:
    """`PUT /rooms/{room_id}/state/m.room.member/{target}`."""
    log = TransactionLog(town.database, town.clock)
    sender = Sender(town.door, town.rooms, town.database, log, town.memberships, {}, town.relating.rules)
    return town.wait(sender.state(user(name), room_id, "m.room.member", target, words, is_guest=is_guest))


def room_with_rule(town: Town, rule: str, version: str = "12", **more: Any) -> str:
    state = [{"type": "m.room.join_rules", "content": {"join_rule": rule, **more}}]
    return town.create("alice", initial_state=state, room_version=version)


# -- joining ------------------------------------------------------------------------------------------------------


def test_from_invitation_to_ban_and_back(town: Town) -> None:
    """One life, on both databases: each step as memory and the tables tell it."""
    room_id = town.create("alice")
    assert refusal(town, town.memberships.join(room_id, BOB)) == FORBIDDEN
    town.invite("alice", "bob", room_id)
    assert membership(town, room_id, "bob") == "invite" and town.room(room_id).invited_count == 1
    town.join("bob", room_id)
    assert membership(town, room_id, "bob") == "join"
    assert (town.room(room_id).joined_count, town.room(room_id).invited_count) == (2, 0)
    town.leave("bob", room_id)
    assert membership(town, room_id, "bob") == "leave" and town.room(room_id).local_joined == {ALICE}
    town.invite("alice", "bob", room_id)
    town.leave("bob", room_id)
    assert membership(town, room_id, "bob") == "leave" and town.room(room_id).invited_count == 0
    town.ban("alice", "bob", room_id)
    assert membership(town, room_id, "bob") == "ban"
    assert refusal(town, town.memberships.join(room_id, BOB)) == FORBIDDEN
    assert refusal(town, town.memberships.invite(room_id, ALICE, BOB)) == FORBIDDEN
    town.unban("alice", "bob", room_id)
    assert membership(town, room_id, "bob") == "leave"
    town.invite("alice", "bob", room_id)
    town.join("bob", room_id)
    town.kick("alice", "bob", room_id)
    assert membership(town, room_id, "bob") == "leave"
    room = town.room(room_id)
    town.rooms.drop(room)
    again = town.room(room_id)
    assert (again.joined_count, again.invited_count, set(again.local_joined)) == (1, 0, {ALICE})


@pytest.mark.parametrize("version", ["1", "6", "7", "9", "10", "12"])
@on_sqlite
def test_join_rules_let_in_whom_they_name(town: Town, version: str) -> None:
    number = int(version)
    for rule in ("public", "invite", "private", "knock", "restricted", "knock_restricted", "unheard_of"):
        room_id = room_with_rule(town, rule, version)
        if rule == "public":
            town.join("bob", room_id)
        else:
            assert refusal(town, town.memberships.join(room_id, BOB)) == FORBIDDEN, rule
        may_knock = (rule == "knock" and number >= 7) or (rule == "knock_restricted" and number >= 10)
        if may_knock:
            town.wait(town.memberships.knock(room_id, CAROL, "please"))
            assert content(town, room_id, "carol") == {
                "membership": "knock", "displayname": "Carol", "reason": "please",
            }  # fmt: skip
            assert refusal(town, town.memberships.join(room_id, CAROL)) == FORBIDDEN
        else:
            assert refusal(town, town.memberships.knock(room_id, CAROL)) == FORBIDDEN, rule
        # An invitation opens any room but one whose rule nobody understands.
        understood = {"public": 1, "invite": 1, "knock": 7, "restricted": 8, "knock_restricted": 10}
        town.invite("alice", "carol", room_id)
        if number >= understood.get(rule, 99):
            town.join("carol", room_id)
            assert content(town, room_id, "carol") == {"membership": "join", "displayname": "Carol"}
        else:
            assert refusal(town, town.memberships.join(room_id, CAROL)) == FORBIDDEN, rule


def allow(*room_ids: Any) -> list[dict[str, Any]]:
    return [{"type": "m.room_membership", "room_id": room_id} for room_id in room_ids]


@pytest.mark.parametrize(("version", "rule"), [("8", "restricted"), ("10", "knock_restricted"), ("12", "restricted")])
@on_sqlite
def test_a_restricted_room_lets_in_members_of_others(town: Town, version: str, rule: str) -> None:
    club = town.create("bob", preset="public_chat")
    room_id = room_with_rule(town, rule, version, allow=allow(NOWHERE, club))
    assert refusal(town, town.memberships.join(room_id, CAROL)) == FORBIDDEN
    town.invite("bob", "carol", club)
    assert refusal(town, town.memberships.join(room_id, CAROL)) == FORBIDDEN
    town.join("carol", club)
    town.join("carol", room_id)
    assert content(town, room_id, "carol")["join_authorised_via_users_server"] == ALICE
    # Who is in stays in, and says so again without anybody's help.
    town.leave("carol", club)
    town.wait(attrs.evolve(town.memberships, profiles=Renamed()).profile_changed(CAROL, "displayname"))
    assert content(town, room_id, "carol") == {"membership": "join", "displayname": "Renamed"}
    town.leave("carol", room_id)
    assert refusal(town, town.memberships.join(room_id, CAROL)) == FORBIDDEN
    # An invitation needs no authoriser.
    town.invite("alice", "carol", room_id)
    town.join("carol", room_id)
    assert "join_authorised_via_users_server" not in content(town, room_id, "carol")
    # The ban holds whoever would vouch.
    town.ban("alice", "bob", room_id)
    assert refusal(town, town.memberships.join(room_id, BOB)) == FORBIDDEN


class Renamed:
    async def displayname_and_avatar(self, user_id: str) -> tuple[str | None, str | None]:
        return "Renamed", None


@on_sqlite
def test_the_authoriser_must_be_able_to_invite(town: Town) -> None:
    club = town.create("bob", preset="public_chat")
    room_id = room_with_rule(town, "restricted", allow=allow(club))
    town.invite("alice", "anna", room_id)
    town.join("anna", room_id)
    town.send("alice", room_id, "m.room.power_levels", {"invite": 50}, "")
    town.join("bob", room_id)
    assert content(town, room_id, "bob")["join_authorised_via_users_server"] == ALICE, "anna comes first but may not"
    town.leave("alice", room_id)
    town.join("carol", club)
    assert refusal(town, town.memberships.join(room_id, CAROL)) == (403, "M_UNABLE_TO_GRANT_JOIN")
    town.join("anna", room_id)  # is in already


@pytest.mark.parametrize(
    "allowed",
    [
        None, [], {}, "x", [None], [5], [{}], [{"type": "m.room_membership"}], allow(5, None, [], {}),
        [{"type": "org.example", "room_id": "CLUB"}], [{"room_id": "CLUB"}], allow("!nul\0:test.example", "!" * 9999),
    ],
)  # fmt: skip
@on_sqlite
def test_allow_lists_that_name_nobody(town: Town, allowed: Any) -> None:
    club = town.create("bob", preset="public_chat")
    if isinstance(allowed, list):
        allowed = [
            {**rule, "room_id": club} if isinstance(rule, dict) and rule.get("room_id") == "CLUB" else rule
            for rule in allowed
        ]
    room_id = room_with_rule(town, "restricted", allow=allowed)
    assert refusal(town, town.memberships.join(room_id, BOB)) == FORBIDDEN


@on_sqlite
def test_joining_twice_is_joining_once(town: Town) -> None:
    room_id = town.create("alice", preset="public_chat")
    at_once = [Deferred.fromCoroutine(town.memberships.join(room_id, BOB)) for _ in range(4)]
    for one in at_once:
        town.wait(one)
    first = member(town, room_id, "bob").nid
    town.wait(town.memberships.join(room_id, BOB, "again"))
    assert member(town, room_id, "bob").nid == first and member(town, room_id, "bob").replaces == 0
    assert "reason" not in content(town, room_id, "bob")
    assert town.room(room_id).joined_count == 2


@on_sqlite
def test_joining_twice_where_the_first_fails(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    room_id = town.create("alice", preset="public_chat")
    append, calls = town.database.append, []

    def fail_at_first(what: Any) -> Any:
        calls.append(what)
        if len(calls) == 1:
            what.also = [_explode]
        return append(what)

    monkeypatch.setattr(town.database, "append", fail_at_first)
    first, second = (Deferred.fromCoroutine(town.memberships.join(room_id, BOB)) for _ in range(2))
    with pytest.raises(ZeroDivisionError):
        town.wait(first)
    town.wait(second)
    assert membership(town, room_id, "bob") == "join" and len(calls) == 2


def _explode(cursor: Any) -> None:
    raise ZeroDivisionError


@on_sqlite
def test_guests_go_where_guests_may(town: Town) -> None:
    may = town.create("alice", preset="public_chat", initial_state=[
        {"type": "m.room.guest_access", "content": {"guest_access": "can_join"}},
    ])  # fmt: skip
    town.wait(town.memberships.join(may, BOB, is_guest=True))
    for words in ({"guest_access": "forbidden"}, {"guest_access": True}, {}, {"guest_access": "CAN_JOIN"}):
        closed = town.create("alice", preset="public_chat", initial_state=[
            {"type": "m.room.guest_access", "content": words},
        ])  # fmt: skip
        joining = town.memberships.join(closed, BOB, is_guest=True)
        assert refusal(town, joining) == (403, "M_GUEST_ACCESS_FORBIDDEN")
        with pytest.raises(Forbidden):
            put_member(town, "bob", closed, BOB, {"membership": "join"}, is_guest=True)
        assert membership(town, closed, "bob") is None
    # Joining when one is in is no question of access any more.
    town.send("alice", may, "m.room.guest_access", {"guest_access": "forbidden"}, "")
    town.wait(town.memberships.join(may, BOB, is_guest=True))
    for target, what in ((CAROL, "invite"), (BOB, "knock"), (CAROL, "leave"), (BOB, "ban"), (BOB, None)):
        with pytest.raises(Forbidden):
            put_member(town, "bob", may, target, {"membership": what}, is_guest=True)
    put_member(town, "bob", may, BOB, {"membership": "leave"}, is_guest=True)
    assert membership(town, may, "bob") == "leave"


# -- being shown the door -----------------------------------------------------------------------------------------


@on_sqlite
def test_who_may_do_what_to_whom(town: Town) -> None:
    levels = {user("mod"): 50, user("deputy"): 50, user("helper"): 30}
    room_id = town.create(
        "alice", preset="public_chat", power_level_content_override={"users": levels, "kick": 40, "ban": 45}
    )
    for name in ("mod", "deputy", "helper", "bob"):
        town.join(name, room_id)
    acts = {"kick": town.memberships.kick, "ban": town.memberships.ban}
    for act, sender, target in (
        ("kick", "bob", "helper"), ("kick", "helper", "bob"), ("kick", "mod", "deputy"), ("kick", "mod", "alice"),
        ("ban", "helper", "bob"), ("ban", "mod", "deputy"), ("ban", "bob", "bob"), ("ban", "bob", "nobody"),
        ("kick", "mod", "nobody"), ("kick", "stranger", "bob"), ("ban", "stranger", "bob"),
    ):  # fmt: skip
        assert refusal(town, acts[act](room_id, user(sender), user(target))) == FORBIDDEN, (act, sender, target)
    town.wait(town.memberships.kick(room_id, user("mod"), user("helper"), "too loud"))
    assert content(town, room_id, "helper") == {"membership": "leave", "reason": "too loud"}
    assert refusal(town, town.memberships.kick(room_id, user("mod"), user("helper"))) == FORBIDDEN, "is out already"
    town.wait(town.memberships.ban(room_id, user("mod"), user("helper"), "far too loud"))
    assert content(town, room_id, "helper") == {"membership": "ban", "reason": "far too loud"}
    town.wait(town.memberships.ban(room_id, user("mod"), user("helper")))
    assert refusal(town, town.memberships.kick(room_id, user("mod"), user("helper"))) == FORBIDDEN
    assert refusal(town, town.memberships.unban(room_id, BOB, user("helper"))) == FORBIDDEN
    assert refusal(town, town.memberships.unban(room_id, user("mod"), BOB)) == FORBIDDEN, "is not banned"
    town.wait(town.memberships.unban(room_id, user("mod"), user("helper"), "well then"))
    assert content(town, room_id, "helper") == {"membership": "leave", "reason": "well then"}
    # Somebody who never was here can be banned before they come, and one's own invitation taken back.
    town.ban("mod", "troll", room_id)
    assert refusal(town, town.memberships.join(room_id, user("troll"))) == FORBIDDEN
    town.wait(town.memberships.ban(room_id, user("mod"), "@troll:far.example"))
    town.invite("bob", "dan", room_id)
    assert refusal(town, town.memberships.kick(room_id, BOB, user("dan"))) == FORBIDDEN
    town.kick("mod", "dan", room_id)
    assert membership(town, room_id, "dan") == "leave"


@on_sqlite
def test_knocking(town: Town) -> None:
    room_id = room_with_rule(town, "knock")
    town.wait(town.memberships.knock(room_id, BOB))
    town.leave("bob", room_id)
    assert membership(town, room_id, "bob") == "leave"
    town.wait(town.memberships.knock(room_id, BOB, "me again"))
    town.kick("alice", "bob", room_id)
    town.wait(town.memberships.knock(room_id, BOB))
    town.invite("alice", "bob", room_id)
    assert refusal(town, town.memberships.knock(room_id, BOB)) == FORBIDDEN
    town.join("bob", room_id)
    assert refusal(town, town.memberships.knock(room_id, BOB)) == FORBIDDEN
    town.ban("alice", "bob", room_id)
    assert refusal(town, town.memberships.knock(room_id, BOB)) == FORBIDDEN


@on_sqlite
def test_invitations(town: Town) -> None:
    room_id = town.create("alice")
    town.wait(town.memberships.invite(room_id, ALICE, BOB, "come"))
    assert content(town, room_id, "bob") == {"membership": "invite", "displayname": "Bob", "reason": "come"}
    town.invite("alice", "bob", room_id)
    assert refusal(town, town.memberships.invite(room_id, BOB, CAROL)) == FORBIDDEN, "is invited, not here"
    town.join("bob", room_id)
    assert refusal(town, town.memberships.invite(room_id, ALICE, BOB)) == FORBIDDEN, "is here"
    town.send("alice", room_id, "m.room.power_levels", {"invite": 1}, "")
    assert refusal(town, town.memberships.invite(room_id, BOB, CAROL)) == FORBIDDEN
    assert refusal(town, town.memberships.invite(room_id, ALICE, "@dan:far.example")) == FORBIDDEN
    for bad in ("", "bob", "@bob", "@:", "@nul\0:test.example", "@b:" + "x" * 255, "#pub:test.example", NOWHERE):
        for work in (
            town.memberships.invite(room_id, ALICE, bad),
            town.memberships.kick(room_id, ALICE, bad),
            town.memberships.ban(room_id, ALICE, bad),
            town.memberships.unban(room_id, ALICE, bad),
        ):
            assert refusal(town, work) == (400, "M_INVALID_PARAM"), bad


# -- what outsiders learn -----------------------------------------------------------------------------------------


@on_sqlite
def test_outsiders_hear_the_same_of_rooms_that_exist_and_that_do_not(town: Town) -> None:
    secret = town.create("alice")
    log = TransactionLog(town.database, town.clock)
    sender = Sender(town.door, town.rooms, town.database, log, town.memberships, {}, town.relating.rules)
    bob = town.who("bob")
    unsendable = {"body": "x" * 70_000}

    def answers(room_id: str) -> list[tuple[int, str, str]]:
        found = []
        for work in (
            town.memberships.invite(room_id, BOB, CAROL),
            town.memberships.leave(room_id, BOB),
            town.memberships.kick(room_id, BOB, ALICE),
            town.memberships.ban(room_id, BOB, ALICE),
            town.memberships.unban(room_id, BOB, ALICE),
            town.memberships.forget(room_id, BOB),
            sender.message(bob, room_id, "m.room.message", {"body": "hi"}, "1"),
            sender.message(bob, room_id, "m.room.message", dict(unsendable), "2"),
            sender.message(bob, room_id, "m.room.message", {"body": 1.5}, "3"),
            sender.message(bob, room_id, "m.room.redaction", {"redacts": "$x"}, "4"),
            sender.redact(bob, room_id, "$x", {}, "5"),
            sender.state(BOB, room_id, "m.room.topic", "", {"topic": "x"}),
            sender.state(BOB, room_id, "m.room.topic", "", dict(unsendable)),
            sender.state(BOB, room_id, "m.room.topic", BOB, {"topic": 1.5}),
            sender.state(BOB, room_id, "m.room.create", "", {}),
            sender.state(BOB, room_id, "m.room.member", BOB, {"membership": "leave"}),
            sender.state(BOB, room_id, "m.room.member", CAROL, {"membership": "invite"}),
            sender.state(BOB, room_id, "m.room.member", ALICE, {"membership": "ban"}),
        ):
            with pytest.raises(MatrixError) as caught:
                town.wait(work)
            found.append((caught.value.status, caught.value.errcode, caught.value.error))
        return found

    heard = answers(NOWHERE)
    assert {(status, errcode) for status, errcode, _ in heard} == {FORBIDDEN}
    assert answers(secret) == heard == answers("!nul\0:test.example") == answers("no room id at all")


@on_sqlite
def test_joining_the_unknown(town: Town) -> None:
    for room_id in (NOWHERE, "", "!nul\0:x", "!" + "x" * 10_240):
        with pytest.raises(NotFound):
            town.wait(town.memberships.join(room_id, BOB))
        with pytest.raises(NotFound):
            town.wait(town.memberships.knock(room_id, BOB))
    assert refusal(town, town.memberships.join(NOWHERE, BOB, third_party_signed={})) == FORBIDDEN


# -- forgetting ---------------------------------------------------------------------------------------------------


def test_forgetting(town: Town) -> None:
    room_id = town.create("alice", preset="public_chat")
    assert refusal(town, town.memberships.forget(room_id, BOB)) == FORBIDDEN
    town.join("bob", room_id)
    assert refusal(town, town.memberships.forget(room_id, BOB)) == (400, "M_UNKNOWN")
    town.leave("bob", room_id)
    assert town.wait(town.access.reader(room_id, BOB)).left is not None
    town.forget("bob", room_id)
    town.forget("bob", room_id)
    assert is_forgotten(town, room_id, "bob")
    with pytest.raises(Forbidden):
        town.wait(town.access.reader(room_id, BOB))
    town.join("bob", room_id)
    assert not is_forgotten(town, room_id, "bob") and town.wait(town.access.reader(room_id, BOB)).is_member
    # What others do to who has forgotten brings nothing back; only being asked in again does.
    town.kick("alice", "bob", room_id)
    town.forget("bob", room_id)
    town.ban("alice", "bob", room_id)
    assert is_forgotten(town, room_id, "bob")
    town.unban("alice", "bob", room_id)
    assert is_forgotten(town, room_id, "bob")
    with pytest.raises(Forbidden):
        town.wait(town.access.reader(room_id, BOB))
    town.invite("alice", "bob", room_id)
    assert not is_forgotten(town, room_id, "bob")
    assert refusal(town, town.memberships.forget(room_id, BOB)) == (400, "M_UNKNOWN")
    # A ban can be forgotten, too.
    town.ban("alice", "carol", room_id)
    town.forget("carol", room_id)
    assert is_forgotten(town, room_id, "carol")


def is_forgotten(town: Town, room_id: str, name: str) -> bool:
    row = town.wait(town.database.run(membership_rows.membership_of, town.room(room_id).nid, user(name)))
    assert row is not None
    return row.forgotten


@on_sqlite
def test_leaving(town: Town) -> None:
    room_id = town.create("alice", preset="public_chat")
    town.join("bob", room_id)
    town.wait(town.memberships.leave(room_id, BOB, "bored"))
    left = member(town, room_id, "bob")
    assert left.event.content == {"membership": "leave", "reason": "bored"}
    town.leave("bob", room_id)
    assert member(town, room_id, "bob").nid == left.nid, "leaving twice is leaving once"
    town.ban("alice", "bob", room_id)
    assert refusal(town, town.memberships.leave(room_id, BOB)) == FORBIDDEN
    town.leave("alice", room_id)
    assert town.room(room_id).joined_count == 0
    town.join("carol", room_id)


@on_sqlite
def test_leaving_everything(town: Town) -> None:
    rooms = [town.create("alice", preset="public_chat", invite=[CAROL]) for _ in range(3)]
    town.join("bob", rooms[0])
    town.invite("alice", "bob", rooms[1])
    town.ban("alice", "bob", rooms[2])
    door = room_with_rule(town, "knock")
    town.wait(town.memberships.knock(door, BOB))
    town.wait(town.memberships.leave_all(BOB))
    town.wait(town.memberships.leave_all(BOB))
    town.wait(town.memberships.leave_all(user("stranger")))
    assert [membership(town, room_id, "bob") for room_id in (*rooms, door)] == ["leave", "leave", "ban", "leave"]


# -- names --------------------------------------------------------------------------------------------------------


@on_sqlite
def test_a_new_name_is_said_in_every_room(town: Town) -> None:
    rooms = [town.create("alice", preset="public_chat") for _ in range(3)]
    town.join("bob", rooms[0])
    town.join("bob", rooms[1])
    town.leave("bob", rooms[1])
    town.invite("alice", "bob", rooms[2])
    renamed = attrs.evolve(town.memberships, profiles=Renamed())
    town.wait(renamed.profile_changed(BOB, "m.tz"))
    assert content(town, rooms[0], "bob")["displayname"] == "Bob"
    town.wait(renamed.profile_changed(BOB, "displayname"))
    said = [content(town, room_id, "bob") for room_id in rooms]
    assert said == [
        {"membership": "join", "displayname": "Renamed"},
        {"membership": "leave"},
        {"membership": "invite", "displayname": "Bob"},
    ]
    # What the room knows already is not said again.
    nid = member(town, rooms[0], "bob").nid
    town.wait(renamed.profile_changed(BOB, "avatar_url"))
    assert member(town, rooms[0], "bob").nid == nid
    assert town.room(rooms[0]).joined_count == 2


@on_sqlite
def test_a_room_that_refuses_the_new_name_stops_no_other(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = [town.create("alice", preset="public_chat") for _ in range(3)]
    for room_id in rooms:
        town.join("bob", room_id)
    send, renamed = town.door.send, attrs.evolve(town.memberships, profiles=Renamed())

    async def refuse_the_first(room_id: str, *what: Any, **more: Any) -> Any:
        if room_id == rooms[0]:
            raise Forbidden("kicked in this moment")
        return await send(room_id, *what, **more)

    monkeypatch.setattr(town.door, "send", refuse_the_first)
    town.wait(renamed.profile_changed(BOB, "displayname"))
    assert [content(town, room_id, "bob")["displayname"] for room_id in rooms] == ["Bob", "Renamed", "Renamed"]


# -- member events that clients word themselves -------------------------------------------------------------------


@on_sqlite
def test_a_member_event_as_state_opens_no_door(town: Town) -> None:
    club = town.create("dan", preset="public_chat")
    closed = room_with_rule(town, "restricted", allow=allow(club))
    forged = {"membership": "join", "join_authorised_via_users_server": ALICE}
    with pytest.raises(Forbidden):
        put_member(town, "bob", closed, BOB, dict(forged))
    assert membership(town, closed, "bob") is None
    with pytest.raises(Forbidden):
        put_member(town, "bob", town.create("alice"), BOB, dict(forged))
    # Who may join by the proper call may join by this one, and with a name of their choice.
    town.join("bob", club)
    put_member(town, "bob", closed, BOB, {**forged, "displayname": "Bobby", "join_authorised_via_users_server": CAROL})
    assert content(town, closed, "bob") == {
        "membership": "join", "displayname": "Bobby", "join_authorised_via_users_server": ALICE,
    }  # fmt: skip
    # A room's own nickname, set again by a client that copies the event: who vouched once need not do it again.
    put_member(town, "bob", closed, BOB, {**content(town, closed, "bob"), "displayname": "Rob"})
    assert content(town, closed, "bob") == {"membership": "join", "displayname": "Rob"}
    nid = member(town, closed, "bob").nid
    put_member(town, "bob", closed, BOB, {"membership": "join", "displayname": "Rob"})
    assert member(town, closed, "bob").nid == nid, "nothing new makes no event"


@on_sqlite
def test_a_member_event_as_state_names_nobody_who_cannot_be(town: Town) -> None:
    room_id = town.create("alice", preset="public_chat")
    for bad in ("", "bob", "@bob", "@nul\0:test.example", "@" + "x" * 255 + ":y"):
        for what in ("invite", "ban", "leave", "join"):
            with pytest.raises(InvalidParam):
                put_member(town, "alice", room_id, bad, {"membership": what})
    with pytest.raises(Forbidden):
        put_member(town, "alice", room_id, "@dan:far.example", {"membership": "invite"})
    put_member(town, "alice", room_id, "@dan:far.example", {"membership": "ban"})
    put_member(town, "alice", room_id, BOB, {"membership": "invite", "reason": "come"})
    put_member(town, "bob", room_id, BOB, {"membership": "leave"})
    put_member(town, "carol", room_id, CAROL, {"membership": "join"})
    attempts: list[tuple[str, str, dict[str, Any]]] = [
        ("alice", BOB, {"membership": "join"}), ("alice", BOB, {}), ("alice", BOB, {"membership": "odd"}),
        ("alice", BOB, {"membership": None}), ("carol", ALICE, {"membership": "ban"}), ("bob", BOB, {}),
        ("carol", CAROL, {"membership": "knock"}), ("bob", CAROL, {"membership": "invite"}),
    ]  # fmt: skip
    for name, target, words in attempts:
        with pytest.raises(MatrixError):
            put_member(town, name, room_id, target, words)
    assert [membership(town, room_id, name) for name in ("alice", "bob", "carol")] == ["join", "leave", "join"]


def test_members_of_every_kind_are_counted_alike_after_reading(town: Town) -> None:
    room_id = town.create("alice", preset="public_chat")
    for number in range(12):
        town.join(f"user{number}", room_id)
    for number in range(4):
        town.leave(f"user{number}", room_id)
    for number in range(4, 7):
        town.ban("alice", f"user{number}", room_id)
    town.invite("alice", "dan", room_id)
    before = town.room(room_id)
    town.rooms.drop(before)
    after = town.room(room_id)
    for name in ("joined_count", "invited_count", "local_joined", "servers"):
        assert getattr(before, name) == getattr(after, name)
    assert after.joined_count == 6 and after.invited_count == 1
    assert sorted(before.members()) == sorted(after.members())
