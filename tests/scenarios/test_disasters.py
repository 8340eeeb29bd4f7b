"""Lines that fail between servers, and what is true when they are whole again."""

from __future__ import annotations

from homeserver.harness.client import until
from homeserver.harness.faults import Fault, Kind
from homeserver.harness.person import Person
from tests.fixtures_town import Cast, scenario, wait_for_agreement, wait_for_members
from tests.scenarios.test_talking import heard, together

SEND = "/_matrix/federation/v1/send/*"


def give(room_id: str, giver: Person, level: int, *people: Person) -> None:
    """Make moderators of people, beside whatever levels there are."""
    levels = giver.content_of(room_id, "m.room.power_levels")
    levels.setdefault("users", {}).update({person.user_id: level for person in people})
    giver.set_state(room_id, "m.room.power_levels", levels)


def level_of(room_id: str, reader: Person, person: Person) -> int | None:
    users = reader.content_of(room_id, "m.room.power_levels").get("users", {})
    found: int | None = users.get(person.user_id)
    return found


def word_gets_round(room_id: str, *people: Person) -> None:
    """After a line is whole again: each says something until all hear it. Whoever is left alone for a while because
    they did not answer is heard of, and what was missed is made up for."""
    said = {person.say(room_id, "word") for person in people}
    for person in people:
        until(lambda person=person: said <= {e["event_id"] for e in person.history(room_id)}, True, 60)  # type: ignore[misc]


@scenario("host", "guest")
def test_parted_and_healed(cast: Cast) -> None:
    """Both sides talk on while they can't hear each other; afterwards both have all of it."""
    host, guest = cast
    room_id, (alice, bob) = together(cast, host, guest)
    with cast.lines.parted([host], [guest]):
        for number in range(5):
            alice.say(room_id, f"alice {number}")
            bob.say(room_id, f"bob {number}")
        alice.set_state(room_id, "m.room.topic", {"topic": "meanwhile"})
    word_gets_round(room_id, alice, bob)
    everything = sorted([*(f"{name} {number}" for name in ("alice", "bob") for number in range(5)), "word", "word"])
    for reader in (alice, bob):
        until(lambda reader=reader: sorted(reader.texts(room_id)), everything)  # type: ignore[misc]
    wait_for_agreement(room_id, alice, bob)


@scenario("host", "guest")
def test_power_levels_that_fork(cast: Cast) -> None:
    """Two moderators change the levels on either side of a cut. All sides settle on the same ones."""
    host, guest = cast
    room_id, (alice, bob) = together(cast, host, guest)
    carol, dan = cast.person("carol", host), cast.person("dan", guest)
    carol.join(room_id)
    dan.join(room_id)
    wait_for_members(room_id, alice, bob, carol, dan)
    give(room_id, alice, 100, bob)
    until(lambda: level_of(room_id, bob, bob), 100)
    with cast.lines.parted([host], [guest]):
        give(room_id, alice, 50, carol)
        give(room_id, bob, 60, dan)
        alice.set_state(room_id, "m.room.name", {"name": "by alice"})
        bob.set_state(room_id, "m.room.name", {"name": "by bob"})
        dan.set_state(room_id, "m.room.topic", {"topic": "by dan"})
        carol.say(room_id, "carol")
        give(room_id, bob, 55, bob)
    word_gets_round(room_id, alice, bob, carol, dan)
    wait_for_agreement(room_id, alice, bob)


