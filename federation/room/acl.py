"""Which servers a room lets take part: its `m.room.server_acl`, as a pure matcher.

Spec: https://spec.matrix.org/v1.19/client-server-api/#mroomserver_acl
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self

import msgspec

from federation.room.globs import matches

_PORT = re.compile(r":[0-9]{1,5}\Z")
_IPV4 = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}\Z")


class ServerAcl(msgspec.Struct, frozen=True):
    """One room's list. Patterns are in lower case; `*` stands for any characters, `?` for one."""

    allow: tuple[str, ...]
    deny: tuple[str, ...]
    allow_ip_literals: bool = True

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> Self:
        """Read the content of an `m.room.server_acl`. What makes no sense there is as if it were absent."""
        literals = content.get("allow_ip_literals")
        return cls(
            _patterns(content.get("allow")),
            _patterns(content.get("deny")),
            literals if isinstance(literals, bool) else True,
        )

    def allows(self, server_name: str) -> bool:
        """Whether a server may take part. Its port does not matter."""
        name = _PORT.sub("", server_name.lower())
        if not self.allow_ip_literals and (name.startswith("[") or _IPV4.match(name)):
            return False
        if any(matches(pattern, name) for pattern in self.deny):
            return False
        return any(matches(pattern, name) for pattern in self.allow)


def _patterns(given: object) -> tuple[str, ...]:
    """Each once; an event has room for thousands of them, which are compared in turn."""
    texts = given if isinstance(given, list) else []
    return tuple(dict.fromkeys(text.lower() for text in texts if isinstance(text, str)))
