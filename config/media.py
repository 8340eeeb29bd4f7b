"""People's files: how large, how many, where they are kept, and for how long."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from attrs import frozen

from config.field import BadSetting, at_least, between, http_url, not_empty, setting

MIB = 1024 * 1024
DAY_MS = 24 * 60 * 60 * 1000
MOST_BYTES = 10 * 1024 * MIB
"""No file is larger, whatever the settings say."""

_TYPE = re.compile(r"[a-z0-9.+_-]+/(?:\*|[a-z0-9.+_-]+)")


def _content_type(value: object) -> str | None:
    if _TYPE.fullmatch(str(value)):
        return None
    return f"must be a content type such as video/mp4, or a kind of them such as video/*, not {value!r}"


@frozen(kw_only=True)
class TypeLimit:
    """How large files of one type may be."""

    type: str = setting(doc="A content type such as video/mp4, or video/* for all of a kind.", check=_content_type)
    max_bytes: int = setting(doc="How large they may be; 0 forbids them.", check=at_least(0))


@frozen(kw_only=True)
class S3:
    """An S3-compatible store."""

    bucket: str = setting(doc="The bucket's name.", check=not_empty)
    endpoint_url: str | None = setting(None, doc="The store's address, if it is not Amazon's.", check=http_url)
    region: str = setting("us-east-1", doc="The region.")
    access_key: str | None = setting(None, doc="The access key; without it, boto3 looks where it always does.")
    secret_key: str | None = setting(None, doc="The secret key.", secret=True)
    prefix: str = setting("", doc="What the name of every object begins with, such as guildhall/.")
    redirect: bool = setting(
        False,
        doc="Whether clients and other servers are sent to the store itself, by an address that is good for a few "
        "minutes, instead of getting files through this server. The store must be reachable for them.",
    )


@frozen(kw_only=True)
class Media:
    """People's files: how large, how many, where they are kept, and for how long."""

    max_upload_bytes: int = setting(
        50 * MIB,
        doc="How large a file that people here upload may be. A reverse proxy must let as much pass.",
        check=between(1, MOST_BYTES),
    )
    type_limits: tuple[TypeLimit, ...] = setting(
        (),
        doc="Smaller limits for some types: a list of {type: video/*, max_bytes: 50M}. 0 forbids a type. The type that "
        "the client states counts, and the one that the file has by its first bytes.",
    )
    user_quota_bytes: int | None = setting(
        None, doc="How much each user may have uploaded in all. Without it there is no such limit.", check=at_least(0)
    )
    user_quota_files: int | None = setting(
        None, doc="How many files each user may have uploaded. Without it there is no such limit.", check=at_least(0)
    )
    pending_ms: int = setting(
        DAY_MS, doc="For how long a client may make an address first and upload the file later.", check=at_least(1000)
    )
    max_pending: int = setting(10, doc="How many such addresses without a file each user may have.", check=at_least(1))
    freeze: bool = setting(
        True,
        doc="Whether new files are had with an access token only, as clients of 2024 and later ask for them. Off, "
        "files that come from now on can be had by anybody who knows their address, for ever.",
    )

    store: Literal["local", "s3"] = setting(
        "local", doc="Where files are kept: in a folder (local), or in a store (s3)."
    )
    path: Path = setting(
        Path("media"),
        doc="The folder. With store: s3 it holds only what is on its way, and needs little room.",
    )
    s3: S3 | None = setting(
        None,
        doc="The store, with bucket, endpoint_url (for all but Amazon's), region, access_key, secret_key (both from "
        "where boto3 looks, if not here), prefix and redirect (whether clients fetch files there themselves).",
    )

    remote_max_bytes: int = setting(
        100 * MIB,
        doc="How large a file of another server may be to be fetched from there.",
        check=between(1, MOST_BYTES),
    )
    remote_cache_bytes: int | None = setting(
        10 * 1024 * MIB,
        doc="How much of other servers' files is kept; what was not asked for the longest goes first. Empty: no limit.",
        check=at_least(0),
    )
    remote_keep_ms: int | None = setting(
        90 * DAY_MS,
        doc="For how long a file of another server is kept that nobody asks for. Empty: for ever.",
        check=at_least(60_000),
    )
    local_keep_ms: int | None = setting(
        None,
        doc="For how long a file of this server's people is kept that nobody asks for. It is then gone for good, in "
        "encrypted rooms too; pictures of people, rooms and emoji stay. Empty: for ever.",
        check=at_least(60_000),
    )

    max_pixels: int = setting(
        50_000_000,
        doc="How many pixels a picture may have to be made smaller, all frames of an animation together.",
        check=at_least(1),
    )
    workers: int = setting(
        1,
        doc="How many processes make thumbnails, look into sound and video, and read web pages for previews. They "
        "start when there is work and end when there has been none for a minute.",
        check=between(1, 64),
    )
    worker_timeout_ms: int = setting(
        20_000, doc="How long one such piece of work may take; then it is given up.", check=at_least(100)
    )
    worker_memory_bytes: int = setting(
        1024 * MIB, doc="How much memory such a process may have.", check=at_least(256 * MIB)
    )

    def __attrs_post_init__(self) -> None:
        if self.store == "s3" and self.s3 is None:
            raise BadSetting("s3", "is missing, and `store` says that files are kept there")
