"""The homeserver itself: accounts, rooms, sync and the client API, above `storage`, `federation` and `config`."""

__version__ = "0.1.0.dev0"
