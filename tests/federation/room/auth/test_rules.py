"""Every authorisation rule of every room version, each with an event that it lets pass and one that it stops."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson
import pytest
from attrs import evolve, frozen
from nacl.signing import SigningKey

from federation.room.auth import ALLOWED, PowerLevels, Refused, check_auth, is_plain
from federation.room.auth.numbering import rule_numbers
from federation.room.event import Event, StateKey
from federation.room.identifiers import ServerName
from federation.room.versions import ROOM_VERSIONS, RoomVersion
from tests.federation.room.history import make_event

ALICE = "@alice:a"  # the creator
BOB = "@bob:b"  # in the room, with power level 50
CAROL = "@carol:c"  # in the room
DAVE = "@dave:d"  # was never in the room
ERIN = "@erin:e"  # banned
IVAN = "@ivan:i"  # invited


@frozen
class Told:
    """An event as a test tells it."""

    type: str
    sender: str
    content: Mapping[str, Any]
    state_key: str | None = None
    name: str = "EVENT"
    prev: tuple[str, ...] = ("LAST",)
    redacts: str | None = None
    event_id: str | None = None
    room_id: str | None = None

    def write(self, version: RoomVersion) -> Event:
        content = dict(self.content)
        if self.type == "m.room.create" and not version.creator_is_sender:
            content.setdefault("creator", self.sender)
        if self.type == "m.room.power_levels" and not version.privileged_creators and "users" in content:
            content["users"] = {ALICE: 100, **content["users"]} if isinstance(content["users"], dict) else None
        content = {key: value for key, value in content.items() if value is not ABSENT}
        event = make_event(
            version,
            self.name,
            self.type,
            self.sender,
            content,
            state_key=self.state_key,
            prev=self.prev,
            redacts=self.redacts,
            room_id=self.room_id,
        )
        if self.event_id is not None:
            event.event_id = self.event_id
        return event


ABSENT = object()


@frozen
class Scene:
    """An event, and what the room's state has that is not as in `ORDINARY`. None for what it has not."""

    event: Told
    state: Mapping[StateKey, Told | None]

    def judge(self, version: RoomVersion, **given: Any) -> Any:
        state: dict[StateKey, Told | None] = {**ORDINARY, **self.state}

        def lookup(event_type: str, state_key: str) -> Event | None:
            told = state.get((event_type, state_key))
            return told.write(version) if told is not None else None

        return check_auth(version, self.event.write(version), lookup, **given)


def create(**content: Any) -> Told:
    return Told("m.room.create", ALICE, content, "", name="CREATE", prev=())


def member(sender: str, membership: Any, of: str | None = None, prev: str = "LAST", **content: Any) -> Told:
    return Told("m.room.member", sender, {"membership": membership, **content}, of or sender, prev=(prev,))


def power(by: str = ALICE, **content: Any) -> Told:
    return Told("m.room.power_levels", by, content, "")


def join_rule(rule: str) -> Told:
    return Told("m.room.join_rules", ALICE, {"join_rule": rule}, "")


def message(sender: str, type: str = "m.room.message") -> Told:
    return Told(type, sender, {})


def state_event(sender: str, state_key: str, type: str = "org.example") -> Told:
    return Told(type, sender, {}, state_key)


def given(event: Told, *state: Told, without: tuple[StateKey, ...] = ()) -> Scene:
    return Scene(event, {(told.type, told.state_key or ""): told for told in state} | dict.fromkeys(without))


ORDINARY: dict[StateKey, Told | None] = {
    (told.type, told.state_key or ""): told
    for told in (
        create(),
        power(users={BOB: 50}),
        join_rule("invite"),
        member(ALICE, "join"),
        member(BOB, "join"),
        member(CAROL, "join"),
        member(ALICE, "ban", ERIN),
        member(ALICE, "invite", IVAN),
    )
}
NEW: tuple[StateKey, ...] = tuple(key for key in ORDINARY if key[0] != "m.room.create")
"""What a room does not have yet that has only been created."""

POWER: StateKey = ("m.room.power_levels", "")

# Third-party invites: Bob invited whoever owns an address, and Dave does.
KEY = SigningKey(bytes(range(32)))
OTHER_KEY = SigningKey(bytes(range(1, 33)))


def base64(data: bytes) -> str:
    return b64encode(data).decode().rstrip("=")


