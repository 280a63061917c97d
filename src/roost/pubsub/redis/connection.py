"""One attachment to a Redis server, by redis-py's connections.

There are two: one is subscribed and only receives, the other publishes and asks. Of redis-py's
layers the lowest is used: its clients and pools connect again behind one's back, and what was
missed meanwhile would go unnoticed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from redis import exceptions as redis_errors
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from roost.pubsub.broker.adapter import ConnectionLost, SlowConsumer
from roost.pubsub.broker.outbox import Address

__all__ = ["RedisConnection", "connect", "explain", "make_pool"]

PROBE_TIMEOUT: Final = 0.5  # seconds for the server to say that only our subscription ended


def make_pool(url: str, options: Mapping[str, Any]) -> ConnectionPool:
    """Read the URL and options, and check that connections can be made of them; opens nothing.

    Raises:
        ValueError, TypeError: They can't.
    """
    pool: ConnectionPool = ConnectionPool.from_url(
        url,
        # Version 2 of the protocol is what every server speaks; 3 hands messages over otherwise.
        **{"protocol": 2, "socket_timeout": None, "retry": Retry(NoBackoff(), 0), **options},
    )
    _make_connection(pool)
    return pool


async def connect(
    pool: ConnectionPool,
    namespace: str,
    addresses: Sequence[Address],
    receive: Callable[[bytes], None],
) -> RedisConnection:
    """Connect and subscribe; whatever fails, nothing is left behind."""
    connection = RedisConnection(pool, namespace, receive)
    try:
        await connection.open(addresses)
    except BaseException:
        await connection.close()
        raise
    return connection


def explain(error: BaseException) -> str | None:
    """Say what went wrong between us and the server."""
    match error:
        case redis_errors.AuthenticationError():
            return f"wrong or missing credentials ({error}): give user and password in the URL"
        case redis_errors.NoPermissionError():
            return (
                f"no permission ({error}): allow the user `&<namespace>:* +publish +subscribe "
                "+pubsub|numsub`"
            )
        case redis_errors.BusyLoadingError():
            return "it is still loading its data"
        case redis_errors.InvalidResponse():
            return "what answers there is no Redis server: is the port right?"
        case redis_errors.ConnectionError():
            return f"the server closed the connection ({error}): is it a Redis server, does it run?"
        case redis_errors.RedisError():
            return str(error)
        case _:
            return None


class RedisConnection:
    """Two connections to a server: one that is subscribed, one for commands."""

    max_size = None  # a server takes 512 MB

    def __init__(
        self, pool: ConnectionPool, namespace: str, receive: Callable[[bytes], None]
    ) -> None:
        self._namespace = namespace
        self._receive = receive
        self._subscription: AbstractConnection = _make_connection(pool)
        self._commands: AbstractConnection = _make_connection(pool)
        self._transports: list[asyncio.WriteTransport] = []
        self._turn = asyncio.Lock()  # whose commands are answered next
        self._heard = asyncio.Event()
        self._own_channel = b""

    async def open(self, addresses: Sequence[Address]) -> None:
        for connection in (self._commands, self._subscription):
            await connection.connect()  # type: ignore[no-untyped-call]
            if connection._writer is not None:
                self._transports.append(connection._writer.transport)
        channels = [self._channel(address) for address in addresses]
        self._own_channel = channels[-1]
        await self._subscription.send_command("SUBSCRIBE", *channels)
        missing = len(channels)
        while missing:
            if await self._read() == b"subscribe":
                missing -= 1
        await self._execute(self._questions([]))  # to be refused now rather than a second later

    async def run(self) -> None:
        try:
            while True:
                await self._read()
        except redis_errors.ConnectionError as error:
            if await self._still_answers():  # a server that went away ends both connections
                raise SlowConsumer(
                    "the server ended our subscription: we read too slowly for its "
                    "client-output-buffer-limit pubsub, or somebody killed it"
                ) from error
            raise

    async def send(self, frames: Sequence[tuple[Address, bytes]]) -> None:
        await self._execute(
            [("PUBLISH", self._channel(address), frame) for address, frame in frames]
        )

    async def check(self, links: Sequence[str]) -> Collection[str]:
        self._heard.clear()
        _, counts = await self._execute(self._questions(links))
        await self._heard.wait()
        return [link for link, count in zip(links, counts[1::2], strict=True) if count == 0]

    async def close(self) -> None:
        # What a stalled server hasn't taken would keep the sockets open for minutes.
        for transport in self._transports:
            transport.abort()
        for connection in (self._subscription, self._commands):
            await connection.disconnect(nowait=True)

    def _channel(self, address: Address) -> bytes:
        return ":".join((self._namespace, *address)).encode()

    async def _read(self) -> bytes:
        """Take the next of what the subscription brings; returns its kind."""
        reply = await self._subscription.read_response(disable_decoding=True)
        match reply:
            case [b"message", bytes(channel), bytes(data)]:
                self._heard.set()
                if channel != self._own_channel or data:
                    self._receive(data)
                return b"message"
            case [bytes(kind), *_]:
                return kind
            case _:
                raise ConnectionLost("it answered with something else than a message")

    def _questions(self, links: Sequence[str]) -> list[tuple[Any, ...]]:
        """What to ask for a sign of life: something to ourselves for the subscription to hear."""
        channels = [self._channel(("link", link)) for link in links]
        return [("PUBLISH", self._own_channel, b""), ("PUBSUB", "NUMSUB", *channels)]

    async def _still_answers(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                await self._execute([("PING",)])
        except redis_errors.NoPermissionError:
            return True
        except (redis_errors.RedisError, ConnectionLost, TimeoutError):
            return False
        return True

    async def _execute(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Send commands in one go and return their answers.

        All are read before one that is an error is raised: else the next would be taken for it.
        """
        async with self._turn:
            if not self._commands.is_connected:  # it would connect again by itself
                raise ConnectionLost("the server closed the connection")
            await self._commands.send_packed_command(self._commands.pack_commands(commands))
            answers = []
            refused: redis_errors.ResponseError | None = None
            for _ in commands:
                try:
                    answers.append(await self._commands.read_response(disable_decoding=True))
                except redis_errors.ResponseError as error:
                    refused = error
            if refused is not None:
                raise refused
            return answers


def _make_connection(pool: ConnectionPool) -> AbstractConnection:
    connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]
    return connection
