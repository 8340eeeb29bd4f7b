"""A shell into the running server: whoever may write to the data directory can ask it anything, in Python.

    CLI `shell` ──{"source": "len(app.rooms)"}──> data_dir/shell.sock ──> evaluated in the reactor's thread
                <──{"output": "12\\n"}────────────

One JSON object per line, both ways. The socket belongs to its owner alone (mode 0600), and what it can do, the owner
could do anyway. `await` works at the top level, so `await app.something()` waits for the answer.
"""

from __future__ import annotations

import ast
import inspect
import os
import socket
import stat
import traceback
import types
from pathlib import Path
from typing import Any

import msgspec
import structlog
from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IReactorUNIX
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver

log = structlog.get_logger()

SOCKET = "shell.sock"
MAX_LINE = 1024 * 1024
MAX_PATH = 100
"""In bytes; the system's own limit is between 104 and 108."""


class Ask(msgspec.Struct, forbid_unknown_fields=True):
    """Python source, an expression or statements."""

    source: str


class Answer(msgspec.Struct):
    """What was printed, then the value unless it is None, or else the traceback."""

    output: str


@define
class Session:
    """One conversation; names that it assigns stay until it ends."""

    names: dict[str, Any]

    async def evaluate(self, source: str) -> str:
        """Run `source` and give back all that it has to say. Never raises for what the source does wrong."""
        said: list[str] = []

        def say(*values: object, sep: str = " ", end: str = "\n") -> None:
            said.append(sep.join(map(str, values)) + end)

        names = self.names
        names["print"] = say
        try:
            code = _compile(source)
            value = types.FunctionType(code, names)()
            if code.co_flags & inspect.CO_COROUTINE:
                value = await value
            if value is not None:
                names["_"] = value
                said.append(f"{value!r}\n")
        except Exception as error:
            said.extend(traceback.format_exception(error))
        return "".join(said)


def _compile(source: str) -> types.CodeType:
    try:
        code = compile(source, "<shell>", "eval", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError:
        code = compile(source, "<shell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(code, types.CodeType)
    return code


class _Conversation(LineOnlyReceiver):
    delimiter = b"\n"
    MAX_LENGTH = MAX_LINE

    def __init__(self, session: Session) -> None:
        self._session = session

    def lineReceived(self, line: bytes) -> None:
        Deferred.fromCoroutine(self._answer(line)).addErrback(self._failed)

    async def _answer(self, line: bytes) -> None:
        ask = msgspec.json.decode(line, type=Ask)
        output = await self._session.evaluate(ask.source)
        assert self.transport is not None
        self.transport.write(msgspec.json.encode(Answer(output)) + b"\n")

    def _failed(self, failure: object) -> None:
        log.warning("shell conversation ended", why=str(failure))
        assert self.transport is not None
        self.transport.loseConnection()


class ShellFactory(Factory):
    """Makes a session for everybody who connects, with `names` to begin from."""

    def __init__(self, names: dict[str, Any]) -> None:
        self._names = names

    def buildProtocol(self, addr: object) -> _Conversation:
        return _Conversation(Session(dict(self._names)))


def open_shell(reactor: IReactorUNIX, data_dir: Path, names: dict[str, Any]) -> IListeningPort | None:
    """Listen at `data_dir/shell.sock`. None, with a warning in the log, where that is impossible: a server can do
    without.
    """
    path = data_dir / SOCKET
    if len(os.fsencode(path)) > MAX_PATH:
        log.warning("no shell into this server", path=str(path), why="the path is too long for a Unix socket")
        return None
    try:
        _remove_stale(path)
        return reactor.listenUNIX(os.fspath(path), ShellFactory(names), mode=0o600)
    except Exception as error:
        log.warning("no shell into this server", path=str(path), why=str(error))
        return None


def _remove_stale(path: Path) -> None:
    """A server that was killed leaves its socket behind; nobody listens on it any more."""
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