def signed(mxid: Any = DAVE, token: Any = "TOKEN", key: SigningKey = KEY, key_id: str = "ed25519:0") -> dict[str, Any]:
    claims = {name: value for name, value in (("mxid", mxid), ("token", token)) if value is not ABSENT}
    signature = key.sign(orjson.dumps(claims, option=orjson.OPT_SORT_KEYS)).signature
    return {**claims, "signatures": {"identity.example": {key_id: base64(signature)}}}


def answer(sender: str = BOB, of: str = DAVE, **content: Any) -> Told:
    return member(sender, "invite", of, third_party_invite=content)


def offer(sender: str = BOB, **content: Any) -> Told:
    content = content or {"public_key": base64(KEY.verify_key.encode())}
    return Told("m.room.third_party_invite", sender, content, "TOKEN")


@frozen
class Rule:
    """A rule by its name, an event that gets past it or is allowed by it, and one that it stops.

    A rule that only allows stops nothing: then `by` is the rule after it that does.
    """

    name: str
    allowed: Scene
    refused: Scene
    by: str | None = None
    when: Callable[[RoomVersion], object] = lambda version: True

    def versions(self) -> Iterator[RoomVersion]:
        for version in ROOM_VERSIONS.values():
            if self.name in rule_numbers(version) and self.when(version):
                yield version


