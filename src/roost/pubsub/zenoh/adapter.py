"""The adapter for a cluster with no broker: nodes connect to each other, by zenoh.

Each node is a zenoh peer. It listens, connects to its seeds, and learns the others from them. What
it publishes goes to ``<namespace>/all/<link>`` or ``<namespace>/to/<node name>/<link>``, and a
liveliness token ``<namespace>/link/<node name>/<link>`` shows the others that it is there. The
token vanishes with the connection: in milliseconds after kill -9, and after ``LEASE_PERIOD`` when a
process is stopped or a cable is cut.

There is no engine that a node could be detached from: a node that is cut off, and one whose peers
all died, see the same; whoever weighs the links has to consider how many went down at once.
``detached`` is reported only when what others send has come, and zenoh does not read it: that we
hear nobody is our own fault then.

What does what, from the bottom: ``settings`` reads URLs, ``watch`` looks after connections,
``engine`` has the sessions, ``traffic`` the queues, ``discovery`` looks for others, ``siblings``
finds those of this machine. Here they are put together, for one run after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
from collections import Counter
from collections.abc import Callable
from urllib.parse import unquote

from roost.naming import is_short
from roost.pubsub.adapter import LinkEvents
from roost.pubsub.node_names import NodeName
from roost.pubsub.siblings import Announcement, SiblingGroup, sibling_group
from roost.pubsub.zenoh.discovery import Discovery, is_own_address, resolve
from roost.pubsub.zenoh.engine import PortTaken, ZenohSession, check_zenoh, introduce
from roost.pubsub.zenoh.linger import lingering_count
from roost.pubsub.zenoh.listening import (
    listening_addresses,
    reachable_address,
    warn_of_strangers,
)
from roost.pubsub.zenoh.settings import ZenohSettings, parse_zenoh_url
from roost.pubsub.zenoh.threads import in_thread
from roost.pubsub.zenoh.traffic import Inbox, Outbox
from roost.pubsub.zenoh.watch import HELD_UP_PERIOD

__all__ = ["ZenohAdapter"]

logger = logging.getLogger("roost.pubsub")

_MAX_QUEUED_COUNT = 20_000  # messages, in each direction
_MAX_QUEUED_SIZE = 64 * 1024 * 1024  # bytes, in each direction
_FLUSH_TIMEOUT = 1.0  # seconds
_OPEN_TRIES = 3


class ZenohAdapter:
    """Carries a cluster over zenoh.

    Args:
        url: ``zenoh://`` for the workers of one server on one machine, which find each other;
            ``zenoh://host:7447,host2:7447`` names seeds, some nodes that are there most of the
            time: each node may have the same list, itself included. Names with several addresses
            are resolved again and again. Parameters: ``listen=host:port`` (by default the port of
            the first seed of this machine that is free, on all interfaces; or any port, if none
            is), ``namespace=``, ``multicast=true`` to find nodes of the local network. Who may join
            is decided by ``user:password@``, or by certificates:
            ``zenohs://…?tls_ca=…&tls_cert=…&tls_key=…``.
        node_name: Name of this node; by default unique.
        namespace: Only nodes of one namespace hear each other; the URL's comes first.
        siblings: Other processes of this machine to meet; by default the workers of the server
            that this process is a worker of, if it is one.

    Raises:
        ConfigurationError: The URL can't be used, or zenoh is not installed.

    Example:
        >>> adapter = ZenohAdapter("zenoh://app-1:7447,app-2:7447?namespace=chat")
        >>> adapter.is_attached
        False
    """

    def __init__(
        self,
        url: str = "zenoh://",
        *,
        node_name: str | None = None,
        namespace: str | None = None,
        siblings: SiblingGroup | None = None,
    ) -> None:
        self._settings = parse_zenoh_url(url, namespace)
        check_zenoh(str(self._settings))
        self._siblings = siblings
        self._name = NodeName(node_name)
        self.link = ""
        self.reaches_others = True
        self.counters: Counter[str] = Counter()
        self._run: _Run | None = None

    @property
    def node_name(self) -> str:
        """Unique name of this node."""
        return str(self._name)

    @property
    def is_attached(self) -> bool:
        """Whether the session is open, and reads what others send."""
        run = self._run
        return run is not None and run.session.is_open and not run.is_held_up

    @property
    def is_isolated(self) -> bool:
        """Whether nobody has been there for 10 s, though seeds or siblings are expected."""
        return self._run is not None and self._run.discovery.is_isolated

    @property
    def free_size(self) -> int:
        """How many bytes it takes now that make nothing wait long."""
        return 0 if self._run is None else self._run.outbox.free_size

    @property
    def max_size(self) -> int | None:
        """zenoh cuts what is large by itself."""
        return None

    async def start(self, deliver: Callable[[bytes], None], links: LinkEvents) -> None:
        """Open the session, and wait up to half a second for the first connections.

        Raises:
            AdapterError: The session can't be opened, for example because a port is taken.
            ConfigurationError: A file that the URL names can't be read.
        """
        if self._run is not None:
            # Its loop was closed under it, or it lives in the process that we were forked from.
            self._run.drop()
            self._run = None
        self._settings.check_files()
        self.link = secrets.token_hex(8)
        self._run = await _start(self, self._settings, self._siblings, deliver, links)
        self._run.inbox.open()  # now what it delivers can be answered

    async def close(self) -> None:
        """Send what waits, for a second at most, and leave."""
        run, self._run = self._run, None
        if run is not None:
            await run.close()

    def publish(self, data: bytes) -> None:
        """Send to all other nodes."""
        if self._run is not None:
            self._run.outbox.put(None, data)

    def publish_to(self, node_name: str, data: bytes) -> None:
        """Send to one other node."""
        if self._run is not None:
            self._run.outbox.put(node_name, data)


class _Run:
    """What exists from start to close."""

    def __init__(
        self,
        session: ZenohSession,
        inbox: Inbox,
        outbox: Outbox,
        discovery: Discovery,
        announcement: Announcement | None,
    ) -> None:
        self.session = session
        self.inbox = inbox
        self.outbox = outbox
        self.discovery = discovery
        self.announcement = announcement
        self.is_held_up = False
        self._pid = os.getpid()
        self._keeper = asyncio.create_task(discovery.keep(), name="roost-zenoh-discovery")

    async def close(self) -> None:
        self._keeper.cancel()
        self.inbox.close()
        self.outbox.finish()
        try:
            await in_thread(self._end)
        finally:
            self.drop()  # if we were cancelled
        await asyncio.wait([self._keeper])

    def _end(self) -> None:
        self.outbox.join(_FLUSH_TIMEOUT)
        self.outbox.abandon()
        self.session.close()

    def drop(self) -> None:
        """End what has not ended, without a loop."""
        if self._pid == os.getpid():
            self.inbox.close()
            self.outbox.abandon()
            self.outbox.finish()
            self.session.close()
            if self.announcement is not None:
                self.announcement.withdraw()


async def _start(
    adapter: ZenohAdapter,
    settings: ZenohSettings,
    siblings: SiblingGroup | None,
    deliver: Callable[[bytes], None],
    link_events: LinkEvents,
) -> _Run:
    group = siblings or sibling_group(settings.namespace)
    with contextlib.ExitStack() as undo:
        announcement = None if group is None else group.announce(adapter.link)
        if announcement is not None:
            undo.callback(announcement.withdraw)
        for _ in range(_OPEN_TRIES - 1):
            with contextlib.suppress(PortTaken):  # by a sibling, since we looked
                run = await _open(adapter, settings, announcement, deliver, link_events)
                break
        else:
            run = await _open(adapter, settings, announcement, deliver, link_events)
        undo.pop_all()
        return run


async def _open(
    adapter: ZenohAdapter,
    settings: ZenohSettings,
    announcement: Announcement | None,
    deliver: Callable[[bytes], None],
    link_events: LinkEvents,
) -> _Run:
    node_name, link = adapter.node_name, adapter.link
    bounds = {"max_count": _MAX_QUEUED_COUNT, "max_size": _MAX_QUEUED_SIZE}
    inbox = Inbox(deliver, adapter.counters, **bounds)
    links: dict[str, str] = {}

    def on_link(key: str, other: str, is_up: bool) -> None:
        name = unquote(key)
        if is_up and other not in links and is_short(name) and is_short(other):
            links[other] = name
            discovery.link_up(other)
            link_events.link_up(links[other], other)
        elif not is_up and other in links:
            del links[other]
            discovery.link_down(other)
            link_events.link_down(other)

    def on_held_up(is_held_up: bool) -> None:
        run.is_held_up = is_held_up
        if is_held_up:
            adapter.counters["held_up"] += 1
            logger.warning(
                "%s: zenoh has read nothing for %g s of what others sent: this node hears nobody "
                "until it does; connections that linger at their closing? (%d could)",
                settings,
                HELD_UP_PERIOD,
                lingering_count(),
            )
            link_events.detached()
        else:
            logger.info("%s: zenoh reads again what others send", settings)
            link_events.attached()

    seeds, _ = await resolve(settings.seeds)
    own_seeds = [seed for seed in seeds if is_own_address(seed, {seed.port})]
    listening = listening_addresses(settings, own_seeds, has_siblings=announcement is not None)
    warn_of_strangers(settings, listening)
    ports = {address.port for address in listening}
    listen = [settings.endpoint(address) for address in listening]
    own = [settings.endpoint(reachable_address(address)) for address in listening]
    if settings.tls_verify_name:  # then the names are what certificates are compared with
        seeds = list(settings.seeds)
    else:
        seeds = [seed for seed in seeds if not is_own_address(seed, ports)]
    connect = [settings.endpoint(seed) for seed in seeds]
    if announcement is not None:
        listen.insert(0, f"unixsock-stream/{announcement.socket_path}")
        own.insert(0, listen[0])
        connect += [f"unixsock-stream/{path}" for path in announcement.others().values()]

    async def introduce_to(endpoints: list[str]) -> None:
        await in_thread(lambda: introduce(settings, own[:1] + endpoints))

    async def peers() -> list[str]:
        return await in_thread(session.peers)  # while zenoh ends a link it may wait for seconds

    discovery = Discovery(
        settings,
        own_ports=ports,
        endpoints=connect,
        announcement=announcement,
        introduce=introduce_to,
        links=links,
        peers=peers,
    )
    session = await in_thread(
        lambda: ZenohSession(
            settings,
            node_name=node_name,
            link=link,
            listen=listen,
            connect=connect,
            on_message=inbox.put_parcel,
            on_link=lambda *report: inbox.put_call(lambda: on_link(*report)),
            on_held_up=lambda is_held_up: inbox.put_call(lambda: on_held_up(is_held_up)),
        ),
        dispose=ZenohSession.close,
    )
    outbox = Outbox(session.send, adapter.counters, **bounds)
    outbox.start()
    run = _Run(session, inbox, outbox, discovery, announcement)
    return run
