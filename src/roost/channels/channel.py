"""Channel: one client in one topic."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar

from roost.aliases import EMPTY, Params, Payload
from roost.channels.handlers import EVENT, INTERCEPT, Handler, declared
from roost.exceptions import ConfigurationError, ReplyError
from roost.naming import NameLimits
from roost.pubsub.registry import Subscription
from roost.wire.messages import COUNT, DIFF, STATE, Broadcast

if TYPE_CHECKING:
    # Type checkers know typing_extensions without installing it; a default for the type variable
    # is what lets ``class RoomChannel(Channel)`` pass under strict rules.
    from typing_extensions import TypeVar as TypeVarWithDefault

    Assigns = TypeVarWithDefault("Assigns", default=dict[str, Any])
else:
    Assigns = TypeVar("Assigns")

__all__ = [
    "Channel",
    "ChannelPresence",
    "ConnectedSocket",
    "ReplyRef",
    "check_channel_presence",
]

logger = logging.getLogger("roost.channels")

_PRESENCE_EVENTS = frozenset({STATE, DIFF, COUNT})


class ChannelPresence(Protocol):
    """Whoever tracks channels by itself: ``TrackJoins``, or an object of your own.

    Both methods are called on the loop, in the middle of a join or of ``Channel.subscribe``, and
    must be ``def``. What belongs to a channel ends with it, so the end of a channel calls nothing.

    Example:
        >>> class TrackMembers:
        ...     def start(self, channel, topic):
        ...         online.track(channel, channel.assigns["user_id"], {}, topic=topic)
        ...
        ...     def stop(self, channel, topic):
        ...         online.untrack(channel, channel.assigns["user_id"], topic=topic)
    """

    def start(self, channel: Channel[Any], topic: str, /) -> object:
        """``channel`` is joining its topic, or subscribed to ``topic``.

        For its own topic this is a part of the join, between ``join`` and the reply: what it
        raises refuses the join as if ``join`` had raised it, a ``JoinRefused`` with its payload.
        In ``Channel.subscribe`` it goes to the caller, and the subscription is undone.
        """
        ...

    def stop(self, channel: Channel[Any], topic: str, /) -> object:
        """``channel`` unsubscribed from ``topic``."""
        ...


class ConnectedSocket(Protocol):
    """The ``Socket`` of a channel's connection, as its channels know it."""

    assigns: dict[str, Any]
    params: Mapping[str, Any]
    session: Mapping[str, Any] | None
    presence: ClassVar[ChannelPresence | None]

    @property
    def store(self) -> dict[str, Any]:
        """What all channels of the connection share."""
        ...

    @property
    def browser_id(self) -> str:
        """The client's name for its browser, or one made up for this connection."""
        ...

    def id(self) -> str | None:
        """Topic that names this connection's user; None for anonymous connections."""
        ...


class Runner(Protocol):
    """What runs a channel, and does what the channel asks for."""

    @property
    def name_limits(self) -> NameLimits: ...
    @property
    def join_params(self) -> Params: ...
    @property
    def is_joined(self) -> bool: ...
    @property
    def has_ended(self) -> bool: ...
    @property
    def subscription(self) -> Subscription | None: ...
    def push(self, event: str, payload: Any) -> None: ...
    def broadcast(self, event: str, payload: Any, *, to_self: bool) -> None: ...
    def reply_to_current(self, status: str, response: Any) -> None: ...
    def reply_ref(self) -> ReplyRef: ...
    def stop(self, reason: str) -> None: ...
    def send(self, message: Any) -> None: ...
    def send_after(self, delay: float, message: Any) -> asyncio.TimerHandle: ...
    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]: ...
    def subscribe(self, topic: str) -> None: ...
    def unsubscribe(self, topic: str) -> None: ...
    def add_done_callback(self, callback: Callable[[Any], object]) -> None: ...


