"""A guild as the state of its room says: roles, members, categories and channels, read leniently.

The events are signed state that any server may show us, so whatever in them makes no sense counts as absent; the API
is where bad input is refused. A `Guild` is a value: a change gives another one that shares almost everything with it,
and costs the same in a guild of ten people and of ten thousand.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from immutables import Map

from federation.room.acl import ServerAcl
from homeserver.guilds.permissions import (
    ADMINISTRATOR,
    EVERYONE,
    GUILD_WIDE,
    NOTHING,
    VIEW_CHANNEL,
    Override,
    Permissions,
    Step,
    outcome,
    read_permissions,
    steps_in_channel,
    steps_in_guild,
)

ADMIN: Final = "admin"
"""The role that always exists beside `everyone`, and stands above all others."""

GUILD_TYPE: Final = "chat.guildhall.guild"
ROLE_TYPE: Final = "chat.guildhall.role"
MEMBER_TYPE: Final = "chat.guildhall.member"
CATEGORY_TYPE: Final = "chat.guildhall.category"
CHANNEL_TYPE: Final = "chat.guildhall.channel"
CHILD_TYPE: Final = "m.space.child"
IN_CATEGORY: Final = "chat.guildhall.category"
"""The key of an `m.space.child`'s content that says in which category a channel stands."""

ACL_TYPE: Final = "m.room.server_acl"
OPEN_TO_ALL: Final[Mapping[str, Any]] = {"allow": ["*"], "deny": [], "allow_ip_literals": True}
"""The content of an access list that keeps nobody out."""

OWN_TYPES: Final = frozenset([GUILD_TYPE, ROLE_TYPE, MEMBER_TYPE, CATEGORY_TYPE, CHANNEL_TYPE, CHILD_TYPE, ACL_TYPE])
"""The types of which a guild is made."""

TEXT: Final = "text"
VOICE: Final = "voice"
ANNOUNCEMENT: Final = "announcement"
KINDS: Final = (TEXT, VOICE, ANNOUNCEMENT)

Overrides = Mapping[str, Override]
"""By role or user id."""


class Settings(msgspec.Struct, frozen=True, gc=False):
    """`chat.guildhall.guild`."""

    owner: str = ""
    banner: str | None = None
    system_channel: str | None = None
    discoverable: bool = False
    lazy: bool | None = None
    """None: as the number of members suggests."""
    policy: bool = False
    transcription: str | None = None


class Role(msgspec.Struct, frozen=True, gc=False):
    """`chat.guildhall.role`, by role id."""

    role_id: str
    name: str
    permissions: Permissions = NOTHING
    position: int = 0
    """Higher ranks above lower."""
    color: str | None = None
    hoist: bool = False
    mentionable: bool = False


class Member(msgspec.Struct, frozen=True, gc=False):
    """`chat.guildhall.member`, by `_` and the user id. Who has no such event has no roles and no nickname."""

    roles: tuple[str, ...] = ()
    """Without `everyone`, sorted by id; some may have been deleted since."""
    nick: str | None = None


class Category(msgspec.Struct, frozen=True, gc=False):
    """`chat.guildhall.category`, by category id."""

    category_id: str
    name: str
    order: str = ""
    overrides: Overrides = msgspec.field(default_factory=dict)


class Channel(msgspec.Struct, frozen=True, gc=False):
    """`chat.guildhall.channel`, by the channel's room id."""

    room_id: str
    kind: str = TEXT
    overrides: Overrides | None = None
    """None: it has those of its category."""
    slowmode_s: int = 0


class Place(msgspec.Struct, frozen=True, gc=False):
    """`m.space.child`: where a channel stands among the others."""

    order: str = ""
    category_id: str | None = None


