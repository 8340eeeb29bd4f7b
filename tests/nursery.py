"""Servers that need not import themselves: a process that has imported everything waits for orders, and each server is
a fork of it. Python takes a second or two to import a server, more than most tests have to do with one.

    with Nursery.opened() as nursery:
        process = nursery(command, cwd=ROOT, env=environ, stdin=DEVNULL, stdout=log, stderr=log)

A fork is a process like any other: it has its own memory, environment, files and signals, runs the same `__main__` with
the same arguments, and ends as an interpreter ends. What it does not show is that the imports of a module work in that
order from nothing: `tests/cli/test_harness.py` and the verbs of `tests/cli/test_running.py` are started by the command
itself.

Between a server and the nursery stands a watcher, a fork too, whose child the server is: it tells how that ended.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from attrs import define, field

ROOT = Path(__file__).parents[1]
MAX_ORDER = 128 * 1024
PID_SIZE = STATUS_SIZE = 8


@define(eq=False)
class Child:
    """What is needed of a `subprocess.Popen`, for a process that is not a child of this one."""

    command: Sequence[str]
    pid: int
    _watcher: socket.socket
    returncode: int | None = field(default=None, init=False)

    def poll(self) -> int | None:
        if self.returncode is None:
            self._watcher.setblocking(False)
            try:
                self._read_status()
            except BlockingIOError:
                return None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._watcher.settimeout(timeout)
            try:
                self._read_status()
            except TimeoutError:
                raise subprocess.TimeoutExpired(self.command, timeout or 0) from None
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _read_status(self) -> None:
        status = self._watcher.recv(STATUS_SIZE)
        assert status, "the watcher was killed"
        self.returncode = int(status)
        self._watcher.close()


@define(eq=False)
class Nursery:
    """The control of the process, called as `subprocess.Popen` is; see the module's docstring."""

    _orders: socket.socket

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[Nursery]:
        """Until the end of the `with`, servers may be ordered. The first waits until everything is imported."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.nursery", str(theirs.fileno())]
        with ours, subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()]) as process:
            theirs.close()
            try:
                yield cls(ours)
            finally:
                ours.close()
                process.wait(30)

    def __call__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdin: int | IO[bytes],
        stdout: int | IO[bytes],
        stderr: int | IO[bytes],
    ) -> Child:
        """`command` is `[sys.executable, "-m", MODULE, …]`."""
        assert [*command[:2]] == [sys.executable, "-m"], command
        order = json.dumps({"command": command[2:], "cwd": str(cwd), "environ": dict(env)}).encode()
        mine, watchers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with watchers, open(os.devnull, "r+b") as nothing:
            given = [nothing if file == subprocess.DEVNULL else file for file in (stdin, stdout, stderr)]
            files = [file if isinstance(file, int) else file.fileno() for file in given]
            socket.send_fds(self._orders, [order], [*files, watchers.fileno()])
        pid = mine.recv(PID_SIZE)
        assert pid, "the nursery was killed"
        return Child(command, int(pid), mine)


# -- in the other process ---------------------------------------------------------------------------------------------


def main(number: int) -> None:
    """Fork whatever is ordered, until whoever orders is gone. Returns in each server, too, when that has ended."""
    import homeserver.app
    import homeserver.cli.run  # noqa: F401
    from homeserver.client.all import ALL_ROUTES
    from homeserver.federation_api.all import FEDERATION_ROUTES
    from homeserver.http.table import RouteTable
    from tests.spec.anybody import Anybody

    RouteTable([*ALL_ROUTES, *FEDERATION_ROUTES], Anybody())  # what is found out of handlers is kept
    gc.collect()
    gc.freeze()  # else the collectors of the forks would copy what they share
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for watchers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    orders = socket.socket(fileno=number)
    while True:
        text, files, _, _ = socket.recv_fds(orders, MAX_ORDER, 4)
        if not text:
            return
        if os.fork() == 0:
            break
        for file in files:
            os.close(file)
    orders.close()
    *standard, watcher = files
    watch(socket.socket(fileno=watcher))
    become(standard, **json.loads(text))


def watch(whoever_ordered: socket.socket) -> None:
    """Fork again. Returns in the child only; this process tells who the child is and, when it has ended, how."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with whoever_ordered:
        if (pid := os.fork()) == 0:
            return
        whoever_ordered.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        whoever_ordered.send(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)


def become(standard: Sequence[int], command: Sequence[str], cwd: str, environ: Mapping[str, str]) -> None:
    """Be the process that the command would have started."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file in enumerate(standard):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(cwd)
    module, *arguments = command
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
