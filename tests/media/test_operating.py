"""Files as somebody who runs a server meets them: in S3, in backups, by the verb `media`, in memory and in figures."""

from __future__ import annotations

import http.client
import json
import secrets
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import attrs
import pytest
from click.testing import CliRunner, Result

from config import S3
from homeserver.cli import main
from tests.fixtures_s3 import S3Server
from tests.fixtures_server import Person, ServerProcess, StartServer, free_port
from tests.media.files import opened, picture
from tests.media.test_repository import NEW, UPLOAD, get, upload

SMALL = {"width": "96", "height": "96", "method": "crop"}
MIB = 1024 * 1024


def in_s3(bucket: S3) -> dict[str, str]:
    """The settings of a server that keeps files there."""
    given = {name: value for name, value in attrs.asdict(bucket).items() if value is not None}
    return {"media__store": "s3", "media__s3": json.dumps(given)}


def verb(server: ServerProcess, *arguments: str) -> Result:
    """Call a verb with a server's settings."""
    name, *more = arguments
    command = [name, more.pop(0)] if name == "media" else [name]
    result = CliRunner().invoke(main, [*command, "-c", str(server.settings_path), *more], env=server.environ)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


# -- S3 ----------------------------------------------------------------------------------------------------------------


def test_files_in_s3(start_server: StartServer, s3_server: S3Server) -> None:
    bucket = s3_server.bucket(prefix="chat/")
    server = start_server(**in_s3(bucket))
    alice = server.register("alice")
    data = secrets.token_bytes(20 * MIB)  # in several parts
    uri = upload(alice, data)
    path = f"{NEW}/download/{uri}"
    assert get(alice, path).body == data
    part = get(alice, path, Range="bytes=1000000-1000009")
    assert (part.status, part.body) == (206, data[1_000_000:1_000_010])
    shown = upload(alice, picture("PNG", 400, 300))
    small = get(alice, f"{NEW}/thumbnail/{shown}", SMALL)
    assert opened(small.body).size == (96, 96)
    assert get(alice, f"{NEW}/thumbnail/{shown}", SMALL).body == small.body
    assert sorted(name.split("/")[1] for name in s3_server.names(bucket)) == ["local", "local", "thumbnails"]
    assert not [file for file in (server.directory / "media").rglob("*") if file.is_file()], "nothing is kept here"
    for one in (uri, shown):
        assert verb(server, "media", "delete", f"mxc://{one}").output == "1 files are deleted.\n"
    assert s3_server.names(bucket) == []


def test_clients_are_sent_to_the_store(start_server: StartServer, s3_server: S3Server) -> None:
    server = start_server(**in_s3(s3_server.bucket(redirect=True)))
    alice = server.register("alice")
    uri = upload(alice, picture("PNG", 400, 300), filename="a b.png")
    for path, query in ((f"{NEW}/download/{uri}", None), (f"{NEW}/thumbnail/{uri}", SMALL)):
        answer = get(alice, path, query)
        assert answer.status == 307
        assert answer.headers["Cache-Control"] == "no-store"
        with urlopen(answer.headers["Location"]) as there:
            assert there.headers["Content-Type"] == "image/png"
            assert there.headers["Content-Disposition"].startswith("inline; filename=")
            assert opened(there.read()).size == ((96, 96) if query else (400, 300))
    old = f"/_matrix/media/v3/download/{uri}"
    assert get(alice, old).body == picture("PNG", 400, 300), "who did not ask for a redirect gets none"
    assert get(alice, old, {"allow_redirect": "true"}).status == 307


def test_a_store_that_is_down(start_server: StartServer, s3_server: S3Server) -> None:
    """503 for whoever asks, and nothing is lost."""
    bucket = s3_server.bucket()
    server = start_server(**in_s3(bucket))
    alice = server.register("alice")
    uri = upload(alice, picture())
    server.stop()
    server.environ = {**server.environ, "GUILDHALL_MEDIA__S3": in_s3(
        attrs.evolve(bucket, endpoint_url=f"http://127.0.0.1:{free_port()}"))["media__s3"]}  # fmt: skip
    server.start()
    assert get(alice, f"{NEW}/download/{uri}").status == 503
    assert server.request("POST", UPLOAD, b"x", token=alice.token).status == 503
    server.stop()
    server.environ = {**server.environ, "GUILDHALL_MEDIA__S3": in_s3(bucket)["media__s3"]}
    server.start()
    assert get(alice, f"{NEW}/download/{uri}").body == picture()
    server.expected_errors |= {"the store of files failed", "a file could not be written"}


