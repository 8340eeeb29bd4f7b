"""The gate for other servers: a request that is not signed by the server that it names goes no further."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from federation.inbound.x_matrix import Origin, Unauthorised, XMatrix
from homeserver.errors import MatrixError


@define(eq=False)
class Gate:
    """What `homeserver.http` asks for routes with `auth=FEDERATION`."""

    _verifier: XMatrix
    observers: list[Callable[[str], None]] = field(factory=list)
    """Told the name of each server that was let in: it is alive. They must not raise."""

    async def __call__(self, method: str, uri: bytes, authorization: str, body: bytes) -> Origin:
        """Who sends a request. Raises `MatrixError` 401 with the reason."""
        try:
            origin = await self._verifier.verify(method, uri, authorization, body)
        except Unauthorised as error:
            raise MatrixError(401, "M_UNAUTHORIZED", str(error)) from None
        for observer in self.observers:
            observer(origin.server_name)
        return origin
