"""`friends` and `friends/requests`: who is a friend, who asks to be, and what to say to that."""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.ephemeral.presence import Glance, PresenceBoard
from homeserver.friends.friendships import Friendships
from homeserver.guilds.api.fields import API, Id
from homeserver.guilds.api.members import STATUSES
from homeserver.http.route import USER, Requester, route
from storage.friends import FRIENDS, INCOMING, OUTGOING, Listed

ONE = f"{API}/friends/requests/{{user_id}}"


class PersonAnswer(msgspec.Struct, frozen=True):
    """Somebody, as far as the room with them tells."""

    user_id: str
    room_id: str
    displayname: str | None
    avatar_url: str | None


class FriendAnswer(msgspec.Struct, frozen=True):
    user_id: str
    room_id: str
    displayname: str | None
    avatar_url: str | None
    status: str
    """`online`, `away`, `busy` or `offline`."""
    status_msg: str | None
    last_seen_ts: int | None
    """In ms since 1970; null where it is not known."""


class FriendList(msgspec.Struct, frozen=True):
    friends: list[FriendAnswer]
    incoming: list[PersonAnswer]
    outgoing: list[PersonAnswer]


class AskSomebody(msgspec.Struct, frozen=True):
    user_id: Id


class Asked(msgspec.Struct, frozen=True):
    room_id: str
    state: str
    """`requested`, or `accepted` where they are friends now: the other had asked too."""


class Somebody(msgspec.Struct, frozen=True):
    user_id: str


@route("GET", f"{API}/friends", auth=USER, rate="read")
async def get_friends(friendships: Friendships, presence: PresenceBoard, who: Requester) -> FriendList:
    """One's friends, whom one asked to be one, and who asks."""
    listed = await friendships.of(who.user_id)
    events = await friendships.pairs.events.get_many([one.member_nid for one in listed if one.member_nid is not None])
    found: dict[int, list[PersonAnswer]] = {}
    for one in listed:
        content = events[one.member_nid].event.content if one.member_nid in events else {}
        found.setdefault(one.relation, []).append(_person(one, content))
    persons = found.get(FRIENDS, [])
    glances = await presence.glance([one.user_id for one in persons])
    friends = [_friend(one, glances[one.user_id]) for one in persons]
    return FriendList(friends, found.get(INCOMING, []), found.get(OUTGOING, []))


@route("POST", f"{API}/friends/requests", auth=USER, rate="invite")
async def ask_somebody(friendships: Friendships, who: Requester, ask: AskSomebody) -> Asked:
    """Ask somebody to be a friend, or say yes where they asked already."""
    room_id, relation = await friendships.request(who.user_id, ask.user_id)
    return Asked(room_id, "accepted" if relation == FRIENDS else "requested")


@route("POST", f"{ONE}/accept", auth=USER, rate="write")
async def accept_request(friendships: Friendships, who: Requester, ask: Somebody) -> None:
    """Be the friend of somebody who asked."""
    await friendships.accept(who.user_id, ask.user_id)


@route("POST", f"{ONE}/decline", auth=USER, rate="write")
async def decline_request(friendships: Friendships, who: Requester, ask: Somebody) -> None:
    """Say no to somebody who asked."""
    await friendships.decline(who.user_id, ask.user_id)


@route("POST", f"{ONE}/cancel", auth=USER, rate="write")
async def cancel_request(friendships: Friendships, who: Requester, ask: Somebody) -> None:
    """Take back what one asked somebody."""
    await friendships.cancel(who.user_id, ask.user_id)


@route("DELETE", f"{API}/friends/{{user_id}}", auth=USER, rate="write")
async def remove_friend(friendships: Friendships, who: Requester, ask: Somebody) -> None:
    """Be friends no more. The room that one shares stays, with its history."""
    await friendships.remove(who.user_id, ask.user_id)


def _friend(person: PersonAnswer, glance: Glance) -> FriendAnswer:
    return FriendAnswer(
        person.user_id,
        person.room_id,
        person.displayname,
        person.avatar_url,
        STATUSES.get(glance.state, "offline"),
        glance.status_msg,
        glance.last_seen_ts,
    )


def _person(one: Listed, content: Any) -> PersonAnswer:
    displayname, avatar_url = content.get("displayname"), content.get("avatar_url")
    return PersonAnswer(
        one.other_id,
        one.room_id,
        displayname if isinstance(displayname, str) else None,
        avatar_url if isinstance(avatar_url, str) else None,
    )
