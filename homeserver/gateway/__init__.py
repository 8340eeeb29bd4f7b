"""The gateway: one WebSocket on which a client hears what happens and says what it wants, in place of long polling.

    upgrade      the route, and how an HTTP request becomes a connection
    socket       WebSocket frames, by autobahn; what a slow client does to us
    connection   one client from its first message to its last
    lobby        all connections: limits, revoked tokens, pings, the end
    stream       what happened between two places of the stream, for one person
    frames       an event's bytes, made once for all who are told of it
    families/    what is said of which event, a family of names a file
    voice/       who is in which voice channel, and what they pass to each other
    friends      dm.* and friend_request.*, passed on from homeserver.friends
    calls        what clients ask for, done by the same handlers as over HTTP

A connection's place is a position of the stream, as a `/sync` token is, and no queue: what a client missed is read
from where it stopped, from memory where that is recent. Contract: `docs/gateway.md`.
"""