RULES = [
    # 1: the create event
    Rule("create.prev_events", given(create()), given(evolve(create(), prev=("LAST",)))),
    Rule(
        "create.room_id",
        given(create()),
        given(evolve(create(), sender="@alice:other")),
        when=lambda version: not version.room_id_is_hash,
    ),
    Rule(
        "create.room_id",
        given(create()),
        given(evolve(create(), room_id="!other:a")),
        when=lambda version: version.room_id_is_hash,
    ),
    Rule("create.version", given(create(room_version="1")), given(create(room_version="0.1"))),
    Rule("create.version", given(create()), given(create(room_version=1))),
    Rule("create.creator", given(create(creator=ALICE)), given(create(creator=ABSENT))),
    Rule("create.creators", given(create(additional_creators=[BOB])), given(create(additional_creators=[BOB, "bob"]))),
    Rule("create.creators", given(create(additional_creators=[])), given(create(additional_creators=BOB))),
    Rule("create.creators", given(create(additional_creators=[])), given(create(additional_creators=[1]))),
    Rule("create.creators", given(create()), given(create(additional_creators=None))),
    # 2 (version 12): the room has an accepted create event
    Rule("room", given(message(BOB)), given(message(BOB), evolve(create(), name="OTHER"))),
    Rule("room", given(message(BOB)), given(message(BOB), without=(("m.room.create", ""),))),
    Rule("citations.create", given(message(BOB)), given(message(BOB), without=(("m.room.create", ""),))),
    # federation
    Rule(
        "federate",
        given(message(BOB), create(**{"m.federate": True})),
        given(message(BOB), create(**{"m.federate": False})),
    ),
    Rule(
        "federate",
        given(message(ALICE), create(**{"m.federate": False})),
        given(member(DAVE, "join"), create(**{"m.federate": False})),
    ),
    # 4 (versions 1 to 5): aliases
    Rule("aliases.state_key", given(state_event(DAVE, "d", "m.room.aliases")), given(message(DAVE, "m.room.aliases"))),
    Rule(
        "aliases.domain",
        given(state_event(DAVE, "d", "m.room.aliases")),
        given(state_event(DAVE, "e", "m.room.aliases")),
    ),
    # members
    Rule("member.shape", given(member(CAROL, "leave")), given(Told("m.room.member", CAROL, {"membership": "leave"}))),
    Rule("member.shape", given(member(CAROL, "leave")), given(member(CAROL, ABSENT))),
    Rule(
        "member.authorised.signature",
        given(member(CAROL, "leave", join_authorised_via_users_server=BOB)),
        given(member(CAROL, "leave", join_authorised_via_users_server="bob")),
    ),
    Rule(
        "member.authorised.signature",
        given(member(CAROL, "leave")),
        given(member(CAROL, "leave", join_authorised_via_users_server=None)),
    ),
    # joins
    Rule(
        "member.join.first",
        given(member(ALICE, "join", prev="CREATE"), without=NEW),
        given(member(ALICE, "join", prev="OTHER"), without=NEW),
        by="member.join.otherwise",
    ),
    Rule(
        "member.join.first",
        given(member(ALICE, "join", prev="CREATE"), without=NEW),
        given(member(BOB, "join", prev="CREATE"), without=NEW),
        by="member.join.otherwise",
    ),
    Rule(
        "member.join.first",
        given(member(ALICE, "join", prev="CREATE"), without=NEW),
        given(evolve(member(ALICE, "join"), prev=("CREATE", "OTHER")), without=NEW),
        by="member.join.otherwise",
    ),
    Rule(
        "member.join.first",
        given(member(BOB, "join", prev="CREATE"), create(creator=BOB), without=NEW),
        given(member(ALICE, "join", prev="CREATE"), create(creator=BOB), without=NEW),
        by="member.join.otherwise",
        when=lambda version: not version.creator_is_sender,
    ),
    Rule(
        "member.join.first",
        given(member(ALICE, "join", prev="CREATE"), create(creator=BOB, additional_creators=[BOB]), without=NEW),
        given(member(BOB, "join", prev="CREATE"), create(creator=BOB, additional_creators=[BOB]), without=NEW),
        by="member.join.otherwise",
        when=lambda version: version.creator_is_sender,
    ),
    Rule("member.join.sender", given(member(IVAN, "join")), given(member(BOB, "join", of=IVAN))),
    Rule(
        "member.join.banned",
        given(member(IVAN, "join"), join_rule("public")),
        given(member(ERIN, "join"), join_rule("public")),
    ),
    Rule("member.join.invited", given(member(IVAN, "join")), given(member(DAVE, "join")), by="member.join.otherwise"),
    Rule("member.join.invited", given(member(CAROL, "join")), given(member(DAVE, "join")), by="member.join.otherwise"),
    Rule(
        "member.join.invited",
        given(member(IVAN, "join"), without=(("m.room.join_rules", ""),)),
        given(member(DAVE, "join"), without=(("m.room.join_rules", ""),)),
        by="member.join.otherwise",
    ),
    Rule(
        "member.join.invited",
        given(member(IVAN, "join"), join_rule("knock")),
        given(member(DAVE, "join"), join_rule("knock"), member(DAVE, "knock")),
        by="member.join.otherwise",
        when=lambda version: version.knock,
    ),
    Rule(
        "member.join.restricted.member",
        given(member(IVAN, "join"), join_rule("restricted")),
        given(member(DAVE, "join"), join_rule("restricted")),
        by="member.join.restricted.authorised",
    ),
    Rule(
        "member.join.restricted.member",
        given(member(CAROL, "join"), join_rule("knock_restricted")),
        given(member(DAVE, "join"), join_rule("knock_restricted")),
        by="member.join.restricted.authorised",
        when=lambda version: version.knock_restricted,
    ),
    Rule(
        "member.join.restricted.authorised",
        given(member(DAVE, "join", join_authorised_via_users_server=BOB), join_rule("restricted")),
        given(member(DAVE, "join", join_authorised_via_users_server=IVAN), join_rule("restricted")),
    ),
    Rule(
        "member.join.restricted.authorised",
        given(
            member(DAVE, "join", join_authorised_via_users_server=BOB),
            join_rule("restricted"),
            power(users={BOB: 5}, invite=5),
        ),
        given(
            member(DAVE, "join", join_authorised_via_users_server=BOB),
            join_rule("restricted"),
            power(users={BOB: 4}, invite=5),
        ),
    ),
    Rule(
        "member.join.public",
        given(member(DAVE, "join"), join_rule("public")),
        given(member(DAVE, "join")),
        by="member.join.otherwise",
    ),
    Rule("member.join.otherwise", given(member(CAROL, "join")), given(member(CAROL, "join"), join_rule("private"))),
    # invites
    Rule(
        "member.invite.third_party.banned",
        given(answer(signed=signed()), offer()),
        given(answer(signed=signed()), offer(), member(BOB, "ban", DAVE)),
    ),
    Rule(
        "member.invite.third_party.signed",
        given(answer(signed=signed()), offer()),
        given(answer(display_name="d..."), offer()),
    ),
    Rule(
        "member.invite.third_party.signed",
        given(answer(signed=signed()), offer()),
        given(member(BOB, "invite", DAVE, third_party_invite=None), offer()),
    ),
    Rule(
        "member.invite.third_party.fields",
        given(answer(signed=signed()), offer()),
        given(answer(signed=signed(mxid=ABSENT)), offer()),
    ),
    Rule(
        "member.invite.third_party.fields",
        given(answer(signed=signed()), offer()),
        given(answer(signed=signed(token=ABSENT)), offer()),
    ),
    Rule(
        "member.invite.third_party.mxid",
        given(answer(signed=signed()), offer()),
        given(answer(signed=signed(mxid=IVAN)), offer()),
    ),
    Rule(
        "member.invite.third_party.token",
        given(answer(signed=signed()), offer()),
        given(answer(signed=signed(token="OTHER")), offer()),
    ),
    Rule(
        "member.invite.third_party.sender",
        given(answer(signed=signed()), offer()),
        given(answer(sender=CAROL, signed=signed()), offer()),
    ),
    Rule(
        "member.invite.third_party.signature",
        given(
            answer(signed=signed()),
            offer(
                public_keys=[
                    {"public_key": base64(OTHER_KEY.verify_key.encode())},
                    {"public_key": base64(KEY.verify_key.encode())},
                ]
            ),
        ),
        given(answer(signed=signed()), offer(public_keys=[{"public_key": base64(OTHER_KEY.verify_key.encode())}])),
        by="member.invite.third_party.otherwise",
    ),
    Rule(
        "member.invite.third_party.signature",
        given(answer(signed=signed(key_id="ed25519:1")), offer()),
        given(answer(signed=signed(key_id="rsa:1")), offer()),
        by="member.invite.third_party.otherwise",
    ),
    Rule(
        "member.invite.third_party.otherwise",
        given(answer(signed=signed()), offer()),
        given(answer(signed=signed(key=OTHER_KEY)), offer()),
    ),
    Rule(
        "member.invite.third_party.otherwise",
        given(answer(signed=signed()), offer()),
        given(answer(signed={**signed(), "extra": 1}), offer()),
    ),
    Rule("member.invite.sender", given(member(BOB, "invite", DAVE)), given(member(IVAN, "invite", DAVE))),
    Rule("member.invite.target", given(member(BOB, "invite", DAVE)), given(member(BOB, "invite", CAROL))),
    Rule("member.invite.target", given(member(BOB, "invite", IVAN)), given(member(BOB, "invite", ERIN))),
    Rule(
        "member.invite.level",
        given(member(BOB, "invite", DAVE), power(users={BOB: 5}, invite=5)),
        given(member(BOB, "invite", DAVE), power(users={BOB: 4}, invite=5)),
        by="member.invite.otherwise",
    ),
    Rule(
        "member.invite.otherwise",
        given(member(CAROL, "invite", DAVE)),
        given(member(CAROL, "invite", DAVE), power(invite=1)),
    ),
    # leaving, kicks and unbans
    Rule("member.leave.own", given(member(IVAN, "leave")), given(member(DAVE, "leave"))),
    Rule("member.leave.own", given(member(CAROL, "leave")), given(member(ERIN, "leave"))),
    Rule("member.leave.sender", given(member(BOB, "leave", CAROL)), given(member(IVAN, "leave", CAROL))),
    Rule(
        "member.leave.banned",
        given(member(BOB, "leave", ERIN), power(users={BOB: 50}, ban=50)),
        given(member(BOB, "leave", ERIN), power(users={BOB: 50}, ban=51)),
    ),
    Rule(
        "member.leave.level",
        given(member(BOB, "leave", CAROL)),
        given(member(CAROL, "leave", BOB)),
        by="member.leave.otherwise",
    ),
    Rule(
        "member.leave.level",
        given(member(BOB, "leave", CAROL), power(users={BOB: 50, CAROL: 49}, kick=50)),
        given(member(BOB, "leave", CAROL), power(users={BOB: 50, CAROL: 50}, kick=50)),
        by="member.leave.otherwise",
    ),
    Rule(
        "member.leave.otherwise",
        given(member(BOB, "leave", CAROL)),
        given(member(BOB, "leave", CAROL), power(users={BOB: 50}, kick=51)),
    ),
    # bans
    Rule("member.ban.sender", given(member(BOB, "ban", CAROL)), given(member(IVAN, "ban", CAROL))),
    Rule(
        "member.ban.level",
        given(member(BOB, "ban", DAVE)),
        given(member(CAROL, "ban", DAVE)),
        by="member.ban.otherwise",
    ),
    Rule(
        "member.ban.level",
        given(member(BOB, "ban", CAROL), power(users={BOB: 50, CAROL: 49})),
        given(member(BOB, "ban", CAROL), power(users={BOB: 50, CAROL: 50})),
        by="member.ban.otherwise",
    ),
    Rule("member.ban.otherwise", given(member(ALICE, "ban", BOB)), given(member(BOB, "ban", ALICE))),
    # knocks
    Rule("member.knock.join_rule", given(member(DAVE, "knock"), join_rule("knock")), given(member(DAVE, "knock"))),
    Rule(
        "member.knock.join_rule",
        given(member(DAVE, "knock"), join_rule("knock_restricted")),
        given(member(DAVE, "knock"), join_rule("restricted")),
        when=lambda version: version.knock_restricted,
    ),
    Rule(
        "member.knock.sender",
        given(member(DAVE, "knock"), join_rule("knock")),
        given(member(BOB, "knock", DAVE), join_rule("knock")),
    ),
    Rule(
        "member.knock.membership",
        given(member(DAVE, "knock"), join_rule("knock")),
        given(member(ERIN, "knock"), join_rule("knock")),
        by="member.knock.otherwise",
    ),
    Rule(
        "member.knock.membership",
        given(member(DAVE, "knock"), join_rule("knock"), member(DAVE, "knock")),
        given(member(IVAN, "knock"), join_rule("knock")),
        by="member.knock.otherwise",
    ),
    Rule(
        "member.knock.otherwise",
        given(member(DAVE, "knock"), join_rule("knock")),
        given(member(CAROL, "knock"), join_rule("knock")),
    ),
    Rule("member.unknown", given(member(CAROL, "join")), given(member(CAROL, "dance"))),
    Rule("member.unknown", given(member(CAROL, "join")), given(member(CAROL, None))),
    Rule("member.unknown", given(member(CAROL, "join")), given(member(CAROL, ["join"]))),
    # whoever is not in the room says nothing else in it
    Rule("sender", given(message(CAROL)), given(message(DAVE))),
    Rule("sender", given(message(CAROL)), given(message(IVAN))),
    Rule(
        "third_party_invite.level",
        given(offer(), power(users={BOB: 5}, invite=5)),
        given(offer(), power(users={BOB: 4}, invite=5)),
    ),
    # what events need
    Rule("level", given(message(CAROL)), given(message(CAROL), power(events_default=1))),
    Rule(
        "level",
        given(message(CAROL), power(events={"m.room.message": 0}, events_default=1)),
        given(message(CAROL), power(events={"m.room.message": 1})),
    ),
    Rule("level", given(state_event(BOB, "")), given(state_event(CAROL, ""))),
    Rule("level", given(state_event(ALICE, ""), without=(POWER,)), given(state_event(BOB, ""), without=(POWER,))),
    Rule("state_key", given(state_event(BOB, BOB)), given(state_event(BOB, CAROL))),
    Rule("state_key", given(state_event(BOB, "_@carol:c")), given(state_event(BOB, "@"))),
    # power levels
    Rule("power_levels.integers", given(power(users_default=1)), given(power(users_default="1"))),
    Rule("power_levels.integers", given(power(ban=1)), given(power(ban=None))),
    Rule("power_levels.integers", given(power(kick=1)), given(power(kick=True))),
    Rule("power_levels.maps", given(power(events={"m": 1})), given(power(events={"m": "1"}))),
    Rule("power_levels.maps", given(power(notifications={"room": 1})), given(power(notifications=[]))),
    Rule("power_levels.users", given(power(users={BOB: 1})), given(power(users=[]))),
    Rule("power_levels.users", given(power(users={BOB: 1})), given(power(users={"bob": 1}))),
    Rule("power_levels.users", given(power(users={BOB: 1})), given(power(users={BOB: None}))),
    Rule("power_levels.users", given(power(users={BOB: 1})), given(power(users={BOB: True}))),
    Rule("power_levels.creators", given(power(users={BOB: 1})), given(power(users={ALICE: 1}))),
    Rule(
        "power_levels.creators", given(power(users={})), given(power(users={BOB: 1}), create(additional_creators=[BOB]))
    ),
    Rule(
        "power_levels.creators",
        given(power(users={BOB: 1}), without=(POWER,)),
        given(power(users={ALICE: 1}), without=(POWER,)),
    ),
    Rule(
        "power_levels.first",
        given(power(users={BOB: 60}, ban=60), without=(POWER,)),
        given(power(BOB, users={BOB: 50}, ban=60)),
        by="power_levels.settings.new",
    ),
    Rule(
        "power_levels.settings.current",
        given(power(BOB, users={BOB: 50}), power(users={BOB: 50}, users_default=50)),
        given(power(BOB, users={BOB: 50}), power(users={BOB: 50}, redact=51)),
    ),
    Rule(
        "power_levels.settings.current",
        given(power(BOB, users={BOB: 50}, invite=51), power(users={BOB: 50}, invite=51)),
        given(power(BOB, users={BOB: 50}, invite=50), power(users={BOB: 50}, invite=51)),
    ),
    Rule(
        "power_levels.settings.new",
        given(power(BOB, users={BOB: 50}, kick=50)),
        given(power(BOB, users={BOB: 50}, kick=51)),
    ),
    Rule(
        "power_levels.entries_current.level",
        given(power(BOB, users={BOB: 50}), power(users={BOB: 50}, events={"m": 50})),
        given(power(BOB, users={BOB: 50}), power(users={BOB: 50}, events={"m": 51})),
    ),
    Rule(
        "power_levels.entries_current.level",
        given(power(BOB, users={BOB: 50}), power(users={BOB: 50}, notifications={"room": 50})),
        given(power(BOB, users={BOB: 50}), power(users={BOB: 50}, notifications={"room": 51})),
        when=lambda version: version.notifications_auth,
    ),
    Rule(
        "power_levels.entries_new.level",
        given(power(BOB, users={BOB: 50}, events={"m": 50})),
        given(power(BOB, users={BOB: 50}, events={"m": 51})),
    ),
    Rule(
        "power_levels.entries_new.level",
        given(power(BOB, users={BOB: 50}, notifications={"room": 50})),
        given(power(BOB, users={BOB: 50}, notifications={"room": 51})),
        when=lambda version: version.notifications_auth,
    ),
    Rule(
        "power_levels.users_current.level",
        given(power(BOB, users={BOB: 50}), power(users={BOB: 50, CAROL: 49})),
        given(power(BOB, users={BOB: 50}), power(users={BOB: 50, CAROL: 50})),
    ),
    Rule(
        "power_levels.users_current.level",
        given(power(BOB, users={BOB: 49})),
        given(power(BOB, users={BOB: 49, CAROL: 49}), power(users={BOB: 50, CAROL: 50})),
    ),
    Rule(
        "power_levels.users_new.level",
        given(power(BOB, users={BOB: 50, CAROL: 50})),
        given(power(BOB, users={BOB: 50, CAROL: 51})),
    ),
    Rule("power_levels.users_new.level", given(power(BOB, users={})), given(power(BOB, users={BOB: 51}))),
    # 11 (versions 1 and 2): redactions
    Rule(
        "redaction.level",
        given(evolve(message(BOB, "m.room.redaction"), redacts="$x:c", event_id="$r:b")),
        given(evolve(message(BOB, "m.room.redaction"), redacts="$x:c", event_id="$r:b"), power(users={BOB: 49})),
        by="redaction.otherwise",
    ),
    Rule(
        "redaction.domain",
        given(evolve(message(CAROL, "m.room.redaction"), redacts="$x:c", event_id="$r:c")),
        given(evolve(message(CAROL, "m.room.redaction"), redacts="$x:b", event_id="$r:c")),
        by="redaction.otherwise",
    ),
    Rule(
        "redaction.otherwise",
        given(evolve(message(CAROL, "m.room.redaction"), redacts="$x:c", event_id="$r:c")),
        given(evolve(message(CAROL, "m.room.redaction"), redacts=None, event_id="$r:c")),
    ),
]

