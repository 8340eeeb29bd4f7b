"""The sample and the masked print, which are derived from the declarations."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml

from config import Settings, load_settings, make_settings
from config.database import hide_password
from config.document import document
from config.mask import masked

ROOT = Path(__file__).parents[2]


def test_the_sample_in_the_tree_is_up_to_date() -> None:
    assert (ROOT / "homeserver.yaml").read_text() == document(), "run `make docs`"


def test_the_sample_can_be_used_as_it_is() -> None:
    assert load_settings(ROOT / "homeserver.yaml").server.name == "example.org"


def test_every_commented_default_can_be_uncommented(tmp_path: Path) -> None:
    lines = document().splitlines()
    live = [line.replace("#", "", 1) if line.lstrip().startswith("#") and line.lstrip()[1] != " " else line
            for line in lines if line.strip() not in ("#", "")]  # fmt: skip
    file = tmp_path / "all.yaml"
    file.write_text("\n".join(live))
    assert "max_sync_timeout_ms: 10m" in file.read_text()
    assert masked(load_settings(file)) == masked(load_settings(_sample(tmp_path)))


def _sample(tmp_path: Path) -> Path:
    file = tmp_path / "sample.yaml"
    file.write_text(document())
    return file


def test_given_values_are_live() -> None:
    values = {"profile": "dev", "server": {"name": "a.org"}, "database": {"url": "postgresql:///x?host=/run/pg"}}
    written = yaml.safe_load(document(values))
    assert {key: value for key, value in written.items() if value} == values


def _fields(cls: type[attrs.AttrsInstance], path: str = "") -> Iterator[tuple[str, Any, attrs.Attribute[Any]]]:
    hints = typing.get_type_hints(cls)
    for field in attrs.fields(cls):
        yield f"{path}{field.name}", hints[field.name], field
        for inner in (hints[field.name], *typing.get_args(hints[field.name])):
            if attrs.has(inner):
                yield from _fields(inner, f"{path}{field.name}.")


@pytest.mark.parametrize(("path", "hint", "field"), [pytest.param(*each, id=each[0]) for each in _fields(Settings)])
def test_every_setting_is_documented(path: str, hint: Any, field: attrs.Attribute[Any]) -> None:
    doc = field.metadata["doc"] or (hint.__doc__ if attrs.has(hint) else "")
    assert doc, f"{path} has no documentation"
    assert doc.rstrip().endswith("."), f"{path}: not a sentence"


def test_secrets_are_masked() -> None:
    settings = make_settings(
        {
            "server": {"name": "a.org"},
            "registration": {"shared_secret": "swordfish", "tokens": ["swordfish"]},
            "metrics": {"token": "swordfish"},
            "database": {"url": "postgresql://me:swordfish@db/x"},
        }
    )
    assert "swordfish" not in yaml.safe_dump(masked(settings))
    assert "swordfish" not in repr(settings)
    assert masked(settings)["database"]["url"] == "postgresql://me:********@db/x"


def test_secrets_that_are_not_set_show_as_such() -> None:
    settings = make_settings({"server": {"name": "a.org"}})
    assert masked(settings)["registration"]["shared_secret"] is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p%40w@h/n", "postgresql://u:********@h/n"),
        ("postgresql://u@h/n", "postgresql://u@h/n"),
        ("postgresql:///n?host=/run&password=pw&user=u", "postgresql:///n?host=/run&password=********&user=u"),
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
    ],
)
def test_passwords_in_urls(url: str, shown: str) -> None:
    assert hide_password(url) == shown
