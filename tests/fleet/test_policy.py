"""Rooms with a policy server: its signature on everything, its word for what is not wanted, and its absence."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from twisted.internet.defer import Deferred

from federation.outbound.transport import PeerError, Refused, Request, Response
from federation.room.event import Event
from federation.room.policy import KEY_ID, POLICY
from homeserver.errors import MatrixError
from homeserver.http.route import Requester
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.policy.desk import Desk
from homeserver.rooms.policy.guard import SAFETY
from homeserver.rooms.send import Sender
from storage.events import load_by_ids
from tests.fixtures_fleet import Fleet, Member

SIGN = "/_matrix/policy/v1/sign"
VERSIONS = ["1", "2", "5", "6", "11", "12"]


class NoSpam:
    """A rule that dislikes a word, and writes down what it was shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    async def __call__(self, room: LiveRoom, origin: str, event: Event) -> str | None:
        self.shown.append(event.type)
        return "that looks like spam" if "spam" in str(event.content.get("body")) else None


def desk_of(member: Member) -> Desk:
    return member.house.part(Desk)


def meet(fleet: Fleet, *names: str, version: str = "12", policy: str = "p") -> tuple[str, list[Member]]:
    """A room of ann's on the first server; a person of each other server is in it. Then p is its policy server."""
    fleet.federation["p.example"] = {"policy_key_path": str(fleet.directory / "policy.key")}
    members = fleet.open(*names)
    first = members[0]
    levels = {"events": {"m.room.policy": 50, "m.room.topic": 0}}
    room_id = first.create("ann", preset="public_chat", room_version=version, power_level_content_override=levels)
    for member in members[1:]:
        member.enter("bob", room_id, first)
    fleet.settle()
    choose(first, room_id, fleet.members[f"{policy}.example"])
    fleet.settle()
    return room_id, members


def choose(member: Member, room_id: str, policy: Member) -> str:
    content = {"via": policy.name, "public_keys": {"ed25519": desk_of(policy).public_key}}
    return member.set_state("ann", room_id, "m.room.policy", content)


def signatures(member: Member, event_id: str) -> dict[str, list[str]]:
    stored = member.wait(member.house.database.run(load_by_ids, [event_id]))[event_id]
    return {server: sorted(keys) for server, keys in orjson.loads(stored.event.raw)["signatures"].items()}


def outcome_of(member: Member, event_id: str) -> str:
    stored = member.wait(member.house.database.run(load_by_ids, [event_id])).get(event_id)
    if stored is None:
        return "unknown"
    return "soft-failed" if stored.soft_failed else "rejected" if stored.rejected else "accepted"


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_carries_its_signature(fleet: Fleet, version: str) -> None:
    room_id, (a, p, c) = meet(fleet, "a", "p", "c", version=version)
    said = a.say("ann", room_id, "hello")
    topic = a.set_state("ann", room_id, "m.room.topic", {"topic": "x"})
    fleet.settle()
    answer = c.say("bob", room_id, "hello yourself")
    fleet.settle()
    own = p.say("bob", room_id, "and from me")
    fleet.settle()
    for member in (a, p, c):
        assert member.texts("ann" if member is a else "bob", room_id) == ["hello", "hello yourself", "and from me"]
        for event_id, sender in ((said, a), (topic, a), (answer, c)):
            assert signatures(member, event_id)["p.example"] == [KEY_ID]
            assert signatures(member, event_id)[sender.name] == ["ed25519:test"]
        assert signatures(member, own) == {"p.example": [KEY_ID, "ed25519:test"]}
    assert fleet.asked(SIGN) == [("a.example", "p.example"), ("a.example", "p.example"), ("c.example", "p.example")]


def test_on_both_databases(any_fleet: Fleet) -> None:
    room_id, (a, p) = meet(any_fleet, "a", "p")
    said = a.say("ann", room_id, "hello", txn_id="t1")
    assert a.say("ann", room_id, "hello", txn_id="t1") == said, "the transaction is remembered"
    (event,) = (
        event for event in a.sync("ann")["rooms"]["join"][room_id]["timeline"]["events"] if event["event_id"] == said
    )
    assert event["unsigned"]["transaction_id"] == "t1"
    again = any_fleet.restart(a)
    assert again.say("ann", room_id, "hello", txn_id="t1") == said
    any_fleet.settle()
    assert p.texts("bob", room_id) == ["hello"]


