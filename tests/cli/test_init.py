"""`init`: a settings file and a key that the server can use, and nothing ever overwritten."""

from __future__ import annotations

import stat
from pathlib import Path

from click.testing import CliRunner, Result
from signedjson.key import read_signing_keys

from config import load_settings
from homeserver.cli import main


def _init(data_dir: Path, *more: str) -> Result:
    return CliRunner().invoke(main, ["init", "--server-name", "a.example", "--data-dir", str(data_dir), *more])


def test_what_it_writes_can_be_loaded(tmp_path: Path) -> None:
    result = _init(tmp_path / "new" / "data")
    assert result.exit_code == 0, result.output
    settings = load_settings(tmp_path / "new/data/homeserver.yaml")
    assert (settings.server.name, settings.profile) == ("a.example", "production")
    assert settings.database.sqlite_path == tmp_path / "new/data/homeserver.db"
    assert len(settings.registration.shared_secret or "") > 20


def test_options_are_written(tmp_path: Path) -> None:
    url = "postgresql://me:p%40ss@db.example:5433/guildhall?connect_timeout=5"
    result = _init(
        tmp_path, "--profile", "test", "--database", url, "--registration-shared-secret", "it's a 'secret': #1"
    )
    assert result.exit_code == 0, result.output
    settings = load_settings(tmp_path / "homeserver.yaml")
    assert settings.profile == "test"
    assert settings.database.url == url
    assert settings.registration.shared_secret == "it's a 'secret': #1"


def test_the_key_is_signedjsons(tmp_path: Path) -> None:
    _init(tmp_path)
    with (tmp_path / "signing.key").open() as lines:
        (key,) = read_signing_keys(lines)
    assert key.alg == "ed25519"


def test_only_the_owner_can_read_the_files(tmp_path: Path) -> None:
    _init(tmp_path / "data")
    for path in (tmp_path / "data", *(tmp_path / "data").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    for name in ("homeserver.yaml", "signing.key"):
        directory = tmp_path / name
        directory.mkdir()
        (directory / name).write_text("mine")
        result = _init(directory)
        assert result.exit_code == 1
        assert f"{name} is there already" in result.output
        assert [file.name for file in directory.iterdir()] == [name]
        assert (directory / name).read_text() == "mine"


def test_a_name_that_cannot_be_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["init", "--server-name", "no such name", "--data-dir", str(tmp_path / "x")])
    assert result.exit_code == 1
    assert "server.name: must be a host name" in result.output
    assert not (tmp_path / "x").exists()


def test_a_profile_that_does_not_exist(tmp_path: Path) -> None:
    assert "'staging' is not one of 'production', 'dev', 'test'" in _init(tmp_path, "--profile", "staging").output
