"""This server as the client of its peers: rooms that live elsewhere.

peers        what is asked of other servers, and their answers in typed shapes
doorway      joining, leaving and knocking through a server that is in the room
outside      memberships of rooms that this server is not in: invitations, knocks, and their ends
invitations  inviting people of other servers, and being invited by them
delivery     which servers hear of which of our events
backfill     the past of rooms from before this server was there
"""
