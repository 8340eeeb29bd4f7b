"""Voice messages are written down: by this machine, and by a speech server; what they say is found by searching."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

from homeserver.http.answer import answer_of
from homeserver.transcripts.engines import CannotTranscribe, EngineAway, Piece
from homeserver.transcripts.scribe import MOST_ATTEMPTS, RETRY_MS, Scribe
from storage import transcripts as rows
from storage.media import Medium
from tests.fixtures_server import Person, StartServer
from tests.guilds.api import API, ApiHouse, at, hall
from tests.guilds.test_moments import pass_ms
from tests.media.films import sound
from tests.media.hands import key_of, upload
from tests.media.speech import SAID, speech
from tests.relations.talk import send

__all__ = ["hall"]


class Scripted:
    """An engine that says what it is told to, and notes what it is asked."""

    def __init__(self, *answers: Piece | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[int] = []

    async def hear(self, path: Path, medium: Medium, start_ms: int) -> Piece:
        self.asked.append(start_ms)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None: ...


def let(hall: ApiHouse, *answers: Piece | Exception) -> Scripted:
    engine = Scripted(*answers)
    hall.house.part(Scribe).engine = engine
    return engine


def whole(text: str) -> Piece:
    return Piece(text, 4_000, 4_000, True, "en")


def path_of(uri: str) -> str:
    return at("media", *key_of(uri), "transcript")


def voice(uri: str) -> dict[str, Any]:
    return {"msgtype": "m.audio", "body": "Voice message", "url": uri, "org.matrix.msc3245.voice": {}}


def test_on_request(hall: ApiHouse) -> None:
    uri = upload(hall, "ann", sound("one.ogg"), "audio/ogg")
    room_id = hall.create("ann")
    event_id = send(hall, "ann", room_id, voice(uri))
    hall.wait(hall.house.indexer.catch_up())  # what it says is known only after it was sent
    assert found_by(hall, "ann", "second half") == []
    engine = let(hall, Piece("first half", 2_000, 4_000, False), whole("and the second"))
    assert hall.call("ann", "GET", path_of(uri)) == {"status": "pending", "progress": 0}
    hall.rest()
    done = {"status": "done", "progress": 100, "text": "first half and the second", "language": "en"}
    assert hall.call("bob", "GET", path_of(uri)) == done
    assert engine.asked == [0, 2_000]  # and nobody listens to it twice
    assert found_by(hall, "ann", "second half") == [event_id]
    assert hall.refused("ann", "GET", at("media", hall.user("x").partition(":")[2], "none", "transcript")).startswith(
        "404"
    )
    # Where nothing comes of it that is said, and it may be tried again a day later.
    broken = upload(hall, "ann", sound("two.ogg"), "audio/ogg")
    let(hall, CannotTranscribe("there is nothing in it"), whole("after all"))
    hall.call("ann", "GET", path_of(broken))
    hall.rest()
    failed = {"status": "failed", "progress": 0, "error": "there is nothing in it"}
    assert hall.call("ann", "GET", path_of(broken)) == failed
    pass_ms(hall, 25 * 3_600_000)
    assert hall.call("ann", "GET", path_of(broken))["status"] == "pending"
    hall.rest()
    assert hall.call("ann", "GET", path_of(broken))["text"] == "after all"


def test_an_engine_that_is_away_and_a_restart(hall: ApiHouse) -> None:
    uri = upload(hall, "ann", sound("three.ogg"), "audio/ogg")
    half = Piece("half", 2_000, 4_000, False)
    engine = let(hall, half, EngineAway("gone"), EngineAway("gone"), whole("and half"))
    hall.call("ann", "GET", path_of(uri))
    hall.rest()
    assert hall.call("ann", "GET", path_of(uri)) == {"status": "pending", "progress": 50, "text": "half"}
    pass_ms(hall, RETRY_MS + 1_000)
    # The server stops in the middle, and finds at its start what it was at.
    assert hall.wait(hall.house.database.run(rows.next_due)) is not None
    hall.wait(hall.house.database.write(rows.claim, hall.house.clock.now_ms() + 100_000))
    hall.wait(hall.house.part(Scribe).start())
    pass_ms(hall, 4 * RETRY_MS)
    assert hall.call("ann", "GET", path_of(uri))["text"] == "half and half"
    assert engine.asked == [0, 2_000, 2_000, 2_000]
    other = upload(hall, "ann", sound("four.ogg"), "audio/ogg")
    let(hall, *[EngineAway("gone")] * MOST_ATTEMPTS)
    hall.call("ann", "GET", path_of(other))
    hall.rest()
    for _ in range(MOST_ATTEMPTS):
        pass_ms(hall, 8 * RETRY_MS)
    assert hall.call("ann", "GET", path_of(other))["error"] == "what listens could not be reached"


def test_limits(hall: ApiHouse) -> None:
    scribe = hall.house.part(Scribe)
    let(hall)
    scribe.settings = type(scribe.settings)(max_bytes=1024, max_waiting=2)
    scribe._running = 1  # nobody works
    uris = [upload(hall, "ann", sound(f"{name}.ogg"), "audio/ogg") for name in ("five", "six", "seven")]
    for uri in uris[:2]:
        assert hall.call("ann", "GET", path_of(uri))["status"] == "pending"
    assert hall.refused("ann", "GET", path_of(uris[2])).startswith("429")
    assert hall.call("bob", "GET", path_of(uris[2]))["status"] == "pending"
    scribe._running = 0
    hall.wait(scribe.start())
    hall.rest()
    assert {hall.call("ann", "GET", path_of(uri))["error"] for uri in uris} == {"the file is too large"}
    scribe.engine = None
    assert hall.refused("ann", "GET", path_of(upload(hall, "ann", sound("8.ogg"), "audio/ogg"))).startswith("404")


def test_as_a_guild_wants_it(hall: ApiHouse) -> None:
    """Unasked, on request, or not at all; and never what is encrypted."""
    guild_id = hall.new()
    room_id = hall.channel(guild_id, "general")
    hall.enter(guild_id, "bob")
    setting = at("guilds", guild_id)
    engine = let(hall, whole("what bob said"), whole("what bob said later"))
    uris = [upload(hall, "bob", sound(f"{name}.ogg"), "audio/ogg") for name in ("nine", "ten", "eleven")]
    send(hall, "bob", room_id, voice(uris[0]))
    hall.rest()
    assert engine.asked == []
    hall.call("ann", "PATCH", setting, {"transcription": "upload"})
    event_id = send(hall, "bob", room_id, voice(uris[1]))
    send(hall, "bob", room_id, {"msgtype": "m.audio", "body": "x", "file": {"url": uris[2]}})
    hall.rest()
    assert engine.asked == [0]
    assert hall.call("ann", "GET", path_of(uris[1]))["text"] == "what bob said"
    assert found_by(hall, "ann", "what bob said") == [event_id]
    hall.call("ann", "PATCH", setting, {"transcription": "off"})
    send(hall, "bob", room_id, voice(uris[2]))
    hall.rest()
    assert "does not want" in hall.refused("ann", "GET", path_of(uris[2]))
    # What is taken back is gone from everywhere.
    hall.redact("bob", room_id, event_id)
    hall.rest()
    assert found_by(hall, "ann", "what bob said") == []
    assert hall.refused("ann", "GET", path_of(uris[1])).startswith("404")


def found_by(hall: ApiHouse, name: str, words: str) -> list[str]:
    """Who searches finds these events."""
    match = hall.house.table.match("POST", b"/_matrix/client/v3/search")
    body = {"search_categories": {"room_events": {"search_term": words}}}
    assert match.endpoint.reader is not None
    ask = match.endpoint.reader.read(match.values, "", json.dumps(body).encode())
    answer = json.loads(answer_of(hall.wait(match.endpoint.call(hall.who(name), ask, None))).body)
    return [one["result"]["event_id"] for one in answer["search_categories"]["room_events"]["results"]]


class _Speech(BaseHTTPRequestHandler):
    """A speech server of the simplest kind."""

    asked: ClassVar[list[tuple[str, bytes]]] = []
    """Key and body of each request."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append((self.headers.get("Authorization", ""), body))
        answer = json.dumps(
            {"text": " What it heard. ", "language": "english", "duration": 3.5, "segments": []}
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def speech_server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Speech)
    _Speech.asked.clear()
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def transcript_of(person: Person, uri: str) -> Any:
    """What comes of it in the end."""
    target = f"{API}/{path_of(uri)}"
    until = time.monotonic() + 100
    while (told := person.call("GET", target))["status"] == "pending":
        assert time.monotonic() < until
        time.sleep(0.2)
    return told


