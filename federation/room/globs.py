"""Patterns in which `*` stands for any characters and `?` for one.

Spec: https://spec.matrix.org/v1.19/appendices/#glob-style-matching
"""

from __future__ import annotations


def matches(pattern: str, name: str) -> bool:
    """Compare with a glob, by hand: a regular expression made of many stars could take for ever.

    Behind each star the rest is tried at the earliest place; only the last star is ever gone back to.
    """
    at = here = mark = 0
    star = -1
    while here < len(name):
        if at < len(pattern) and pattern[at] == "*":
            star, mark = at, here
            at += 1
        elif at < len(pattern) and pattern[at] in (name[here], "?"):
            at += 1
            here += 1
        elif star >= 0:
            mark += 1
            at, here = star + 1, mark
        else:
            return False
    return not pattern[at:].strip("*")
