"""The samples in `deploy/` and the commands in `docs/`: every path, port, verb, option and setting in them exists.

What would run them (Docker, nginx, Caddy, systemd) is not on every machine that runs these tests; whether they fit this
server can be known everywhere.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import click
import pytest
import yaml

from config import Listener, Settings, load_settings, make_settings
from homeserver.app import GRACE_SECONDS
from homeserver.cli import VERBS
from homeserver.client.all import ALL_ROUTES
from homeserver.http.route import routes_of

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCUMENTS = [
    ROOT / "README.md",
    *(ROOT / f"docs/{name}.md" for name in ("backup", "deployment", "keys", "reverse-proxy")),
]
UPSTREAM = f"{Listener().host}:{Listener().port}"
SETTINGS_FILE = "/var/lib/guildhall/data/homeserver.yaml"
PATHS = {route.path for module in ALL_ROUTES for route in routes_of(module)}


def _read(name: str) -> str:
    return (DEPLOY / name).read_text("utf-8")


def _check_command(words: list[str]) -> None:
    """A call of `guildhall`, from the verb on."""
    verb, *arguments = words
    assert verb in VERBS, verb
    command = import_module(f"homeserver.cli.{VERBS[verb]}").command
    assert isinstance(command, click.Command)
    # Says what is wrong with options and arguments, and runs nothing.
    command.make_context(verb, arguments)


# Dockerfile


def _instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", _read("Dockerfile"), flags=re.MULTILINE)
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def _values(instruction: str) -> list[str]:
    return [rest for word, rest in _instructions() if word == instruction]


def test_the_image_is_small_and_not_roots() -> None:
    known = {
        "ARG",
        "FROM",
        "WORKDIR",
        "RUN",
        "COPY",
        "ENV",
        "USER",
        "VOLUME",
        "EXPOSE",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    }
    assert {word for word, _ in _instructions()} <= known
    assert _values("FROM") == ["${PYTHON} AS build", "${PYTHON}"], "what builds it does not stay in it"
    assert _values("ARG")[0] == "PYTHON=python:3.11-slim"
    order = [word for word, _ in _instructions()]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", _values("USER")[0])
    assert "RUN" not in order[order.index("USER") :]


def test_the_image_gets_what_is_there() -> None:
    sources = [words[:-1] for words in (shlex.split(rest) for rest in _values("COPY")) if words[0] != "--from=build"]
    copied = {source for words in sources for source in words}
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied, "the build's context is what it copies"
    assert all((ROOT / source).exists() for source in copied)
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    packages = {pattern.rstrip("*") for pattern in setup["options.packages.find"]["include"].split()}
    described = {setup["metadata"]["license_files"], setup["metadata"]["long_description"].removeprefix("file: ")}
    assert packages | described | {"setup.cfg", "pyproject.toml", "requirements/runtime.txt"} == copied


def test_the_image_starts_a_server_and_sees_its_health() -> None:
    entrypoint, command = (yaml.safe_load(_values(word)[0]) for word in ("ENTRYPOINT", "CMD"))
    assert entrypoint == ["guildhall"]
    assert "guildhall = homeserver.cli:main" in (ROOT / "setup.cfg").read_text()
    _check_command(command)
    (data,), (port,) = _values("VOLUME"), _values("EXPOSE")
    assert command[command.index("-c") + 1] == f"{data}/homeserver.yaml"
    assert command[command.index("--listen") + 1] == f"0.0.0.0:{port}"
    (check,) = _values("HEALTHCHECK")
    url = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", check)
    assert url is not None
    assert (url[1], url[2] in PATHS) == (port, True)
    assert f"--mode=0700 {data}" in " ".join(_values("RUN"))


# compose.yaml and Caddyfile

ENVIRON = {"SERVER_NAME": "example.org", "POSTGRES_PASSWORD": "secret", "TURN_SECRET": "secret"}


def _compose() -> dict[str, Any]:
    text = re.sub(r"\$\{(\w+)(?::\?|-)\}", lambda found: ENVIRON[found[1]], _read("compose.yaml"))
    assert "$" not in text
    composed = yaml.safe_load(text)
    assert isinstance(composed, dict)
    return composed


def test_the_composed_server_has_settings_that_exist(tmp_path: Path) -> None:
    composed = _compose()
    service = composed["services"]["guildhall"]
    (tmp_path / "homeserver.yaml").write_text("server: {name: example.org}\n")
    environ = {name: text for name, text in service["environment"].items() if name.startswith("GUILDHALL_")}
    assert set(service["environment"]) == {*environ, "PGPASSWORD"}
    settings = load_settings(tmp_path / "homeserver.yaml", environ)
    (listener,) = settings.listeners
    (network,) = composed["networks"]["inside"]["ipam"]["config"]
    assert listener.trusted_proxies == (network["subnet"],), "the proxy is believed, and nobody else"
    assert (listener.forwarded, listener.port) == (True, Listener().port)
    assert settings.server.public_baseurl == "https://matrix.example.org"
    database = composed["services"]["database"]
    user, name = database["environment"]["POSTGRES_USER"], database["environment"]["POSTGRES_DB"]
    assert settings.database.url == f"postgresql://{user}@database/{name}"
    assert f"--username={user}" in database["healthcheck"]["test"]
    assert "--encoding=UTF8" in database["environment"]["POSTGRES_INITDB_ARGS"]


def test_the_composed_services_fit_together() -> None:
    composed = _compose()
    services = composed["services"]
    build = services["guildhall"]["build"]
    context = (DEPLOY / build["context"]).resolve()
    assert context == ROOT
    assert context / build["dockerfile"] == DEPLOY / "Dockerfile"
    assert set(build["args"]) <= {value.partition("=")[0] for value in _values("ARG")}
    assert services["guildhall"]["volumes"] == [f"data:{_values('VOLUME')[0]}"]
    for name, service in services.items():
        assert set(service.get("depends_on", ())) <= set(services), name
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in composed["volumes"] or (DEPLOY / source).is_file(), volume
    assert services["coturn"]["profiles"] == ["calls"]
    assert "healthcheck" in services["database"], "guildhall waits for it to be healthy"


def test_caddy_hands_on_to_the_server() -> None:
    text = _read("Caddyfile")
    variables = dict(re.findall(r"\{\$(\w+):([^}]*)\}", text))
    assert variables == {"SERVER_NAME": "example.org", "GUILDHALL_UPSTREAM": UPSTREAM}
    environment = _compose()["services"]["proxy"]["environment"]
    assert set(environment) == set(variables)
    assert environment["GUILDHALL_UPSTREAM"] == f"guildhall:{Listener().port}", "a service of that name"
    assert re.search(r"handle /\.well-known/matrix/\* \{\s+reverse_proxy \{\$GUILDHALL_UPSTREAM", text)
    assert text.count("{") == text.count("}")
    assert not re.search(r"^ +\S", text, re.MULTILINE), "caddy fmt wants tabs"


# nginx


def test_nginx_hands_on_to_the_server() -> None:
    text = re.sub(r"#.*", "", _read("nginx.conf"))
    assert re.search(rf"upstream guildhall \{{\s+server {re.escape(UPSTREAM)};", text)
    locations = dict(re.findall(r"location (\S+) \{(.*?)\}", text, re.DOTALL))
    assert set(locations) == {"/.well-known/matrix/", "/"}
    for directives in locations.values():
        assert "proxy_pass http://guildhall;" in directives, "no path behind it, or it would be decoded"
        assert "proxy_set_header X-Forwarded-For $remote_addr;" in directives
    patience = re.search(r"proxy_read_timeout (\d+)m;", locations["/"])
    assert patience is not None
    assert int(patience[1]) * 60_000 > make_settings({"server": {"name": "a"}}).limits.max_sync_timeout_ms
    assert {path for path in PATHS if path.startswith("/.well-known/")} == {
        path for path in PATHS if path.startswith("/.well-known/matrix/")
    }
    assert text.count("{") == text.count("}")


# systemd


def _unit() -> dict[str, list[str]]:
    """The settings of the unit's sections together; a name may come more than once."""
    found: dict[str, list[str]] = {}
    for line in _read("guildhall.service").splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_the_unit_runs_what_the_readme_installs() -> None:
    unit, readme = _unit(), (ROOT / "README.md").read_text()
    (start,), (user,) = unit["ExecStart"], unit["User"]
    program, *words = shlex.split(start)
    _check_command(words)
    assert f"sudo -u {user} {start}\n" in readme
    assert f"{program.removesuffix('/bin/guildhall')}" in readme
    assert f"useradd --system --create-home --home-dir /var/lib/{unit['StateDirectory'][0]} {user}" in readme
    assert words[words.index("-c") + 1] == SETTINGS_FILE
    assert SETTINGS_FILE.startswith(f"/var/lib/{unit['StateDirectory'][0]}/"), "all else is read-only"
    assert int(unit["TimeoutStopSec"][0]) > GRACE_SECONDS


