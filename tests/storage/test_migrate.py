"""How a database is made, upgraded and refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from storage import database as database_module
from storage.connection import Connection
from storage.database import make_engine, open_database
from storage.errors import DatabaseBusy, DatabaseTooNew, DatabaseUnusable, WrongServerName
from storage.migrate import Migration, load_migrations, migrate
from storage.shared import Shared, WriterMemory
from tests.fixtures_db import SERVER_NAME, Pump

FIRST = Migration(
    1, "0001_a", "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT); -- a; remark\nCREATE TABLE a (b BLOB)"
)
SECOND = Migration(2, "0002_b", "ALTER TABLE a ADD COLUMN c INTEGER; UPDATE a SET c = 7")
BROKEN = Migration(3, "0003_c", "ALTER TABLE a ADD COLUMN d TEXT; UPDATE a SET nothing = 1")


class Opened:
    """A database below the level of `open_database`."""

    def __init__(self, url: str) -> None:
        self.engine = make_engine(url, Shared(), WriterMemory(Shared()))
        self.connection: Connection = self.engine.open_writer()

    def migrate(self, *migrations: Migration, server_name: str = SERVER_NAME) -> list[str]:
        return migrate(self.engine, self.connection, server_name, migrations)

    def ask(self, sql: str) -> list[tuple[object, ...]]:
        cursor = self.connection.begin()
        try:
            return cursor.execute(sql).fetchall()
        finally:
            self.connection.commit()

    def close(self) -> None:
        self.connection.close()
        self.engine.close()


@pytest.fixture
def opened(empty_database_url: str, request: pytest.FixtureRequest) -> Opened:
    opened = Opened(empty_database_url)
    request.addfinalizer(opened.close)
    return opened


def version_of(opened: Opened) -> object:
    return opened.ask("SELECT value FROM meta WHERE key = 'schema_version'")[0][0]


def test_each_migration_is_applied_once(opened: Opened) -> None:
    assert opened.migrate(FIRST) == ["0001_a"]
    assert opened.migrate(FIRST) == []
    opened.ask("INSERT INTO a (b) VALUES (NULL) RETURNING b")
    assert opened.migrate(FIRST, SECOND) == ["0002_b"]
    assert opened.ask("SELECT b, c FROM a") == [(None, 7)]
    assert version_of(opened) == "2"
    assert opened.migrate(FIRST, SECOND) == []


def test_an_upgrade_that_fails_leaves_all_as_it_was(opened: Opened) -> None:
    opened.migrate(FIRST, SECOND)
    opened.ask("INSERT INTO a (c) VALUES (1) RETURNING b")
    with pytest.raises(Exception, match="nothing"):
        opened.migrate(FIRST, SECOND, BROKEN)
    assert version_of(opened) == "2"
    assert opened.ask("SELECT * FROM a") == [(None, 1)]


def test_a_newer_database_is_refused(opened: Opened) -> None:
    opened.migrate(FIRST, SECOND)
    with pytest.raises(DatabaseTooNew, match="schema 2"):
        opened.migrate(FIRST)
    assert version_of(opened) == "2"


def test_another_servers_database_is_refused(opened: Opened) -> None:
    opened.migrate(FIRST)
    with pytest.raises(WrongServerName, match=r"'test\.example', not to 'other\.example'"):
        opened.migrate(FIRST, SECOND, server_name="other.example")
    assert version_of(opened) == "1"


def test_a_copy_is_kept_before_an_upgrade(sqlite_url: str, tmp_path: Path) -> None:
    opened = Opened(sqlite_url)
    opened.migrate(FIRST)
    opened.ask("INSERT INTO a (b) VALUES (x'00ff') RETURNING b")
    assert list(tmp_path.glob("*.schema-*")) == []
    opened.migrate(FIRST, SECOND)
    copy = sqlite3.connect(tmp_path / "test.db.schema-1")
    assert copy.execute("SELECT * FROM a").fetchall() == [(b"\x00\xff",)]
    assert copy.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchall() == [("1",)]
    copy.close()
    with pytest.raises(sqlite3.OperationalError):
        opened.migrate(FIRST, SECOND, BROKEN)
    assert sorted(path.name for path in tmp_path.glob("*.schema-*")) == ["test.db.schema-1", "test.db.schema-2"]
    opened.close()


def test_the_projects_own_migrations(empty_database_url: str, pump: Pump) -> None:
    database = open_database(empty_database_url, pump, server_name=SERVER_NAME)
    pump.wait(database.close())
    opened = Opened(empty_database_url)
    assert version_of(opened) == str(len(load_migrations("sqlite")))
    opened.close()
    with pytest.raises(WrongServerName):
        open_database(empty_database_url, pump, server_name="other.example")
    # Refusing lets go of the database again.
    pump.wait(open_database(empty_database_url, pump, server_name=SERVER_NAME).close())


def test_both_databases_have_the_same_migrations() -> None:
    names = [migration.name for migration in load_migrations("sqlite")]
    assert [migration.name for migration in load_migrations("postgresql")] == names
    statements = " ".join(load_migrations("postgresql")[0].statements("postgresql"))
    for word in ("ROWID", "BLOB", "INTEGER", "--"):
        assert word not in statements


def test_a_second_server_on_the_same_database_is_refused(
    empty_database_url: str, pump: Pump, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.postgresql.LOCK_TIMEOUT_S", 0.2)
    database = open_database(empty_database_url, pump, server_name=SERVER_NAME)
    with pytest.raises(DatabaseBusy, match="in use by another server"):
        open_database(empty_database_url, pump, server_name=SERVER_NAME)
    pump.wait(database.close())
    pump.wait(open_database(empty_database_url, pump, server_name=SERVER_NAME).close())


@pytest.mark.parametrize(
    "url",
    [
        "mysql://localhost/x",
        "postgresql://tests@/nothing?host=/nowhere/at/all",
        "postgresql://tests@/nothing?hust=/nowhere",
        "sqlite:////nowhere/at/all/x.db",
    ],
)
def test_a_database_that_cannot_be_opened_says_so(url: str, pump: Pump) -> None:
    with pytest.raises(DatabaseUnusable):
        open_database(url, pump, server_name=SERVER_NAME)


def test_the_connection_is_closed_if_reading_fails(
    empty_database_url: str, pump: Pump, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(cursor: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(database_module, "read_counters", broken)
    with pytest.raises(ZeroDivisionError):
        open_database(empty_database_url, pump, server_name=SERVER_NAME)
    monkeypatch.undo()
    pump.wait(open_database(empty_database_url, pump, server_name=SERVER_NAME).close())


def test_other_files_beside_the_migrations_are_no_migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0001_a.sql").write_text("SELECT 1")
    (tmp_path / "0001_a.postgresql.sql").write_text("SELECT 2")
    (tmp_path / "__init__.py").touch()
    (tmp_path / "__pycache__").mkdir()
    monkeypatch.setattr("storage.migrate.resources.files", lambda _package: tmp_path)
    assert [migration.sql for migration in load_migrations("sqlite")] == ["SELECT 1"]
