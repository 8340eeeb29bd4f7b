"""From a server's name to the addresses at which it can be reached.

Spec: https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names
"""
