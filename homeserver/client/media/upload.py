"""`POST /_matrix/media/v3/upload`, and making an address first: `POST /_matrix/media/v1/create`, then a PUT.

Spec: https://spec.matrix.org/v1.19/client-server-api/#post_matrixmediav3upload
"""

from __future__ import annotations

import msgspec

from homeserver.client.media.paths import MOST_UPLOADED, OLD
from homeserver.http.bodies import IncomingBody
from homeserver.http.route import USER, Requester, route
from homeserver.media.uploads import Described, Uploads


class Upload(msgspec.Struct, frozen=True):
    filename: str | None = None
    content_type: str | None = None


class Fill(msgspec.Struct, frozen=True):
    server_name: str
    media_id: str
    filename: str | None = None
    content_type: str | None = None


class Uploaded(msgspec.Struct, frozen=True):
    content_uri: str


class Created(msgspec.Struct, frozen=True):
    content_uri: str
    unused_expires_at: int


@route(
    "POST",
    OLD + "/upload",
    auth=USER,
    rate="upload",
    max_body=MOST_UPLOADED,
    query=("filename",),
    headers=("content-type",),
)
async def upload(uploads: Uploads, who: Requester, ask: Upload, body: IncomingBody) -> Uploaded:
    return Uploaded(await uploads.upload(Described(who.user_id, ask.content_type, ask.filename), body))


@route("POST", "/_matrix/media/v1/create", auth=USER, rate="upload")
async def create(uploads: Uploads, who: Requester) -> Created:
    return Created(*await uploads.create(who.user_id))


@route(
    "PUT",
    OLD + "/upload/{server_name}/{media_id}",
    auth=USER,
    rate="upload",
    max_body=MOST_UPLOADED,
    query=("filename",),
    headers=("content-type",),
)
async def fill(uploads: Uploads, who: Requester, ask: Fill, body: IncomingBody) -> None:
    told = Described(who.user_id, ask.content_type, ask.filename)
    await uploads.fill(ask.server_name, ask.media_id, told, body)
