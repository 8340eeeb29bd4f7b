"""Sliding sync as a client sees it: which rooms, what of them, and never twice."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.errors import UnknownPos, UnknownToken
from homeserver.push.watch import Watch
from homeserver.sync.engine import Sync
from homeserver.userdata.account_data import GLOBAL, AccountData
from homeserver.userdata.read_markers import Mark, ReadMarkers
from tests.fixtures_house import LivedInHouse
from tests.fixtures_rooms import user
from tests.sync.sliding.slider import Slider, bodies, rooms, state_of, subscription


def put_data(house: LivedInHouse, name: str, kind: str, content: dict[str, Any], room_id: str | None = None) -> None:
    room = None if room_id is None else house.wait(house.house.rooms.require(room_id))
    data = house.house.part(AccountData)
    house.wait(data.put(user(name), GLOBAL if room is None else room.nid, kind, content))


def test_the_first_answer_has_the_newest_rooms_and_the_next_nothing(house: LivedInHouse) -> None:
    ids = [house.create("alice", name=f"room {number}") for number in range(5)]
    house.say("alice", ids[1], "the latest")
    client = Slider(house, "alice", {"lists": {"all": rooms(0, 1)}})
    answer = client.ask()
    assert answer["lists"] == {"all": {"count": 5}}
    assert set(answer["rooms"]) == {ids[1], ids[4]}
    room = answer["rooms"][ids[1]]
    assert room["initial"] and room["name"] == "room 1" and bodies(room) == ["the latest"]
    assert (room["joined_count"], room["invited_count"], room["num_live"]) == (1, 0, 0)
    assert {key for key, _ in state_of(room)} == {"m.room.create", "m.room.name", "m.room.member"}
    assert client.ask()["rooms"] == {}


def test_news_come_once_and_rooms_that_come_into_the_window_whole(house: LivedInHouse) -> None:
    ids = [house.create("alice", name=f"room {number}") for number in range(4)]
    client = Slider(house, "alice", {"lists": {"all": rooms(0, 1)}})
    client.ask()
    house.say("alice", ids[3], "in the window")
    house.say("alice", ids[0], "from behind")
    news = client.rooms()
    assert set(news) == {ids[3], ids[0]}
    assert "initial" not in news[ids[3]] and bodies(news[ids[3]]) == ["in the window"]
    assert news[ids[3]]["num_live"] == 1 and not news[ids[3]]["limited"] and news[ids[3]]["required_state"] == []
    assert news[ids[0]]["initial"] and news[ids[0]]["num_live"] == 1
    assert client.rooms() == {}
    # A range that grows brings those that were not there yet.
    assert set(client.rooms(lists={"all": rooms(0, 3)})) == {ids[1]}
    assert client.rooms() == {}


def test_what_happens_out_of_sight_is_told_when_the_room_is_seen_again(house: LivedInHouse) -> None:
    ids = [house.create("alice", name=f"room {number}") for number in range(3)]
    client = Slider(house, "alice", {"lists": {"all": rooms(0, 2)}})
    client.ask()
    client.ask(lists={"all": rooms(0, 0)})
    house.set_state("alice", ids[0], "m.room.topic", {"topic": "unseen"})
    house.say("alice", ids[1], "later")
    house.say("alice", ids[2], "latest")
    assert set(client.rooms()) == {ids[2]}
    assert client.rooms() == {}
    news = client.rooms(lists={"all": rooms(0, 2)})
    assert set(news) == {ids[0], ids[1]} and not any("initial" in room for room in news.values())
    assert state_of(news[ids[0]]) == {("m.room.topic", ""): {"topic": "unseen"}}
    assert bodies(news[ids[1]]) == ["later"]


def test_a_lost_answer_is_given_again(house: LivedInHouse) -> None:
    room_id = house.create("alice")
    client = Slider(house, "alice")
    client.ask()
    before = client.pos
    house.say("alice", room_id, "hello")
    first = client.rooms()
    client.pos = before
    assert bodies(client.rooms()[room_id]) == bodies(first[room_id]) == ["hello"]
    assert client.rooms() == {}
    # What was acknowledged by a later pos is not kept.
    client.pos = before
    with pytest.raises(UnknownPos):
        client.ask()


@pytest.mark.parametrize("pos", ["", "x", "s1_1_2", "ss1_1_2_3", "ss1_1_2", "ss1_9_9_" + "9" * 30])
def test_a_pos_of_nobody_is_unknown(house: LivedInHouse, pos: str) -> None:
    house.create("alice")
    client = Slider(house, "alice")
    client.ask()
    client.pos = pos
    with pytest.raises(UnknownPos):
        client.ask()


def test_a_pos_is_of_one_device_and_connection(house: LivedInHouse) -> None:
    house.create("alice")
    client = Slider(house, "alice")
    client.ask()
    for thief in (
        Slider(house, "bob", pos=client.pos),
        Slider(house, "alice", pos=client.pos, device_id="OTHER"),
        Slider(house, "alice", {**client.body, "conn_id": "other"}, pos=client.pos),
    ):
        with pytest.raises(UnknownPos):
            thief.ask()
    # A connection that begins anew takes the place of the one of that name.
    Slider(house, "alice").ask()
    with pytest.raises(UnknownPos):
        client.ask()


def test_a_subscription_shows_a_room_wherever_it_is(house: LivedInHouse) -> None:
    ids = [house.create("alice", name=f"room {number}") for number in range(3)]
    theirs = house.create("bob", name="not yours")
    wanted = {ids[0]: subscription(limit=1), theirs: subscription(), "!nothing:x": subscription()}
    client = Slider(house, "alice", {"lists": {"all": rooms(0, 0)}, "room_subscriptions": wanted})
    assert set(client.rooms()) == {ids[0], ids[2]}
    client.ask()
    house.say("alice", ids[0], "one")
    house.say("alice", ids[0], "two")
    house.say("alice", ids[2], "push it back")
    news = client.rooms(room_subscriptions={ids[0]: subscription(limit=1)})
    assert bodies(news[ids[0]]) == ["two"] and news[ids[0]]["limited"]


def test_a_larger_limit_brings_older_events(house: LivedInHouse) -> None:
    room_id = house.create("alice")
    for number in range(5):
        house.say("alice", room_id, str(number))
    client = Slider(house, "alice", {"lists": {"all": rooms(limit=1)}})
    assert bodies(client.rooms()[room_id]) == ["4"]
    room = client.rooms(room_subscriptions={room_id: subscription(limit=3)})[room_id]
    assert room["unstable_expanded_timeline"] and bodies(room) == ["2", "3", "4"] and room["num_live"] == 0
    assert client.rooms() == {}
    # It has them, so going back and forth is nothing new.
    assert client.rooms(room_subscriptions={}) == {}
    assert client.rooms(room_subscriptions={room_id: subscription(limit=3)}) == {}


def test_more_state_is_told_at_once_and_only_what_is_more(house: LivedInHouse) -> None:
    room_id = house.create("alice", name="The pub", topic="beer")
    client = Slider(house, "alice", {"lists": {"all": rooms(state=[["m.room.name", ""]])}})
    assert set(state_of(client.rooms()[room_id])) == {("m.room.name", "")}
    news = client.rooms(lists={"all": rooms(state=[["m.room.name", ""], ["m.room.topic", "*"]])})
    assert set(state_of(news[room_id])) == {("m.room.topic", "")}
    assert client.rooms() == {}
    everything = client.rooms(lists={"all": rooms(state=[["*", "*"]])})[room_id]
    assert ("m.room.member", user("alice")) in state_of(everything)
    assert ("m.room.name", "") not in state_of(everything)


def test_lazy_members_are_those_of_the_timeline_and_told_once(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    for name in ("bob", "carol", "dave"):
        house.join(name, room_id)
    for name in ("bob", "bob"):
        house.say(name, room_id, "hello", f"{name}-{house.house.hub.position}")
    lazy = [["m.room.member", "$LAZY"]]
    client = Slider(house, "alice", {"lists": {"all": rooms(limit=1, state=lazy)}})

    def members() -> set[str]:
        return {key for _, key in state_of(client.rooms()[room_id])}

    assert members() == {user("bob")}
    house.say("bob", room_id, "again")
    assert members() == set()
    house.say("carol", room_id, "me too")
    assert members() == {user("carol")}
    house.leave("dave", room_id)
    assert members() == {user("dave")}


def test_filters(house: LivedInHouse) -> None:
    space = house.create("alice", name="space", creation_content={"type": "m.space"})
    child, dm, secret = (house.create("alice", name=name) for name in ("child", "dm", "secret"))
    house.set_state("alice", space, "m.space.child", {"via": ["x"]}, child)
    house.set_state("alice", secret, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
    put_data(house, "alice", "m.direct", {user("bob"): [dm]})
    put_data(house, "alice", "m.tag", {"tags": {"m.favourite": {}}}, child)
    invited = house.create("bob", invite=[user("alice")], name="invited")

    def shown(**filters: Any) -> set[str]:
        client = Slider(house, "alice", {"lists": {"all": rooms(**filters)}})
        answer = client.ask()
        assert answer["lists"]["all"]["count"] == len(answer["rooms"])
        return set(answer["rooms"])

    assert shown() == {space, child, dm, secret, invited}
    assert shown(is_dm=True) == {dm}
    assert shown(is_dm=False) == {space, child, secret, invited}
    assert shown(is_encrypted=True) == {secret}
    assert shown(is_encrypted=False) == {space, child, dm, invited}
    assert shown(is_invite=True) == {invited}
    assert shown(is_invite=False) == {space, child, dm, secret}
    assert shown(room_types=["m.space"]) == {space}
    assert shown(room_types=[None], is_invite=False) == {child, dm, secret}
    assert shown(not_room_types=["m.space"], is_invite=False) == {child, dm, secret}
    assert shown(room_types=["m.space"], not_room_types=["m.space"]) == set()
    assert shown(tags=["m.favourite"]) == {child}
    assert shown(not_tags=["m.favourite"], is_invite=False) == {space, dm, secret}
    assert shown(spaces=[space]) == {child}
    assert shown(spaces=["!nothing:x"]) == set()


def test_rooms_come_into_filters_and_go(house: LivedInHouse) -> None:
    one, other = house.create("alice", name="one"), house.create("alice", name="other")
    lists = {"dm": rooms(is_dm=True), "fav": rooms(tags=["m.favourite"]), "secret": rooms(is_encrypted=True)}
    client = Slider(house, "alice", {"lists": lists})
    assert client.rooms() == {}

    def counts() -> list[int]:
        return [one["count"] for one in client.ask()["lists"].values()]

    put_data(house, "alice", "m.direct", {user("bob"): [one]})
    assert client.rooms()[one]["is_dm"] is True
    put_data(house, "alice", "m.tag", {"tags": {"m.favourite": {}}}, other)
    assert set(client.rooms()) == {other}
    house.set_state("alice", one, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
    assert counts() == [1, 1, 1]
    put_data(house, "alice", "m.tag", {"tags": {}}, other)
    put_data(house, "alice", "m.direct", {})
    assert counts() == [0, 0, 1]


def test_an_invitation_is_shown_with_little_and_the_room_with_all_once_joined(house: LivedInHouse) -> None:
    client = Slider(house, "alice")
    client.ask()
    room_id = house.create("bob", invite=[user("alice")], name="The pub", topic="beer")
    house.say("bob", room_id, "not for outsiders")
    room = client.rooms()[room_id]
    assert room["initial"] and room["name"] == "The pub" and "timeline" not in room and "joined_count" not in room
    assert {event["type"] for event in room["invite_state"]} >= {"m.room.name", "m.room.member"}
    assert client.rooms() == {}
    house.join("alice", room_id)
    room = client.rooms()[room_id]
    assert room["initial"] and "invite_state" not in room and room["joined_count"] == 2
    assert client.rooms() == {}


def test_who_leaves_is_told_up_to_that_and_then_nothing(house: LivedInHouse) -> None:
    room_id = house.create("bob", preset="public_chat")
    house.join("alice", room_id)
    client = Slider(house, "alice")
    client.ask()
    house.say("bob", room_id, "before")
    house.leave("alice", room_id)
    house.say("bob", room_id, "after")
    answer = client.ask()
    room = answer["rooms"][room_id]
    assert bodies(room) == ["before"] and answer["lists"]["all"]["count"] == 0
    assert state_of(room)["m.room.member", user("alice")]["membership"] == "leave"
    assert client.rooms() == {}
    assert Slider(house, "alice", device_id="OTHER").rooms() == {}
    house.join("alice", room_id)
    assert client.rooms()[room_id]["initial"]


def test_who_was_kicked_sees_that_in_a_new_list_too(house: LivedInHouse) -> None:
    room_id = house.create("bob", preset="public_chat")
    house.join("alice", room_id)
    house.say("bob", room_id, "before")
    client = Slider(house, "alice")
    client.ask()
    house.wait(house.memberships.kick(room_id, user("bob"), user("alice")))
    house.say("bob", room_id, "after")
    for one in (client, Slider(house, "alice", device_id="OTHER")):
        answer = one.ask()
        room = answer["rooms"][room_id]
        assert state_of(room)["m.room.member", user("alice")]["membership"] == "leave"
        assert "after" not in bodies(room) and answer["lists"]["all"]["count"] == 1
        assert one.rooms() == {}


def test_an_invitation_that_is_declined_goes(house: LivedInHouse) -> None:
    room_id = house.create("bob", invite=[user("alice")])
    client = Slider(house, "alice")
    client.ask()
    house.leave("alice", room_id)
    room = client.rooms()[room_id]
    assert "invite_state" not in room
    assert state_of(room)["m.room.member", user("alice")]["membership"] == "leave"
    assert client.ask()["lists"]["all"]["count"] == 0


def test_ignored_people_are_not_heard_and_their_invitations_not_shown(house: LivedInHouse) -> None:
    put_data(house, "alice", "m.ignored_user_list", {"ignored_users": {user("mallory"): {}}})
    room_id = house.create("bob", preset="public_chat")
    house.join("alice", room_id)
    house.join("mallory", room_id)
    client = Slider(house, "alice")
    client.ask()
    house.say("mallory", room_id, "psst")
    house.say("bob", room_id, "hello")
    assert bodies(client.rooms()[room_id]) == ["hello"]
    house.create("mallory", invite=[user("alice")])
    answer = client.ask()
    assert answer["rooms"] == {} and answer["lists"]["all"]["count"] == 1


def test_a_name_of_the_others_where_there_is_none(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    client = Slider(house, "alice")
    room = client.rooms()[room_id]
    assert "name" not in room and [hero["user_id"] for hero in room["heroes"]] == [user("bob")]
    house.join("carol", room_id)
    news = client.rooms()[room_id]
    assert [hero["user_id"] for hero in news["heroes"]] == [user("bob"), user("carol")]
    assert news["joined_count"] == 3
    house.set_state("alice", room_id, "m.room.name", {"name": "The pub"})
    news = client.rooms()[room_id]
    assert news["name"] == "The pub" and "heroes" not in news


def test_bump_stamps_follow_what_is_said(house: LivedInHouse) -> None:
    room_id = house.create("alice")
    client = Slider(house, "alice")
    first = client.rooms()[room_id]["bump_stamp"]
    house.set_state("alice", room_id, "m.room.topic", {"topic": "beer"})
    assert client.rooms()[room_id]["bump_stamp"] == first
    house.say("alice", room_id, "hello")
    assert client.rooms()[room_id]["bump_stamp"] > first


def test_it_waits_for_news_and_answers_in_time(house: LivedInHouse) -> None:
    room_id = house.create("alice")
    client = Slider(house, "alice")
    client.ask()
    waiting = client.start(timeout_ms=30_000)
    assert not waiting.called and house.house.hub.waiting == 1
    house.say("alice", room_id, "hello")
    house.advance(0)
    assert bodies(client.take(house.wait(waiting))["rooms"][room_id]) == ["hello"]
    # Each look at this house's clock takes 10 ms.
    waiting = client.start(timeout_ms=1)
    house.advance(60)
    assert client.take(house.wait(waiting))["rooms"] == {}


def test_a_device_that_is_logged_out_waits_no_longer(house: LivedInHouse) -> None:
    house.create("alice")
    client = Slider(house, "alice", device_id="LOST")
    client.ask()
    waiting = client.start(timeout_ms=30_000)
    house.wait(house.house.part(Sync).polls.devices_removed(user("alice"), ["LOST"]))
    with pytest.raises(UnknownToken):
        house.wait(waiting)


def test_connections_of_a_device_are_few(house: LivedInHouse) -> None:
    house.create("alice")
    clients = [Slider(house, "alice", {"lists": {"all": rooms()}, "conn_id": str(number)}) for number in range(10)]
    for client in clients:
        client.ask()
    with pytest.raises(UnknownPos):
        clients[0].ask()
    clients[-1].ask()


def test_what_is_unread_is_counted_until_it_is_read(house: LivedInHouse) -> None:
    house.wait(house.house.part(Watch).start())
    room_id = house.create("alice", preset="public_chat", name="The pub")
    house.join("bob", room_id)
    client = Slider(house, "alice")
    room = client.rooms()[room_id]
    assert (room["notification_count"], room["highlight_count"]) == (0, 0)
    event_id = house.say("bob", room_id, "hello")
    room = client.rooms()[room_id]
    assert (room["notification_count"], room["highlight_count"]) == (1, 0)
    nid = house.wait(house.house.rooms.require(room_id)).nid
    house.wait(house.house.part(ReadMarkers).move(nid, user("alice"), [Mark("m.read", event_id)]))
    room = client.rooms()[room_id]
    assert (room["notification_count"], bodies(room)) == (0, [])
    assert client.rooms() == {}
