"""Whether those who read an address want mail: they are asked by mail, and a link in it says yes.

    set ──► a letter with a link ──► the page behind it, its button ──► activated
                    └──► "never again" ──► the address is not asked any more, by anybody

Anybody may say that an address is theirs. So an address is asked once an hour at most, ever more seldom until it says
yes, and nothing else is sent there before (`docs/decisions/0009-mail.md`).
"""

from __future__ import annotations

from attrs import define

from homeserver.clock import Clock
from homeserver.errors import Forbidden, InvalidParam, LimitExceeded
from homeserver.mail.letters import Letters
from homeserver.mail.post import NotNow, Post, Refused
from homeserver.push.delivery import Delivery
from homeserver.push.ports import Again, Gone, Outcome, Said
from homeserver.push.pushers import Pushers
from homeserver.tasks import Tasks
from storage import mail as rows
from storage.database import Database
from storage.pushers import Pusher


@define(eq=False)
class Consent:
    """One per process."""

    pushers: Pushers
    delivery: Delivery
    post: Post
    letters: Letters | None
    """None: this server sends no mail."""
    database: Database
    clock: Clock
    tasks: Tasks

    async def claim(self, address: str) -> None:
        """Before an address is asked. Raises MatrixError where it may not be."""
        if self.letters is None:
            raise InvalidParam("'kind': this server sends no mail")
        claim = await self.database.write(rows.claim, address, self.clock.now_ms())
        if claim.refused:
            raise Forbidden("This address wants no mail from this server")
        if claim.wait_ms:
            raise LimitExceeded(claim.wait_ms)

    def ask(self, pusher: Pusher) -> None:
        """Send the letter that asks."""
        letters, token = self.letters, pusher.token
        assert letters is not None and token is not None
        letter = letters.write(
            "mail_confirm",
            pusher.pushkey,
            token,
            f"Do you want mail from {letters.server_name}?",
            self.clock.now_ms(),
            {"user_id": pusher.user_id},
            f"consent {pusher.set_ts}",
        )

        async def attempt(now: Pusher) -> Outcome:
            if now.activated or now.token != token:
                return Said()
            try:
                await self.post.send(letter)
            except Refused:
                return Gone()
            except NotNow as error:
                return Again(str(error))
            return Said()

        self.tasks.spawn("mail.ask", self.delivery.insist(pusher.key, attempt))

    def find(self, token: str) -> Pusher | None:
        """Whose link it is."""
        return next((one for one in self.pushers.every() if one.token is not None and one.token == token), None)

    async def accept(self, token: str) -> bool:
        """Whoever reads the mail wants it. False if there is no such link any more."""
        pusher = self.find(token)
        if pusher is None:
            return False
        await self.database.write(rows.accept, pusher.pushkey, self.clock.now_ms())
        await self.pushers.activate(pusher.key)
        return True

    async def stop(self, token: str) -> None:
        """Whoever reads the mail wants no more; if they never wanted any, they will not be asked again."""
        pusher = self.find(token)
        if pusher is None:
            return
        if not pusher.activated:
            await self.database.write(rows.refuse, pusher.pushkey, self.clock.now_ms())
        await self.pushers.remove(pusher.key)
