"""Finding other nodes: whom to meet, whom a node misses, and what to say if nobody is there.

zenoh connects to the endpoints that a session was opened with, again and again, and to whom its
peers name (gossip), once. It can't be given another endpoint later. Three cases remain, and
one trick solves them, an *introduction*: a second session that connects to our own listener and to
whom we miss, for a second. Gossip then makes us and them acquainted, and all whom they know.

* The name of a seed has got new addresses (a headless service after a deploy).
* A sibling is there that we are not connected to.
* A link was lost, and its other end is none that the session was opened with: while other links
  stay nobody would gossip about it again, and when all are lost nobody is there to do so.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Iterable

from roost.pubsub.siblings import Announcement
from roost.pubsub.zenoh.settings import Address, ZenohSettings

__all__ = ["Discovery", "is_own_address", "resolve"]

logger = logging.getLogger("roost.pubsub")

CHECK_INTERVAL = 2.0  # seconds
LONELY_PERIOD = 10.0  # seconds alone until it is said
LONELY_LOG_INTERVAL = 300.0  # seconds until it is said again
_LOST_RETRY_DELAYS = (2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0)  # seconds after the loss
_MAX_REMEMBERED_COUNT = 64  # remote ends
_CONNECT_TIMEOUT = 1.0  # seconds


async def resolve(addresses: Iterable[Address]) -> tuple[list[Address], list[Address]]:
    """All addresses behind the names, and the names that have none."""
    loop = asyncio.get_running_loop()
    found: dict[Address, None] = {}
    unknown = []
    for address in addresses:
        if address.is_number:
            found[address] = None
            continue
        try:
            infos = await loop.getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
            )
        except OSError:
            unknown.append(address)
        else:
            found.update({Address(str(info[4][0]), address.port): None for info in infos})
    return list(found), unknown


def is_own_address(address: Address, own_ports: Collection[int]) -> bool:
    """Whether a numeric address is where we listen ourselves."""
    if address.port not in own_ports:
        return False
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address.host, 0))  # works for this machine's addresses only
        except OSError:
            return False
    return True


class Discovery:
    """Finds other nodes for one session.

    Args:
        settings: What the URL says.
        namespace: Only for what the log says.
        own_ports: Where we listen.
        endpoints: What the session was opened with.
        announcement: Where siblings are found.
        introduce: Opens an introduction to these endpoints, and to all whom we know.
        links: Link → node name of those who can be reached now; changes under our eyes.
        peers: Returns what the session is connected to: the remote ends, as zenoh spells them.
    """

    def __init__(
        self,
        settings: ZenohSettings,
        *,
        own_ports: Collection[int],
        endpoints: Collection[str],
        announcement: Announcement | None,
        introduce: Callable[[list[str]], Awaitable[None]],
        links: dict[str, str],
        peers: Callable[[], Awaitable[list[str]]],
    ) -> None:
        self.is_isolated = False
        self._settings = settings
        self._own_ports = own_ports
        self._endpoints = set(endpoints)
        self._announcement = announcement
        self._introduce = introduce
        self._links = links
        self._peers = peers
        self._lost: set[str] = set()
        self._remembered: dict[str, None] = {}  # remote ends that we once were connected to
        self._tries: list[float] = []  # when to introduce ourselves for the sake of lost links
        self._alone_since = time.monotonic()
        self._logged_at = -LONELY_LOG_INTERVAL

    def link_up(self, link: str) -> None:
        """Somebody can be reached."""
        self._lost.discard(link)
        if not self._lost:
            self._tries.clear()
        if self.is_isolated:
            self.is_isolated = False
            self._logged_at = -LONELY_LOG_INTERVAL
            logger.info("%s: no longer alone", self._settings)

    def link_down(self, link: str) -> None:
        """Somebody can't be reached any more: dead, or cut off; that will be seen."""
        now = time.monotonic()
        self._lost.add(link)
        self._tries = [now + delay for delay in _LOST_RETRY_DELAYS]
        if not self._links:
            self._alone_since = now

    async def keep(self) -> None:
        """Look around, again and again, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            try:
                await self._check(time.monotonic())
            except Exception:
                logger.exception("%s: looking for other nodes failed", self._settings)

    async def _check(self, now: float) -> None:
        missed = self._missed_siblings()
        seeds, unknown = await resolve(self._settings.seeds)
        others = [seed for seed in seeds if not is_own_address(seed, self._own_ports)]
        peers = await self._peers()
        missed += self._new_endpoints(others, peers)
        lost = self._lost_endpoints(now, peers)
        if missed or lost is not None:
            await self._introduce(missed + (lost or []))
        if self._links or not (missed or others or unknown):
            return
        if now - self._alone_since >= LONELY_PERIOD:
            self.is_isolated = True
            if now - self._logged_at >= LONELY_LOG_INTERVAL:
                self._logged_at = now
                reasons = await self._reasons(others, unknown, is_connected=bool(peers))
                logger.warning(
                    "%s: alone for %.0f s, though others are expected: %s",
                    self._settings,
                    now - self._alone_since,
                    "; ".join(reasons),
                )

    def _missed_siblings(self) -> list[str]:
        if self._announcement is None:
            return []
        self._announcement.touch()
        return [
            f"unixsock-stream/{path}"
            for link, path in self._announcement.others().items()
            if link not in self._links
        ]

    def _lost_endpoints(self, now: float, peers: list[str]) -> list[str] | None:
        """Where lost nodes were, if it is time to try that again; ``None`` if it is not."""
        if not self._lost:
            self._remembered = dict.fromkeys((*self._remembered, *peers)[-_MAX_REMEMBERED_COUNT:])
        if not self._tries or self._tries[0] > now:
            return None
        endpoints = [endpoint for endpoint in self._remembered if endpoint not in peers]
        self._tries = [at for at in self._tries if at > now]
        if not self._tries:  # they are dead
            self._lost.clear()
            self._remembered.clear()
        return endpoints

    def _new_endpoints(self, seeds: list[Address], peers: list[str]) -> list[str]:
        """Addresses that the session was not opened with, and is not connected to."""
        fresh = [seed for seed in seeds if self._settings.endpoint(seed) not in self._endpoints]
        if not fresh or self._settings.tls_verify_name:  # then zenoh has the names themselves
            return []
        # Of a machine that connected to us the port is not its listener's, so any port will do.
        hosts = {peer.partition("/")[2].rpartition(":")[0].strip("[]") for peer in peers}
        return [
            self._settings.endpoint(seed)
            for seed in fresh
            if self._settings.endpoint(seed) not in peers
            and (seed.is_loopback or seed.host not in hosts)
        ]

    async def _reasons(
        self, seeds: list[Address], unknown: list[Address], *, is_connected: bool
    ) -> list[str]:
        """Why nobody might be there, with what to check."""
        reasons = [f"{name.host} is a name without an address" for name in unknown]
        reasons += [f"{seed} {await _why_silent(seed)}" for seed in seeds]
        if is_connected:
            reasons.append(f"nobody else has the namespace {self._settings.namespace!r}")
        return reasons or ["sibling workers are there, but can't be reached"]


async def _why_silent(seed: Address) -> str:
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT):
            _, writer = await asyncio.open_connection(seed.host, seed.port)
    except TimeoutError:
        return "does not answer: is a firewall between us?"
    except OSError as error:
        return f"can't be reached ({error.strerror or error}): is a node listening there?"
    writer.close()
    return "answers, but does not let us in: compare credentials, certificates, and TLS or not"
