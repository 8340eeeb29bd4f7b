"""`guilds/{guild_id}/emoji`: the guild's own emoji, an `m.room.image_pack` of its room.

MSC2545: https://github.com/matrix-org/matrix-spec-proposals/pull/2545
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from homeserver.errors import InvalidParam, NotFound
from homeserver.guilds.api.desk import Desk
from homeserver.guilds.api.fields import API, MOST_EMOJI, Mxc, check_count
from homeserver.guilds.api.roles import InGuild
from homeserver.guilds.editor import Edit
from homeserver.guilds.permissions import MANAGE_EMOJI
from homeserver.guilds.ranks import check_permission
from homeserver.http.route import VISITOR, Requester, route

PACK = "m.room.image_pack"
ONE = f"{API}/guilds/{{guild_id}}/emoji/{{shortcode}}"
LONGEST_BYTES = 100
NO_EMOJI = "There is no such emoji in this guild"


class ImageInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of the picture."""

    w: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    h: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    size: Annotated[int, Meta(ge=0, le=2**53 - 1)] | None = None
    mimetype: Annotated[str, Meta(max_length=100)] | None = None


class Emoji(msgspec.Struct, frozen=True):
    url: Mxc
    info: ImageInfo = ImageInfo()


class EmojiList(msgspec.Struct, frozen=True):
    emoji: dict[str, Emoji]
    """By shortcode."""


class OneEmoji(msgspec.Struct, frozen=True):
    guild_id: str
    shortcode: str


class PutEmoji(msgspec.Struct, frozen=True):
    guild_id: str
    shortcode: str
    url: Mxc
    info: ImageInfo = ImageInfo()


@route("GET", f"{API}/guilds/{{guild_id}}/emoji", auth=VISITOR, rate="read")
async def get_all_emoji(desk: Desk, who: Requester, ask: InGuild) -> EmojiList:
    """The guild's emoji, by shortcode."""
    return EmojiList(await _read(desk, who.user_id, ask.guild_id))


@route("GET", ONE, auth=VISITOR, rate="read")
async def get_emoji(desk: Desk, who: Requester, ask: OneEmoji) -> Emoji:
    """One of them."""
    found = (await _read(desk, who.user_id, ask.guild_id)).get(ask.shortcode)
    if found is None:
        raise NotFound(NO_EMOJI)
    return found


@route("PUT", ONE, auth=VISITOR, rate="write")
async def put_emoji(desk: Desk, who: Requester, ask: PutEmoji) -> None:
    """Add an emoji or replace one. Needs `manage_emoji`."""
    check_shortcode(ask.shortcode)

    def change(images: dict[str, Any]) -> None:
        if ask.shortcode not in images:
            check_count(len(images), MOST_EMOJI, "emoji")
        images[ask.shortcode] = {"url": ask.url, "info": msgspec.to_builtins(ask.info)}

    await _change(desk, who.user_id, ask.guild_id, change)


@route("DELETE", ONE, auth=VISITOR, rate="write")
async def delete_emoji(desk: Desk, who: Requester, ask: OneEmoji) -> None:
    """Take an emoji away. Needs `manage_emoji`."""

    def change(images: dict[str, Any]) -> None:
        if images.pop(ask.shortcode, None) is None:
            raise NotFound(NO_EMOJI)

    await _change(desk, who.user_id, ask.guild_id, change)


def check_shortcode(shortcode: str) -> None:
    """Raises InvalidParam for what can't be written between two colons."""
    if len(shortcode.encode()) > LONGEST_BYTES:
        raise InvalidParam(f"`shortcode` has more than {LONGEST_BYTES} bytes")
    if not shortcode.isprintable() or any(character in " :" for character in shortcode):
        raise InvalidParam("`shortcode` must hold neither blanks nor colons, nor what can't be seen")


async def _read(desk: Desk, user_id: str, guild_id: str) -> dict[str, Emoji]:
    room, _ = await desk.look(guild_id, user_id)
    ref = room.visible.state.get((PACK, ""))
    stored = None if ref is None else await desk.events.get(ref.nid)
    if stored is None or stored.event.sender != room.create.sender:
        return {}
    found = {}
    for shortcode, image in sorted(_images(stored.event.content).items()):
        try:
            found[shortcode] = msgspec.convert(image, Emoji)
        except msgspec.ValidationError:
            continue  # of a newer version of ours
    return found


async def _change(desk: Desk, actor: str, guild_id: str, change: Callable[[dict[str, Any]], None]) -> None:
    def work(edit: Edit) -> None:
        check_permission(edit.guild, actor, MANAGE_EMOJI)
        content = edit.content(PACK)
        images = _images(content)
        change(images)
        pack = content.get("pack", {"usage": ["emoticon"]})
        edit.change("emoji.update", PACK, "", {**content, "images": images, "pack": pack})

    await desk.edit(guild_id, actor, work)


def _images(content: Mapping[str, Any]) -> dict[str, Any]:
    images = content.get("images")
    return dict(images) if isinstance(images, Mapping) else {}
