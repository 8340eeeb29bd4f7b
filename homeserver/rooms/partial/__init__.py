"""Rooms that this server entered with most of the members left out, on their way to being whole.

    joined with members left out ── usable at once ─────────────────────────────────────────────── whole
                                     │  resync      asks one server after the other for the state before the join
                                     │  retrial     judges again, by that state, what came in the meantime
                                     └─ completion  puts all of it in the place of what was thought until then

What may be done with a room until then, and who waits, is told in docs/decisions/0007-partial-state.md. That a room is
partial is written down with the join (`storage.partial`), so whatever happens it goes on where it was.

Spec: https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid
"""
