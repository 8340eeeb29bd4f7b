"""Rooms as they are shown to those outside of them, and the trees that they form: spaces.

children.py    which rooms a space names as its own, and in which order
local.py       rooms that this server is in: who may be shown them
elsewhere.py   the port to other servers for the rest
walk.py        from a space down its tree, page by page, for clients
summaries.py   one room, for clients
serve.py       a space and what is directly below it, for other servers
"""