class Channel(Generic[Assigns]):
    """One client in one topic: subclass it and name it in a ``Socket``.

    A channel lives from a join to a leave, a crash, or the end of its connection. Its handlers run
    one after the other, in the order of the client's messages: ``def`` handlers at once on the
    loop, ``async def`` handlers as a task; a slow one holds up this channel and nothing else. A
    handler that raises ends its channel; the client is sent ``phx_error``, and joins anew.

    Attributes:
        topic: The topic.
        assigns: Yours; starts as a copy of the socket's, with the route's laid over it.
        socket: The connection's ``Socket``.
        presence: Tracks the channel in its topic and in those that it subscribes to, for example
            ``TrackJoins(online)``. None leaves it to the socket's ``presence``, False to nobody.
        log_join: Level of the join log; None for none.
        log_handle_in: Level of the log of incoming events; None for none.
        max_mailbox_count: Messages that wait for a slow handler; more of the client's are answered
            ``overloaded``, and intercepted broadcasts are dropped and counted.
        shutdown_timeout: Seconds that handlers and ``terminate`` have to finish when the channel
            ends; then they are cancelled.

    Example:
        >>> from roost import event
        >>> class RoomChannel(Channel):
        ...     async def join(self, topic, params):
        ...         if topic == "room:secret":
        ...             raise JoinRefused({"reason": "unauthorized"})
        ...
        ...     @event("shout")
        ...     def shout(self, payload):
        ...         self.broadcast("shout", payload)
    """

    presence: ClassVar[ChannelPresence | Literal[False] | None] = None
    log_join: ClassVar[int | None] = logging.INFO
    log_handle_in: ClassVar[int | None] = logging.DEBUG
    max_mailbox_count: ClassVar[int] = 1_000
    shutdown_timeout: ClassVar[float] = 5.0

    event_handlers: ClassVar[dict[str, Handler]] = {}
    intercept_handlers: ClassVar[dict[str, Handler]] = {}

    topic: str
    assigns: Assigns
    socket: ConnectedSocket
    _runner: Runner

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_channel_presence(cls)
        cls.event_handlers = cls.event_handlers | declared(cls, EVENT)
        cls.intercept_handlers = cls.intercept_handlers | declared(cls, INTERCEPT)

    # What an application defines.

    def join(self, topic: str, params: Params) -> Any:
        """Accept or refuse the client; ``async def`` or ``def``.

        A returned dict is the response of the join's reply. ``push``, ``reply`` and ``broadcast``
        work from ``after_join`` on. If the client leaves or joins anew meanwhile, this is
        cancelled.

        Args:
            topic: The topic.
            params: The client's join parameters.

        Raises:
            JoinRefused: To refuse; its payload is the response. Any other exception refuses with
                ``{"reason": "join crashed"}`` and is logged.
        """
        return None

    def after_join(self) -> Awaitable[None] | None:
        """Run once the client has its join reply, before any of its messages is handled."""
        return None

    def handle_in(self, event: str, payload: Payload) -> Any:
        """Handle an event that has no handler of its own; by default it gets an error reply."""
        raise ReplyError({"reason": "unknown event"})

    def handle_info(self, message: Any) -> Awaitable[None] | None:
        """Handle a message of ``send``, ``send_after``, or of a topic subscribed to.

        By default it is logged, unless it says who is in a topic subscribed to.
        """
        if not (isinstance(message, Broadcast) and message.event in _PRESENCE_EVENTS):
            logger.warning(
                "%s %r received unexpected message in handle_info: %r",
                type(self).__qualname__,
                self.topic,
                message,
            )
        return None

    def terminate(self, reason: str | BaseException) -> Awaitable[None] | None:
        """Clean up; called once for every channel whose ``join`` began, however it ends.

        The presences of the channel have left already, or stay for the ``leave_grace`` of their
        topic, and are still counted. ``push`` and ``broadcast`` still work.

        Args:
            reason: ``"left"``, ``"closed"`` (the connection ended), ``"disconnected"`` (by a
                broadcast), ``"draining"``, ``"duplicate_join"``, ``"refused"``, the argument of
                ``stop``, or the exception that ended the channel.
        """
        return None

    # What an application calls.

    def push(self, event: str, payload: Payload = EMPTY) -> None:
        """Send an event to this channel's client.

        Args:
            event: The event.
            payload: A JSON object, or bytes for a binary frame; by default ``{}``.

        Raises:
            NotJoined: The join was not accepted yet; push in ``after_join``.
            ChannelClosed: The channel has ended.
            InvalidName: The event can't be one.
            PayloadError: The payload is neither.
            UnsupportedPayload: The client's protocol version can't carry bytes.
        """
        self._runner.push(event, payload)

    def broadcast(self, event: str, payload: Payload = EMPTY) -> None:
        """Send an event to all subscribers of the topic on all nodes, this client included.

        Raises:
            NotJoined: The join was not accepted yet.
            ChannelClosed: The channel has ended.
            InvalidName: The event can't be one.
            PayloadError: The payload is neither a JSON object nor bytes; nobody got it.
        """
        self._runner.broadcast(event, payload, to_self=True)

    def broadcast_from(self, event: str, payload: Payload = EMPTY) -> None:
        """``broadcast`` to all but this client; raises as ``broadcast`` does."""
        self._runner.broadcast(event, payload, to_self=False)

    def reply(
        self, payload: Payload = EMPTY, *, status: str = "ok", ref: ReplyRef | None = None
    ) -> None:
        """Answer a message of the client, now or later, as often as needed.

        Args:
            payload: Any JSON value, or bytes; by default ``{}``.
            status: ``"ok"``, ``"error"``, or any other word that the client listens for.
            ref: What to answer; by default the message that is being handled.

        Raises:
            NoReplyRef: No message is being handled.
            ChannelClosed: The channel has ended.
            InvalidName: The status can't be one.
            PayloadError: The payload is not strict JSON.
        """
        if ref is None:
            self._runner.reply_to_current(status, payload)
        else:
            ref.reply(payload, status=status)

    @property
    def ref(self) -> ReplyRef:
        """The message being handled, to be answered later.

        Raises:
            NotJoined: The join was not accepted yet.
            NoReplyRef: No message is being handled, or it has no ref.
        """
        return self._runner.reply_ref()

    def stop(self, reason: str = "normal") -> None:
        """End the channel gracefully when the handler that calls this is done.

        A reply of that handler is still sent; then the client gets ``phx_close`` and does not
        join again by itself.

        Args:
            reason: For ``terminate``.
        """
        self._runner.stop(reason)

    def send(self, message: Any) -> None:
        """Put a message for ``handle_info`` into the channel's own mailbox.

        Raises:
            ChannelClosed: The channel has ended.
            MailboxFull: There are ``max_mailbox_count`` messages in it.
        """
        self._runner.send(message)

    def send_after(self, delay: float, message: Any) -> asyncio.TimerHandle:
        """``send`` after ``delay`` seconds, unless the channel ends or the handle is cancelled."""
        return self._runner.send_after(delay, message)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine that ends with the channel; if it raises, it ends the channel.

        Raises:
            ChannelClosed: The channel has ended; the coroutine is closed.
        """
        return self._runner.spawn(coroutine)

    def subscribe(self, topic: str) -> None:
        """Receive the broadcasts of another topic in ``handle_info``, until the channel ends.

        A topic that is subscribed to already is not subscribed to twice. ``presence``, if there is
        one, starts there; what it raises is raised here, and nothing is subscribed to.
        """
        self._runner.subscribe(topic)

    def unsubscribe(self, topic: str) -> None:
        """Receive them no longer; ``presence`` stops there."""
        self._runner.unsubscribe(topic)

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Call ``callback(channel)`` when the channel ends, as ``asyncio.Task`` does.

        Raises:
            ChannelClosed: The channel has ended.
        """
        self._runner.add_done_callback(callback)

    @property
    def join_params(self) -> Params:
        """The client's join parameters as they came, decoded anew for each caller."""
        return self._runner.join_params

    @property
    def is_joined(self) -> bool:
        """Whether the join was accepted and the channel has not ended."""
        return self._runner.is_joined

    @property
    def has_ended(self) -> bool:
        """Whether the channel has ended, and nothing can be sent any more."""
        return self._runner.has_ended

    @property
    def subscription(self) -> Subscription | None:
        """The channel's own subscription to its topic; None unless joined."""
        return self._runner.subscription

    def __repr__(self) -> str:
        return f"<{type(self).__qualname__} {getattr(self, 'topic', None)!r}>"


class _Replier(Protocol):
    def answer(self, ref: Any, status: str, response: Any) -> None: ...


class ReplyRef:
    """One message of the client, to be answered any number of times until the channel ends."""

    # Not the message: it may be kept for long, and the message's payload need not.
    __slots__ = ("_ref", "_runner")

    def __init__(self, runner: _Replier, ref: Any) -> None:
        self._runner = runner
        self._ref = ref

    def reply(self, payload: Payload = EMPTY, *, status: str = "ok") -> None:
        """Answer it; raises as ``Channel.reply`` does."""
        self._runner.answer(self._ref, status, payload)


def check_channel_presence(cls: type) -> None:
    """Check what the body of a channel or socket class says about presence.

    Raises:
        ConfigurationError: It can't track channels. A ``Presence`` by itself can't.
    """
    presence = vars(cls).get("presence")
    if presence is None or presence is False:
        return
    for name in ("start", "stop"):
        method = getattr(presence, name, None)
        if not callable(method) or inspect.iscoroutinefunction(method):
            raise ConfigurationError(
                f"{cls.__qualname__}.presence must have def {name}(channel, topic), got "
                f"{presence!r}: write TrackJoins(…) around a Presence, or give an object of your "
                "own"
            )
