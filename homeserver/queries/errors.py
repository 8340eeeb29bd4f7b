"""What our clients are told when another server could not be asked, or refused."""

from __future__ import annotations

from federation.outbound.transport import PeerError, Refused, Unreachable
from homeserver.errors import Forbidden, MatrixError


def as_matrix_error(error: PeerError) -> MatrixError:
    """An error that says whose fault it was. Only that something must not be told is the client's business too."""
    server = error.destination
    match error:
        case Unreachable():
            return MatrixError(502, "M_UNKNOWN", f"{server} can't be reached: {error.why}")
        case Refused(status=403):
            return Forbidden(f"{server} does not tell: {error.error or error.errcode or 'it gives no reason'}")
        case Refused():
            return MatrixError(502, "M_UNKNOWN", f"{server} answered with an error: {error.why}")
        case _:
            return MatrixError(502, "M_UNKNOWN", f"{server} gave an answer that makes no sense")


def is_not_there(error: PeerError) -> bool:
    """Whether the other server says that it has no such thing: not that it does not understand the question."""
    return isinstance(error, Refused) and error.status == 404 and error.errcode != "M_UNRECOGNIZED"
