"""What runs one channel: its mailbox, its tasks, its beginning and its end.

Theory of operation. A channel is ``joining``, then ``joined``, then ``closing``, then ``ended``.

- joining: ``join`` runs, inline or as a task. When it is accepted the channel is subscribed to
  its topic *before* the reply is written, and everything after the reply comes after it on the
  wire, because all of it is written on one loop, in order.
- joined: what arrives (messages of the client, intercepted broadcasts, info messages) is a *step*:
  a method and its argument. Steps run one at a time. A ``def`` handler runs at once; an
  ``async def`` handler becomes the channel's task, which goes on with the mailbox when it is done.
  Only messages of the client run inline where they arrive, at the top of the stack; all others
  are queued, so that no handler ever runs inside another one.
- closing: presences and subscriptions go first, then the client is told if the end is graceful,
  then ``terminate`` runs, then an abnormal end is told. This order is Phoenix's, but for the
  presences, which there leave after ``terminate``: a slow clean-up must not keep ghosts.
- ended: the connection is told, in a tick of its own, so that a burst of joins and leaves costs
  ticks and not stack.

Running handlers may finish when the connection ends, within ``shutdown_timeout``; a duplicate join
cancels them at once, since the client has given up on them.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from roost.channels.channel import Channel, Handler, ReplyRef
from roost.channels.fastlane import Fastlane, Transport, broadcast
from roost.channels.hub import Hub
from roost.exceptions import (
    ChannelClosed,
    JoinRefused,
    MailboxFull,
    NoReplyRef,
    NotJoined,
    ReplyError,
)
from roost.pubsub.registry import Subscription
from roost.wire.messages import LEAVE, Broadcast, Message, Outgoing, Reply
from roost.wire.payload import JsonPayload
from roost.wire.serializers import Serializer

if TYPE_CHECKING:
    import contextvars

__all__ = ["ChannelHost", "ChannelRunner"]

logger = logging.getLogger("roost.channels")

SLOW_HANDLER: Final = 0.1  # seconds that a def handler may hold the loop before the log names it
TURN_COUNT: Final = 100  # steps of one channel before other callbacks of the loop get their turn
CANCEL_TIMEOUT: Final = 1.0  # seconds for a cancelled task to end before it is given up

_JOIN_CRASHED: Final = {"reason": "join crashed"}
_OVERLOADED: Final = {"reason": "overloaded"}

_Step = Callable[[Any], Awaitable[Any] | None]
"""Handles one thing of the mailbox; returns what is to be awaited if the handler is async."""


class ChannelHost(Protocol):
    """What a channel needs of its connection."""

    hub: Hub
    transport: Transport
    serializer: Serializer
    context: contextvars.Context

    def send(self, message: Outgoing) -> None:
        """Write a message to the client; raises if it can't be encoded."""
        ...

    def join_succeeded(self, runner: ChannelRunner, response: Any) -> None: ...

    def join_failed(self, runner: ChannelRunner, response: Any) -> None: ...

    def channel_closed(self, runner: ChannelRunner) -> None: ...

    def channel_ended(self, runner: ChannelRunner, *, crashed: bool) -> None: ...


class _State(Enum):
    JOINING = auto()
    JOINED = auto()
    CLOSING = auto()
    ENDED = auto()


