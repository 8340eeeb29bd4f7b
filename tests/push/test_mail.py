"""Mail to those who were away, from a real server over a real mail server; and when it is sent, on a still clock."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field, frozen

from config.email import Email, is_address
from homeserver.clock import Clock
from homeserver.harness.client import until
from homeserver.mail.letters import Letters
from homeserver.mail.post import NotNow, Refused
from homeserver.push.digests import Digests
from homeserver.push.missed import Misses
from storage import mail as rows
from storage.pushers import Pusher, put
from tests.fixtures_house import LivedInHouse
from tests.fixtures_server import Person, ServerProcess, StartServer
from tests.push.mail_server import MailServer, link_in, running_mail_server, text_of
from tests.push.test_pushers import ALL, SET, meet, say
from tests.push.test_unread import begin, read, settle

MINUTE, HOUR = 60.0, 3600.0
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def mail_server(tmp_path: Path) -> Iterator[MailServer]:
    with running_mail_server(tmp_path / "mail") as server:
        yield server


def pusher(address: str, **more: Any) -> dict[str, Any]:
    about = {"app_display_name": "Mail", "device_display_name": address, "lang": "en", "data": {}}
    return {"kind": "email", "app_id": "m.email", "pushkey": address, **about, **more}


def page(server: ServerProcess, method: str, path: str) -> tuple[int, str]:
    answer = server.request(method, path)
    return answer.status, answer.body.decode()


def pushers_of(who: Person) -> list[str]:
    return [one["pushkey"] for one in who.call("GET", ALL)["pushers"]]


def test_from_the_first_letter_on(database_url: str, start_server: StartServer, mail_server: MailServer) -> None:
    server = start_server(database=database_url, **mail_server.settings(email__room_pause_ms="3600000"))
    ann, ben, hall = meet(server)
    yard, cellar, safe = (ann.create_room(preset="public_chat", name=name) for name in ("Yard", "Cellar", "Safe"))
    for room_id in (yard, cellar, safe):
        ben.join(room_id)
    ann.call("PUT", f"/_matrix/client/v3/rooms/{safe}/state/m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
    assert ben.call("POST", SET, pusher("ben@example.org")) == {}
    assert ben.call("GET", ALL)["pushers"][0]["data"] == {"activated": False}

    # It is asked first, and only a button on the page behind the link counts.
    (question,) = mail_server.mail(1)
    assert (question["X-Recipients"], question["X-Sender"]) == ("ben@example.org", "noreply@example.org")
    assert ben.user_id in text_of(question) and ben.user_id in text_of(question, "html")
    say(ann, hall, "too early")
    consent, stop = link_in(question, "confirm"), link_in(question, "stop")
    status, text = page(server, "GET", consent)
    assert status == 200 and "ben@example.org" in text
    assert ben.call("GET", ALL)["pushers"][0]["data"] == {"activated": False}
    assert page(server, "POST", consent)[0] == 200
    assert ben.call("GET", ALL)["pushers"][0]["data"] == {"activated": True}
    assert ann.call("GET", ALL) == {"pushers": []}

    said = say(ann, hall, "a <bold> word")
    digest = mail_server.mail(2)[1]
    assert digest["Subject"] == "News in Hall" and digest["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert "too early" in text_of(digest) and "a <bold> word" in text_of(digest)
    assert "a &lt;bold&gt; word" in text_of(digest, "html")
    assert said[1:] in text_of(digest)

    # Of a room that was told of there is nothing more for now; nothing of what is said in an encrypted one.
    say(ann, hall, "again")
    say(ann, safe, "the secret")
    digest = mail_server.mail(3)[2]
    assert "Safe" in text_of(digest) and "Hall" not in text_of(digest) and "secret" not in str(digest)
    server.stop()
    server.start()
    say(ann, cellar, "down here")
    digest = mail_server.mail(4)[3]
    assert "Cellar" in text_of(digest) and "Hall" not in text_of(digest) and "Safe" not in text_of(digest)

    # An address of somebody else's is none of ben's business, nor theirs of his.
    mail_server.answer("451 later")
    say(ann, yard, "out here")
    until(lambda: "mail cannot be sent yet" in server.log_tail(), True)
    mail_server.answer(None)
    assert ann.call("POST", SET, pusher("ben@example.org")) == {}
    assert (pushers_of(ann), pushers_of(ben)) == (["ben@example.org"], ["ben@example.org"])
    question = mail_server.mail(5)[4]
    assert ann.user_id in text_of(question)
    assert server.request("POST", SET, pusher("Ben@Example.org"), token=ann.token).status == 429

    # One click in the mail program.
    assert page(server, "GET", stop)[0] == 200
    assert pushers_of(ben) == ["ben@example.org"]
    assert digest["List-Unsubscribe"] == f"<https://chat.example.org{stop}>"
    assert page(server, "POST", stop)[0] == 200
    assert (pushers_of(ben), page(server, "POST", consent)[0]) == ([], 404)
    # Whoever was asked and never wanted any is not asked again.
    assert page(server, "POST", link_in(question, "stop"))[0] == 200
    for who in (ann, ben):
        answer = server.request("POST", SET, pusher("ben@example.org"), token=who.token)
        assert (answer.status, pushers_of(who)) == (403, [])
    assert len(mail_server.mail()) == 5


@pytest.mark.parametrize(
    "wrong", [{"app_id": "other"}, {"pushkey": "nobody"}, {"pushkey": "a@b.org\r\nTo: c@d.org"}, {"data": None}, {}]
)
def test_what_cannot_be(shared_server: ServerProcess, wrong: dict[str, Any]) -> None:
    """The last, because that server sends no mail."""
    cid = shared_server.register(f"mail{abs(hash(str(wrong)))}")
    answer = shared_server.request("POST", SET, {**pusher("cid@example.org"), **wrong}, token=cid.token)
    assert (answer.status, pushers_of(cid)) == (400, [])


def test_links_that_are_none(shared_server: ServerProcess) -> None:
    for method in ("GET", "POST"):
        assert page(shared_server, method, "/_guildhall/mail/confirm?token=x")[0] == 404
        assert page(shared_server, method, "/_guildhall/mail/stop?token=x")[0] == 200
        assert page(shared_server, method, "/_guildhall/mail/stop")[0] == 400


def test_addresses() -> None:
    assert all(is_address(one) for one in ("a@b.org", "a.b+c@d-e.f.example", "a!#$%&'*/=?^_`{|}~-@b.org"))
    wrong = (
        "",
        "a",
        "a@b",
        "@b.org",
        "a@.org",
        "a b@c.org",
        "a@b.org>",
        "<a@b.org",
        "a@b.org\n",
        "ä@b.org",
        "a@b@c.org",
    )
    assert not any(is_address(one) for one in wrong)


# -- when ------------------------------------------------------------------------------------------------------------


@frozen
class Letter:
    to: str
    subject: str
    text: str


@define
class ListPost:
    """Keeps letters, or does as it is told."""

    sent: list[Letter] = field(factory=list)
    trouble: Exception | None = None

    async def send(self, letter: EmailMessage) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.sent.append(Letter(letter["To"], letter["Subject"], text_of(letter)))


@define
class Desk:
    """Digests of a house, with a post of its own."""

    house: LivedInHouse
    post: ListPost
    digests: Digests
    seen_ms: int = 0
    now_ms: int = 1_700_000_000_000

    def advance(self, seconds: float) -> list[str]:
        """The subjects of what is sent meanwhile."""
        before = len(self.post.sent)
        self.now_ms += int(seconds * 1000)
        self.house.advance(seconds)
        while self.digests._busy:
            self.house.wait(self.house.house.database.run(lambda cursor: None))
            self.house.wait(self.house.house.database.write(lambda cursor: None))
        return [letter.subject for letter in self.post.sent[before:]]

    async def last_seen(self, user_id: str) -> int:
        return self.seen_ms


def open_desk(house: LivedInHouse, *, start: bool = True) -> Desk:
    push = house.house.push
    settings = Email(first_delay_ms=600_000, away_ms=900_000, room_pause_ms=3_600_000)
    post = ListPost()
    digests = Digests(
        settings,
        push.pushers,
        Misses(house.house.database, push.notifications, push.delivery.naming, settings),
        post,
        Letters("noreply@example.org", "https://chat.example.org", "example.org"),
        house.house.database,
        house.house.clock,
        house.house.tasks,
    )
    desk = Desk(house, post, digests)
    digests.clock = Clock(house.house.clock.timers, lambda: desk.now_ms)
    digests.last_seen = desk.last_seen
    push.watch.listeners.append(digests)
    if start:
        told = b'{"kind":"email","data":{}}'
        pusher = Pusher(house.user("bob"), "m.email", "bob@example.org", "D", told, True, 0, 0, token="secret")
        house.wait(house.house.database.write(put, pusher, True))
        house.wait(push.pushers.start())
    return desk


@on_sqlite
def test_nobody_is_told_while_they_are_here(house: LivedInHouse) -> None:
    room_id = settle(house)
    desk = open_desk(house)
    house.say("alice", room_id, "hello")
    desk.seen_ms = desk.now_ms + 300_000
    assert desk.advance(5 * MINUTE) == []
    assert desk.advance(5 * MINUTE) == []
    # They were here five minutes ago: ten minutes more.
    assert desk.advance(9 * MINUTE) == []
    assert len(desk.advance(2 * MINUTE)) == 1
    assert desk.advance(24 * HOUR) == []


@on_sqlite
def test_what_is_read_meanwhile_is_not_told(house: LivedInHouse) -> None:
    room_id = settle(house)
    desk = open_desk(house)
    event_id = house.say("alice", room_id, "hello")
    read(house, "bob", room_id, event_id)
    assert desk.advance(HOUR) == []


@on_sqlite
def test_pauses_double_until_it_is_read(house: LivedInHouse) -> None:
    room_id = settle(house)
    desk = open_desk(house)
    waited = []
    for number in range(6):
        event_id = house.say("alice", room_id, f"message {number}")
        minutes = 0
        while not (sent := desk.advance(10 * MINUTE)):
            minutes += 10
            assert minutes < 60 * 30
        assert len(sent) == 1 and f"message {number}" in desk.post.sent[-1].text
        waited.append(minutes // 60)
    assert waited == [0, 0, 1, 3, 7, 15]
    read(house, "bob", room_id, event_id)
    desk.advance(HOUR)
    house.say("alice", room_id, "after that")
    assert len(desk.advance(11 * MINUTE)) == 1


@on_sqlite
def test_a_room_that_has_to_wait_holds_up_no_other(house: LivedInHouse) -> None:
    room_id = settle(house)
    other = house.create("alice", preset="public_chat", name="Other")
    house.join("bob", other)
    desk = open_desk(house)
    house.say("alice", room_id, "hello")
    assert len(desk.advance(11 * MINUTE)) == 1
    house.say("alice", room_id, "again")
    assert desk.advance(20 * MINUTE) == []
    house.say("alice", other, "here")
    assert desk.advance(11 * MINUTE) == ["News in Other"]
    assert desk.advance(HOUR) != []


@on_sqlite
def test_a_mail_server_in_trouble(house: LivedInHouse) -> None:
    room_id = settle(house)
    desk = open_desk(house)
    house.say("alice", room_id, "hello")
    desk.post.trouble = NotNow("busy")
    for _ in range(20):
        assert desk.advance(10 * MINUTE) == []
    desk.post.trouble = None
    assert len(desk.advance(HOUR)) == 1
    # And an address that is none.
    desk.post.trouble = Refused("no such user")
    house.say("alice", room_id, "again")
    desk.advance(2 * HOUR)
    assert house.house.push.pushers.of(house.user("bob")) == []


@on_sqlite
def test_restarts_tell_nothing_twice(house: LivedInHouse) -> None:
    room_id = settle(house)
    desk = open_desk(house)
    house.say("alice", room_id, "hello")
    assert len(desk.advance(HOUR)) == 1
    again = open_desk(house, start=False)
    again.now_ms = desk.now_ms
    house.wait(again.digests.start())
    assert again.advance(24 * HOUR) == []


def test_how_often_an_address_is_asked(house: LivedInHouse) -> None:
    def ask(hours: float) -> int:
        claim = house.wait(house.house.database.write(rows.claim, "Eve@example.org", int(hours * HOUR * 1000)))
        return 0 if not claim.wait_ms else -(-claim.wait_ms // 3_600_000)

    begin(house)
    assert [ask(hours) for hours in (1000, 1000.5, 1001, 1002, 1003, 1004, 1007)] == [0, 1, 0, 1, 0, 3, 0]
    house.wait(house.house.database.write(rows.accept, "eve@example.org", 0))
    assert ask(1) == 0
    house.wait(house.house.database.write(rows.refuse, "eve@example.org", 0))
    assert house.wait(house.house.database.write(rows.claim, "eve@example.org", 10**15)).refused
