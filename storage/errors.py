"""What can go wrong between the house and its database.

StorageError
├── DatabaseUnusable        at start: nothing can be done before somebody acts
│   ├── DatabaseTooNew      written by a later version of this program
│   ├── WrongServerName     belongs to another server
│   └── DatabaseBusy        another process of this kind has it open
├── Outage                  nothing is wrong with what was asked for: later it may be had
│   ├── DatabaseClosed      asked after `close`
│   ├── ConnectionLost      the connection broke before the commit: certainly not written
│   ├── CommitUnknown       the connection broke during the commit: written or not
│   └── RoomPoisoned        builds upon an append that failed
├── DuplicateRow            what should be unique is there already: a transaction id, an event, a user
└── UnknownAuthEvent        a state event cites an event that was never stored
"""

from __future__ import annotations


class StorageError(Exception):
    """Any failure that this package reports by itself; other exceptions come from the function that was run."""


class DatabaseUnusable(StorageError):
    """The database cannot be used as it is; the message is for whoever runs the server."""


class DatabaseTooNew(DatabaseUnusable):
    """The database was upgraded by a later version of this program."""


class WrongServerName(DatabaseUnusable):
    """The database belongs to a server of another name, whose name is in every event of it."""


class DatabaseBusy(DatabaseUnusable):
    """Another process is the writer of this database."""


class Outage(StorageError):
    """The database can't be used just now."""


class DatabaseClosed(Outage):
    """The database was closed before this was begun."""


class ConnectionLost(Outage):
    """The connection broke before the commit was asked for. Nothing was written."""


class CommitUnknown(Outage):
    """The connection broke during the commit: it may or may not be written. Read before trying again."""


class DuplicateRow(StorageError):
    """A row with the same key is there already."""


class UnknownAuthEvent(StorageError):
    """An accepted state event cites an auth event that is not stored, so its auth chain has no place in the index."""


class RoomPoisoned(Outage):
    """An append to this room failed and this one came after it, so it may build upon what was never written."""

    def __init__(self, room_nid: int) -> None:
        super().__init__(f"an earlier append to room {room_nid} failed")
        self.room_nid = room_nid
