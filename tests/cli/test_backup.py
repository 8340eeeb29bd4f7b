"""`backup` and `restore`: a whole server saved while it works, and made again from that."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from attrs import define, field
from click.testing import CliRunner, Result

from homeserver.cli import main
from tests.fixtures_db import PostgresServer, tool
from tests.fixtures_server import Person, ServerProcess, StartServer, free_port, make_server

WRITERS = 2


def _verb(server: ServerProcess, *arguments: str, path: str | None = None) -> Result:
    """Call a verb with the settings of a server, and PostgreSQL's programs in PATH. A server runs elsewhere anyway."""
    verb, *more = arguments
    programs = path if path is not None else f"{tool('pg_dump').parent}{os.pathsep}{os.environ['PATH']}"
    environ = {**server.environ, "PATH": programs}
    result = CliRunner().invoke(main, [verb, "-c", str(server.settings_path), *more], env=environ)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@define
class Talker:
    """Somebody who says one thing after the other, and remembers what was answered."""

    person: Person
    room_id: str
    answered: list[str] = field(factory=list)
    _ending: threading.Event = field(factory=threading.Event)
    _thread: threading.Thread = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._thread = threading.Thread(target=self._talk)
        self._thread.start()

    def _talk(self) -> None:
        while not self._ending.is_set():
            self.answered.append(self.person.say(self.room_id, f"number {len(self.answered)}"))

    def end(self) -> None:
        self._ending.set()
        self._thread.join(30)


NewDatabase = Callable[[], str | None]


@pytest.fixture
def new_database(request: pytest.FixtureRequest, database_url: str) -> NewDatabase:
    """Makes empty databases of the kind that the test runs on; None is the SQLite file in the server's folder."""
    if database_url.startswith("sqlite"):
        return lambda: None
    postgres: PostgresServer = request.getfixturevalue("postgres")
    return postgres.new_database


def _restored(server: ServerProcess, directory: Path, database: str | None) -> ServerProcess:
    """Another place for the same server."""
    settings = {name: value for name, value in server.environ.items() if name != "GUILDHALL_DATABASE__URL"}
    if database is not None:
        settings["GUILDHALL_DATABASE__URL"] = database
    return ServerProcess(directory, free_port(), server.name, settings, server.shared_secret)


