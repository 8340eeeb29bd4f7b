"""What is to be said of an event to somebody: gathers what the families look at, and asks them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import field

from federation.bounded import Bounded
from federation.service import service
from homeserver.gateway.families.channels import of_channels
from homeserver.gateway.families.guilds import of_guilds
from homeserver.gateway.families.happening import Happening, Told
from homeserver.gateway.families.messages import REDACTION, of_messages
from homeserver.gateway.families.rooms import of_rooms
from homeserver.gateway.families.voice import of_voice
from homeserver.gateway.voice.booth import Roll
from homeserver.gateway.voice.memberships import CALL_MEMBER
from homeserver.guilds.book import GuildBook
from homeserver.guilds.model import CHANNEL_TYPE, Guild
from homeserver.guilds.permissions import VIEW_CHANNEL
from homeserver.guilds.steward import guild_id_of
from homeserver.guilds.viewers import is_lazy
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.registry import Rooms
from storage import events as event_rows
from storage.database import Database
from storage.ports import StoredEvent

Family = Callable[[Happening], Sequence[Told]]

FAMILIES: Sequence[Family] = (of_messages, of_rooms, of_guilds, of_channels, of_voice)


@service
class Teller:
    """See the module's docstring."""

    rooms: Rooms
    events: EventCache
    book: GuildBook
    database: Database
    roll: Roll
    families: Sequence[Family] = FAMILIES
    _redactions: Bounded[int, tuple[str, bool]] = field(factory=lambda: Bounded(1_000))

    async def tell(self, room: LiveRoom, stored: StoredEvent, user_id: str) -> Sequence[Told]:
        """Everything to be said of it, in order. The person may see the event."""
        event = stored.event
        if event.state_key is None and event.type != REDACTION:
            # The usual case needs nothing of all that.
            return of_messages(Happening(event, {}, room.create.sender))
        guild_id = guild_id_of(room)
        home = None if guild_id is None else await self.rooms.get(guild_id)
        guild = None if home is None else await self.book.find(home)
        happening = Happening(
            event,
            await self._content(stored.replaces),
            room.create.sender,
            is_own=event.type == "m.room.member" and event.state_key == user_id,
            guild_id=None if guild is None else guild.room_id,
            is_lazy=guild is not None and home is not None and is_lazy(guild, home),
            is_member=home is not None and home.membership_of(user_id) == "join",
            is_channel=guild is not None and room.room_id in guild.channels,
            in_call=await self.roll.of(room) if event.type == CALL_MEMBER else None,
            redacted=await self._redacted(room, stored) if event.type == REDACTION else None,
        )
        told = [one for family in self.families for one in family(happening)]
        key = event.state_key
        if guild is not None and event.type == CHANNEL_TYPE and key is not None and key not in guild.channels:
            guild = guild.changed(CHANNEL_TYPE, key, happening.before)  # who could view it while it was there
        return [one for one in told if one.channel_id is None or _may_view(guild, one.channel_id, user_id)]

    async def _content(self, nid: int) -> dict[str, object]:
        stored = await self.events.get(nid) if nid else None
        return {} if stored is None else dict(stored.event.content)

    async def _redacted(self, room: LiveRoom, stored: StoredEvent) -> tuple[str, bool] | None:
        event_id = stored.event.redacts
        if event_id is None:
            return None
        known = self._redactions.get(stored.nid)
        if known is not None:
            return known
        for entry in room.window:
            if entry.stored is not None and entry.stored.event.event_id == event_id:
                target = entry.stored
                break
        else:
            loaded = await self.database.run(event_rows.load_by_ids, [event_id])
            read = next(iter(loaded.values()), None)
            if read is None or read.room_nid != room.nid:
                return None
            target = read
        found = target.event.type, target.event.state_key is not None
        self._redactions.put(stored.nid, found)  # a thousand may ask
        return found


def _may_view(guild: Guild | None, room_id: str, user_id: str) -> bool:
    channel = None if guild is None else guild.channels.get(room_id)
    return guild is not None and channel is not None and bool(guild.permissions(user_id, channel) & VIEW_CHANNEL)
