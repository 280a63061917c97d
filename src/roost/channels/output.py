"""What a channel says: pushes and replies to its client, broadcasts on its topic."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Any, Protocol

from roost.channels.channel import ReplyRef
from roost.channels.fastlane import Intercepted, broadcast
from roost.channels.hub import Hub
from roost.channels.mailbox import Mailbox
from roost.exceptions import ChannelClosed, NoReplyRef, NotJoined
from roost.naming import NameLimits
from roost.pubsub.registry import Subscription
from roost.wire.messages import JOIN, Message, Outgoing, Reply
from roost.wire.payload import JsonPayload

__all__ = ["ChannelOutput", "OutputHost", "State"]


class State(Enum):
    """How far a channel has come."""

    JOINING = auto()
    JOINED = auto()
    CLOSING = auto()
    ENDED = auto()


class OutputHost(Protocol):
    """The connection, as far as a channel writes to it."""

    hub: Hub

    def send(self, message: Outgoing) -> None:
        """Write a message to the client; raises if it can't be encoded."""
        ...


class ChannelOutput:
    """The half of a ``ChannelRunner`` that speaks.

    Attributes:
        host: The connection.
        topic: The channel's.
        join_ref: What the channel's pushes and replies carry: the join_ref of the join, or its ref
            if the client sent none.
        subscription: To the channel's own topic, from the accepted join until the end was reported.
    """

    __slots__ = ("_mailbox", "_state", "host", "join_ref", "subscription", "topic")

    host: OutputHost
    topic: str
    join_ref: Any
    subscription: Subscription | None
    _mailbox: Mailbox
    _state: State

    def _receive_broadcast(self, message: Any) -> None:
        """What is subscribed to the topic, and so names the channel as a sender."""
        raise NotImplementedError

    @property
    def name_limits(self) -> NameLimits:
        return self.host.hub.pubsub.name_limits

    def push(self, event: str, payload: Any) -> None:
        self._check_sending("push")
        event = self.host.hub.pubsub.name_limits.event(event)
        pushes: Sequence[tuple[str, Any]] = ((event, payload),)
        if isinstance(payload, JsonPayload):
            pushes = payload.pushed_as(self.subscription, event)
        elif self._is_outdated(event):
            return
        for event, payload in pushes:
            self.host.send(Message(self.join_ref, None, self.topic, event, payload))

    def _is_outdated(self, event: str) -> bool:
        """Whether the broadcast that is being handled, and pushed on, comes too late."""
        message = self._mailbox.current
        if type(message) is not Intercepted or message.event != event or message.source is None:
            return False
        return not message.source.is_news_to(self.subscription)

    def broadcast(self, event: str, payload: Any, *, to_self: bool) -> None:
        self._check_sending("broadcast")
        pubsub = self.host.hub.pubsub
        sender = None if to_self else self._receive_broadcast
        event = pubsub.name_limits.event(event)
        broadcast(pubsub, self.topic, event, payload, sender=sender)

    def reply(self, ref: Any, status: str, response: Any) -> None:
        """Reply to the message of the client that has this ref."""
        self._check_sending("reply")
        self.host.send(Reply(self.join_ref, ref, self.topic, status, response))

    def reply_to_current(self, status: str, response: Any) -> None:
        """Reply to the message being handled, whether it has a ref or not, as Phoenix does."""
        self.answer(self._current_message().ref, status, response)

    def answer(self, ref: Any, status: Any, response: Any) -> None:
        """``reply``, with a status that the application gave."""
        self.reply(ref, self.name_limits.status(status), response)

    def reply_ref(self) -> ReplyRef:
        message = self._current_message()
        if message.ref is None:
            raise NoReplyRef(self.topic)
        return ReplyRef(self, message.ref)

    def _current_message(self) -> Message:
        if self._state is State.JOINING:
            raise NotJoined(self.topic)
        if self._state is State.ENDED:
            raise ChannelClosed(self.topic)
        message = self._mailbox.current
        if not isinstance(message, Message) or message.event == JOIN:
            raise NoReplyRef(self.topic)
        return message

    def _check_sending(self, what: str) -> None:
        if self._state is State.ENDED:
            raise ChannelClosed(self.topic)
        if self.subscription is None:
            raise NotJoined(self.topic)
        self.host.hub.pubsub.check_thread(what)
