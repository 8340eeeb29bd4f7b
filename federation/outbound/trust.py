"""Whom TLS to peers trusts, as far as it can be wrong: told without OpenSSL, which not every server needs."""

from __future__ import annotations


class BadAuthorities(ValueError):
    """The file of certificate authorities cannot be used. The message names it."""


class BadTlsName(ValueError):
    """No certificate can be valid for such a name."""
