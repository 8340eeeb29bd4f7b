"""How often anybody may do something.

Each class of requests has a bucket per user, address or origin server: it holds `burst` requests and refills at
`per_second`. The numbers begin at Synapse's and are raised where those hurt people in practice.
"""

from __future__ import annotations

from attrs import frozen

from config.field import at_least, setting


@frozen
class RateLimit:
    """A bucket: `burst` requests at once, then `per_second` on average."""

    per_second: float = setting(doc="Requests a second, on average.", check=at_least(0.0001))
    burst: int = setting(doc="Requests at once, after a pause.", check=at_least(1))


def _bucket(per_second: float, burst: int, doc: str) -> RateLimit:
    made: RateLimit = setting(RateLimit(per_second, burst), doc=doc)
    return made


@frozen(kw_only=True)
class RateLimits:
    """How often anybody may do something."""

    enabled: bool = setting(True, doc="Off means no limits at all: for tests and measurements.")

    # Clients, per user
    message: RateLimit = _bucket(1.0, 30, "Sending messages and state.")
    delayed_event: RateLimit = _bucket(2.0, 60, "Acting on delayed events; calls do so every few seconds.")
    read: RateLimit = _bucket(20.0, 200, "Reading: messages, members, profiles, settings.")
    write: RateLimit = _bucket(5.0, 50, "Changing what is one's own: account data, receipts, devices, profile.")
    sync: RateLimit = _bucket(10.0, 100, "Calling /sync.")
    gateway: RateLimit = _bucket(20.0, 200, "Whatever is said over the gateway, per account; more ends a connection.")
    typing: RateLimit = _bucket(2.0, 20, "Saying that one is typing.")
    directory: RateLimit = _bucket(1.0, 20, "Searching people, public rooms and messages, looking up aliases.")
    upload: RateLimit = _bucket(1.0, 20, "Uploading files and keys.")
    to_device: RateLimit = _bucket(10.0, 200, "Sending messages to devices, such as the keys of encrypted rooms.")
    media: RateLimit = _bucket(50.0, 500, "Fetching files and thumbnails; per address where nobody is logged in.")
    preview: RateLimit = _bucket(1.0, 30, "Asking for previews of web pages.")
    room_creation: RateLimit = _bucket(0.1, 10, "Creating rooms.")
    join_local: RateLimit = _bucket(0.5, 20, "Joining rooms that this server is already in.")
    join_remote: RateLimit = _bucket(0.1, 20, "Joining rooms, and knocking, through another server.")
    report: RateLimit = _bucket(0.1, 10, "Reporting events, rooms and people.")
    export: RateLimit = _bucket(0.05, 5, "Taking copies of rooms.")
    invite: RateLimit = _bucket(0.3, 20, "Inviting people.")

    # People without a token
    registration: RateLimit = _bucket(0.17, 3, "Registering, per address.")
    login_address: RateLimit = _bucket(0.17, 10, "Logging in, per address.")
    login_account: RateLimit = _bucket(0.17, 10, "Logging in, per account.")
    login_failed: RateLimit = _bucket(0.17, 5, "Wrong passwords, per account.")
    anonymous: RateLimit = _bucket(5.0, 50, "Everything else without a token, per address.")

    # Other servers
    federation: RateLimit = _bucket(50.0, 500, "Requests of another server, per server.")