def test_the_unit_is_hardened() -> None:
    unit = _unit()
    wanted = {"NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "CapabilityBoundingSet": ""}
    assert {name: unit[name] for name in wanted} == {name: [value] for name, value in wanted.items()}
    assert unit["SystemCallFilter"] == ["@system-service", "~@privileged"]
    assert "MemoryDenyWriteExecute" not in unit, "TLS by pyOpenSSL would fail under it, at the first connection"
    assert {"AF_INET", "AF_INET6", "AF_UNIX"} <= set(unit["RestrictAddressFamilies"][0].split()), (
        "for the shell's socket"
    )


# What is told


def _commands(text: str) -> Iterator[list[str]]:
    """Every call of `guildhall` in an indented block or a comment, without what a shell does with it."""
    for line in text.replace("\\\n", " ").splitlines():
        found = re.match(r"(?: {4,}|# {3,})(.*\bguildhall +(?:[a-z-]+ .*))$", line)
        if found is None:
            continue
        before, _, words = found[1].rpartition("guildhall ")
        is_call = before.endswith("/bin/") or not before.strip() or "docker " in before or "-u guildhall" in before
        verb = words.split()[0]
        if is_call and (verb in VERBS or before.endswith("/bin/")):
            yield shlex.split(words)


@pytest.mark.parametrize("file", [*DOCUMENTS, *sorted(DEPLOY.iterdir())], ids=lambda file: str(file.relative_to(ROOT)))
def test_commands_exist(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in _commands(file.read_text("utf-8")):
        # `restore` looks at once whether its folder is there.
        words = [str(tmp_path) if word.startswith("/var/lib/guildhall/backups/") else word for word in words]
        _check_command(words)


def test_commands_are_found() -> None:
    found = {words[0] for file in DOCUMENTS for words in _commands(file.read_text("utf-8"))}
    assert {"init", "run", "check", "register-user", "backup", "restore", "rotate-key"} <= found


def _setting_names() -> set[str]:
    return {
        f"{section.name}.{field.name}"
        for section in attrs.fields(Settings)
        if attrs.has(type(getattr(SAMPLE, section.name)))
        for field in attrs.fields(type(getattr(SAMPLE, section.name)))
    }


SAMPLE = make_settings({"server": {"name": "example.org"}})


@pytest.mark.parametrize("document", DOCUMENTS[1:], ids=lambda file: file.name)
def test_settings_exist(document: Path) -> None:
    text = document.read_text("utf-8")
    sections = {field.name for field in attrs.fields(Settings)}
    named = {name for name in re.findall(r"`([a-z_]+\.[a-z_]+)`", text) if name.partition(".")[0] in sections}
    files = {"database.sqlite", "database.pgdump"}
    assert named - files <= _setting_names()
    for block in re.findall(r"^ +(?:server|listeners):(?:.*\n)(?: {5,}.*\n)*", text, re.MULTILINE):
        first = re.match(r" +", block)
        assert first is not None
        values = yaml.safe_load(re.sub(rf"^ {{{len(first[0])}}}", "", block, flags=re.MULTILINE))
        make_settings({"server": {"name": "example.org"}} | {k: v for k, v in values.items() if k != "server"})
        make_settings({"server": {"name": "example.org"} | values.get("server", {})})


def test_every_sample_is_told_of() -> None:
    told = "".join(file.read_text("utf-8") for file in DOCUMENTS)
    for sample in DEPLOY.iterdir():
        assert f"`deploy/{sample.name}`" in told, sample.name
    for document in DOCUMENTS[1:]:
        assert f"`docs/{document.name}`" in DOCUMENTS[0].read_text("utf-8")
