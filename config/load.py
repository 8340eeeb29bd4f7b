"""Load the settings of one server from its file and the environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from config.database import SQLITE
from config.parse import parse_object
from config.settings import PROFILES, Settings
from config.source import Given, SettingsError, from_values, lay_over, read_environment, read_file


def load_settings(path: Path | str | None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read a settings file (None: none) and lay `GUILDHALL_…` variables of `environ` over it.

    Paths come out absolute: `data_dir` counts from the file's directory (without a file, from the working directory),
    all others from `data_dir`. Raises SettingsError, whose message names field and place.
    """
    file = Path(path) if path is not None else None
    written = read_file(file) if file is not None else Given({}, "the settings")
    written = lay_over(written, read_environment(environ or {}))
    return _absolute(_parse(written), (file.parent if file is not None else Path()).absolute())


def make_settings(values: Mapping[str, Any], place: str = "make_settings") -> Settings:
    """Settings from plain values in the shape of the file, as tests and tools want them; paths stay as given.

    >>> make_settings({"profile": "test", "server": {"name": "localhost"}}).rate_limits.enabled
    False
    """
    return _parse(from_values(values, place))


def _parse(written: Given) -> Settings:
    profile = written.value.get("profile") if isinstance(written.value, dict) else None
    name = profile.value if profile is not None else "production"
    if isinstance(name, str) and name in PROFILES:
        written = lay_over(from_values(PROFILES[name], f"profile {name}"), written)
    return parse_object(Settings, written)


def _absolute(settings: Settings, base: Path) -> Settings:
    data_dir = base / settings.server.data_dir
    resolved: Settings = _resolve(settings, data_dir)
    database = resolved.database
    if (sqlite := database.sqlite_path) is not None:
        database = attrs.evolve(database, url=f"{SQLITE}{data_dir / sqlite}")
    return attrs.evolve(resolved, server=attrs.evolve(resolved.server, data_dir=data_dir), database=database)


def _resolve(value: Any, base: Path) -> Any:
    """The same object with every path in it, at any depth, made absolute."""
    if isinstance(value, Path):
        return base / value
    if isinstance(value, tuple):
        return tuple(_resolve(each, base) for each in value)
    if attrs.has(type(value)):
        old = {field.name: getattr(value, field.name) for field in attrs.fields(type(value))}
        return attrs.evolve(value, **{name: _resolve(each, base) for name, each in old.items()})
    return value


__all__ = ["SettingsError", "load_settings", "make_settings"]
