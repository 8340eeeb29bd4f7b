"""Friends and direct rooms with people of a Synapse, which knows of invitations to direct rooms and of nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.harness.client import until
from homeserver.harness.person import Person, in_path
from tests.fixtures_town import Cast, Casting

API = "/_guildhall/client/v1"


def call(who: Person, method: str, *path: str, **body: Any) -> Any:
    return who.call(method, "/".join([API, *(in_path(part) for part in path)]), body or None)


def circle(who: Person) -> dict[str, list[str]]:
    return {what: [one["user_id"] for one in people] for what, people in call(who, "GET", "friends").items()}


def direct(who: Person) -> Any:
    events = who.sync(timeout=0)["account_data"]["events"]
    return next((event["content"] for event in events if event["type"] == "m.direct"), {})


def presence(who: Person, other: Person) -> tuple[Any, Any]:
    found = who.call("GET", f"/_matrix/client/v3/presence/{in_path(other.user_id)}/status")
    return found.get("presence"), found.get("status_msg")


NOBODY: dict[str, list[str]] = {"friends": [], "incoming": [], "outgoing": []}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("cast", [Casting(("ours", "synapse"), "12")], indirect=True, ids=str)
def test_friends_on_a_plain_server(cast: Cast) -> None:
    home, plain = cast
    ann = cast.person("ann", home)
    sue, rita, tom, uma = (cast.person(name, plain) for name in ("sue", "rita", "tom", "uma"))

    # A request is an invitation to a direct room; joining says yes.
    room_id = call(ann, "POST", "friends", "requests", user_id=sue.user_id)["room_id"]
    assert circle(ann) == {**NOBODY, "outgoing": [sue.user_id]}
    until(lambda: sue.rooms("invite"), {room_id})
    shown = sue.sync(timeout=0)["rooms"]["invite"][room_id]["invite_state"]["events"]
    invitation = next(event["content"] for event in shown if event.get("state_key") == sue.user_id)
    assert invitation["is_direct"] is True and invitation["chat.guildhall.friend_request"] is True
    sue.join(room_id, via=[home])
    until(lambda: circle(ann), {**NOBODY, "friends": [sue.user_id]})
    until(lambda: ann.content_of(room_id, "chat.guildhall.friend", ann.user_id), {"state": "accepted"})
    assert call(ann, "POST", "dms", user_id=sue.user_id)["room_id"] == room_id
    ann.say(room_id, "to a friend")
    until(lambda: sue.texts(room_id), ["to a friend"])

    # How she is: busy is away with words to who knows no better, and invisible is offline.
    for status, told in (("busy", ("unavailable", "Busy")), ("online", ("online", None))):
        call(ann, "PUT", "status", status=status)
        until(lambda told=told: presence(sue, ann), told)  # type: ignore[misc]
    call(ann, "PUT", "status", status="invisible")
    until(lambda: presence(sue, ann)[0], "offline")
    call(ann, "DELETE", "friends", sue.user_id)
    assert circle(ann) == NOBODY and room_id in ann.rooms()

    # Declining it says no.
    other = call(ann, "POST", "friends", "requests", user_id=rita.user_id)["room_id"]
    until(lambda: rita.rooms("invite"), {other})
    rita.leave(other)
    until(lambda: circle(ann), NOBODY)

    # A direct room that is opened there is the one of the two here too.
    theirs = tom.create_room(preset="trusted_private_chat", is_direct=True, invite=[ann.user_id])
    until(lambda: theirs in ann.rooms("invite"), True)
    assert call(ann, "POST", "dms", user_id=tom.user_id)["room_id"] == theirs
    until(lambda: direct(ann).get(tom.user_id), [theirs])

    # Opened on both sides: that server can't give way, so this one does.
    mine = call(ann, "POST", "dms", user_id=uma.user_id)["room_id"]
    until(lambda: uma.rooms("invite"), {mine})
    hers = uma.create_room(preset="trusted_private_chat", is_direct=True, invite=[ann.user_id])
    until(lambda: ann.rooms() & {mine, hers}, {hers})
    until(lambda: uma.rooms("invite"), set())
    assert call(ann, "POST", "dms", user_id=uma.user_id)["room_id"] == hers
    until(lambda: direct(ann).get(uma.user_id), [hers])
