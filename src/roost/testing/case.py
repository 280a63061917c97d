"""The test kit: connect and join without a network, and assert what the client gets.

It follows Phoenix's ``Phoenix.ChannelTest``; what a client gets went through the real serializer
and back, so payloads are compared as JSON values. Assertions take what they found: asserting the
same push twice needs two pushes.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from typing import Any, Self

from roost.aliases import EMPTY, Params
from roost.asgi.endpoint import Endpoint
from roost.channels.application import Failed, call_sync, run
from roost.channels.channel import Channel
from roost.channels.connection import Connection
from roost.channels.router import Route, Router
from roost.channels.runner import ChannelRunner
from roost.channels.socket import ConnectInfo, Socket
from roost.exceptions import InvalidName, JoinRefused
from roost.strict_json import JsonEncoder, decode_json
from roost.testing.matching import matches
from roost.testing.transport import Received, RecordingTransport, describe
from roost.wire.messages import CLOSE, ERROR, JOIN, LEAVE, Broadcast, Message, Reply
from roost.wire.serializers import V2Serializer

__all__ = ["ChannelCase", "ClientCase", "JoinedCase"]

ASSERT_TIMEOUT = 1.0  # seconds; an assertion returns as soon as it holds
REFUTE_TIMEOUT = 0.1  # seconds; a refutation always takes that long


class ChannelCase:
    """Run an endpoint's PubSub and presences, and connect clients to its sockets.

    Args:
        endpoint: The application's; by default one without sockets or presences.
        assert_timeout: Seconds that assertions wait.
        refute_timeout: Seconds that refutations wait.
    """

    def __init__(
        self,
        endpoint: Endpoint | None = None,
        *,
        assert_timeout: float = ASSERT_TIMEOUT,
        refute_timeout: float = REFUTE_TIMEOUT,
    ) -> None:
        self.endpoint = endpoint or Endpoint({})
        self.assert_timeout = assert_timeout
        self.refute_timeout = refute_timeout
        self._clients: list[ClientCase] = []

    async def __aenter__(self) -> Self:
        await self.endpoint.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for client in self._clients:
            client.close()
        await self.endpoint.stop()

    async def connect(
        self, socket: type[Socket], params: Params | None = None, info: ConnectInfo | None = None
    ) -> ClientCase:
        """Connect a client: run the socket's ``connect`` and ``id``.

        Raises:
            ConnectRefused: As ``connect`` raised it.
            TypeError: ``connect`` or ``id`` returned what the server would refuse.
        """
        params = _as_json(params or {})
        info = ConnectInfo() if info is None else info  # it is empty without values of its own
        instance = socket()
        instance.params, instance.session = params, info.session
        # Each client has a context of its own, as on a server: the test's does not change.
        context = contextvars.copy_context()
        try:
            result = await run(context, instance.connect, params, info)
            id = call_sync(context, instance.id)
        except Failed as failed:
            raise failed.error from failed
        if result is not None:
            raise TypeError(f"connect returned {result!r}: expected None, or ConnectRefused raised")
        if id is not None:
            try:
                id = self.endpoint.pubsub.name_limits.topic(id, "id")
            except InvalidName as error:
                raise TypeError(f"id returned {id!r}: expected a string or None") from error
        return self._add(ClientCase(self, instance, id, context))

    def client(self, socket: Socket, *, id: str | None = None) -> ClientCase:
        """A client whose socket is connected already: set its assigns before you give it."""
        return self._add(ClientCase(self, socket, id, contextvars.copy_context()))

    def broadcast(self, topic: str, event: str, payload: Any = EMPTY) -> None:
        """Broadcast through the endpoint."""
        self.endpoint.broadcast(topic, event, payload)

    async def settled(self) -> None:
        """Wait until every channel that is ending has cleaned up."""
        await self.endpoint.hub.settled()
        await asyncio.sleep(0)  # the connection hears of an end in the tick after it

    def _add(self, client: ClientCase) -> ClientCase:
        self._clients.append(client)
        return client


class ClientCase:
    """One connected client; made by ``ChannelCase``.

    Attributes:
        socket: The server's ``Socket``.
        id: Its id.
        transport: What the server wrote and no assertion took yet.
    """

    def __init__(
        self, case: ChannelCase, socket: Socket, id: str | None, context: contextvars.Context
    ) -> None:
        hub = case.endpoint.hub
        self.case = case
        self.socket = socket
        self.id = id
        self.transport = RecordingTransport()
        self._refs = count(1)
        self._routes = _Routes(socket.channels)
        self.connection = _Connection(
            hub,
            socket,
            self.transport,
            hub.serializer(V2Serializer),
            router=self._routes,
            max_channels=socket.max_channels,
            context=context,
            socket_id=id,
        )
        self.connection.joined = []

    async def join(
        self,
        topic: str,
        params: Params | None = None,
        *,
        channel: type[Channel[Any]] | Route | None = None,
        timeout: float | None = None,
    ) -> JoinedCase:
        """Join a topic and return the client's end of the channel.

        Args:
            topic: The topic.
            params: Of the join.
            channel: Joined in place of what the socket's routes say.
            timeout: Seconds to wait for the reply.

        Raises:
            JoinRefused: With the payload of the error reply; ``{"reason": "join crashed"}`` if
                ``join`` raised something else, ``{"reason": "unmatched topic"}`` without a route.
        """
        if channel is not None:
            self._routes.override(topic, channel)
        joined = JoinedCase(self, topic, self._next_ref())
        self.send(joined.join_ref, joined.join_ref, topic, JOIN, params or {})
        try:
            reply = await joined.take_join_reply(timeout)
            if reply.status != "ok":
                raise JoinRefused(reply.response)
        except BaseException:
            joined.unsubscribe()
            raise
        joined.response = reply.response
        joined.channel = next(
            channel for ref, channel in self.connection.joined if ref == joined.join_ref
        )
        return joined

    def send(self, join_ref: Any, ref: Any, topic: str, event: str, payload: Any) -> None:
        """Send any message, as a client would."""
        self.connection.receive(Message(join_ref, ref, topic, event, _as_json(payload)))

    async def assert_closed(self, code: int, *, timeout: float | None = None) -> None:
        """The server closed the connection with ``code``."""
        closed = await self.transport.closed(self._assert_timeout(timeout))
        assert closed == code, f"expected the server to close with {code}, got {closed}"

    def close(self) -> None:
        """Close the connection from the client's side; its channels end."""
        self.connection.close("closed")

    def _next_ref(self) -> str:
        return str(next(self._refs))

    def _assert_timeout(self, timeout: float | None) -> float:
        return self.case.assert_timeout if timeout is None else timeout


