"""How many connections there may be, and which of them goes first when there are too many.

Theory of operation. A connection is *waiting* until its first request head is whole: until then
nobody knows what it is for, and it costs its client nothing. Then it is *admitted*. Bounds are
looked at when it is made, and, if it comes by a proxy, whose own address says nothing, once more
with the address that the head tells:

- in all (``max_connections``). By default somewhat fewer than the process may have files, since at
  the last file nothing works any more, neither logs nor the goodbye to those who are there.
- from one address (``max_connections_per_address``).
- new ones in a second (``max_connection_rate``), on average over two.
- waiting ones (``max_waiting``). Who has waited longest goes, if that is a quarter of a second: a
  client sends its head in one round trip, so that whoever comes now is likelier to be one. Else who
  comes.

What is refused is answered at once with 503 and ``retry-after``, without reading it, and counted.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from roost.asgi.uvicorn.head import Head
from roost.repeats import Repeats

__all__ = ["Admission", "Bounds", "Refused", "TrustedProxies", "file_limit"]

logger = logging.getLogger("roost.asgi.uvicorn")

HEAD_TIMEOUT: Final = 10.0  # seconds for a whole request head
PATIENCE: Final = 0.25  # seconds after which a waiting connection may lose its place
BURST_DURATION: Final = 2.0  # seconds whose worth of new connections may come at once
MAX_LINGERING: Final = 100  # refused connections that are given time to read why

ENVIRONMENT: Final = "ROOST_"


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one process. None: no bound.

    Args:
        max_connections: In all.
        max_connections_per_address: From one address; behind a trusted proxy, its client's.
        max_connection_rate: New ones in a second.
        max_waiting: That have not sent a whole request head.
        head_timeout: Seconds for that.
    """

    max_connections: int | None = None
    max_connections_per_address: int | None = None
    max_connection_rate: float | None = None
    max_waiting: int = 4_096
    head_timeout: float = HEAD_TIMEOUT

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Bounds:
        """What the variables say, such as ``ROOST_MAX_CONNECTIONS``.

        Without that, a tenth of the files that the process may have is kept for other things, at
        least 32 and at most 1,000.

        Raises:
            ValueError: A variable is no such number.

        Example:
            >>> Bounds.from_environment({"ROOST_MAX_CONNECTIONS": "500"}).max_connections
            500
        """
        given = {
            field.name: environment[name]
            for field in msgspec.structs.fields(cls)
            if (name := ENVIRONMENT + field.name.upper()) in environment
        }
        try:
            bounds = msgspec.convert(given, cls, strict=False)
        except msgspec.ValidationError as error:
            raise ValueError(f"the environment's {ENVIRONMENT}… bounds: {error}") from error
        if bounds.max_connections is None and (limit := file_limit()) is not None:
            kept = min(1_000, max(32, limit // 10))
            bounds = msgspec.structs.replace(bounds, max_connections=max(1, limit - kept))
        return bounds


def file_limit() -> int | None:
    """How many files this process may have; None where there is no such limit."""
    try:
        import resource
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


class TrustedProxies:
    """Proxies whose ``X-Forwarded-For`` is believed, as uvicorn's option names them.

    Args:
        names: Addresses and networks, separated by commas, or ``*``.

    Example:
        >>> proxies = TrustedProxies("10.0.0.0/8")
        >>> proxies.client(b"203.0.113.7, 10.1.1.1"), "10.1.1.1" in proxies
        ('203.0.113.7', True)
    """

    def __init__(self, names: str | list[str]) -> None:
        listed = names.split(",") if isinstance(names, str) else names
        self._trusts_all = "*" in listed
        self._names = {name.strip() for name in listed}
        self._networks = []
        for name in self._names:
            try:
                self._networks.append(ipaddress.ip_network(name, strict=False))
            except ValueError:  # a name, as of a Unix socket
                continue

    def __contains__(self, host: object) -> bool:
        if self._trusts_all or host in self._names:
            return True
        try:
            address = ipaddress.ip_address(str(host))
        except ValueError:
            return False
        return any(address in network for network in self._networks)

    def client(self, forwarded_for: bytes) -> str:
        """The last address that no trusted proxy has; the first one, if all are trusted."""
        hosts = [_without_port(host) for host in forwarded_for.decode("latin-1").split(",")]
        if self._trusts_all:
            return hosts[0]
        return next((host for host in reversed(hosts) if host not in self), hosts[0])


def _without_port(host: str) -> str:
    host = host.strip()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0] if host.count(":") == 1 else host


class Waiting(Protocol):
    """A connection that has not sent a whole request head."""

    @property
    def host(self) -> str | None:
        """The address of whoever is at the other end."""
        ...

    def too_late(self) -> None:
        """Its time is over."""
        ...

    def abort(self) -> None:
        """Close it at once."""
        ...


class Admission:
    """The connections of one server, as far as they are counted.

    Args:
        bounds: What may be.
        loop: Whose clock counts.
        proxies: Whose clients are told by a header.

    Attributes:
        counters: What was refused: reason → how often.
        count: Connections that there are.
    """

    def __init__(
        self, bounds: Bounds, loop: asyncio.AbstractEventLoop, proxies: TrustedProxies
    ) -> None:
        self.bounds = bounds
        self.counters: Counter[str] = Counter()
        self.count = 0
        self._proxies = proxies
        self._loop = loop
        self._waiting: dict[Waiting, float] = {}  # since when, the longest first
        self._timer: asyncio.TimerHandle | None = None
        self._from_address: Counter[str] = Counter()
        self._lingering_count = 0
        self._new_count = 0.0  # allowed by the rate
        self._refilled_at = loop.time() - BURST_DURATION
        self._repeats: dict[str, Repeats] = {}

    @property
    def waiting_count(self) -> int:
        """Connections that have not sent a whole request head."""
        return len(self._waiting)

    # In the life of a connection.

    def made(self, connection: Waiting) -> str | None:
        """A connection was made; it counts until ``lost``, also if it is to be refused.

        Returns:
            The address that it was counted for; None if that is known later, or does not matter.

        Raises:
            Refused: It is one too many.
        """
        self.count += 1
        bounds = self.bounds
        now = self._loop.time()
        if bounds.max_connections is not None and self.count > bounds.max_connections:
            raise Refused(self._note("connections_full", connection.host))
        if bounds.max_connection_rate is not None and not self._may_be_new(now):
            raise Refused(self._note("connection_rate", connection.host))
        waiting = self._waiting
        if len(waiting) >= bounds.max_waiting:
            oldest, since = next(iter(waiting.items()))
            reason = self._note("waiting_full", connection.host)
            if now - since < PATIENCE:
                raise Refused(reason)
            del waiting[oldest]
            oldest.abort()
        address = None
        if bounds.max_connections_per_address is not None:
            host = connection.host
            if host not in self._proxies:
                address = self._count_address(host or "")
        waiting[connection] = now
        if self._timer is None:
            self._timer = self._loop.call_later(bounds.head_timeout, self._check)
        return address

    def came_by_proxy(self, connection: Waiting, head: Head) -> str | None:
        """The head of a connection came that has no address yet; returns as ``made`` does.

        Raises:
            Refused: Its client has too many.
        """
        if self.bounds.max_connections_per_address is None:
            return None
        hosts = head.get_all(b"x-forwarded-for")
        if not hosts or connection.host not in self._proxies:
            return None
        return self._count_address(self._proxies.client(b",".join(hosts)))

    def waits_no_more(self, connection: Waiting) -> None:
        """Its head is whole, or never will be."""
        self._waiting.pop(connection, None)

    def lost(self, connection: Waiting, address: str | None) -> None:
        """It is gone."""
        self.count -= 1
        self._waiting.pop(connection, None)
        if address is not None:
            self._from_address[address] -= 1
            if not self._from_address[address]:
                del self._from_address[address]

    def may_linger(self) -> bool:
        """Whether one that is refused may have time to read why; ``lingered`` when it had."""
        if self._lingering_count >= MAX_LINGERING:
            return False
        self._lingering_count += 1
        return True

    def lingered(self) -> None:
        """One that was refused is gone."""
        self._lingering_count -= 1

    def note(self, reason: str, host: str | None) -> None:
        """Count what a connection was closed for, and log it, not too often."""
        self._note(reason, host)

    # How.

    def _count_address(self, address: str) -> str:
        limit = self.bounds.max_connections_per_address
        assert limit is not None, "nobody counts addresses without a bound"
        if self._from_address[address] >= limit:
            raise Refused(self._note("address_full", address))
        self._from_address[address] += 1
        return address

    def _may_be_new(self, now: float) -> bool:
        rate = self.bounds.max_connection_rate
        assert rate is not None, "nobody asks without a bound"
        most = max(1.0, rate * BURST_DURATION)
        self._new_count = min(most, self._new_count + (now - self._refilled_at) * rate)
        self._refilled_at = now
        if self._new_count < 1:
            return False
        self._new_count -= 1
        return True

    def _check(self) -> None:
        """Close who has waited too long, and look again when the next one will have."""
        self._timer = None
        now, timeout = self._loop.time(), self.bounds.head_timeout
        while self._waiting:
            connection, since = next(iter(self._waiting.items()))
            rest = since + timeout - now
            if rest > 0:
                self._timer = self._loop.call_later(rest, self._check)
                return
            del self._waiting[connection]
            connection.too_late()

    def _note(self, reason: str, host: str | None) -> str:
        self.counters[reason] += 1

        def log(count: int) -> None:
            logger.warning(
                "%s: %d connections were closed, the last one of %s; there are %d, and %d wait for "
                "their request",
                _WHY[reason],
                count,
                host or "somebody",
                self.count,
                len(self._waiting),
            )

        self._repeats.setdefault(reason, Repeats()).note(log)
        return reason


class Refused(Exception):
    """A connection is one too many.

    Attributes:
        reason: As it was counted.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


_WHY: Final[Mapping[str, str]] = {
    "connections_full": "there are as many connections as may be (--max-connections)",
    "connection_rate": "more connections come than may in a second (--max-connection-rate)",
    "waiting_full": "too many connections send no request (--max-waiting)",
    "address_full": "an address has as many connections as may be (--max-connections-per-address)",
    "head_timeout": "a request did not come whole in time (--head-timeout)",
    "bad_head": "a request is none, or is too large",
    "concurrency_full": "the server has as much to do as may be (--limit-concurrency)",
    "message_too_big": "a message is larger than may be",
}
