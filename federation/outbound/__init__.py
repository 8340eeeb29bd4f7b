"""Requests to other servers: what they are, how they get there, and who signs them."""
