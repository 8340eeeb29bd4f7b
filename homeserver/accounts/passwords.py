"""Passwords: made into argon2id hashes, and compared with them, off the reactor's thread.

Hashes of other systems (bcrypt) are accepted; `judge` says when one should be made anew, which its caller does with
the password at hand. Spec: https://spec.matrix.org/v1.19/client-server-api/#password-management
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import msgspec
from attrs import define, field
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from config.passwords import Passwords as PasswordSettings
from homeserver.errors import MatrixError, Unavailable

if TYPE_CHECKING:
    from argon2 import PasswordHasher

T = TypeVar("T")

MAX_CHARACTERS = 512
THREADS = 2
"""Each holds the memory of one hash, and other work needs the processors too."""
MAX_WAITING = 200
CHEAP_KIB = 64
"""Up to this cost a hash takes less time than a thread's attention."""


class Judgement(msgspec.Struct, frozen=True):
    matches: bool
    outdated: bool = False
    """It matches, and its hash should be made anew: other scheme, or other costs than today's."""


@define
class Passwords:
    """Makes and judges hashes of passwords. `close` ends its threads."""

    _settings: PasswordSettings
    _reactor: IReactorFromThreads
    _pool: ThreadPool | None = field(default=None, init=False)
    _waiting: int = field(default=0, init=False)
    _hasher: PasswordHasher | None = field(default=None, init=False)
    _nobodys_hash: str | None = field(default=None, init=False)

    def check_strength(self, password: str) -> None:
        """Raise `MatrixError` (M_WEAK_PASSWORD) if this may not become anybody's password."""
        if len(password) < self._settings.minimum_length:
            raise MatrixError(
                400, "M_WEAK_PASSWORD", f"The password must have {self._settings.minimum_length} characters or more"
            )
        if len(password) > MAX_CHARACTERS:
            raise MatrixError(400, "M_WEAK_PASSWORD", f"The password must have at most {MAX_CHARACTERS} characters")

    async def hash(self, password: str) -> str:
        """The argon2id hash of a password that `check_strength` let through. Raises `Unavailable` under a flood."""
        return await self._off_thread(lambda: self._argon2().hash(password))

    async def judge(self, password: str, kept: str | None) -> Judgement:
        """Compare a password with what is kept. Without a hash it is wrong, after as much time as with one."""
        if len(password) > MAX_CHARACTERS:
            return Judgement(matches=False)
        return await self._off_thread(lambda: self._judge(password, kept))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.stop()
            self._pool = None

    def _judge(self, password: str, kept: str | None) -> Judgement:
        hasher = self._argon2()
        if kept is None:
            if self._nobodys_hash is None:
                self._nobodys_hash = hasher.hash("nobody's password")
            _verify(hasher, self._nobodys_hash, password)
            return Judgement(matches=False)
        if kept.startswith("$argon2"):
            matches = _verify(hasher, kept, password)
            return Judgement(matches, outdated=matches and hasher.check_needs_rehash(kept))
        if kept.startswith(("$2a$", "$2b$", "$2y$")):
            import bcrypt

            try:
                # bcrypt never looked at more than 72 bytes; today's library refuses them.
                matches = bcrypt.checkpw(password.encode()[:72], kept.encode())
            except ValueError:  # no hash of bcrypt after all
                matches = False
            return Judgement(matches, outdated=matches)
        return Judgement(matches=False)

    def _argon2(self) -> PasswordHasher:
        if self._hasher is None:
            from argon2 import PasswordHasher

            settings = self._settings
            self._hasher = PasswordHasher(
                time_cost=settings.argon2_time_cost,
                memory_cost=settings.argon2_memory_kib,
                parallelism=settings.argon2_parallelism,
            )
        return self._hasher

    async def _off_thread(self, work: Callable[[], T]) -> T:
        if self._settings.argon2_memory_kib * self._settings.argon2_time_cost <= CHEAP_KIB:
            return work()
        if self._waiting >= MAX_WAITING:
            raise Unavailable("Too many people are logging in at this moment; try again soon")
        if self._pool is None:
            self._pool = ThreadPool(minthreads=0, maxthreads=THREADS, name="passwords")
            self._pool.start()
        self._waiting += 1
        try:
            return await deferToThreadPool(self._reactor, self._pool, work)
        finally:
            self._waiting -= 1


def _verify(hasher: PasswordHasher, kept: str, password: str) -> bool:
    from argon2.exceptions import Argon2Error, InvalidHashError

    try:
        return hasher.verify(kept, password)
    except (Argon2Error, InvalidHashError):
        return False
