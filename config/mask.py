"""The settings in force, for people to look at: secrets are told to be there, but not told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from config.document import plain
from config.field import is_object

MASK = "********"


def masked(settings: attrs.AttrsInstance) -> Mapping[str, Any]:
    """All settings as plain values in the shape of the file, with every secret that is set replaced by asterisks."""
    return {field.name: _shown(field, getattr(settings, field.name)) for field in attrs.fields(type(settings))}


def _shown(field: attrs.Attribute[Any], value: Any) -> Any:
    if is_object(value):
        return masked(value)
    if isinstance(value, tuple) and any(is_object(each) for each in value):
        return [_shown(field, each) for each in value]
    if field.metadata["secret"] and value:
        return MASK
    if (mask := field.metadata["mask"]) is not None:
        return mask(value)
    return plain(value)
