"""Files in a folder of this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import cast

import msgspec
from attrs import define, field

from homeserver.media.store.port import INCOMING, NotStored
from storage.files import sync_file


@define(eq=False)
class FileReading:
    """Implements `Reading` on a file of this machine."""

    _descriptor: int
    _place: int
    _left: int
    _open: bool = field(default=True, init=False)

    def read(self, size: int) -> bytes:
        return self._took(os.pread(self._descriptor, min(size, self._left), self._place))

    def read_ready(self, size: int) -> bytes | None:
        """What is in memory anyway. Reading that takes a few µs; what the disk must be asked for takes a thread."""
        size = min(size, self._left)
        if not size:
            return b""
        buffer = bytearray(size)
        try:
            found = os.preadv(self._descriptor, [buffer], self._place, _ONLY_READY)
        except OSError:
            return None  # not in memory, or a file system that can't tell
        if not found:
            return None
        del buffer[found:]
        return self._took(cast(bytes, buffer))  # it goes where bytes go, and nobody writes to it any more

    def close(self) -> None:
        if self._open:
            self._open = False
            os.close(self._descriptor)

    def __del__(self) -> None:
        self.close()  # whoever wanted it went away while it was opened

    def _took(self, data: bytes) -> bytes:
        self._place += len(data)
        self._left -= len(data)
        return data


_ONLY_READY = getattr(os, "RWF_NOWAIT", 0)


class LocalStore(msgspec.Struct, frozen=True):
    """Implements `Store`."""

    root: Path

    def put(self, name: str, file: Path) -> None:
        target = self.root / name
        made = list(takewhile(lambda folder: not folder.exists(), target.parents))
        if made:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_file(file)
        try:
            file.replace(target)
        except OSError:  # the folder for what is on its way is on another disk
            unfinished = target.with_name(target.name + ".unfinished")
            shutil.copyfile(file, unfinished)
            sync_file(unfinished)
            unfinished.replace(target)
            file.unlink()
        for folder in {target.parent, *(each.parent for each in made)}:
            sync_file(folder)

    def open(self, name: str, start: int, length: int) -> FileReading:
        try:
            descriptor = os.open(self.root / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotStored(f"there is no file {name}") from None
        with suppress(OSError):
            os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_SEQUENTIAL)
        return FileReading(descriptor, start, length)

    @contextmanager
    def as_file(self, name: str) -> Iterator[Path]:
        path = self.root / name
        if not path.exists():
            raise NotStored(f"there is no file {name}")
        yield path

    def delete(self, names: Sequence[str]) -> None:
        for name in names:
            (self.root / name).unlink(missing_ok=True)

    def names(self) -> Iterator[str]:
        for parent, folders, files in os.walk(self.root):
            folders[:] = sorted(folder for folder in folders if folder != INCOMING or Path(parent) != self.root)
            for name in sorted(files):
                yield (Path(parent) / name).relative_to(self.root).as_posix()

    def address(self, name: str, headers: Mapping[str, str]) -> str | None:
        return None
