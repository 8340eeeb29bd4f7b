"""The lines between servers, in a process of their own (`line.py`), and how to disturb them.

with lines.fault(Fault(Kind.LOSE, origin=a.name, destination=b.name, path="*/send/*", times=1)):
    alice.say(room_id, "sent twice, heard once")
with lines.parted([a], [b, c]):
    ...
"""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from attrs import define, field

from homeserver.harness.client import Answer, Refused, ask
from homeserver.harness.faults import Fault, Kind, NewLine, Passage, Passages
from homeserver.harness.server import Server, plain_environ


@define(eq=False)
class Lines:
    """The control of the process. `start` comes first."""

    log_path: Path
    _names: Iterator[int] = field(factory=itertools.count, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    base: str = field(default="", init=False)
    """Where it takes orders over HTTP."""

    def start(self) -> None:
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "homeserver.harness.line"],
                env=plain_environ(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().decode().strip()
        if not port:
            raise RuntimeError(f"the lines could not be laid:\n{self.log_path.read_text()}")
        self.base = f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.close()
            process.wait(10)
            process.stdout.close()

    def open(self, line: NewLine) -> None:
        self._tell("/open", line)

    @contextlib.contextmanager
    def fault(self, *faults: Fault) -> Iterator[None]:
        """Disturb lines until the end of the `with`. The first fault that fits a request is the one it meets."""
        names = [f"f{next(self._names)}" for _ in faults]
        for name, fault in zip(names, faults, strict=True):
            self._tell(f"/fault/{name}", fault)
        try:
            yield
        finally:
            for name in names:
                self._tell(f"/mend/{name}", None)

    @contextlib.contextmanager
    def parted(self, some: Sequence[Server], others: Sequence[Server], kind: Kind = Kind.REFUSE) -> Iterator[None]:
        """Until the end of the `with`, nothing that is signed comes from one side to the other."""
        ways = itertools.chain(itertools.product(some, others), itertools.product(others, some))
        with self.fault(*(Fault(kind, origin=a.name, destination=b.name) for a, b in ways)):
            yield

    def now(self) -> int:
        """The moment, for `passages`."""
        return self._passages(0).next

    def passages(
        self, origin: Server | None = None, destination: Server | None = None, since: int = 0
    ) -> list[Passage]:
        """What came over the lines, oldest first; of these two servers only, and since a moment, if they are given."""
        return [
            each
            for each in self._passages(since).passages
            if (origin is None or each.origin == origin.name)
            and (destination is None or each.destination == destination.name)
        ]

    def _passages(self, since: int) -> Passages:
        return msgspec.json.decode(ask(self.base, "GET", f"/passages?since={since}").body, type=Passages)

    def _tell(self, path: str, what: object) -> Answer:
        answer = ask(self.base, "POST", path, msgspec.json.encode(what))
        if answer.status != 200:
            raise Refused(f"POST {path}", answer)
        return answer
