"""A client of one topic by phoenix.js's rules, behind a network that takes its time."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from roost.asgi.endpoint import Endpoint
from roost.channels.connection import Connection
from roost.channels.router import Router
from roost.channels.socket import Socket
from roost.testing.transport import Received, parse_frame
from roost.wire.frame import Frame
from roost.wire.messages import (
    CLOSE,
    COUNT,
    DIFF,
    ERROR,
    JOIN,
    LEAVE,
    STATE,
    Broadcast,
    Message,
    Reply,
)
from roost.wire.serializers import V2Serializer
from tests.models.phoenix_presence import ClientPresence, Entry, HandWrittenPresence, Rules

__all__ = ["PhoenixClient"]


class _Link:
    """The server's end of one connection: frames arrive late, in order, or never."""

    def __init__(self, client: PhoenixClient) -> None:
        self._client = client
        self._is_open = True
        self._arrives_at = 0.0
        self._under_way: deque[Callable[[], None]] = deque()

    def write(self, frame: Frame) -> None:
        received = parse_frame(frame)
        self._later(lambda: self._client.receive(received))

    def close(self, code: int) -> None:
        self._is_open = False

    def send(self, connection: Connection, message: Message) -> None:
        """From the client to the server."""
        self._later(lambda: connection.receive(message))

    def _later(self, deliver: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._arrives_at = max(self._arrives_at, loop.time() + self._client.latency())
        self._under_way.append(deliver)
        loop.call_at(self._arrives_at, self._arrive)

    def _arrive(self) -> None:
        # The oldest, whichever timer this is: timers of one instant run in any order.
        deliver = self._under_way.popleft()
        if self._is_open:
            deliver()


class PhoenixClient:
    """One channel object and its presence, as long as the page is open.

    Args:
        endpoint: Where it connects.
        socket: To which of its sockets.
        topic: What it joins.
        rng: Says how long frames take.
        params: Of its joins.
        rules: Of which phoenix.js: that of its presence, and which late messages it drops.

    Attributes:
        state: ``closed``, ``joining``, ``joined``, or ``errored``.
        presence: What it believes of the topic.
        count: The last count that it was told; None if there was none.
        diff_count: How many diffs it was sent.
        named: All refs that it was sent.
        params: Of its joins.
        join_count: How often it joined.
        unheard: Keys of which its presence told the leave of a ref, and never its join.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        socket: type[Socket],
        topic: str,
        rng: Random,
        params: Any,
        rules: Rules = "1.8",
    ) -> None:
        self.rules: Rules = rules
        self.unheard: list[str] = []
        self.state = "closed"
        self.topic = topic
        self._endpoint = endpoint
        self._socket_class = socket
        self._rng = rng
        self.params = params
        self.join_count = 0
        self._ref = 0
        self.join_ref: str | None = None
        self.count: dict[str, int] | None = None
        self.diff_count = 0
        self.named: set[str] = set()
        self.presence = self._make_presence()
        self._link: _Link
        self._connection: Connection
        self.connect()

    def latency(self) -> float:
        """Seconds that the next frame takes."""
        return self._rng.choice((0.0, 0.0, 0.01, 0.1))

    # What the page does.

    def connect(self) -> None:
        """Open a connection; the channel object and the presence stay."""
        hub = self._endpoint.hub
        socket = self._socket_class()
        self._link = _Link(self)
        self._connection = Connection(
            hub,
            socket,
            self._link,
            V2Serializer(hub.pubsub.encoder),
            router=Router(socket.channels),
            max_channels=100,
            context=contextvars.copy_context(),
        )

    def join(self) -> None:
        """Join, or join again under a new ref."""
        self.state = "joining"
        self.join_ref = self._next_ref()
        self.join_count += 1
        self._send(self.join_ref, self.join_ref, JOIN, self.params)

    def give_up_join(self) -> None:
        """The join timed out: leave it, and be ready to join anew."""
        self._send(self.join_ref, self._next_ref(), LEAVE, {})
        self.state = "errored"
        self.join_ref = None

    def leave_and_come_back(self) -> None:
        """Leave, and make a new channel object with a new presence."""
        self._send(self.join_ref, self._next_ref(), LEAVE, {})
        self.presence = self._make_presence()
        self.join()

    def lose_connection(self) -> None:
        """The connection breaks; phoenix.js reconnects and joins again."""
        self._link.close(1006)
        self._connection.close("closed")
        self.connect()
        self.join()

    def push(self, event: str, payload: Any) -> None:
        """Push an event to the channel."""
        self._send(self.join_ref, self._next_ref(), event, payload)

    def leave_for_good(self) -> None:
        """Close the page."""
        self._link.close(1006)
        self._connection.close("closed")
        self.state = "closed"

    # What arrives.

    def receive(self, received: Received) -> None:
        """A frame of the server, by the rules of phoenix.js's ``isMember`` and ``Channel``."""
        join_ref = None if isinstance(received, Broadcast) else received.join_ref
        is_late = join_ref is not None and join_ref != self.join_ref
        is_of_life = not isinstance(received, Message) or received.event in (ERROR, CLOSE)
        if is_late and (is_of_life or self.rules == "1.8"):  # older ones let all others pass
            return
        match received:
            case Reply(_, ref, _, status, _) if ref == self.join_ref and self.state == "joining":
                self.state = "joined" if status == "ok" else "errored"
            case Message(event=event) if event == ERROR:
                self.state = "errored"
            case Message(event=event) if event == CLOSE:
                self.state = "closed"
            case Message(event=event, payload=payload) | Broadcast(event=event, payload=payload):
                if event == STATE:
                    self._note(payload)
                    self.presence.receive_state(payload)
                elif event == COUNT:
                    self.count = payload
                elif event == DIFF:
                    self.diff_count += 1
                    self._note(payload["joins"])
                    self._note(payload["leaves"])
                    self.presence.receive_diff(payload)
            case _:
                pass

    def _note(self, presences: Any) -> None:
        for entry in presences.values():
            self.named.update(meta["phx_ref"] for meta in entry["metas"])

    @property
    def is_pending(self) -> bool:
        """Whether its presence waits for a state; those of old never do."""
        return isinstance(self.presence, ClientPresence) and self.presence.is_pending

    def _make_presence(self) -> ClientPresence | HandWrittenPresence:
        presence: ClientPresence | HandWrittenPresence
        if self.rules == "1.2":
            presence = HandWrittenPresence(self.rules)
        else:
            presence = ClientPresence(lambda: self.join_ref, self.rules)
        heard: set[str] = set()

        def hear(key: str, current: Entry | None, joined: Entry) -> None:
            heard.update(meta["phx_ref"] for meta in joined["metas"])

        def hear_leave(key: str, current: Entry, left: Entry) -> None:
            if any(meta["phx_ref"] not in heard for meta in left["metas"]):
                self.unheard.append(key)

        presence.on_join, presence.on_leave = hear, hear_leave
        return presence

    def _send(self, join_ref: str | None, ref: str, event: str, payload: Any) -> None:
        message = Message(join_ref, ref, self.topic, event, payload)
        self._link.send(self._connection, message)

    def _next_ref(self) -> str:
        self._ref += 1
        return str(self._ref)
