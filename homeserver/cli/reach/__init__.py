"""What the world sees of this server: `check` goes the ways that other servers and clients go.

    peers       server name ── .well-known ── SRV ── DNS ── TCP and TLS ── is it us?
    clients     public_baseurl ── TLS ── /_matrix/client/versions, and /.well-known/matrix/client
    way_out     a notary's answer, and its clock

Whoever looks from inside a network may see what others do not, and the other way round: that is said where it matters.
"""
