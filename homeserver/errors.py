"""What can go wrong for a caller, as values: raised anywhere above `federation/`, turned into HTTP only at the edge.

The tree, with the answer that each becomes:

    MatrixError                 an answer with `errcode`; everything below is one
    ├── Forbidden               403 M_FORBIDDEN
    ├── NotFound                404 M_NOT_FOUND
    ├── BadJson                 400 M_BAD_JSON: a wrong shape, naming the field
    ├── InvalidParam            400 M_INVALID_PARAM
    ├── MissingParam            400 M_MISSING_PARAM
    ├── LimitExceeded           429 M_LIMIT_EXCEEDED with `retry_after_ms`
    ├── UnknownToken            401 M_UNKNOWN_TOKEN, perhaps soft logout
    ├── UnknownPos              400 M_UNKNOWN_POS: a sliding sync begins anew
    └── Unavailable             503: nothing is wrong with the request, try again
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class MatrixError(Exception):
    """An error that the specification has a code for.

    Spec: https://spec.matrix.org/v1.19/client-server-api/#standard-error-response
    """

    def __init__(
        self,
        status: int,
        errcode: str,
        error: str,
        more: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {errcode}: {error}")
        self.status = status
        self.errcode = errcode
        """Empty where the answer is no error for the client: user-interactive authentication going on."""
        self.error = error
        self.more = more or {}
        """Further members of the body."""
        self.headers = headers or {}


class Forbidden(MatrixError):
    def __init__(self, error: str, errcode: str = "M_FORBIDDEN") -> None:
        super().__init__(403, errcode, error)


class NotFound(MatrixError):
    def __init__(self, error: str, errcode: str = "M_NOT_FOUND") -> None:
        super().__init__(404, errcode, error)


class BadJson(MatrixError):
    def __init__(self, error: str, errcode: str = "M_BAD_JSON") -> None:
        super().__init__(400, errcode, error)


class InvalidParam(MatrixError):
    def __init__(self, error: str, errcode: str = "M_INVALID_PARAM") -> None:
        super().__init__(400, errcode, error)


class MissingParam(MatrixError):
    def __init__(self, error: str) -> None:
        super().__init__(400, "M_MISSING_PARAM", error)


class LimitExceeded(MatrixError):
    def __init__(self, retry_after_ms: int) -> None:
        super().__init__(429, "M_LIMIT_EXCEEDED", "Too many requests", {"retry_after_ms": retry_after_ms})
        self.retry_after_ms = retry_after_ms


class UnknownToken(MatrixError):
    def __init__(self, error: str = "Unknown access token", soft_logout: bool = False) -> None:
        super().__init__(401, "M_UNKNOWN_TOKEN", error, {"soft_logout": soft_logout})


class UnknownPos(MatrixError):
    def __init__(self) -> None:
        super().__init__(400, "M_UNKNOWN_POS", "`pos` is not known here, or not any more: begin anew without it")


class Unavailable(MatrixError):
    def __init__(self, error: str) -> None:
        super().__init__(503, "M_UNKNOWN", error)
