"""The client for scripts and notebooks: the same names, without ``await``.

Each client has a thread of its own, in which an event loop runs the asyncio client. Every call here
waits for its result there, so it must not come from that thread: callbacks run in it, and use
``push_nowait`` alone. Ctrl-C interrupts whatever waits.

::

    with Client("wss://example.com/socket", token=get_token) as client:
        channel = client.join("room:1")
        channel.push("new_msg", {"body": "hi"})
        for message in channel:
            print(message.event, message.payload, list(channel.presence))
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from types import TracebackType
from typing import Any, Generic, TypeVar, cast, overload

from roost.aliases import EMPTY, Payload
from roost.client.channel import Channel as AsyncChannel
from roost.client.client import Client as AsyncClient
from roost.client.client import Params
from roost.client.events import State
from roost.client.exceptions import ClientClosed
from roost.client.membership import PresenceEvents
from roost.client.messages import Stream as AsyncStream
from roost.client.mirror import Change, Entry
from roost.client.presence import OnChange
from roost.exceptions import WrongThread
from roost.wire.messages import Message

__all__ = ["Channel", "Client", "Presence", "Stream"]

T = TypeVar("T")
M = TypeVar("M")


class _Thread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        return self._loop is not None

    def start(self) -> None:
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(ready,), name="roost client", daemon=True
        )
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop = None

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine; it is cancelled if the wait is interrupted."""
        if self._loop is None:
            coroutine.close()
            raise ClientClosed
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise WrongThread("a call that waits", is_loops=True)
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """The result of a function, called in the thread; from there it is called at once."""
        if threading.current_thread() is self._thread:
            return function(*arguments)

        async def run() -> tuple[T | None, BaseException | None]:
            try:
                return function(*arguments), None
            except Exception as error:  # StopAsyncIteration can't leave a coroutine
                return None, error

        result, error = self.wait(run())
        if error is not None:
            raise error
        return cast(T, result)

    def call_anyhow(self, function: Callable[..., T]) -> T:
        """The result of a function, called in the thread, or here if there is none any more."""
        return self.call(function) if self.is_running else function()

    def _run(self, ready: threading.Event) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            self._loop.call_soon(ready.set)
            self._loop.run_forever()


class Client:
    """``roost.client.Client`` without ``await``.

    Args:
        url: As there.
        options: As there, by name.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._client = AsyncClient(url, **options)
        self._thread = _Thread()

    def __repr__(self) -> str:
        return repr(self._client)

    @property
    def state(self) -> State:
        """As there."""
        return self._client.state

    def connect(self) -> None:
        """As there."""
        self._thread.start()
        try:
            self._thread.wait(self._client.connect())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """As there."""
        try:
            self._thread.wait(self._client.close())
        except ClientClosed:
            return
        finally:
            self._thread.stop()

    def __enter__(self) -> Client:
        self.connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def flush(self) -> None:
        """As there."""
        self._thread.wait(self._client.flush())

    def on_state(self, callback: Callable[[State, str], object]) -> Callable[[], None]:
        """As there; the callback runs in the client's thread."""
        return self._client.on_state(callback)

    @overload
    def join(
        self,
        topic: str,
        params: Params = EMPTY,
        *,
        timeout: float | None = None,
        presence: bool | PresenceEvents = True,
    ) -> Channel[dict[str, Any]]: ...

    @overload
    def join(
        self,
        topic: str,
        params: Params = EMPTY,
        *,
        meta: type[M],
        timeout: float | None = None,
        presence: bool | PresenceEvents = True,
    ) -> Channel[M]: ...

    def join(
        self,
        topic: str,
        params: Params = EMPTY,
        *,
        meta: type[Any] = dict,
        timeout: float | None = None,
        presence: bool | PresenceEvents = True,
    ) -> Channel[Any]:
        """As there; usable as ``with client.join(…)``, which leaves at the end."""
        channel = self.channel(topic, params, meta=meta, presence=presence)
        channel.join(timeout)
        return channel

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
        """As there."""

        def make() -> AsyncChannel[Any]:
            return self._client.channel(topic, params, meta=meta, presence=presence)

        return Channel(self._thread, self._thread.call(make))


