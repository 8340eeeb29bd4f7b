"""Databases for tests: each test that asks for `database_url` or `database` runs on SQLite and on PostgreSQL.

PostgreSQL is one server per test process, made by `initdb` in a temporary directory when a test first wants it, spoken
to over a Unix socket, and gone with the process however that ends. Where the tests run as root, it runs as somebody
else, as it insists on.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import queue
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import psycopg2
import pytest
from attrs import define, field
from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure
from zope.interface import implementer

from storage.database import Database, make_engine, open_database
from storage.migrate import load_migrations, migrate
from storage.shared import Shared, WriterMemory

P = ParamSpec("P")
T = TypeVar("T")

SERVER_NAME = "test.example"
START_TIMEOUT_S = 60
PR_SET_PDEATHSIG = 1
#: What PostgreSQL need not do where nothing has to outlive it.
FORGETFUL = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


@implementer(IReactorFromThreads)
class Pump:
    """Stands in for the reactor where only a database needs one: `wait` runs what threads hand over."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        self._calls.put(lambda: callable(*args, **kwargs))

    def callInThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        raise NotImplementedError("the database has its own threads")

    def getThreadPool(self) -> Any:
        raise NotImplementedError("the database has its own threads")

    def suggestThreadPoolSize(self, size: int) -> None:
        raise NotImplementedError("the database has its own threads")

    def hire(self, size: int, name: str) -> Errands:
        """A `federation.threads.Hire`."""
        return Errands(self, size)

    @property
    def is_idle(self) -> bool:
        """Whether nothing was handed over that waits to be run."""
        return self._calls.empty()

    def drain(self) -> None:
        """Run what was handed over, and what comes of that."""
        while not self._calls.empty():
            self._calls.get_nowait()()

    def wait(self, awaitable: Awaitable[T], timeout_s: float = 30) -> T:
        """The awaitable's result, or its exception."""
        deferred = (
            cast("Deferred[T]", awaitable)
            if isinstance(awaitable, Deferred)
            else Deferred.fromCoroutine(cast(Any, awaitable))
        )
        outcome: list[Any] = []
        deferred.addBoth(outcome.append)
        until = time.monotonic() + timeout_s
        while not outcome:
            self._calls.get(timeout=max(0.0, until - time.monotonic()))()
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        return cast(T, outcome[0])


@define
class Errands:
    """Workers without threads: what they are given is run by whoever pumps, one thing after the other."""

    pump: Pump
    size: int

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        answer: Deferred[T] = Deferred()

        def errand() -> None:
            done = execute(function, *args, **kwargs)
            if not answer.called:  # it may be cancelled
                done.chainDeferred(answer)

        self.pump.callFromThread(errand)
        return answer

    def close(self) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self.pump.callFromThread(done.callback, None)
        return done


@define
class PostgresServer:
    """A PostgreSQL server of the tests' own. `durable`: with fsync, for tests that kill it."""

    directory: Path
    durable: bool = False
    _process: subprocess.Popen[bytes] | None = None
    _databases: int = 0
    _rested: list[str] = field(factory=list)
    """Databases with the schema in them and nothing else."""
    _has_model: bool = False
    _user: pwd.struct_passwd | None = field(init=False, default=None)

    def start(self) -> None:
        """Start it; the first time, make its data directory."""
        if os.geteuid() == 0:
            self._user = _somebody_else()
            os.chown(self.directory, self._user.pw_uid, self._user.pw_gid)
        data = self.directory / "data"
        if not data.exists():
            self._run("initdb", "-D", data, "-A", "trust", "-U", "tests", "-E", "UTF8", "--locale=C", "--no-sync")
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.directory),
            "unix_socket_permissions": "0777",
            **({} if self.durable else FORGETFUL),
            "shared_buffers": "16MB",
            "max_connections": "50",
            "autovacuum": "off",
            "log_min_messages": "fatal",
        }
        options = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
        self._process = subprocess.Popen(
            [tool("postgres"), "-D", data, *options], **self._as_user(), stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                psycopg2.connect(self.url("postgres")).close()
                return
            except psycopg2.OperationalError:
                if time.monotonic() > until or self._process.poll() is not None:
                    raise
                time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends sessions and shuts down; SIGQUIT is a crash: it comes back by recovery."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        """Of the process whose children serve the sessions."""
        assert self._process is not None
        return self._process.pid

    def url(self, name: str) -> str:
        return f"postgresql://tests@/{name}?host={self.directory}"

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        self._databases += 1
        name = f"test_{self._databases}"
        self.administer(f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY file_copy")
        return self.url(name)

    def made_database(self) -> str:
        """The URL of a database that has the schema already, and belongs to no server yet; `rest_database` takes it
        back. Making a schema takes as long as most tests.
        """
        if self._rested:
            return self.url(self._rested.pop())
        if not self._has_model:
            self.administer("CREATE DATABASE model TEMPLATE template0 STRATEGY file_copy")
            make_schema(self.url("model"))
            self.administer(_KEEP_SEEDS, "model")
            self._has_model = True
        self._databases += 1
        name = f"made_{self._databases}"
        self.administer(f"CREATE DATABASE {name} TEMPLATE model STRATEGY file_copy")
        return self.url(name)

    def rest_database(self, url: str) -> None:
        """Take back a database that a test is done with, as new."""
        name = _name_in(url)
        try:
            self.administer(_ALONE + _EMPTY, name)
        except psycopg2.Error:  # the test changed the schema, or holds on to something
            self.drop_database(url)
        else:
            self._rested.append(name)

    def drop_database(self, url: str) -> None:
        self.administer(f"DROP DATABASE {_name_in(url)} WITH (FORCE)")

    def administer(self, sql: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(self.url(database))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [tool(program), *arguments]
        done = subprocess.run(command, **self._as_user(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def _as_user(self) -> dict[str, Any]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        how: dict[str, Any] = {"env": environ, "cwd": self.directory, "preexec_fn": _die_with_parent}
        if self._user is not None:
            how |= {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        return how


#: What migrations wrote into tables, kept in a schema of its own.
_KEEP_SEEDS = """
CREATE SCHEMA seeds;
DO $$ DECLARE name text; has_rows boolean; BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM public.%I)', name) INTO has_rows;
        IF has_rows THEN EXECUTE format('CREATE TABLE seeds.%I AS TABLE public.%I', name, name); END IF;
    END LOOP;
