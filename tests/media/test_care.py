"""When files go, and which nobody may have: in a whole house, on both databases."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest

from homeserver.errors import Forbidden, InvalidParam, LimitExceeded, MatrixError, NotFound
from homeserver.http.bodies import IncomingBody
from homeserver.media.care import SPARE_MS
from homeserver.media.library import Library
from homeserver.media.names import AT_ONCE as NAMES
from homeserver.media.names import SOON_MS
from homeserver.media.thumbnails import Shape
from homeserver.media.uploads import AT_ONCE, Described, Uploads
from homeserver.rooms.send import Sender
from homeserver.userdata.account_data import AccountData
from homeserver.userdata.profiles import Profiles
from storage import loose_files
from storage import media as rows
from storage.accounts import Account, add_account
from tests.fixtures_house import LivedInHouse
from tests.media.files import moving, opened, picture
from tests.media.hands import LIMIT, OpenDoor, body_of, download, key_of, thumbnail, upload

ALICE, BOB = "alice", "bob"


def files(house: LivedInHouse) -> list[str]:
    """What is on the disk, once everything that is due was done."""
    house.wait(house.house.media.tidy())
    folder = house.house.media.library.folder
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def is_there(house: LivedInHouse, uri: str) -> bool:
    try:
        download(house, uri)
    except NotFound:
        return False
    return True


def show(house: LivedInHouse, who: str, room_id: str, uri: str, txn_id: str | None = None) -> str:
    """Send a picture; the event's id."""
    content = {"msgtype": "m.image", "body": "x.png", "url": uri, "info": {"thumbnail_url": uri}}
    txn_id = txn_id or secrets.token_hex(4)
    return house.wait(house.house.part(Sender).message(house.who(who), room_id, "m.room.message", content, txn_id))


@pytest.fixture
def room(house: LivedInHouse) -> str:
    room_id = house.create(ALICE, preset="public_chat")
    house.join(BOB, room_id)
    return room_id


# -- what names a file -------------------------------------------------------------------------------------------------


def test_a_file_goes_with_the_last_message_that_names_it(house: LivedInHouse, room: str) -> None:
    uri = upload(house, ALICE, picture("PNG", 500, 400))
    thumbnail(house, uri, 96, 96, "crop")
    thumbnail(house, uri, 320, 240)
    events = [show(house, ALICE, room, uri) for _ in range(2)]
    assert len(files(house)) == 3
    house.redact(ALICE, room, events[0])
    assert is_there(house, uri), "the other message still shows it"
    house.redact(ALICE, room, events[1])
    assert not is_there(house, uri)
    assert files(house) == [], "with its thumbnails, and from the disk"


def test_what_others_sent_on_stays(house: LivedInHouse, room: str) -> None:
    uri = upload(house, ALICE, picture())
    mine, sent_on = show(house, ALICE, room, uri), show(house, BOB, room, uri)
    house.redact(ALICE, room, mine)
    assert is_there(house, uri)
    # Bob's word alone takes nothing away that is not his, though nothing names it any more.
    house.redact(BOB, room, sent_on)
    assert is_there(house, uri)


def test_nobody_deletes_by_naming_and_unnaming(house: LivedInHouse, room: str) -> None:
    """A file in an encrypted room is named nowhere that the server could see."""
    uri = upload(house, ALICE, picture())
    house.redact(BOB, room, show(house, BOB, room, uri))
    assert is_there(house, uri)


def test_a_moderator_takes_it_back_for_its_owner(house: LivedInHouse, room: str) -> None:
    uri = upload(house, BOB, picture())
    house.redact(ALICE, room, show(house, BOB, room, uri))
    assert not is_there(house, uri)