class Channel(Generic[M]):
    """``roost.client.Channel`` without ``await``; iterating over it waits for its messages."""

    def __init__(self, thread: _Thread, channel: AsyncChannel[M]) -> None:
        self._thread = thread
        self._channel = channel
        self.topic = channel.topic

    def __repr__(self) -> str:
        return repr(self._channel)

    @property
    def state(self) -> str:
        """As there."""
        return self._channel.state

    @property
    def response(self) -> Any:
        """As there."""
        return self._channel.response

    @property
    def presence(self) -> Presence[M]:
        """As there."""
        return Presence(self._thread, self._channel)

    def join(self, timeout: float | None = None) -> Any:
        """As there."""
        return self._thread.wait(self._channel.join(timeout))

    def leave(self, timeout: float | None = None) -> None:
        """As there."""
        self._thread.wait(self._channel.leave(timeout))

    def __enter__(self) -> Channel[M]:
        if self.state == "new":
            self.join()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()

    def push(self, event: str, payload: Payload = EMPTY, *, timeout: float | None = None) -> Any:
        """As there."""
        return self._thread.wait(self._channel.push(event, payload, timeout=timeout))

    def push_nowait(self, event: str, payload: Payload = EMPTY) -> None:
        """As there."""
        self._thread.call(self._channel.push_nowait, event, payload)

    def __iter__(self) -> Iterator[Message]:
        return Stream(self._thread, aiter(self._channel))

    def receive(self, timeout: float | None = None) -> Message:
        """As there; the end is an EOFError."""
        return Stream(self._thread, aiter(self._channel)).receive(timeout)

    def messages(self, *events: str) -> Stream[Message]:
        """As there."""
        return Stream(self._thread, self._thread.call(self._channel.messages, *events))

    def on(self, event: str, callback: Callable[[Any], object]) -> Callable[[], None]:
        """As there; the callback runs in the client's thread."""
        return self._thread.call(self._channel.on, event, callback)

    def on_join(self, callback: Callable[[Any], object]) -> Callable[[], None]:
        """As there; the callback runs in the client's thread."""
        return self._thread.call(self._channel.on_join, callback)


class Stream(Iterator[T]):
    """``roost.client.Stream`` without ``await``."""

    def __init__(self, thread: _Thread, stream: AsyncStream[T]) -> None:
        self._thread = thread
        self._stream = stream

    def __next__(self) -> T:
        try:
            return self.receive()
        except EOFError:
            raise StopIteration from None

    def receive(self, timeout: float | None = None) -> T:
        """As there.

        Raises:
            EOFError: The channel has ended.
        """

        async def receive() -> T:
            try:
                return await self._stream.receive(timeout)
            except StopAsyncIteration:
                raise EOFError("the channel has ended") from None

        if self._thread.is_running:
            return self._thread.wait(receive())
        item = self.take()  # what had come before the client was closed
        if item is None:
            raise EOFError("the channel has ended")
        return item

    def take(self) -> T | None:
        """As there; the end is an EOFError."""
        try:
            return self._thread.call_anyhow(self._stream.take)
        except StopAsyncIteration:
            raise EOFError("the channel has ended") from None

    def close(self) -> None:
        """As there."""
        self._thread.call(self._stream.close)


class Presence(Mapping[str, list[M]]):
    """``roost.client.Presence`` without ``await``: iterating goes over a copy."""

    def __init__(self, thread: _Thread, channel: AsyncChannel[M]) -> None:
        self._thread = thread
        self._presence = channel.presence

    def __getitem__(self, key: str) -> list[M]:
        return self._thread.call(self._presence.__getitem__, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._thread.call(lambda: list(self._presence)))

    def __len__(self) -> int:
        return len(self._presence)

    def __repr__(self) -> str:
        return self._thread.call(lambda: repr(self._presence))

    @property
    def user_count(self) -> int:
        """As there."""
        return self._thread.call(lambda: self._presence.user_count)

    @property
    def connection_count(self) -> int:
        """As there."""
        return self._thread.call(lambda: self._presence.connection_count)

    @property
    def is_synced(self) -> bool:
        """As there."""
        return self._presence.is_synced

    def entry(self, key: str) -> Entry:
        """As there."""
        return self._thread.call(self._presence.entry, key)

    def synced(self, timeout: float | None = None) -> Presence[M]:
        """As there."""
        self._thread.wait(self._presence.synced(timeout))
        return self

    def changes(self) -> Stream[Change]:
        """As there."""
        return Stream(self._thread, self._thread.call(self._presence.changes))

    def on_join(self, callback: OnChange) -> Callable[[], None]:
        """As there; the callback runs in the client's thread."""
        return self._thread.call(self._presence.on_join, callback)

    def on_leave(self, callback: OnChange) -> Callable[[], None]:
        """As there; the callback runs in the client's thread."""
        return self._thread.call(self._presence.on_leave, callback)

    def on_sync(self, callback: Callable[[], object]) -> Callable[[], None]:
        """As there; the callback runs in the client's thread."""
        return self._thread.call(self._presence.on_sync, callback)
