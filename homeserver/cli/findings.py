"""What a check has to say."""

from __future__ import annotations

from enum import Enum

import msgspec


class Level(Enum):
    """How bad it is. Only BAD keeps the server from starting or from working as its settings say."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"

    @property
    def is_bad(self) -> bool:
        return self is Level.BAD


class Finding(msgspec.Struct, frozen=True):
    """What one check has to say. `subject` is a word or two; `text` is a sentence without its full stop."""

    level: Level
    subject: str
    text: str


def good(subject: str, text: str) -> Finding:
    return Finding(Level.GOOD, subject, text)


def warning(subject: str, text: str) -> Finding:
    return Finding(Level.WARNING, subject, text)


def bad(subject: str, text: str) -> Finding:
    return Finding(Level.BAD, subject, text)