def test_pictures_of_people_rooms_and_packs_hold_a_file(house: LivedInHouse, room: str) -> None:
    def by_profile(uri: str) -> Callable[[], object]:
        profiles = house.house.part(Profiles)
        house.wait(house.house.database.write(add_account, Account(house.user(ALICE), None, 0)))
        house.wait(profiles.set_field(house.user(ALICE), "org.example.banner", {"pictures": [uri]}))
        return lambda: house.wait(profiles.delete_field(house.user(ALICE), "org.example.banner"))

    def by_state(uri: str) -> Callable[[], object]:
        content = {"images": {"smile": {"url": uri}}}
        event_id = house.set_state(ALICE, room, "m.room.image_pack", content, "pack")
        return lambda: house.redact(ALICE, room, event_id)

    def by_account_data(uri: str) -> Callable[[], object]:
        data = house.house.part(AccountData)
        user_id, kind = house.user(ALICE), "im.ponies.user_emotes"
        house.wait(data.put(user_id, 0, kind, {"images": {"smile": {"url": uri}}}))
        return lambda: house.wait(data.put(user_id, 0, kind, {"images": {}}))

    for seed, hold in enumerate((by_profile, by_state, by_account_data)):
        uri = upload(house, ALICE, picture(seed=seed))
        release = hold(uri)
        house.redact(ALICE, room, show(house, ALICE, room, uri))
        assert is_there(house, uri), hold.__name__
        release()
        if hold is by_state:
            assert not is_there(house, uri), "that was taken back, too"
        else:
            assert is_there(house, uri), "changing a picture is not taking it back"
            house.redact(ALICE, room, show(house, ALICE, room, uri))
            assert not is_there(house, uri), "nothing holds it any more"


def test_what_is_an_address(house: LivedInHouse, room: str) -> None:
    """An address somewhere in a text holds as any other; what is none does not."""
    for number, (text, holds) in enumerate(
        {
            "mxc://test.example/{}x": False,
            "mxc://test.example/{}/x": True,
            "mxc://test.example.org/{}": False,
            "mxc:/test.example/{}": False,
            "see mxc://test.example/{}.": True,
            "MXC://test.example/{}": False,
        }.items()
    ):
        uri = upload(house, ALICE, picture(seed=number))
        house.say(BOB, room, text.format(key_of(uri)[1]))
        house.redact(ALICE, room, show(house, ALICE, room, uri))
        assert is_there(house, uri) is holds, text


def test_a_closed_account_takes_its_files_along_if_asked(house: LivedInHouse, room: str) -> None:
    mine, shared = upload(house, ALICE, picture(seed=1)), upload(house, ALICE, picture(seed=2))
    pending, _ = house.wait(house.house.part(Uploads).create(house.user(ALICE)))
    show(house, BOB, room, shared)
    care = house.house.media.care
    house.wait(care.account_deactivated(house.user(ALICE), erase=False))
    assert is_there(house, mine)
    house.wait(care.account_deactivated(house.user(ALICE), erase=True))
    assert not is_there(house, mine)
    assert not is_there(house, pending)
    assert is_there(house, shared), "somebody else shows it"


# -- rows and bytes ----------------------------------------------------------------------------------------------------


def test_a_crash_after_the_bytes_and_before_the_row(house: LivedInHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    async def crash(self: Library, name: str, enter: Any) -> None:
        raise RuntimeError("the power is gone")

    monkeypatch.setattr(Library, "enter", crash)
    with pytest.raises(RuntimeError):
        upload(house, ALICE, picture())
    monkeypatch.undo()
    (left,) = files(house)
    assert left.startswith("local/")
    later(house, 2 * SOON_MS + 1000)
    assert files(house) == []


def later(house: LivedInHouse, milliseconds: int) -> None:
    """Let the date go on."""
    clock = house.house.media.library.clock
    now_ms = clock.now_ms
    object.__setattr__(clock, "now_ms", lambda: now_ms() + milliseconds)


def test_what_nobody_knows_is_swept_out(house: LivedInHouse) -> None:
    """As a restore may bring it along."""
    uri = upload(house, ALICE, picture("PNG", 200, 200))
    thumbnail(house, uri, 32, 32)
    known = files(house)
    stray = house.house.media.library.folder / "local/ab/stray"
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"?")
    assert house.wait(house.house.media.care.sweep()) == 1
    assert files(house) == known
    assert house.wait(house.house.media.care.sweep()) == 0


def test_bytes_that_are_lost(house: LivedInHouse) -> None:
    uri = upload(house, ALICE, picture("PNG", 200, 200))
    small = thumbnail(house, uri, 32, 32)
    (made,) = [name for name in files(house) if name.startswith("thumbnails/")]
    folder = house.house.media.library.folder
    (folder / made).unlink()
    assert thumbnail(house, uri, 32, 32).body == small.body, "thumbnails are made again"
    for name in files(house):
        (folder / name).unlink()
    for find in (lambda: download(house, uri), lambda: thumbnail(house, uri, 96, 96)):
        with pytest.raises(NotFound):
            find()


