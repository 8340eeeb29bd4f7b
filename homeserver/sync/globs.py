"""Lists of names and patterns as filters have them, answered from memory for names that were asked before.

A `*` in a pattern stands for any number of characters. Patterns are matched piece by piece, never by regular
expressions: a client chooses them, and a regular expression with twenty stars can take a server's whole day.

Spec: https://spec.matrix.org/v1.19/client-server-api/#filtering
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

MAX_REMEMBERED = 1000


class Glob:
    """One pattern with at least one `*`. Matching costs at most the name's length for each piece."""

    __slots__ = ("_first", "_last", "_middle", "_shortest")

    def __init__(self, pattern: str) -> None:
        self._first, *self._middle, self._last = pattern.split("*")
        self._middle = [piece for piece in self._middle if piece]
        self._shortest = len(self._first) + len(self._last)

    def matches(self, name: str) -> bool:
        # Taking each piece where it first occurs never spoils the chances of the next.
        if len(name) < self._shortest or not name.startswith(self._first) or not name.endswith(self._last):
            return False
        end = len(name) - len(self._last)
        start = len(self._first)
        for piece in self._middle:
            start = name.find(piece, start, end)
            if start < 0:
                return False
            start += len(piece)
        return True


class Names:
    """A list of what is wanted (None: everything) and one of what is not; the second wins."""

    __slots__ = ("_known", "_unwanted", "_unwanted_globs", "_wanted", "_wanted_globs", "is_open", "unwanted", "wanted")

    ALL: ClassVar[Names]

    def __init__(
        self,
        wanted: Iterable[str] | None,
        unwanted: Iterable[str],
        wanted_globs: Iterable[Glob] = (),
        unwanted_globs: Iterable[Glob] = (),
    ) -> None:
        self._wanted = None if wanted is None else frozenset(wanted)
        self._unwanted = frozenset(unwanted)
        self._wanted_globs = tuple(wanted_globs)
        self._unwanted_globs = tuple(unwanted_globs)
        self._known: dict[str, bool] = {}
        self.is_open = self._wanted is None and not self._unwanted and not self._unwanted_globs
        """Everything is admitted."""
        self.wanted: tuple[str, ...] | None = None
        """As the client wrote them: None for everything."""
        self.unwanted: tuple[str, ...] = ()

    @classmethod
    def exact(cls, wanted: list[str] | None, unwanted: list[str] | None) -> Names:
        """Names that stand for themselves: users and rooms."""
        if wanted is None and not unwanted:
            return cls.ALL
        names = cls(wanted, unwanted or ())
        names.wanted = None if wanted is None else tuple(wanted)
        names.unwanted = tuple(unwanted or ())
        return names

    @classmethod
    def patterns(cls, wanted: list[str] | None, unwanted: list[str] | None) -> Names:
        """Names that may hold `*`: event types."""
        if (wanted is None or "*" in wanted) and not unwanted:
            return cls.ALL
        names = cls(
            None if wanted is None or "*" in wanted else [name for name in wanted if "*" not in name],
            [name for name in unwanted or () if "*" not in name],
            [Glob(name) for name in wanted or () if "*" in name],
            [Glob(name) for name in unwanted or () if "*" in name],
        )
        names.wanted = None if wanted is None else tuple(wanted)
        names.unwanted = tuple(unwanted or ())
        return names

    def admit(self, name: str) -> bool:
        if self.is_open:
            return True
        verdict = self._known.get(name)
        if verdict is None:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            verdict = self._known[name] = self._judge(name)
        return verdict

    def _judge(self, name: str) -> bool:
        if name in self._unwanted or any(glob.matches(name) for glob in self._unwanted_globs):
            return False
        wanted = self._wanted
        return wanted is None or name in wanted or any(glob.matches(name) for glob in self._wanted_globs)


Names.ALL = Names(None, ())
