"""Devices and keys of other servers' people, and of ours for them.

known      which lists are here and can be relied on: those of people who share a room with somebody here
resync     reading whole lists, now or as soon as their server answers
inbound    what other servers tell: devices, signing keys, letters
asking     questions of clients about people elsewhere
served     answers to other servers' questions about people here
"""
