"""Builds the house: the one place that knows every concrete class, and hands each its friends.

Everything is made once, in the order of the layers, and given over by constructor. `run` is what
`python -m homeserver run` does; tests build a `House` of their own on a reactor of their choice.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Any, TypeVar, cast

import structlog
from attrs import field
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall

from config import Listener, Settings
from federation.outbound.patience import Patience
from federation.outbound.transport import Transport
from federation.outbound.web import Web
from federation.room.signing import SigningKey
from federation.service import service
from federation.threads import Hire, threads_of
from homeserver.about import About
from homeserver.accounts.service import Accounts, build_accounts
from homeserver.client.all import ALL_ROUTES
from homeserver.clock import Clock
from homeserver.delayed.clockwork import Clockwork
from homeserver.departures import Departures
from homeserver.encryption.build import Encryption, build_devices, build_encryption
from homeserver.encryption.whereabouts import Whereabouts
from homeserver.ephemeral.inbound.build import listen_to_others
from homeserver.ephemeral.presence import PresenceBoard
from homeserver.ephemeral.receipts import ReceiptBoard
from homeserver.ephemeral.room_watch import RoomWatch
from homeserver.ephemeral.threads import Threads
from homeserver.ephemeral.typing import TypingBoard
from homeserver.federation_api.all import FEDERATION_ROUTES
from homeserver.federation_api.build import Federation, build_federation
from homeserver.federation_out.build import Sending, build_sender, make_courier
from homeserver.federation_out.build import register_figures as register_sending
from homeserver.friends.build import Friends, build_friends
from homeserver.gateway.build import Gateway, build_gateway
from homeserver.guilds.abroad.actions import Actions
from homeserver.guilds.book import GuildBook
from homeserver.guilds.build import Guilds, build_guilds
from homeserver.guilds.forwarding import Forwarder
from homeserver.guilds.mentions import MentionedRoles
from homeserver.guilds.steward import LOCALPART, steward_of
from homeserver.http.forwarded import TrustedProxies
from homeserver.http.limits import RateLimiter
from homeserver.http.site import Site
from homeserver.http.sockets import listen
from homeserver.http.table import RouteTable
from homeserver.keyfile import read_key_file
from homeserver.media.build import Media, build_media
from homeserver.observe.metrics import Metrics
from homeserver.observe.shell import open_shell
from homeserver.people.build import build_people
from homeserver.people.directory import PeopleDirectory
from homeserver.push.build import Push, build_push
from homeserver.queries.build import Asking, build_asking
from homeserver.queries.visitors import Visitors
from homeserver.records.build import Records, build_records
from homeserver.records.deliveries import Deliveries
from homeserver.relations.build import build_relations
from homeserver.relations.subscriptions import Subscriptions
from homeserver.reports import Reports
from homeserver.retention.expiry import Expiry
from homeserver.rooms.accept import Door
from homeserver.rooms.access import RoomAccess
from homeserver.rooms.aliases import Aliases, NoRemoteAliases
from homeserver.rooms.compose import Identity, Means
from homeserver.rooms.create import RoomMaker
from homeserver.rooms.directory import Directory, DirectoryPolicy, NoRemoteDirectory
from homeserver.rooms.events import EventCache
from homeserver.rooms.founding import Founder
from homeserver.rooms.guests import GuestWatch
from homeserver.rooms.history import History
from homeserver.rooms.membership import Elsewhere, Memberships, NoElsewhere
from homeserver.rooms.moments import Moments
from homeserver.rooms.partial.resync import Resync
from homeserver.rooms.past import NoPast, Past
from homeserver.rooms.policy.build import read_policy_key
from homeserver.rooms.purges import Purges
from homeserver.rooms.registry import Rooms
from homeserver.rooms.remote.assembly import RemoteRooms, build_remote_rooms
from homeserver.rooms.remote.delivery import Outbox
from homeserver.rooms.send import Sender
from homeserver.rooms.serve.later import Later
from homeserver.rooms.state_view import StateView
from homeserver.rooms.sticky import StickyBoard
from homeserver.rooms.transactions import TransactionLog
from homeserver.rooms.upgrade import Upgrades
from homeserver.rooms.visibility import Visibility
from homeserver.rooms.vouching import Vouching
from homeserver.search.build import build_search
from homeserver.search.indexer import Indexer
from homeserver.spaces.build import build_spaces
from homeserver.spaces.elsewhere import NoRemoteSpaces
from homeserver.streams.hub import Hub
from homeserver.sync.engine import Sync
from homeserver.sync.feeds import FeedLoader
from homeserver.sync.joined import RoomSections
from homeserver.sync.older import OlderSync
from homeserver.sync.outside import OutsideSections
from homeserver.sync.peeks import Peeks
from homeserver.sync.polls import Polls
from homeserver.sync.profiles import ProfileNews
from homeserver.sync.sliding.build import build_sliding
from homeserver.sync.timeline import Timelines
from homeserver.tasks import Tasks
from homeserver.transcripts.build import build_scribe
from homeserver.transcripts.scribe import Scribe
from homeserver.userdata.account_data import AccountData
from homeserver.userdata.filters import FilterService
from homeserver.userdata.heirlooms import Heirlooms
from homeserver.userdata.ignoring import Ignoring
from homeserver.userdata.invite_filter import InviteFilter
from homeserver.userdata.profiles import NoRemoteProfiles, Profiles
from homeserver.userdata.read_markers import ReadMarkers
from homeserver.userdata.tags import Tags
from homeserver.voip import Relays
from homeserver.web import build_web
from storage.database import Database, open_database
from storage.ports import Counters

GRACE_SECONDS = 10.0
HOUSEKEEPING_SECONDS = 60.0
ROUNDS_AN_HOUR = 60
ROUNDS_A_DAY = 24 * ROUNDS_AN_HOUR

T = TypeVar("T")

log = structlog.get_logger("homeserver")


@service
class House:
    """A whole server, ready to answer. Made by `build`."""

    settings: Settings
    clock: Clock
    database: Database
    hub: Hub
    encryption: Encryption
    rooms: Rooms
    events: EventCache
    transactions: TransactionLog
    accounts: Accounts
    typing: TypingBoard
    presence: PresenceBoard
    indexer: Indexer
    records: Records
    scribe: Scribe
    push: Push
    sticky: StickyBoard
    clockwork: Clockwork
    expiry: Expiry
    tasks: Tasks
    guilds: Guilds
    friends: Friends
    gateway: Gateway
    federation: Federation | None
    """None for a server that keeps to itself."""
    sending: Sending | None
    """None for that too, and where somebody else delivers (`build`'s `outbox`)."""
    visitors: Visitors | None
    """None for a server that keeps to itself."""
    web: Web
    media: Media
    table: RouteTable
    metrics: Metrics
    limits: RateLimiter
    parts: Mapping[type[Any], object]
    """What handlers take as collaborators, by type; for tests and the shell too."""
    reactor: Any
    """The reactor, of which Twisted has no one type: it listens, keeps time and takes calls from threads."""
    _sites: list[Site] = field(factory=list)
    _ports: list[IListeningPort] = field(factory=list)
    _housekeeping: LoopingCall = field(init=False)

    def __attrs_post_init__(self) -> None:
        rounds = itertools.count()
        housekeeping = LoopingCall(lambda: self._keep_house(next(rounds)))
        housekeeping.clock = self.reactor
        object.__setattr__(self, "_housekeeping", housekeeping)

    def part(self, kind: type[T]) -> T:
        """The one instance of a type among `parts`."""
        found = self.parts[kind]
        assert isinstance(found, kind)
        return found

    def listen(self) -> list[IListeningPort]:
        """Open the listeners of the settings. Raises CannotListenError."""
        listeners = []
        for listener in self.settings.listeners:
            listeners.append(self._listen_at(listener))
            self._ports.append(listeners[-1])
        if (shell := open_shell(self.reactor, self.settings.server.data_dir, {"app": self})) is not None:
            self._ports.append(shell)
        self.start()
        return listeners

    def start(self) -> None:
        """Begin what goes on by itself, whether anybody is served or not."""
        self._housekeeping.start(HOUSEKEEPING_SECONDS, now=False)
        self.tasks.spawn("presence.start", self.presence.start())
        self.tasks.spawn("people.start", self.part(PeopleDirectory).start())
        self.tasks.spawn("search.start", self.indexer.start())
        self.tasks.spawn("records.start", self.records.start())
        self.tasks.spawn("transcripts.start", self.scribe.start())
        self.tasks.spawn("push.start", self.push.start())
        self.tasks.spawn("sticky.start", self.sticky.start())
        self.tasks.spawn("delayed.start", self.clockwork.start())
        self.tasks.spawn("retention.start", self.expiry.start())
        self.tasks.spawn("purges.start", self.part(Purges).start())
        self.tasks.spawn("guilds.start", self.guilds.start())
        self.tasks.spawn("friends.start", self.friends.start())
        self.tasks.spawn("encryption.start", self.encryption.start())
        self.tasks.spawn("accounts.resume", self.accounts.changes.resume())
        if self.federation is not None:
            self.tasks.spawn("federation.start", self._start_federation())
        if self.sending is not None:
            self.tasks.spawn("sending.start", self.sending.start())

    async def _start_federation(self) -> None:
        assert self.federation is not None
        await self.federation.start()
        await self.part(Resync).start()
        await self.part(Later).start()

    async def close(self) -> None:
        """Stop in good order: no new connections, answers under way are finished, what is queued is written.

        Whatever goes wrong on the way is logged, and the next step taken all the same.
        """
        for port in self._ports:
            await self._step(lambda port=port: port.stopListening())  # type: ignore[misc]
        self.hub.close()
        await self._step(lambda: Deferred.fromCoroutine(self.gateway.close()))
        for site in self._sites:
            await self._step(lambda site=site: Deferred.fromCoroutine(site.close(GRACE_SECONDS)))  # type: ignore[misc]
        if self._housekeeping.running:
            self._housekeeping.stop()
        await self._step(lambda: Deferred.fromCoroutine(self.records.tidy()))
        self.typing.stop_timers()
        self.clockwork.close()
        self.expiry.close()
        self.friends.close()
        federation = () if self.federation is None else (self.federation,)
        sending = () if self.sending is None else (self.sending,)
        others = (*sending, self.scribe, self.tasks, self.media, *federation, self.web, self.accounts)
        for part in (self.presence, self.indexer, self.push, self.encryption, *others, self.database):
            await self._step(lambda part=part: Deferred.fromCoroutine(part.close()))  # type: ignore[misc]

    def _keep_house(self, number: int) -> None:
        """One round of what is due every minute, every hour or every day."""
        self.hub.close_idle_feeds()
        self.tasks.spawn("tidy files", self.media.tidy())
        self.tasks.spawn("tidy the search index", self.indexer.tidy())
        self.tasks.spawn("tidy sticky events", self.sticky.tidy())
        self.tasks.spawn("tidy friends", self.friends.tidy())
        self.tasks.spawn("write records", self.records.tidy())
        if number % ROUNDS_A_DAY == 0:
            self.tasks.spawn("forget old transactions", self.transactions.forget_old())
            self.tasks.spawn("forget old letters", self.encryption.letterbox.forget_old())
            self.tasks.spawn("forget delayed events", self.clockwork.tidy())
            self.tasks.spawn("forget old records", self.records.forget_old())
        if number % ROUNDS_AN_HOUR == 0:
            self.tasks.spawn("take away what is over", self.expiry.sweep())

    async def _step(self, end: Callable[[], object]) -> None:
        try:
            await maybeDeferred(end)
        except Exception:
            log.exception("could not be closed in good order")

    def _listen_at(self, listener: Listener) -> IListeningPort:
        site = Site(
            self.table,
            self.accounts.sessions.authenticate,
            self.limits,
            reactor=self.reactor,
            proxies=TrustedProxies.of(listener),
            federation=None if self.federation is None else self.federation.gate,
            visitors=self.visitors,
            on_answer=self.metrics.answered if self.settings.metrics.enabled else None,
        )
        self._sites.append(site)
        if listener.tls is None:
            return listen(site, listener.host, listener.port, self.reactor.loop)
        from homeserver.http.tls import ListenerTls  # OpenSSL is not needed behind a proxy

        tls = ListenerTls(listener.tls, self.reactor.seconds)
        port = self.reactor.listenSSL(listener.port, site, tls, backlog=1024, interface=listener.host)
        return cast(IListeningPort, port)


def read_key(settings: Settings) -> SigningKey:
    """The key that this server signs with: the first in its file. Raises OSError, BadSigningKey."""
    return read_key_file(settings.server.signing_key_path)[0]


def build(
    settings: Settings,
    reactor: Any,
    clock: Clock | None = None,
    *,
    transport: Transport | None = None,
    web: Web | None = None,
    hire: Hire | None = None,
    random: Random | None = None,
    outbox: Outbox | None = None,
) -> House:
    """Open the database and put everything together. Blocks; raises DatabaseUnusable, OSError, BadSigningKey.

    A simulation hands in its own ways to other servers and to the web, threads that are none, and dice that it knows.
    """
    clock = clock or Clock(reactor)
    hire = hire or threads_of(reactor)
    random = random or Random()
    server_name = settings.server.name
    keys = read_key_file(settings.server.signing_key_path)
    identity = Identity(server_name, keys[0])
    tasks = Tasks()
    limits = RateLimiter.of(settings.rate_limits, clock)
    metrics = Metrics()
    database = open_database(
        settings.database.url, reactor, server_name=server_name, most_readers=settings.database.pool_size, hire=hire
    )
    counters = database.counters

    web = web or build_web(settings, clock, reactor)

    # Streams and rooms.
    hub = Hub(clock, counters.position - 1)
    database.on_commit(hub.committed)
    events = EventCache(database, settings.memory.event_bytes)
    rooms = Rooms(database, events, hub, server_name, settings.memory.room_state)
    door = Door(Means(identity, clock, counters, events), database, rooms, hub)
    transactions = TransactionLog(database, clock)

    # What people keep for themselves, and what passes.
    vouching = Vouching(door, rooms)
    federation: Federation | None = None
    remote: RemoteRooms | None = None
    asking: Asking | None = None
    if settings.federation.enabled:
        federation = build_federation(settings, database, clock, reactor, keys, hire=hire, transport=transport)
        asking = build_asking(server_name, federation.client, clock)
        federation.gate.observers.append(asking.patience.heard_of)
    account_data = AccountData(hub, database)
    ignoring = Ignoring(database, [steward_of(server_name)])
    invite_filter = InviteFilter(database, ignoring, [steward_of(server_name)])
    account_data.listeners += [ignoring.data_changed, invite_filter.data_changed]
    whereabouts = Whereabouts(database)
    door.observers.append(whereabouts)
    profiles = Profiles(database, whereabouts, NoRemoteProfiles() if asking is None else asking.profiles)
    typing = TypingBoard(hub, clock)
    receipts = ReceiptBoard(hub, database)
    about = About(settings)
    deliveries = Deliveries(database, clock)
    book = GuildBook(rooms, events, door.means.lineage)
    push = build_push(
        settings,
        web,
        account_data,
        receipts,
        door,
        about,
        database=database,
        hub=hub,
        rooms=rooms,
        clock=clock,
        tasks=tasks,
        roles=MentionedRoles(rooms, book),
        deliveries=deliveries,
        reactor=reactor,
    )
    presence = PresenceBoard(hub, database, clock, settings.presence, tasks, profiles.peek)
    devices = build_devices(settings, database, hub)
    encryption = build_encryption(
        settings,
        devices,
        database=database,
        hub=hub,
        clock=clock,
        tasks=tasks,
        door=door,
        rooms=rooms,
        transactions=transactions,
        whereabouts=whereabouts,
        federation=None if federation is None or asking is None else (federation.client, asking.patience),
    )
    if federation is not None and encryption.remote is not None:
        federation.gate.observers.append(encryption.remote.resyncs.heard_of)
    sending: Sending | None = None
    if federation is not None:
        if outbox is None:
            sending = build_sender(
                settings,
                courier=make_courier(federation.client),
                database=database,
                rooms=rooms,
                hub=hub,
                clock=clock,
                tasks=tasks,
                random=random,
                typing=typing,
                receipts=receipts,
                presence=presence,
                door=door,
                encryption=encryption,
            )
            outbox = sending.sender
            federation.gate.observers.append(sending.sender.peer_is_alive)
            register_sending(metrics, sending.sender)
        remote = build_remote_rooms(
            door,
            database,
            rooms,
            events,
            vouching,
            hub=hub,
            client=federation.client,
            verifier=federation.keyring,
            workers=federation.workers,
            outbox=outbox,
            invitees=invite_filter,
            tasks=tasks,
            charge_join=partial(limits.charge, "join_remote"),
            policy_key=read_policy_key(settings.federation.policy_key_path),
            spawn=tasks.spawn,
            random=random,
        )
        about.policy_key = remote.policy.desk.public_key
        remote.outside.listeners.append(push.watch)
        federation.gate.observers.append(remote.policy.patience.heard_of)
        federation.gate.observers.append(remote.resync.heard_of)
    elsewhere: Elsewhere = NoElsewhere() if remote is None else remote.elsewhere
    past: Past = NoPast() if remote is None else remote.backfill
    memberships = Memberships(door, rooms, database, profiles, vouching, elsewhere, invite_filter)
    door.observers.append(RoomWatch(typing, presence, server_name))
    markers = ReadMarkers(database, receipts, account_data, clock)
    filters = FilterService(database)
    if remote is not None:
        encryption.listen(remote.edus)
        listen_to_others(
            remote.edus,
            door,
            remote.access,
            settings=settings.presence,
            clock=clock,
            tasks=tasks,
            typing=typing,
            presence=presence,
            markers=markers,
        )

    visibility = Visibility(database, events, server_name)
    access = RoomAccess(rooms, visibility, database)
    history = History(database, access, visibility, events, hub, ignoring, past)
    relating = build_relations(database, history, ignoring, server_name)
    subscriptions = Subscriptions(database, history, push.followers, push.book, hub)
    sticky = StickyBoard(database, events, clock, tasks, server_name, outbox)
    door.observers.append(sticky)
    searching = build_search(database, rooms, history, clock.timers, tasks)
    door.observers.append(searching.indexer)
    records = build_records(settings, database, clock, door, history, relating.bundles, deliveries)
    aliases = Aliases(door, access, database, NoRemoteAliases() if asking is None else asking.aliases)
    policy = DirectoryPolicy(server_name, settings.rooms.anybody_may_publish)
    remote_directory = NoRemoteDirectory() if asking is None else asking.directory
    directory = Directory(database, rooms, aliases, policy, remote_directory)
    door.observers.append(directory)
    checks = {"m.room.canonical_alias": aliases.check_canonical_alias}
    sender = Sender(door, rooms, database, transactions, memberships, checks, relating.rules)
    founder = Founder(door.means)
    guilds = build_guilds(
        door,
        database,
        rooms,
        book,
        founder=founder,
        memberships=memberships,
        sender=sender,
        profiles=profiles,
        tasks=tasks,
        client=None if federation is None else federation.client,
        patience=Patience(clock.now_ms) if asking is None else asking.patience,
        closed=access.closed,
        policy_key=None if remote is None else remote.policy.desk.public_key,
    )
    if remote is not None:
        remote.receiver.opinions.append(guilds.arrivals)
        remote.policy.desk.rules.append(guilds.policing)
    clockwork = Clockwork(database, rooms, sender, clock, tasks, settings.limits)
    door.observers.append(clockwork)
    expiry = Expiry(database, rooms, events, hub, clock, tasks, settings.retention)
    door.observers.append(expiry)
    receipts.listeners.append(expiry.timers)
    purges = Purges(door, rooms, database, hub, tasks)
    door.observers.append(purges)
    timelines = Timelines(database, visibility)
    sections = RoomSections(database, events, timelines, door.means.lineage, relating.bundles, sticky, push.ledger)
    feeds = FeedLoader(hub, database, clock)
    sync = Sync(
        clock=clock,
        hub=hub,
        feeds=feeds,
        rooms=rooms,
        events=events,
        database=database,
        sections=sections,
        outside=OutsideSections(rooms, events, database, sections, invite_filter, access.closed),
        typing=typing,
        receipts=receipts,
        presence=presence,
        account_data=account_data,
        ignoring=ignoring,
        contributors=[encryption.sections],
        profiles=ProfileNews(server_name, database, encryption.news),
        polls=Polls(hub),
        deliveries=deliveries,
        max_timeout_ms=settings.limits.max_sync_timeout_ms,
    )

    sliding = build_sliding(
        sync,
        rooms=rooms,
        account_data=account_data,
        invite_filter=invite_filter,
        encryption=encryption,
        subscriptions=subscriptions,
    )

    state_view = StateView(database, access, events)
    peeks = Peeks(history, state_view, directory, database, hub, sync.polls, clock, sync.max_timeout_ms)

    accounts = build_accounts(settings, database, clock, limits, tasks, reactor, devices.lists, [LOCALPART])
    accounts.listeners.devices.append(sliding.connections)
    departures = Departures(
        database=database,
        rooms=rooms,
        events=events,
        sender=sender,
        memberships=memberships,
        hub=hub,
        transactions=transactions,
    )
    accounts.listeners.accounts += [
        clockwork,
        guilds.heirs,
        departures,
        profiles,
        account_data,
        filters,
        markers,
        presence,
        encryption,
        deliveries,
    ]
    profiles.listeners += [memberships, presence]
    accounts.listeners.devices += [departures, sync, push.pushers]

    people = build_people(server_name, database, events, profiles, tasks)
    door.observers.append(people.directory)
    accounts.listeners.accounts.append(people.directory)
    profiles.listeners.append(people.directory)
    maker = RoomMaker(door, database, settings, profiles, elsewhere, founder, invite_filter)
    door.observers.append(Heirlooms(rooms, database, account_data, tasks, server_name, [push.book]))
    door.observers.append(GuestWatch(memberships, events, database, tasks))
    befriending = build_friends(
        maker,
        memberships,
        rooms,
        database=database,
        hub=hub,
        account_data=account_data,
        invite_filter=invite_filter,
        tasks=tasks,
        book=push.book,
        remote=remote,
        client=None if federation is None else federation.client,
    )
    gateway = build_gateway(
        settings.gateway,
        sync,
        book=book,
        access=access,
        authenticate=accounts.sessions.authenticate,
        clockwork=clockwork,
        limits=limits,
        tasks=tasks,
        reactor=reactor,
    )
    accounts.listeners.devices.append(gateway.lobby)
    accounts.listeners.accounts.append(befriending.mutes)
    client = None if federation is None else federation.client
    media = build_media(settings, database, clock, web, hire=hire, client=client)
    media.register(metrics)
    scribe = build_scribe(
        settings,
        media,
        guilds.rights,
        searching.indexer,
        door,
        clock=clock,
        tasks=tasks,
        hire=hire,
        reactor=reactor,
    )
    accounts.listeners.accounts += [media.care, subscriptions, push.watch, push.pushers, push.digests]
    push.digests.last_seen = accounts.devices.last_seen
    if federation is not None:
        federation.gate.observers.append(media.patience.heard_of)

    friends: list[object] = [
        settings, clock, database, hub, rooms, metrics,
        about,
        memberships, sender, aliases, directory, maker,
        access, history, Moments(database, access, visibility, ignoring, past), state_view,
        sync, sliding, peeks, OlderSync(sync), filters, presence, typing, receipts, account_data, profiles,
        Tags(account_data), markers, purges, Threads(database, events),
        Upgrades(door, database, access, maker, directory),
        Reports(database, history, clock, listeners=[guilds.reporting.reported]),
        clockwork, expiry, subscriptions, Relays(settings.voip, clock),
        Forwarder(relating.listing, rooms, sender, limits), scribe,
    ]  # fmt: skip
    collaborators: dict[type[Any], object] = {type(friend): friend for friend in friends}
    collaborators.update(accounts.collaborators())
    collaborators.update(guilds.collaborators())
    collaborators.update(befriending.collaborators())
    collaborators.update(gateway.collaborators())
    collaborators.update(relating.collaborators())
    collaborators.update(encryption.collaborators())
    collaborators.update(people.collaborators())
    remote_spaces = NoRemoteSpaces() if asking is None else asking.spaces
    collaborators.update(build_spaces(server_name, database, aliases, remote_spaces))
    collaborators.update(media.collaborators())
    collaborators.update(searching.collaborators())
    collaborators.update(records.collaborators())
    collaborators.update(push.collaborators())
    routes = list(ALL_ROUTES)
    if federation is not None and remote is not None:
        collaborators.update(federation.collaborators())
        collaborators.update(remote.collaborators())
        collaborators[Actions] = guilds.actions(collaborators, remote.access, limits)
        routes += FEDERATION_ROUTES
    register_figures(metrics, hub, rooms, events, database, counters)
    table = RouteTable(routes, collaborators, guilds.errands.around)
    gateway.open(table)
    return House(
        settings=settings,
        clock=clock,
        database=database,
        hub=hub,
        encryption=encryption,
        rooms=rooms,
        events=events,
        transactions=transactions,
        accounts=accounts,
        typing=typing,
        presence=presence,
        indexer=searching.indexer,
        records=records,
        scribe=scribe,
        push=push,
        sticky=sticky,
        clockwork=clockwork,
        expiry=expiry,
        tasks=tasks,
        guilds=guilds,
        friends=befriending,
        gateway=gateway,
        federation=federation,
        sending=sending,
        visitors=None if asking is None else asking.visitors,
        web=web,
        media=media,
        table=table,
        metrics=metrics,
        limits=limits,
        parts=collaborators,
        reactor=reactor,
    )


def register_figures(
    metrics: Metrics, hub: Hub, rooms: Rooms, events: EventCache, database: Database, counters: Counters
) -> None:
    """What others count already and a scrape asks for."""
    metrics.counter("stream_position", "Newest position of the stream.", lambda: float(hub.position))
    metrics.gauge("waiting_syncs", "Long polls that wait now.", lambda: float(hub.waiting))
    metrics.gauge("active_feeds", "Local users who sync at present.", lambda: float(hub.feed_count))
    metrics.gauge("live_rooms", "Rooms held in memory.", lambda: float(len(rooms)))
    metrics.gauge("cached_events", "Events held in memory.", lambda: float(len(events)))
    metrics.gauge("cached_event_bytes", "Estimate of what they take.", lambda: float(events.held_bytes))
    metrics.gauge("database_queue", "Writes that wait for the batch before them.", lambda: float(database.queue_length))


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. The reactor of `homeserver.reactor` must be installed."""
    from twisted.internet import reactor

    house = build(settings, reactor)
    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(house.close()))
    for port in house.listen():
        log.info("listening", address=str(port.getHost()), server_name=settings.server.name)
    # What was imported and built stays for good: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    reactor.run()
