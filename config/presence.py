"""Who sees whether somebody is online."""

from __future__ import annotations

from attrs import frozen

from config.field import at_least, setting


@frozen(kw_only=True)
class Presence:
    """Who sees whether somebody is online."""

    enabled: bool = setting(True, doc="Whether people who share a room see who is online, and since when.")
    largest_crowd: int = setting(
        100,
        doc="Presence is passed on within rooms where at most so many people of this server are connected at a time: "
        "in a larger one, everybody who comes or goes would have to be told to everybody else.",
        check=at_least(0),
    )
    federated: bool = setting(
        False,
        doc="Whether people on other servers see it too. That takes a request to each of them for everybody who comes "
        "or goes.",
    )
