"""Puts together what it takes to keep people's files.

media = build_media(settings, database, clock, web, hire=hire)
RouteTable(..., {**collaborators, **media.collaborators()})
await media.tidy()         every minute
await media.close()        before the database closes
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from config import Settings
from federation.outbound.client import FederationClient
from federation.outbound.downloads import Downloads as FromPeers
from federation.outbound.patience import Patience
from federation.outbound.web import Web
from federation.service import service
from federation.threads import Hire
from homeserver.clock import Clock
from homeserver.media.arrivals import Arrivals
from homeserver.media.care import Care
from homeserver.media.downloads import Downloads, NoElsewhere
from homeserver.media.library import Library
from homeserver.media.peer_downloads import PeerDownloads
from homeserver.media.previews.pictures import PreviewPictures
from homeserver.media.previews.service import UrlPreviews
from homeserver.media.remote import RemoteMedia
from homeserver.media.sounds import Sounds
from homeserver.media.store.choice import make_store, media_folder
from homeserver.media.thumbnails import NothingMade, Thumbnails
from homeserver.media.uploads import Uploads
from homeserver.media.workshop.pool import Workshop
from homeserver.observe.metrics import Metrics
from storage.database import Database

FILE_THREADS = 4


@service
class Media:
    """The content repository of this server. Made by `build_media`."""

    library: Library
    uploads: Uploads
    downloads: Downloads
    thumbnails: Thumbnails
    sounds: Sounds
    previews: UrlPreviews
    peers: PeerDownloads
    care: Care
    remote: RemoteMedia | None
    """None for a server that keeps to itself."""
    patience: Patience
    """Wants to know which servers are heard of."""
    workshop: Workshop

    def collaborators(self) -> Mapping[type[Any], object]:
        """What handlers take, by type."""
        friends: list[object] = [self.uploads, self.downloads, self.thumbnails, self.sounds, self.previews, self.peers]
        return {type(friend): friend for friend in friends}

    async def tidy(self) -> None:
        """What is due every minute."""
        await self.library.write_uses()
        await self.care.tidy()
        await self.previews.tidy()
        await self.library.tidy()
        await self.workshop.tidy()

    def register(self, metrics: Metrics) -> None:
        """What is counted here and a scrape asks for."""
        metrics.counter("media_uploads", "Files uploaded by people here.", lambda: float(self.uploads.uploaded_files))
        metrics.counter("media_upload_bytes", "What they had.", lambda: float(self.uploads.uploaded_bytes))
        metrics.counter("media_downloads", "Files sent to clients.", lambda: float(self.downloads.served_files))
        if (remote := self.remote) is not None:
            metrics.counter("media_fetched", "Files of other servers.", lambda: float(remote.fetched_files))
            metrics.counter("media_fetched_bytes", "What they had.", lambda: float(remote.fetched_bytes))
        metrics.counter("media_thumbnails", "Thumbnails made.", lambda: float(self.thumbnails.made))
        metrics.counter(
            "media_work_failed", "Files that could not be looked into.", lambda: float(self.workshop.failed)
        )
        metrics.gauge("media_workers", "Processes that look into files.", lambda: float(self.workshop.running))

    async def close(self) -> None:
        """Let go of threads and processes. Answers under way have ended by then."""
        await self.library.write_uses()
        await self.workshop.close()
        await self.library.workers.close()


def build_media(
    settings: Settings,
    database: Database,
    clock: Clock,
    web: Web,
    *,
    hire: Hire,
    client: FederationClient | None = None,
) -> Media:
    """Put everything together; `client` asks other servers. Blocks; raises OSError."""
    workers = hire(FILE_THREADS, "files")
    library = Library(settings.server.name, clock, database, make_store(settings), workers, media_folder(settings))
    library.prepare()
    arrivals = Arrivals(clock)
    patience = Patience(clock.now_ms)
    remote = None
    if client is not None:
        remote = RemoteMedia(library, FromPeers(client, web), patience, settings.media)
    downloads = Downloads(library, arrivals, remote or NoElsewhere())
    workshop = Workshop(settings.media, hire(settings.media.workers, "workshop"))
    thumbnails = Thumbnails(library, downloads, workshop, remote or NothingMade(), settings.media)
    pictures = PreviewPictures(library, workshop, web, settings.previews, settings.media)
    return Media(
        library=library,
        uploads=Uploads(library, arrivals, settings.media),
        downloads=downloads,
        thumbnails=thumbnails,
        sounds=Sounds(library, downloads, workshop),
        previews=UrlPreviews(library, workshop, web, pictures, settings.previews),
        peers=PeerDownloads(library, downloads, thumbnails),
        care=Care(library, settings.media),
        remote=remote,
        patience=patience,
        workshop=workshop,
    )
