"""People whose clients encrypt, with matrix-nio and vodozemac, on a real server that dies in between."""

from __future__ import annotations

import signal

import nio
import pytest
from nio.crypto import attachments

from tests.e2e.secretive import Backup, company, hear, ok, play, say, turn, until, verify
from tests.fixtures_server import ServerProcess, StartServer

# aiohttp leaves its sockets to the collector when a test's loop ends, and nio the databases of its memory stores.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

SECRET = b"not for the server " * 1000


async def story(server: ServerProcess) -> None:
    async with company(server) as enter:
        alice, bob = await enter("alice"), await enter("bob")
        encrypted = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
        made = await alice.room_create(invite=[bob.user_id], initial_state=[encrypted])
        room_id = ok(made, nio.RoomCreateResponse).room_id
        await turn(bob)
        ok(await bob.join(room_id), nio.JoinResponse)
        known = lambda: len(alice.device_store[bob.user_id]) == len(bob.device_store[alice.user_id]) == 1  # noqa: E731
        await until(known, alice, bob)

        # Nothing is said to devices that nobody looked at.
        with pytest.raises(nio.OlmUnverifiedDeviceError):
            await say(alice, room_id, "who are you?")
        await verify(alice, bob)
        first = await say(alice, room_id, "hello, Bob")
        heard = await hear(bob, "hello, Bob")
        assert heard.decrypted and heard.verified and heard.event_id == first
        await say(bob, room_id, "hello, Alice")
        assert (await hear(alice, "hello, Alice")).verified
        told = await bob.room_get_event(room_id, first)
        kept = server.call("GET", f"/_matrix/client/v3/rooms/{room_id}/event/{first}", token=bob.access_token)
        assert ok(told, nio.RoomGetEventResponse).event.body == "hello, Bob"
        assert kept["type"] == "m.room.encrypted" and "body" not in kept["content"]

        # A file, of which the server sees only noise.
        ciphertext, key = attachments.encrypt_attachment(SECRET)
        uploaded, _ = await alice.upload(lambda *_: ciphertext, "application/octet-stream", filesize=len(ciphertext))
        uri = ok(uploaded, nio.UploadResponse).content_uri
        fetched = ok(await bob.download(uri), nio.DownloadResponse).body
        assert fetched == ciphertext
        plain = attachments.decrypt_attachment(fetched, key["key"]["k"], key["hashes"]["sha256"], key["iv"])
        assert plain == SECRET

        # What is on its way when the server dies is there when it is back: a message, and the key for it.
        ok(await alice.joined_members(room_id), nio.JoinedMembersResponse)
        alice.invalidate_outbound_session(room_id)
        await say(alice, room_id, "while you were away")
        backup = await Backup.founded(alice)
        assert await backup.keep(alice) == 3, "two sessions of hers, and one of his"
        server.kill(signal.SIGKILL)
        server.start()
        assert (await hear(bob, "while you were away")).verified
        await say(bob, room_id, "back again")
        assert (await hear(alice, "back again")).verified

        # A device more: others see it come, and it reads what was said before it was there.
        tablet = await enter("alice")
        page = ok(await tablet.room_messages(room_id, limit=20), nio.RoomMessagesResponse)
        assert sum(isinstance(event, nio.MegolmEvent) for event in page.chunk) == 4
        assert await (await Backup.opened(tablet, backup.secret)).restore(tablet) == 3
        page = ok(await tablet.room_messages(room_id, limit=20), nio.RoomMessagesResponse)
        texts = [event.body for event in page.chunk if isinstance(event, nio.RoomMessageText)]
        assert texts == ["back again", "while you were away", "hello, Alice", "hello, Bob"]

        everybody = (alice, bob, tablet)
        await until(lambda: len(bob.device_store[alice.user_id]) == 2, *everybody)
        await until(lambda: tablet.device_id in alice.device_store[alice.user_id], *everybody)
        with pytest.raises(nio.OlmUnverifiedDeviceError):
            await say(bob, room_id, "who is that?")
        await until(lambda: len(tablet.device_store[bob.user_id]) == 1, *everybody)
        await verify(bob, tablet)
        await verify(alice, tablet)
        await say(bob, room_id, "to both of you")
        for device in (alice, tablet):
            assert (await hear(device, "to both of you")).verified
        await say(tablet, room_id, "from the tablet")
        assert (await hear(bob, "from the tablet")).verified


@pytest.mark.timeout(180)
def test_a_secret_conversation(start_server: StartServer) -> None:
    """What each database keeps of it is seen elsewhere."""
    play(story(start_server()))