# -- backup ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_backups(start_server: StartServer, tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    settings: dict[str, str] = {}
    other: dict[str, str] = {}
    if kind == "s3":
        s3_server: S3Server = request.getfixturevalue("s3_server")
        settings, other = in_s3(s3_server.bucket()), in_s3(s3_server.bucket())
    server = start_server(**settings)
    alice = server.register("alice")
    uri = upload(alice, picture("PNG", 400, 300))
    small = get(alice, f"{NEW}/thumbnail/{uri}", SMALL).body
    saved = verb(server, "backup", str(tmp_path / "saved"))
    assert saved.exit_code == 0, saved.stderr
    assert len([file for file in (tmp_path / "saved/media").rglob("*") if file.is_file()]) == 1, "no thumbnails"
    without = verb(server, "backup", "--without-media", str(tmp_path / "without"))
    assert without.exit_code == 0
    assert not (tmp_path / "without/media").exists()
    server.stop()

    environ = {name: value for name, value in server.environ.items() if not name.startswith("GUILDHALL_MEDIA__S3")}
    environ |= {f"GUILDHALL_{name.upper()}": value for name, value in other.items()}
    again = ServerProcess(tmp_path / "again", free_port(), server.name, environ, server.shared_secret)
    restored = verb(again, "restore", str(tmp_path / "saved"))
    assert restored.exit_code == 0, restored.stderr
    again.start()
    try:
        alice = Person(again, alice.user_id, alice.device_id, alice.token)
        assert get(alice, f"{NEW}/download/{uri}").body == picture("PNG", 400, 300)
        assert get(alice, f"{NEW}/thumbnail/{uri}", SMALL).body == small, "made again"
        assert verb(again, "media", "sweep").output == "0 files belonged to nothing, and are deleted.\n"
    finally:
        again.stop()
    again.check_log()
    for name in ("homeserver.db", "homeserver.db-wal", "homeserver.db-shm"):
        (again.directory / name).unlink(missing_ok=True)
    refused = verb(again, "restore", str(tmp_path / "saved"))
    assert (refused.exit_code, "is there already" in refused.stderr) == (1, True), "no file is overwritten"
    kept = verb(again, "restore", str(tmp_path / "without"))
    assert kept.exit_code == 0, "files that were left out stay where they are"


# -- the verb ----------------------------------------------------------------------------------------------------------


def test_the_verb(start_server: StartServer) -> None:
    server = start_server()
    alice, bob = server.register("alice"), server.register("bob")
    uris = [upload(alice, picture(seed=seed)) for seed in range(3)]
    room_id = bob.create_room()
    content = {"msgtype": "m.image", "body": "x", "url": f"mxc://{uris[2]}"}
    bob.call("PUT", f"/_matrix/client/v3/rooms/{quote(room_id, safe='')}/send/m.room.message/1", content)

    def there() -> list[bool]:
        return [get(alice, f"{NEW}/download/{uri}").status == 200 for uri in uris]

    assert verb(server, "media", "usage", alice.user_id).output.startswith(f"{alice.user_id} has 3 files with 0.0 MiB")
    assert verb(server, "media", "quarantine", f"mxc://{uris[0]}").output == "1 files are in quarantine.\n"
    assert there() == [False, True, True]
    assert verb(server, "media", "quarantine", "--room", room_id).output == "1 files are in quarantine.\n"
    assert there() == [False, True, False]
    assert verb(server, "media", "release", *(f"mxc://{uri}" for uri in uris)).output == "3 files are released.\n"
    assert there() == [True, True, True]
    assert verb(server, "media", "quarantine", "--user", alice.user_id).output == "3 files are in quarantine.\n"
    assert there() == [False, False, False]
    assert verb(server, "media", "delete", "--user", alice.user_id).output == "3 files are deleted.\n"
    assert not [file for file in (server.directory / "media/local").rglob("*") if file.is_file()]
    for arguments, complaint in {
        ("quarantine",): "Name either files, or one whose files are meant",
        ("quarantine", "mxc://a/b", "--user", "@a:b"): "Name either files, or one whose files are meant",
        ("delete", "https://example.org/x"): "is not an address like mxc://",
        ("quarantine", "--room", "!nowhere:localhost"): "There is no such room here",
    }.items():
        refused = verb(server, "media", *arguments)
        assert refused.exit_code != 0
        assert complaint in refused.stderr
    server.stop()
    gone = verb(server, "media", "usage", "@a:b")
    assert (gone.exit_code, "no running server answers" in gone.stderr) == (1, True)


# -- a crash -----------------------------------------------------------------------------------------------------------


def test_a_kill_in_the_middle_of_an_upload(database_url: str, start_server: StartServer) -> None:
    """What was answered is there; what was not leaves nothing that stays."""
    server = start_server(database=database_url)
    alice = server.register("alice")
    uri = upload(alice, picture())
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest("POST", UPLOAD)
    connection.putheader("Authorization", f"Bearer {alice.token}")
    connection.putheader("Content-Length", str(5 * MIB))
    connection.endheaders()
    connection.send(b"x" * MIB)
    server.kill(signal.SIGKILL)
    connection.close()
    server.start()
    assert get(alice, f"{NEW}/download/{uri}").body == picture()
    upload(alice, picture(seed=2))


