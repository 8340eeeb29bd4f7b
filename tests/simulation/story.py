"""What the story of a seed says of requests between servers: which events they carry, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from attrs import frozen

from federation.outbound.transport import Request
from federation.room.format import BadEvent
from federation.room.parse import parse_pdu
from federation.room.versions import ROOM_VERSIONS


@frozen
class Teller:
    """Reads bodies. `versions`: of the rooms that there are; `names`: what the story calls them."""

    versions: Mapping[str, str]
    names: Mapping[str, str]

    def tell(self, request: Request, answer: bytes) -> str:
        asked, answered = _object(request.body), _object(answer)
        if answered.get("errcode"):
            return f"{answered['errcode']}: {answered.get('error')}"
        if "/send/" in request.path and "pdus" in asked:
            verdicts = answered.get("pdus", {})
            edus = [edu.get("edu_type") for edu in asked.get("edus", ())]
            return ", ".join([*self._events(asked["pdus"], verdicts), *map(str, edus)])
        if "get_missing_events" in request.path:
            wanted = ", ".join(one[:8] for one in asked.get("latest_events", ()))
            return f"before {wanted}: {', '.join(self._events(answered.get('events', ()), {}))}"
        if "backfill" in request.path or "/event/" in request.path:
            return ", ".join(self._events(answered.get("pdus", ()), {}))
        if "state_ids" in request.path:
            event_id = request.path.partition("event_id=")[2].replace("%24", "$")[:8]
            return f"at {event_id}: {', '.join(one[:8] for one in answered.get('pdu_ids', ()))}"
        if "send_join" in request.path or "send_leave" in request.path or "send_knock" in request.path:
            return ", ".join(self._events([asked], {}))
        return ""

    def _events(self, fields: Iterable[Any], verdicts: Mapping[str, Any]) -> list[str]:
        return [self._event(one, verdicts) for one in fields]

    def _event(self, fields: Any, verdicts: Mapping[str, Any]) -> str:
        if not isinstance(fields, dict):
            return repr(fields)[:40]
        room_id = str(fields.get("room_id"))
        version = ROOM_VERSIONS[self.versions.get(room_id, "10")]
        try:
            event = parse_pdu(version, fields)
        except BadEvent as error:
            return f"no event ({error})"
        key = "" if event.state_key is None else f" {event.state_key}"
        prev = ",".join(one[:8] for one in event.prev_events)
        verdict = verdicts.get(event.event_id, {}).get("error")
        fate = "" if verdict is None else f" NOT TAKEN: {verdict}"
        kind = event.type.removeprefix("m.room.")
        room = self.names.get(event.room_id, event.room_id)
        return f"{event.event_id[:8]} ({kind}{key} by {event.sender} in {room} after {prev}){fate}"


def _object(body: bytes | None) -> dict[str, Any]:
    try:
        parsed = orjson.loads(body or b"{}")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
