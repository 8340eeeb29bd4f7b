"""Looking words up finds whom looking at each pattern finds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from homeserver.push.word_index import WordIndex
from homeserver.push.words import WordPattern

LETTERS = st.sampled_from(["a", "B", "ab", "7", "_", " ", "-", "é", "İ", "*", "?", "."])
TEXTS = st.lists(LETTERS, max_size=12).map("".join)
PEOPLE = st.dictionaries(st.sampled_from(["ann", "ben", "cid"]), st.lists(TEXTS, max_size=3), max_size=3)


@given(st.lists(PEOPLE, min_size=1, max_size=3), TEXTS)
def test_the_same_as_one_by_one(changes: list[dict[str, list[str]]], text: str) -> None:
    index, holds = WordIndex(), dict[str, list[WordPattern]]()
    for change in changes:
        for name, texts in change.items():
            holds[name] = [WordPattern.glob(one) for one in texts]
            index.put(name, holds[name])
    expected = {name for name, patterns in holds.items() if any(one.is_in(text) for one in patterns)}
    assert index.said_in(text) == expected
    for name in holds:
        index.put(name, ())
    assert index.said_in(text) == set() and not index._by_run and not index._others


def test_words() -> None:
    index = WordIndex()
    index.put("ann", [WordPattern.glob("red cake"), WordPattern.glob("c++")])
    index.put("ben", [WordPattern.glob("cake*")])
    assert index.said_in("A Red Cake!") == {"ann", "ben"}
    assert index.said_in("I like C++.") == {"ann"}
    assert index.said_in("cakes and cupcake") == {"ben"}
    assert index.said_in("cupcake") == set()