def test_what_it_does_not_want(fleet: Fleet) -> None:
    """The client hears its words; nobody hears of the event."""
    room_id, (a, p, c) = meet(fleet, "a", "p", "c")
    desk_of(p).rules.append(NoSpam())
    before = a.room(room_id).visible.head
    for member, name in ((a, "ann"), (c, "bob"), (p, "bob")):
        with pytest.raises(MatrixError) as caught:
            member.say(name, room_id, "buy spam")
        error = caught.value
        assert (error.status, error.errcode, error.error) == (400, "M_FORBIDDEN", "that looks like spam")
    assert a.room(room_id).visible.head == before
    fleet.settle()
    assert a.room(room_id).visible.head == before
    a.say("ann", room_id, "hello")
    fleet.settle()
    assert c.texts("bob", room_id) == ["hello"]


def test_a_peer_that_does_not_ask(fleet: Fleet) -> None:
    """What it sends is shown to the policy server by those who receive it."""
    room_id, (a, p, c) = meet(fleet, "a", "p", "c")
    rule = NoSpam()
    desk_of(p).rules.append(rule)
    good = c.make(room_id, "bob", "m.room.message", {"msgtype": "m.text", "body": "hello"})
    bad = c.make(room_id, "bob", "m.room.message", {"msgtype": "m.text", "body": "spam"})
    assert a.receive(c.name, room_id, good.raw, bad.raw) == ["accepted", "soft-failed"]
    assert rule.shown == ["m.room.message", "m.room.message"]
    assert signatures(a, good.event_id) == {"c.example": ["ed25519:test"], "p.example": [KEY_ID]}
    assert (outcome_of(a, good.event_id), outcome_of(a, bad.event_id)) == ("accepted", "soft-failed")
    assert a.room(room_id).visible.head.extremities == (good.event_id,)
    assert a.texts("ann", room_id) == ["hello"]
    assert p.receive(c.name, room_id, good.raw, bad.raw) == ["accepted", "soft-failed"], "the policy server itself too"


def test_a_signature_that_does_not_hold(fleet: Fleet) -> None:
    """A new one is asked for: the key may be a new one."""
    room_id, (a, _, c) = meet(fleet, "a", "p", "c")
    event = c.make(room_id, "bob", "m.room.message", {"msgtype": "m.text", "body": "hello"})
    fields = event.to_json()
    for wrong in ("A" * 86, "", "!"):
        fields["signatures"]["p.example"] = {KEY_ID: wrong}
        assert a.receive(c.name, room_id, orjson.dumps(fields)) == ["accepted" if wrong == "A" * 86 else "known"]
    assert fleet.asked(SIGN) == [("a.example", "p.example")]
    assert signatures(a, event.event_id)["p.example"] == [KEY_ID]


def test_a_policy_server_that_does_not_answer(fleet: Fleet) -> None:
    """The room stands still for messages, and can be freed."""
    room_id, (a, p, c) = meet(fleet, "a", "p", "c")
    fleet.down.add(p.name)
    with pytest.raises(MatrixError) as caught:
        a.say("ann", room_id, "hello")
    assert (caught.value.status, "p.example" in caught.value.error) == (503, True)
    asked = len(fleet.asked(SIGN))
    with pytest.raises(MatrixError):
        a.say("ann", room_id, "again")
    assert len(fleet.asked(SIGN)) == asked, "nobody waits twice for a server that is down"
    event = c.make(room_id, "bob", "m.room.message", {"msgtype": "m.text", "body": "unsigned"})
    assert a.receive(c.name, room_id, event.raw) == ["soft-failed"]
    a.set_state("ann", room_id, "m.room.policy", {})
    a.say("ann", room_id, "free")
    fleet.settle()
    assert c.texts("bob", room_id) == ["free"]


def test_it_can_leave(fleet: Fleet) -> None:
    """Nobody is made to be a policy server."""
    room_id, (a, p, c) = meet(fleet, "a", "p", "c")
    p.leave("bob", room_id)
    fleet.settle()
    fleet.requests.clear()
    a.say("ann", room_id, "hello")
    fleet.settle()
    assert fleet.asked(SIGN) == []
    assert c.texts("bob", room_id) == ["hello"]


