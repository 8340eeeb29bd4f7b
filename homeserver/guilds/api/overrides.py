"""Overrides of channels and categories: what they are in events and answers, and who may change them.

The first override that a channel is given of its own copies those of its category, which it does not look at any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from federation.room.identifiers import InvalidIdentifier, parse_user_id
from homeserver.errors import InvalidParam, NotFound
from homeserver.guilds.api.fields import (
    MOST_OVERRIDES,
    PermissionNames,
    check_count,
    read_permission_names,
)
from homeserver.guilds.editor import Edit
from homeserver.guilds.model import Category, Channel, Guild, Overrides, read_overrides
from homeserver.guilds.permissions import (
    EVERYONE,
    GUILD_WIDE,
    MANAGE_ROLES,
    NOTHING,
    Override,
    Permissions,
    outcome,
    permission_names,
    steps_in_channel,
)
from homeserver.guilds.ranks import check_above, check_role, refuse_grant, refuse_without


class OverrideBody(msgspec.Struct, frozen=True):
    """What a channel or category gives a role or member beside its permissions, and what it takes."""

    allow: PermissionNames = []
    deny: PermissionNames = []


OverridesBody: TypeAlias = Annotated[dict[str, OverrideBody], Meta(max_length=MOST_OVERRIDES)]
"""By role or user id."""
RawOverrides: TypeAlias = dict[str, Any]
"""As they stand in an event, with what a newer version of ours may have put there."""


def override_answers(overrides: Overrides | None) -> dict[str, OverrideBody] | None:
    if overrides is None:
        return None
    return {
        target: OverrideBody(permission_names(one.allow), permission_names(one.deny))
        for target, one in sorted(overrides.items())
    }


def read_override(body: OverrideBody, field: str = "") -> Override:
    """Raises InvalidParam for what is no permission, is of the whole guild, or is allowed and denied at once."""
    allow = read_permission_names(body.allow, f"{field}allow")
    deny = read_permission_names(body.deny, f"{field}deny")
    for name, permissions in (("allow", allow), ("deny", deny)):
        if permissions & GUILD_WIDE:
            wide = ", ".join(permission_names(permissions & GUILD_WIDE))
            raise InvalidParam(f"`{field}{name}`: {wide} can't be overridden: it is of the guild, not of a channel")
    if allow & deny:
        both = ", ".join(permission_names(allow & deny))
        raise InvalidParam(f"`{field}deny`: {both} is in `{field}allow`, too")
    return Override(allow, deny)


def raw(override: Override) -> dict[str, list[str]]:
    return {"allow": permission_names(override.allow), "deny": permission_names(override.deny)}


def raw_overrides(value: object) -> RawOverrides:
    """A copy of those in an event's content, to be changed."""
    return dict(value) if isinstance(value, Mapping) else {}


def permissions_in_category(guild: Guild, user_id: str, category: Category) -> Permissions:
    """What somebody may do in a channel that has just its category's overrides."""
    is_owner = guild.is_owner(user_id)
    grants = guild.grants(guild.member(user_id).roles)
    return outcome(steps_in_channel(grants, user_id, category.overrides, is_owner=is_owner, is_announcement=False))


def check_targets(edit: Edit, actor: str, targets: Iterable[str]) -> None:
    """Raises NotFound for who or what is not in the guild, Forbidden for who or what stands above the actor."""
    guild = edit.guild
    for target in targets:
        if not target.startswith("@"):
            if guild.role(target) is None:
                raise NotFound(f"There is no role {target!r} in this guild")
            if target != EVERYONE:
                check_role(guild, actor, target)
            continue
        _parse_user(target)
        if target != actor:
            check_above(guild, actor, target)


def check_change(edit: Edit, actor: str, may: Permissions, before: Overrides, after: Overrides) -> None:
    """Raises Forbidden unless the actor, who may do `may` there, may put these overrides in the place of those."""
    refuse_without(may, MANAGE_ROLES)
    changed = NOTHING
    targets = []
    for target in sorted(before.keys() | after.keys()):
        was, is_now = before.get(target, Override()), after.get(target, Override())
        if was != is_now:
            if target in after or edit.guild.role(target) is not None or target.startswith("@"):
                targets.append(target)  # what is of a role that is gone anybody may clear away
            changed |= (was.allow ^ is_now.allow) | (was.deny ^ is_now.deny)
    check_targets(edit, actor, targets)
    refuse_grant(may, changed)


def with_override(edit: Edit, raw_before: RawOverrides, target: str, override: Override) -> RawOverrides:
    """The overrides with one set. Raises NotFound for somebody who is not in the guild and has none yet."""
    if target not in raw_before:
        if target.startswith("@"):
            _parse_user(target)
            edit.require_member(target)
        elif edit.guild.role(target) is None:
            raise NotFound(f"There is no role {target!r} in this guild")
        check_count(len(raw_before), MOST_OVERRIDES, "overrides in one channel or category")
    return {**raw_before, target: raw(override)}


def without_override(raw_before: RawOverrides, target: str) -> RawOverrides:
    """The overrides without one. Raises NotFound."""
    if target not in raw_before:
        raise NotFound(f"There is no override for {target!r}")
    return {name: value for name, value in raw_before.items() if name != target}


def new_overrides(edit: Edit, actor: str, may: Permissions, body: Mapping[str, OverrideBody]) -> RawOverrides:
    """Those that something new begins with, if the actor may set them."""
    found: RawOverrides = {}
    for target, one in body.items():
        found = with_override(edit, found, target, read_override(one, f"overrides.{target}."))
    if found:
        check_change(edit, actor, may, {}, read_overrides(found) or {})
    return found


def own_overrides(edit: Edit, channel: Channel, content: Mapping[str, Any]) -> RawOverrides:
    """A channel's own overrides, or a copy of its category's where it has none."""
    if channel.overrides is not None:
        return raw_overrides(content.get("overrides"))
    category = edit.guild.category_of(channel)
    if category is None:
        return {}
    return raw_overrides(edit.content("chat.guildhall.category", category.category_id).get("overrides"))


def _parse_user(target: str) -> None:
    try:
        parse_user_id(target)
    except InvalidIdentifier as error:
        raise InvalidParam(f"`target`: {error}") from None
