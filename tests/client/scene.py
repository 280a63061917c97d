"""A client's protocol, a clock, and a server that says what the test tells it to."""

from __future__ import annotations

from random import Random
from typing import Any, TypeVar

from roost.client.membership import Membership, PresenceEvents
from roost.client.options import Options
from roost.client.protocol import ClientProtocol, Event
from roost.client.push import Push
from roost.client.serializers import SERIALIZERS
from roost.strict_json import JsonEncoder
from roost.wire.messages import Message
from roost.wire.payload import keep
from roost.wire.serializers import Serializer, V1Serializer, V2Serializer
from tests.clients import V1, V2, decode, encode

__all__ = ["NONE", "Scene"]

E = TypeVar("E", bound=Event)

NONE: Any = {}  # an empty payload


class Scene:
    """A client whose world is the test.

    Attributes:
        protocol: The client's.
        now: The time, in seconds.
        events: What the protocol handed over, and was not taken by ``take``.
    """

    def __init__(self, vsn: str = V2, seed: int = 1, **options: Any) -> None:
        self.now = 100.0
        options = {"jitter": 0.0, **options}
        self.protocol = ClientProtocol(Options(**options), SERIALIZERS[vsn](), Random(seed))
        self.events: list[Event] = []
        self._vsn = vsn

    # The application.

    def connected(self) -> Scene:
        """Connect, with success."""
        if self.protocol.state == "closed":
            self.protocol.connect()
        self.protocol.connection_opened(self.now)
        self._gather()
        return self

    def join(
        self,
        topic: str = "room:1",
        *,
        params: Any = NONE,
        presence: bool = True,
        timeout: float = 10,
    ) -> Membership:
        """Ask to join; ``params=None`` are asked for."""
        membership = self.protocol.membership(
            topic,
            None if params is None else keep(params),  # type: ignore[arg-type]
            PresenceEvents() if presence else None,
        )
        membership.join(timeout, self.now)
        self._gather()
        return membership

    def joined(self, topic: str = "room:1", **options: Any) -> Membership:
        """Join, with success."""
        membership = self.join(topic, **options)
        self.sent()
        self.reply(membership.join_ref)
        return membership

    def push(
        self,
        membership: Membership,
        event: str = "shout",
        payload: Any = NONE,
        *,
        timeout: float | None = 10,
        wants_reply: bool = True,
    ) -> Push:
        """Push an event."""
        return membership.push(
            event, keep(payload), self.now, timeout=timeout, wants_reply=wants_reply
        )

    # The server.

    def sent(self) -> list[tuple[Any, ...]]:
        """What the client has sent since last asked, as the server sees it."""
        frames = []
        while (frame := self.protocol.next_frame()) is not None:
            frames.append(frame)
        return [_fields(self._vsn, frame.text if frame.is_text else frame.data) for frame in frames]

    def say(self, join_ref: Any, ref: Any, topic: str, event: str, payload: Any = NONE) -> None:
        """The server says something."""
        self.hear(encode(self._vsn, join_ref, ref, topic, event, payload))

    def hear(self, data: str | bytes) -> None:
        """A frame comes."""
        self.protocol.receive(data, self.now)
        self._gather()

    def reply(self, ref: Any, response: Any = NONE, *, status: str = "ok", topic: str = "room:1"):
        """The server replies to a message; a join's ref is its join_ref."""
        self.say(None, ref, topic, "phx_reply", {"status": status, "response": response})

    def lose(self, reason: str = "cut") -> None:
        """The connection is lost."""
        self.protocol.connection_lost(reason, self.now)
        self._gather()

    # The clock.

    def advance(self, seconds: float) -> None:
        """Let time pass; each timer goes off when it is due."""
        end = self.now + seconds
        while (at := self.protocol.next_timer()) is not None and at <= end:
            self.now = max(self.now, at)
            self.protocol.handle_timer(self.now)
        self.now = end
        self._gather()

    def sleep(self, seconds: float) -> None:
        """Let time pass in which nothing runs; then it goes on."""
        self.now += seconds
        self.protocol.handle_timer(self.now)
        self._gather()

    # What came of it.

    @staticmethod
    def state(of: ClientProtocol | Membership) -> str:
        """The state of the client or a channel at this moment."""
        return of.state

    def take(self, kind: type[E]) -> list[E]:
        """The events of a kind, once."""
        self._gather()
        found: list[E] = [event for event in self.events if isinstance(event, kind)]
        self.events = [event for event in self.events if not isinstance(event, kind)]
        return found

    def _gather(self) -> None:
        self.events += self.protocol.take_events()


def _fields(vsn: str, data: str | bytes) -> tuple[Any, ...]:
    if vsn == V1 or isinstance(data, bytes):
        message = _server_decode(vsn, data)
        return (message.join_ref, message.ref, message.topic, message.event, message.payload)
    return tuple(decode(vsn, data))


def _server_decode(vsn: str, data: str | bytes) -> Message:
    serializer: type[Serializer] = V1Serializer if vsn == V1 else V2Serializer
    return serializer(JsonEncoder()).decode(data)
