"""The HTTP API of guilds: a feature is a file, with its asks, its answers and its handlers.

desk         what they share: who may look at a guild, and changing one in somebody's name
fields       what strangers may send, with its limits
overrides    of channels and categories, as they stand in events
features     every one of them; `all` has what describes them, too
openapi      the document of all that, made from the routes; docs shows it as a page

Contract: `docs/guilds.md`.
"""
