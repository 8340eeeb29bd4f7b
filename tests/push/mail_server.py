"""A mail server in a process of its own, which keeps what it is given.

`python mail_server.py FOLDER CERTIFICATE KEY`: listens on a free port of 127.0.0.1, which it writes to `FOLDER/port`,
wants STARTTLS and the account below, and puts each mail into a file of its own. It answers as `FOLDER/answer` says
where that is there.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from attrs import frozen

from homeserver.harness.authority import Authority

ACCOUNT = "guildhall", "let me send"


@frozen
class MailServer:
    """The test's side of it."""

    folder: Path
    port: int
    ca_path: Path

    def settings(self, **more: str) -> dict[str, str]:
        """Of a server that sends over it."""
        username, password = ACCOUNT
        return {
            "server__public_baseurl": "https://chat.example.org/",
            "email__smtp_host": "localhost",
            "email__smtp_port": str(self.port),
            "email__username": username,
            "email__password": password,
            "email__sender": "Guildhall <noreply@example.org>",
            "email__ca_path": str(self.ca_path),
            "email__first_delay_ms": "50",
            "email__away_ms": "0",
            **more,
        }

    def answer(self, text: str | None) -> None:
        """What it says to recipients from now on."""
        file = self.folder / "answer"
        file.unlink(missing_ok=True) if text is None else file.write_text(text)

    def mail(self, least: int = 0) -> list[EmailMessage]:
        """All that came, of which there must be `least` in the end."""
        deadline = time.monotonic() + 60
        while len(files := sorted(self.folder.glob("*.eml"))) < least:
            assert time.monotonic() < deadline, files
            time.sleep(0.05)
        found = [message_from_bytes(file.read_bytes(), policy=policy.default) for file in files]
        return [one for one in found if isinstance(one, EmailMessage)]


def text_of(mail: EmailMessage, kind: str = "plain") -> str:
    part = mail.get_body((kind,))
    assert part is not None
    text: str = part.get_content()
    return text


def link_in(mail: EmailMessage, what: str) -> str:
    """The path and query of a link to the server that sent it."""
    found = re.search(rf"https://chat\.example\.org(/_guildhall/mail/{what}\?token=\S+)", text_of(mail))
    assert found is not None, text_of(mail)
    return found[1]


@contextmanager
def running_mail_server(folder: Path) -> Iterator[MailServer]:
    folder.mkdir()
    authority = Authority(folder, name="mail")
    tls = authority.issue("localhost")
    command = [sys.executable, __file__, str(folder), str(tls.certificate_path), str(tls.key_path)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    try:
        while not ((file := folder / "port").exists() and file.read_text()):
            assert process.poll() is None
            time.sleep(0.02)
        yield MailServer(folder, int(file.read_text()), authority.ca_path)
    finally:
        process.terminate()
        process.wait()


def main(folder: Path, certificate: str, key: str) -> None:
    import asyncio
    import ssl

    from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    count = 0

    class Handler:
        async def handle_RCPT(self, _: SMTP, __: Session, envelope: Envelope, address: str, ___: list[str]) -> str:
            file = folder / "answer"
            if file.exists():
                return file.read_text()
            envelope.rcpt_tos.append(address)
            return "250 OK"

        async def handle_DATA(self, _: SMTP, __: Session, envelope: Envelope) -> str:
            nonlocal count
            count += 1
            content = envelope.content
            assert isinstance(content, bytes)
            written = folder / f"{count:03}.new"
            head = f"X-Sender: {envelope.mail_from}\r\nX-Recipients: {','.join(envelope.rcpt_tos)}\r\n"
            written.write_bytes(head.encode() + content)
            written.rename(folder / f"{count:03}.eml")
            return "250 OK"

    def authenticate(_: SMTP, __: Session, ___: Envelope, ____: str, data: object) -> AuthResult:
        is_known = isinstance(data, LoginPassword) and (data.login.decode(), data.password.decode()) == ACCOUNT
        return AuthResult(success=is_known, handled=is_known)

    def make() -> SMTP:
        return SMTP(
            Handler(),
            hostname="localhost",
            tls_context=context,
            require_starttls=True,
            auth_required=True,
            authenticator=authenticate,
        )

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
        written = folder / "port.new"
        written.write_text(str(server.sockets[0].getsockname()[1]))
        written.rename(folder / "port")
        await server.serve_forever()

    asyncio.run(serve())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
