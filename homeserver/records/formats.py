"""What a copy of a room looks like: JSON for programs, a page or plain text for people; in pieces."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any, Protocol
from urllib.parse import quote

import msgspec
import orjson
from attrs import frozen

from homeserver.media.uris import parse_uri

MEDIA = frozenset(["m.image", "m.video", "m.audio", "m.file"])


@frozen
class About:
    """Which copy of what this is."""

    room_id: str
    name: str
    by: str
    ts: int
    base_url: str
    """Where files are to be had: an address without a slash at its end, or nothing."""


class Format(Protocol):
    """One way to write it."""

    content_type: str
    suffix: str

    def head(self, about: About) -> bytes: ...

    def event(self, about: About, event: Mapping[str, Any], raw: bytes, name: str, is_first: bool) -> bytes:
        """One event as clients have it, as such and as bytes; `name`: what its sender is called. May be nothing."""

    def tail(self) -> bytes: ...


class Json:
    """Every event as it is, with what hangs on it."""

    content_type = "application/json"
    suffix = "json"

    def head(self, about: About) -> bytes:
        told = {"room_id": about.room_id, "name": about.name, "exported_by": about.by, "exported_ts": about.ts}
        return orjson.dumps(told)[:-1] + b',"events":['

    def event(self, about: About, event: Mapping[str, Any], raw: bytes, name: str, is_first: bool) -> bytes:
        return raw if is_first else b",\n" + raw

    def tail(self) -> bytes:
        return b"]}"


class Text:
    """What was said, a line each; further lines of one are indented."""

    content_type = "text/plain; charset=utf-8"
    suffix = "txt"

    def head(self, about: About) -> bytes:
        return f"{_one_line(about.name)} ({about.room_id})\nExported by {about.by}, {_when(about.ts)}\n\n".encode()

    def event(self, about: About, event: Mapping[str, Any], raw: bytes, name: str, is_first: bool) -> bytes:
        words = words_of(event)
        if words is None:
            return b""
        lines = [line for line in words.body.splitlines() if line] or [""]
        if (link := link_to(about, words.uri)) is not None:
            lines.append(link)
        who = f"{_one_line(name)} <{event['sender']}>"
        what = "\n    ".join(lines)
        return f"[{_when(event['origin_server_ts'])}] {who}: {what}\n".encode("utf-8", "replace")

    def tail(self) -> bytes:
        return b""


class Html:
    """The same as a page that needs nothing else."""

    content_type = "text/html; charset=utf-8"
    suffix = "html"

    def head(self, about: About) -> bytes:
        title = escape(about.name)
        return (
            f'<!doctype html>\n<html><head><meta charset="utf-8"><title>{title}</title><style>'
            "body{font:15px/1.45 sans-serif;max-width:50em;margin:2em auto;padding:0 1em}"
            "p{margin:.4em 0;white-space:pre-wrap}time{color:#777;font-size:.85em;margin:0 .5em}"
            f"</style></head><body>\n<h1>{title}</h1>\n"
            f"<p>{escape(about.room_id)}, exported by {escape(about.by)}, {_when(about.ts)}</p>\n"
        ).encode("utf-8", "replace")

    def event(self, about: About, event: Mapping[str, Any], raw: bytes, name: str, is_first: bool) -> bytes:
        words = words_of(event)
        if words is None:
            return b""
        text = escape(words.body)
        if (link := link_to(about, words.uri)) is not None:
            text = f'<a href="{escape(link)}" rel="noreferrer">{text or "file"}</a>'
        who = f'<b title="{escape(event["sender"])}">{escape(name)}</b>'
        return f"<p>{who}<time>{_when(event['origin_server_ts'])}</time>{text}</p>\n".encode("utf-8", "replace")

    def tail(self) -> bytes:
        return b"</body></html>\n"


FORMATS: Mapping[str, Format] = {"json": Json(), "txt": Text(), "html": Html()}


class Words(msgspec.Struct, frozen=True):
    """What a person reads of an event."""

    body: str
    uri: str | None = None
    """Of a file."""


def words_of(event: Mapping[str, Any]) -> Words | None:
    """None for what is no news to a person who reads it later: reactions, edits (which stand in what they edit), most
    state.
    """
    content, event_type = event["content"], event["type"]
    match event_type:
        case "m.room.message" | "m.sticker":
            if "redacted_because" in event.get("unsigned", {}):
                return Words("(deleted)")
            relation = content.get("m.relates_to")
            if isinstance(relation, dict) and relation.get("rel_type") == "m.replace":
                return None
            edit = event.get("unsigned", {}).get("m.relations", {}).get("m.replace", {}).get("content", {})
            newest = edit.get("m.new_content")
            said = newest if isinstance(newest, dict) else content
            body = said.get("body")
            is_file = event_type == "m.sticker" or said.get("msgtype") in MEDIA
            uri = said.get("url") if is_file else None
            text = body if isinstance(body, str) else ""
            return Words(text + (" (edited)" if newest is not None else ""), uri if isinstance(uri, str) else None)
        case "m.room.encrypted":
            return Words("(encrypted)")
        case "m.room.member" if content.get("membership") in ("join", "leave", "ban"):
            words = {"join": "is here", "leave": "has left", "ban": "is banned"}
            return Words(f"({event.get('state_key')} {words[content['membership']]})")
        case "m.room.name" | "m.room.topic":
            value = content.get("name" if event_type == "m.room.name" else "topic")
            return Words(f"({event_type.removeprefix('m.room.')}: {value if isinstance(value, str) else ''})")
    return None


def link_to(about: About, uri: str | None) -> str | None:
    """Where a file is to be had, with a token of somebody who may; None for what is no file."""
    key = None if uri is None else parse_uri(uri)
    if key is None:
        return None
    server, media_id = (quote(part, safe="") for part in key)
    return f"{about.base_url}/_matrix/client/v1/media/download/{server}/{media_id}"


def _when(ts: int) -> str:
    try:
        return datetime.fromtimestamp(ts / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):  # events may claim to be of any time
        return "at some time"


def _one_line(text: str) -> str:
    return " ".join(text.split())
