"""The user directory: everybody of this server, and people of others who are seen in rooms that are open to all.

Somebody is found by whoever shares a room with them, and by everybody if they are in a room that anybody may join or
read. They are shown by their profile; of people elsewhere, by what they are called in such a room. What somebody is
called in a private room is told to nobody here.

Spec: https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3user_directorysearch
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from federation.room.identifiers import InvalidIdentifier, parse_user_id, server_of
from federation.service import service
from homeserver.people.words import fold, matches, words_for, words_in
from homeserver.rooms.accept import Accepted
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import HISTORY_VISIBILITY, JOIN_RULES, LiveRoom
from homeserver.tasks import Tasks
from homeserver.userdata.profiles import AVATAR_URL, DISPLAYNAME, Profiles
from storage import people as rows
from storage.database import Database
from storage.directory import listed
from storage.people import Somebody
from storage.ports import Cursor, StoredEvent

DEFAULT_LIMIT = 10
MOST_PEOPLE = 50
"""In one answer."""
MOST_CANDIDATES = 1_000
"""Who match the longest word of a search and are looked at."""
MOST_ROOMS = 50
"""Of one person that are asked whether they are open."""
AT_ONCE = 100
WORLD_READABLE = ("history_visibility", "world_readable")


@service
class PeopleDirectory:
    """Keeps it and searches it. Listens to accounts and profiles, and to the one door."""

    database: Database
    events: EventCache
    profiles: Profiles
    tasks: Tasks
    server_name: str

    async def search(self, user_id: str, term: str, limit: int | None = None) -> dict[str, Any]:
        """Those whom the user may find, best first."""
        most = DEFAULT_LIMIT if limit is None else max(0, min(limit, MOST_PEOPLE))
        searched = words_in(term)
        found = (
            await self.database.run(self._search, user_id, fold(term.strip()), searched, most + 1) if searched else []
        )
        return {"results": [_shown(one) for one in found[:most]], "limited": len(found) > most}

    async def start(self) -> None:
        """Take in accounts of before there was a directory."""
        while missing := await self.database.run(rows.missing, AT_ONCE):
            for user_id in missing:
                await self._renew(user_id)

    # -- who is in it ------------------------------------------------------------------------------------------

    async def account_registered(self, user_id: str, displayname: str | None) -> None:
        """A new account (`homeserver.accounts.ports.AccountListener`)."""
        await self._renew(user_id)

    async def account_deactivated(self, user_id: str, *, erase: bool) -> None:
        await self.database.write(rows.remove, user_id)

    async def profile_changed(self, user_id: str, field: str) -> None:
        """Somebody is called something else (`homeserver.userdata.profiles.ProfileListener`)."""
        if field in (DISPLAYNAME, AVATAR_URL):
            await self._renew(user_id)

    def accepted(self, accepted: Accepted) -> None:
        """Somebody of another server was seen (`homeserver.rooms.accept.Observer`)."""
        strangers = [
            new.stored
            for new in accepted.events
            if new.stored.event.type == "m.room.member"
            and not new.stored.rejected
            and not new.stored.soft_failed
            and new.stored.event.content.get("membership") == "join"
            and (new.stored.event.state_key or "").partition(":")[2] != self.server_name
        ]
        if strangers:
            self.tasks.spawn("people seen", self._see(accepted.room, strangers))

    async def _see(self, room: LiveRoom, seen: Sequence[StoredEvent]) -> None:
        if not await self._is_open_now(room):
            return
        people = []
        for stored in seen:
            try:
                user_id = parse_user_id(stored.event.state_key)
            except InvalidIdentifier:
                continue
            name, avatar_url = (_text(stored.event.content, key) for key in (DISPLAYNAME, AVATAR_URL))
            people.append(Somebody(user_id, name, avatar_url))
        # Of a room that was just entered there may be thousands, and others want to write meanwhile.
        for start in range(0, len(people), AT_ONCE):
            await self.database.write(_put_all, people[start : start + AT_ONCE])

    async def _is_open_now(self, room: LiveRoom) -> bool:
        for key, member, value in ((JOIN_RULES, "join_rule", "public"), (HISTORY_VISIBILITY, *WORLD_READABLE)):
            ref = room.visible.state.get(key)
            stored = None if ref is None else await self.events.get(ref.nid)
            if stored is not None and stored.event.content.get(member) == value:
                return True
        return False

    async def _renew(self, user_id: str) -> None:
        name, avatar_url = await self.profiles.displayname_and_avatar(user_id)
        await self.database.write(_put_all, [Somebody(user_id, name, avatar_url)])

    # -- in a database thread ----------------------------------------------------------------------------------

    def _search(self, cursor: Cursor, user_id: str, term: str, searched: list[str], most: int) -> list[Somebody]:
        longest = max(searched, key=len)
        people = [
            one
            for one in rows.find(cursor, longest, MOST_CANDIDATES)
            if one.user_id != user_id and matches(searched, words_for(one.name, one.user_id))
        ]
        people.sort(key=lambda one: _rank(one, term, self.server_name))
        found: list[Somebody] = []
        for start in range(0, len(people), AT_ONCE):
            some = people[start : start + AT_ONCE]
            acquainted = rows.sharing(cursor, user_id, [one.user_id for one in some])
            for one in some:
                if one.user_id in acquainted or self._is_in_the_open(cursor, one.user_id):
                    found.append(one)
                    if len(found) >= most:
                        return found
        return found

    def _is_in_the_open(self, cursor: Cursor, user_id: str) -> bool:
        nids = rows.rooms_joined(cursor, user_id, MOST_ROOMS)
        for room in listed(cursor, nids):
            rule = room.contents.get("join_rules", {}).get("join_rule")
            history = room.contents.get("history_visibility", {}).get("history_visibility")
            if rule == "public" or history == "world_readable":
                return True
        return False


def _put_all(cursor: Cursor, people: Sequence[Somebody]) -> None:
    for one in people:
        rows.put(cursor, one, words_for(one.name, one.user_id))


def _rank(one: Somebody, term: str, server_name: str) -> tuple[bool, bool, bool, str]:
    """Whose name begins as what was searched comes first, then who has a name, then who is of this server."""
    name = fold(one.name or "")
    return not name.startswith(term), one.name is None, server_of(one.user_id) != server_name, one.user_id


def _shown(one: Somebody) -> dict[str, str]:
    shown = {"user_id": one.user_id}
    if one.name is not None:
        shown["display_name"] = one.name
    if one.avatar_url is not None:
        shown["avatar_url"] = one.avatar_url
    return shown


def _text(content: Mapping[str, Any], key: str) -> str | None:
    value = content.get(key)
    return value if isinstance(value, str) and value else None