class Acl(msgspec.Struct, frozen=True, gc=False):
    """`m.room.server_acl`: which servers may take part, in the guild's room and in its channels."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    allow_ip_literals: bool = True

    @property
    def content(self) -> dict[str, Any]:
        return {"allow": list(self.allow), "deny": list(self.deny), "allow_ip_literals": self.allow_ip_literals}


NOBODY: Final = Member()


class Guild(msgspec.Struct, frozen=True):
    """A guild at one moment."""

    room_id: str
    settings: Settings = Settings()
    roles: Map[str, Role] = Map()
    members: Map[str, Member] = Map()
    """By user id."""
    holders: Map[tuple[str, ...], Map[str, None]] = Map()
    """Set of roles → who has just these: there are few sets, however many members there are."""
    categories: Map[str, Category] = Map()
    channels: Map[str, Channel] = Map()
    places: Map[str, Place] = Map()
    """By room id, of channels and maybe of other rooms that are in the space."""
    acl: Acl | None = None

    # -- roles -------------------------------------------------------------------------------------------------

    def role(self, role_id: str) -> Role | None:
        """The role, also a built-in one of which there is no event."""
        found = self.roles.get(role_id)
        return _BUILT_IN.get(role_id) if found is None else found

    def roles_in_order(self) -> list[Role]:
        """Highest first: `admin`, the others by position, `everyone`."""
        between = [role for role in self.roles.values() if role.role_id not in _BUILT_IN]
        between.sort(key=lambda role: (-role.position, role.role_id))
        first, last = self.role(ADMIN), self.role(EVERYONE)
        assert first is not None and last is not None
        return [first, *between, last]

    def member(self, user_id: str) -> Member:
        return self.members.get(user_id, NOBODY)

    def is_owner(self, user_id: str) -> bool:
        return user_id == self.settings.owner

    def grants(self, role_ids: Iterable[str]) -> list[tuple[str, Permissions]]:
        """What `everyone` and these roles permit, those that exist: lowest first."""
        everyone = self.role(EVERYONE)
        assert everyone is not None
        found = [role for role_id in role_ids if (role := self.role(role_id)) is not None and role_id != EVERYONE]
        found.sort(key=_height)
        return [(role.role_id, role.permissions) for role in [everyone, *found]]

    def rank(self, user_id: str) -> float:
        """How high somebody stands: the greatest position among their roles, infinity for the owner."""
        if self.is_owner(user_id):
            return math.inf
        return max((self.height(role_id) for role_id in self.member(user_id).roles), default=0.0)

    def height(self, role_id: str) -> float:
        """The position of a role; `admin` stands above all others, unknown ones as low as `everyone`."""
        role = self.role(role_id)
        return 0.0 if role is None else _height(role)[0]

    # -- permissions -------------------------------------------------------------------------------------------

    def explain(self, user_id: str, channel: Channel | None = None) -> Iterator[Step]:
        """How somebody's permissions come about, in the guild or in a channel of it."""
        return self.steps(self.member(user_id).roles, user_id, channel)

    def permissions(self, user_id: str, channel: Channel | None = None) -> Permissions:
        """What somebody may do in the guild, or in a channel of it."""
        return outcome(self.explain(user_id, channel))

    def steps(self, role_ids: Iterable[str], user_id: str, channel: Channel | None) -> Iterator[Step]:
        """As `explain`, for somebody who would have these roles. An empty `user_id`: anybody who has just these."""
        grants, is_owner = self.grants(role_ids), bool(user_id) and self.is_owner(user_id)
        if channel is None:
            return steps_in_guild(grants, user_id, is_owner=is_owner)
        return steps_in_channel(
            grants,
            user_id,
            self.overrides_in(channel),
            is_owner=is_owner,
            is_announcement=channel.kind == ANNOUNCEMENT,
        )

    def overrides_in(self, channel: Channel) -> Overrides:
        """Those that hold in a channel: its own, or where it has not even an empty set of them, its category's."""
        if channel.overrides is not None:
            return channel.overrides
        category = self.category_of(channel)
        return {} if category is None else category.overrides

    def is_open(self, channel: Channel) -> bool:
        """Whether everybody in the guild may view a channel, but for those whom an override shuts out."""
        return bool(outcome(self.steps((), "", channel)) & VIEW_CHANNEL)

    # -- places ------------------------------------------------------------------------------------------------

    def category_of(self, channel: Channel) -> Category | None:
        place = self.places.get(channel.room_id)
        return None if place is None or place.category_id is None else self.categories.get(place.category_id)

    def categories_in_order(self) -> list[Category]:
        return sorted(self.categories.values(), key=lambda category: (_by_order(category.order), category.category_id))

    def channels_in_order(self) -> list[Channel]:
        """Those of no category first, then category by category."""
        rows = {category.category_id: row for row, category in enumerate(self.categories_in_order())}

        def key(channel: Channel) -> tuple[int, tuple[bool, str], str]:
            place, category = self.places.get(channel.room_id, _NOWHERE), self.category_of(channel)
            row = -1 if category is None else rows[category.category_id]
            return row, _by_order(place.order), channel.room_id

        return sorted(self.channels.values(), key=key)

    # -- changes -----------------------------------------------------------------------------------------------

    def changed(self, event_type: str, state_key: str, content: Mapping[str, Any]) -> Guild:
        """The guild after a piece of its state became something else. `content` is empty where it was taken away."""
        match event_type:
            case "chat.guildhall.guild" if state_key == "":
                return msgspec.structs.replace(self, settings=_read_settings(content))
            case "chat.guildhall.role":
                return self._with("roles", self.roles, state_key, _read_role(state_key, content))
            case "chat.guildhall.member" if state_key.startswith("_@"):
                return self._with_member(state_key[1:], _read_member(content))
            case "chat.guildhall.category":
                return self._with("categories", self.categories, state_key, _read_category(state_key, content))
            case "chat.guildhall.channel":
                return self._with("channels", self.channels, state_key, _read_channel(state_key, content))
            case "m.room.server_acl" if state_key == "":
                return msgspec.structs.replace(self, acl=_read_acl(content))
            case "m.space.child":
                return self._with("places", self.places, state_key, _read_place(content))
        return self

    def _with(self, field: str, map: Map[str, Any], key: str, value: object | None) -> Guild:
        if value is None:
            return self if key not in map else msgspec.structs.replace(self, **{field: map.delete(key)})
        return msgspec.structs.replace(self, **{field: map.set(key, value)})

    def _with_member(self, user_id: str, member: Member) -> Guild:
        holders, before = self.holders, self.member(user_id).roles
        if before != member.roles:
            if before:
                left = holders[before].delete(user_id)
                holders = holders.set(before, left) if left else holders.delete(before)
            if member.roles:
                holders = holders.set(member.roles, holders.get(member.roles, Map()).set(user_id, None))
        members = self.members
        if member != NOBODY:
            members = members.set(user_id, member)
        elif user_id in members:
            members = members.delete(user_id)
        return msgspec.structs.replace(self, members=members, holders=holders)


