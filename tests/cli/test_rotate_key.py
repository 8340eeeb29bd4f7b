"""`rotate-key`: a new key signs, the old one stays known, and what it signed stays valid."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from federation.room.hashing import decode_base64
from federation.room.signing import BadSigningKey, SigningKey, verify_signed_json, write_signing_key
from homeserver.cli import main
from homeserver.keyfile import read_key_file, replace_key_file
from tests.fixtures_server import ServerProcess, StartServer, make_server


def _rotate(server: ServerProcess, *options: str) -> Result:
    environ = {**server.environ, "GUILDHALL_LISTENERS": f"[{{port: {server.port}}}]"}
    result = CliRunner().invoke(main, ["rotate-key", "-c", str(server.settings_path), *options], env=environ)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def _file(server: ServerProcess) -> Path:
    return server.directory / "signing.key"


def _published(server: ServerProcess) -> Any:
    response = server.call("GET", "/_matrix/key/v2/server")
    for key_id, key in response["verify_keys"].items():
        assert verify_signed_json(response, server.name, key_id, decode_base64(key["key"]))
    return response


def test_a_new_key(database_url: str, start_server: StartServer) -> None:
    server = start_server(database=database_url)
    (first,) = read_key_file(_file(server))
    alice = server.register("alice")
    room_id = alice.create_room()
    refused = _rotate(server)
    assert (refused.exit_code, "the server is running; stop it first" in refused.stderr) == (1, True)
    assert read_key_file(_file(server)) == [first]
    server.stop()
    began_ms = int(time.time() * 1000)
    done = _rotate(server)
    assert done.exit_code == 0, done.stderr
    ended_ms = int(time.time() * 1000)
    (second,) = read_key_file(_file(server))
    assert second.key_id in done.stdout and first.key_id in done.stdout
    assert _file(server).stat().st_mode & 0o777 == 0o600
    server.start()
    published = _published(server)
    assert set(published["verify_keys"]) == {second.key_id}
    (old,) = published["old_verify_keys"].items()
    assert (old[0], decode_base64(old[1]["key"])) == (first.key_id, first.verify_key)
    assert began_ms <= old[1]["expired_ts"] <= ended_ms, "it expired when it was given up, not at the next start"
    alice.say(room_id, "signed by the new key")

    server.stop()
    assert _rotate(server).exit_code == 0
    server.start()
    twice = _published(server)
    assert set(twice["old_verify_keys"]) == {first.key_id, second.key_id}
    assert twice["old_verify_keys"][first.key_id] == old[1], "an old key's end does not move"


def test_a_lost_key(start_server: StartServer) -> None:
    server = start_server()
    (first,) = read_key_file(_file(server))
    _published(server)  # so that it is remembered
    server.stop()
    needless = _rotate(server, "--lost")
    assert "can be read: leave out --lost" in needless.stderr
    _file(server).write_text("ed25519 a_1 !!!\n")
    refused = _rotate(server)
    assert refused.exit_code == 1
    assert "line 1: the seed is not Base64; where no copy of the key is left, --lost makes a new one" in refused.stderr
    assert _file(server).read_text() == "ed25519 a_1 !!!\n"
    assert _rotate(server, "--lost").exit_code == 0
    (broken,) = server.directory.glob("signing.key.broken-*")
    assert broken.read_text() == "ed25519 a_1 !!!\n"
    _file(server).unlink()
    assert _rotate(server, "--lost").exit_code == 0
    server.start()
    assert first.key_id in _published(server)["old_verify_keys"]


def test_a_server_that_answers_elsewhere_is_found_out_too(start_server: StartServer) -> None:
    """By its lock on the database."""
    server = start_server()
    before = _file(server).read_text()
    environ = {**server.environ, "GUILDHALL_LISTENERS": "[{port: 1}]"}
    refused = CliRunner().invoke(main, ["rotate-key", "-c", str(server.settings_path)], env=environ)
    assert (refused.exit_code, "the server is running; stop it first" in refused.stderr) == (1, True)
    assert _file(server).read_text() == before


def test_a_server_that_was_never_started(tmp_path: Path) -> None:
    server = make_server(tmp_path, database=None, name="localhost", profile="test", settings={})
    before = _file(server).read_text()
    refused = _rotate(server)
    assert (refused.exit_code, "there is no database at" in refused.stderr) == (1, True)
    assert _file(server).read_text() == before
    assert {file.name for file in tmp_path.iterdir()} == {"homeserver.yaml", "signing.key"}


KEY = SigningKey.from_seed("a_1", bytes(32))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "holds no key"),
        (b"\n\n", "holds no key"),
        (b"ed25519 a_1\n", "line 1: expected 'ed25519 VERSION SEED'"),
        (b"\n-----BEGIN PRIVATE KEY-----\n", "line 2: expected"),
        (b"ed25519 a_1 AAAA\n", "line 1: a key's seed must have 32 bytes"),
        (b"\xff\xfe", "it is not text"),
        (write_signing_key(KEY).encode() * 2, "holds two keys of the same version"),
    ],
)
def test_broken_key_files(tmp_path: Path, content: bytes, why: str) -> None:
    file = tmp_path / "signing.key"
    file.write_bytes(content)
    with pytest.raises(BadSigningKey) as caught:
        read_key_file(file)
    assert str(file) in str(caught.value)
    assert why in str(caught.value)


def test_replacing_a_key_file(tmp_path: Path) -> None:
    file = tmp_path / "signing.key"
    (tmp_path / "signing.key.new").write_text("left behind by somebody who was interrupted")
    for seed in (1, 2):
        key = SigningKey.from_seed(f"a_{seed}", bytes([seed]) * 32)
        replace_key_file(file, key)
        assert read_key_file(file) == [key]
    assert [each.name for each in tmp_path.iterdir()] == ["signing.key"]
