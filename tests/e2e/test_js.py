"""People with matrix-js-sdk on a real server, among themselves and with somebody who has matrix-nio."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator
from typing import Any

import nio
import pytest
import vodozemac
from attrs import frozen

from homeserver.harness.client import until
from tests.e2e.javascript import Device, Script
from tests.e2e.secretive import KEYS, PASSWORD, Backup, company, hear, ok, play, say, turn
from tests.fixtures_server import ServerProcess, running_servers
from tests.media.files import opened, picture

pytestmark = [
    # aiohttp leaves its sockets to the collector when a test's loop ends, and nio the databases of its memory stores.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.timeout(300),
]

ENCRYPTED = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
_numbers = itertools.count(1)


@frozen
class Stage:
    """The server and the script, shared by all tests of this file."""

    server: ServerProcess
    script: Script

    def person(self, name: str) -> Device:
        """Somebody new on their first device."""
        user = f"{name}-{next(_numbers)}"
        self.server.register(user, PASSWORD)
        return self.script.enter(user, self.server, PASSWORD)

    def device(self, person: Device, *, sliding: bool = False) -> Device:
        """A device more of somebody."""
        return self.script.enter(person.user_id, self.server, PASSWORD, sliding=sliding)

    def room(self, founder: Device, *others: Device, **body: object) -> str:
        """A room with all of them in it."""
        everybody = [founder, *others]
        invite = [other.user_id for other in others]
        room_id: str = founder.call("createRoom", {"preset": "private_chat", "invite": invite, **body})["room_id"]
        for other in others:
            until(lambda other=other: (other.room(room_id) or {}).get("membership"), "invite")  # type: ignore[misc]
            other.do("join", roomId=room_id)
        wanted = sorted(each.user_id for each in everybody)
        for each in everybody:
            until(lambda each=each: (each.room(room_id) or {}).get("members"), wanted)  # type: ignore[misc]
        return room_id


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with running_servers(lambda: tmp_path_factory.mktemp("server")) as start:
        server = start()
        with Script.running(tmp_path_factory.mktemp("script") / "stderr") as script:
            yield Stage(server, script)


def test_secrets_with_another_client_and_on_later_devices(stage: Stage) -> None:
    """Identity, secret storage and backup are set up; whoever has another client reads what is said and is read; a
    device that comes later, by sliding sync, has the recovery key; and one of the other make has the backup's."""
    carol = stage.person("carol")
    recovery_key = carol.do("bootstrap", password=PASSWORD)
    standing = carol.do("standing")
    assert standing["crossSigning"] and standing["secretStorage"] and standing["backup"] == "1"
    room_id = stage.room(carol, initial_state=[ENCRYPTED], name="Whispers")

    async def story() -> None:
        async with company(stage.server) as enter:
            nina = await enter(f"nina-{next(_numbers)}")
            carol.call("invite", room_id, nina.user_id)
            await turn(nina)
            ok(await nina.join(room_id), nio.JoinResponse)
            until(lambda: nina.user_id in carol.room(room_id)["members"], True)
            carol.say(room_id, "hello, Nina")
            heard = await hear(nina, "hello, Nina")
            assert heard.decrypted
            (device,) = nina.device_store[carol.user_id].values()
            nina.verify_device(device)
            await say(nina, room_id, "hello, Carol")
            until(lambda: carol.bodies(room_id), ["hello, Nina", "hello, Carol"])
            until(lambda: kept_keys(stage, carol), 2)

            tablet = stage.device(carol, sliding=True)
            until(lambda: tablet.bodies(room_id), [None, None])
            assert tablet.do("recover", recoveryKey=recovery_key) == 2
            until(lambda: tablet.bodies(room_id), ["hello, Nina", "hello, Carol"])
            assert tablet.do("trust", user=carol.user_id)["devices"] == {carol.device_id: True, tablet.device_id: True}
            until(lambda: tablet.do("standing")["backup"], "1")
            tablet.say(room_id, "from the tablet")
            assert (await hear(nina, "from the tablet")).decrypted
            until(lambda: carol.bodies(room_id)[-1:], ["from the tablet"])

            laptop = await enter(localpart(carol), known=True)
            secret = vodozemac.Curve25519SecretKey.from_bytes(base64.b64decode(standing["backupKey"]))
            assert await (await Backup.opened(laptop, secret)).restore(laptop) >= 2
            page = ok(await laptop.room_messages(room_id, limit=20), nio.RoomMessagesResponse)
            texts = [event.body for event in page.chunk if isinstance(event, nio.RoomMessageText)]
            assert texts[-2:] == ["hello, Carol", "hello, Nina"]

    play(story())


