"""Patterns that fit some words of a text: from one border of a word to another, whatever their case.

All beginnings are tried at once, in one walk through the text: the bits of a number say how far each has come. So no
pattern, be it made of stars, takes longer than the text is long.

Spec: https://spec.matrix.org/v1.19/client-server-api/#conditions-1
"""

from __future__ import annotations

import re
import string
from collections import defaultdict
from collections.abc import Sequence
from typing import Self

from attrs import field, frozen

_IN_WORDS = frozenset(string.ascii_letters + string.digits + "_")

STAR, ANY = "*", "?"

_USER_ID = re.compile(r"@[^\s:@]+:[A-Za-z0-9.:\[\]-]+")


@frozen(cache_hash=True)
class WordPattern:
    """Made by `glob` or `literal`."""

    text: str
    """In lower case."""
    is_glob: bool
    _steps: dict[str, int] = field(init=False, eq=False, repr=False)
    """Letter → the places of the pattern that it fills."""
    _any: int = field(init=False, eq=False, repr=False)
    _stars: int = field(init=False, eq=False, repr=False)
    _end: int = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        parts = _without_double_stars(self.text) if self.is_glob else list(self.text)
        steps: dict[str, int] = defaultdict(int)
        anything = stars = 0
        for at, part in enumerate(parts):
            if self.is_glob and part == STAR:
                stars |= 1 << at
            elif self.is_glob and part == ANY:
                anything |= 1 << at
            else:
                steps[part] |= 1 << at
        object.__setattr__(self, "_steps", dict(steps))
        object.__setattr__(self, "_any", anything)
        object.__setattr__(self, "_stars", stars)
        object.__setattr__(self, "_end", 1 << len(parts))

    @classmethod
    def glob(cls, pattern: str) -> Self:
        """`*` is any letters, `?` one."""
        return cls(pattern.lower(), STAR in pattern or ANY in pattern)

    @classmethod
    def literal(cls, text: str) -> Self:
        """Every letter stands for itself."""
        return cls(text.lower(), False)

    def is_in(self, text: str) -> bool:
        """Whether it fits some words of a text."""
        text = text.lower()
        if self._end == 1:
            return False
        if not self.is_glob:
            return self._is_in_literally(text)
        steps, anything, stars, end = self._steps, self._any, self._stars, self._end
        places = 0
        was_in_word = False
        for letter in text:
            is_in_word = letter in _IN_WORDS
            if not (was_in_word and is_in_word):
                if places & end:
                    return True
                places |= 1
            places |= (places & stars) << 1
            places = ((places & (steps.get(letter, 0) | anything)) << 1) | (places & stars)
            places |= (places & stars) << 1
            was_in_word = is_in_word
        return bool(places & end)

    def _is_in_literally(self, text: str) -> bool:
        at = text.find(self.text)
        while at >= 0:
            end = at + len(self.text)
            if _is_border(text, at) and _is_border(text, end):
                return True
            at = text.find(self.text, at + 1)
        return False


def _is_border(text: str, at: int) -> bool:
    return at in (0, len(text)) or not (text[at - 1] in _IN_WORDS and text[at] in _IN_WORDS)


def _without_double_stars(pattern: str) -> Sequence[str]:
    parts: list[str] = []
    for letter in pattern:
        if letter != STAR or parts[-1:] != [STAR]:
            parts.append(letter)
    return parts


def user_ids_in(text: str) -> set[str]:
    """What may be whole user ids in a text, without the punctuation behind them."""
    return {found.rstrip(".:-") for found in _USER_ID.findall(text)}
