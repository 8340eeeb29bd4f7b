"""The verbs that meet a running server, and how a server starts and ends; with real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.fixtures_server import ROOT, Answer, ServerProcess, StartServer, free_port, make_server

LOGIN = "/_matrix/client/v3/login"


def _verb(server: ServerProcess, *arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    """Call a verb for a server; `-c` and the address are filled in."""
    verb, *more = arguments
    return subprocess.run(
        [sys.executable, "-m", "homeserver", verb, "-c", str(server.settings_path), *more],
        cwd=ROOT,
        env={**server.environ, "GUILDHALL_LISTENERS": json.dumps([{"port": server.port}])},
        input=answer,
        capture_output=True,
        text=True,
        timeout=60,
    )


def _log_in(server: ServerProcess, name: str, password: str) -> Answer:
    who = {"type": "m.id.user", "user": name}
    return server.request("POST", LOGIN, {"type": "m.login.password", "identifier": who, "password": password})


def test_register_user_with_a_running_server(start_server: StartServer) -> None:
    server = start_server(registration__enabled="false")
    made = _verb(server, "register-user", "-u", "alice", "-p", "correct horse")
    assert (made.returncode, made.stdout) == (0, "Made the account @alice:localhost.\n"), made.stderr
    assert _log_in(server, "alice", "correct horse").status == 200
    again = _verb(server, "register-user", "-u", "alice", "-p", "correct horse")
    assert again.returncode == 1
    assert "M_USER_IN_USE" in again.stderr


def test_register_user_without_a_running_server(database_url: str, start_server: StartServer) -> None:
    server = start_server(database=database_url)
    server.stop()
    made = _verb(server, "register-user", "-u", "@bob:localhost", "--admin", answer="correct horse\ncorrect horse\n")
    assert made.returncode == 0, made.stderr
    again = _verb(server, "register-user", "-u", "bob", "-p", "correct horse")
    assert (again.returncode, "Traceback" in again.stderr) == (1, False)
    server.start()
    assert _log_in(server, "bob", "correct horse").status == 200


def test_check_with_a_running_server(start_server: StartServer) -> None:
    server = start_server()
    checked = _verb(server, "check", "--offline")
    assert checked.returncode == 0, checked.stdout
    assert "a homeserver answers there already" in checked.stdout
    assert "SQLite; schema" in checked.stdout


def test_reset_asks_first(database_url: str, start_server: StartServer) -> None:
    server = start_server(database=database_url)
    server.register("alice")
    assert "nothing was removed" in _verb(server, "reset", "--yes").stderr, "a running server keeps its database"
    server.stop()
    assert _verb(server, "reset", answer="yes\n").returncode == 1
    server.start()
    assert _log_in(server, "alice", "correct horse").status == 200
    server.stop()
    assert _verb(server, "reset", answer="localhost\n").returncode == 0
    assert _verb(server, "reset", "--yes").returncode == 0, "there is nothing to remove, which is fine"
    server.start()
    assert _log_in(server, "alice", "correct horse").status == 403
    server.register("alice")


def test_reindex(database_url: str, start_server: StartServer) -> None:
    server = start_server(database=database_url)
    alice = server.register("alice")
    alice.say(alice.create_room(), "rocket science")
    assert "nothing was changed" in _verb(server, "reindex").stderr
    server.stop()
    done = _verb(server, "reindex")
    assert (done.returncode, done.stdout) == (0, "1 texts can be searched now.\n"), done.stderr
    server.start()
    body = {"search_categories": {"room_events": {"search_term": "rocket"}}}
    found = alice.call("POST", "/_matrix/client/v3/search", body)["search_categories"]["room_events"]
    assert found["count"] == 1


def test_demo_fills_a_server(start_server: StartServer) -> None:
    server = start_server()
    demo = _verb(server, "demo")
    assert demo.returncode == 0, demo.stderr
    name = demo.stdout.split(" for ")[1].split(",")[0]
    password = demo.stdout.split("password is ")[1].split(";")[0]
    token = _log_in(server, name, password).json["access_token"]
    joined = server.call("GET", "/_matrix/client/v3/sync", token=token)["rooms"]["join"]
    said = [event for room in joined.values() for event in room["timeline"]["events"]]
    assert sum(event["type"] == "m.room.message" for event in said) > 10


def test_demo_without_a_server(tmp_path: Path) -> None:
    server = make_server(tmp_path, database=None, name="localhost", profile="test", settings={})
    demo = _verb(server, "demo")
    assert demo.returncode == 1
    assert "start it with `run` first" in demo.stderr


def test_shell_into_a_running_server(start_server: StartServer) -> None:
    server = start_server()
    assert _verb(server, "shell", "-e", "app.settings.server.name").stdout == "'localhost'\n"
    talk = _verb(server, "shell", answer="for x in range(2):\n    print(x)\n\nx + 40\n")
    assert talk.stdout.replace(">>> ", "").replace("... ", "").split()[-3:] == ["0", "1", "41"]
    server.stop()
    assert "no running server answers" in _verb(server, "shell", "-e", "1").stderr


def test_sigterm_lets_answers_finish(start_server: StartServer) -> None:
    """A long poll that waits is answered when the server stops, not cut off."""
    server = start_server()
    alice = server.register("alice")
    since = alice.sync()["next_batch"]
    answers: list[Answer] = []
    poll = threading.Thread(
        target=lambda: answers.append(
            alice.request("GET", "/_matrix/client/v3/sync", query={"since": since, "timeout": 30_000})
        )
    )
    poll.start()
    time.sleep(1)
    started = time.monotonic()
    server.stop()
    poll.join(10)
    assert [answer.status for answer in answers] == [200]
    assert time.monotonic() - started < 10


def test_sigint_ends_it_too(start_server: StartServer) -> None:
    server = start_server()
    assert server.kill(signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"database__url": "postgresql://nobody@127.0.0.1:1/x"}, "refused"),
        ({"database__url": "sqlite:////nowhere/at/all.db"}, "nowhere"),
        ({"server__signing_key_path": "missing.key"}, "missing.key"),
        ({"server__signing_key_path": "homeserver.yaml"}, "homeserver.yaml: line 1: expected 'ed25519 VERSION SEED'"),
        ({"server__signing_key_path": "/dev/null"}, "/dev/null holds no key"),
    ],
)
def test_a_server_that_cannot_start_says_why(tmp_path: Path, settings: dict[str, str], why: str) -> None:
    server = make_server(tmp_path, database=None, name="localhost", profile="test", settings=settings)
    started = _verb(server, "run")
    assert started.returncode == 1
    assert "Traceback" not in started.stderr
    record = json.loads(started.stderr.splitlines()[-1])
    assert record["event"] == "cannot start"
    assert why in record["why"]


def test_a_port_that_is_taken(start_server: StartServer, tmp_path: Path) -> None:
    first = start_server()
    second = make_server(tmp_path, database=None, name="localhost", profile="test", settings={})
    second.port = first.port
    started = _verb(second, "run")
    assert started.returncode == 1
    assert "in use" in started.stderr


def test_a_second_server_on_the_same_data(start_server: StartServer) -> None:
    first = start_server()
    started = _verb(first, "run", "--listen", f"127.0.0.1:{free_port()}")
    assert started.returncode == 1
    assert "in use by another" in started.stderr
