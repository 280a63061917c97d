"""What runs one channel: its join, its input, its end; ``output`` is what it sends.

Theory of operation. A channel is ``joining``, then ``joined``, then ``closing``, then ``ended``.

- joining: ``join`` is the first step of the mailbox. When it is accepted the channel is subscribed
  to its topic *before* the reply is written; what comes after the reply is after it on the wire,
  because all of it is written on one loop, in order. Its ``presence`` starts before that, when
  nothing but it can refuse the join any more.
- joined: messages of the client, intercepted broadcasts and info messages are steps.
- closing: subscriptions and presences go first, then the client is sent ``phx_close`` if the end is
  graceful, then ``terminate`` runs, then the client is sent ``phx_error`` if it is not. This is
  Phoenix's order, but for the presences, which leave after ``terminate`` there: a slow clean-up
  must not keep ghosts.
- ended: the connection is notified, in a tick of its own, so that a burst of joins and leaves costs
  ticks and not stack.

What the client joined with is kept as JSON, and decoded when somebody asks for it. Nothing refers
to the join, or to any other message, once it is handled: the connection counts a message as waiting
for as long as it exists.

When the connection ends, a handler may finish within ``shutdown_timeout``. A newer join of the
topic cancels it at once, since the client no longer waits for it; so does the end of a join that is
being decided. ``Ending`` waits for the handler, and runs ``terminate``.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final, Protocol

from roost.aliases import Params
from roost.channels.application import Failed, call_sync, check_ran, contain
from roost.channels.channel import Channel, ChannelPresence
from roost.channels.ending import Ending
from roost.channels.fastlane import Fastlane, Transport
from roost.channels.handlers import Handler
from roost.channels.join_log import log_event, log_join
from roost.channels.mailbox import Mailbox, Step
from roost.channels.output import ChannelOutput, OutputHost, State
from roost.channels.resources import Resources
from roost.exceptions import (
    ChannelClosed,
    JoinRefused,
    MailboxFull,
    ReplyError,
)
from roost.pubsub.registry import Subscription
from roost.wire.messages import LEAVE, Broadcast, Message, Reply
from roost.wire.payload import BYTES, JsonPayload, keep
from roost.wire.serializers import Serializer

__all__ = ["ChannelHost", "ChannelRunner"]

logger = logging.getLogger("roost.channels")

# What a handler that outlived its channel may well raise.
_EXPECTED_AT_THE_END: Final = (asyncio.CancelledError, ChannelClosed, JoinRefused, ReplyError)

_JOIN_CRASHED: Final = {"reason": "join crashed"}
_OVERLOADED: Final = {"reason": "overloaded"}


class ChannelHost(OutputHost, Protocol):
    """What a channel needs of its connection."""

    transport: Transport
    serializer: Serializer
    context: contextvars.Context

    @property
    def client(self) -> str:
        """Who the client is, for logs."""
        ...

    def join_succeeded(self, runner: ChannelRunner, response: Any) -> None:
        """The join was accepted: reply."""
        ...

    def join_failed(self, runner: ChannelRunner, response: Any) -> None:
        """The join was refused, or crashed, and the channel is gone."""
        ...

    def channel_closed(self, runner: ChannelRunner) -> None:
        """The channel ends gracefully, and still cleans up."""
        ...

    def channel_ended(self, runner: ChannelRunner) -> None:
        """The channel is gone; if it did not close before, it crashed."""
        ...


class ChannelRunner(ChannelOutput):
    """Run ``channel`` for one join.

    Args:
        channel_id: Its name in the connection's protocol.
        channel: With topic, assigns and socket set.
        host: The connection.
        join: The join message.

    Attributes:
        params_size: Bytes that the join's parameters take as long as the channel lives.
    """

    __slots__ = (
        "_channel_class",
        "_join",
        "_params",
        "_resources",
        "_stop_reason",
        "channel",
        "channel_id",
        "params_size",
    )

    host: ChannelHost

    def __init__(
        self, channel_id: int, channel: Channel[Any], host: ChannelHost, join: Message
    ) -> None:
        self.channel_id = channel_id
        self.channel = channel
        self._channel_class = type(channel)
        self.host = host
        self.join_ref = join.ref if join.join_ref is None else join.join_ref
        self.subscription: Subscription | None = None
        self.topic = join.topic
        self._join: Message | None = join  # until it is decided
        self._params: JsonPayload | bytes = b""  # kept once that has begun
        self.params_size = 0
        self._state = State.JOINING
        self._stop_reason: str | None = None
        self._mailbox = Mailbox(self, host.context, channel.max_mailbox_count)
        self._resources: Resources | None = None
        channel._runner = self

    @property
    def join_params(self) -> Params:
        kept: Any = self._params
        params: Params = kept.decode() if isinstance(kept, JsonPayload) else kept
        return params

    @property
    def is_joined(self) -> bool:
        return self._state is State.JOINED

    @property
    def has_ended(self) -> bool:
        return self._state is State.ENDED

    # Joining.

    def start(self) -> None:
        """Run ``join``."""
        assert self._join is not None
        self._mailbox.deliver(self._run_join, self._join)

    def _run_join(self, join: Message) -> Any:
        params = self._params = keep(join.payload)  # as it came: what join gets may be changed
        self.params_size = len(params.encoded if isinstance(params, JsonPayload) else params)
        return self.channel.join(join.topic, join.payload)

    def _join_returned(self, result: Any) -> None:
        try:
            response = self._join_response(result)
            if (presence := self._presence()) is not None:
                call_sync(None, presence.start, self.channel, self.topic)
        except Failed as failed:
            self._join_failed(failed.error)
            return
        except BaseException as error:  # of an encode_hook, say
            contain(error)
            self._join_failed(error)
            return
        if self._state is not State.JOINING:  # whatever starts a presence may close a connection
            return
        host, channel = self.host, self.channel
        lane = Fastlane(
            host.transport,
            host.serializer,
            channel.intercept_handlers,
            host.hub.counters,
        )
        self.subscription = host.hub.pubsub.subscribe(self.topic, self._receive_broadcast, lane)
        self._state = State.JOINED
        assert self._join is not None
        log_join(channel, self._join, "JOINED", host.hub.parameter_filter)
        self._join = None
        if type(channel).after_join is not Channel.after_join:
            lane.is_entering = True
            self._mailbox.post(self._after_join, channel)
        host.join_succeeded(self, response)

    def _after_join(self, channel: Channel[Any]) -> Any:
        if self.subscription is not None:
            self.subscription.metadata.is_entering = False
        return channel.after_join()

    def _join_response(self, result: Any) -> Any:
        """The response of the join's reply; raises for what can't be one."""
        if result is None:
            return {}
        if isinstance(result, (Mapping, JsonPayload, *BYTES)):
            return self._sendable(result, "ok")
        raise TypeError(
            f"join returned {type(result).__name__}: expected a dict, bytes or None, and an "
            "exception to refuse"
        )

    def _sendable(self, response: Any, status: str) -> Any:
        """The response of the join's reply, if it can be sent: the client must get an answer."""
        if isinstance(response, BYTES):
            join = self._join
            assert join is not None
            self.host.serializer.encode(
                Reply(join.join_ref, join.ref, join.topic, status, response)
            )
            return response
        if isinstance(response, JsonPayload):
            return response
        return JsonPayload(self.host.hub.pubsub.encoder.encode(response))

    def _join_failed(self, error: BaseException) -> None:
        if isinstance(error, JoinRefused):
            assert self._join is not None
            log_join(self.channel, self._join, "REFUSED JOIN", self.host.hub.parameter_filter)
            try:
                self._end("refused", response=self._sendable(error.payload, "error"))
            except BaseException as unsendable:
                contain(unsendable)
                self._join_failed(unsendable)
        else:
            self._log_crash("in join", error)
            self._end(error, response=_JOIN_CRASHED)

    # Input.

    def deliver(self, message: Message) -> None:
        """A message of the client, at the top of the stack."""
        if self._state is not State.JOINED:
            return
        if message.event == LEAVE:
            self._mailbox.deliver(self._leave, message)
        elif self._mailbox.is_full:
            self.host.hub.mailbox_full(self, self.host.client)
            self.host.send(Reply(self.join_ref, message.ref, message.topic, "error", _OVERLOADED))
        else:
            self._mailbox.deliver(self._handle_event, message)

    def send(self, message: Any) -> None:
        self._check_open("send")
        if self._mailbox.is_full:
            raise MailboxFull(self.topic, self.channel.max_mailbox_count)
        self._mailbox.post(self._handle_info, _Info(message))

    def send_after(self, delay: float, message: Any) -> asyncio.TimerHandle:
        self._check_open("send_after")
        return self._own().call_later(delay, partial(self._receive_info, message))

    def _receive_broadcast(self, message: Any) -> None:
        """Something on the channel's own topic: an intercepted broadcast, or for handle_info."""
        if self.has_ended:  # its subscription is superseded: it gets presence diffs only
            return
        handlers = self.channel.intercept_handlers
        if isinstance(message, Broadcast) and message.event in handlers:
            self._post(self._handle_intercept, message)
        else:
            self._receive_info(message)

    def _receive_info(self, message: Any) -> None:
        """A broadcast of another topic, or a timer's message."""
        self._post(self._handle_info, _Info(message))

    def _post(self, step: Step, argument: Any) -> None:
        """Add to the mailbox what nobody waits for; dropped, counted and logged if it is full."""
        if self._state is State.CLOSING or self._state is State.ENDED:
            return
        if self._mailbox.is_full:
            self.host.hub.mailbox_full(self, self.host.client)
        else:
            self._mailbox.post(step, argument)

    # Steps.

    def _handle_event(self, message: Message) -> Any:
        channel = self.channel
        log_event(channel, message, self.host.hub.parameter_filter)
        handler = channel.event_handlers.get(message.event)
        if handler is None:
            return channel.handle_in(message.event, message.payload)
        if handler.is_threaded:
            return self._run_in_thread(handler, message.payload)
        return getattr(channel, handler.method)(message.payload)

    async def _run_in_thread(self, handler: Handler, payload: Any) -> Any:
        context = self.host.context.copy()
        method = getattr(self.channel, handler.method)
        return await asyncio.get_running_loop().run_in_executor(
            None, _in_thread, context, method, payload
        )

    def _handle_intercept(self, message: Broadcast) -> Any:
        handler = self.channel.intercept_handlers[message.event]
        return getattr(self.channel, handler.method)(message.payload)

    def _handle_info(self, info: _Info) -> Any:
        return self.channel.handle_info(info.message)

    def _leave(self, message: Message) -> None:
        self.reply(message.ref, "ok", {})
        self._end("left")

    # How steps end (``MailboxHost``).

    def finished(self, argument: Any, result: Any) -> None:
        if self._state is State.JOINING:
            if argument is self._join:
                self._join_returned(result)
            return
        if self._state is not State.JOINED:
            return
        if isinstance(argument, Message) and result is not None:
            try:
                self._answer(argument, result)
            except BaseException as error:
                contain(error)
                self._crash(error)
        elif result is not None:
            try:
                check_ran(type(self.channel), result)
            except Failed as failed:
                self._crash(failed.error)
        if self._stop_reason is not None and self._state is State.JOINED:
            self._end(self._stop_reason)

    def failed(self, argument: Any, error: BaseException) -> None:
        if self._state is State.JOINING:
            self._join_failed(error)
        elif self._state is not State.JOINED:
            if not isinstance(error, _EXPECTED_AT_THE_END):
                self._log_crash("while ending", error)
        elif isinstance(error, ReplyError) and isinstance(argument, Message):
            try:
                self.reply(argument.ref, "error", error.payload)
            except BaseException as unsendable:
                contain(unsendable)
                self._crash(unsendable)
            self.finished(argument, None)
        else:
            self._crash(error)

    def held_loop(self, argument: Any, duration: float) -> None:
        if isinstance(argument, Message) and argument.event == LEAVE:
            return  # no handler of the application: the collector, or the machine
        logger.warning(
            "%r held the event loop for %.0f ms, handling %s: make the handler async, or threaded "
            "(%s)",
            self,
            duration * 1000,
            argument.event if isinstance(argument, Message | Broadcast) else "a message",
            self.host.client,
        )

    def _answer(self, message: Message, result: Any) -> None:
        if not isinstance(result, (Mapping, list, JsonPayload, *BYTES)):
            raise TypeError(
                f"the handler of {message.event!r} returned {type(result).__name__}: expected a "
                "dict or bytes for a reply, or None for no reply"
            )
        self.reply(message.ref, "ok", result)

    # Resources.

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        try:
            self._check_open("spawn")
        except BaseException:
            coroutine.close()
            raise
        task = self._create_task(coroutine)
        self._own().add_task(task, self._spawned_failed)
        return task

    def _spawned_failed(self, error: BaseException) -> None:
        if self._state is State.JOINING:
            self._join_failed(error)
        elif self._state is State.JOINED:
            self._crash(error)
        else:
            self._log_crash("in a spawned task, while ending", error)

    def subscribe(self, topic: str) -> None:
        self._check_open("subscribe")
        topic = self.name_limits.topic(topic)
        own = self._own()
        if not own.subscribe(topic, self._receive_info):
            return
        if topic != self.topic and (presence := self._presence()) is not None:
            try:
                call_sync(None, presence.start, self.channel, topic)
            except Failed as failed:
                own.unsubscribe(topic)
                raise failed.error from failed

    def unsubscribe(self, topic: str) -> None:
        self._check_open("unsubscribe")
        topic = self.name_limits.topic(topic)
        if not self._own().unsubscribe(topic):
            return
        if topic != self.topic and (presence := self._presence()) is not None:
            try:
                call_sync(None, presence.stop, self.channel, topic)
            except Failed as failed:
                raise failed.error from failed

    def _presence(self) -> ChannelPresence | None:
        """Who tracks this channel, if anybody does."""
        presence = self.channel.presence
        if presence is None:
            presence = self.channel.socket.presence
        return None if presence is False else presence

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        self._check_open("add_done_callback")
        self._own().add_callback(callback)

    def _own(self) -> Resources:
        if self._resources is None:
            self._resources = Resources(self.host.hub.pubsub)
        return self._resources

    def _check_open(self, what: str) -> None:
        if self._state is State.CLOSING or self._state is State.ENDED:
            raise ChannelClosed(self.topic)
        self.host.hub.pubsub.check_thread(what)

    # The end.

    def stop(self, reason: str) -> None:
        self._check_open("stop")
        if self._stop_reason is None:
            self._stop_reason = reason
            self._mailbox.post(_do_nothing, None)  # ends it, if no handler is running that would

    def end(self, reason: str, *, is_superseded: bool = False, cancel: bool = False) -> None:
        """End from outside: the connection is gone, or a newer join takes the channel's place.

        Args:
            reason: For ``terminate``.
            is_superseded: A newer join takes its place: leave ``subscription`` to the connection,
                for presence diffs only.
            cancel: Cancel a running handler instead of letting it finish.
        """
        self._end(reason, notifies_client=False, is_superseded=is_superseded, cancel=cancel)

    def _crash(self, error: BaseException) -> None:
        if self._state is State.JOINED:
            self._log_crash("in a handler", error)
            self._end(error)

    def _end(
        self,
        reason: str | BaseException,
        *,
        response: Any = None,
        notifies_client: bool = True,
        is_superseded: bool = False,
        cancel: bool = False,
    ) -> None:
        if self._state is State.CLOSING or self._state is State.ENDED:
            return
        was_joined = self._state is State.JOINED
        self._state = State.CLOSING
        handler = self._mailbox.close(cancel=cancel or not was_joined)
        if self.subscription is not None:
            if is_superseded:
                self.subscription.metadata.is_superseded = True
                self.subscription.metadata.is_entering = False  # it never begins now
            else:
                self.host.hub.pubsub.unsubscribe(self.subscription)
        tasks: set[asyncio.Task[Any]] = set()
        if self._resources is not None:
            log_error = partial(self._log_crash, "in a done callback")
            context = self.host.context.copy()
            tasks = self._resources.release(self.channel, context, log_error)
        if handler is not None:
            tasks.add(handler)
        if notifies_client and was_joined and not isinstance(reason, BaseException):
            self.host.channel_closed(self)
        if not tasks and type(self.channel).terminate is Channel.terminate:
            self._ended(response)
            return
        # A copy of the context, since this may run inside a step, which has entered it.
        Ending(
            self.channel,
            reason,
            client=self.host.client,
            hub=self.host.hub,
            context=self.host.context.copy(),
            log_crash=self._log_crash,
            ended=partial(self._ended, response),
        ).begin(tasks)

    def _ended(self, response: Any) -> None:
        self._state = State.ENDED
        asyncio.get_running_loop().call_soon(self._report_end, response)

    def _report_end(self, response: Any) -> None:
        try:
            if response is not None:
                self.host.join_failed(self, response)
            else:
                self.host.channel_ended(self)
        finally:
            # Nothing refers back to the runner now but its channel, for those who still hold that:
            # what connections leave behind is freed at once, not when the collector gets to it.
            self.subscription = self._resources = None
            del self.channel, self._mailbox

    def _create_task(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        # A copy of the context: an eager task would enter it inside a step, which has entered it.
        context = self.host.context.copy()
        return asyncio.get_running_loop().create_task(coroutine, context=context)

    # Logs.

    def _log_crash(self, where: str, error: BaseException) -> None:
        logger.error("%r crashed %s (%s)", self, where, self.host.client, exc_info=error)

    def __repr__(self) -> str:
        """Show it as its channel, which may be gone."""
        return f"<{self._channel_class.__qualname__} {self.topic!r}>"


class _Info:
    """A message for ``handle_info``: whatever it is, it is not mistaken for a client's."""

    __slots__ = ("message",)

    def __init__(self, message: Any) -> None:
        self.message = message


def _do_nothing(_: None) -> None:
    pass


def _in_thread(context: contextvars.Context, method: Callable[[Any], Any], payload: Any) -> Any:
    try:
        return context.run(method, payload)
    except StopIteration as error:  # no future can have it: whoever awaits would wait for ever
        raise RuntimeError("the handler raised StopIteration") from error
