"""Policy servers: rooms in which every event needs the signature of a server that was chosen to look at it first.

guard    whose signature an event in a room needs, and getting it: for our events and for those of peers
entry    the way of our own events into such a room
desk     this server as a policy server of others, where the settings say so
rules    what it looks at

Spec: https://spec.matrix.org/v1.19/server-server-api/#policy-servers
"""
