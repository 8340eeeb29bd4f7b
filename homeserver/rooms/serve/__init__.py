"""What this server answers to its peers about rooms, each answer only to those who may have it.

access      may this server ask about this room at all: we are in it, the ACL lets it in, it is in it too
view        which events it may see, by the history visibility at each of them
graph       single events, states, auth chains, and walks along the graph
handshake   joining, leaving and knocking through this server
handover    the room that a join is answered with
inbox       transactions of new events
edus        and of what passes
"""
