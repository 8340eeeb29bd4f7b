"""Writing down what is said in voice messages."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from attrs import frozen

from config.field import BadSetting, at_least, between, http_url, setting

MIB = 1024 * 1024


@frozen(kw_only=True)
class Transcription:
    """Writing down what is said in voice messages that are not encrypted, where a guild or somebody asks for it."""

    engine: Literal["pocketsphinx", "http", "off"] = setting(
        "pocketsphinx",
        doc="What listens. pocketsphinx: this machine by itself; English only, and by far not as good as what is done "
        "today. http: a speech server of your choice that takes the calls of OpenAI's API (whisper.cpp, "
        "faster-whisper-server, LocalAI and others). off: nothing.",
    )
    url: str | None = setting(
        None,
        doc="For engine http: the address in front of /v1/audio/transcriptions. It may be a private one.",
        check=http_url,
    )
    api_key_path: Path | None = setting(
        None, doc="For engine http: a file with the key that it wants, if it wants one."
    )
    model: str = setting("whisper-1", doc="For engine http: what it is asked for.")
    timeout_ms: int = setting(
        300_000,
        doc="How long a piece of work may take: twenty seconds of sound, or with http a whole sound.",
        check=at_least(1000),
    )
    concurrency: int = setting(1, doc="How many sounds are listened to at a time.", check=between(1, 16))
    max_duration_ms: int = setting(600_000, doc="Longer sounds are not written down.", check=at_least(1000))
    max_bytes: int = setting(25 * MIB, doc="Nor are larger ones.", check=at_least(1024))
    max_waiting: int = setting(20, doc="How many sounds of one person may wait at a time.", check=at_least(1))

    def __attrs_post_init__(self) -> None:
        if self.engine == "http" and self.url is None:
            raise BadSetting("url", "is missing, and `engine` says that a speech server is asked")