def test_a_server_saved_while_it_is_written_to(
    database_url: str, new_database: NewDatabase, start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server(database=new_database(), federation__policy_key_path="policy.key")
    alice = server.register("alice")
    rooms = [alice.create_room() for _ in range(WRITERS)]
    media = server.directory / "media" / "ab"
    media.mkdir(parents=True)
    (media / "picture").write_bytes(b"\x89PNG" * 300_000)
    talkers = [Talker(alice, room_id) for room_id in rooms]
    while not all(len(talker.answered) > 20 for talker in talkers):
        pass
    before = [list(talker.answered) for talker in talkers]
    saved = _verb(server, "backup", str(tmp_path / "saved"))
    for talker in talkers:
        talker.end()
    assert saved.exit_code == 0, saved.stderr
    assert "Saved localhost in" in saved.stdout
    assert all(len(talker.answered) > len(early) for talker, early in zip(talkers, before, strict=True))
    server.stop()

    again = _restored(server, tmp_path / "again", new_database())
    restored = _verb(again, "restore", str(tmp_path / "saved"))
    assert restored.exit_code == 0, restored.stderr
    assert (again.directory / "media/ab/picture").read_bytes() == (media / "picture").read_bytes()
    for key in ("signing.key", "policy.key"):
        assert (again.directory / key).read_bytes() == (server.directory / key).read_bytes()
    again.start()
    try:
        alice = Person(again, alice.user_id, alice.device_id, alice.token)
        for room_id, early, talker in zip(rooms, before, talkers, strict=True):
            there = _said_in(alice, room_id)
            assert set(early) <= set(there), "everything that was answered before the backup began is there"
            assert there == talker.answered[: len(there)], "and what came later is there up to one moment"
            alice.say(room_id, "we are back")
    finally:
        again.stop()
    again.check_log()


def _said_in(person: Person, room_id: str) -> list[str]:
    """The ids of all messages in a room, oldest first."""
    found: list[str] = []
    query: dict[str, str | int] = {"dir": "f", "limit": 1000}
    while True:
        page = person.call("GET", f"/_matrix/client/v3/rooms/{quote(room_id, safe='')}/messages", query=query)
        found += [event["event_id"] for event in page["chunk"] if event["type"] == "m.room.message"]
        if "end" not in page:
            return found
        query["from"] = page["end"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[ServerProcess, Path]:
    """A server on SQLite that has stopped, and a backup of it. Tests leave both as they are."""
    directory = tmp_path_factory.mktemp("server")
    server = make_server(directory, database=None, name="localhost", profile="test", settings={})
    server.start()
    server.register("alice")
    server.stop()
    target = tmp_path_factory.mktemp("backups") / "saved"
    made = _verb(server, "backup", str(target))
    assert made.exit_code == 0, made.stderr
    assert "GUILDHALL_LOGGING__FORMAT" in made.stderr, "settings from the environment are not in the file"
    return server, target


def test_what_a_backup_is(saved: tuple[ServerProcess, Path]) -> None:
    _, target = saved
    assert {file.name for file in target.iterdir()} == {
        "database.sqlite", "homeserver.yaml", "manifest.json", "signing.key",
    }  # fmt: skip
    assert all(file.stat().st_mode & 0o077 == 0 for file in (target, *target.iterdir())), "nobody else may read it"
    manifest = json.loads((target / "manifest.json").read_text())
    assert (manifest["server_name"], manifest["dialect"]) == ("localhost", "sqlite")


def test_a_backup_overwrites_nothing(saved: tuple[ServerProcess, Path]) -> None:
    server, target = saved
    again = _verb(server, "backup", str(target))
    assert (again.exit_code, "is there already" in again.stderr) == (1, True)


def test_a_backup_that_fails_leaves_nothing(saved: tuple[ServerProcess, Path], tmp_path: Path) -> None:
    server, _ = saved
    elsewhere = ServerProcess(tmp_path, 0, "localhost", server.environ, "")
    shutil.copy(server.settings_path, elsewhere.settings_path)
    failed = _verb(elsewhere, "backup", str(tmp_path / "x"))
    assert (failed.exit_code, "signing.key" in failed.stderr) == (1, True)
    shutil.copy(server.directory / "signing.key", tmp_path / "signing.key")
    failed = _verb(elsewhere, "backup", str(tmp_path / "x"))
    assert f"no backup was made: there is no database at {tmp_path / 'homeserver.db'}" in failed.stderr
    (tmp_path / "homeserver.db").write_bytes(b"not a database" * 100)
    assert "file is not a database" in _verb(elsewhere, "backup", str(tmp_path / "x")).stderr
    assert {file.name for file in tmp_path.iterdir()} <= {"homeserver.yaml", "signing.key", "homeserver.db"}


def test_without_pg_dump(postgres_url: str, start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(database=postgres_url)
    failed = _verb(server, "backup", str(tmp_path / "saved"), path=str(tmp_path))
    assert failed.exit_code == 1
    assert "pg_dump is not in PATH; install PostgreSQL's client programs (Debian: postgresql-client)" in failed.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture
def damaged(saved: tuple[ServerProcess, Path], tmp_path: Path) -> Path:
    """A copy of the backup, for a test to damage."""
    return Path(shutil.copytree(saved[1], tmp_path / "damaged"))


def _restore(saved: tuple[ServerProcess, Path], source: Path, directory: Path) -> str:
    """What `restore` complains about; it must not have written anything."""
    there = sorted(directory.rglob("*")) if directory.exists() else []
    result = _verb(ServerProcess(directory, 0, "localhost", saved[0].environ, ""), "restore", str(source))
    assert result.exit_code == 1, result.output
    assert "nothing was restored" in result.stderr
    assert (sorted(directory.rglob("*")) if directory.exists() else []) == there
    return result.stderr


def _change(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_damaged_backup_is_refused(saved: tuple[ServerProcess, Path], damaged: Path, tmp_path: Path) -> None:
    with (damaged / "database.sqlite").open("r+b") as stream:
        stream.seek(5000)
        stream.write(b"!")
    assert "database.sqlite is not what was saved" in _restore(saved, damaged, tmp_path / "new")
    (damaged / "database.sqlite").unlink()
    assert "database.sqlite is missing" in _restore(saved, damaged, tmp_path / "new")
    _change(damaged / "manifest.json", files={})
    assert "does not name homeserver.yaml" in _restore(saved, damaged, tmp_path / "new")
    _change(damaged / "manifest.json", format=2)
    assert "is of format 2" in _restore(saved, damaged, tmp_path / "new")
    (damaged / "manifest.json").write_text("{}")
    assert "cannot be read" in _restore(saved, damaged, tmp_path / "new")
    (damaged / "manifest.json").unlink()
    assert "is no backup" in _restore(saved, damaged, tmp_path / "new")


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "media/../../outside"])
def test_a_manifest_that_leads_outside(
    saved: tuple[ServerProcess, Path], damaged: Path, tmp_path: Path, name: str
) -> None:
    files = json.loads((damaged / "manifest.json").read_text())["files"]
    _change(damaged / "manifest.json", files=files | {name: {"size_bytes": 0, "sha256": ""}})
    assert "is no place inside the backup" in _restore(saved, damaged, tmp_path / "new")


def test_a_backup_of_a_later_version(saved: tuple[ServerProcess, Path], damaged: Path, tmp_path: Path) -> None:
    _change(damaged / "manifest.json", schema=10_000)
    assert "has schema 10000, and this program knows up to" in _restore(saved, damaged, tmp_path / "new")


def test_restoring_overwrites_nothing(saved: tuple[ServerProcess, Path], tmp_path: Path) -> None:
    _, target = saved
    for name in ("homeserver.db", "homeserver.db-wal", "signing.key", "media/x"):
        file = tmp_path / name.replace("/", "-") / name
        file.parent.mkdir(parents=True)
        file.write_text("mine")
        directory = tmp_path / name.replace("/", "-")
        assert "is there already" in _restore(saved, target, directory), name
        assert file.read_text() == "mine"


def test_restoring_with_settings_of_ones_own(saved: tuple[ServerProcess, Path], tmp_path: Path) -> None:
    """The file that is there says where everything goes, and stays as it is; a key that is the same may be there."""
    server, target = saved
    settings = tmp_path / "homeserver.yaml"
    shutil.copy(server.directory / "signing.key", tmp_path / "signing.key")
    settings.write_text("server: {name: another.example}\n")
    assert "the backup is of localhost, and the settings are of another.example" in _restore(saved, target, tmp_path)
    settings.write_text("server: {name: localhost}\ndatabase: {url: 'postgresql:///x?host=/nowhere'}\n")
    assert "the backup is of SQLite, and the settings name PostgreSQL" in _restore(saved, target, tmp_path)
    own = "server: {name: localhost, data_dir: data, signing_key_path: ../signing.key}\n"
    settings.write_text(own)
    done = _verb(ServerProcess(tmp_path, 0, "localhost", server.environ, ""), "restore", str(target))
    assert done.exit_code == 0, done.stderr
    assert settings.read_text() == own
    assert (tmp_path / "data/homeserver.db").exists()


def test_a_database_on_postgresql_that_is_not_empty(
    postgres: PostgresServer, start_server: StartServer, tmp_path: Path
) -> None:
    url = postgres.new_database()
    server = start_server(database=url)
    assert _verb(server, "backup", str(tmp_path / "saved")).exit_code == 0
    again = _restored(server, tmp_path / "again", url)
    refused = _verb(again, "restore", str(tmp_path / "saved"))
    assert "nothing was restored: the database is not empty" in refused.stderr
    assert not again.settings_path.exists()