def uploaded(person: Person, data: bytes, kind: str) -> str:
    answer = person.server.request(
        "POST", "/_matrix/media/v3/upload", data, token=person.token, headers={"Content-Type": kind}
    )
    return str(answer.json["content_uri"])


def test_by_this_machine_alone(start_server: StartServer) -> None:
    """With nothing downloaded: what is said is understood, and what says nothing does no harm."""
    server = start_server()
    ann = server.register("ann")
    told = transcript_of(ann, uploaded(ann, speech(), "audio/wav"))
    assert told == {"status": "done", "progress": 100, "text": SAID, "language": "en"}
    assert transcript_of(ann, uploaded(ann, b"no sound", "audio/wav"))["status"] == "failed"


def test_by_a_speech_server(start_server: StartServer, speech_server: str, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sesame\n")
    server = start_server(
        transcription__engine="http", transcription__url=speech_server, transcription__api_key_path=str(key)
    )
    ann = server.register("ann")
    told = transcript_of(ann, uploaded(ann, speech(), "audio/wav"))
    assert told == {"status": "done", "progress": 100, "text": "What it heard.", "language": "english"}
    ((authorization, form),) = _Speech.asked
    assert authorization == "Bearer sesame"
    assert speech() in form and b'name="model"\r\n\r\nwhisper-1\r\n' in form and b'filename="sound.wav"' in form
