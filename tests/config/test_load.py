"""Reading settings: layers, types, and messages that name field and place."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import frozen

from config import RateLimit, Settings, SettingsError, load_settings, make_settings
from config.parse import parse_object
from config.source import read_yaml

BASE = "server:\n  name: example.org\n"


def _load(tmp_path: Path, text: str, **environ: str) -> Settings:
    file = tmp_path / "homeserver.yaml"
    file.write_text(text)
    return load_settings(file, environ)


def test_the_server_name_alone_is_enough(tmp_path: Path) -> None:
    settings = _load(tmp_path, BASE)
    assert settings.server.name == "example.org"
    assert settings.profile == "production"
    assert settings.rate_limits.enabled
    assert not settings.registration.enabled


def test_paths_are_absolute(tmp_path: Path) -> None:
    text = BASE + "  data_dir: data\n  signing_key_path: keys/a.key\nfederation:\n  ca_path: /etc/ca.pem\n"
    settings = _load(tmp_path, text)
    assert settings.server.data_dir == tmp_path / "data"
    assert settings.server.signing_key_path == tmp_path / "data/keys/a.key"
    assert settings.federation.ca_path == Path("/etc/ca.pem")
    assert settings.database.sqlite_path == tmp_path / "data/homeserver.db"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///rooms.db", "DATA/rooms.db"),
        ("sqlite:////var/lib/rooms.db", "/var/lib/rooms.db"),
        ("postgresql://u:p@h:5433/n", None),
        ("postgresql:///n?host=/var/run/postgresql", None),
        ("postgres://h/n", None),
    ],
)
def test_database_urls(tmp_path: Path, url: str, path: str | None) -> None:
    settings = _load(tmp_path, f"{BASE}database:\n  url: {url}\n")
    expected = Path(path.replace("DATA", str(tmp_path))) if path is not None else None
    assert settings.database.sqlite_path == expected


def test_the_environment_wins_over_the_file_and_the_file_over_the_profile(tmp_path: Path) -> None:
    text = BASE + "profile: test\nrate_limits:\n  enabled: true\n  message: {burst: 7}\n"
    settings = _load(tmp_path, text, GUILDHALL_RATE_LIMITS__MESSAGE__PER_SECOND="0.5")
    assert settings.rate_limits.enabled
    assert settings.rate_limits.message == RateLimit(0.5, 7)
    assert settings.registration.enabled


def test_everything_can_come_from_the_environment() -> None:
    environ = {
        "GUILDHALL_SERVER__NAME": "example.org",
        "GUILDHALL_SERVER__DATA_DIR": "/srv/guildhall",
        "GUILDHALL_PROFILE": "dev",
        "GUILDHALL_REGISTRATION__SHARED_SECRET": "0123",
        "GUILDHALL_REGISTRATION__TOKENS": "[one, two]",
        "GUILDHALL_LISTENERS": "[{port: 80, tls: {certificate_path: c.pem, key_path: k.pem}}]",
        "GUILDHALL_SESSIONS__ACCESS_TOKEN_LIFETIME_MS": "7d",
        "GUILDHALL_ROOMS__DEFAULT_VERSION": "11",
        "PATH": "/bin",
    }
    settings = load_settings(None, environ)
    assert settings.registration.shared_secret == "0123"
    assert settings.registration.tokens == ("one", "two")
    assert settings.sessions.access_token_lifetime_ms == 7 * 24 * 3600 * 1000
    assert settings.rooms.default_version == "11"
    (listener,) = settings.listeners
    assert listener.port == 80
    assert listener.tls is not None
    assert listener.tls.key_path == Path("/srv/guildhall/k.pem")


def test_a_section_and_one_of_its_settings_join(tmp_path: Path) -> None:
    settings = load_settings(
        None, {"GUILDHALL_SERVER": "{name: a.org, description: ours}", "GUILDHALL_SERVER__NAME": "b.org"}
    )
    assert (settings.server.name, settings.server.description) == ("b.org", "ours")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("access_token_lifetime_ms", "1500", 1500),
        ("access_token_lifetime_ms", "90s", 90_000),
        ("access_token_lifetime_ms", "5 m", 300_000),
        ("access_token_lifetime_ms", "24h", 86_400_000),
        ("access_token_lifetime_ms", "~", None),
    ],
)
def test_times_have_units(tmp_path: Path, name: str, text: str, value: int | None) -> None:
    assert getattr(_load(tmp_path, f"{BASE}sessions:\n  {name}: {text}\n").sessions, name) == value


@frozen
class _Sizes:
    body_bytes: int = 0


def test_sizes_have_units() -> None:
    for text, size in [("2M", 2 * 1024 * 1024), ("3 K", 3072), ("17", 17), ("1G", 1024**3)]:
        assert parse_object(_Sizes, read_yaml(f"body_bytes: {text}", "test")).body_bytes == size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("profile: dev\n", "server.name: is missing and has no default"),
        ("servre:\n  name: x\n", "servre: there is no such setting; did you mean server? (FILE, line 1)"),
        (BASE + "  nam: x\n", "server.nam: there is no such setting; did you mean name? (FILE, line 3)"),
        (BASE + "  description: 12\n", "server.description: must be text, not 12 (put it in quotes) (FILE, line 3)"),
        (BASE + "  description: [a]\n", "server.description: must be text, not a list (FILE, line 3)"),
        ("server:\n  name: ex ample\n", "server.name: must be a host name"),
        ("server: example.org\n", "server: must be a section with settings below it (FILE, line 1)"),
        (BASE + "presence:\n  enabled: 1\n", "presence.enabled: must be true or false, not 1 (FILE, line 4)"),
        (BASE + "presence:\n  enabled:\n", "presence.enabled: must be true or false, not empty (FILE, line 4)"),
        (BASE + "database:\n  pool_size: many\n", "database.pool_size: must be a whole number, not 'many'"),
        (BASE + "database:\n  pool_size: 2.5\n", "database.pool_size: must be a whole number, not 2.5"),
        (BASE + "database:\n  pool_size: true\n", "database.pool_size: must be a whole number, not true"),
        (BASE + "database:\n  pool_size: 0\n", "database.pool_size: must be from 1 to 100, not 0 (FILE, line 4)"),
        (BASE + "database:\n  url: mysql://x\n", "database.url: must begin with sqlite:/// or postgresql://"),
        (BASE + "database:\n  url: 'sqlite:///'\n", "database.url: needs a path after sqlite:///"),
        (BASE + "limits:\n  max_sync_timeout_ms: 5 parsecs\n", "limits.max_sync_timeout_ms: must be a"),
        (BASE + "logging:\n  level: loud\n", "logging.level: must be one of debug, info, warning, error, not 'loud'"),
        (BASE + "rooms:\n  default_version: 13\n", "rooms.default_version: must be one of 1, 2,"),
        (BASE + "listeners: []\n", "listeners: must not be empty (FILE, line 3)"),
        (BASE + "listeners:\n- host: a\n- port: 70000\n", "listeners[1].port: must be from 0 to 65535"),
        (BASE + "listeners: {port: 1}\n", "listeners: must be a list (FILE, line 3)"),
        (BASE + "listeners: [{tls: {key_path: a}}]\n", "listeners[0].tls.certificate_path: is missing"),
        (BASE + "federation:\n  allowed_private_ranges: [ten]\n", "'ten' is not an IP address or range"),
        (BASE + "  public_baseurl: example.org\n", "server.public_baseurl: must be an address like https://"),
        (BASE + "rate_limits:\n  sync: {burst: 0}\n", "rate_limits.sync.burst: must be at least 1, not 0"),
        (BASE + "rate_limits:\n  sync: 5\n", "rate_limits.sync: must be a section"),
        (BASE + "profile: prod\n", "profile: must be one of production, dev, test, not 'prod' (FILE, line 3)"),
        (BASE + "passwords:\n  argon2_parallelism: 64\n  argon2_memory_kib: 64\n", "passwords.argon2_memory_kib: must"),
        (BASE + "server:\n  name: b\n", "server: stands twice (FILE, line 1 and FILE, line 3)"),
        ("a: [\n", "FILE: not YAML"),
        ("server: !!python/object:os.system {}\n", "server.name: is missing"),
        ("server:\n  name: !!python/name:os.system x\n", "FILE: not YAML: could not determine a constructor"),
        ("- a\n- b\n", "FILE: must be sections"),
        ("a: " + "[" * 5000, "FILE"),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        _load(tmp_path, text)
    assert message.replace("FILE", str(tmp_path / "homeserver.yaml")) in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "GUILDHALL_SEVRER__NAME",
            "x",
            "sevrer: there is no such setting; did you mean server? (GUILDHALL_SEVRER__NAME)",
        ),
        ("GUILDHALL_DATABASE__POOL_SIZE", "x", "must be a whole number, not 'x' (GUILDHALL_DATABASE__POOL_SIZE)"),
        ("GUILDHALL_LISTENERS", "[", "GUILDHALL_LISTENERS: not YAML"),
        ("GUILDHALL_SERVER__NAME__X", "x", "cannot both be set"),
    ],
)
def test_mistakes_in_the_environment(variable: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, {"GUILDHALL_SERVER__NAME": "example.org", variable: value})
    assert message in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read .*nowhere\.yaml: No such file"):
        load_settings(tmp_path / "nowhere.yaml", {})


def test_profile_test_opens_everything() -> None:
    settings = make_settings({"profile": "test", "server": {"name": "localhost"}})
    assert settings.registration.enabled
    assert not settings.rate_limits.enabled
    assert settings.federation.allow_loopback
    assert settings.rooms.anybody_may_publish
    assert settings.passwords.argon2_memory_kib < 100


def test_settings_are_frozen() -> None:
    settings = make_settings({"server": {"name": "localhost"}})
    with pytest.raises(AttributeError):
        settings.server.name = "other"  # type: ignore[misc]