@scenario("host", "guest", "third")
def test_a_ban_on_one_side_of_a_cut(cast: Cast) -> None:
    """Who is banned while they are cut off talks on with those on their own side. When the line is whole, they are out
    everywhere, and what they did to the state since is undone."""
    host, guest, third = cast
    room_id, (alice, bob, carol) = together(cast, host, guest, third)
    give(room_id, alice, 50, bob)
    for reader in (bob, carol):
        until(lambda reader=reader: level_of(room_id, reader, bob), 50)  # type: ignore[misc]
    with cast.lines.parted([host], [guest, third]):
        alice.ban(room_id, bob, "enough")
        bob.say(room_id, "nobody can stop me")
        bob.set_state(room_id, "m.room.topic", {"topic": "mine"})
        until(lambda: (carol.content_of(room_id, "m.room.topic") or {}).get("topic"), "mine")
        carol.say(room_id, "I hear you")
    word_gets_round(room_id, alice, carol)
    for reader in (alice, carol):
        until(lambda reader=reader: reader.membership_of(room_id, bob), "ban")  # type: ignore[misc]
    until(lambda: room_id in bob.rooms("join"), False)
    wait_for_agreement(room_id, alice, carol)
    assert alice.content_of(room_id, "m.room.topic") is None
    assert "I hear you" in alice.texts(room_id)


@scenario("host", "guest")
def test_transactions_that_go_wrong(cast: Cast) -> None:
    """Of each kind one in each direction: what was in it is heard all the same, and once."""
    host, guest = cast
    room_id, (alice, bob) = together(cast, host, guest)
    said = []
    for kind in (Kind.LOSE, Kind.CUT, Kind.CORRUPT, Kind.REFUSE):
        ways = ((host, guest), (guest, host))
        faults = [Fault(kind, origin=a.name, destination=b.name, path=SEND, times=1) for a, b in ways]
        with cast.lines.fault(*faults):
            for person in (alice, bob):
                said.append(f"{kind.value} {person.user_id}")
                person.say(room_id, said[-1])
            until(lambda: spent(cast, kind), True)  # noqa: B023
            for reader in (alice, bob):
                until(lambda: sorted(reader.texts(room_id)), sorted(said))  # noqa: B023
    wait_for_agreement(room_id, alice, bob)


def spent(cast: Cast, kind: Kind) -> bool:
    """Whether both faults have happened."""
    return len({p.origin for p in cast.lines.passages(since=cast.began) if p.fault is kind}) == 2


@scenario("host", "guest")
def test_a_slow_line_loses_nothing(cast: Cast) -> None:
    host, guest = cast
    room_id, (alice, bob) = together(cast, host, guest)
    slow = [
        Fault(Kind.DELAY, origin=a.name, destination=b.name, delay_ms=700) for a, b in ((host, guest), (guest, host))
    ]
    with cast.lines.fault(*slow):
        for number in range(3):
            alice.say(room_id, f"alice {number}")
            bob.say(room_id, f"bob {number}")
        carol = cast.person("carol", guest)
        carol.join(room_id, via=[host])
        carol.say(room_id, "carol")
    wait_for_members(room_id, alice, bob, carol)
    everything = sorted([*(f"{name} {number}" for name in ("alice", "bob") for number in range(3)), "carol"])
    for reader in (alice, bob):
        until(lambda reader=reader: sorted(reader.texts(room_id)), everything)  # type: ignore[misc]
    wait_for_agreement(room_id, alice, bob)


@scenario("host", "guest")
def test_a_server_that_is_shut_out(cast: Cast) -> None:
    """`m.room.server_acl`: what its people say is not heard any more, and nobody of it comes in; until it is lifted."""
    host, guest = cast
    room_id, (alice, bob) = together(cast, host, guest)
    carol = cast.person("carol", guest)
    alice.set_state(room_id, "m.room.server_acl", {"allow": ["*"], "deny": [guest.name.partition(":")[0]]})
    until(lambda: (bob.content_of(room_id, "m.room.server_acl") or {}).get("allow"), ["*"])
    bob.say(room_id, "can you hear me?")
    other = cast.room(alice, preset="public_chat")
    assert carol.request("POST", f"/_matrix/client/v3/join/{room_id}?via={host.name}", {}).status in (200, 403)
    carol.join(other, via=[host])
    wait_for_members(other, alice, carol)
    heard(room_id, [], alice)
    assert carol.user_id not in alice.joined(room_id)
