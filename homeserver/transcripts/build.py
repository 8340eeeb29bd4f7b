"""Puts together what writes down voice messages."""

from __future__ import annotations

from typing import Any

import attrs

from config import Settings
from federation.threads import Hire
from homeserver.clock import Clock
from homeserver.guilds.rights import RoomRights
from homeserver.media.build import Media
from homeserver.media.workshop.pool import Workshop
from homeserver.rooms.accept import Door
from homeserver.search.indexer import Indexer
from homeserver.tasks import Tasks
from homeserver.transcripts.engines import Engine, Offline, SpeechServer
from homeserver.transcripts.scribe import Scribe
from homeserver.web import build_web

EVERYWHERE = ("0.0.0.0/0", "::/0")


def build_scribe(
    settings: Settings,
    media: Media,
    rights: RoomRights,
    indexer: Indexer,
    door: Door,
    *,
    clock: Clock,
    tasks: Tasks,
    hire: Hire,
    reactor: Any,
) -> Scribe:
    """It takes its place at the door."""
    ours = settings.transcription
    engine: Engine | None = None
    match ours.engine:
        case "pocketsphinx":
            workers = attrs.evolve(settings.media, worker_timeout_ms=ours.timeout_ms)
            engine = Offline(Workshop(workers, hire(ours.concurrency, "speech")), ours)
        case "http":
            # Whoever runs this server names this address, and nobody else: it may be a neighbour.
            trusting = attrs.evolve(settings.web, allow_loopback=True, allowed_private_ranges=EVERYWHERE)
            web = build_web(attrs.evolve(settings, web=trusting), clock, reactor)
            engine = SpeechServer(web, media.library.workers, ours)
    scribe = Scribe(engine, ours, media.library, media.downloads, rights, indexer, tasks, clock)
    door.observers.append(scribe)
    return scribe
