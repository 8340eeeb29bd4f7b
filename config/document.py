"""Write `homeserver.yaml` from the settings' own documentation: as the sample, or for a new server."""

from __future__ import annotations

import textwrap
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import yaml

from config.field import is_object
from config.parse import UNITS, default_of
from config.settings import Settings

_WIDTH = 110
_HEAD = """\
Settings of a Guildhall homeserver. Lines that are commented out show what holds without them.

Each setting can also come from the environment, where it wins over this file: GUILDHALL_SERVER__NAME=example.org is
`name` in the section `server`; lists are written as in YAML, on one line. Times may be written as 90s, 5m, 24h or 7d,
sizes as 500K or 50M. `python -m homeserver config -c FILE` shows what is in force, `check -c FILE` tries it out.
"""

#: What the sample shows for settings that are different on every server.
SAMPLE: Mapping[str, Any] = {"server": {"name": "example.org"}}


def document(values: Mapping[str, Any] = SAMPLE) -> str:
    """The text of a settings file in which `values` (shaped like the file) are set and all else is commented out."""
    blocks = ["\n".join(_remark(_HEAD, ""))]
    hints = typing.get_type_hints(Settings)
    for field in attrs.fields(Settings):
        if _is_section(hints[field.name]):
            blocks.append("\n".join(_section(field.name, hints[field.name], values.get(field.name, {}))))
        else:
            blocks.append("\n".join(_setting(field, values.get(field.name), "")))
    return "\n\n".join(blocks) + "\n"


def _is_section(hint: Any) -> bool:
    return isinstance(hint, type) and attrs.has(hint)


def _section(name: str, cls: type[attrs.AttrsInstance], values: Mapping[str, Any]) -> Iterator[str]:
    yield from _remark(cls.__doc__ or "", "")
    yield f"{name}:"
    for number, field in enumerate(attrs.fields(cls)):
        short = is_object(default_of(field))
        if number and not short:
            yield ""
        yield from _setting(field, values.get(field.name), "  ")


def _setting(field: attrs.Attribute[Any], value: Any, indent: str) -> Iterator[str]:
    yield from _remark(field.metadata["doc"], indent)
    default = default_of(field)
    live = value is not None or field.metadata["live"]
    shown = value if value is not None else default
    text = "" if shown in (None, attrs.NOTHING) else f" {_inline(field.name, plain(shown))}"
    yield f"{indent}{'' if live else '#'}{field.name}:{text}"


def _remark(text: str, indent: str) -> Iterator[str]:
    for number, paragraph in enumerate(text.strip().split("\n\n")):
        if number:
            yield f"{indent}#"
        lines = textwrap.wrap(" ".join(paragraph.split()), _WIDTH - len(indent) - 2, break_on_hyphens=False)
        yield from (f"{indent}# {line}" for line in lines)


def plain(value: Any) -> Any:
    """A setting's value as YAML has it: sections as mappings, tuples as lists, paths as text."""
    if is_object(value):
        return {field.name: plain(getattr(value, field.name)) for field in attrs.fields(type(value))}
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float | dict) else str(value)


def _inline(name: str, value: Any) -> str:
    """The value on one line: milliseconds and bytes in the largest unit that leaves no rest."""
    for suffix, units in UNITS.items():
        if name.endswith(suffix) and isinstance(value, int) and value:
            unit, size = max(((u, s) for u, s in units.items() if value % s == 0), key=lambda pair: pair[1])
            return f"{value // size}{unit}"
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False, allow_unicode=True)
    return text.removesuffix("...\n").strip()
