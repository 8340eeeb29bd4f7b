"""What makes Complement's image of this server, and the table of its results."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from config import load_settings
from homeserver.cli.certificates import is_valid_for
from tests.acceptance.complement import entrypoint, table
from tests.fixtures_tls import Authority

ROOT = Path(__file__).parents[2]


def test_the_settings_of_the_image_are_settings(tmp_path: Path) -> None:
    given = entrypoint.settings(tmp_path / "tls.crt", tmp_path / "tls.key")
    found = load_settings(None, {"GUILDHALL_SERVER__NAME": "hs1", "GUILDHALL_PROFILE": "test", **given})
    assert [(one.port, one.tls is not None) for one in found.listeners] == [(8008, False), (8448, True)]
    assert found.rooms.default_version == "11" and found.rooms.anybody_may_publish and found.registration.enabled
    assert not found.rate_limits.enabled and not found.federation.notaries
    assert found.federation.ca_path == Path("/complement/ca/ca.crt")


def test_its_certificate_is_of_complements_authority(tmp_path: Path, authority: Authority) -> None:
    folder = tmp_path / "ca"
    folder.mkdir()
    (folder / "ca.crt").write_bytes(authority.ca_path.read_bytes())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    (folder / "ca.key").write_bytes(authority._key.private_bytes(*form))
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    entrypoint.issue_certificate("hs1", folder, certificate, key)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    made = x509.load_pem_x509_certificate(certificate.read_bytes())
    made.verify_directly_issued_by(x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes()))
    assert is_valid_for(made, "hs1") and not is_valid_for(made, "hs2")


STREAM = [
    {"Action": "start", "Package": "github.com/matrix-org/complement/tests/csapi"},
    {"Action": "run", "Package": "x/tests/csapi", "Test": "TestA"},
    {"Action": "output", "Package": "x/tests/csapi", "Test": "TestA", "Output": "…"},
    {"Action": "run", "Package": "x/tests/csapi", "Test": "TestA/part"},
    {"Action": "fail", "Package": "x/tests/csapi", "Test": "TestA/part"},
    {"Action": "pass", "Package": "x/tests/csapi", "Test": "TestA"},
    {"Action": "run", "Package": "x/tests/csapi", "Test": "TestB"},
    {"Action": "fail", "Package": "x/tests/csapi", "Test": "TestB"},
    {"Action": "run", "Package": "x/tests/csapi", "Test": "TestEndless"},
]


def test_a_stream_is_read() -> None:
    lines = ["not JSON\n", "7\n", *(json.dumps(event) + "\n" for event in STREAM)]
    assert table.read_stream(lines) == {
        ("csapi", "TestA"): "pass",
        ("csapi", "TestB"): "fail",
        ("csapi", "TestEndless"): "fail",
    }


BEFORE: Mapping[table.Key, table.Row] = {
    ("tests", "TestOther"): ("pass", ""),
    ("csapi", "TestA"): ("fail", "waits for: a"),
    ("csapi", "TestB"): ("fail", "waits for: b"),
    ("csapi", "TestGone"): ("fail", "waits for: nothing"),
}


def test_what_fails_keeps_its_reason_and_what_passes_needs_none() -> None:
    after = table.renew(BEFORE, {("csapi", "TestA"): "pass", ("csapi", "TestB"): "fail"})
    assert after == {
        ("tests", "TestOther"): ("pass", ""),
        ("csapi", "TestA"): ("pass", ""),
        ("csapi", "TestB"): ("fail", "waits for: b"),
    }
    lines, is_well = table.report(BEFORE, after)
    assert is_well and "fail → pass: csapi TestA" in lines


@pytest.mark.parametrize(
    "results", [{("tests", "TestOther"): "fail"}, {("tests", "TestMore"): "pass"}, {("csapi", "TestNew"): "fail"}]
)
def test_a_step_back_is_told(results: Mapping[table.Key, str]) -> None:
    """What passed fails, or is gone; what is new fails."""
    assert not table.report(BEFORE, table.renew(BEFORE, results))[1]


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    table.write_table(tmp_path / "results.tsv", BEFORE)
    assert table.read_table(tmp_path / "results.tsv") == BEFORE
    assert table.read_table(tmp_path / "none.tsv") == {}


def test_every_failure_in_the_table_has_its_reason() -> None:
    rows = table.read_table(table.TABLE)
    assert {package for package, _ in rows} == {"tests", "csapi"}
    assert table.unexplained(rows) == []
    assert all(not reason for result, reason in rows.values() if result == "pass")


def test_the_document_names_what_is_there() -> None:
    text = (ROOT / "docs/acceptance.md").read_text("utf-8")
    folder = "tests/acceptance/complement"
    for name in ("deploy/Dockerfile", f"{folder}/table.py", f"{folder}/entrypoint.py", f"{folder}/results.tsv"):
        assert name.removeprefix(f"{folder}/") in text and (ROOT / name).exists()
