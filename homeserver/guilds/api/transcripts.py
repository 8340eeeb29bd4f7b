"""`GET media/{server_name}/{media_id}/transcript`: what is said in a voice message."""

from __future__ import annotations

from typing import Literal

import msgspec

from homeserver.guilds.api.fields import API
from homeserver.http.route import USER, Requester, route
from homeserver.media.downloads import Wanted
from homeserver.transcripts.scribe import Scribe
from storage.transcripts import DONE, FAILED, Transcript


class TranscriptAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    status: Literal["pending", "done", "failed"]
    progress: int
    """How much of the sound was listened to, in percent."""
    text: str | None = None
    """While it is pending, as far as it is."""
    language: str | None = None
    """As its listener calls it: `en`, `english`."""
    error: str | None = None


class GetTranscript(msgspec.Struct, frozen=True):
    server_name: str
    media_id: str


@route("GET", f"{API}/media/{{server_name}}/{{media_id}}/transcript", auth=USER, rate="media")
async def get_transcript(scribe: Scribe, who: Requester, ask: GetTranscript) -> TranscriptAnswer:
    """What is said in a sound. The first who asks has it listened to: ask again until it is `done` or `failed`."""
    return _answer(await scribe.ask(who.user_id, Wanted(ask.server_name, ask.media_id)))


def _answer(told: Transcript) -> TranscriptAnswer:
    if told.state == DONE:
        return TranscriptAnswer("done", 100, told.text, told.language)
    progress = min(99, 100 * told.heard_ms // told.duration_ms) if told.duration_ms else 0
    if told.state == FAILED:
        return TranscriptAnswer("failed", progress, error=told.error)
    return TranscriptAnswer("pending", progress, told.text or None)
