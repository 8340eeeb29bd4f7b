"""Who may make an account."""

from __future__ import annotations

from attrs import frozen

from config.field import setting


@frozen(kw_only=True)
class Registration:
    """Who may make an account."""

    enabled: bool = setting(
        False, doc="Whether people can register by themselves. Accounts can always be made by `register-user`."
    )
    requires_token: bool = setting(False, doc="Whether registering takes one of the tokens below.")
    tokens: tuple[str, ...] = setting(
        (), doc="Registration tokens to hand out to those who may come in (A-Z a-z 0-9 . _ ~ -).", secret=True
    )
    shared_secret: str | None = setting(
        None,
        doc="Whoever knows it may make accounts, administrators' too, through the admin registration endpoint. "
        "`register-user` uses it against a running server.",
        secret=True,
    )
    allow_guests: bool = setting(
        False, doc="Whether people can look into rooms that are open to guests, without an account."
    )