def test_a_room_that_names_a_server_that_is_none(fleet: Fleet) -> None:
    room_id, (a, p, c) = meet(fleet, "a", "p", "c")
    content = {"via": c.name, "public_keys": {"ed25519": desk_of(p).public_key}}
    a.set_state("ann", room_id, "m.room.policy", content)
    fleet.settle()
    for member, name in ((a, "ann"), (c, "bob")):
        with pytest.raises(MatrixError) as caught:
            member.say(name, room_id, "hello")
        assert caught.value.status == 404
    a.set_state("ann", room_id, "m.room.policy", {**content, "via": p.name, "public_keys": {"ed25519": "A" * 43}})
    fleet.settle()
    with pytest.raises(MatrixError, match="not the policy server of that room"):
        a.say("ann", room_id, "hello")


ANSWERS: list[tuple[Response, int, str]] = [
    (Response(400, {}, b'{"errcode": "M_FORBIDDEN", "error": "no"}'), 400, "M_FORBIDDEN"),
    (Response(404, {}, b'{"errcode": "M_UNRECOGNIZED", "error": "no"}'), 404, "M_UNRECOGNIZED"),
    # What would end somebody's session here is not for a policy server to say.
    (Response(401, {}, b'{"errcode": "M_UNKNOWN_TOKEN", "error": "no", "soft_logout": false}'), 403, "M_FORBIDDEN"),
    (Response(403, {}, b'{"errcode": "M_UNKNOWN_TOKEN", "error": "no"}'), 403, "M_FORBIDDEN"),
    (Response(429, {"retry-after": "7"}, b'{"errcode": "M_LIMIT_EXCEEDED"}'), 429, "M_LIMIT_EXCEEDED"),
    (Response(429, {}, b'{"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 99999999999}'), 429, "M_LIMIT_EXCEEDED"),
    (Response(500, {}, b"oops"), 502, "M_UNKNOWN"),
    (Response(200, {}, b"nonsense"), 502, "M_UNKNOWN"),
    (Response(200, {}, b"{}"), 502, "M_UNKNOWN"),
    (Response(200, {}, b'{"p.example": {"ed25519:other": "x"}}'), 502, "M_UNKNOWN"),
    (Response(200, {}, b'{"p.example": {"ed25519:policy_server": "%b"}}' % (b"A" * 86)), 403, "M_FORBIDDEN"),
    (Response(200, {}, b'{"p.example": {"ed25519:policy_server": "%b"}}' % (b"A" * 60_000)), 403, "M_FORBIDDEN"),
]


@pytest.mark.parametrize("code", sorted(SAFETY))
def test_the_harm_that_it_names_is_told(fleet: Fleet, code: str) -> None:
    room_id, (a, *_) = meet(fleet, "a", "p")
    told: dict[str, Any] = {"harms": ["m.spam", 1], "expiry": 1_765_312_137_979}
    answer = Response(400, {}, orjson.dumps({"errcode": code, "error": "spam", "soft_logout": True, **told}))
    fleet.meddler = lambda origin, request: answer if request.path == SIGN else request
    with pytest.raises(MatrixError) as caught:
        a.say("ann", room_id, "buy")
    assert (caught.value.status, caught.value.errcode, caught.value.error) == (400, code, "spam")
    assert caught.value.more == {**told, "harms": ["m.spam"]}


@pytest.mark.parametrize(("answer", "status", "errcode"), ANSWERS)
def test_strange_answers(fleet: Fleet, answer: Response, status: int, errcode: str) -> None:
    room_id, (a, _, c) = meet(fleet, "a", "p", "c")
    fleet.meddler = lambda origin, request: answer if request.path == SIGN else request
    with pytest.raises(MatrixError) as caught:
        a.say("ann", room_id, "x" * 10_000)
    assert (caught.value.status, caught.value.errcode) == (status, errcode)
    assert caught.value.more.get("retry_after_ms", 0) <= 60_000
    event = c.make(room_id, "bob", "m.room.message", {"msgtype": "m.text", "body": "x"})
    assert a.receive(c.name, room_id, event.raw) == ["soft-failed"]