def guild_of(room_id: str, state: Iterable[tuple[str, str, Mapping[str, Any]]]) -> Guild:
    """The guild that these pieces of state (type, state key, content) make, in whatever order they come."""
    guild = Guild(room_id)
    for event_type, state_key, content in state:
        guild = guild.changed(event_type, state_key, content)
    return guild


def read_overrides(value: object) -> Overrides | None:
    """The overrides in an event's content; None where there are none to be read. Keys that name nobody do no harm."""
    if not isinstance(value, Mapping):
        return None
    found = {}
    for target, override in value.items():
        if isinstance(override, Mapping):
            allow, deny = read_permissions(override.get("allow")), read_permissions(override.get("deny"))
            found[target] = Override(allow & ~GUILD_WIDE, deny & ~GUILD_WIDE)
    return found


_NOWHERE: Final = Place()
_BUILT_IN: Final[Mapping[str, Role]] = {
    # A guild whose events were taken away permits nothing, rather than what a template would have permitted.
    EVERYONE: Role(EVERYONE, "everyone"),
    ADMIN: Role(ADMIN, "admin", ADMINISTRATOR),
}


def _height(role: Role) -> tuple[float, str]:
    """By what roles are ordered, lowest first. The built-in ones have their places whatever their events say."""
    if role.role_id == ADMIN:
        return float(2**53), role.role_id
    return 0.0 if role.role_id == EVERYONE else float(role.position), role.role_id


def _by_order(order: str) -> tuple[bool, str]:
    """What has no `order` comes last.

    Spec: https://spec.matrix.org/v1.19/client-server-api/#ordering-of-children-within-a-space
    """
    return not order, order


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: object) -> int:
    return value if type(value) is int else 0


def _read_order(value: object) -> str:
    is_valid = isinstance(value, str) and len(value) <= 50 and all(" " <= character <= "~" for character in value)
    return str(value) if is_valid else ""


def _read_settings(content: Mapping[str, Any]) -> Settings:
    lazy = content.get("lazy")
    return Settings(
        owner=_text(content.get("owner")) or "",
        banner=_text(content.get("banner")),
        system_channel=_text(content.get("system_channel")),
        discoverable=content.get("discoverable") is True,
        lazy=lazy if isinstance(lazy, bool) else None,
        policy=content.get("policy") is True,
        transcription=_text(content.get("transcription")),
    )


def _read_acl(content: Mapping[str, Any]) -> Acl | None:
    if not content:
        return None
    read = ServerAcl.parse(content)
    return Acl(read.allow, read.deny, read.allow_ip_literals)


def _read_role(role_id: str, content: Mapping[str, Any]) -> Role | None:
    name = _text(content.get("name"))
    if name is None or role_id.startswith("@"):
        return None
    permissions = read_permissions(content.get("permissions"))
    if role_id == ADMIN:
        permissions |= ADMINISTRATOR
    return Role(
        role_id,
        name,
        permissions,
        max(0, _whole(content.get("position"))),
        _text(content.get("color")),
        content.get("hoist") is True,
        content.get("mentionable") is True,
    )


def _read_member(content: Mapping[str, Any]) -> Member:
    named: Sequence[object] = roles if isinstance(roles := content.get("roles"), list) else ()
    role_ids = {role_id for role_id in named if isinstance(role_id, str) and role_id != EVERYONE}
    return Member(tuple(sorted(role_ids)), _text(content.get("nick")))


def _read_category(category_id: str, content: Mapping[str, Any]) -> Category | None:
    name = _text(content.get("name"))
    if name is None:
        return None
    return Category(
        category_id, name, _read_order(content.get("order")), read_overrides(content.get("overrides")) or {}
    )


def _read_channel(room_id: str, content: Mapping[str, Any]) -> Channel | None:
    kind = content.get("kind")
    if kind not in KINDS:
        return None
    slowmode_s = max(0, _whole(content.get("slowmode_s")))
    return Channel(room_id, kind, read_overrides(content.get("overrides")), slowmode_s)


def _read_place(content: Mapping[str, Any]) -> Place | None:
    if not isinstance(content.get("via"), list):
        return None
    return Place(_read_order(content.get("order")), _text(content.get(IN_CATEGORY)))