# -- memory, and figures -----------------------------------------------------------------------------------------------


def resident_kib(server: ServerProcess) -> int:
    """What a server holds in memory, all of its own."""
    fields = (line.split() for line in Path(f"/proc/{server.pid}/status").read_text().splitlines())
    return next(int(words[1]) for words in fields if words[0] == "VmRSS:")


def peak_while(server: ServerProcess, work: Callable[[], Iterator[None]]) -> int:
    """How much more a server holds at some moment of `work`, which pauses often, than at its beginning."""
    before = resident_kib(server)
    return max(resident_kib(server) - before for _ in work())


def send_slowly(server: ServerProcess, token: str, size: int) -> Iterator[None]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.putrequest("POST", UPLOAD)
    connection.putheader("Authorization", f"Bearer {token}")
    connection.putheader("Content-Length", str(size))
    connection.endheaders()
    for start in range(0, size, MIB):
        connection.send(bytes(min(MIB, size - start)))
        yield
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    found.append(json.loads(answer.read())["content_uri"].removeprefix("mxc://"))
    connection.close()
    yield


found: list[str] = []


def receive_slowly(server: ServerProcess, token: str, uri: str, size: int) -> Iterator[None]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", f"{NEW}/download/{uri}", headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    received = 0
    while piece := answer.read(MIB):
        received += len(piece)
        yield
    assert received == size
    connection.close()
    yield


MOST_KIB = 4 * 1024
"""For any number of bytes that pass through."""


def test_large_files_never_stand_in_memory(start_server: StartServer) -> None:
    server = start_server()
    alice = server.register("alice")
    size = 50 * 1_000_000
    # Once for what is loaded on first use, and for what the allocator keeps.
    for measured in (False, True):
        up = peak_while(server, lambda: send_slowly(server, alice.token, size))
        down = peak_while(server, lambda: receive_slowly(server, alice.token, found[-1], size))
        if measured:
            assert up < MOST_KIB, f"{up} KiB more while 50 MB came in"
            assert down < MOST_KIB, f"{down} KiB more while 50 MB went out"


def test_clients_that_do_not_take_what_they_asked_for(start_server: StartServer) -> None:
    """Many of them, each with a large file: they cost what is on its way, not what is to come."""
    server = start_server()
    alice = server.register("alice")
    uri = upload(alice, bytes(30 * MIB), None)
    get(alice, f"{NEW}/download/{uri}")
    before = resident_kib(server)
    connections = []
    for _ in range(20):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("GET", f"{NEW}/download/{uri}", headers={"Authorization": f"Bearer {alice.token}"})
        connections.append((connection, connection.getresponse()))
    assert resident_kib(server) - before < 20 * 1024
    for connection, answer in connections:
        assert len(answer.read(10)) == 10
        connection.close()
    assert server.request("GET", "/health").status == 200


def test_libraries_are_loaded_when_they_are_needed(start_server: StartServer) -> None:
    """Neither at start nor for what needs none of them; what looks into files never is in the server itself."""
    server = start_server()
    alice = server.register("alice")
    wanted = {"PIL", "av", "boto3", "filetype"}
    loaded = f"sorted({wanted!r} & set(__import__('sys').modules))"

    def in_the_server() -> str:
        return verb(server, "shell", "--execute", loaded).output.strip()

    assert in_the_server() == "[]"
    uri = upload(alice, picture("PNG", 400, 300))
    get(alice, f"{NEW}/download/{uri}")
    get(alice, f"{NEW}/thumbnail/{uri}", SMALL)
    assert in_the_server() == "['filetype']"


def test_figures(start_server: StartServer) -> None:
    server = start_server(metrics__enabled="true")
    alice = server.register("alice")
    uri = upload(alice, picture("PNG", 400, 300))
    get(alice, f"{NEW}/download/{uri}")
    get(alice, f"{NEW}/thumbnail/{uri}", SMALL)
    text = server.request("GET", "/_guildhall/metrics").body.decode()
    figures = dict(line.split() for line in text.splitlines() if line.startswith("guildhall_media"))
    assert float(figures["guildhall_media_uploads_total"]) == 1
    assert float(figures["guildhall_media_upload_bytes_total"]) == len(picture("PNG", 400, 300))
    assert float(figures["guildhall_media_downloads_total"]) == 1
    assert float(figures["guildhall_media_thumbnails_total"]) == 1
    assert float(figures["guildhall_media_workers"]) == 1
