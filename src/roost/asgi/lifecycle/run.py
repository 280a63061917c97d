"""One run of an endpoint, from start to stop: what lives as long as its connections."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Self

from roost.asgi.drainer import DrainerLike
from roost.asgi.lifecycle.shutdown import close_all
from roost.asgi.thread_calls import ThreadCalls
from roost.asgi.transports.limits import BoundedTransport
from roost.asgi.transports.write_queue import WriteQueue
from roost.channels.fastlane import FASTLANE, dispatch
from roost.channels.hub import Hub
from roost.channels.tasks import asking, to_the_end
from roost.presence.base import TrackerBase
from roost.pubsub.pubsub import PubSub

__all__ = ["Run"]


class Run:
    """What lives from an endpoint's start to its stop; made by ``start``.

    Attributes:
        loop: The event loop that it belongs to.
        hub: What the connections share.
        write_queue: Those of them that have something to write.
        calls: Those that other threads wait for.
        users: How many starts wait for their stop.
        is_ending: No connection is accepted any more.
        server_counters: What the server refused; None if it has not told.
    """

    def __init__(self, hub: Hub, started: AsyncExitStack) -> None:
        self.loop = asyncio.get_running_loop()
        self.hub = hub
        self.write_queue = WriteQueue(self.loop)
        self.calls = ThreadCalls()
        self.users = 0
        self.is_ending = False
        self.server_counters: Counter[str] | None = None
        self._started = started
        self._transports: dict[BoundedTransport, DrainerLike] = {}
        self._closing: asyncio.Task[None] | None = None
        self._emptied = asyncio.Event()

    @classmethod
    async def start(
        cls,
        pubsub: PubSub,
        trackers: Sequence[TrackerBase[Any]],
        *,
        filter_parameters: Sequence[str],
    ) -> Self:
        """Start the PubSub, trackers and presences; if one of them fails, none of them runs."""
        async with AsyncExitStack() as stack:
            await pubsub.start()
            stack.push_async_callback(pubsub.stop)
            pubsub.add_dispatcher(FASTLANE, dispatch)
            for tracker in trackers:
                await tracker.start(pubsub)
                stack.push_async_callback(tracker.stop)
            return cls(Hub(pubsub, filter_parameters=filter_parameters), stack.pop_all())

    async def end(self) -> None:
        """Close all connections (1012), let the channels clean up, and stop what was started.

        Whoever is cancelled meanwhile is so once all of that is done.
        """
        with asking():
            await to_the_end(self._end(self.close_connections()))

    async def _end(self, closing: asyncio.Task[None]) -> None:
        async with self._started:
            try:
                await closing
            finally:
                # Each is gone soon: a transport gives up on a client that does not answer its
                # close.
                if self._transports:
                    await self._emptied.wait()
                await self.hub.settled()
                await self.calls.end()

    def close_connections(self) -> asyncio.Task[None]:
        """Accept no more, and close those that there are, each as its drainer says.

        A server that ends does so before it ends the lifespan, and with it the endpoint.
        """
        self.is_ending = True
        if self._closing is None:
            self._closing = self.loop.create_task(self._close_connections())
        return self._closing

    def add(self, transport: BoundedTransport, drainer: DrainerLike) -> None:
        """A connection is being served; it is to be closed as ``drainer`` says."""
        self._transports[transport] = drainer

    def remove(self, transport: BoundedTransport) -> None:
        """The connection is gone."""
        del self._transports[transport]
        if self.is_ending and not self._transports:
            self._emptied.set()

    @property
    def connection_count(self) -> int:
        """How many connections are being served."""
        return len(self._transports)

    async def _close_connections(self) -> None:
        try:
            await close_all(self._transports)
        finally:
            for transport in list(self._transports):
                transport.drain()
