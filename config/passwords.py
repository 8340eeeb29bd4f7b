"""How passwords are judged and kept."""

from __future__ import annotations

from attrs import frozen

from config.field import BadSetting, at_least, between, setting


@frozen(kw_only=True)
class Passwords:
    """How passwords are judged and kept (argon2id). The defaults are OWASP's for a server with little memory."""

    minimum_length: int = setting(8, doc="The fewest characters a new password may have.", check=between(1, 512))
    argon2_time_cost: int = setting(2, doc="Argon2id: rounds.", check=at_least(1))
    argon2_memory_kib: int = setting(
        19456, doc="Argon2id: memory per password that is being checked, in KiB.", check=at_least(8)
    )
    argon2_parallelism: int = setting(1, doc="Argon2id: lanes.", check=between(1, 64))

    def __attrs_post_init__(self) -> None:
        if self.argon2_memory_kib < 8 * self.argon2_parallelism:
            raise BadSetting("argon2_memory_kib", "must be at least 8 KiB for each lane of argon2_parallelism")