class JoinedCase:
    """The client's end of one channel; made by ``ClientCase.join``.

    Attributes:
        topic: The topic.
        join_ref: Of its join.
        response: Of its join's reply.
        channel: The server's ``Channel``.
    """

    channel: Channel[Any]

    def __init__(self, client: ClientCase, topic: str, join_ref: str) -> None:
        self.client = client
        self.topic = topic
        self.join_ref = join_ref
        self.response: Any = None
        self._broadcasts = RecordingTransport()
        pubsub = client.case.endpoint.pubsub
        self._subscription = pubsub.subscribe(topic, self._broadcasts.add)

    def push(self, event: str, payload: Any = EMPTY) -> str:
        """Send an event to the channel and return its ref."""
        ref = self.client._next_ref()
        self.client.send(self.join_ref, ref, self.topic, event, payload)
        return ref

    def leave(self) -> str:
        """Leave the channel and return the ref."""
        return self.push(LEAVE)

    async def close(self) -> None:
        """End the channel as the end of its connection would, and wait until it is gone.

        ``terminate`` gets ``"closed"``. A handler that runs, and ``terminate``, have the channel's
        ``shutdown_timeout``. Nothing happens if the channel has ended.
        """
        runner = next(
            (each for each in self.client.connection.runners if each.channel is self.channel), None
        )
        if runner is not None and runner.is_joined:
            self.client.connection.channel_closed(runner)
            runner.end("closed")
        await self.client.case.settled()

    def unsubscribe(self) -> None:
        """Watch the broadcasts of the topic no longer; ``join`` began that."""
        self.client.case.endpoint.unsubscribe(self._subscription)

    def broadcast_from(self, event: str, payload: Any = EMPTY) -> None:
        """Broadcast on the topic; ``assert_broadcast`` of this client does not see it."""
        self.client.case.endpoint.broadcast_from(
            self._subscription.subscriber, self.topic, event, payload
        )

    async def assert_push(
        self,
        event: str,
        payload: Any = None,
        *,
        where: Callable[[Any], bool] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """The client gets ``event``, pushed or broadcast; returns its payload.

        Args:
            event: The event.
            payload: What the payload has; dicts may have more (``matches``). None: anything.
            where: A further condition on the payload.
            timeout: Seconds to wait.
        """
        return await self._assert(
            self.client.transport, self._is_push(event, payload, where), f"push {event!r}", timeout
        )

    async def refute_push(
        self, event: str, payload: Any = None, *, timeout: float | None = None
    ) -> None:
        """The client does not get ``event`` with such a payload within ``timeout``."""
        await self._refute(self.client.transport, self._is_push(event, payload, None), timeout)

    async def assert_reply(
        self,
        ref: str,
        status: str,
        payload: Any = None,
        *,
        where: Callable[[Any], bool] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """The client gets a reply to ``ref``; returns its response."""
        return await self._assert(
            self.client.transport,
            self._is_reply(ref, status, payload, where),
            f"{status!r} reply to {ref!r}",
            timeout,
        )

    async def refute_reply(
        self, ref: str, status: str, payload: Any = None, *, timeout: float | None = None
    ) -> None:
        """The client does not get such a reply within ``timeout``."""
        wanted = self._is_reply(ref, status, payload, None)
        await self._refute(self.client.transport, wanted, timeout)

    async def assert_broadcast(
        self,
        event: str,
        payload: Any = None,
        *,
        where: Callable[[Any], bool] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """``event`` was broadcast on the topic since the join; returns its payload."""
        wanted = self._is_push(event, payload, where)
        return await self._assert(self._broadcasts, wanted, f"broadcast {event!r}", timeout)

    async def refute_broadcast(
        self, event: str, payload: Any = None, *, timeout: float | None = None
    ) -> None:
        """``event`` is not broadcast with such a payload within ``timeout``."""
        await self._refute(self._broadcasts, self._is_push(event, payload, None), timeout)

    async def assert_closed(self, *, timeout: float | None = None) -> None:
        """The client is sent that the channel ended gracefully."""
        await self._assert(
            self.client.transport, self._is_push(CLOSE, None, None), "graceful end", timeout
        )

    async def assert_errored(self, *, timeout: float | None = None) -> None:
        """The client is sent that the channel crashed."""
        await self._assert(
            self.client.transport, self._is_push(ERROR, None, None), "crash", timeout
        )

    async def take_join_reply(self, timeout: float | None) -> Reply:
        """The reply to the join, whatever its status."""
        transport = self.client.transport
        timeout = self.client.case.assert_timeout if timeout is None else timeout
        reply = await transport.take(
            lambda received: isinstance(received, Reply) and received.ref == self.join_ref, timeout
        )
        if not isinstance(reply, Reply):
            raise AssertionError(f"no reply to the join of {self.topic!r} within {timeout} s")
        return reply

    def _is_push(
        self, event: str, payload: Any, where: Callable[[Any], bool] | None
    ) -> Callable[[Received], bool]:
        def wanted(received: Received) -> bool:
            return (
                isinstance(received, Message | Broadcast)
                and received.topic == self.topic
                and received.event == event
                and (not isinstance(received, Message) or received.join_ref == self.join_ref)
                and (payload is None or matches(payload, received.payload))
                and (where is None or where(received.payload))
            )

        return wanted

    def _is_reply(
        self, ref: str, status: str, payload: Any, where: Callable[[Any], bool] | None
    ) -> Callable[[Received], bool]:
        def wanted(received: Received) -> bool:
            return (
                isinstance(received, Reply)
                and received.ref == ref
                and received.status == status
                and (payload is None or matches(payload, received.response))
                and (where is None or where(received.response))
            )

        return wanted

    async def _assert(
        self,
        transport: RecordingTransport,
        wanted: Callable[[Received], bool],
        what: str,
        timeout: float | None,
    ) -> Any:
        case = self.client.case
        timeout = case.assert_timeout if timeout is None else timeout
        received = await transport.take(wanted, timeout)
        if received is None:
            raise AssertionError(
                f"no {what} on {self.topic!r} within {timeout} s; there was:\n"
                f"{describe(transport.received)}"
            )
        return received.response if isinstance(received, Reply) else received.payload

    async def _refute(
        self,
        transport: RecordingTransport,
        wanted: Callable[[Received], bool],
        timeout: float | None,
    ) -> None:
        case = self.client.case
        received = await transport.take(wanted, case.refute_timeout if timeout is None else timeout)
        if received is not None:
            raise AssertionError(f"unexpected on {self.topic!r}: {received!r}")


class _Connection(Connection):
    """A connection that remembers its channels, so that a test finds one that has ended, too.

    Attributes:
        joined: With their join_refs, which may be any JSON value.
    """

    __slots__ = ("joined",)

    joined: list[tuple[Any, Channel[Any]]]

    def join_succeeded(self, runner: ChannelRunner, response: Any) -> None:
        self.joined.append((runner.join_ref, runner.channel))
        super().join_succeeded(runner, response)


class _Routes(Router):
    """A router whose routes a test may override."""

    __slots__ = ("_overrides",)

    def __init__(self, channels: Mapping[str, type[Channel[Any]] | Route]) -> None:
        super().__init__(channels)
        self._overrides: dict[str, Route] = {}

    def override(self, topic: str, channel: type[Channel[Any]] | Route) -> None:
        self._overrides[topic] = channel if isinstance(channel, Route) else Route(channel)

    def find(self, topic: str) -> Route | None:
        return self._overrides.get(topic) or super().find(topic)


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _as_json(value: Any) -> Any:
    """A value as it arrives at the other side; bytes are a binary frame."""
    return value if isinstance(value, bytes) else decode_json(_encoder.encode(value))


_encoder = JsonEncoder()
