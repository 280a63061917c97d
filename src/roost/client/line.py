"""What the channels of one client share: refs, timers, and the way out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from random import Random
from typing import Any, Final

from roost.client.events import PushFailed
from roost.client.exceptions import ClientError, PushInterrupted
from roost.client.options import Options
from roost.client.push import Push, PushOwner
from roost.client.serializers import ClientSerializer
from roost.client.timers import Timers
from roost.wire.frame import Frame
from roost.wire.messages import Message
from roost.wire.payload import JsonPayload

__all__ = ["NOTHING", "Line"]

NOTHING: Final = JsonPayload(b"{}")


class Line:
    """The way from the channels of one client to its connection, and what they share.

    Args:
        options: How patient the client is.
        serializer: Of its connections.
        rng: Where chance comes from.

    Attributes:
        is_open: Whether there is a connection.
        timers: Of the client and all its channels.
        events: To be handed over; each is an ``Event`` of ``protocol``.
        sent: Pushes that wait for their reply, by ref.
        topics: The channels (``Membership``) that are not over, by topic.
        stale_count: Messages of earlier joins, which were dropped.
    """

    def __init__(self, options: Options, serializer: ClientSerializer, rng: Random) -> None:
        self.options = options
        self.serializer = serializer
        self.rng = rng
        self.is_open = False
        self.timers = Timers()
        self.events: list[Any] = []
        self.sent: dict[str, Push] = {}
        self.topics: dict[str, Any] = {}
        self.stale_count = 0
        self._outbox: deque[Message | Push] = deque()
        self._last_ref = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits for the connection to take it."""
        return not self._outbox

    def next_ref(self) -> str:
        """A ref that no other message of this client has."""
        self._last_ref += 1
        return str(self._last_ref)

    def send(self, message: Message) -> None:
        """Have a message sent, if there is a connection: it is of no use to a later one."""
        if self.is_open:
            self._outbox.append(message)

    def send_first(self, message: Message) -> None:
        """Have a message sent before all others."""
        if self.is_open:
            self._outbox.appendleft(message)

    def send_push(self, push: Push) -> None:
        """Have a push sent; there is a connection, and its channel is joined."""
        self._outbox.append(push)

    def next_frame(self) -> Frame | None:
        """What the connection should write next; it counts as sent."""
        while self._outbox:
            item = self._outbox.popleft()
            if isinstance(item, Message):
                return self.serializer.encode(item)
            if not item.is_over:
                return self._frame_of(item)
        return None

    def take_back(self, membership: PushOwner) -> list[Push]:
        """The pushes of a channel that no connection has taken."""
        taken = [
            item
            for item in self._outbox
            if isinstance(item, Push) and item.membership is membership and not item.is_over
        ]
        if taken:
            out = {id(push) for push in taken}
            self._outbox = deque(item for item in self._outbox if id(item) not in out)
        return taken

    def interrupt(self, membership: PushOwner) -> None:
        """A channel was lost: what it sent will get no reply."""
        for push in [each for each in self.sent.values() if each.membership is membership]:
            self.fail(push, PushInterrupted(membership.topic, push.event))

    def lost(self) -> Iterable[Push]:
        """The connection is gone; returns the pushes that it has not taken."""
        self.is_open = False
        for push in list(self.sent.values()):
            self.fail(push, PushInterrupted(push.membership.topic, push.event))
        unsent = [item for item in self._outbox if isinstance(item, Push) and not item.is_over]
        self._outbox.clear()
        return unsent

    def finish(self, push: Push) -> None:
        """A push is over."""
        push.is_over = True
        self.timers.cancel(push)
        if push.ref is not None:
            self.sent.pop(push.ref, None)
        push.membership.forget(push)

    def fail(self, push: Push, error: ClientError) -> None:
        """A push is over, without success."""
        self.finish(push)
        self.events.append(PushFailed(push, error))

    def _frame_of(self, push: Push) -> Frame:
        push.ref = self.next_ref()
        membership = push.membership
        message = Message(membership.join_ref, push.ref, membership.topic, push.event, push.payload)
        membership.was_sent(push)
        if push.wants_reply:
            self.sent[push.ref] = push
        else:
            self.finish(push)
        return self.serializer.encode(message)
