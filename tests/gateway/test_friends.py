"""News of friends and direct rooms over the gateway: in the order of the stream, once, and also for who was away."""

from __future__ import annotations

from storage.friend_news import KEPT
from tests.friends.people import FriendHouse, street
from tests.gateway.fixtures import connect

__all__ = ["street"]

INTENTS = ["friend_request", "dm"]


def test_who_is_away_hears_it_on_coming_back(street: FriendHouse) -> None:
    ann, cat, dan = (street.user(name) for name in ("ann", "cat", "dan"))
    first = connect(street, "bob", INTENTS)
    street.ask("ann", "bob")
    street.rest()
    assert first.news("user_id") == [("friend_request.received", ann)]
    first.drop()
    street.ask("cat", "bob")
    street.act("ann", "cancel", "bob")
    second = connect(street, "bob", INTENTS, after=first)
    assert second.news("user_id") == [
        ("friend_request.received", cat),
        ("friend_request.removed", ann),
        ("dm.deleted", ann),
    ]
    street.act("bob", "accept", "cat")
    assert ("friend_request.accepted", cat) in second.news("user_id")
    second.drop()
    third = connect(street, "bob", INTENTS, after=second)
    assert third.news() == []  # nothing twice
    street.dm("dan", "bob")
    street.rest()
    assert third.news() == []  # an invitation is a room that came, and no friend's
    street.join("bob", street.dm("dan", "bob"))
    street.rest()
    assert ("dm.created", dan) in third.news("user_id")


def test_who_missed_too_much_begins_anew(street: FriendHouse) -> None:
    ear = connect(street, "bob", INTENTS)
    ear.drop()
    for number in range(KEPT + 1):
        news = street.house.friends.news
        street.wait(news.tell("dm.created", street.user("bob"), f"@{number}:test.example", "!room"))
    again = connect(street, "bob", INTENTS, after=ear)
    assert [one["op"] for one in again.messages()] == ["invalid_session", "ready"]
