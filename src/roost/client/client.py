"""The asyncio client of one endpoint: it carries out what ``ClientProtocol`` decides."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from inspect import isawaitable
from types import TracebackType
from typing import Any, Final, TypeAlias, TypeVar, overload

from roost.aliases import EMPTY
from roost.client.channel import Channel, Joining
from roost.client.events import (
    Connect,
    Disconnect,
    Malformed,
    PushFailed,
    Replied,
    State,
    StateChanged,
)
from roost.client.exceptions import ClientClosed, ClientError, ConnectFailed
from roost.client.host import Limits
from roost.client.link import Link
from roost.client.membership import (
    Ended,
    Joined,
    JoinFailed,
    Membership,
    ParamsNeeded,
    PresenceChanged,
    PresenceEvents,
    Received,
)
from roost.client.options import Options
from roost.client.presence import contain
from roost.client.protocol import ClientProtocol, Event
from roost.client.push import Push
from roost.client.serializers import SERIALIZERS
from roost.client.transport import Connection, Target, Transport
from roost.client.url import endpoint_url, subprotocols_of, with_params, without_query
from roost.exceptions import ConfigurationError, NotStarted, PayloadError
from roost.naming import DEFAULT_LIMITS
from roost.strict_json import JsonEncoder
from roost.wire.payload import JsonPayload

__all__ = ["Client", "Params", "Token"]

T = TypeVar("T")
M = TypeVar("M")

Params: TypeAlias = (
    Mapping[str, Any] | Callable[[], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
)
"""Parameters, or a function that is asked for them each time; it may be a coroutine function."""

Token: TypeAlias = str | Callable[[], str | Awaitable[str | None] | None] | None
"""A token, or a function that is asked for it each time; it may be a coroutine function."""

CLOSE_TIMEOUT: Final = 2.0  # seconds for what waits to be sent, and for the server's goodbye

log: Final = logging.getLogger("roost.client")


class Client:
    """A client of one endpoint, with channels that share a connection.

    It connects again whenever the connection was lost, and joins its channels again, until it is
    closed.

    Args:
        url: Of the socket as it is mounted, for example ``wss://example.com/socket``;
            ``/websocket`` is added.
        params: Of the connection; a function is asked anew at each attempt to connect.
        token: Sent in the handshake as phoenix.js sends its ``authToken``; a function is asked anew
            at each attempt to connect.
        headers: Of the handshake.
        vsn: The protocol version: ``"2.0.0"``, or ``"1.0.0"``, which has no binary frames.
        connect_timeout: Seconds that the first connection may take, with as many attempts as fit
            in. None: any time.
        options: How patient it is.
        limits: What streams of messages hold until they are read.
        transport: What opens connections, by default WebSockets. Give
            ``WebSocketTransport(ssl=…, proxy=…)`` for options of these.
        clock: The time in seconds, by default one that goes on while the machine sleeps.
        rng: Where chance comes from.

    Raises:
        ConfigurationError: A URL, version or option that can't work.

    Attributes:
        dropped_count: Messages that were read too slowly, so far.

    Example:
        ::

            async with Client("wss://example.com/socket", token=get_token) as client:
                channel = await client.join("room:1", {"since": 7})
                await channel.push("new_msg", {"body": "hi"})
                async for message in channel:
                    print(message.event, message.payload, list(channel.presence))
    """

    def __init__(
        self,
        url: str,
        *,
        params: Params = EMPTY,
        token: Token = None,
        headers: Mapping[str, str] = EMPTY,
        vsn: str = "2.0.0",
        connect_timeout: float | None = 10.0,
        options: Options | None = None,
        limits: Limits | None = None,
        transport: Transport | None = None,
        clock: Callable[[], float] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        if vsn not in SERIALIZERS:
            raise ConfigurationError(f"vsn must be one of {', '.join(SERIALIZERS)}, got {vsn!r}")
        self.options = options or Options()
        self.limits = limits or Limits()
        self.encoder: Final = JsonEncoder()
        self.dropped_count = 0
        self._url = endpoint_url(url)
        self._params = params
        self._token = token
        self._headers = dict(headers)
        self._vsn = vsn
        self._connect_timeout = connect_timeout
        self._transport = transport or _websockets()
        self._clock = clock or boottime
        self._protocol = ClientProtocol(self.options, SERIALIZERS[vsn](), rng or random.Random())
        self._channels: dict[Membership, Channel[Any]] = {}
        self._replies: dict[Push, asyncio.Future[Any]] = {}
        self._on_state: dict[object, Callable[[State, str], object]] = {}
        self._link: Link | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._is_pumping = False
        self._was_started = False
        self._error: ClientError | None = None
        self._reason = ""
        self._opened: asyncio.Future[None] | None = None
        self._flushing: list[asyncio.Future[None]] = []
        self._links: set[Link] = set()  # the present one, and those that are ending
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Client {without_query(self._url)} {self.state}>"

    @property
    def state(self) -> State:
        """``connecting``, ``open``, ``waiting`` (to try again) or ``closed``."""
        return self._protocol.state

    @property
    def connect_count(self) -> int:
        """Connections so far: one more than it has lost."""
        return self._protocol.connect_count

    @property
    def malformed_count(self) -> int:
        """Frames that could not be understood, and were skipped."""
        return self._protocol.malformed_count

    @property
    def stale_count(self) -> int:
        """Messages for nobody, mostly of earlier joins, which were skipped."""
        return self._protocol.stale_count

    # Life.

    async def connect(self) -> None:
        """Connect, and stay connected until ``close``; return with the first connection.

        Raises:
            ConnectFailed: There was none within ``connect_timeout``.
            ConnectRejected: The server refused the handshake.
        """
        if self._was_started:
            raise ClientClosed if self.state == "closed" else AssertionError("connected already")
        self._was_started = True
        self._opened = asyncio.get_running_loop().create_future()
        self._protocol.connect()
        self.pump()
        try:
            async with asyncio.timeout(self._connect_timeout):
                await self._opened
        except TimeoutError:
            reason = self._reason or "no answer"
            await self.close()
            raise ConnectFailed(without_query(self._url), reason) from None
        except BaseException:
            await self.close()
            raise
        finally:
            self._opened = None

    async def close(self) -> None:
        """Send what waits, as far as that takes a moment, and disconnect; all channels end."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)  # it goes on if this call is cancelled

    async def __aenter__(self) -> Client:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def flush(self) -> None:
        """Wait until all that was pushed so far was handed to the operating system."""
        while not self._is_flushed():
            self.check_open()
            await self._wait_flushed()

    def on_state(self, callback: Callable[[State, str], object]) -> Callable[[], None]:
        """Call ``callback(state, reason)`` when the state has changed.

        Returns:
            What ends it.
        """
        handle = object()
        self._on_state[handle] = callback

        def end() -> None:
            self._on_state.pop(handle, None)

        return end

    # Channels.

    @overload
    def join(
        self,
        topic: str,
        params: Params = EMPTY,
        *,
        timeout: float | None = None,
        presence: bool | PresenceEvents = True,
    ) -> Joining[dict[str, Any]]: ...

    @overload
    def join(
        self,
        topic: str,
        params: Params = EMPTY,
        *,
        meta: type[M],
        timeout: float | None = None,
        presence: bool | PresenceEvents = True,
    ) -> Joining[M]: ...

    def join(
        self,
        topic: str,
        params: Params = EMPTY,
        *,
        meta: type[Any] = dict,
        timeout: float | None = None,
        presence: bool | PresenceEvents = True,
    ) -> Joining[Any]:
        """Join a topic: ``channel = await client.join(…)`` or ``async with client.join(…)``.

        Args:
            topic: For example ``"room:1"``.
            params: Of the join; a function is asked anew at each join.
            meta: What the metas of presences are turned into: a dataclass, a ``TypedDict`` or a
                ``msgspec.Struct``; by default they are dicts.
            timeout: Seconds; by default ``Options.join_timeout``.
            presence: Whether to keep the list of who is there; or which events tell of it.

        Raises:
            As ``Channel.join``.
        """
        return Joining(self.channel(topic, params, meta=meta, presence=presence), timeout)

    @overload
    def channel(
        self,
        topic: str,
        params: Params = EMPTY,
        *,
        presence: bool | PresenceEvents = True,
    ) -> Channel[dict[str, Any]]: ...

    @overload
    def channel(
        self,
        topic: str,
        params: Params = EMPTY,
        *,
        meta: type[M],
        presence: bool | PresenceEvents = True,
    ) -> Channel[M]: ...

    def channel(
        self,
        topic: str,
        params: Params = EMPTY,
        *,
        meta: type[Any] = dict,
        presence: bool | PresenceEvents = True,
    ) -> Channel[Any]:
        """A channel to be joined later, so that callbacks are there before the first message.

        Args and errors are those of ``join``.
        """
        events = PresenceEvents() if presence is True else presence or None
        membership = self._protocol.membership(
            DEFAULT_LIMITS.topic(topic),
            None if callable(params) else self._encode_params(params),
            events,
        )
        return Channel(self, membership, meta, params if callable(params) else None)

    # For channels.

    def now(self) -> float:
        """The time."""
        return self._clock()

    def check_open(self) -> None:
        """Raise if nothing can be said."""
        if self._error is not None:
            raise self._error
        if not self._was_started:
            raise NotStarted(f"the client of {without_query(self._url)}", "use it as async with")
        if self._closing is not None or self.state == "closed":
            raise ClientClosed

    def add(self, membership: Membership, channel: Channel[Any]) -> None:
        """A channel is joining."""
        self._channels[membership] = channel
        self.pump()

    async def reply(self, push: Push) -> Any:
        """The response to a push."""
        future = self._replies[push] = asyncio.get_running_loop().create_future()
        self.pump()
        try:
            return await future
        finally:
            del self._replies[push]

    async def settled(self, push: Push) -> None:
        """Wait until nothing will become of a push any more."""
        with suppress(ClientError):
            await self.reply(push)

    def pump(self) -> None:
        """Carry out what the protocol has decided."""
        if self._is_pumping:  # called by what is being carried out
            return
        self._is_pumping = True
        try:
            while events := self._protocol.take_events():
                for event in events:
                    self._carry_out(event)
        finally:
            self._is_pumping = False
        if self._link is not None:
            self._link.write()
        self.note_flushed()
        self._arm()

    def note_flushed(self) -> None:
        """Something was written, or nothing is left to be."""
        if self._flushing and (self._is_flushed() or self.state == "closed"):
            flushing, self._flushing = self._flushing, []
            for future in flushing:
                if not future.done():
                    future.set_result(None)

    def _is_flushed(self) -> bool:
        return self._protocol.is_idle and (self._link is None or not self._link.is_writing)

    def _carry_out(self, event: Event) -> None:
        match event:
            case Received(membership, message, size):
                self._channels[membership].received(message, size)
            case PresenceChanged(membership, changes):
                self._channels[membership].presence_changed(changes)
            case Replied(push, response):
                if (future := self._replies.get(push)) is not None and not future.done():
                    future.set_result(response)
            case PushFailed(push, error):
                if (future := self._replies.get(push)) is not None and not future.done():
                    future.set_exception(error)
            case Joined(membership, response, _):
                self._channels[membership].joined(response)
            case JoinFailed(membership, error):
                self._channels.pop(membership).failed(error)
            case Ended(membership, error, dropped_count):
                self._channels.pop(membership).ended(error, dropped_count)
            case ParamsNeeded(membership, attempt):
                self._start(self._provide(membership, attempt))
            case Connect():
                self._connect()
            case Disconnect(is_dead):
                if self._link is not None:
                    self._link.end(is_dead)
            case StateChanged(state, reason, error):
                self._state_changed(state, reason, error)
            case Malformed(error):
                log.warning("skipped what %s sent: %s", without_query(self._url), error)
            case unknown:
                raise AssertionError(f"no such event: {unknown!r}")

    def _connect(self) -> None:
        self._link = Link(self._protocol, self.now, self._open, self.pump, self.note_flushed)
        self._links.add(self._link)
        self._links = {link for link in self._links if link.is_alive}
        self._link.start()

    async def _open(self) -> Connection:
        """Connect, with parameters and a token of this moment."""
        url, timeout = without_query(self._url), self.options.open_timeout
        try:
            async with asyncio.timeout(timeout):
                params = await _ask(self._params)
                token = await _ask(self._token)
                target = Target(
                    with_params(self._url, params, self._vsn),
                    self._headers,
                    subprotocols_of(token) if token else (),
                )
                return await self._transport(target)
        except ConnectFailed:
            raise
        except TimeoutError as error:
            raise ConnectFailed(url, f"no answer within {timeout:g} s") from error
        except Exception as error:  # of the application, which is asked for parameters, mostly
            log.warning("can't connect to %s", url, exc_info=True)
            raise ConnectFailed(url, f"{type(error).__name__}: {error}") from error

    def _state_changed(self, state: State, reason: str, error: ClientError | None) -> None:
        self._reason = reason or self._reason
        self._error = error
        if state == "waiting":
            log.info("%s: %s", without_query(self._url), reason)
        if self._opened is not None and not self._opened.done():
            if state == "open":
                self._opened.set_result(None)
            elif error is not None:
                self._opened.set_exception(error)
        for callback in tuple(self._on_state.values()):
            contain(callback, state, reason)

    async def _provide(self, membership: Membership, attempt: int) -> None:
        """Ask the application for the parameters of a join."""
        channel = self._channels.get(membership)
        if channel is None or channel.provider is None:
            return
        try:
            params = self._encode_params(await _ask(channel.provider))
        except Exception as error:
            if channel.is_joining_first:
                channel.failed(error)
            else:
                log.exception("no parameters for the join of %s", channel.topic)
                membership.provide_nothing(attempt, self.now())
        else:
            membership.provide(attempt, params)
        self.pump()

    def _encode_params(self, params: Any) -> JsonPayload:
        payload = JsonPayload(self.encoder.encode(params))
        if not payload.is_object:
            raise PayloadError(f"parameters must be a JSON object, got {type(params).__name__}")
        return payload

    def _arm(self) -> None:
        """Have one timer, which may go off too early, but never too late."""
        at = self._protocol.next_timer()
        if self._timer is not None:
            if at is not None and self._timer_at <= at:
                return
            self._timer.cancel()
            self._timer = None
        if at is not None:
            self._timer_at = at
            delay = max(0.0, at - self.now())
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._protocol.handle_timer(self.now())
        self.pump()

    async def _close(self) -> None:
        channels = list(self._channels.values())
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                while self.state == "open" and not self._is_flushed():
                    await self._wait_flushed()
                await self._leave(channels)
        self._protocol.close()
        self.pump()
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        for link in self._links:
            await link.ended(CLOSE_TIMEOUT)
        for channel in channels:
            await channel.stopped()

    async def _leave(self, channels: list[Channel[Any]]) -> None:
        """Leave all: its answer says that what was pushed before has been handled.

        A server drops what its channels have not got to when the connection ends.
        """
        if self.state == "open":
            await asyncio.gather(*(channel.leave(CLOSE_TIMEOUT) for channel in channels))

    async def _wait_flushed(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._flushing.append(future)
        await future

    def _start(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _ask(value: Any) -> Any:
    """A value, or what a function says that it is now."""
    if callable(value):
        value = value()
        if isawaitable(value):
            return await value
    return value


def _websockets() -> Transport:
    try:
        from roost.client.websocket import WebSocketTransport
    except ImportError as error:
        raise ConfigurationError(
            f'{error.name} is not installed: pip install "roost[client]"'
        ) from error
    return WebSocketTransport()


_BOOTTIME: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)


def boottime() -> float:
    """Seconds of a clock that goes on while the machine sleeps, where there is one."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)
