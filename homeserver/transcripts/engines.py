"""What listens to sounds: a port, this machine by itself, and speech servers that speak like OpenAI's.

CannotTranscribe        nothing comes of this sound
EngineAway              the engine can't be had just now: another try may help
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Protocol

import msgspec

from config import Transcription
from federation.outbound.transport import PeerError
from federation.outbound.web import BadUrl, Web, WebRequest
from federation.service import service
from federation.threads import Workers
from homeserver.media.workshop.jobs import Failure, Heard, Transcribe, WorkFailed
from homeserver.media.workshop.pool import Workshop
from storage.media import Medium

MOST_ANSWER_BYTES = 4 * 1024 * 1024


class CannotTranscribe(Exception):
    """Nothing comes of this sound. The message says why, for whoever asked."""


class EngineAway(Exception):
    """The engine can't be had just now."""


class Piece(msgspec.Struct, frozen=True):
    """What was heard of a sound."""

    text: str
    end_ms: int
    """How far that was; 0 where the engine does not say."""
    duration_ms: int
    is_end: bool
    language: str | None = None


class Engine(Protocol):
    """Listens."""

    async def hear(self, path: Path, medium: Medium, start_ms: int) -> Piece:
        """What is said from a moment on: all of it, or a piece. Raises CannotTranscribe, EngineAway."""

    async def close(self) -> None: ...


@service
class Offline:
    """PocketSphinx in a process of its own. It knows English."""

    workshop: Workshop
    settings: Transcription

    async def hear(self, path: Path, medium: Medium, start_ms: int) -> Piece:
        try:
            heard = await self.workshop.do(Transcribe(str(path), start_ms, self.settings.max_duration_ms), Heard)
        except WorkFailed as error:
            if error.failure is Failure.BUSY:
                raise EngineAway(error.why) from None
            raise CannotTranscribe(_WORDS[error.failure]) from None
        return Piece(heard.text, heard.end_ms, heard.duration_ms, heard.is_end, "en")

    async def close(self) -> None:
        await self.workshop.close()


_WORDS = {
    Failure.TOO_LARGE: "the sound is too long",
    Failure.UNREADABLE: "there is nothing in this file that can be listened to",
    Failure.GAVE_UP: "listening to it took too long",
}


class _Answer(msgspec.Struct):
    text: str
    language: str | None = None
    duration: float | None = None
    """In seconds."""


@service
class SpeechServer:
    """`POST /v1/audio/transcriptions` of a server: https://platform.openai.com/docs/api-reference/audio"""

    web: Web
    files: Workers
    settings: Transcription

    async def hear(self, path: Path, medium: Medium, start_ms: int) -> Piece:
        assert self.settings.url is not None
        boundary = secrets.token_hex(16)
        content, key = await self.files.run(_read, path, self.settings.api_key_path)
        fields = {"model": self.settings.model, "response_format": "verbose_json"}
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Accept": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        request = WebRequest(
            f"{self.settings.url.rstrip('/')}/v1/audio/transcriptions",
            "POST",
            headers,
            _form(boundary, fields, content, medium.type),
            timeout_s=self.settings.timeout_ms / 1000,
            max_bytes=MOST_ANSWER_BYTES,
            max_redirects=0,
        )
        try:
            answer = await self.web.fetch(request)
        except (PeerError, BadUrl) as error:
            raise EngineAway(str(error)) from None
        if answer.status == 429 or answer.status >= 500:
            raise EngineAway(f"it answered with {answer.status}")
        if answer.status != 200:
            raise CannotTranscribe(f"the speech server refused it ({answer.status})")
        try:
            told = msgspec.json.decode(answer.body, type=_Answer)
        except msgspec.DecodeError:
            raise CannotTranscribe("the speech server gave an answer that makes no sense") from None
        duration_ms = int((told.duration or 0) * 1000)
        return Piece(told.text.strip(), duration_ms, duration_ms, True, told.language)

    async def close(self) -> None:
        await self.web.close()


def _read(path: Path, key_path: Path | None) -> tuple[bytes, str]:
    """In a thread."""
    return path.read_bytes(), "" if key_path is None else key_path.read_text().strip()


def _form(boundary: str, fields: dict[str, str], content: bytes, content_type: str) -> bytes:
    """Spec: RFC 7578."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    name = f"sound.{_SUFFIXES.get(content_type.partition(';')[0], 'ogg')}"  # some go by the name alone
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
    kind = content_type if content_type.isascii() and content_type.isprintable() else "application/octet-stream"
    parts.append(f"{head}Content-Type: {kind}\r\n\r\n".encode())
    return b"".join([*parts, content, f"\r\n--{boundary}--\r\n".encode()])


_SUFFIXES = {
    "audio/mpeg": "mp3",
    "audio/mp4": "m4a",
    "audio/x-m4a": "m4a",
    "audio/aac": "aac",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/flac": "flac",
    "audio/webm": "webm",
    "video/webm": "webm",
    "video/mp4": "mp4",
}
