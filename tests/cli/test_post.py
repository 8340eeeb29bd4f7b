"""What `check` says of the mail server: on a real one."""

from __future__ import annotations

from pathlib import Path

from config import Settings, make_settings
from homeserver.cli.findings import Level
from homeserver.cli.reach.post import check_post
from homeserver.harness.server import free_port
from tests.push.mail_server import running_mail_server


def _settings(told: dict[str, str], **more: str) -> Settings:
    values: dict[str, dict[str, object]] = {"server": {"name": "guild.example"}}
    for name, value in {**told, **more}.items():
        section, _, key = name.partition("__")
        values.setdefault(section, {})[key] = int(value) if value.isdigit() else value
    return make_settings(values)


def test_what_is_said_of_a_mail_server(tmp_path: Path) -> None:
    with running_mail_server(tmp_path / "post") as server:
        told = server.settings()
        (finding,) = check_post(_settings(told))
        assert finding.level is Level.GOOD and "noreply@example.org" in finding.text
        assert server.mail() == []
        wrong = {
            "does not know the account guildhall": {"email__password": "guessed"},
            "cannot be used": {"email__smtp_port": str(free_port())},
            "cannot be used: ": {"email__security": "tls"},
            "is not trusted": {"email__ca_path": "/etc/ssl/certs/ca-certificates.crt"},
        }
        for text, change in wrong.items():
            (finding,) = check_post(_settings(told, **change))
            assert finding.level is Level.BAD and text in finding.text, (change, finding)


def test_nothing_is_said_where_no_mail_is_sent() -> None:
    assert check_post(_settings({})) == []
    (finding,) = check_post(_settings({"email__smtp_host": "localhost"}))
    assert finding.level is Level.WARNING
