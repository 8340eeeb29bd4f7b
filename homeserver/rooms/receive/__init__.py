"""Events from peers on their way to the one door: gathered with what they rest on, judged, and placed.

    gather   what an event cites and this server does not have is asked for, with limits
    judge    by the events it cites, by the state before it, by the room as it is now
    place    where it leaves the room: extremities, resolved state, what everybody is shown

Spec: https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu
"""
