"""The verbs that need no running server: `config`, `check`, `run --listen`, and what all have in common."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from config import Tls, make_settings
from homeserver.cli import VERBS, main
from homeserver.cli.certificates import check_certificate, check_names
from homeserver.cli.checks import check_profile
from homeserver.cli.findings import Level
from homeserver.cli.init import write_new_server
from homeserver.cli.run import listen_at
from homeserver.cli.shell import is_complete
from tests.fixtures_tls import DAY, Authority

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    arguments = ["init", "--server-name", "a.example", "--data-dir", str(tmp_path), "--profile", "dev"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    return tmp_path / "homeserver.yaml"


def _call(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environ)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str) -> None:
    result = _call(verb, "--help")
    assert result.exit_code == 0
    assert result.output.startswith("Usage: main")


def test_the_list_of_verbs() -> None:
    result = _call("--help")
    assert all(verb in result.output for verb in VERBS)


def test_it_is_a_module_too() -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "homeserver", "--version"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.stdout.startswith("guildhall, version ")


def test_config_masks_secrets_and_shows_what_is_in_force(settings_file: Path) -> None:
    secret = yaml.safe_load(settings_file.read_text())["registration"]["shared_secret"]
    result = _call("config", "-c", str(settings_file), GUILDHALL_PRESENCE__ENABLED="false")
    assert result.exit_code == 0
    assert secret not in result.output
    shown = yaml.safe_load(result.output)
    assert shown["registration"]["shared_secret"] == "********"
    assert shown["presence"]["enabled"] is False
    assert shown["server"]["data_dir"] == str(settings_file.parent)


def test_a_mistake_in_the_settings_is_told_without_a_traceback(settings_file: Path) -> None:
    settings_file.write_text("server:\n  nam: x\n")
    arguments = {"register-user": ["-u", "alice"], "backup": ["x"]}
    groups = {"media": "sweep"}
    for verb in set(VERBS) - {"init", "restore", "harness"}:
        below = [groups[verb]] if verb in groups else []
        result = _call(verb, *below, "-c", str(settings_file), *arguments.get(verb, []))
        assert result.exit_code == 1, verb
        assert "Error: server.nam: there is no such setting; did you mean name?" in result.output


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("0.0.0.0:80", "0.0.0.0", 80), ("[::1]:8448", "::1", 8448), ("localhost:0", "localhost", 0)],
)
def test_listen(address: str, host: str, port: int) -> None:
    settings = make_settings({"server": {"name": "a"}, "listeners": [{"forwarded": True}, {"port": 1}]})
    (listener,) = listen_at(settings, address).listeners
    assert (listener.host, listener.port, listener.forwarded) == (host, port, True)


@pytest.mark.parametrize("address", ["8008", ":8008", "localhost:", "localhost:http", "localhost:99999", "localhost:٣"])
def test_listen_somewhere_impossible(address: str) -> None:
    with pytest.raises(click.BadParameter, match="is not HOST:PORT"):
        listen_at(make_settings({"server": {"name": "a"}}), address)


def test_check_of_a_new_server_is_content(settings_file: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    result = _call("check", "-c", str(settings_file), GUILDHALL_LISTENERS=f"[{{port: {port}}}]")
    assert result.exit_code == 0, result.output
    assert "✗" not in result.output


def test_check_finds_what_is_broken(settings_file: Path) -> None:
    (settings_file.parent / "signing.key").write_text("ed25519 a_1 !!!\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        result = _call(
            "check",
            "-c",
            str(settings_file),
            GUILDHALL_LISTENERS=f"[{{port: {port}}}]",
            GUILDHALL_DATABASE__URL="postgresql://nobody@127.0.0.1:1/x",
        )
    assert result.exit_code == 1
    lines = {line[2:].split("  ")[0]: line for line in result.output.splitlines() if "✗" in line}
    assert set(lines) == {"signing key", "database", f"port {port}"}, result.output
    assert "the seed is not Base64" in lines["signing key"]
    assert "cannot listen on 127.0.0.1: Address already in use" in lines[f"port {port}"]


def test_check_notices_a_secret_that_others_can_read(settings_file: Path) -> None:
    settings_file.chmod(0o644)
    assert "can be read by others on this machine" in _call("check", "-c", str(settings_file)).output


def test_check_of_a_profile_that_is_too_open() -> None:
    values = {"server": {"name": "a"}, "profile": "dev", "listeners": [{"host": "::"}]}
    (finding,) = check_profile(make_settings(values))
    assert finding.level is Level.WARNING
    assert "others can reach" in finding.text


@pytest.mark.parametrize(
    ("since", "until", "level", "words"),
    [
        (1, 90, Level.GOOD, "good for 89 days"),
        (1, 5, Level.WARNING, "expires in 4 days"),
        (9, -1, Level.BAD, "has expired"),
        (-1, 90, Level.BAD, "is not valid yet"),
    ],
)
def test_check_of_certificates(authority: Authority, since: int, until: int, level: Level, words: str) -> None:
    tls = authority.issue("a.example", since=since * DAY, until=until * DAY)
    (finding,) = check_certificate(tls)
    assert (finding.level, words in finding.text) == (level, True), finding


def test_check_of_a_certificate_with_the_wrong_key(authority: Authority) -> None:
    one, other = authority.issue("a.example"), authority.issue("a.example")
    mixed = Tls(certificate_path=one.certificate_path, key_path=other.key_path)
    (finding,) = check_certificate(mixed)
    assert finding.level is Level.BAD


@pytest.mark.parametrize(
    ("names", "server", "fits"),
    [
        (["a.example"], "a.example", True),
        (["matrix.a.example"], "a.example", True),  # the name in public_baseurl
        (["*.a.example"], "a.example:8448", True),
        (["b.example"], "a.example", False),
        (["192.0.2.1"], "192.0.2.1", True),
        (["192.0.2.2"], "192.0.2.1:1", False),
    ],
)
def test_check_of_the_names_in_a_certificate(authority: Authority, names: list[str], server: str, fits: bool) -> None:
    settings = make_settings({"server": {"name": server, "public_baseurl": "https://matrix.a.example"}})
    assert (list(check_names(settings, authority.issue(*names))) == []) is fits


@pytest.mark.parametrize(
    ("source", "complete"),
    [
        ("1 + 1", True),
        ("for x in y:", False),
        ("await app.x()", True),
        ("(1,", False),
        ("1 +", True),
        ("x = '''", False),
    ],
)
def test_the_shell_knows_when_a_command_is_complete(source: str, complete: bool) -> None:
    assert is_complete(source) is complete


PLAIN_START = """
import linecache, os, sys
from pathlib import Path
from homeserver.cli.run import absent, forget_made_up_sources, load
forget_made_up_sources()
with absent("OpenSSL"):
    import homeserver.observe.log, homeserver.reactor
    homeserver.reactor.install_reactor()
    from homeserver.app import build
from twisted.internet import reactor
build(load(Path(sys.argv[1])), reactor)
print(*sys.modules, *linecache.cache, sep="\\n", flush=True)
os._exit(0)
"""
LATE = {
    "OpenSSL", "PIL", "aiortc", "autobahn", "av", "boto3", "cryptography", "difflib", "h2", "jinja2", "lxml", "numpy",
    "pocketsphinx", "prometheus_client", "psycopg2", "py_vapid", "pygments", "rich",
}  # fmt: skip
"""Imported when they are first needed, or by verbs that talk to people."""


def test_a_plain_start_imports_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    """Start-up time and memory at rest are measured beside other servers."""
    settings, *_ = write_new_server(tmp_path, {"server": {"name": "localhost"}})
    run = [sys.executable, "-c", PLAIN_START, str(settings)]
    result = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True)
    names = set(result.stdout.splitlines())
    assert "homeserver.app" in names
    assert LATE & names == set()
    assert not [name for name in names if name.startswith("<attrs")]
