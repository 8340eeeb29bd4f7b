"""Texts cut into words, and searches into phrases that find them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.search.words import LONGEST_WORD, MOST_WORDS, Phrase, highlights_of, phrases_of, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World! It's v1.19", "hello world it s v1 19"),
        ("Café au lait", "cafe au lait"),
        ("Straße FÜR Ёлка", "strasse fur елка"),
        ("İstanbul ﬁne \uff21\uff22\uff23 x²", "istanbul fine abc x2"),
        ("今日はいい天気", "今日 日は はい いい い天 天気 気"),
        ("気", "気"),
        ("iPhone手机好", "iphone 手机 机好 好"),
        ("คนไทย", "คน นไ ไท ทย ย"),
        ("ก๋วย", "ก๋ว วย ย"),
        ("한국어 검색은", "한국어 검색은"),
        ("हिन्दी में", "हिन्दी में"),
        ("مُحَمَّد", "محمد"),
        ("snake_case-and/path", "snake case and path"),
        ("👍 \x00 \ud800 …", ""),
        ("", ""),
    ],
)
def test_words(text: str, words: str) -> None:
    assert words_of(text) == words.split()


def test_long_texts() -> None:
    assert words_of("x" * 1000) == ["x" * LONGEST_WORD]
    assert words_of("é" * 1000) == ["e" * LONGEST_WORD]
    for text in ("a " * 9_000, "é " * 9_000, "今" * 9_000):
        assert len(words_of(text)) == MOST_WORDS


@pytest.mark.parametrize(
    ("term", "phrases"),
    [
        ("meet me", [Phrase(("meet",), True), Phrase(("me",), False)]),
        ("v1.19", [Phrase(("v1", "19"), False)]),
        ('say "good night" now', [Phrase(("say",), True), Phrase(("good", "night"), False), Phrase(("now",), True)]),
        ("今", [Phrase(("今",), True)]),
        ("天気", [Phrase(("天気",), False)]),
        ("いい天", [Phrase(("いい", "い天"), False)]),
        ("iPhone手机", [Phrase(("iphone",), True), Phrase(("手机",), False)]),
        ("the the THE", [Phrase(("the",), True)]),
        ("!?", []),
        ("", []),
        ('"', []),
    ],
)
def test_phrases(term: str, phrases: list[Phrase]) -> None:
    assert phrases_of(term) == phrases


def test_highlights() -> None:
    assert highlights_of("Café, (au) Lait! !!") == ["café", "au", "lait"]


def matches(phrase: Phrase, words: list[str]) -> bool:
    """What the databases do."""
    size = len(phrase.words)
    for start in range(len(words) - size + 1):
        piece = words[start : start + size]
        last = piece[-1].startswith(phrase.words[-1]) if phrase.is_prefix else piece[-1] == phrase.words[-1]
        if last and tuple(piece[:-1]) == phrase.words[:-1]:
            return True
    return False


texts = st.text(st.one_of(st.characters(), st.sampled_from("aé ß今日ไท.한-\"'\\क्")), max_size=40)


@given(texts)
def test_words_are_safe_for_the_databases(text: str) -> None:
    for word in [*words_of(text), *(word for phrase in phrases_of(text) for word in phrase.words)]:
        assert re.fullmatch(r"[a-z0-9\u0080-\U0010ffff]+", word), ascii(word)
        assert word.encode()


@given(texts, st.integers(0, 40), st.integers(0, 40))
def test_what_is_in_a_text_is_found_in_it(text: str, start: int, end: int) -> None:
    """Any piece of it that begins where a word does and ends with a whole character."""
    words = words_of(text)
    for phrase in phrases_of(text):
        assert matches(phrase, words)
    signs = "今日はいい天気です"
    piece = signs[start % len(signs) : end % len(signs) + 1]
    assert all(matches(phrase, words_of(f"{text} {signs}")) for phrase in phrases_of(piece))
