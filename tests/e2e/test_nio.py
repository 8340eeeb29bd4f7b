"""People chatting with matrix-nio, a client library that we did not write, on a real server over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import nio
import pytest

from tests.e2e.secretive import ok
from tests.fixtures_server import ServerProcess

# aiohttp leaves its sockets to the collector when a test's loop ends.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


class Cast:
    """The people of one play."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.clients: list[nio.AsyncClient] = []

    async def enter(self, name: str) -> nio.AsyncClient:
        client = nio.AsyncClient(self.server.base, f"@{name}:{self.server.name}")
        self.clients.append(client)
        ok(await client.register(name, "a good password"), nio.RegisterResponse)
        return client

    async def play(self, story: Callable[[Cast], Awaitable[None]]) -> None:
        try:
            await asyncio.wait_for(story(self), 60)
        finally:
            for client in self.clients:
                await client.close()


def play(server: ServerProcess, story: Callable[[Cast], Awaitable[None]]) -> None:
    """Play a story in a thread of its own: this one belongs to the tests' reactor."""
    with ThreadPoolExecutor(1) as stage:
        stage.submit(asyncio.run, Cast(server).play(story)).result()


async def until(client: nio.AsyncClient, room_id: str, wanted: Callable[[Any], bool]) -> Any:
    """Sync until an event of the room's timeline is the wanted one."""
    while True:
        response = ok(await client.sync(timeout=5000), nio.SyncResponse)
        joined = response.rooms.join.get(room_id)
        for event in joined.timeline.events if joined is not None else ():
            if wanted(event):
                return event


def says(text: str) -> Callable[[Any], bool]:
    return lambda event: isinstance(event, nio.RoomMessageText) and event.body == text


def test_two_people_chat(server: ServerProcess) -> None:
    async def story(cast: Cast) -> None:
        alice, bob = await cast.enter("alice"), await cast.enter("bob")
        made = ok(
            await alice.room_create(name="The pub", topic="All about happy hour", invite=[bob.user_id]),
            nio.RoomCreateResponse,
        )
        room_id = made.room_id

        ok(await bob.sync(timeout=5000), nio.SyncResponse)
        assert bob.invited_rooms[room_id].display_name == "The pub"
        ok(await bob.join(room_id), nio.JoinResponse)
        await until(bob, room_id, lambda event: isinstance(event, nio.RoomMemberEvent) and event.membership == "join")
        assert bob.rooms[room_id].topic == "All about happy hour"

        await alice.sync(timeout=0)
        waiting = asyncio.ensure_future(until(bob, room_id, says("hello, Bob")))
        await asyncio.sleep(0.1)
        sent = ok(
            await alice.room_send(room_id, "m.room.message", {"msgtype": "m.text", "body": "hello, Bob"}),
            nio.RoomSendResponse,
        )
        heard = await waiting
        assert heard.event_id == sent.event_id and heard.sender == alice.user_id

        ok(
            await bob.room_send(room_id, "m.room.message", {"msgtype": "m.text", "body": "hello, Alice"}),
            nio.RoomSendResponse,
        )
        await until(alice, room_id, says("hello, Alice"))
        assert set(alice.rooms[room_id].users) == {alice.user_id, bob.user_id}

        page = ok(await bob.room_messages(room_id, limit=2), nio.RoomMessagesResponse)
        assert [event.body for event in page.chunk] == ["hello, Alice", "hello, Bob"]

    play(server, story)


def test_typing_receipts_and_read_markers(server: ServerProcess) -> None:
    async def story(cast: Cast) -> None:
        alice, bob = await cast.enter("alice"), await cast.enter("bob")
        room_id = ok(
            await alice.room_create(preset=nio.RoomPreset.public_chat, name="The pub"), nio.RoomCreateResponse
        ).room_id
        ok(await bob.join(room_id), nio.JoinResponse)
        await alice.sync(timeout=0)
        ok(await bob.room_typing(room_id, True, timeout=30_000), nio.RoomTypingResponse)
        await alice.sync(timeout=5000)
        assert alice.rooms[room_id].typing_users == [bob.user_id]
        ok(await bob.room_typing(room_id, False), nio.RoomTypingResponse)
        await alice.sync(timeout=5000)
        assert alice.rooms[room_id].typing_users == []

        sent = ok(
            await alice.room_send(room_id, "m.room.message", {"msgtype": "m.text", "body": "read this"}),
            nio.RoomSendResponse,
        )
        await alice.sync(timeout=5000)
        ok(await bob.room_read_markers(room_id, sent.event_id, sent.event_id), nio.RoomReadMarkersResponse)
        await alice.sync(timeout=5000)
        assert alice.rooms[room_id].read_receipts[bob.user_id].event_id == sent.event_id
        await bob.sync(timeout=5000, full_state=True)
        assert bob.rooms[room_id].fully_read_marker == sent.event_id

    play(server, story)


def test_names_state_redaction_and_kick(server: ServerProcess) -> None:
    async def story(cast: Cast) -> None:
        alice, bob = await cast.enter("alice"), await cast.enter("bob")
        room_id = ok(
            await alice.room_create(preset=nio.RoomPreset.public_chat, alias="pub"), nio.RoomCreateResponse
        ).room_id
        resolved = ok(await bob.room_resolve_alias(f"#pub:{server.name}"), nio.RoomResolveAliasResponse)
        assert resolved.room_id == room_id
        ok(await bob.join(resolved.room_alias), nio.JoinResponse)
        ok(await bob.set_displayname("Bob the Builder"), nio.ProfileSetDisplayNameResponse)
        await until(alice, room_id, lambda e: isinstance(e, nio.RoomMemberEvent) and "displayname" in e.content)
        assert alice.rooms[room_id].user_name(bob.user_id) == "Bob the Builder"

        ok(await alice.room_put_state(room_id, "m.room.name", {"name": "Renamed"}), nio.RoomPutStateResponse)
        await until(bob, room_id, lambda e: isinstance(e, nio.RoomNameEvent))
        assert bob.rooms[room_id].display_name == "Renamed"
        refused = await bob.room_put_state(room_id, "m.room.name", {"name": "Mine"})
        assert isinstance(refused, nio.RoomPutStateError) and refused.status_code == "M_FORBIDDEN"

        sent = ok(
            await bob.room_send(room_id, "m.room.message", {"msgtype": "m.text", "body": "oops"}), nio.RoomSendResponse
        )
        ok(await alice.room_redact(room_id, sent.event_id, "too rude"), nio.RoomRedactResponse)
        await until(bob, room_id, lambda e: isinstance(e, nio.RedactionEvent) and e.redacts == sent.event_id)
        gone = ok(await bob.room_get_event(room_id, sent.event_id), nio.RoomGetEventResponse)
        assert isinstance(gone.event, nio.RedactedEvent)

        ok(await alice.room_kick(room_id, bob.user_id, "bye"), nio.RoomKickResponse)
        response = ok(await bob.sync(timeout=5000), nio.SyncResponse)
        assert room_id in response.rooms.leave and room_id not in response.rooms.join
        members = ok(await alice.joined_members(room_id), nio.JoinedMembersResponse)
        assert [member.user_id for member in members.members] == [alice.user_id]

    play(server, story)
