"""Where files are kept: a folder and a real S3 server, which keep the same promises."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import attrs
import pytest
from attrs import define

from config import S3
from homeserver.http.tap import Tap
from homeserver.media.draft import ABANDONED_S, Draft, clear_abandoned
from homeserver.media.store.local import LocalStore
from homeserver.media.store.port import INCOMING, NotStored, Store, StoreFailed, new_name
from homeserver.media.store.s3 import PART_BYTES, S3Store
from tests.fixtures_s3 import S3Server
from tests.fixtures_server import free_port

HEADERS = {"Content-Type": "image/png", "Content-Disposition": 'inline; filename="a b.png"', "Cache-Control": "private"}


@define
class Shelf:
    """A store, and a place for what goes into it."""

    store: Store
    directory: Path

    def put(self, data: bytes, folder: str = "local") -> str:
        """Put bytes in; their name."""
        file = self.directory / secrets.token_hex(4)
        file.write_bytes(data)
        name = new_name(folder)
        self.store.put(name, file)
        assert not file.exists()
        return name

    def read(self, name: str, start: int, length: int, step: int = 100_000) -> bytes:
        reading = self.store.open(name, start, length)
        pieces: list[bytes] = []
        while piece := reading.read(step):
            assert len(piece) <= step
            pieces.append(piece)
        reading.close()
        return b"".join(pieces)


@pytest.fixture(params=["local", "s3"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    incoming = tmp_path / INCOMING
    incoming.mkdir()
    if request.param == "local":
        return Shelf(LocalStore(tmp_path), incoming)
    server: S3Server = request.getfixturevalue("s3_server")
    return Shelf(S3Store(server.bucket(prefix="some/where/"), incoming), incoming)


def test_what_is_put_in_is_there(shelf: Shelf) -> None:
    for size in (0, 1, 70_000, PART_BYTES + 1):
        data = secrets.token_bytes(size)
        name = shelf.put(data)
        assert shelf.read(name, 0, size) == data
        with shelf.store.as_file(name) as path:
            assert path.read_bytes() == data
        if size > 10:
            assert shelf.read(name, 5, 1) == data[5:6]
            assert shelf.read(name, size - 3, 3) == data[-3:]
            assert shelf.read(name, 7, size - 9) == data[7:-2]


def test_names(shelf: Shelf) -> None:
    assert list(shelf.store.names()) == []
    (shelf.directory / "on its way").write_bytes(b"x")
    names = sorted([shelf.put(b"a"), shelf.put(b"b", "remote"), shelf.put(b"c", "thumbnails")])
    assert sorted(shelf.store.names()) == names
    shelf.store.delete([names[0], "local/00/gone", names[0]])
    assert sorted(shelf.store.names()) == names[1:]
    shelf.store.delete(names)
    assert list(shelf.store.names()) == []


@pytest.mark.parametrize("look", [lambda store, name: store.open(name, 0, 5), lambda store, name: enter(store, name)])
def test_what_is_not_there(shelf: Shelf, look: Callable[[Store, str], object]) -> None:
    name = shelf.put(b"hello")
    shelf.store.delete([name])
    for missing in (name, "local/00/never"):
        with pytest.raises(NotStored):
            look(shelf.store, missing)


def enter(store: Store, name: str) -> None:
    with store.as_file(name):
        pytest.fail("it is there")


def test_what_is_open_stays_readable(shelf: Shelf) -> None:
    """Somebody downloads what another deletes."""
    data = secrets.token_bytes(3_000_000)
    name = shelf.put(data)
    reading = shelf.store.open(name, 0, len(data))
    first = reading.read(10)
    shelf.store.delete([name])
    rest = b""
    while piece := reading.read(1_000_000):
        rest += piece
    reading.close()
    assert first + rest == data


# -- the folder --------------------------------------------------------------------------------------------------------


def test_what_is_in_memory_is_read_at_once(tmp_path: Path) -> None:
    shelf = Shelf(LocalStore(tmp_path), tmp_path)
    data = secrets.token_bytes(300_000)
    reading = shelf.store.open(shelf.put(data), 0, len(data))
    found = b""
    while (piece := reading.read_ready(100_000)) != b"":
        found += piece if piece is not None else reading.read(100_000)  # a file system that can't tell
    reading.close()
    reading.close()
    assert found == data


def test_a_folder_on_another_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def across(self: Path, target: Path) -> Path:
        if INCOMING in self.parts:
            raise OSError(18, "Invalid cross-device link")
        return Path(original(self, target))

    original = Path.replace
    monkeypatch.setattr(Path, "replace", across)
    incoming = tmp_path / INCOMING
    incoming.mkdir()
    shelf = Shelf(LocalStore(tmp_path), incoming)
    name = shelf.put(b"over there")
    assert shelf.read(name, 0, 10) == b"over there"
    assert list(shelf.store.names()) == [name]


def test_a_draft_draws_what_has_come_and_no_more(tmp_path: Path) -> None:
    here, there = socket.socketpair()
    here.setblocking(False)
    with here, there:
        draft = Draft.new(tmp_path)
        there.sendall(b"b" * 5000 + b"GET /next")
        tap = Tap(os.dup(here.fileno()), 5000)
        draft.draw([b"a" * 1001], tap)
        assert (tap.drawn, tap.dry, tap.closed, draft.size_bytes) == (5000, False, True, 6001)
        assert here.recv(100) == b"GET /next"
        tap = Tap(os.dup(here.fileno()), 5000)
        draft.draw([], tap)
        assert (tap.drawn, tap.dry, tap.closed) == (0, True, True)
        draft.finish()
        assert draft.path.read_bytes() == b"a" * 1001 + b"b" * 5000
        draft.discard()
        there.sendall(b"late")
        tap = Tap(os.dup(here.fileno()), 5000)
        draft.draw([], tap)
        assert (tap.drawn, tap.closed) == (0, True), "nobody wants it"


def test_drafts(tmp_path: Path) -> None:
    draft = Draft.new(tmp_path / "new folder")
    draft.write([b"one ", b"two "])
    draft.write([b"three"])
    draft.finish()
    draft.finish()
    assert draft.path.read_bytes() == b"one two three"
    assert (draft.size_bytes, draft.head) == (13, b"one two three")
    assert draft.path.stat().st_mode & 0o077 == 0, "nobody else may read it"
    draft.discard()
    assert not draft.path.exists()
    draft.write([b"a thread that was still at it"])
    assert not draft.path.exists()


def test_what_crashes_leave_is_cleared(tmp_path: Path) -> None:
    assert clear_abandoned(tmp_path / "nothing") == 0
    (tmp_path / "draft").write_bytes(b"x")
    now = (tmp_path / "draft").stat().st_mtime
    assert clear_abandoned(tmp_path, now + ABANDONED_S / 2) == 0
    assert clear_abandoned(tmp_path, now + ABANDONED_S * 2) == 1
    assert not (tmp_path / "draft").exists()


# -- S3 ----------------------------------------------------------------------------------------------------------------


def test_an_address_for_anybody(s3_server: S3Server, tmp_path: Path) -> None:
    store = S3Store(s3_server.bucket(redirect=True), tmp_path)
    shelf = Shelf(store, tmp_path)
    name = shelf.put(b"a picture")
    address = store.address(name, HEADERS)
    assert address is not None
    with urlopen(address) as answer:
        assert answer.read() == b"a picture"
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.headers["Content-Disposition"] == 'inline; filename="a b.png"'
    assert S3Store(s3_server.bucket(redirect=False), tmp_path).address(name, HEADERS) is None


def test_objects_have_the_prefix(s3_server: S3Server, tmp_path: Path) -> None:
    bucket = s3_server.bucket(prefix="chat/")
    name = Shelf(S3Store(bucket, tmp_path), tmp_path).put(b"x")
    assert s3_server.names(bucket) == [f"chat/{name}"]


@pytest.mark.parametrize("broken", ["nobody is there", "no such bucket", "wrong key"])
def test_a_store_that_fails(s3_server: S3Server, tmp_path: Path, broken: str) -> None:
    bucket = s3_server.bucket()
    wrong: dict[str, S3] = {
        "nobody is there": attrs.evolve(bucket, endpoint_url=f"http://127.0.0.1:{free_port()}"),
        "no such bucket": attrs.evolve(bucket, bucket="no-such-bucket"),
        "wrong key": attrs.evolve(bucket, secret_key="wrong"),
    }
    store = S3Store(wrong[broken], tmp_path)
    file = tmp_path / "file"
    file.write_bytes(b"x")
    for call in (
        lambda: store.put("local/00/x", file),
        lambda: store.open("local/00/x", 0, 1),
        lambda: enter(store, "local/00/x"),
        lambda: store.delete(["local/00/x"]),
        lambda: list(store.names()),
    ):
        with pytest.raises(StoreFailed) as caught:
            call()
        assert not isinstance(caught.value, NotStored)
    assert file.exists(), "what could not be put in is still where it was"
