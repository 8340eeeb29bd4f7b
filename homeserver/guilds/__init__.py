"""Guilds: rooms that are servers in Discord's sense, with roles, channels and categories as signed state.

permissions, model, ranks      what a guild's state says, and who may do what: pure
projection, wanted, orders     what its rooms have to say for that: pure
steward, book                  whose rooms they are; guilds as they stand, beside their rooms
editor, reconcile              changing a guild, and what follows from it in its rooms
create, attendance             making guilds; coming and going
rules, doors                   what they demand of people here, and of memberships
"""
