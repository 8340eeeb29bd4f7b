"""`harness`: servers that find each other come up, say where they are, and leave nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from homeserver.harness.client import ask, until
from tests.fixtures_server import ROOT

START = "/_matrix/client/v3"


@pytest.mark.timeout(300)
def test_a_federation_by_one_command(tmp_path: Path, synapse_python: Path) -> None:
    assert _makes(tmp_path, signal.SIGINT, ["--synapse", str(synapse_python)]) == ["ours", "ours", "synapse"]


def _makes(scratch: Path, how: signal.Signals, more: Sequence[str]) -> list[str]:
    """Run it, have somebody of the last server join a room of the first, end it. Gives the makes of its servers."""
    command = [sys.executable, "-m", "homeserver", "harness", *more]
    environ = {**os.environ, "TMPDIR": str(scratch)}
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("The lines between them"):
                break
        text = "".join(lines)
        bases, tokens = re.findall(r"for clients  (\S+)", text), re.findall(r"token        (\S+)", text)
        makes, names = (
            re.findall(r"^\S+  \((\w+)\)$", text, re.MULTILINE),
            re.findall(r"^(\S+)  \(", text, re.MULTILINE),
        )
        body = {"preset": "public_chat", "room_alias_name": "pub"}
        made = ask(bases[0], "POST", f"{START}/createRoom", body, token=tokens[0])
        room_id = made.json["room_id"]
        joined = ask(bases[-1], "POST", f"{START}/join/%23pub:{names[0]}", {}, token=tokens[-1])
        assert joined.json == {"room_id": room_id}
        process.send_signal(how)
        assert process.wait(60) == 0
    until(lambda: list(scratch.iterdir()), [])
    return makes
