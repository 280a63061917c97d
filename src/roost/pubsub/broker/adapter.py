"""The way through an engine in the middle: what is the same for every such engine.

The clients of engines reconnect by themselves, and yet did not come back from a cut of 30 seconds
when we measured it; nor do they say what was lost meanwhile. So a run of an adapter keeps its own
connection, and a new one after each loss:

    attached ── nothing heard for 2 s, an error, an end ──▶ detached
    detached ── connected and subscribed, after a back-off of up to 2 s ──▶ attached

While attached, three tasks live with the connection: one receives, one sends what gathers in the
outbox, one asks the engine once a second for a sign of life, and for the links that are gone. The
first that fails ends all three. While detached what is published is dropped and counted: nobody
could say how long it would have to wait, and replication repairs what is missing anyway.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import secrets
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import suppress
from typing import ClassVar, Final, Protocol

from roost.exceptions import AdapterError, ConfigurationError
from roost.pubsub.adapter import LinkEvents
from roost.pubsub.broker.frames import Hello, Messages, Piece, decode_frame, encode_frame
from roost.pubsub.broker.joiner import MAX_MESSAGE_SIZE, Joiner
from roost.pubsub.broker.neighbours import Neighbours
from roost.pubsub.broker.outbox import Address, Outbox
from roost.pubsub.node_names import NodeName
from roost.repeats import Repeats

__all__ = ["BrokerAdapter", "Connection", "ConnectionLost", "SlowConsumer"]

logger = logging.getLogger("roost.pubsub")

CONNECT_TIMEOUT: Final = 5.0  # seconds for one attempt to attach, all of it
CHECK_INTERVAL: Final = 1.0  # seconds between signs of life
SILENCE_TIMEOUT: Final = 2.0  # seconds without a sign or a message until the engine counts as lost
ANSWER_TIMEOUT: Final = 10.0  # seconds without a sign although messages come: they may hide it
MAX_BACK_OFF: Final = 2.0  # seconds between two attempts
FLUSH_TIMEOUT: Final = 1.0  # seconds that ``close`` gives to what waits
_SLICES: Final = 20  # of SILENCE_TIMEOUT

PIECE_OVERHEAD_SIZE: Final = 8  # bytes: the head of what a piece carries
MIN_PIECE_SIZE: Final = 128  # bytes: below it a message would take too many

EVERYBODY: Final[Address] = ("all",)


class ConnectionLost(Exception):
    """The engine is gone; says why."""


class SlowConsumer(ConnectionLost):
    """The engine ended the connection since we read too slowly."""


class Connection(Protocol):
    """One attachment to an engine, subscribed; any exception means that it is lost."""

    @property
    def max_size(self) -> int | None:
        """How many bytes the engine carries in one piece; None for any number."""
        ...

    @property
    def other_count(self) -> int | None:
        """How many others the engine had subscribed at the last check; None if it does not say."""
        ...

    async def run(self) -> None:
        """Receive until the connection is lost, and raise why."""
        ...

    async def send(self, frames: Sequence[tuple[Address, bytes]]) -> None:
        """Send in order, and return when the engine has it all."""
        ...

    async def check(self, links: Sequence[str]) -> Collection[str]:
        """Return when the engine has shown on every socket that it is alive.

        Returns:
            Those of ``links`` that it no longer knows.
        """
        ...

    async def close(self) -> None:
        """Close at once: what the engine has not taken is lost."""
        ...


class BrokerAdapter(ABC):
    """An ``Adapter`` over an engine in the middle; a subclass knows how to connect to its engine.

    Args:
        engine: Where the engine is, without credentials, for errors and the log.
        node_name: Name of the node; by default unique.
        namespace: Keeps apps on one engine apart: letters, digits, ``-`` and ``_``.
        max_outbox_count: How many messages may wait for the engine.
        max_outbox_size: How many bytes they may have together.

    Raises:
        ConfigurationError: One of these can't work.
    """

    reaches_others = True
    silent_period: ClassVar[float] = 0.0  # seconds of silence until a link is asked about
    max_asked_count: ClassVar[int] = 1_000_000  # links asked about in one check

    def __init__(
        self,
        engine: str,
        *,
        node_name: str | None,
        namespace: str,
        max_outbox_count: int,
        max_outbox_size: int,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", namespace):
            raise ConfigurationError(
                f"namespace={namespace!r}: expected up to 64 letters, digits, - and _"
            )
        if max_outbox_count < 1 or max_outbox_size < 1:
            raise ConfigurationError("max_outbox_count and max_outbox_size: expected at least 1")
        self.engine = engine
        self._name = NodeName(node_name)
        self.namespace = namespace
        self.max_outbox_count = max_outbox_count
        self.max_outbox_size = max_outbox_size
        self.link = ""
        self.counters: Counter[str] = Counter()
        self._run: _Run | None = None

    @abstractmethod
    async def _connect(
        self, addresses: Sequence[Address], receive: Callable[[bytes], None]
    ) -> Connection:
        """Connect and subscribe to the addresses; leave nothing behind on failure."""

    @abstractmethod
    def _explain(self, error: BaseException) -> str | None:
        """Say what went wrong and what to do about it; None if such an error isn't expected."""

    @property
    def node_name(self) -> str:
        """Unique name of this node."""
        return str(self._name)

    @property
    def is_attached(self) -> bool:
        return self._run is not None and self._run.is_attached

    @property
    def free_size(self) -> int:
        """How many bytes it takes now that make nothing wait long for the engine."""
        return self._run.outbox.free_size if self.is_attached and self._run is not None else 0

    @property
    def max_size(self) -> int | None:
        """How many bytes the engine takes in one piece now; larger messages go in several."""
        return None if self._run is None else self._run.max_size

    @property
    def is_isolated(self) -> bool:
        """Whether others have been subscribed for 10 s, and none of them was heard."""
        return self._run is not None and self._run.neighbours.is_isolated

    async def start(self, deliver: Callable[[bytes], None], links: LinkEvents) -> None:
        """Attach to the engine; from now on call ``deliver`` on the loop for each message.

        Raises:
            AdapterError: The engine cannot be reached, or refuses us; nothing is left behind.
            ConfigurationError: It is running already.
        """
        if self._run is not None and not self._run.loop.is_closed():
            raise ConfigurationError("this adapter is running: close it first")
        run = _Run(self, deliver, links)
        await run.start()
        self._run, self.link = run, run.link

    async def close(self) -> None:
        """Send what waits, within a second, and detach."""
        run, self._run = self._run, None
        if run is not None and not run.loop.is_closed():
            await run.close()

    def publish(self, data: bytes) -> None:
        """Send to all other nodes, not to this one."""
        self._put(EVERYBODY, data)

    def publish_to(self, node_name: str, data: bytes) -> None:
        """Send to one other node; nothing happens if there is none of that name."""
        self._put(("node", node_name), data)

    def _put(self, address: Address, data: bytes) -> None:
        if self._run is None:
            self.counters["stopped"] += 1
        elif not self._run.is_attached:
            self.counters["detached"] += 1
        else:
            self._run.outbox.put(address, data)


