"""A Python client of the guild API, for bots, scripts and this project's own tests and `demo`.

    from homeserver.guilds.client import GuildsClient, Session

    guilds = GuildsClient(Session("https://example.org", "syt_…"))
    guild = guilds.create("Gardeners", template="community")
    mods = guild.create_role("mods", permissions=["kick_members"])
    guild.give_role("@ann:example.org", mods)

It blocks, and answers what the API answers, as JSON (`/_guildhall/docs` describes it). What is Matrix's own (messages,
reactions, receipts …) is done with any Matrix client. A refusal raises `Refused`.
"""

from homeserver.guilds.client.client import GuildsClient
from homeserver.guilds.client.guild import GuildClient
from homeserver.guilds.client.room import RoomClient
from homeserver.guilds.client.session import Caller, NotReached, Refused, Session

__all__ = ["Caller", "GuildClient", "GuildsClient", "NotReached", "Refused", "RoomClient", "Session"]