def test_what_happens_while_it_thinks(fleet: Fleet) -> None:
    """The room goes on; what was composed before enters beside it, and nothing is lost."""
    room_id, (a, p, c) = meet(fleet, "a", "p", "c")
    gate: Deferred[None] = Deferred()

    async def wait_for_it(room: LiveRoom, origin: str, event: Event) -> str | None:
        if event.content.get("body") == "slow":
            await gate
        return None

    desk_of(p).rules.append(wait_for_it)
    who = Requester("@ann:a.example", "DEVICE", b"ann")
    send = a.house.part(Sender).message
    body = {"msgtype": "m.text", "body": "slow"}
    slow = Deferred.fromCoroutine(send(who, room_id, "m.room.message", body, "slow"))
    after = Deferred.fromCoroutine(send(who, room_id, "m.room.message", {**body, "body": "after it"}, "after"))
    a.join("adam", room_id)
    a.set_state("adam", room_id, "m.room.topic", {"topic": "new"})
    a.say("adam", room_id, "meanwhile")
    fleet.settle()
    assert not slow.called
    gate.callback(None)
    a.wait(slow)
    a.wait(after)
    fleet.settle()
    for member, name in ((a, "ann"), (p, "bob"), (c, "bob")):
        texts = member.texts(name, room_id)  # a first look, which goes by the graph: they are beside each other
        assert sorted(texts) == ["after it", "meanwhile", "slow"] and texts.index("slow") < texts.index("after it")
        assert member.state_of(room_id) == a.state_of(room_id)


def test_a_redaction(fleet: Fleet) -> None:
    room_id, (a, _, c) = meet(fleet, "a", "p", "c")
    said = a.say("ann", room_id, "oops")
    fleet.settle()
    redaction = a.redact("ann", room_id, said)
    fleet.settle()
    for member, name in ((a, "ann"), (c, "bob")):
        assert member.texts(name, room_id) == [""]
        assert signatures(member, redaction)["p.example"] == [KEY_ID]
        assert signatures(member, said) == {"a.example": ["ed25519:test"], "p.example": [KEY_ID]}


def test_memberships(fleet: Fleet) -> None:
    """They are checked like everything: joins, also by another server, invitations, leaving."""
    room_id, (a, p) = meet(fleet, "a", "p")
    (d,) = fleet.open("d")
    d.enter("dan", room_id, a)
    fleet.settle()
    join = a.state_of(room_id)["m.room.member", "@dan:d.example"]
    for member in (a, p, d):
        assert signatures(member, join)["d.example"] == ["ed25519:test"]
    assert signatures(a, join)["p.example"] == signatures(p, join)["p.example"] == [KEY_ID]
    a.invite("ann", "@eve:d.example", room_id)
    a.invite("ann", "@fay:a.example", room_id)
    fleet.settle()
    for user_id in ("@eve:d.example", "@fay:a.example"):
        invitation = p.state_of(room_id)["m.room.member", user_id]
        assert signatures(p, invitation)["p.example"] == [KEY_ID]
        assert signatures(p, invitation)["a.example"] == ["ed25519:test"]
    assert signatures(p, p.state_of(room_id)["m.room.member", "@eve:d.example"])["d.example"] == ["ed25519:test"]
    d.leave("dan", room_id)
    fleet.settle()
    assert signatures(p, p.state_of(room_id)["m.room.member", "@dan:d.example"])["p.example"] == [KEY_ID]


def test_a_join_that_it_does_not_want(fleet: Fleet) -> None:
    room_id, (a, p) = meet(fleet, "a", "p")

    async def nobody_of_d(room: LiveRoom, origin: str, event: Event) -> str | None:
        return "not you" if event.sender.endswith(":d.example") else None

    desk_of(p).rules.append(nobody_of_d)
    (d,) = fleet.open("d")
    with pytest.raises(MatrixError) as caught:
        d.enter("dan", room_id, a)
    assert caught.value.status == 403
    assert a.membership("@dan:d.example", room_id) is None


# At the desk itself.


def ask(origin: Member, p: Member, event: object) -> Any:
    return origin.ask(p, "POST", SIGN, event)


def refusal(origin: Member, p: Member, event: object) -> tuple[int, str]:
    with pytest.raises(PeerError) as caught:
        ask(origin, p, event)
    assert isinstance(caught.value, Refused)
    return caught.value.status, caught.value.errcode