def test_names_are_loose_until_they_are_taken(house: LivedInHouse) -> None:
    def loose() -> set[str]:
        return set(house.wait(house.house.database.run(loose_files.due, 10**15)))

    upload(house, ALICE, b"one")
    first = loose()
    assert len(first) == NAMES - 1
    upload(house, ALICE, b"two")
    assert len(first & loose()) == NAMES - 2
    later(house, SOON_MS + 1000)
    upload(house, ALICE, b"three")
    assert len(first & loose()) == NAMES - 2, "those might be deleted before they are entered"
    assert len(loose()) == 2 * NAMES - 3
    later(house, SOON_MS)
    assert len(files(house)) == 3
    assert not first & loose()


def test_loose_files_are_in_nobodys_way(house: LivedInHouse) -> None:
    """The store is told of what was never there, once."""
    database = house.house.database
    house.wait(database.write(loose_files.put, ["local/00/never"], 0))
    assert files(house) == []
    assert house.wait(database.run(loose_files.due, 10**15)) == []


# -- quotas, and places ------------------------------------------------------------------------------------------------


def limited(house: LivedInHouse, **settings: Any) -> Uploads:
    """Uploads under other settings."""
    media = house.house.media
    return Uploads(media.library, media.uploads._arrivals, attrs.evolve(media.uploads._settings, **settings))


def bring(house: LivedInHouse, uploads: Uploads, data: bytes, body: IncomingBody | None = None) -> str:
    return house.wait(uploads.upload(Described(house.user(ALICE), "image/png", None), body or body_of(data)))


def test_quotas(house: LivedInHouse) -> None:
    uploads = limited(house, user_quota_bytes=1000)
    bring(house, uploads, b"x" * 600)
    with pytest.raises(Forbidden):
        bring(house, uploads, b"x" * 401)
    uri = bring(house, uploads, b"x" * 400)
    with pytest.raises(Forbidden):
        bring(house, uploads, b"x")
    house.wait(house.house.media.care.delete([key_of(uri)]))
    bring(house, uploads, b"x" * 400)
    assert house.wait(house.house.media.care.usage(house.user(ALICE))) == (1000, 2)
    with pytest.raises(Forbidden):
        bring(house, limited(house, user_quota_files=2), b"x")
    upload(house, BOB, b"x" * 2000)
    assert len(files(house)) == 3, "what was refused leaves nothing behind"


def test_a_quota_is_judged_before_the_body(house: LivedInHouse) -> None:
    body = IncomingBody(1001, OpenDoor(), LIMIT)  # of which nothing ever comes
    with pytest.raises(Forbidden):
        bring(house, limited(house, user_quota_bytes=1000), b"", body)


def test_so_much_at_once(house: LivedInHouse) -> None:
    """Whoever keeps uploads open can't open more."""
    from twisted.internet.defer import CancelledError, Deferred

    uploads = house.house.part(Uploads)
    waiting = [IncomingBody(10, OpenDoor(), LIMIT) for _ in range(AT_ONCE)]
    told = Described(house.user(ALICE), None, None)
    running = [Deferred.fromCoroutine(uploads.upload(told, body)) for body in waiting]
    with pytest.raises(LimitExceeded):
        upload(house, ALICE, b"x")
    upload(house, BOB, b"x")
    for body, one in zip(waiting, running, strict=True):
        body.abandon()
        with pytest.raises(CancelledError):
            house.wait(one)
    upload(house, ALICE, b"x")


def test_places_expire(house: LivedInHouse) -> None:
    uploads = house.house.part(Uploads)
    uri, _ = house.wait(uploads.create(house.user(ALICE)))
    later(house, house.house.settings.media.pending_ms + 1000)
    told = Described(house.user(ALICE), "image/png", None)
    with pytest.raises(NotFound):
        house.wait(uploads.fill(*key_of(uri), told, body_of(b"x")))
    assert not is_there(house, uri)
    assert house.wait(house.house.database.run(rows.get, *key_of(uri))) is not None
    later(house, SPARE_MS + 10**7)
    files(house)
    assert house.wait(house.house.database.run(rows.get, *key_of(uri))) is None


