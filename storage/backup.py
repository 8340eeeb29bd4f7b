"""A database into one file, while a server is writing to it, and back again.

SQLite is copied by its own backup interface, PostgreSQL by `pg_dump`: both see one moment, so whatever was committed
before they began is in the file, and nothing of a transaction is there without the rest of it. Neither stops the
server. All functions block.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from storage.errors import StorageError
from storage.files import sync_file
from storage.maintenance import open_reader, sqlite_path, tables_of
from storage.migrate import check_server_name, load_migrations
from storage.ports import Dialect


class BackupFailed(StorageError):
    """The database could not be copied, or the copy cannot be put back. The message says why."""


_NAMES: Mapping[Dialect, str] = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


class Copied(msgspec.Struct, frozen=True):
    """What a copy of a database holds."""

    dialect: Dialect
    schema: int


def dialect_of(url: str) -> Dialect:
    return "postgresql" if sqlite_path(url) is None else "sqlite"


def copy_database(url: str, server_name: str, target: Path) -> Copied:
    """Write the database to a new file.

    Raises BackupFailed, or DatabaseUnusable where there is no such database of a server of this name.
    """
    copied = Copied(dialect_of(url), _schema_of(url, server_name))
    if copied.dialect == "postgresql":
        _run_tool("pg_dump", url, ["--format=custom", "--no-owner", "--no-privileges", f"--file={target}"])
    else:
        path = sqlite_path(url)
        assert path is not None
        _copy_sqlite(path, target)
    return copied


def check_target(url: str, copied: Copied) -> None:
    """Whether `put_back` can make a database there: it never overwrites. Raises BackupFailed or DatabaseUnusable."""
    dialect = dialect_of(url)
    if copied.dialect != dialect:
        raise BackupFailed(f"the backup is of {_NAMES[copied.dialect]}, and the settings name {_NAMES[dialect]}")
    newest = load_migrations(dialect)[-1].version
    if copied.schema > newest:
        raise BackupFailed(f"the backup has schema {copied.schema}, and this program knows up to {newest}")
    if (path := sqlite_path(url)) is not None:
        for suffix in ("", "-wal", "-shm"):
            if (file := path.with_name(path.name + suffix)).exists():
                raise BackupFailed(f"{file} is there already")
        return
    with open_reader(url) as cursor:
        if tables_of(cursor):
            raise BackupFailed("the database is not empty")


def put_back(url: str, copied: Copied, source: Path) -> None:
    """Make the database from such a file. What fails leaves no database behind.

    Raises BackupFailed, DatabaseUnusable or OSError.
    """
    check_target(url, copied)
    if (path := sqlite_path(url)) is None:
        options = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction", str(source)]
        _run_tool("pg_restore", url, options)
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        shutil.copyfile(source, unfinished)
        unfinished.chmod(0o600)
        sync_file(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _schema_of(url: str, server_name: str) -> int:
    if (path := sqlite_path(url)) is not None and not path.exists():
        raise BackupFailed(f"there is no database at {path}")
    with open_reader(url) as cursor:
        if "meta" not in tables_of(cursor):
            raise BackupFailed("the database is empty: no server has been started on it")
        check_server_name(cursor, server_name)
        row = cursor.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
        return int(row[0]) if row is not None else 0


def _copy_sqlite(path: Path, target: Path) -> None:
    try:
        source = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=30)
        copy = sqlite3.connect(target)
        try:
            # In one step, under one read transaction: with write-ahead logging that holds nobody up.
            source.backup(copy)
            # Makes it a single file, which has no log beside it.
            copy.execute("PRAGMA journal_mode=DELETE")
            (verdict,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            copy.close()
            source.close()
    except sqlite3.Error as error:
        raise BackupFailed(f"{path} cannot be copied: {error}") from error
    if verdict != "ok":
        raise BackupFailed(f"{path} is damaged: {verdict}")


def _run_tool(name: str, url: str, options: Sequence[str]) -> None:
    """One of PostgreSQL's programs, found in PATH. The password goes by its environment, which others cannot read."""
    from psycopg2 import extensions

    tool = shutil.which(name)
    if tool is None:
        raise BackupFailed(
            f"{name} is not in PATH; install PostgreSQL's client programs (Debian: postgresql-client), "
            "of the database's version or a later one"
        )
    given = dict(extensions.parse_dsn(url))
    password = given.pop("password", None)
    environ = os.environ | ({"PGPASSWORD": password} if password is not None else {})
    dsn = extensions.make_dsn(**given)
    done = subprocess.run(
        [tool, "--no-password", f"--dbname={dsn}", *options],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BackupFailed(f"{name} failed: {' '.join(done.stderr.split()) or f'status {done.returncode}'}")