ROWS = [
    pytest.param(version, rule, id=f"{version}-{rule_numbers(version)[rule.name]}-{rule.name}-{place}")
    for place, rule in enumerate(RULES)
    for version in rule.versions()
]


@pytest.mark.parametrize(("version", "rule"), ROWS)
def test_what_the_rule_lets_pass(version: RoomVersion, rule: Rule) -> None:
    assert rule.allowed.judge(version) == ALLOWED


@pytest.mark.parametrize(("version", "rule"), ROWS)
def test_what_the_rule_stops(version: RoomVersion, rule: Rule) -> None:
    verdict = rule.refused.judge(version)
    assert isinstance(verdict, Refused)
    assert verdict.rule == rule_numbers(version)[rule.by or rule.name], verdict


@pytest.mark.parametrize(("version", "rule"), ROWS)
def test_what_the_rules_do_not_look_at_in_plain_events(version: RoomVersion, rule: Rule) -> None:
    for scene in (rule.allowed, rule.refused):
        event = scene.event
        if is_plain(event.write(version)):
            key = None if event.state_key is None else event.state_key + " another"
            content = {"membership": "ban", "users": {CAROL: 100}, "events": 5, "join_rule": "public"}
            other = evolve(event, content=content, state_key=key, name="OTHER", prev=(), redacts="$x:y")
            assert evolve(scene, event=other).judge(version) == scene.judge(version)


