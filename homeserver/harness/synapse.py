"""A Synapse as a process, on SQLite, set up so that only the federation's own rules are in its way.

It runs with a Python of its own, into whose environment `matrix-synapse` is installed; nothing of it is imported here.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from attrs import define, field

from federation.room.signing import SigningKey, write_signing_key
from homeserver.harness.server import Server, free_port, plain_environ

_NO_LIMIT = {"per_second": 1_000_000, "burst_count": 1_000_000}
_LIMITS = (
    "message", "registration", "registration_token_validity", "admin_redaction", "joins_per_room", "key_requests",
    "3pid_validation", "third_party_invite", "media_create", "delayed_event_mgmt", "room_creation", "reports",
    "user_directory", "profile",
)  # fmt: skip
_ERROR = re.compile(r"^\S+ \S+ \S+ (ERROR|CRITICAL) ")
_DROPPED = re.compile(r" WARNING Error handling PDU (\S+): .* isn't divulging details about prev_events")


@define(eq=False)
class Synapse(Server):
    """A Synapse of the version that `python` has."""

    make: ClassVar[str] = "synapse"
    python: Path = field(kw_only=True)

    @property
    def command(self) -> Sequence[str]:
        settings = str(self.directory / "homeserver.json")
        return [str(self.python), "-m", "synapse.app.homeserver", "-c", settings]

    def errors(self) -> list[str]:
        return [line for line in self.log_path.read_text("utf-8", "replace").splitlines() if _ERROR.match(line)]

    def dropped(self) -> set[str]:
        """Ids of events that it answered with 200 and dropped since, as it had not what they follow from.

        It asks for that once, only the server that sent the event, and not at all while it leaves that server alone
        after a failure; then the event is gone until something cites it. (synapse/handlers/federation_event.py:
        on_receive_pdu, _get_missing_events_for_pdu; synapse/federation/federation_server.py:
        _process_incoming_pdus_in_room_inner.)
        """
        return set(_DROPPED.findall(self.log_path.read_text("utf-8", "replace")))


def make_synapse(
    directory: Path, *, python: Path, name: str, ca_path: Path, settings: Mapping[str, Any] | None = None
) -> Synapse:
    """Write a Synapse's settings and key; it is not started yet.

    `settings` are those of its own file, over the ones here.
    """
    directory.mkdir(parents=True)
    port = free_port()
    secret = secrets.token_hex(8)
    (directory / "signing.key").write_text(write_signing_key(SigningKey.generate("synapse")))
    log = {
        "version": 1,
        "formatters": {"plain": {"format": "%(asctime)s %(name)s %(levelname)s %(message)s"}},
        "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "plain"}},
        "root": {"level": "INFO", "handlers": ["out"]},
        "disable_existing_loggers": False,
    }
    (directory / "log.json").write_text(json.dumps(log))
    everything = _settings(directory, port, name, ca_path, secret) | dict(settings or {})
    # YAML is a superset of JSON.
    (directory / "homeserver.json").write_text(json.dumps(everything, indent=1))
    return Synapse(directory, port, name, plain_environ(), secret, python=python)


def _settings(directory: Path, port: int, name: str, ca_path: Path, secret: str) -> dict[str, Any]:
    resources = [{"names": ["client", "federation"], "compress": False}]
    listener = {"port": port, "bind_addresses": ["127.0.0.1"], "type": "http", "tls": False, "resources": resources}
    per = {"local": _NO_LIMIT, "remote": _NO_LIMIT}
    limits: dict[str, Any] = {f"rc_{each}": _NO_LIMIT for each in _LIMITS}
    limits |= {
        "rc_login": {"address": _NO_LIMIT, "account": _NO_LIMIT, "failed_attempts": _NO_LIMIT},
        "rc_joins": per,
        "rc_invites": {"per_room": _NO_LIMIT, "per_user": _NO_LIMIT, "per_issuer": _NO_LIMIT},
        "rc_presence": {"per_user": _NO_LIMIT},
        "rc_federation": {"sleep_limit": 1_000_000, "reject_limit": 1_000_000, "concurrent": 100},
    }
    return {
        "server_name": name,
        "pid_file": str(directory / "synapse.pid"),
        "listeners": [listener],
        "database": {"name": "sqlite3", "args": {"database": str(directory / "homeserver.db")}},
        "log_config": str(directory / "log.json"),
        "media_store_path": str(directory / "media"),
        "signing_key_path": str(directory / "signing.key"),
        "registration_shared_secret": secret,
        "macaroon_secret_key": secrets.token_hex(8),
        "form_secret": secrets.token_hex(8),
        "report_stats": False,
        "enable_registration": True,
        "enable_registration_without_verification": True,
        "bcrypt_rounds": 4,
        # Whom it trusts, and where others may live.
        "federation_custom_ca_list": [str(ca_path)],
        "ip_range_blacklist": [],
        "trusted_key_servers": [],
        "suppress_key_server_warning": True,
        "allow_public_rooms_over_federation": True,
        "allow_public_rooms_without_auth": True,
        "room_list_publication_rules": [{"action": "allow"}],
        # In ms. A line that was down is soon tried again, and nobody waits minutes for a peer.
        "federation": {
            "client_timeout": 20_000,
            "max_short_retries": 1,
            "max_long_retries": 1,
            "max_short_retry_delay": 200,
            "max_long_retry_delay": 500,
            "destination_min_retry_interval": 500,
            "destination_retry_multiplier": 1.5,
            "destination_max_retry_interval": 2_000,
        },
        "federation_rr_transactions_per_room_per_second": 1000,
        "caches": {"sync_response_cache_duration": "0s"},
        **limits,
    }