def test_two_fill_one_place(house: LivedInHouse) -> None:
    """One of them is first; nobody gets half of each."""
    from twisted.internet.defer import Deferred

    uploads = house.house.part(Uploads)
    uri, _ = house.wait(uploads.create(house.user(ALICE)))
    told = Described(house.user(ALICE), "image/png", None)
    running = [
        Deferred.fromCoroutine(uploads.fill(*key_of(uri), told, body_of(picture(seed=seed)))) for seed in range(2)
    ]
    outcomes: list[str] = []
    for one in running:
        try:
            house.wait(one)
            outcomes.append("done")
        except MatrixError as error:
            outcomes.append(error.errcode)
    assert sorted(outcomes) == ["M_CANNOT_OVERWRITE_MEDIA", "done"]
    assert download(house, uri).body == picture(seed=outcomes.index("done"))
    assert len(files(house)) == 1


# -- quarantine, and other deeds of administrators ---------------------------------------------------------------------


ADMIN = "@admin:test.example"


def test_quarantine_and_release(house: LivedInHouse) -> None:
    care = house.house.media.care
    uri = upload(house, ALICE, picture("PNG", 200, 200))
    thumbnail(house, uri, 32, 32)
    assert house.wait(care.quarantine([key_of(uri)], ADMIN)) == 1
    for find in (lambda: download(house, uri), lambda: thumbnail(house, uri, 32, 32)):
        with pytest.raises(NotFound):
            find()
    again = upload(house, BOB, picture("PNG", 200, 200))
    assert not is_there(house, again), "the same bytes"
    assert is_there(house, upload(house, BOB, picture("PNG", 200, 201)))
    assert len([name for name in files(house) if name.startswith("local/")]) == 3, "evidence is kept"
    assert house.wait(care.release([key_of(uri), key_of(again)])) == 2
    assert is_there(house, uri) and is_there(house, again)


def test_what_is_as_long_as_something_in_quarantine_is_looked_at(house: LivedInHouse) -> None:
    """Only that: no other file's bytes are gone through for it."""
    care, library = house.house.media.care, house.house.media.library
    bad = picture("PNG", 200, 200)
    fine = bad[:-1] + b"\0"
    uris = [upload(house, ALICE, data) for data in (bad, fine)]
    assert digests(house, uris) == [None, None]
    assert house.wait(care.quarantine([key_of(uris[0])], ADMIN)) == 1
    uris += [upload(house, BOB, data) for data in (bad + b"\0", fine, bad)]
    assert [is_there(house, uri) for uri in uris] == [False, True, True, True, False]
    known = digests(house, uris)
    assert [digest is not None for digest in known] == [True, False, False, True, True]
    assert known[0] == known[4] != known[3]
    # One that has a digest already, as all have from before they were made on demand.
    assert house.wait(care.quarantine([key_of(uris[3])], ADMIN)) == 1
    assert not is_there(house, upload(house, ALICE, fine))
    # Where the evidence is lost nothing can be held against it; others' files come all the same.
    lost = upload(house, ALICE, bad * 2)
    assert house.wait(care.quarantine([key_of(lost)], ADMIN)) == 1
    medium = house.wait(library.find(*key_of(lost)))
    assert medium is not None and medium.file is not None
    library.store.delete([medium.file])
    assert is_there(house, upload(house, BOB, bad * 2))