@pytest.mark.parametrize("version", ROOM_VERSIONS.values(), ids=str)
def test_no_rule_was_forgotten(version: RoomVersion) -> None:
    names = set(rule_numbers(version))
    leaves = {name for name in names if not any(other.startswith(name + ".") for other in names)}
    about_citations = {name for name in leaves if name.startswith("citations.")}  # see test_selection.py
    assert leaves - about_citations <= {rule.name for rule in RULES if version in rule.versions()}


@frozen
class Difference:
    """An event that some versions allow and others do not."""

    scene: Scene
    allowed: str
    refused: str


DIFFERENCES = {
    "creators have no rank above levels": Difference(
        given(member(BOB, "ban", ALICE), power(users={ALICE: 0, BOB: 50})), "1 2 3 4 5 6 7 8 9 10 11", "12"
    ),
    "additional creators have infinite power": Difference(
        given(power(CAROL, ban=10**9), create(additional_creators=[CAROL])), "12", "1 2 3 4 5 6 7 8 9 10 11"
    ),
    "a creator cannot remove another": Difference(
        given(member(ALICE, "ban", CAROL), create(additional_creators=[CAROL])), "1 2 3 4 5 6 7 8 9 10 11", "12"
    ),
    "without power levels, creators have 100": Difference(
        given(state_event(ALICE, ""), without=(POWER,)), "1 2 3 4 5 6 7 8 9 10 11 12", ""
    ),
    "aliases are sent by outsiders": Difference(
        given(state_event(DAVE, "d", "m.room.aliases")), "1 2 3 4 5", "6 7 8 9 10 11 12"
    ),
    "aliases are ordinary state": Difference(
        given(state_event(BOB, "of another", "m.room.aliases")), "6 7 8 9 10 11 12", "1 2 3 4 5"
    ),
    "redactions of others' events": Difference(
        given(evolve(message(CAROL, "m.room.redaction"), redacts="$x:b", event_id="$r:c")),
        "3 4 5 6 7 8 9 10 11 12",
        "1 2",
    ),
    "notification levels": Difference(
        given(power(BOB, users={BOB: 50}, notifications={"room": 60})), "1 2 3 4 5", "6 7 8 9 10 11 12"
    ),
    "knocking": Difference(given(member(DAVE, "knock"), join_rule("knock")), "7 8 9 10 11 12", "1 2 3 4 5 6"),
    "joining by invite where people knock": Difference(
        given(member(IVAN, "join"), join_rule("knock")), "7 8 9 10 11 12", "1 2 3 4 5 6"
    ),
    "taking back a knock": Difference(
        given(member(DAVE, "leave"), member(DAVE, "knock")), "7 8 9 10 11 12", "1 2 3 4 5 6"
    ),
    "joining by a restricted rule": Difference(
        given(member(DAVE, "join", join_authorised_via_users_server=BOB), join_rule("restricted")),
        "8 9 10 11 12",
        "1 2 3 4 5 6 7",
    ),
    "joining by a rule that is both": Difference(
        given(member(DAVE, "join", join_authorised_via_users_server=BOB), join_rule("knock_restricted")),
        "10 11 12",
        "1 2 3 4 5 6 7 8 9",
    ),
    "knocking by a rule that is both": Difference(
        given(member(DAVE, "knock"), join_rule("knock_restricted")), "10 11 12", "1 2 3 4 5 6 7 8 9"
    ),
    "levels as strings": Difference(given(power(ban="50", users={BOB: " +050 "})), "1 2 3 4 5 6 7 8 9", "10 11 12"),
    "levels as floats": Difference(given(power(users={BOB: 5.7e1})), "1 2 3 4 5", "6 7 8 9 10 11 12"),
    "null for the default": Difference(given(power(ban=None, events=None)), "1 2 3 4 5 6 7 8 9", "10 11 12"),
    "levels that are nonsense": Difference(given(power(ban="many")), "", "1 2 3 4 5 6 7 8 9 10 11 12"),
    "the creator is whom the content names": Difference(
        given(state_event(BOB, ""), create(creator=BOB), without=(POWER,)), "1 2 3 4 5 6 7 8 9 10", "11 12"
    ),
    "a create event without creator": Difference(given(create(creator=ABSENT)), "11 12", "1 2 3 4 5 6 7 8 9 10"),
    "a create event with nonsense for additional creators": Difference(
        given(create(additional_creators=7)), "1 2 3 4 5 6 7 8 9 10 11", "12"
    ),
}


