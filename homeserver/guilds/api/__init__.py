"""The HTTP API of guilds: a feature is a file, with its asks, its answers and its handlers.

desk         what they share: who may look at a guild, and changing one in somebody's name
fields       what strangers may send, with its limits
overrides    of channels and categories, as they stand in events
all          every module, for the route table

Contract: `docs/guilds.md`.
"""
