"""Brings a database to the schema of this program: numbered SQL files, each applied once, at start.

A newer database than this program knows is refused, as is one of another server name. On SQLite a copy of the file
is kept before an upgrade; on both databases an upgrade that fails leaves the database as it was.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources

import msgspec

from storage.connection import Connection, Engine
from storage.errors import DatabaseTooNew, WrongServerName
from storage.ports import Cursor, Dialect

_POSTGRESQL_WORDS = (
    (re.compile(r"\bINTEGER\b"), "BIGINT"),
    (re.compile(r"\bBLOB\b"), "BYTEA"),
    (re.compile(r"\bTEXT\b"), 'TEXT COLLATE "C"'),
    (re.compile(r"\)\s*WITHOUT ROWID\b"), ")"),
)
_COMMENT = re.compile(r"--[^\n]*")


class Migration(msgspec.Struct, frozen=True):
    """One step of the schema's history: the database is at `version` after it."""

    version: int
    name: str
    sql: str
    """In SQLite's words, or in PostgreSQL's where the file's name says so."""

    def statements(self, dialect: Dialect) -> list[str]:
        """Its statements for one kind of database. No literal in a migration holds `;` or `--`."""
        text = _COMMENT.sub("", self.sql)
        if dialect == "postgresql":
            for word, replacement in _POSTGRESQL_WORDS:
                text = word.sub(replacement, text)
        return [statement for part in text.split(";") if (statement := part.strip())]


def load_migrations(dialect: Dialect) -> list[Migration]:
    """All migrations in order. `0007_x.postgresql.sql` stands in for `0007_x.sql` on that database."""
    chosen: dict[int, Migration] = {}
    for file in sorted(resources.files("storage.migrations").iterdir(), key=lambda file: file.name):
        # An installed package keeps its __pycache__ there too.
        if not file.name.endswith(".sql"):
            continue
        stem, *kind = file.name.removesuffix(".sql").split(".")
        if kind not in ([], [dialect]):
            continue
        version = int(stem.partition("_")[0])
        if not kind and version in chosen:
            continue
        chosen[version] = Migration(version, stem, file.read_text(encoding="utf-8"))
    migrations = [chosen[version] for version in sorted(chosen)]
    if [migration.version for migration in migrations] != list(range(1, len(migrations) + 1)):
        raise ValueError("migrations are not numbered 1, 2, 3 …")
    return migrations


def migrate(engine: Engine, connection: Connection, server_name: str, migrations: Sequence[Migration]) -> list[str]:
    """Apply what is missing, and give its names. Raises DatabaseTooNew or WrongServerName, having changed nothing."""
    newest = migrations[-1].version
    cursor = connection.begin()
    try:
        version = _read_version(cursor)
        if version > newest:
            raise DatabaseTooNew(
                f"the database has schema {version}, this program knows up to {newest}: run the newer program again, "
                "or put back the copy that was kept before the upgrade"
            )
        if version:
            check_server_name(cursor, server_name)
    finally:
        connection.rollback()
    missing = [migration for migration in migrations if migration.version > version]
    if not missing:
        return []
    if version:
        engine.keep_copy(version)
    cursor = connection.begin()
    try:
        for migration in missing:
            for statement in migration.statements(engine.dialect):
                cursor.execute(statement)
        if version == 0:
            cursor.execute("INSERT INTO meta (key, value) VALUES ('server_name', ?)", (server_name,))
            cursor.execute("INSERT INTO meta (key, value) VALUES ('schema_version', ?)", (str(newest),))
        else:
            cursor.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", (str(newest),))
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return [migration.name for migration in missing]


def check_server_name(cursor: Cursor, server_name: str) -> None:
    """Raises WrongServerName unless the database belongs to this server."""
    row = cursor.execute("SELECT value FROM meta WHERE key = 'server_name'").fetchone()
    if row is not None and row[0] != server_name:
        raise WrongServerName(f"the database belongs to the server {row[0]!r}, not to {server_name!r}")


def _read_version(cursor: Cursor) -> int:
    if cursor.dialect == "sqlite":
        there = cursor.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone()
    else:
        there = cursor.execute("SELECT 1 WHERE to_regclass('meta') IS NOT NULL").fetchone()
    if there is None:
        return 0
    row = cursor.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    return 0 if row is None else int(row[0])
