"""Hands mail to the server that takes it, by SMTP.

Source: https://www.rfc-editor.org/rfc/rfc5321
"""

# Twisted's mail has no annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

from email.message import EmailMessage
from email.utils import parseaddr
from io import BytesIO
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from config.email import Email
from federation.service import service

TIMEOUT_S = 30


class Refused(Exception):
    """The address is no address, says the mail server: nothing will ever arrive there."""


class NotNow(Exception):
    """It may be taken later."""


class Post(Protocol):
    """Takes mail."""

    async def send(self, letter: EmailMessage) -> None:
        """To the one address in its `To`. The mail server has it when this answers. Raises Refused or NotNow."""


@service
class SmtpPost:
    """Each letter has a connection of its own: they are few."""

    settings: Email
    reactor: Any

    async def send(self, letter: EmailMessage) -> None:
        from twisted.mail.smtp import ESMTPSenderFactory, SMTPClientError, SMTPDeliveryError  # few servers need it

        settings = self.settings
        assert settings.smtp_host is not None
        connectors: list[Any] = []

        def stop(_: Deferred[Any]) -> None:
            factory.sendFinished = True
            for connector in connectors:
                connector.disconnect()

        sent: Deferred[Any] = Deferred(stop)
        secured = settings.security != "none"
        factory = ESMTPSenderFactory(
            None if settings.username is None else settings.username.encode(),
            None if settings.password is None else settings.password.encode(),
            parseaddr(letter["From"])[1],
            parseaddr(letter["To"])[1],
            BytesIO(letter.as_bytes()),
            sent,
            retries=0,
            timeout=TIMEOUT_S,
            contextFactory=self._tls() if secured else None,
            requireAuthentication=settings.username is not None,
            requireTransportSecurity=secured,
        )
        place = settings.smtp_host, settings.smtp_port, factory
        if settings.security == "tls":
            connectors.append(self.reactor.connectSSL(*place, self._tls(), timeout=TIMEOUT_S))
        else:
            connectors.append(self.reactor.connectTCP(*place, timeout=TIMEOUT_S))
        try:
            await sent
        except SMTPDeliveryError as error:
            addresses: Any = error.addresses
            refusals = [code for _, code, _ in addresses or ()]
            if refusals and all(500 <= code < 600 for code in refusals):
                raise Refused(str(error)) from None
            raise NotNow(str(error)) from None
        except SMTPClientError as error:
            raise NotNow(str(error)) from None

    def _tls(self) -> Any:
        from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates

        host, ca_path = self.settings.smtp_host, self.settings.ca_path
        assert host is not None
        if ca_path is None:
            return optionsForClientTLS(host)
        return optionsForClientTLS(host, trustRootFromCertificates([Certificate.loadPEM(ca_path.read_bytes())]))
