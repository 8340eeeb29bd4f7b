"""Guilds of every shape, as hypothesis makes them: roles, members, channels, overrides."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from homeserver.guilds.model import KINDS, Guild, guild_of
from homeserver.guilds.permissions import NAMES

OWNER = "@owner:a.example"
USERS = [f"@{name}:{server}.example" for name in ("ann", "bob", "cat", "dan") for server in ("a", "b")]
ROLES = ["everyone", "admin", "mods", "verified", "muted", "press"]
CHANNELS = ["!general", "!news", "!staff"]
CATEGORIES = ["lobby", "backstage"]

#: What matters for levels more often than the rest.
CARRIED = ["view_channel", "send_messages", "add_reactions", "connect", "edit_channel", "mention_everyone",
           "manage_messages", "manage_guild"]  # fmt: skip

permission_lists = st.lists(st.sampled_from(CARRIED) | st.sampled_from(NAMES), max_size=9, unique=True)
overrides = st.dictionaries(
    st.sampled_from(ROLES + USERS),
    st.fixed_dictionaries({"allow": permission_lists, "deny": permission_lists}),
    max_size=4,
)
roles = st.fixed_dictionaries(
    {"name": st.just("a role"), "permissions": permission_lists, "position": st.integers(0, 9)}
)
members = st.fixed_dictionaries({"roles": st.lists(st.sampled_from(ROLES), max_size=3)})
channels = st.fixed_dictionaries({"kind": st.sampled_from(KINDS)}, optional={"overrides": overrides})

categories = st.fixed_dictionaries({"name": st.just("a category"), "overrides": overrides})
places = st.fixed_dictionaries({"via": st.just(["a.example"]), "chat.guildhall.category": st.sampled_from(CATEGORIES)})

State = dict[tuple[str, str], dict[str, Any]]


def _keyed(event_type: str, keys: list[str], contents: st.SearchStrategy[Any]) -> st.SearchStrategy[State]:
    return st.dictionaries(st.sampled_from(keys), contents).map(
        lambda found: {(event_type, key): content for key, content in found.items()}
    )


states = st.tuples(
    st.just({("chat.guildhall.guild", ""): {"version": 1, "owner": OWNER}}),
    _keyed("chat.guildhall.role", ROLES, roles),
    _keyed("chat.guildhall.member", [f"_{user}" for user in [*USERS, OWNER]], members),
    _keyed("chat.guildhall.category", CATEGORIES, categories),
    _keyed("chat.guildhall.channel", CHANNELS, channels),
    _keyed("m.space.child", CHANNELS, places),
).map(lambda parts: {key: content for part in parts for key, content in part.items()})

guilds = states.map(lambda state: guild_of("!guild", [(kind, key, content) for (kind, key), content in state.items()]))


def all_channels(guild: Guild) -> list[Any]:
    return [None, *guild.channels.values()]
