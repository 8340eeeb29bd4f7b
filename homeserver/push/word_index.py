"""Whose words are said in a text, found in one walk through the text however many people wait for words.

A pattern without stars fits only where each of its runs of letters is a whole word of the text. So it is looked up by
its longest run. What has stars, or no run, is looked at one by one, where its longest piece is in the text at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import define, field

from homeserver.push.words import ANY, STAR, WordPattern

_RUN = re.compile(r"[a-z0-9_]+")
_WILD = re.compile(f"[{re.escape(STAR + ANY)}]+")


@define(eq=False)
class WordIndex:
    """Patterns of all people."""

    _by_run: dict[str, dict[WordPattern, set[str]]] = field(factory=dict, init=False)
    _others: dict[WordPattern, set[str]] = field(factory=dict, init=False)
    _mine: dict[str, tuple[WordPattern, ...]] = field(factory=dict, init=False)

    def put(self, user_id: str, patterns: Iterable[WordPattern]) -> None:
        """What somebody waits for from now on."""
        for pattern in self._mine.pop(user_id, ()):
            shelf = self._shelf(pattern)
            shelf[pattern].discard(user_id)
            if not shelf[pattern]:
                del shelf[pattern]
                if not shelf and shelf is not self._others:
                    del self._by_run[_key(pattern)]
        mine = tuple(dict.fromkeys(patterns))
        if mine:
            self._mine[user_id] = mine
        for pattern in mine:
            self._shelf(pattern).setdefault(pattern, set()).add(user_id)

    def said_in(self, text: str) -> set[str]:
        """Whose words are in a text."""
        found: set[str] = set()
        if not self._mine:
            return found
        text = text.lower()
        for run in self._by_run.keys() & set(_RUN.findall(text)):
            for pattern, people in self._by_run[run].items():
                if pattern.is_in(text):
                    found |= people
        for pattern, people in self._others.items():
            if _piece(pattern) in text and pattern.is_in(text):
                found |= people
        return found

    def _shelf(self, pattern: WordPattern) -> dict[WordPattern, set[str]]:
        key = _key(pattern)
        return self._by_run.setdefault(key, {}) if key else self._others


def _key(pattern: WordPattern) -> str:
    """The longest run; nothing for what is not looked up."""
    return "" if pattern.is_glob else max(_RUN.findall(pattern.text), key=len, default="")


def _piece(pattern: WordPattern) -> str:
    """The longest piece that has to be in a text as it is."""
    return max(_WILD.split(pattern.text), key=len) if pattern.is_glob else pattern.text
