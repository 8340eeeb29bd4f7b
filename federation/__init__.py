"""What servers must agree on: event formats, authorisation, state resolution, and how servers talk.

Knows nothing of SQL or of the client API. `federation.room` is pure: no I/O, no clock, no randomness.
"""
