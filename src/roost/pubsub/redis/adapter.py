"""Nodes that hear each other through Redis, or Valkey: ``pip install "roost[redis]"``.

Messages go over Redis's publish/subscribe: nothing is stored, and it needs no configuration. Each
node subscribes to three channels: ``<namespace>:all``, ``<namespace>:node:<name>`` and
``<namespace>:link:<link>``; whether the link of another node is alive is seen by its channel still
having a subscriber. Redis counts these on one server, so all nodes name the same one, not different
nodes of a Redis Cluster. Channels are those of the server, whatever the number of the database: it
is the namespace that keeps two apps apart.

A user of Redis's access control needs no more than ``resetkeys &<namespace>:* +publish +subscribe
+pubsub|numsub``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from roost.exceptions import ConfigurationError
from roost.pubsub.broker.adapter import BrokerAdapter
from roost.pubsub.broker.outbox import Address
from roost.pubsub.broker.reasons import connection_reason
from roost.pubsub.broker.url import take_parameters

if TYPE_CHECKING:
    from roost.pubsub.redis.connection import RedisConnection

__all__ = ["RedisAdapter"]


class RedisAdapter(BrokerAdapter):
    """The way between nodes through a Redis server.

    Args:
        url: ``redis://user:password@host:6379``, ``rediss://…`` for TLS, or
            ``unix:///path/of/socket``; ``valkey`` and ``valkeys`` are the same as ``redis`` and
            ``rediss``. ``namespace=`` and options of redis-py may follow as query parameters.
            ``protocol=`` makes no difference: 2 is spoken, which every server understands.
        node_name: Name of the node; by default unique.
        namespace: Keeps apps on one server apart: letters, digits, ``-`` and ``_``; the URL's
            comes first.
        max_outbox_count: How many messages may wait for the server; more are dropped and counted.
        max_outbox_size: How many bytes they may have together.
        options: More options of redis-py's connection, such as ``ssl_ca_certs="ca.pem"``.

    Raises:
        ConfigurationError: An option can't work, or redis-py is not installed.

    Example:
        >>> RedisAdapter("redis://:secret@10.0.0.5:6379", node_name="web-1").engine
        'redis://10.0.0.5:6379'
    """

    def __init__(
        self,
        url: str,
        *,
        node_name: str | None = None,
        namespace: str = "roost",
        max_outbox_count: int = 50_000,
        max_outbox_size: int = 32 * 2**20,
        **options: Any,
    ) -> None:
        try:
            from roost.pubsub.redis import connection
        except ImportError as error:
            raise ConfigurationError(
                'RedisAdapter needs redis-py: pip install "roost[redis]"'
            ) from error
        url, given = take_parameters(url, {"namespace", "protocol"})
        super().__init__(
            _without_credentials(url),
            node_name=node_name,
            namespace=given.get("namespace", namespace),
            max_outbox_count=max_outbox_count,
            max_outbox_size=max_outbox_size,
        )
        self._library = connection
        try:
            _check_protocol(options.pop("protocol", given.get("protocol", 2)))
            self._pool = connection.make_pool(_of_redis(url), options)
        except (ValueError, TypeError) as error:  # of the URL, of an option
            raise ConfigurationError(f"a Redis URL or option that can't work: {error}") from error

    async def _connect(
        self, addresses: Sequence[Address], receive: Callable[[bytes], None]
    ) -> RedisConnection:
        return await self._library.connect(self._pool, self.namespace, addresses, receive)

    def _explain(self, error: BaseException) -> str | None:
        return connection_reason(error) or self._library.explain(error)


def _check_protocol(version: object) -> None:
    if str(version) not in {"2", "3"}:
        raise ValueError(f"protocol={version}: expected 2 or 3")


def _of_redis(url: str) -> str:
    """The URL as redis-py knows it."""
    scheme, separator, rest = url.partition("://")
    known = {"valkey": "redis", "valkeys": "rediss"}.get(scheme.lower(), scheme)
    return f"{known}{separator}{rest}"


def _without_credentials(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return scheme + separator + rest.partition("?")[0].rpartition("@")[2] if separator else "redis"
