"""A file on its way in: written as it comes, in threads, into a folder of its own, and gone unless it is kept."""

from __future__ import annotations

import mmap
import os
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock

from attrs import define, field

from homeserver.http.tap import Tap
from homeserver.media.kinds import HEAD_BYTES

BLOCK = 256 * 1024
"""What is taken from a tap at once: more would not stay in a processor's cache until it is written."""
ABANDONED_S = 24 * 60 * 60
"""No upload takes this long: what is older was left behind by a crash."""


@define(eq=False)
class Draft:
    """Made in the reactor's thread; `write`, `finish` and `discard` block. One of them runs at a time."""

    path: Path
    size_bytes: int = field(default=0, init=False)
    head: bytes = field(default=b"", init=False)
    """How it begins: the first `HEAD_BYTES`."""
    shelved: bool = field(default=False, init=False)
    """A store has it: it is gone from its path."""
    _descriptor: int | None = field(default=None, init=False)
    _block: memoryview | None = field(default=None, init=False)
    _finished: bool = field(default=False, init=False)
    _discarded: bool = field(default=False, init=False)
    _guard: Lock = field(factory=Lock, init=False)

    @classmethod
    def new(cls, folder: Path) -> Draft:
        return cls(folder / secrets.token_hex(16))

    def draw(self, pieces: Sequence[bytes], tap: Tap) -> None:
        """Add these pieces, and what comes by the tap as long as it comes. Raises OSError."""
        try:
            self.write(pieces)
            if self._block is None:
                # The system's own, and back there with the draft: of what the allocator has once had, much stays ours.
                self._block = memoryview(mmap.mmap(-1, BLOCK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
            block = self._block
            # Up to a whole number of blocks of the file, so that no page of it is written to twice.
            while not self._discarded and (size := tap.fill(block[: BLOCK - self.size_bytes % BLOCK])):
                self.write([block[:size]])
        finally:
            tap.close()

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Add to it. Raises OSError."""
        with self._guard:
            if self._discarded or self._finished:
                return
            if self._descriptor is None:
                self._descriptor = self._open()
            # In one: each write lets go of the interpreter, and waits to have it back.
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            if len(self.head) < HEAD_BYTES:
                self.head += data[: HEAD_BYTES - len(self.head)]
            self.size_bytes += len(data)
            _write_all(self._descriptor, data)

    def finish(self) -> None:
        """That was all; whatever is written later is not taken. Raises OSError."""
        self.write([])  # an empty file is one too
        with self._guard:
            self._finished = True
            self._close()

    def discard(self) -> None:
        """It is not wanted, or is somewhere else already."""
        with self._guard:
            self._discarded = True
            self._close()
            self.path.unlink(missing_ok=True)

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(self.path, flags, 0o600)
        except FileNotFoundError:  # the very first
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(self.path, flags, 0o600)

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._block = None


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    written = os.write(descriptor, data)
    while written < len(data):  # a disk that is nearly full takes a part
        data = data[written:]
        written = os.write(descriptor, data)


def clear_abandoned(folder: Path, now_s: float | None = None) -> int:
    """Delete what crashes have left in the folder for drafts. How many files there were. Blocks."""
    if not folder.exists():
        return 0
    found = 0
    before = (time.time() if now_s is None else now_s) - ABANDONED_S
    for entry in os.scandir(folder):
        with suppress(FileNotFoundError):
            if entry.is_file(follow_symlinks=False) and entry.stat().st_mtime < before:
                os.unlink(entry.path)
                found += 1
    return found
