"""A server that is killed in the midst of it: what was answered is there afterwards, and holds."""

from __future__ import annotations

import signal
import time

from homeserver.guilds.client import GuildsClient
from homeserver.harness.client import until
from homeserver.harness.ours import ServerProcess
from tests.fixtures_server import server
from tests.stories.people import forbidden, people_of

__all__ = ["server"]


def test_a_guild_outlives_its_server(server: ServerProcess) -> None:
    ann, bob, cat = people_of(server, "ann", "bob", "cat")
    anns, bobs = GuildsClient(ann), GuildsClient(bob)
    guild = anns.create("The lighthouse", template="team")
    code = guild.create_invite()["code"]
    for person in (bob, cat):
        GuildsClient(person).join_by(code)
    talk = guild.create_channel("talk")
    keepers = guild.create_role("keepers", permissions=["kick_members"], mentionable=True)
    guild.give_role(bob.user_id, keepers)
    bobs.ask_friend(cat.user_id)
    later = anns.room(talk).schedule(int(time.time() * 1000) + 3_600_000, {"msgtype": "m.text", "body": "Lights on"})
    anns.mute(talk)
    anns.set_status("invisible")
    guild.override(talk, "everyone", deny=["send_messages"])
    guild.override(talk, keepers, allow=["send_messages"])
    before = guild.whole()
    trail = [(entry["ts"], entry["action"], entry["target"]) for entry in guild.audit()]
    private = guild.create_channel("private", overrides={"everyone": {"deny": ["view_channel"]}})
    server.kill(signal.SIGKILL)
    server.start()

    after = guild.whole()
    assert [one for one in after["channels"] if one["room_id"] != private] == before["channels"]
    assert {**after, "channels": None} == {**before, "channels": None}
    assert [(entry["ts"], entry["action"], entry["target"]) for entry in guild.audit()][-len(trail) :] == trail
    assert forbidden(lambda: cat.say(talk, "may I?"))
    assert forbidden(lambda: cat.join(private))
    bob.say(talk, "I may")
    bobs.guild(guild.guild_id).kick(cat.user_id)
    assert forbidden(lambda: cat.call("GET", f"/_matrix/client/v3/rooms/{talk}/state"))
    assert [one["id"] for one in anns.room(talk).scheduled()] == [later]
    assert [one["user_id"] for one in GuildsClient(cat).friends()["incoming"]] == [bob.user_id]
    presence = f"/_matrix/client/v3/presence/{ann.user_id}/status"
    until(lambda: bob.call("GET", presence)["presence"], "offline")
