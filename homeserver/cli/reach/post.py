"""Whether the mail server takes what this server would send: as far as one gets without sending anything."""

from __future__ import annotations

import smtplib
import ssl
from email.utils import parseaddr

from config import Settings
from config.email import Email
from homeserver.cli.findings import Finding, bad, good, warning

PATIENCE_S = 10.0


def check_post(settings: Settings) -> list[Finding]:
    """Blocks. Connect, secure the connection, log in, and name the sender; then take it back."""
    email = settings.email
    if email.smtp_host is None:
        return []
    where = f"{email.smtp_host}:{email.smtp_port}"
    if email.sender is None or settings.server.public_baseurl is None:
        return [warning("mail", "no mail is sent without email.sender and server.public_baseurl")]
    try:
        with _connected(email) as server:
            if email.username is not None:
                server.login(email.username, email.password or "")
            code, said = server.mail(parseaddr(email.sender)[1])
            if code != 250:
                return [bad("mail", f"{where} does not take mail from {email.sender}: {_text(said)}")]
            server.rset()
    except smtplib.SMTPAuthenticationError as error:
        return [bad("mail", f"{where} does not know the account {email.username}: {_text(error.smtp_error)}")]
    except ssl.SSLCertVerificationError as error:
        return [bad("mail", f"the certificate of {where} is not trusted: {error.verify_message}")]
    except (smtplib.SMTPException, OSError) as error:
        return [bad("mail", f"{where} cannot be used: {error}")]
    return [good("mail", f"{where} takes mail from {email.sender}")]


def _connected(email: Email) -> smtplib.SMTP:
    assert email.smtp_host is not None
    place = email.smtp_host, email.smtp_port
    if email.security == "none":
        return smtplib.SMTP(*place, timeout=PATIENCE_S)
    trusted = ssl.create_default_context(cafile=None if email.ca_path is None else str(email.ca_path))
    if email.security == "tls":
        return smtplib.SMTP_SSL(*place, timeout=PATIENCE_S, context=trusted)
    server = smtplib.SMTP(*place, timeout=PATIENCE_S)
    try:
        server.starttls(context=trusted)
    except BaseException:
        server.close()
        raise
    return server


def _text(said: bytes | str) -> str:
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else said