def test_what_the_desk_signs(fleet: Fleet) -> None:
    room_id, (a, p, c) = meet(fleet, "a", "p", "c")
    event = c.make(room_id, "bob", "m.room.message", {"body": "x"})
    assert set(ask(a, p, event.raw)) == {"p.example"}, "whoever asks, and only its own signature"
    assert outcome_of(p, event.event_id) == "unknown", "asking is not sending"
    for state_key in ("x", None):
        odd = a.make(room_id, "ann", "m.room.policy", {}, state_key=state_key)
        assert set(ask(a, p, odd.raw)["p.example"]) == {KEY_ID}


def test_what_the_desk_does_not_sign(fleet: Fleet) -> None:
    room_id, (a, p, c) = meet(fleet, "a", "p", "c")
    (d,) = fleet.open("d")
    other_id = a.create("ann", preset="public_chat")
    p.enter("bob", other_id, a)
    good = a.make(room_id, "ann", "m.room.message", {"body": "x"})
    fields = good.to_json()
    changed = {**fields, "content": {"body": "y"}}
    unsigned = {**fields, "signatures": {}}
    assert refusal(a, p, {}) == (400, "M_BAD_JSON")
    assert refusal(a, p, {"room_id": 1}) == (400, "M_BAD_JSON")
    assert refusal(a, p, {"room_id": room_id}) == (400, "M_BAD_JSON")
    assert refusal(a, p, {"room_id": "!nowhere:x"}) == (404, "M_NOT_FOUND")
    assert refusal(a, p, changed) == (400, "M_FORBIDDEN"), "the signature would hold for what was not shown"
    assert refusal(a, p, unsigned) == (400, "M_FORBIDDEN")
    assert refusal(a, p, a.make(other_id, "ann", "m.room.message", {}).raw) == (404, "M_NOT_FOUND")
    assert refusal(a, p, a.make(room_id, "ann", "m.room.policy", {}, state_key="").raw) == (400, "M_FORBIDDEN")
    assert refusal(c, p, c.make(room_id, "bob", "m.room.name", {}, state_key="").raw) == (400, "M_FORBIDDEN")
    assert refusal(d, p, good.raw) == (403, "M_FORBIDDEN"), "that server is not in the room"
    assert refusal(a, c, good.raw) == (404, "M_UNRECOGNIZED")
    a.set_state("ann", room_id, "m.room.server_acl", {"allow": ["*"], "deny": ["c.example"]})
    fleet.settle()
    assert refusal(c, p, c.make(room_id, "bob", "m.room.message", {}).raw) == (403, "M_FORBIDDEN")
    assert refusal(a, p, c.make(room_id, "bob", "m.room.message", {}).raw) == (400, "M_FORBIDDEN"), "through others too"
    a.set_state("ann", room_id, "m.room.server_acl", {"allow": ["*"]})
    unheard_of = c.make(room_id, "bob", "m.room.message", {})
    a.ban("ann", "@bob:c.example", room_id)
    fleet.settle()
    assert refusal(a, p, unheard_of.raw) == (400, "M_FORBIDDEN"), "who is banned"


def test_rooms_without_one_ask_nobody(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("ann", preset="public_chat")
    b.enter("bob", room_id, a)
    a.say("ann", room_id, "hello")
    fleet.settle()
    assert fleet.asked(SIGN) == []
    assert POLICY not in a.room(room_id).frame


def test_the_key_outlives_a_restart(fleet: Fleet) -> None:
    room_id, (a, p) = meet(fleet, "a", "p")
    before = desk_of(p).public_key
    p = fleet.restart(p)
    assert desk_of(p).public_key == before
    a.say("ann", room_id, "hello")
    assert p.house.table.match("GET", b"/.well-known/matrix/policy_server")


def test_hostile_shapes(fleet: Fleet) -> None:
    room_id, (a, p) = meet(fleet, "a", "p")

    def raw(body: bytes) -> Response:
        fleet.meddler = None
        client = a.house.federation
        assert client is not None
        headers = {"Authorization": client.client.authorization("POST", p.name, SIGN, body)}
        return a.wait(client.transport.send(Request(p.name, "POST", SIGN, headers, body)))

    deep = b'{"room_id":"%b","content":%b}' % (room_id.encode(), b"[" * 9000)
    for body in (b'{"room_id": ["x"]}', b'{"room_id": "\\ud800"}', b"[]", b"1", deep):
        assert raw(body).status in (400, 404), body