class _Run:
    """What exists from start to close."""

    def __init__(
        self, adapter: BrokerAdapter, deliver: Callable[[bytes], None], links: LinkEvents
    ) -> None:
        self.adapter = adapter
        self.loop = asyncio.get_running_loop()
        self.link = secrets.token_hex(8)
        self.is_attached = False
        self.outbox = Outbox(
            max_count=adapter.max_outbox_count,
            max_size=adapter.max_outbox_size,
            counters=adapter.counters,
        )
        self.neighbours = Neighbours(links)
        self._deliver = deliver
        self._links = links
        self._heard_count = 0
        self._cut_count = 0  # messages that were sent in pieces
        self._too_large = Repeats()
        self._pieces_of = Joiner(adapter.counters)
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def max_size(self) -> int | None:
        return None if self._connection is None else self._connection.max_size

    # Life.

    async def start(self) -> None:
        self._connection = await self._connect()
        self._attached()
        self._task = asyncio.create_task(self._keep_attached(), name="roost-adapter")

    async def close(self) -> None:
        task = self._task
        assert task is not None, "only a run that started is closed"
        try:
            if self.is_attached:
                with suppress(TimeoutError):
                    async with asyncio.timeout(FLUSH_TIMEOUT):
                        await self.outbox.emptied()
        finally:
            self.is_attached = False
            task.cancel()
            await asyncio.wait({task})
            if self._connection is not None:  # a task cancelled before its first step left it open
                await self._connection.close()
            self.outbox.drop_all("stopped")

    async def _keep_attached(self) -> None:
        while True:
            connection = self._connection
            assert connection is not None, "there is one from start on"
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(connection.run())
                    tasks.create_task(self._send(connection))
                    tasks.create_task(self._check(connection))
            except* Exception as group:
                self._detached(_first(group))
            finally:
                await connection.close()
            self._connection = await self._reconnect()
            self._attached()
            # What others sent meanwhile is missed, and nobody knows how much that was.
            self.adapter.counters["reattached"] += 1
            logger.info("attached to %s again", self.adapter.engine)
            self._guarded(self._links.attached)

    async def _connect(self) -> Connection:
        adapter = self.adapter
        addresses = [EVERYBODY, ("node", adapter.node_name), ("link", self.link)]
        connection: Connection | None = None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                connection = await adapter._connect(addresses, self._receive)
                await connection.send([(EVERYBODY, self._hello())])
                return connection
        except BaseException as error:
            if connection is not None:
                await connection.close()
            if not isinstance(error, Exception):
                raise
            reason = adapter._explain(error)
            if reason is None:
                if not isinstance(error, TimeoutError):
                    raise
                reason = (
                    f"no answer within {CONNECT_TIMEOUT:g} s: is the server overloaded, the "
                    "network cut, or does only one side speak TLS?"
                )
            raise AdapterError(adapter.engine, reason) from error

    async def _reconnect(self) -> Connection:
        back_off, said = 0.1, ""
        while True:
            await asyncio.sleep(random.uniform(back_off / 2, back_off))
            back_off = min(2 * back_off, MAX_BACK_OFF)
            try:
                return await self._connect()
            except Exception as error:
                if not isinstance(error, AdapterError):
                    logger.exception("an attempt to attach to %s failed", self.adapter.engine)
                elif error.reason != said:
                    said = error.reason
                    logger.warning("still detached: %s", error)

    def _attached(self) -> None:
        self.is_attached = True
        self.neighbours.attached(self.loop.time())

    def _detached(self, error: Exception) -> None:
        self.is_attached = False
        if isinstance(error, SlowConsumer):
            self.adapter.counters["slow_consumer"] += 1
        self.outbox.drop_all("detached")
        reason = str(error) if isinstance(error, ConnectionLost) else self.adapter._explain(error)
        logger.warning(
            "detached from %s: %s",
            self.adapter.engine,
            reason or "an unexpected error",
            exc_info=error if reason is None else None,
        )
        self._guarded(self._links.detached)

    # Sending.

    async def _send(self, connection: Connection) -> None:
        while True:
            batch = await self.outbox.take()
            frames = [
                (address, frame)
                for address, messages in batch
                for frame in self._frames(address, messages, connection.max_size)
            ]
            await connection.send(frames)
            self.outbox.sent()

    def _frames(
        self, address: Address, messages: list[bytes], max_size: int | None
    ) -> Iterator[bytes]:
        if address[0] == "link":  # nothing but answers to a hello goes there
            messages = []
        frame = encode_frame(Messages(self.link, self.adapter.node_name, messages))
        if max_size is None or len(frame) <= max_size:
            yield frame
        elif len(messages) > 1:
            for message in messages:
                yield from self._frames(address, [message], max_size)
        else:
            yield from self._pieces(messages[0], max_size)

    def _pieces(self, message: bytes, max_size: int) -> Iterator[bytes]:
        """Frames with a piece of a message each, which is too large for one."""
        name, largest = self.adapter.node_name, MAX_MESSAGE_SIZE
        empty = encode_frame(Piece(self.link, name, 1 << 63, largest, largest, b""))
        piece_size = max_size - len(empty) - PIECE_OVERHEAD_SIZE
        if piece_size < MIN_PIECE_SIZE or len(message) > MAX_MESSAGE_SIZE:
            self.adapter.counters["too_large"] += 1
            what = (
                "%d messages were too large, the last with %d bytes: %s takes %d bytes in one "
                "piece; raise its limit, or send less at once"
            )
            size, engine = len(message), self.adapter.engine
            self._too_large.note(lambda count: logger.error(what, count, size, engine, max_size))
            return
        self._cut_count += 1
        for at in range(0, len(message), piece_size):
            piece = message[at : at + piece_size]
            yield encode_frame(Piece(self.link, name, self._cut_count, at, len(message), piece))

    def _hello(self) -> bytes:
        return encode_frame(Hello(self.link, self.adapter.node_name))

    # Receiving.

    def _receive(self, data: bytes) -> None:
        self._heard_count += 1
        frame = decode_frame(data)
        if frame is None:
            self.adapter.counters["unsound"] += 1
            return
        if frame.link == self.link:
            return
        self._guarded(self.neighbours.heard, frame.node_name, frame.link, self.loop.time())
        match frame:
            case Hello():
                self.outbox.put(("link", frame.link), b"")
            case Messages():
                for message in frame.messages:
                    self._guarded(self._deliver, message)
            case Piece():
                whole = self._pieces_of.add(frame)
                if whole is not None:
                    self._guarded(self._deliver, whole)

    def _guarded(self, callback: Callable[..., None], *args: object) -> None:
        try:
            callback(*args)
        except Exception:  # of others: it must not end the adapter
            logger.exception("a callback of the adapter failed")

    # The engine's health, and that of links.

    async def _check(self, connection: Connection) -> None:
        adapter = self.adapter
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            links = self.neighbours.to_ask(
                self.loop.time(),
                silent_period=adapter.silent_period,
                max_count=adapter.max_asked_count,
            )
            gone = await self._answer(connection.check(links))
            for link in links:
                if link in gone:
                    self._guarded(self.neighbours.gone, link)
                else:
                    self.neighbours.asked(link, self.loop.time())
            self.neighbours.counted(connection.other_count, self.loop.time())

    async def _answer(self, answer: Awaitable[Collection[str]]) -> Collection[str]:
        """Wait for the answer to a check.

        The time is counted in slices, so that a loop which was held up itself for seconds, with the
        answer waiting in the socket, blames the engine for one slice only.
        """
        task = asyncio.ensure_future(answer)
        slice_period = SILENCE_TIMEOUT / _SLICES
        silent_count, heard_count = 0, self._heard_count
        try:
            for _ in range(int(ANSWER_TIMEOUT / slice_period)):
                done, _ = await asyncio.wait({task}, timeout=slice_period)
                if done:
                    return task.result()
                silent_count = silent_count + 1 if heard_count == self._heard_count else 0
                heard_count = self._heard_count
                if silent_count >= _SLICES:
                    break
        finally:
            task.cancel()
            await asyncio.wait({task})
        raise ConnectionLost("it does not answer: is it overloaded, or the network cut?")


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    """The error that came first; a group within the group doesn't happen."""
    error = group.exceptions[0]
    assert isinstance(error, Exception)
    return error
