"""Texts as words to search by, cut here and not in the database, so that both databases find the same.

    Café au lait, v2      cafe au lait v2
    今日はいい天気          今日 日は はい いい い天 天気 気
    คนไทย                 คน นไ ไท ทย ย

A word is what stands between spaces and punctuation, without case and accents. Scripts that write no spaces between
words are cut into overlapping pairs of characters, with the last one by itself, so that every sequence of one or more
characters can be found: a pair as itself, more as pairs that follow each other, one as the beginning of a pair.

Every word is made of ASCII letters and digits and of characters beyond ASCII: that is what the databases rely on.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

import msgspec

LONGEST_WORD = 48
"""Characters of a word that count."""
MOST_WORDS = 4_000
"""Words of a text that count."""
MOST_PHRASES = 20
"""Of a search, that count."""
SHORTEST_PREFIX_BYTES = 3
"""A word of a search that is at least as long as this finds longer ones, too: three letters of Latin, one of Hangul."""

_ASCII_WORDS = re.compile(r"[a-z0-9]+").findall

_SPACELESS = (
    (0x0E00, 0x0FFF),  # Thai, Lao, Tibetan
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1980, 0x19FF),  # New Tai Lue, Khmer
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x2E80, 0x2FDF),  # Han
    (0x3005, 0x3007),
    (0x3021, 0x30FF),  # Han, kana
    (0x3100, 0x312F),  # Bopomofo
    (0x31A0, 0x31FF),
    (0x3400, 0x9FFF),  # Han
    (0xA000, 0xA4CF),  # Yi
    (0xA980, 0xA9DF),  # Javanese
    (0xA9E0, 0xA9FF),  # Myanmar
    (0xAA60, 0xAA7F),
    (0xF900, 0xFAFF),  # Han
    (0x20000, 0x3FFFF),
)
"""Blocks of scripts that write no spaces between words."""

_ACCENTED = ((0x0000, 0x052F), (0x0590, 0x06FF), (0x1E00, 0x1FFF))
"""Blocks in which marks are accents, which people leave out: Latin, Greek, Cyrillic, Hebrew, Arabic. Elsewhere they are
vowels and more."""

_Kind = Literal["", "letter", "spaceless", "mark"]


class _Kinds(dict[str, _Kind]):
    """What each character is to a text: nothing, part of a word, a sign of a script without spaces, or a mark on what
    stands before it. Looked up once for each character there is."""

    def __missing__(self, character: str) -> _Kind:
        category = unicodedata.category(character)
        kind: _Kind = ""
        if category[0] == "M":
            kind = "mark"
        elif category[0] in "LN":
            kind = "spaceless" if _is_in(character, _SPACELESS) else "letter"
        self[character] = kind
        return kind


def _is_in(character: str, blocks: Iterable[tuple[int, int]]) -> bool:
    return any(first <= ord(character) <= last for first, last in blocks)


_KINDS = _Kinds()


class Phrase(msgspec.Struct, frozen=True):
    """Words that must follow each other in a text."""

    words: tuple[str, ...]
    is_prefix: bool
    """The last word may go on."""


def words_of(text: str) -> list[str]:
    """The words of a text, in their order."""
    if text.isascii():
        return [word[:LONGEST_WORD] for word in _ASCII_WORDS(text.lower())[:MOST_WORDS]]
    found: list[str] = []
    for run in _runs(text):
        if run.is_spaceless:
            found += [one + other for one, other in zip(run.units, [*run.units[1:], ""], strict=True)]
        else:
            found.append(run.word)
        if len(found) >= MOST_WORDS:
            break
    return found[:MOST_WORDS]


def phrases_of(term: str) -> list[Phrase]:
    """What somebody searches for: every word must be there; those between quotation marks as they follow each other."""
    found: list[Phrase] = []
    for index, part in enumerate(term.split('"')):
        is_quoted = index % 2 == 1
        for chunk in [part] if is_quoted else part.split():
            found += _phrases_in(chunk, is_quoted)
    return list(dict.fromkeys(found))[:MOST_PHRASES]


def highlights_of(term: str) -> list[str]:
    """What to highlight in what was found: the words as they were typed, without case."""
    typed = [word.strip(string.punctuation) for word in term.lower().split()]
    return list(dict.fromkeys(word for word in typed if words_of(word)))


class _Run(msgspec.Struct):
    """A piece of a text in one kind of script: a word, or signs without spaces between them."""

    is_spaceless: bool
    units: list[str]
    """Characters, each with the marks on it."""

    @property
    def word(self) -> str:
        return "".join(self.units)[:LONGEST_WORD]


def _phrases_in(chunk: str, is_quoted: bool) -> list[Phrase]:
    found: list[Phrase] = []
    plain: list[str] = []

    def close() -> None:
        if plain:
            found.append(Phrase(tuple(plain), not is_quoted and len(plain[-1].encode()) >= SHORTEST_PREFIX_BYTES))
            plain.clear()

    for run in _runs(chunk):
        if not run.is_spaceless:
            plain.append(run.word)
            continue
        close()
        if len(run.units) == 1:
            found.append(Phrase((run.units[0],), True))
        else:
            found.append(Phrase(tuple(map("".join, zip(run.units, run.units[1:], strict=False))), False))
    close()
    return found


def _runs(text: str) -> list[_Run]:
    # Once more after the case: some letters without it are composed of several.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    runs: list[_Run] = []
    run: _Run | None = None
    for character in folded:
        kind = _KINDS[character]
        if not kind:
            run = None
        elif kind == "mark":
            if run is not None and not _is_in(run.units[-1][0], _ACCENTED):
                run.units[-1] += character
        else:
            is_spaceless = kind == "spaceless"
            if run is None or run.is_spaceless is not is_spaceless:
                run = _Run(is_spaceless, [])
                runs.append(run)
            if not is_spaceless and character > "\x7f" and _is_in(character, _ACCENTED):
                character = _without_accents(character)
            run.units.append(character)
    return runs


@lru_cache(maxsize=4096)
def _without_accents(character: str) -> str:
    bare = "".join(one for one in unicodedata.normalize("NFKD", character) if _KINDS[one] == "letter")
    return bare or character
