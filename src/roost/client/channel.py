"""One topic that a client takes part in."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Generator
from inspect import iscoroutinefunction
from types import TracebackType
from typing import Any, Final, Generic, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from roost.aliases import EMPTY, Payload
from roost.client.exceptions import ChannelEnded, ClientError
from roost.client.host import Host
from roost.client.membership import ChannelState, Membership
from roost.client.messages import Stream
from roost.client.mirror import Change
from roost.client.presence import Presence, contain
from roost.client.push import Push
from roost.exceptions import ConfigurationError, NotStarted
from roost.naming import DEFAULT_LIMITS
from roost.wire.messages import Message
from roost.wire.payload import prepare

__all__ = ["Channel", "Joining"]

M = TypeVar("M")

Callback: TypeAlias = Callable[[Any], object]

log: Final = logging.getLogger("roost.client")


class Channel(Generic[M]):
    """One topic that a client takes part in; made by ``Client.join`` or ``Client.channel``.

    It joins again by itself whenever the connection or the channel was lost. What is broadcast
    meanwhile is missed: the protocol stores nothing. ``on_join`` tells when that was so.

    Iterating over it gives its messages from the join on, each once, in order::

        async for message in channel:
            print(message.event, message.payload)

    Attributes:
        topic: Which.
        response: What the server said to the last join.
        dropped_count: Messages that somebody of this channel read too slowly, so far.
        provider: Asked for the parameters of each join, if they are not always the same.
    """

    def __init__(
        self,
        client: Host,
        membership: Membership,
        meta: type[M],
        provider: Callable[[], Any] | None,
    ) -> None:
        self.topic = membership.topic
        self.provider = provider
        self.response: Any = None
        self.dropped_count = 0
        self._client = client
        self._membership = membership
        self._joining: asyncio.Future[Any] | None = None
        self._error: ClientError | None = None
        self._callbacks: dict[str, dict[object, Callback]] = {}
        # Weakly: a stream that nobody holds any more is not read any more.
        self._streams: WeakKeyDictionary[Stream[Message], frozenset[str]] = WeakKeyDictionary()
        self._tasks: set[asyncio.Task[None]] = set()
        self._on_join: dict[object, Callback] = {}
        self._presence: Presence[M] | None = None
        if membership.mirror is not None:
            self._presence = Presence(
                self.topic, membership.mirror, meta, lambda: self._stream(self._forget_changes)
            )
        self._messages: Stream[Message] = self.messages()

    def __repr__(self) -> str:
        return f"<Channel {self.topic!r} {self.state}>"

    @property
    def state(self) -> ChannelState:
        """``new``, ``joining``, ``joined``, ``errored`` (it will join again) or ``closed``."""
        return self._membership.state

    @property
    def error(self) -> ClientError | None:
        """Why it is closed, unless it was left, or ended by the server as it should."""
        return self._error

    @property
    def presence(self) -> Presence[M]:
        """Who is there.

        Raises:
            NotStarted: The channel was made with ``presence=False``.
        """
        if self._presence is None:
            raise NotStarted(f"the presence of {self.topic!r}", "leave out presence=False")
        return self._presence

    # Life.

    async def join(self, timeout: float | None = None) -> Any:
        """Join; return the server's response.

        Args:
            timeout: Seconds, also without a connection; by default ``Options.join_timeout``.

        Raises:
            JoinRejected: The server refused.
            JoinTimedOut: It did not answer in time.
            AlreadyJoined: The client has a channel of this topic.
            ChannelEnded: The channel was left, or was joined before.
            ClientClosed: The client is closed, or gave up.
        """
        client, membership = self._client, self._membership
        client.check_open()
        if membership.state != "new":
            raise ChannelEnded(self.topic)
        timeout = client.options.join_timeout if timeout is None else timeout
        membership.join(timeout, client.now())
        self._joining = asyncio.get_running_loop().create_future()
        client.add(membership, self)
        try:
            return await self._joining
        except BaseException:  # cancelled, perhaps when the answer was there already
            membership.leave(client.options.join_timeout, client.now())  # unless it is over
            client.pump()
            raise
        finally:
            self._joining = None

    async def leave(self, timeout: float | None = None) -> None:
        """Leave; return when the server has heard of it.

        It never fails: without an answer in time the channel is over all the same.

        Args:
            timeout: Seconds to wait for the server; by default ``Options.push_timeout``.
        """
        client = self._client
        timeout = client.options.push_timeout if timeout is None else timeout
        push = self._membership.leave(timeout, client.now())
        client.pump()
        if push is not None:
            await client.settled(push)

    async def __aenter__(self) -> Channel[M]:
        if self._membership.state == "new":
            await self.join()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.leave()

    # Say.

    async def push(
        self, event: str, payload: Payload = EMPTY, *, timeout: float | None = None
    ) -> Any:
        """Send an event, and return the response of its reply.

        While the channel is not joined it waits, and is sent after the join, if that comes in time.
        If this call is cancelled before that, it is not sent.

        Args:
            event: Which.
            payload: A JSON object, or bytes for a binary frame.
            timeout: Seconds for all of it, by default ``Options.push_timeout``; ``math.inf``: any
                time.

        Raises:
            PushRejected: The reply has another status than ``"ok"``.
            PushTimedOut: No reply in time. Some events get none: use ``push_nowait`` for those.
            PushInterrupted: The connection was lost after it was sent.
            BufferFull: Too many wait to be sent.
            ChannelEnded: The channel is over.
            PayloadError: The payload is neither strict JSON nor bytes.
            LocalProtocolError: The protocol version can't say it.
        """
        timeout = self._client.options.push_timeout if timeout is None else timeout
        push = self._push(event, payload, timeout, wants_reply=True)
        try:
            return await self._client.reply(push)
        finally:
            self._membership.cancel(push)

    def push_nowait(self, event: str, payload: Payload = EMPTY) -> None:
        """Send an event, and wait for nothing: for events that the server does not answer.

        While the channel is not joined it waits, and is sent after the join.

        Args:
            event: Which.
            payload: A JSON object, or bytes for a binary frame.

        Raises:
            BufferFull: Too many wait to be sent.
            ChannelEnded: The channel is over.
            PayloadError: The payload is neither strict JSON nor bytes.
            LocalProtocolError: The protocol version can't say it.
        """
        self._push(event, payload, math.inf, wants_reply=False)
        self._client.pump()

    # Hear.

    def __aiter__(self) -> Stream[Message]:
        return self._messages

    async def receive(self, timeout: float | None = None) -> Message:
        """The next message; see ``Stream.receive``."""
        return await self._messages.receive(timeout)

    def messages(self, *events: str) -> Stream[Message]:
        """Messages from now on, for an ``async for`` of their own.

        Args:
            events: Which; by default all.
        """
        stream: Stream[Message] = self._stream(self._forget)
        self._streams[stream] = frozenset(events)
        if self.state == "closed":
            stream.end(self._error)
        return stream

    def on(self, event: str, callback: Callback) -> Callable[[], None]:
        """Call ``callback(payload)`` for each message of an event.

        A function is called at once, and must be quick. A coroutine function is run for one message
        after the other; what comes meanwhile waits, up to the bounds of a stream.

        Args:
            event: Which.
            callback: What it raises is logged.

        Returns:
            What ends it.
        """
        if not iscoroutinefunction(callback):
            return _register(self._callbacks.setdefault(event, {}), callback)
        stream = self.messages(event)
        task = asyncio.get_running_loop().create_task(self._feed(stream, callback))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return stream.close

    def on_join(self, callback: Callback) -> Callable[[], None]:
        """Call ``callback(response)`` after each join: the first one, and each later one, before
        which messages may have been missed.

        Args:
            callback: Not a coroutine function; what it raises is logged.

        Returns:
            What ends it.
        """
        if iscoroutinefunction(callback):
            raise ConfigurationError("a callback of joins can't be a coroutine function")
        return _register(self._on_join, callback)

    # From the client.

    @property
    def is_joining_first(self) -> bool:
        """Whether somebody waits for the first join."""
        return self._joining is not None

    def joined(self, response: Any) -> None:
        """A join was accepted."""
        self.response = response
        if self._joining is not None and not self._joining.done():
            self._joining.set_result(response)
        for callback in tuple(self._on_join.values()):
            contain(callback, response)

    def failed(self, error: BaseException) -> None:
        """The first join has failed."""
        if isinstance(error, ClientError):
            self._error = error
        if self._joining is not None and not self._joining.done():
            self._joining.set_exception(error)
        self._end()

    def received(self, message: Message, size: int) -> None:
        """A message came."""
        for stream, events in tuple(self._streams.items()):
            if not events or message.event in events:
                dropped_count = stream.put(message, size)
                if stream.is_read:
                    self._note_dropped(dropped_count)
        for callback in tuple(self._callbacks.get(message.event, {}).values()):
            contain(callback, message.payload)

    def presence_changed(self, changes: list[Change]) -> None:
        """The list of presences took something."""
        if self._presence is not None:
            self._presence.changed(changes)

    def ended(self, error: ClientError | None, dropped_count: int) -> None:
        """It is over."""
        self._error = error
        if dropped_count:
            log.warning(
                "%d messages to %s were not sent before it ended", dropped_count, self.topic
            )
        self._end()

    async def stopped(self) -> None:
        """Wait for callbacks that are under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _end(self) -> None:
        for stream in tuple(self._streams):
            stream.end(self._error)
        if self._presence is not None:
            self._presence.end(self._error)

    def _push(self, event: str, payload: Payload, timeout: float, *, wants_reply: bool) -> Push:
        client = self._client
        client.check_open()
        return self._membership.push(
            DEFAULT_LIMITS.event(event),
            prepare(payload, client.encoder),
            client.now(),
            timeout=None if timeout == math.inf else timeout,
            wants_reply=wants_reply,
        )

    def _stream(self, on_close: Callable[[Stream[Any]], None]) -> Stream[Any]:
        return Stream(self.topic, self._client.limits, on_close)

    def _forget(self, stream: Stream[Message]) -> None:
        self._streams.pop(stream, None)

    def _forget_changes(self, stream: Stream[Change]) -> None:
        if self._presence is not None:
            self._presence.forget(stream)

    def _note_dropped(self, count: int) -> None:
        self.dropped_count += count
        self._client.dropped_count += count

    async def _feed(self, stream: Stream[Message], callback: Callback) -> None:
        """Run a coroutine function for one message after the other."""
        while True:
            try:
                async for message in stream:
                    await callback(message.payload)  # type: ignore[misc]
                return
            except ClientError as error:
                log.warning("%s", error)
                if error is self._error:
                    return
            except Exception:
                log.exception("a callback raised")


class Joining(Generic[M]):
    """A join to be awaited, or to be used as ``async with``, which leaves at the end."""

    def __init__(self, channel: Channel[M], timeout: float | None) -> None:
        self._channel = channel
        self._timeout = timeout

    def __await__(self) -> Generator[Any, None, Channel[M]]:
        return self._join().__await__()

    async def __aenter__(self) -> Channel[M]:
        return await self._join()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._channel.leave()

    async def _join(self) -> Channel[M]:
        await self._channel.join(self._timeout)
        return self._channel


def _register(callbacks: dict[object, Callback], callback: Callback) -> Callable[[], None]:
    handle = object()
    callbacks[handle] = callback

    def end() -> None:
        callbacks.pop(handle, None)

    return end