def test_people_who_compare_emoji(stage: Stage) -> None:
    """Of one person from device to device, and then the new device is given the secrets; of two in a room, and then
    each trusts all devices of the other."""
    dave, erin = stage.person("dave"), stage.person("erin")
    for person in (dave, erin):
        person.do("bootstrap", password=PASSWORD)
    phone = stage.device(dave)
    assert phone.do("trust", user=dave.user_id) == {
        "person": False,
        "devices": {dave.device_id: False, phone.device_id: False},
    }
    mine, theirs = phone.do("verify", other=dave.name)
    assert mine == theirs and len(mine) == 7
    both = {dave.device_id: True, phone.device_id: True}
    until(lambda: phone.do("trust", user=dave.user_id), {"person": True, "devices": both})
    until(lambda: phone.do("standing"), dave.do("standing"))

    room_id = stage.room(dave, erin, initial_state=[ENCRYPTED])
    mine, theirs = dave.do("verify", other=erin.name, roomId=room_id)
    assert mine == theirs
    trusted = {"person": True, "devices": {erin.device_id: True}}
    for device in (dave, phone):
        until(lambda device=device: device.do("trust", user=erin.user_id), trusted)  # type: ignore[misc]
    until(lambda: erin.do("trust", user=dave.user_id), {"person": True, "devices": both})

    # Letters from device to device, each once.
    content = {"answer": 42}
    for number in range(3):
        ask = {"user": dave.user_id, "device": phone.device_id, "content": {"number": number, **content}}
        erin.do("sendSecretly", type="org.example.letter", **ask)
    letters = [{"type": "org.example.letter", "content": {"number": n, **content}, "encrypted": True} for n in range(3)]
    until(lambda: phone.do("letters", type="org.example.letter"), letters)
    assert dave.do("letters", type="org.example.letter") == []


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_talk(stage: Stage, encrypted: bool) -> None:
    """Edits, reactions, threads, receipts and counts as the sdk makes of them what the server says; a device that comes
    later, by each way of syncing, sees the same."""
    frank, grace = stage.person("frank"), stage.person("grace")
    recovery_key = frank.do("bootstrap", password=PASSWORD)
    room_id = stage.room(frank, grace, initial_state=[ENCRYPTED] if encrypted else [], name="Talk")
    typo = frank.say(room_id, "helo")
    until(lambda: grace.bodies(room_id), ["helo"])
    new = {"msgtype": "m.text", "body": "hello"}
    frank.say(room_id, "* hello", **{"m.new_content": new, "m.relates_to": {"rel_type": "m.replace", "event_id": typo}})
    until(lambda: seen(grace, room_id, typo)[:2], ("hello", True))

    for person in (frank, grace):
        thumb = {"m.relates_to": {"rel_type": "m.annotation", "event_id": typo, "key": "👍"}}
        person.call("sendEvent", room_id, "m.reaction", thumb)
    until(lambda: seen(grace, room_id, typo), ("hello", True, [["👍", 2]]))
    until(lambda: seen(frank, room_id, typo), ("hello", True, [["👍", 2]]))

    slip = grace.say(room_id, "a slip")
    until(lambda: frank.event(room_id, slip) is not None, True)
    grace.call("redactEvent", room_id, slip)
    until(lambda: frank.event(room_id, slip)["redacted"], True)

    for number, person in enumerate((grace, frank, grace)):
        person.do("answer", roomId=room_id, root=typo, body=f"in the thread {number}")
        wanted = [f"in the thread {each}" for each in range(number + 1)]
        for reader in (frank, grace):
            until(lambda reader=reader: thread(reader, room_id, typo)[1:], wanted)  # type: ignore[misc]

    last = grace.say(room_id, "read this")
    until(lambda: (frank.event(room_id, last) or {}).get("body"), "read this")
    until(lambda: frank.room(room_id)["unread"] > 0, True)
    frank.do("read", roomId=room_id, eventId=last)
    until(lambda: grace.do("hasRead", roomId=room_id, eventId=last, user=frank.user_id), True)
    until(lambda: frank.room(room_id)["threads"][typo]["unread"], 1)
    frank.do("read", roomId=room_id, eventId=newest(frank, room_id, typo))
    until(lambda: frank.room(room_id)["unread"], 0)
    until(lambda: frank.room(room_id)["threads"][typo]["unread"], 0)

    until(lambda: not encrypted or kept_keys(stage, frank) == 2, True)
    for sliding in (False, True):
        later = stage.device(frank, sliding=sliding)
        if encrypted:
            assert later.do("recover", recoveryKey=recovery_key) == 2
        until(lambda later=later: seen(later, room_id, typo), ("hello", True, [["👍", 2]]))  # type: ignore[misc]
        until(lambda later=later: later.bodies(room_id), ["hello", "* hello", None, "read this"])  # type: ignore[misc]
        until(lambda later=later: thread(later, room_id, typo)[1:], wanted)  # type: ignore[misc]
        if not encrypted:  # where it can't trust the server's counts, the sdk makes its own
            assert later.room(room_id)["unread"] == later.room(room_id)["threads"][typo]["unread"] == 0


def kept_keys(stage: Stage, person: Device) -> int:
    """How many are in the person's backup."""
    return int(stage.server.call("GET", f"{KEYS}/version", token=person.token)["count"])


def seen(person: Device, room_id: str, event_id: str) -> tuple[Any, ...]:
    event = person.event(room_id, event_id) or {}
    return event.get("body"), event.get("edited"), event.get("reactions")


def thread(person: Device, room_id: str, root: str) -> list[str]:
    """What is said in a thread, from its root on."""
    found = person.room(room_id)["threads"].get(root)
    return [] if found is None else [event["body"] for event in found["events"]]


def newest(person: Device, room_id: str, root: str) -> str:
    """The last event of a thread."""
    return str(person.room(room_id)["threads"][root]["events"][-1]["id"])


def test_files(stage: Stage) -> None:
    henry, irene = stage.person("henry"), stage.person("irene")
    data = picture("PNG", 300, 200)
    uri = henry.upload(data, "image/png")
    assert irene.download(uri) == data
    assert opened(irene.download(uri, width=96, height=96)).size == (96, 96)
    assert irene.call("getMediaConfig")["m.upload.size"] > 1_000_000


def localpart(person: Device) -> str:
    return person.user_id.split(":")[0][1:]
