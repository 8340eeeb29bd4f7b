"""The shell into a running server, over its real socket."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.threads import deferToThread

from homeserver.observe.shell import Session, open_shell


async def _later(value: int) -> int:
    done: Deferred[int] = Deferred()
    reactor.callLater(0, done.callback, value)
    return await done


@pytest_twisted.ensureDeferred
async def test_expressions_statements_and_await() -> None:
    session = Session({"later": _later})
    assert await session.evaluate("1 + 1") == "2\n"
    assert await session.evaluate("x = 5") == ""
    assert await session.evaluate("x, _") == "(5, 2)\n"
    assert await session.evaluate("await later(7)") == "7\n"
    assert await session.evaluate("y = await later(8)\nprint(x, y, sep='-')") == "5-8\n"
    assert await session.evaluate("None") == ""


@pytest_twisted.ensureDeferred
async def test_mistakes_are_told_and_survived() -> None:
    session = Session({})
    assert "ZeroDivisionError: division by zero" in await session.evaluate("print('a'); 1 / 0")
    assert "SyntaxError" in await session.evaluate("1 +")
    assert await session.evaluate("2") == "2\n"


def _talk(path: Path, lines: list[bytes]) -> list[Any]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(os.fspath(path))
        stream = connection.makefile("rwb")
        answers = []
        for line in lines:
            stream.write(line + b"\n")
            stream.flush()
            answer = stream.readline()
            answers.append(json.loads(answer)["output"] if answer else None)
        return answers


@pytest_twisted.ensureDeferred
async def test_over_the_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(os.fspath(tmp_path / "shell.sock"))
    port = open_shell(reactor, tmp_path, {"app": [1, 2, 3]})  # type: ignore[arg-type]
    assert port is not None, "a socket that a killed server left behind is no hindrance"
    assert stat.S_IMODE((tmp_path / "shell.sock").stat().st_mode) == 0o600
    lines = [b'{"source": "len(app)"}', b'{"source": "z = 1"}', b'{"source": "z"}', b"nonsense"]
    assert await deferToThread(_talk, tmp_path / "shell.sock", lines) == ["3\n", "", "1\n", None]
    assert "NameError" in (await deferToThread(_talk, tmp_path / "shell.sock", lines[2:3]))[0]
    await maybeDeferred(port.stopListening)
    assert not (tmp_path / "shell.sock").exists()


def test_a_path_that_is_too_long_is_no_reason_not_to_start(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    assert open_shell(reactor, deep, {}) is None  # type: ignore[arg-type]
