"""The handlers of what people keep and what passes, called without HTTP: whose it is, and what is refused how."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from homeserver.client import account_data, filter, presence, profile, read_markers, receipts, tags, typing
from homeserver.errors import MatrixError
from homeserver.http.route import Requester
from homeserver.userdata.read_markers import FULLY_READ
from storage.accounts import Account, add_account
from tests.fixtures_userdata import Household, user

ANN, BOB = user("ann"), user("bob")
Call = Callable[[Requester, str], Awaitable[Any]]


class Scene:
    def __init__(self, household: Household) -> None:
        self.household = household
        town = household.town
        self.ann = town.who("ann")
        self.room_id = town.create("ann", preset="public_chat")
        self.event_id = town.say("ann", self.room_id, "hello")
        for name in ("ann", "bob"):
            household.wait(town.database.write(add_account, Account(user(name), None, 0)))

    def wait(self, handler: Awaitable[Any]) -> Any:
        return self.household.wait(handler)

    def answer(self, handler: Awaitable[Any]) -> Any:
        return self.household.town.answer(handler)

    def refusal(self, handler: Awaitable[Any]) -> tuple[int, str]:
        with pytest.raises(MatrixError) as caught:
            self.wait(handler)
        return caught.value.status, caught.value.errcode

    def calls(self) -> dict[str, Call]:
        """Every handler that names a user in its path, given the caller and that user."""
        h, room_id = self.household, self.room_id
        data, rooms, access = h.account_data, h.town.rooms, h.town.access
        return {
            "typing": lambda who, u: typing.set_typing(h.typing, access, who, typing.SetTyping(room_id, u, True)),
            "put data": lambda who, u: account_data.put_account_data(data, who, account_data.Put(u, "org.x", {})),
            "get data": lambda who, u: account_data.get_account_data(data, who, account_data.Get(u, "org.x")),
            "put room data": lambda who, u: account_data.put_room_account_data(
                data, rooms, who, account_data.PutInRoom(u, room_id, "org.x", {})
            ),
            "get room data": lambda who, u: account_data.get_room_account_data(
                data, rooms, who, account_data.GetInRoom(u, room_id, "org.x")
            ),
            "list tags": lambda who, u: tags.list_tags(h.tags, rooms, who, tags.ListTags(u, room_id)),
            "put tag": lambda who, u: tags.put_tag(h.tags, rooms, who, tags.PutTag(u, room_id, "u.x", {})),
            "remove tag": lambda who, u: tags.remove_tag(h.tags, rooms, who, tags.RemoveTag(u, room_id, "u.x")),
            "set presence": lambda who, u: presence.set_presence(h.presence, who, presence.SetPresence(u, "online")),
            "put field": lambda who, u: profile.put_field(
                h.profiles, who, profile.PutField(u, "displayname", {"displayname": "x"})
            ),
            "delete field": lambda who, u: profile.delete_field(h.profiles, who, profile.DeleteField(u, "displayname")),
            "post filter": lambda who, u: filter.post_filter(h.filters, who, filter.PostFilter(u, {})),
            "get filter": lambda who, u: filter.get_filter(h.filters, who, filter.GetFilter(u, "1")),
        }

    def receipt(self, kind: str, event_id: str | None = None, **more: Any) -> Awaitable[Any]:
        ask = receipts.PostReceipt(self.room_id, kind, event_id or self.event_id, **more)
        h = self.household
        return receipts.post_receipt(h.markers, h.threads, h.town.access, self.ann, ask)


def test_nobody_touches_what_is_somebody_elses(household: Household) -> None:
    scene = Scene(household)
    for name, call in scene.calls().items():
        assert scene.refusal(call(scene.ann, BOB)) == (403, "M_FORBIDDEN"), name


def test_one_does_with_ones_own_as_one_likes(household: Household) -> None:
    scene = Scene(household)
    answers = {name: scene.answer(call(scene.ann, ANN)) for name, call in scene.calls().items()}
    assert answers == {
        **{name: {} for name in answers},
        "list tags": {"tags": {}},
        "post filter": {"filter_id": "1"},
    }
    assert household.typing.typing_in(household.nid(scene.room_id)) == [ANN]


def test_outsiders_are_told_the_same_as_of_a_room_that_is_not_there(household: Household) -> None:
    scene = Scene(household)
    bob = household.town.who("bob")
    of_rooms = {"typing", "put room data", "get room data", "list tags", "put tag", "remove tag"}
    for name in of_rooms:
        assert scene.refusal(scene.calls()[name](bob, BOB)) == (403, "M_FORBIDDEN"), name
    markers = read_markers.SetReadMarkers(scene.room_id, scene.event_id)
    for handler in (
        read_markers.set_read_markers(household.markers, household.town.access, bob, markers),
        receipts.post_receipt(
            household.markers,
            household.threads,
            household.town.access,
            bob,
            receipts.PostReceipt(scene.room_id, "m.read", scene.event_id),
        ),
    ):
        assert scene.refusal(handler) == (403, "M_FORBIDDEN")
    scene.room_id = "!nothing:test.example"
    for name in of_rooms:
        assert scene.refusal(scene.calls()[name](bob, BOB)) == (403, "M_FORBIDDEN"), name


def test_rooms_that_one_has_left_may_still_be_sorted_but_not_typed_in(household: Household) -> None:
    scene = Scene(household)
    household.town.join("bob", scene.room_id)
    household.town.leave("bob", scene.room_id)
    bob = household.town.who("bob")
    assert scene.answer(scene.calls()["put tag"](bob, BOB)) == {}
    assert scene.refusal(scene.calls()["typing"](bob, BOB))[0] == 403


def test_what_is_no_room_id_is_told_so(household: Household) -> None:
    scene = Scene(household)
    scene.room_id = "@ann:test.example"
    assert scene.refusal(scene.calls()["get room data"](scene.ann, ANN)) == (400, "M_INVALID_PARAM")


def test_account_data_comes_back_as_it_was_sent(household: Household) -> None:
    scene = Scene(household)
    data, rooms = household.account_data, household.town.rooms
    content = {"a": [1, None, {"nul": "\0"}]}
    scene.wait(account_data.put_account_data(data, scene.ann, account_data.Put(ANN, "org.x", content)))
    assert scene.answer(account_data.get_account_data(data, scene.ann, account_data.Get(ANN, "org.x"))) == content
    missing = account_data.get_account_data(data, scene.ann, account_data.Get(ANN, "org.y"))
    assert scene.refusal(missing) == (404, "M_NOT_FOUND")
    in_room = account_data.GetInRoom(ANN, scene.room_id, "org.x")
    assert scene.refusal(account_data.get_room_account_data(data, rooms, scene.ann, in_room)) == (404, "M_NOT_FOUND")


@pytest.mark.parametrize("event_type", ["m.fully_read", "m.push_rules"])
def test_what_the_server_keeps_cannot_be_set(household: Household, event_type: str) -> None:
    scene = Scene(household)
    data, rooms = household.account_data, household.town.rooms
    put = account_data.put_account_data(data, scene.ann, account_data.Put(ANN, event_type, {}))
    assert scene.refusal(put) == (405, "M_BAD_JSON")
    ask = account_data.PutInRoom(ANN, scene.room_id, event_type, {})
    assert scene.refusal(account_data.put_room_account_data(data, rooms, scene.ann, ask)) == (405, "M_BAD_JSON")


def test_a_type_has_its_limit(household: Household) -> None:
    scene = Scene(household)
    put = account_data.put_account_data(household.account_data, scene.ann, account_data.Put(ANN, "x" * 256, {}))
    assert scene.refusal(put) == (400, "M_INVALID_PARAM")


def test_receipts_of_each_kind(household: Household) -> None:
    scene = Scene(household)
    for kind in ("m.read", "m.read.private", FULLY_READ):
        assert scene.wait(scene.receipt(kind)) is None
    assert scene.wait(scene.receipt("m.read", thread_id="main")) is None
    nid = household.nid(scene.room_id)
    assert household.wait(household.account_data.get(ANN, nid, FULLY_READ)) is not None
    shown = household.wait(household.receipts.since(nid, ANN, 0, household.town.hub.position))
    assert shown is not None and b"m.read.private" in shown


NO_THREADS: list[Any] = ["", "x", "$", None, 1, {}, "$other", "main\0"]


@pytest.mark.parametrize(
    ("kind", "event_id", "more", "error"),
    [
        ("m.write", None, {}, (400, "M_INVALID_PARAM")),
        ("m.read", "event", {}, (400, "M_INVALID_PARAM")),
        ("m.read", "$nothing", {}, (404, "M_NOT_FOUND")),
        ("m.read", "$nothing", {"thread_id": "main"}, (404, "M_NOT_FOUND")),
        (FULLY_READ, None, {"thread_id": "main"}, (400, "M_INVALID_PARAM")),
        *(("m.read", None, {"thread_id": thread_id}, (400, "M_INVALID_PARAM")) for thread_id in NO_THREADS),
    ],
)
def test_receipts_that_are_none(
    household: Household, kind: str, event_id: str | None, more: dict[str, Any], error: tuple[int, str]
) -> None:
    scene = Scene(household)
    assert scene.refusal(scene.receipt(kind, event_id, **more)) == error


def test_read_markers_may_be_set_together_or_not_at_all(household: Household) -> None:
    scene = Scene(household)

    def set_markers(**marks: str | None) -> Awaitable[None]:
        ask = read_markers.SetReadMarkers(scene.room_id, **marks)
        return read_markers.set_read_markers(household.markers, household.town.access, scene.ann, ask)

    assert scene.wait(set_markers()) is None
    assert scene.wait(set_markers(fully_read=scene.event_id, read=scene.event_id, private=scene.event_id)) is None
    assert scene.refusal(set_markers(fully_read="$nothing", read=scene.event_id)) == (404, "M_NOT_FOUND")
    assert scene.refusal(set_markers(read="x")) == (400, "M_INVALID_PARAM")


def test_presence_of_others_is_for_who_shares_a_room(household: Household) -> None:
    scene = Scene(household)

    def get(who: Requester, user_id: str) -> Awaitable[Any]:
        return presence.get_presence(household.presence, who, presence.GetPresence(user_id))

    ask = presence.SetPresence(ANN, "unavailable", "")
    scene.wait(presence.set_presence(household.presence, scene.ann, ask))
    bob = household.town.who("bob")
    assert scene.refusal(get(bob, ANN)) == (403, "M_FORBIDDEN")
    assert scene.refusal(get(bob, "ann")) == (400, "M_INVALID_PARAM")
    household.town.join("bob", scene.room_id)
    told = scene.wait(get(bob, ANN))
    assert told["presence"] == "unavailable" and "status_msg" not in told
    too_long = presence.set_presence(household.presence, scene.ann, presence.SetPresence(ANN, "online", "x" * 1001))
    assert scene.refusal(too_long) == (400, "M_INVALID_PARAM")


def test_profiles_are_for_everybody_and_guests_have_a_name_only(household: Household) -> None:
    scene = Scene(household)
    profiles = household.profiles
    guest = Requester(ANN, "ANN", b"ann", is_guest=True)

    def put(who: Requester, key: str, content: dict[str, Any]) -> Awaitable[Any]:
        return profile.put_field(profiles, who, profile.PutField(ANN, key, content))

    scene.wait(put(guest, "displayname", {"displayname": "Ann", "other": 1}))
    assert scene.refusal(put(guest, "m.tz", {"m.tz": "x"})) == (403, "M_GUEST_ACCESS_FORBIDDEN")
    assert scene.refusal(put(scene.ann, "m.tz", {"timezone": "x"})) == (400, "M_MISSING_PARAM")
    delete = profile.delete_field(profiles, guest, profile.DeleteField(ANN, "m.tz"))
    assert scene.refusal(delete) == (403, "M_GUEST_ACCESS_FORBIDDEN")
    scene.wait(put(scene.ann, "org.x", {"org.x": None}))
    whole = profile.get_profile(profiles, None, profile.GetProfile(ANN))
    assert scene.answer(whole) == {"displayname": "Ann", "org.x": None}
    one = profile.get_field(profiles, None, profile.GetField(ANN, "displayname"))
    assert scene.answer(one) == {"displayname": "Ann"}
    for user_id, error in ((user("nobody"), (404, "M_NOT_FOUND")), ("ann", (400, "M_INVALID_PARAM"))):
        assert scene.refusal(profile.get_profile(profiles, None, profile.GetProfile(user_id))) == error
        ask = profile.GetField(user_id, "displayname")
        assert scene.refusal(profile.get_field(profiles, None, ask)) == error


def test_a_filter_comes_back_as_it_was_sent(household: Household) -> None:
    scene = Scene(household)
    json = {"room": {"timeline": {"limit": 5}}, "event_fields": ["type"]}
    made = scene.wait(filter.post_filter(household.filters, scene.ann, filter.PostFilter(ANN, json)))
    ask = filter.GetFilter(ANN, made["filter_id"])
    assert scene.answer(filter.get_filter(household.filters, scene.ann, ask)) == json
    bad = filter.post_filter(household.filters, scene.ann, filter.PostFilter(ANN, {"room": {"timeline": 1}}))
    assert scene.refusal(bad) == (400, "M_BAD_JSON")
    unknown = filter.get_filter(household.filters, scene.ann, filter.GetFilter(ANN, "77"))
    assert scene.refusal(unknown) == (404, "M_NOT_FOUND")