END $$;
"""
_ALONE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid();
"""
#: Deleting a few rows is much quicker than truncating; what has grown is truncated.
_EMPTY = """
SET lock_timeout = '5s';
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
        IF pg_relation_size(format('public.%I', name)) > 1000000 THEN
            EXECUTE format('TRUNCATE public.%I', name);
        ELSE
            EXECUTE format('DELETE FROM public.%I', name);
        END IF;
    END LOOP;
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'seeds' LOOP
        EXECUTE format('INSERT INTO public.%I TABLE seeds.%I', name, name);
    END LOOP;
END $$;
"""


def _name_in(url: str) -> str:
    return url.split("?")[0].rpartition("/")[2]


def make_schema(url: str) -> None:
    """Bring an empty database to the newest schema, in nobody's name: whoever opens it first may be any server."""
    shared = Shared()
    engine = make_engine(url, shared, WriterMemory(shared))
    connection = engine.open_writer()
    try:
        migrate(engine, connection, SERVER_NAME, load_migrations(engine.dialect))
        connection.begin().execute("DELETE FROM meta WHERE key = 'server_name'")
        connection.commit()
    finally:
        connection.close()
        engine.close()


def _somebody_else() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise LookupError("PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody")


def _die_with_parent() -> None:
    """In the child: the server ends with the thread that started it, however that ends.

    SIGQUIT is its way to end at once and leave no processes or shared memory behind.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)


def tool(name: str) -> Path:
    """A program of PostgreSQL: beside the `initdb` in PATH, or where Debian keeps them."""
    initdb = shutil.which("initdb")
    folders = [Path(initdb).resolve().parent] if initdb else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    raise LookupError(f"PostgreSQL's {name} is not installed: see tests/tools/need_postgres.sh")


@pytest.fixture
def pump() -> Pump:
    return Pump()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The test process's PostgreSQL server."""
    # Not below pytest's own directory: that is closed to other users, and too deep for a socket's path.
    directory = Path(tempfile.mkdtemp(prefix="guildhall-pg-"))
    server = PostgresServer(directory)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of an SQLite database that is not there yet."""
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The URL of an empty database on PostgreSQL."""
    url = postgres.new_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture(scope="session")
def sqlite_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database with the schema in it."""
    model = tmp_path_factory.mktemp("model") / "model.db"
    make_schema(f"sqlite:///{model}")
    return model


@pytest.fixture
def made_sqlite_url(sqlite_model: Path, sqlite_url: str) -> str:
    shutil.copyfile(sqlite_model, sqlite_url.removeprefix("sqlite:///"))
    return sqlite_url


@pytest.fixture
def made_postgres_url(postgres: PostgresServer) -> Iterator[str]:
    url = postgres.made_database()
    yield url
    postgres.rest_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a database with nothing in it but the schema: a test with it runs twice."""
    url: str = request.getfixturevalue("made_sqlite_url" if request.param == "sqlite" else "made_postgres_url")
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a database with nothing in it at all."""
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return url


@pytest.fixture
def database(database_url: str, pump: Pump) -> Iterator[Database]:
    """An open database on a `Pump`."""
    opened = open_database(database_url, pump, server_name=SERVER_NAME)
    yield opened
    pump.wait(opened.close())
