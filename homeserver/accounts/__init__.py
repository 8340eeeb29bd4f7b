"""Accounts: who lives on this server, how they prove it, and on which devices they are."""
