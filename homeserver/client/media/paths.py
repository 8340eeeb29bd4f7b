"""Where clients look for the content repository: today, and before files were had with a token only."""

from __future__ import annotations

from config.media import MOST_BYTES

AUTHED = "/_matrix/client/v1/media"
OLD = "/_matrix/media/v3"
"""Deprecated, but for uploading."""
MOST_UPLOADED = MOST_BYTES
"""The route's limit; the settings' own, which is judged before the body is read too, is usually far lower."""
CONDITIONS = ("range", "if-range", "if-none-match")
