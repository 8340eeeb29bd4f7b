"""The worker processes, as the server sees them: jobs go in, results come out, and a worker that is stuck is ended.

do ──> a thread ──> an idle worker, or a new one ──> its answer in time? ──yes──> result; the worker is idle again
                                                            └──no──> WorkFailed; the worker is no more
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from threading import Lock
from typing import TypeVar

import msgspec
from attrs import define, field

from config import Media as Settings
from federation.threads import Workers
from homeserver.media.workshop.jobs import Failed, Failure, Job, WorkFailed, encode

T = TypeVar("T")

IDLE_S = 60.0
MOST_JOBS = 200
"""After so many a worker is replaced: libraries leak."""
MOST_WAITING = 64
MOST_ANSWER_BYTES = 1024 * 1024


@define(eq=False)
class Worker:
    """One process. All but `stop` is for one thread at a time."""

    _memory_bytes: int
    _timeout_s: float
    jobs: int = field(default=0, init=False)
    idle_since: float = field(default=0.0, init=False)
    _process: subprocess.Popen[bytes] = field(init=False)

    def __attrs_post_init__(self) -> None:
        arguments = [str(self._memory_bytes), str(max(1, int(self._timeout_s)))]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-m", "homeserver.media.workshop.worker", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Each arena of the allocator takes 64 MiB of the memory that it may have.
            env={"PATH": os.environ.get("PATH", ""), "MALLOC_ARENA_MAX": "2", "LC_ALL": "C.UTF-8"},
            start_new_session=True,  # Ctrl-C is for the server
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, line: bytes) -> bytes:
        """Its answer. Raises WorkFailed; then it is of no more use."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.jobs += 1
        until = time.monotonic() + self._timeout_s
        answer = b""
        try:
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
            while not answer.endswith(b"\n"):
                ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, until - time.monotonic()))
                if not ready:
                    raise WorkFailed(Failure.GAVE_UP, f"it took longer than {self._timeout_s:g} s")
                more = os.read(self._process.stdout.fileno(), 65536)
                if not more or len(answer) > MOST_ANSWER_BYTES:
                    raise WorkFailed(Failure.GAVE_UP, "the worker fell over it")
                answer += more
        except OSError as error:
            raise WorkFailed(Failure.GAVE_UP, f"the worker is gone: {error}") from None
        return answer

    def stop(self) -> None:
        """End it, whatever it is doing. Whoever waits for its answer will notice."""
        self._process.kill()

    def end(self) -> None:
        """It is of no more use. Blocks for a moment."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what it never took
                    pipe.close()


@define(eq=False)
class Workshop:
    """Does what `homeserver.media.workshop.jobs` lists. `done` and `failed` count since the start."""

    _settings: Settings
    _threads: Workers
    _idle: list[Worker] = field(factory=list, init=False)
    _all: set[Worker] = field(factory=set, init=False)
    _guard: Lock = field(factory=Lock, init=False)
    _waiting: int = field(default=0, init=False)
    _closed: bool = field(default=False, init=False)
    done: int = field(default=0, init=False)
    failed: int = field(default=0, init=False)

    @property
    def running(self) -> int:
        """How many workers there are."""
        return len(self._all)

    async def do(self, job: Job, into: type[T]) -> T:
        """Have a job done. Raises WorkFailed."""
        if self._waiting >= MOST_WAITING:
            raise WorkFailed(Failure.BUSY, "too much is waiting already")
        self._waiting += 1
        try:
            answer = await self._threads.run(self._do, encode(job))
            found = msgspec.json.decode(answer, type=dict[str, msgspec.Raw])
            if "failure" in found:
                failed = msgspec.json.decode(answer, type=Failed)
                raise WorkFailed(failed.failure, failed.why)
            result = msgspec.json.decode(answer, type=into)
        except WorkFailed:
            self.failed += 1
            raise
        finally:
            self._waiting -= 1
        self.done += 1
        return result

    async def tidy(self) -> None:
        """End those that have had nothing to do for a while."""
        before = time.monotonic() - IDLE_S
        with self._guard:
            old = [worker for worker in self._idle if worker.idle_since < before]
            self._idle = [worker for worker in self._idle if worker.idle_since >= before]
        for worker in old:
            await self._threads.run(self._end, worker)

    async def close(self) -> None:
        """End all of them, also those that are at work."""
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
            busy = self._all.difference(idle)
        for worker in busy:
            worker.stop()
        for worker in idle:
            await self._threads.run(self._end, worker)
        await self._threads.close()

    def _do(self, line: bytes) -> bytes:
        """In a thread."""
        with self._guard:
            if self._closed:
                raise WorkFailed(Failure.BUSY, "the server is going down")
            worker = self._idle.pop() if self._idle else None
        if worker is None:
            worker = Worker(self._settings.worker_memory_bytes, self._settings.worker_timeout_ms / 1000)
            with self._guard:
                self._all.add(worker)
        try:
            answer = worker.ask(line)
        except WorkFailed:
            self._end(worker)
            raise
        if worker.jobs >= MOST_JOBS:
            self._end(worker)
        else:
            worker.idle_since = time.monotonic()
            with self._guard:
                self._idle.append(worker)
        return answer

    def _end(self, worker: Worker) -> None:
        worker.end()
        with self._guard:
            self._all.discard(worker)