def test_what_comes_into_quarantine_while_a_file_is_looked_at_counts(
    house: LivedInHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    care = house.house.media.care
    bad = picture("PNG", 200, 200)
    other = bad[:-1] + b"\0"
    uris = [upload(house, ALICE, data) for data in (other, bad)]
    assert house.wait(care.quarantine([key_of(uris[0])], ADMIN)) == 1
    digest = Library._digest

    async def quarantine_meanwhile(library: Library, file: str) -> bytes:
        await care.quarantine([key_of(uris[1])], ADMIN)
        return await digest(library, file)

    monkeypatch.setattr(Library, "_digest", quarantine_meanwhile)
    assert not is_there(house, upload(house, BOB, bad))


def digests(house: LivedInHouse, uris: Sequence[str]) -> list[bytes | None]:
    found = [house.wait(house.house.media.library.find(*key_of(uri))) for uri in uris]
    return [medium.sha256 for medium in found if medium is not None]


def test_quarantine_of_a_person_and_a_room(house: LivedInHouse, room: str) -> None:
    care = house.house.media.care
    alices = [upload(house, ALICE, picture(seed=seed)) for seed in range(3)]
    bobs = [upload(house, BOB, picture(seed=10 + seed)) for seed in range(3)]
    show(house, BOB, room, bobs[0])
    house.redact(BOB, room, show(house, BOB, room, "mxc://test.example/nothing"))
    house.say(BOB, room, "mxc://elsewhere.example/theirs")
    assert house.wait(care.quarantine_room(room, ADMIN)) == 2
    assert [is_there(house, uri) for uri in bobs] == [False, True, True]
    assert house.wait(care.quarantine_user(house.user(ALICE), ADMIN)) == 3
    assert not any(is_there(house, uri) for uri in alices)
    with pytest.raises(NotFound):
        house.wait(care.quarantine_room("!nowhere:test.example", ADMIN))
    assert house.wait(care.delete_user(house.user(BOB))) == 3
    assert not any(is_there(house, uri) for uri in bobs)


def test_a_file_in_quarantine_stays_though_its_message_goes(house: LivedInHouse, room: str) -> None:
    uri = upload(house, ALICE, picture())
    event_id = show(house, ALICE, room, uri)
    house.wait(house.house.media.care.quarantine([key_of(uri)], ADMIN))
    house.redact(ALICE, room, event_id)
    assert len(files(house)) == 1
    assert not is_there(house, uri)


def test_files_that_nobody_asks_for(house: LivedInHouse, room: str) -> None:
    media = house.house.media
    object.__setattr__(media.care, "_settings", attrs.evolve(media.care._settings, local_keep_ms=10 * 3_600_000))
    old, used, emoji, messaged = (upload(house, ALICE, picture(seed=seed)) for seed in range(4))
    house.set_state(ALICE, room, "m.room.image_pack", {"images": {"smile": {"url": emoji}}}, "pack")
    show(house, ALICE, room, messaged)
    later(house, 8 * 3_600_000)
    download(house, used)
    files(house)
    later(house, 3 * 3_600_000)
    files(house)
    assert [is_there(house, uri) for uri in (old, used, emoji, messaged)] == [False, True, True, False]


# -- thumbnails as they are served -------------------------------------------------------------------------------------


def test_thumbnails_are_made_once(house: LivedInHouse) -> None:
    uri = upload(house, ALICE, picture("PNG", 500, 400))
    for _ in range(3):
        assert opened(thumbnail(house, uri, 90, 90, "crop").body).size == (96, 96)
    assert house.house.media.thumbnails.made == 1
    assert thumbnail(house, uri, 2000, 2000).body == picture("PNG", 500, 400)
    assert thumbnail(house, uri, 500, 400).body == picture("PNG", 500, 400)
    assert house.house.media.thumbnails.made == 1


def test_what_moves(house: LivedInHouse) -> None:
    uri = upload(house, ALICE, moving("GIF"), "image/gif")
    assert thumbnail(house, uri, 96, 96, animated=True).type == "image/webp"
    assert thumbnail(house, uri, 96, 96).type in ("image/jpeg", "image/png")
    assert thumbnail(house, uri, 2000, 2000, animated=True).body == moving("GIF")
    still = thumbnail(house, uri, 2000, 2000)
    assert (opened(still.body).size, getattr(opened(still.body), "n_frames", 1)) == ((400, 300), 1)
    made = house.house.media.thumbnails.made
    uri = upload(house, ALICE, picture("PNG", 200, 200))
    assert thumbnail(house, uri, 32, 32, animated=True).body == thumbnail(house, uri, 32, 32).body
    assert house.house.media.thumbnails.made == made + 1, "what stands still has one form"


def test_a_picture_that_says_it_is_text(house: LivedInHouse) -> None:
    """A thumbnail is what it is, whatever was said of the file."""
    for width in (96, 1000):
        small = thumbnail(house, upload(house, ALICE, picture("PNG", 200, 200), "text/html"), width, width)
        assert small.type == "image/png"
        assert small.headers["Content-Disposition"].startswith("inline")


def test_sizes_that_are_none() -> None:
    for width, height in ((0, 5), (-1, 5), (5, 0), (10**7, 5)):
        with pytest.raises(InvalidParam):
            Shape(width, height)


def test_what_failed_is_not_tried_again(house: LivedInHouse) -> None:
    workshop = house.house.media.workshop
    uri = upload(house, ALICE, b"no picture", "text/plain")
    for _ in range(3):
        with pytest.raises(MatrixError) as caught:
            thumbnail(house, uri, 32, 32)
        assert (caught.value.status, caught.value.errcode) == (400, "M_UNKNOWN")
    assert workshop.failed == 1
    later(house, 25 * 3_600_000)
    with pytest.raises(MatrixError):
        thumbnail(house, uri, 32, 32)
    assert workshop.failed == 2, "but after a day it is"
