"""A bot that goes on through restarts of a real server, and misses nothing."""

from __future__ import annotations

import signal

from tests.fixtures_server import Person, ServerProcess
from tests.gateway.client import GatewayClient


def bodies(bot: GatewayClient, number: int) -> list[str]:
    return [str(data["event"]["content"]["body"]) for _, data in bot.events(number)]


def say(person: Person, room_id: str, texts: list[str]) -> None:
    for text in texts:
        path = f"/_matrix/client/v3/rooms/{room_id}/send/m.room.message/{text}"
        person.call("PUT", path, {"msgtype": "m.text", "body": text})


def test_restarts(server: ServerProcess) -> None:
    ann, bob = server.register("ann"), server.register("bob")
    room_id = ann.call("POST", "/_matrix/client/v3/createRoom", {"preset": "public_chat"})["room_id"]
    bob.call("POST", f"/_matrix/client/v3/join/{room_id}", {})
    bot = GatewayClient(server.port, bob.token, ["message"])
    say(ann, room_id, ["a", "b", "c"])
    assert bodies(bot, 2) == ["a", "b"]
    # What came and was not looked at counts as taken: `seq` is what the client has.
    server.kill(signal.SIGKILL)
    server.start()
    bot.heard.clear()
    say(ann, room_id, ["d", "e"])
    bot.reconnect(server.port)
    session = bot.session
    say(ann, room_id, ["f"])
    missed = bodies(bot, 3)
    assert missed in (["d", "e", "f"], ["c", "d", "e"])
    if missed[0] == "c":
        assert bodies(bot, 1) == ["f"]
    server.stop()
    assert bot.wire.closed() == 4010
    server.start()
    say(ann, room_id, ["g", "h"])
    bot.reconnect(server.port)
    assert bodies(bot, 2) == ["g", "h"]
    assert bot.call("message.send", room_id=room_id, content={"msgtype": "m.text", "body": "i"})["event_id"]
    assert bodies(bot, 1) == ["i"]
    assert bot.session == session and bot.ready["session"] == session