@pytest.mark.parametrize("difference", DIFFERENCES.values(), ids=DIFFERENCES)
def test_versions_differ(difference: Difference) -> None:
    allowed = [version.identifier for version in ROOM_VERSIONS.values() if difference.scene.judge(version)]
    assert allowed == difference.allowed.split()
    assert set(ROOM_VERSIONS) == {*difference.allowed.split(), *difference.refused.split()}


@pytest.mark.parametrize("valid", [True, False])
def test_the_signature_of_a_restricted_join_is_asked_for(valid: bool) -> None:
    asked: list[tuple[str, ServerName]] = []

    def signed_by(event: Event, server: ServerName) -> bool:
        asked.append((event.event_id, server))
        return valid

    scene = given(member(DAVE, "join", join_authorised_via_users_server=BOB), join_rule("restricted"))
    verdict = scene.judge(ROOM_VERSIONS["11"], signed_by=signed_by)
    assert bool(verdict) is valid
    assert asked == [("$EVENT", "b")]


def test_power_that_is_passed_is_not_read_again() -> None:
    version = ROOM_VERSIONS["11"]
    power_levels = PowerLevels.parse(version, create().write(version), power(events_default=5).write(version))
    assert not given(message(CAROL)).judge(version, power=power_levels)


def test_third_party_signatures_are_tried_up_to_a_limit() -> None:
    keys = [{"public_key": base64(n.to_bytes(32))} for n in range(2_000)]
    valid = {"public_key": base64(KEY.verify_key.encode())}
    version = ROOM_VERSIONS["11"]
    assert given(answer(signed=signed()), offer(public_keys=[valid, *keys])).judge(version)
    assert not given(answer(signed=signed()), offer(public_keys=[*keys, valid])).judge(version)


