"""What a `/sync` says of encryption: messages from device to device, changed lists of devices, keys that are left.

What is new (`homeserver.encryption.letters`, `news`, `states`) is kept apart from how it is written here, so that other
ways of syncing can say the same.

Spec: https://spec.matrix.org/v1.19/client-server-api/#e2e-extensions-to-sync
Spec: https://spec.matrix.org/v1.19/client-server-api/#extensions-to-sync
"""

from __future__ import annotations

import orjson

from federation.service import service
from homeserver.encryption.letters import Letterbox
from homeserver.encryption.news import NO_NEWS, DeviceNews
from homeserver.encryption.states import DeviceStates
from homeserver.http.route import Requester
from homeserver.streams.hub import Feed
from homeserver.streams.tokens import StreamToken
from homeserver.sync.ports import Contribution


@service
class EncryptionSections:
    """A `homeserver.sync.ports.Contributor`."""

    states: DeviceStates
    letterbox: Letterbox
    news: DeviceNews

    async def contribute(
        self, who: Requester, feed: Feed, since: StreamToken | None, upto: StreamToken
    ) -> Contribution:
        state = await self.states.get(who.user_id, who.device_id)
        members = [state.stock_json]
        is_news = since is not None and state.dry_at > since.serial
        inbox: int | None = None
        if state.inbox:
            after = 0 if since is None else since.inbox
            letters = await self.letterbox.open(who.user_id, who.device_id, state, after, upto.position)
            if letters.events:
                members.append(b'"to_device":{"events":[%b]}' % b",".join(letters.events))
                is_news = True
                inbox = letters.upto
        if since is not None:
            lists = await self.news.between(feed, since.position, upto.position)
            if lists is not NO_NEWS and lists:
                changed, left = orjson.dumps(lists.changed), orjson.dumps(lists.left)
                members.append(b'"device_lists":{"changed":%b,"left":%b}' % (changed, left))
                is_news = True
        return Contribution(members, is_news, inbox)
