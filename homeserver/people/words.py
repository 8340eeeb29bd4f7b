"""By which words somebody is found: those of their name and of their user id, without regard to case and width.

A search finds whoever has, for each of its words, one that begins so. Scripts that put no spaces between words are
searched from every character on.
"""

from __future__ import annotations

import re
import unicodedata

MOST_WORDS = 40
"""Of one person."""
MAX_WORD = 64
"""Characters."""

_WORD = re.compile(r"\w+")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
"""Thai, Lao, Burmese, Khmer, Japanese, Chinese; Korean, whose particles hang on to names."""


def fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def words_in(text: str) -> list[str]:
    """The words of a search, as they are compared."""
    return [word for run in _WORD.findall(fold(text)) for word in run.split("_") if word][:MOST_WORDS]


def words_for(name: str | None, user_id: str) -> set[str]:
    """By what somebody is found."""
    found: dict[str, None] = {}
    for word in [*words_in(name or ""), *words_in(user_id)]:
        found[word[:MAX_WORD]] = None
        if _UNSPACED.search(word):
            found.update((word[start : start + MAX_WORD], None) for start in range(1, min(len(word), MAX_WORD)))
    return set(list(found)[:MOST_WORDS])


def matches(searched: list[str], words: set[str]) -> bool:
    """Whether for each searched word there is one that begins so."""
    return all(any(word.startswith(one[:MAX_WORD]) for word in words) for one in searched)