class ChannelRunner:
    """Run ``channel`` for one join.

    Args:
        channel_id: Its name in the connection's protocol.
        channel: With topic, assigns and socket set.
        host: The connection.
        join: The join message.
    """

    __slots__ = (
        "_awaitable",
        "_callbacks",
        "_current",
        "_in_step",
        "_is_scheduled",
        "_join",
        "_mailbox",
        "_spawned",
        "_state",
        "_stop_reason",
        "_subscriptions",
        "_task",
        "_timers",
        "_was_joined",
        "channel",
        "channel_id",
        "host",
        "join_ref",
        "subscription",
    )

    def __init__(
        self, channel_id: int, channel: Channel[Any], host: ChannelHost, join: Message
    ) -> None:
        self.channel_id = channel_id
        self.channel = channel
        self.host = host
        # What the channel says carries the join_ref, or the join's ref if the client sent none.
        self.join_ref = join.ref if join.join_ref is None else join.join_ref
        self.subscription: Subscription | None = None
        self._join = join
        self._state = _State.JOINING
        self._was_joined = False
        self._mailbox: deque[tuple[_Step, Any]] = deque()
        self._in_step = False
        self._is_scheduled = False
        self._task: asyncio.Task[None] | None = None  # of join or of an async handler
        self._awaitable: Awaitable[Any] | None = None  # what that task awaits
        self._current: Message | None = None  # the client's message being handled
        self._stop_reason: str | None = None
        self._callbacks: list[Callable[[Any], object]] = []
        self._subscriptions: dict[str, Subscription] | None = None
        self._spawned: set[asyncio.Task[Any]] | None = None
        self._timers: set[asyncio.TimerHandle] | None = None
        channel._runner = self

    @property
    def topic(self) -> str:
        return self._join.topic

    @property
    def is_joined(self) -> bool:
        return self._state is _State.JOINED

    # Joining.

    def start(self) -> None:
        """Run ``join``."""
        join = partial(self.channel.join, self.topic, self._join.payload)
        try:
            result = self.host.context.run(join)
        except (Exception, asyncio.CancelledError) as error:
            self._join_failed(error)
            return
        if inspect.isawaitable(result):
            self._awaitable = result
            self._task = self._create_task(self._await_join(result))
        else:
            self._join_returned(result)

    async def _await_join(self, awaitable: Awaitable[Any]) -> None:
        try:
            result = await awaitable
        except (Exception, asyncio.CancelledError) as error:
            if self._state is _State.JOINING:
                self._task = None
                self._join_failed(error)
            elif not isinstance(error, asyncio.CancelledError | JoinRefused):
                self._log_crash(error, "while its join was being cancelled")
        else:
            if self._state is _State.JOINING:
                self._task = None
                self._join_returned(result)

    def _join_returned(self, result: Any) -> None:
        try:
            response = self._join_response(result)
        except Exception as error:
            self._join_failed(error)
            return
        host, channel = self.host, self.channel
        lane = Fastlane(
            host.transport,
            host.serializer,
            frozenset(channel.intercept_handlers),
            host.hub.counters,
        )
        self.subscription = host.hub.pubsub.subscribe(self.topic, self._receive_broadcast, lane)
        self._state = _State.JOINED
        self._was_joined = True
        self._log_join("JOINED")
        if type(channel).after_join is not Channel.after_join:
            self._mailbox.append((_after_join, channel))
        # Scheduled first: what waited behind the join is delivered now, and handled after it.
        self._schedule()
        host.join_succeeded(self, response)

    def _join_response(self, result: Any) -> Any:
        """The response of the join's reply; raises for what can't be one."""
        if result is None:
            return {}
        if isinstance(result, bytes):
            join = self._join
            self.host.serializer.encode(Reply(join.join_ref, join.ref, join.topic, "ok", result))
            return result
        if isinstance(result, JsonPayload):
            return result
        if isinstance(result, Mapping):
            return JsonPayload(self.host.hub.pubsub.encoder.encode(result))
        raise TypeError(
            f"join returned {type(result).__name__}: expected a dict, bytes or None, and an "
            "exception to refuse"
        )

    def _join_failed(self, error: BaseException) -> None:
        if isinstance(error, JoinRefused):
            self._log_join("REFUSED JOIN")
            self._end("refused", response=error.payload)
        else:
            self._log_crash(error, "in join")
            self._end(error, response=_JOIN_CRASHED)

    # Input.

    def deliver(self, message: Message) -> None:
        """A message of the client, at the top of the stack."""
        if self._state is not _State.JOINED:
            return
        is_leave = message.event == LEAVE
        if not is_leave and len(self._mailbox) >= self.channel.max_mailbox_count:
            self.host.hub.counters["mailbox_full"] += 1
            self.host.send(Reply(self.join_ref, message.ref, message.topic, "error", _OVERLOADED))
            return
        self._mailbox.append((self._leave if is_leave else self._handle_event, message))
        if not self._is_scheduled:
            self._pump()

    def _receive_broadcast(self, message: Broadcast) -> None:
        """An intercepted broadcast; dropped and counted if the mailbox is full."""
        if self._state is not _State.JOINED:
            return
        if len(self._mailbox) >= self.channel.max_mailbox_count:
            self.host.hub.counters["mailbox_full"] += 1
            return
        self._post(self._handle_intercept, message)

    def _receive_info(self, message: Any) -> None:
        """A broadcast of another topic, or a timer's message; dropped and counted likewise."""
        try:
            self.send(message)
        except ChannelClosed:
            pass
        except MailboxFull:
            self.host.hub.counters["mailbox_full"] += 1

    def send(self, message: Any) -> None:
        self._check_open("send")
        if len(self._mailbox) >= self.channel.max_mailbox_count:
            raise MailboxFull(self.topic, self.channel.max_mailbox_count)
        self._post(self._handle_info, message)

    def send_after(self, delay: float, message: Any) -> asyncio.TimerHandle:
        self._check_open("send_after")
        timers = self._timers
        if timers is None:
            timers = self._timers = set()

        def fire() -> None:
            timers.discard(handle)
            self._receive_info(message)

        handle = asyncio.get_running_loop().call_later(delay, fire)
        timers.add(handle)
        return handle

    def stop(self, reason: str) -> None:
        self._check_open("stop")
        self._stop_reason = reason
        if self._state is _State.JOINED and not self._in_step and self._task is None:
            self._schedule()

    # Steps.

    def _post(self, step: _Step, argument: Any) -> None:
        self._mailbox.append((step, argument))
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled and not self._in_step and self._task is None:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._run_scheduled)

    def _run_scheduled(self) -> None:
        self._is_scheduled = False
        self._pump()

    def _pump(self) -> None:
        """Run steps until the mailbox is empty, one is async, or it is others' turn."""
        if self._in_step or self._task is not None:
            return
        mailbox = self._mailbox
        for _ in range(TURN_COUNT):
            if self._stop_reason is not None and self._state is _State.JOINED:
                self._end(self._stop_reason)
            if not mailbox or self._state is not _State.JOINED:
                return
            self._in_step = True
            try:
                awaitable = self.host.context.run(self._run_step, *mailbox.popleft())
            except (Exception, asyncio.CancelledError) as error:
                self._in_step = False
                self._crash(error)
                return
            self._in_step = False
            if awaitable is not None:
                self._task = self._create_task(self._run_async(awaitable))
                return
        if mailbox or self._stop_reason is not None:
            self._schedule()

    def _run_step(self, step: _Step, argument: Any) -> Awaitable[Any] | None:
        """Run one step up to its end, or up to where there is something to await."""
        started_at = time.perf_counter()
        awaitable = step(argument)
        duration = time.perf_counter() - started_at
        if duration > SLOW_HANDLER:
            self._log_slow(argument, duration)
        self._awaitable = awaitable
        if awaitable is None:
            self._current = None
        return awaitable

    async def _run_async(self, awaitable: Awaitable[Any] | None) -> None:
        """Finish an async step, and then run whatever the mailbox holds."""
        error: BaseException | None = None
        try:
            while awaitable is not None:
                await self._finish_step(awaitable)
                awaitable = None
                while awaitable is None and self._mailbox and self._goes_on:
                    awaitable = self._run_step(*self._mailbox.popleft())
        except (Exception, asyncio.CancelledError) as caught:
            error = caught
        if self._state is not _State.JOINED:  # it ended meanwhile, and waits for this task
            if error is not None and not isinstance(error, asyncio.CancelledError):
                self._log_crash(error, "while ending")
            return
        self._task = None
        if error is not None:
            self._crash(error)
        elif self._mailbox or self._stop_reason is not None:
            self._schedule()

    async def _finish_step(self, awaitable: Awaitable[Any]) -> None:
        message = self._current
        try:
            result = await awaitable
        except ReplyError as error:
            if message is None:
                raise
            self.reply(message, "error", error.payload)
        else:
            if message is not None:
                self._answer(message, result)
        self._current = None

    @property
    def _goes_on(self) -> bool:
        return self._state is _State.JOINED and self._stop_reason is None

    def _handle_event(self, message: Message) -> Awaitable[Any] | None:
        channel = self.channel
        self._current = message
        self._log_handle_in(message)
        handler = channel.event_handlers.get(message.event)
        try:
            if handler is None:
                result = channel.handle_in(message.event, message.payload)
            elif handler.is_threaded:
                return self._in_thread(handler, message.payload)
            else:
                result = getattr(channel, handler.method)(message.payload)
        except ReplyError as error:
            self.reply(message, "error", error.payload)
            return None
        if inspect.isawaitable(result):
            return result
        self._answer(message, result)
        return None

    async def _in_thread(self, handler: Handler, payload: Any) -> Any:
        run = self.host.context.copy().run
        method = getattr(self.channel, handler.method)
        return await asyncio.get_running_loop().run_in_executor(None, run, method, payload)

    def _answer(self, message: Message, result: Any) -> None:
        if result is None:
            return
        if not isinstance(result, Mapping | list | bytes | JsonPayload):
            raise TypeError(
                f"the handler of {message.event!r} returned {type(result).__name__}: expected a "
                "dict or bytes for a reply, or None for no reply"
            )
        if self._state is _State.JOINED:
            self.reply(message, "ok", result)

    def _handle_intercept(self, message: Broadcast) -> Awaitable[Any] | None:
        handler = self.channel.intercept_handlers[message.event]
        return _if_awaitable(getattr(self.channel, handler.method)(message.payload))

    def _handle_info(self, message: Any) -> Awaitable[Any] | None:
        return _if_awaitable(self.channel.handle_info(message))

    def _leave(self, message: Message) -> None:
        self.reply(message, "ok", {})
        self._end("left")

    # Output.

    def push(self, event: str, payload: Any) -> None:
        self._check_sending("push")
        self.host.send(Message(self.join_ref, None, self.topic, event, payload))
        if isinstance(payload, JsonPayload) and self.subscription is not None:
            payload.pushed_to(self.subscription, event)

    def broadcast(self, event: str, payload: Any, *, to_self: bool) -> None:
        self._check_sending("broadcast")
        sender = None if to_self else self._receive_broadcast
        broadcast(self.host.hub.pubsub, self.topic, event, payload, sender=sender)

    def reply(self, message: Message, status: str, response: Any) -> None:
        self._check_sending("reply")
        self.host.send(Reply(self.join_ref, message.ref, message.topic, status, response))

    def reply_ref(self) -> ReplyRef:
        if self._state is _State.JOINING:
            raise NotJoined(self.topic)
        if self._current is None or self._current.ref is None:
            raise NoReplyRef(self.topic)
        return ReplyRef(self, self._current)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        try:
            self._check_open("spawn")
        except BaseException:
            coroutine.close()
            raise
        task: asyncio.Task[Any] = self._create_task(coroutine)
        if self._spawned is None:
            self._spawned = set()
        self._spawned.add(task)
        task.add_done_callback(self._spawned_done)
        return task

    def _spawned_done(self, task: asyncio.Task[Any]) -> None:
        assert self._spawned is not None
        self._spawned.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if self._state is _State.JOINED:
            self._crash(error)
        elif self._state is _State.JOINING:
            self._join_failed(error)
        else:
            self._log_crash(error, "in a spawned task, while ending")

    def subscribe(self, topic: str) -> None:
        self._check_open("subscribe")
        if self._subscriptions is None:
            self._subscriptions = {}
        if topic not in self._subscriptions:
            pubsub = self.host.hub.pubsub
            self._subscriptions[topic] = pubsub.subscribe(topic, self._receive_info)

    def unsubscribe(self, topic: str) -> None:
        self._check_open("unsubscribe")
        subscription = (self._subscriptions or {}).pop(topic, None)
        if subscription is not None:
            self.host.hub.pubsub.unsubscribe(subscription)

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        self._check_open("add_done_callback")
        self._callbacks.append(callback)

    def _check_open(self, what: str) -> None:
        if self._state is _State.CLOSING or self._state is _State.ENDED:
            raise ChannelClosed(self.topic)
        self.host.hub.pubsub.check_thread(what)

    def _check_sending(self, what: str) -> None:
        if self._state is _State.ENDED:
            raise ChannelClosed(self.topic)
        if not self._was_joined:
            raise NotJoined(self.topic)
        self.host.hub.pubsub.check_thread(what)

    # The end.

    def end(self, reason: str, *, linger: bool = False, cancel: bool = False) -> None:
        """End from outside: the connection is gone, or a newer join takes the place.

        Args:
            reason: For ``terminate``.
            linger: Let presence diffs flow to the client until the connection drops ``subscription``.
            cancel: Cancel a running handler instead of letting it finish.
        """
        self._end(reason, is_told=False, linger=linger, cancel=cancel)

    def _crash(self, error: BaseException) -> None:
        if self._state is _State.JOINED:
            self._log_crash(error, "in a handler")
            self._end(error)

    def _end(
        self,
        reason: str | BaseException,
        *,
        response: Any = None,
        is_told: bool = True,
        linger: bool = False,
        cancel: bool = False,
    ) -> None:
        if self._state is _State.CLOSING or self._state is _State.ENDED:
            return
        was_joining = self._state is _State.JOINING
        self._state = _State.CLOSING
        self._mailbox.clear()
        for timer in self._timers or ():
            timer.cancel()
        self._unsubscribe(linger=linger)
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback(self.channel)
            except Exception as error:
                self._log_crash(error, "in a done callback")
        tasks = set(self._spawned or ())
        for task in tasks:
            task.cancel()
        if self._task is not None:
            if was_joining or cancel:
                self._task.cancel()
            tasks.add(self._task)
        if is_told and not was_joining and not isinstance(reason, BaseException):
            self.host.channel_closed(self)
        if tasks:
            self.host.hub.spawn(self._finish(reason, response, tasks))
        else:
            self._terminate(reason, response)

    def _unsubscribe(self, *, linger: bool) -> None:
        pubsub = self.host.hub.pubsub
        if self.subscription is not None:
            if linger:
                self.subscription.metadata.lingering = True
            else:
                pubsub.unsubscribe(self.subscription)
        for subscription in (self._subscriptions or {}).values():
            pubsub.unsubscribe(subscription)

    async def _finish(
        self, reason: str | BaseException, response: Any, tasks: set[asyncio.Task[Any]]
    ) -> None:
        _, pending = await asyncio.wait(tasks, timeout=self.channel.shutdown_timeout)
        if pending:
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=CANCEL_TIMEOUT)
        for task in pending:
            logger.error("%r: given up on a task that ignores cancellation: %r", self.channel, task)
        if inspect.iscoroutine(self._awaitable):
            self._close_unstarted(self._awaitable)
        self._terminate(reason, response)

    def _close_unstarted(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """A task that is cancelled before its first step never gets to what it was to await."""
        if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
            coroutine.close()

    def _terminate(self, reason: str | BaseException, response: Any) -> None:
        if type(self.channel).terminate is Channel.terminate:
            self._ended(reason, response)
            return
        try:
            result = self.host.context.run(self.channel.terminate, reason)
        except (Exception, asyncio.CancelledError) as error:
            self._log_crash(error, "in terminate")
            self._ended(reason, response)
            return
        if inspect.isawaitable(result):
            self.host.hub.spawn(self._await_terminate(result, reason, response))
        else:
            self._ended(reason, response)

    async def _await_terminate(
        self, awaitable: Awaitable[None], reason: str | BaseException, response: Any
    ) -> None:
        task = self._create_task(_await(awaitable))
        done, _ = await asyncio.wait({task}, timeout=self.channel.shutdown_timeout)
        if not done:
            logger.error(
                "%r: terminate took over %s s and is cancelled",
                self.channel,
                self.channel.shutdown_timeout,
            )
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_TIMEOUT)
        elif not task.cancelled() and (error := task.exception()) is not None:
            self._log_crash(error, "in terminate")
        self._ended(reason, response)

    def _ended(self, reason: str | BaseException, response: Any) -> None:
        self._state = _State.ENDED
        report: Callable[[], None]
        if response is not None:
            report = partial(self.host.join_failed, self, response)
        else:
            crashed = isinstance(reason, BaseException)
            report = partial(self.host.channel_ended, self, crashed=crashed)
        asyncio.get_running_loop().call_soon(report)

    # Help.

    def _create_task(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(coroutine, context=self.host.context)

    def _log_join(self, what: str) -> None:
        level = self.channel.log_join
        if level is not None and logger.isEnabledFor(level) and self._is_logged:
            parameters = self.host.hub.parameter_filter(self._join.payload)
            logger.log(level, "%s %s\n  Parameters: %r", what, self.topic, parameters)

    def _log_handle_in(self, message: Message) -> None:
        level = self.channel.log_handle_in
        if level is not None and logger.isEnabledFor(level) and self._is_logged:
            logger.log(
                level,
                "HANDLED %s INCOMING ON %s (%s)\n  Parameters: %r",
                message.event,
                message.topic,
                type(self.channel).__qualname__,
                self.host.hub.parameter_filter(message.payload),
            )

    @property
    def _is_logged(self) -> bool:
        return not self.topic.startswith("phoenix")

    def _log_crash(self, error: BaseException, where: str) -> None:
        logger.error("%r crashed %s", self.channel, where, exc_info=error)

    def _log_slow(self, argument: Any, duration: float) -> None:
        logger.warning(
            "%r held the event loop for %.0f ms in a def handler (%s): make it async, or threaded",
            self.channel,
            duration * 1000,
            argument.event if isinstance(argument, Message | Broadcast) else "handle_info",
        )


def _after_join(channel: Channel[Any]) -> Awaitable[Any] | None:
    return _if_awaitable(channel.after_join())


def _if_awaitable(result: Any) -> Awaitable[Any] | None:
    """What a handler without a reply returned, if it is to be awaited; the rest is dropped."""
    return result if inspect.isawaitable(result) else None


async def _await(awaitable: Awaitable[Any]) -> None:
    await awaitable
