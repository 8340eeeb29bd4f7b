"""Uploading and downloading in a house without HTTP."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from attrs import define

from homeserver.http.bodies import IncomingBody
from homeserver.http.route import Reply
from homeserver.media.downloads import Downloads, Manner, Wanted
from homeserver.media.thumbnails import Shape, Thumbnails
from homeserver.media.uploads import Described, Uploads
from homeserver.media.uris import parse_uri
from tests.fixtures_house import LivedInHouse

LIMIT = 10**9


class OpenDoor:
    """An `Inlet` that is nobody's connection."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def welcome(self) -> None: ...

    def tap(self, most: int) -> None:
        return None

    def drawn(self, size: int) -> None: ...


def body_of(data: bytes) -> IncomingBody:
    """A body that has come whole."""
    body = IncomingBody(len(data), OpenDoor(), LIMIT)
    body.add(data)
    body.end()
    return body


@define
class Got:
    """An answer with all of its bytes."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def type(self) -> str:
        return self.headers["Content-Type"]


def upload(house: LivedInHouse, who: str, data: bytes, kind: str = "image/png", name: str | None = None) -> str:
    """Upload a file; its URI."""
    told = Described(house.user(who), kind, name)
    return house.wait(house.house.part(Uploads).upload(told, body_of(data)))


def key_of(uri: str) -> tuple[str, str]:
    key = parse_uri(uri)
    assert key is not None
    return key


def download(house: LivedInHouse, uri: str, *, name: str | None = None, **manner: Any) -> Got:
    async def do() -> Reply:
        downloads = house.house.part(Downloads)
        medium = await downloads.find(Wanted(*key_of(uri), timeout_ms=0))
        return await downloads.answer(medium, Manner(**manner), name)

    return got(house, do())


def thumbnail(
    house: LivedInHouse, uri: str, width: int, height: int, method: Any = "scale", animated: bool = False
) -> Got:
    shape = Shape(width, height, method, animated)
    wanted = Wanted(*key_of(uri), timeout_ms=0)
    return got(house, house.house.part(Thumbnails).answer(wanted, shape, Manner()))


def got(house: LivedInHouse, answering: Awaitable[Reply]) -> Got:
    async def read() -> Got:
        reply = await answering
        if reply.source is None:
            return Got(reply.status, dict(reply.headers), reply.body)
        pieces: list[bytes] = []
        while piece := await reply.source.read():
            pieces.append(piece)
        reply.source.close()
        assert sum(map(len, pieces)) == reply.source.length
        return Got(reply.status, dict(reply.headers), b"".join(pieces))

    return house.wait(read())
