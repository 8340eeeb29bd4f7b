"""TLS to peers, as who connects to them has it at hand: OpenSSL itself comes with the first connection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from federation.outbound.handshake import TlsClient


class PeerTls:
    """Makes the TLS side of connections to peers."""

    def __init__(self, ca_path: Path | None = None) -> None:
        """Trust the authorities in `ca_path` (PEM), or the system's. Raises `BadAuthorities`."""
        self._context: Any = None
        if ca_path is not None:
            from federation.outbound.handshake import make_context  # few name their own

            self._context = make_context(ca_path)

    def client(self, tls_name: str) -> TlsClient:
        """For one connection to whoever has a certificate for `tls_name`. Raises `BadTlsName`."""
        from federation.outbound.handshake import TlsClient, system_context

        return TlsClient(system_context() if self._context is None else self._context, tls_name)
