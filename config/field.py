"""How a setting is declared: its default, its documentation and what it may hold, all on the field itself.

    @frozen(kw_only=True)
    class Presence:
        enabled: bool = setting(True, doc="Whether people see who is online.")

Everything else is derived from these declarations: the parser (`config.parse`), the sample `homeserver.yaml`
(`config.document`), the masked print of `python -m homeserver config` (`config.mask`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import attrs

#: Checks one value: None when it is good, or what is wrong with it ("must be at least 1").
Check = Callable[[Any], str | None]


class BadSetting(ValueError):
    """A value of the right type that the field cannot take. The parser adds where it stood."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why


def setting(
    default: object = attrs.NOTHING,
    *,
    doc: str,
    check: Check | Sequence[Check] = (),
    secret: bool = False,
    mask: Callable[[str], str] | None = None,
    factory: Callable[[], object] | None = None,
    live: bool = False,
) -> Any:
    """Declare one setting of an attrs class.

    `doc` is shown in `homeserver.yaml`: complete sentences, wrapped by the generator. `secret` keeps the value out
    of logs and of the `config` verb; `mask` hides only a part of it (a password inside an URL). `live` says that
    the sample shows the setting uncommented, because every server has its own value for it.
    """
    checks = (check,) if callable(check) else tuple(check)

    def validate(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        for one in checks:
            if (why := one(value)) is not None:
                raise BadSetting(attribute.name, why)

    return attrs.field(
        default=attrs.Factory(factory) if factory is not None else default,
        validator=validate if checks else None,
        repr=not (secret or mask),
        metadata={"doc": doc, "secret": secret, "mask": mask, "live": live},
    )


def is_object(value: object) -> TypeGuard[attrs.AttrsInstance]:
    """Whether a value is a group of settings rather than one."""
    return attrs.has(type(value))


def at_least(lowest: float) -> Check:
    """Refuse numbers below `lowest`; None (where the type allows it) passes."""
    return lambda value: None if value is None or value >= lowest else f"must be at least {lowest}, not {value}"


def between(lowest: float, highest: float) -> Check:
    """Refuse numbers outside `lowest`..`highest`, both ends included; None passes."""
    return lambda value: (
        None if value is None or lowest <= value <= highest else f"must be from {lowest} to {highest}, not {value}"
    )


def not_empty(value: object) -> str | None:
    """Refuse the empty text and the empty list."""
    return "must not be empty" if value in ("", (), []) else None


def http_url(value: object) -> str | None:
    """Accept `http://…` and `https://…` without query or fragment; None passes."""
    if value is None:
        return None
    text = str(value)
    scheme, separator, rest = text.partition("://")
    if separator and scheme in ("http", "https") and rest and not set("?# ") & set(rest):
        return None
    return f"must be an address like https://matrix.example.org, not {text!r}"


def ip_networks(value: object) -> str | None:
    """Refuse a list in which something is not an IP address or a range such as 10.0.0.0/8."""
    import ipaddress  # only servers that set such a list pay for the import

    assert isinstance(value, tuple)
    for text in value:
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            return f"{text!r} is not an IP address or range such as 10.0.0.0/8"
    return None