@pytest.mark.parametrize("nonsense", [None, 5, "x", [], {}, {"ed25519:0": 5}, {"ed25519:0": "!"}])
def test_signatures_that_make_no_sense(nonsense: object) -> None:
    version = ROOM_VERSIONS["11"]
    for signatures in (nonsense, {"server": nonsense}):
        scene = given(answer(signed={**signed(), "signatures": signatures}), offer())
        assert not scene.judge(version)
    assert not given(answer(signed=signed()), offer(public_key=nonsense, public_keys=nonsense)).judge(version)


@pytest.mark.parametrize(
    "encode",
    [base64, lambda data: b64encode(data).decode(), lambda data: base64(data).translate(str.maketrans("+/", "-_"))],
)
def test_public_keys_come_in_any_base64(encode: Callable[[bytes], str]) -> None:
    for seed in range(20):  # so that all of the alphabet occurs
        key = SigningKey(bytes([seed]) * 32)
        scene = given(answer(signed=signed(key=key)), offer(public_key=encode(key.verify_key.encode())))
        assert scene.judge(ROOM_VERSIONS["12"])


def test_refusals_are_false_and_tell_the_rule() -> None:
    verdict = given(member(ERIN, "join")).judge(ROOM_VERSIONS["12"])
    assert verdict == Refused("5.3.3", "the user is banned")
    assert not verdict
    assert str(verdict) == "rule 5.3.3: the user is banned"
    assert ALLOWED


def test_state_of_any_shape_is_survived() -> None:
    """State that was accepted under other rules, or redacted, must never make a judgement fail."""
    nonsense: list[object] = [None, 5, "x", [], {}, [{}], {"@bob:b": None}]
    for version in ROOM_VERSIONS.values():
        for value in nonsense:
            levels = power(**json.loads(json.dumps(dict.fromkeys(("users", "events", "ban", "notifications"), value))))
            state = [levels, Told("m.room.join_rules", ALICE, {"join_rule": value}, "")]
            for told in (message(CAROL), member(DAVE, "join"), member(BOB, "ban", CAROL), power(BOB, users={BOB: 50})):
                given(told, *state).judge(version)
            given(message(CAROL), member(CAROL, value)).judge(version)


def test_a_create_event_was_signed_without_a_room_id() -> None:
    version = ROOM_VERSIONS["12"]
    event = create().write(version)
    event.raw = orjson.dumps({**event.to_json(), "room_id": event.room_id})
    assert check_auth(version, event, lambda event_type, state_key: None) == Refused("1.2", "it has a room id")
