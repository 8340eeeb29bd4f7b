"""A small federation of real processes on this machine: several of our servers, a Synapse beside them if there is one,
each with its own name and certificate, and lines between them that can be disturbed.

`town.py` puts it together; the verb `harness` and the project's tests are its only users, and no server imports it.
"""
