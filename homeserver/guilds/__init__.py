"""Guilds: rooms that are servers in Discord's sense, with roles, channels and categories as signed state.

permissions  what may be permitted, and who may do what in a channel: pure
model        a guild as its state says: pure
ranks        who may act on whom: pure
projection   the power levels that come of roles: pure
"""
