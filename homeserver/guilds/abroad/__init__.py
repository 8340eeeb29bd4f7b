"""Guilds across servers: what members do whose home is another server than the guild's.

errands    a call of somebody here about a guild of another server's, passed on to that server
actions    the other end: such calls of other servers' people, done here in their name
tending    people of this server, brought into the channels of guilds that live elsewhere
"""
