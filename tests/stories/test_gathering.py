"""A community's chat over the years: what is written is found, changed, kept, forgotten and counted."""

from __future__ import annotations

import time
from typing import Any

from homeserver.guilds.client import GuildsClient
from homeserver.harness.client import until
from homeserver.harness.ours import ServerProcess
from homeserver.harness.person import V3, Person, in_path
from tests.media.speech import SAID, speech
from tests.stories.people import forbidden, people_of, upload

SOON_MS = 1_500


def test_a_gathering(shared_server: ServerProcess) -> None:
    ann, bob, cat = people_of(shared_server, "ann", "bob", "cat")
    guilds = {person.user_id: GuildsClient(person) for person in (ann, bob, cat)}
    guild = guilds[ann.user_id].create("The choir")
    code = guild.create_invite()["code"]
    for person in (bob, cat):
        guilds[person.user_id].join_by(code)
    hall = guild.create_channel("rehearsals", topic="Tuesdays")

    # -- said, read, changed
    notice = ann.say(hall, "We begin at seven")
    for person in (bob, cat):
        assert notice in {event["event_id"] for event in person.history(hall)}
    bob.sync(timeout=0)
    bob.read(hall, notice)
    room = guilds[ann.user_id].room(hall)
    until(lambda: [mark["user_id"] for mark in room.status(notice)["read"]], [bob.user_id])
    ann.send(hall, "m.room.message", edit(notice, "We begin at eight"))
    ann.send(hall, "m.room.message", edit(notice, "We begin at half past seven"))
    edits = [one["content"]["body"] for one in guilds[bob.user_id].room(hall).edits(notice)]
    assert edits == ["We begin at eight", "We begin at half past seven"]
    assert forbidden(lambda: people_of(shared_server, "eve")[0].call("GET", message_path(hall, notice) + "/edits"))

    # -- found and kept
    ann.say(hall, "Bring the Monteverdi, the blue edition")
    until(lambda: search(bob, "monteverdi"), ["Bring the Monteverdi, the blue edition"])
    score = upload(ann, b"%PDF-1.4 " + bytes(100), "application/pdf", "monteverdi.pdf")
    ann.send(hall, "m.room.message", {"msgtype": "m.file", "body": "monteverdi.pdf", "url": score})
    assert forbidden(lambda: bob.set_state(hall, "m.room.pinned_events", {"pinned": [notice]}))
    ann.set_state(hall, "m.room.pinned_events", {"pinned": [notice]})
    assert bob.content_of(hall, "m.room.pinned_events")["pinned"] == [notice]
    _voice(ann, bob, hall)
    other = guild.create_channel("archive")
    assert set(guilds[bob.user_id].room(hall).forward(notice, [other])["events"]) == {other}
    until(lambda: cat.texts(other), ["We begin at half past seven"])

    # -- later, and not for ever
    now_ms = int(time.time() * 1000)
    mine = guilds[bob.user_id].room(hall)
    kept = mine.schedule(now_ms + 3_600_000, {"msgtype": "m.text", "body": "Next year then"})
    soon = mine.schedule(now_ms + SOON_MS, {"msgtype": "m.text", "body": "I am on the tram"})
    assert {one["id"] for one in mine.scheduled()} == {kept, soon}
    mine.change_scheduled(kept, content={"msgtype": "m.text", "body": "Next month then"})
    mine.cancel_scheduled(kept)
    until(lambda: "I am on the tram" in cat.texts(hall))
    assert mine.scheduled() == []
    whisper = {
        "msgtype": "m.text",
        "body": "The tenor is flat",
        "org.matrix.self_destruct_after": int(time.time() * 1000) + SOON_MS,
    }
    secret = cat.send(hall, "m.room.message", whisper)
    until(lambda: "body" in bob.event(hall, secret)["content"], False)
    assert search(bob, "tenor") == []

    # -- order, and what is made of it all
    rude = cat.say(hall, "The altos should go home")
    bob.call("POST", f"{V3}/rooms/{in_path(hall)}/report/{in_path(rude)}", {"reason": "unkind"})
    assert forbidden(lambda: list(guilds[bob.user_id].guild(guild.guild_id).reports()))
    (report,) = guild.reports(state="open")
    assert (report["event_id"], report["reporter"], report["reason"]) == (rude, bob.user_id, "unkind")
    ann.redact(hall, rude)
    guild.decide_report(report["id"], "resolved", "talked to cat")
    assert list(guild.reports(state="open")) == []
    figures = guild.analytics()
    assert figures["days"][-1]["messages"] >= 6 and figures["days"][-1]["joins"] >= 2
    assert forbidden(lambda: guilds[cat.user_id].guild(guild.guild_id).analytics())


def _voice(ann: Person, bob: Person, room_id: str) -> None:
    """A voice message is shown as a curve, written down, and found by what is said in it."""
    uri = upload(ann, speech(), "audio/wav", "voice.wav")
    voice = {"msgtype": "m.audio", "body": "Voice message", "url": uri, "org.matrix.msc3245.voice": {}}
    ann.send(room_id, "m.room.message", voice)
    bobs = GuildsClient(bob)
    server_name, media_id = uri.removeprefix("mxc://").split("/")
    curve = bobs.waveform(server_name, media_id)
    assert curve["duration_ms"] > 500 and max(curve["waveform"]) > 100
    until(lambda: bobs.transcript(server_name, media_id)["status"], "done")
    assert bobs.transcript(server_name, media_id)["text"] == SAID
    until(lambda: search(bob, "monday"), ["Voice message"])


def edit(event_id: str, text: str) -> dict[str, Any]:
    """A message that changes another's text."""
    new = {"msgtype": "m.text", "body": text}
    return {
        "msgtype": "m.text",
        "body": f"* {text}",
        "m.new_content": new,
        "m.relates_to": {"rel_type": "m.replace", "event_id": event_id},
    }


def message_path(room_id: str, event_id: str) -> str:
    return f"/_guildhall/client/v1/rooms/{in_path(room_id)}/messages/{in_path(event_id)}"


def search(person: Person, term: str) -> list[str]:
    """What is found by somebody, best first."""
    body = {"search_categories": {"room_events": {"search_term": term}}}
    found = person.call("POST", f"{V3}/search", body)["search_categories"]["room_events"]["results"]
    return [one["result"]["content"]["body"] for one in found]
