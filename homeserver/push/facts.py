"""What push rules ask of one event, found out once for all its readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, evolve, field

from federation.room.auth import PowerLevels
from federation.room.event import Event

Path = tuple[str, ...]


class Missing:
    """Stands for a property that an event does not have: null is a value."""


MISSING = Missing()


@define(eq=False)
class Facts:
    """One event in its room, as it was when the event came."""

    event: Event
    member_count: int
    """Who is joined, of all servers."""
    levels: Callable[[], PowerLevels | None]
    """None where they are not at hand."""
    mentioned: frozenset[str] = frozenset()
    """Whom it means by name or role."""
    subscribed: bool | None = None
    """Whether those who judge follow the thread that it is in; None: it is in none."""
    found: dict[object, bool] = field(factory=dict)
    """Conditions that were looked at already: most rules are everybody's."""
    _may_notify: dict[str, bool] = field(factory=dict)

    def for_followers(self) -> Facts:
        """The same for those who follow its thread."""
        return evolve(self, subscribed=True)

    def value(self, path: Path) -> Any:
        """The property at a path; `MISSING` where there is none."""
        event, first = self.event, path[0]
        current: Any
        match first:
            case "content":
                current = event.content
            case "type" | "sender" | "room_id" | "event_id" | "origin_server_ts":
                current = getattr(event, first)
            case "state_key":
                current = MISSING if event.state_key is None else event.state_key
            case _:
                return MISSING
        for name in path[1:]:
            if not isinstance(current, Mapping) or name not in current:
                return MISSING
            current = current[name]
        return current

    def sender_may_notify(self, key: str) -> bool:
        """Whether the sender may notify everybody by `key` ("room")."""
        known = self._may_notify.get(key)
        if known is None:
            levels = self.levels()
            known = levels is not None and levels.user(self.event.sender) >= levels.notifications(key)
            self._may_notify[key] = known
        return known


def parse_path(text: str) -> Path:
    r"""A dot-separated path as its names; `\.` is a dot in a name, `\\` a backslash.

    Spec: https://spec.matrix.org/v1.19/appendices/#dot-separated-property-paths
    """
    names: list[str] = []
    name = ""
    at = 0
    while at < len(text):
        letter = text[at]
        if letter == "\\" and text[at + 1 : at + 2] in (".", "\\"):
            at += 1
            name += text[at]
        elif letter == ".":
            names.append(name)
            name = ""
        else:
            name += letter
        at += 1
    return (*names, name)
