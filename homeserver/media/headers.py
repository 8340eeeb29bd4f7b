"""The headers that files go out with: as what, under which name, and what a browser must not do with them.

Spec: https://spec.matrix.org/v1.19/client-server-api/#content-repo-security-considerations
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote_to_bytes

from homeserver.media.kinds import is_inline

SANDBOX = (
    "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; style-src 'unsafe-inline'; "
    "media-src 'self'; object-src 'self';"
)
"""The specification's, and leave for the browser's own player of sound and video."""

SAFE: Mapping[str, str] = {
    "Content-Security-Policy": SANDBOX,
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow, noarchive, noimageindex",
    "Referrer-Policy": "no-referrer",
    "Access-Control-Expose-Headers": "Content-Disposition, Content-Range, Accept-Ranges, ETag, Retry-After",
}

KEPT = "private, max-age=31536000, immutable"
"""What is at an mxc:// URI never changes, and is for whoever asked."""


def headers_of_file(content_type: str, name: str | None, *, etag: str, inline: bool | None = None) -> dict[str, str]:
    """Headers of an answer with a file. `inline` only for what we have made ourselves."""
    shown = is_inline(content_type) if inline is None else inline
    return {
        **SAFE,
        "Content-Type": content_type,
        "Content-Disposition": disposition("inline" if shown else "attachment", name),
        "Cache-Control": KEPT,
        "ETag": etag,
        "Accept-Ranges": "bytes",
    }


def disposition(kind: str, name: str | None) -> str:
    """A `Content-Disposition` header. A name that is not ASCII is given in both ways: Spec: RFC 6266, section 4.3."""
    if not name:
        return kind
    plain = "".join(letter if " " <= letter <= "~" else "_" for letter in name)
    quoted = plain.replace("\\", "\\\\").replace('"', '\\"')
    if plain == name:
        return f'{kind}; filename="{quoted}"'
    return f"{kind}; filename=\"{quoted}\"; filename*=utf-8''{quote(name, safe='')}"


def name_in(header: str) -> str | None:
    """The file name in another server's `Content-Disposition`, read as latin-1; None where there is none.

    The encoded form wins over the plain one; bytes of UTF-8 in the plain one are what many write.
    """
    found: dict[str, str] = {}
    for name, quoted, token in _PARAMETER.findall(header):
        found.setdefault(name.lower(), re.sub(r"\\(.)", r"\1", quoted) or token.strip())
    charset, _, rest = found.get("filename*", "").partition("'")
    if charset.lower() in ("utf-8", "us-ascii", "iso-8859-1"):
        try:
            return unquote_to_bytes(rest.partition("'")[2]).decode(charset) or None
        except UnicodeDecodeError:
            pass
    plain = found.get("filename", "")
    try:
        return plain.encode("latin-1").decode() or None
    except UnicodeError:
        return plain or None


_PARAMETER = re.compile(r""";\s*([\w!#$&+.^`|~*-]{1,40})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;"]*))""", re.DOTALL)
