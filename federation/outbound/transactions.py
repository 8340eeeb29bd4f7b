"""`PUT /_matrix/federation/v1/send/{txnId}`: events and passing things for another server.

Spec: https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1sendtxnid
"""

from __future__ import annotations

import msgspec
from twisted.logger import Logger

from federation.outbound.client import FederationClient, path_to
from federation.outbound.parcels import Parcel
from federation.room.canonical import canonical_json
from federation.service import service

MAX_ANSWER_BYTES = 256 * 1024
"""A verdict on each of 50 events is far smaller."""

_log = Logger()


class _Result(msgspec.Struct):
    error: object = None


class _Answer(msgspec.Struct):
    pdus: dict[str, _Result] = {}


@service
class Transactions:
    """A `federation.outbound.parcels.Courier`."""

    client: FederationClient

    async def deliver(self, destination: str, parcel: Parcel) -> None:
        """Answers when the peer has taken it, whatever it makes of single events. Raises `PeerError`."""
        path = path_to("/_matrix/federation/v1/send/{}", parcel.txn_id)
        body = write_transaction(self.client.server_name, parcel)
        answer = await self.client.put(destination, path, into=_Answer, body=body, max_bytes=MAX_ANSWER_BYTES)
        refused = [event_id for event_id, result in answer.pdus.items() if result.error is not None]
        if refused:
            _log.info(
                "{peer} did not take {count} of {all} events, the first because: {why!r}",
                peer=destination,
                count=len(refused),
                all=len(parcel.pdus),
                why=str(answer.pdus[refused[0]].error)[:200],
            )


def write_transaction(origin: str, parcel: Parcel) -> bytes:
    """The body, as canonical JSON. What is in it is that already, so it is not parsed again."""
    edus = b",".join(parcel.edus)
    pdus = b",".join(parcel.pdus)
    return b'{"edus":[%b],"origin":%b,"origin_server_ts":%d,"pdus":[%b]}' % (
        edus,
        canonical_json(origin),
        parcel.ts,
        pdus,
    )
