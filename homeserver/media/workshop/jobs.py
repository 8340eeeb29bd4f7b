"""What the server asks of a worker process, and what it hears: one line of JSON each way.

WorkFailed      nothing came of it
    TOO_LARGE   more pixels than allowed, or more memory than a worker has
    UNREADABLE  not what it says it is, or broken
    GAVE_UP     it took too long, or the worker fell over it
    BUSY        too much is waiting already; the only one that another try can help
"""

from __future__ import annotations

from enum import Enum

import msgspec


class Failure(Enum):
    TOO_LARGE = "too_large"
    UNREADABLE = "unreadable"
    GAVE_UP = "gave_up"
    BUSY = "busy"


class WorkFailed(Exception):
    """Nothing came of a piece of work."""

    def __init__(self, failure: Failure, why: str) -> None:
        super().__init__(f"{failure.value}: {why}")
        self.failure = failure
        self.why = why


class MakeThumbnail(msgspec.Struct, frozen=True, tag="thumbnail"):
    """Make a picture or video smaller."""

    path: str
    out: str
    """Where to write the result."""
    width: int
    height: int
    method: str
    animated: bool
    max_pixels: int


class Picture(msgspec.Struct, frozen=True):
    """What a picture is, or a video."""

    width: int
    height: int
    """As it is shown: turned as its camera says."""
    animated: bool
    type: str


class Thumbnailed(msgspec.Struct, frozen=True):
    """A picture, and what was made of it."""

    picture: Picture
    made: str | None
    """Content type of the result; None where the picture itself will do."""


class Listen(msgspec.Struct, frozen=True, tag="listen"):
    """How long is a sound or video, and how loud where."""

    path: str


class Sound(msgspec.Struct, frozen=True):
    duration_ms: int
    waveform: list[int]
    """Up to 100 numbers from 0 (silence) to 1024; empty where there is nothing to hear."""


class Transcribe(msgspec.Struct, frozen=True, tag="transcribe"):
    """What is said in a sound, from a moment on."""

    path: str
    start_ms: int
    max_ms: int
    """Longer sounds are refused."""


class Heard(msgspec.Struct, frozen=True):
    """A piece of it."""

    text: str
    end_ms: int
    duration_ms: int
    """Of the whole sound."""
    is_end: bool


class ReadPage(msgspec.Struct, frozen=True, tag="page"):
    """What a web page says that it is about."""

    path: str
    charset: str | None
    """As the HTTP header has it."""


class Page(msgspec.Struct, frozen=True):
    properties: dict[str, str]
    """`og:…` and, where those are missing, what stands in for them."""
    oembed: str | None
    """Where more can be asked, as the page has it: it may be relative."""


Job = MakeThumbnail | Listen | Transcribe | ReadPage
Result = Thumbnailed | Sound | Heard | Page


class Failed(msgspec.Struct, frozen=True):
    """What comes instead of a result."""

    failure: Failure
    why: str


encode = msgspec.json.Encoder().encode
