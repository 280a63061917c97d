"""The client's side of one endpoint, sans I/O: connections that follow each other, and channels.

Theory of operation. The connection is in one of four states::

                  connect               opened
      closed ───────────────▶ connecting ───────▶ open
        ▲                       ▲     │ failed      │ lost, no reply to a heartbeat
        │                timer  │     ▼             │
        └──────────────────── waiting ◀─────────────┘
          close, too many refusals

- Before each attempt there is a delay; the delays grow with each attempt, and begin anew after a
  connection that lasted.
- While it is open a heartbeat is sent at intervals, and its reply must come in time: a proxy that
  drops silently is noticed by that alone.
- Time in which the process was stopped, or the machine asleep, does not count: all timers are
  postponed by it, and the connection is probed at once, or tried at once.
- A handshake that is refused for good (HTTP 403, for example) ends the client if it is the first,
  or if it is ``max_refusals`` in a row.

What belongs to one topic is in ``membership``. Inputs take ``now``, in seconds of a clock that goes
on while the machine sleeps. After each input the shell carries out ``take_events``, writes what
``next_frame`` hands over, and sets one timer to ``next_timer``.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final, TypeAlias

from roost.client.events import (
    Connect,
    Disconnect,
    Malformed,
    PushFailed,
    Replied,
    State,
    StateChanged,
)
from roost.client.exceptions import (
    ClientError,
    ConnectFailed,
    ConnectRejected,
    PushRejected,
)
from roost.client.line import NOTHING, Line
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
from roost.client.options import Options, delay_of
from roost.client.push import Push, PushOwner
from roost.client.serializers import ClientSerializer
from roost.exceptions import InvalidMessage
from roost.wire.frame import Frame
from roost.wire.messages import HEARTBEAT, LEAVE, REPLY, Message
from roost.wire.payload import JsonPayload

__all__ = ["ClientProtocol", "Event"]

PHOENIX: Final = "phoenix"  # the topic of heartbeats
PULSE_INTERVAL: Final = 5.0  # seconds, after which a sleep is noticed at the latest
SLEPT: Final = 1.0  # seconds that a timer is late by if the process did not run


Event: TypeAlias = (
    Connect
    | Disconnect
    | StateChanged
    | ParamsNeeded
    | Joined
    | JoinFailed
    | Ended
    | Received
    | PresenceChanged
    | Replied
    | PushFailed
    | Malformed
)
"""What the protocol hands over to whoever runs it."""


class ClientProtocol:
    """The client's side of one endpoint.

    Args:
        options: How patient it is.
        serializer: Of its connections.
        rng: Where chance comes from.

    Attributes:
        state: Of the connection.
        malformed_count: Frames that could not be understood, and were skipped.
        connect_count: Connections so far.
    """

    def __init__(self, options: Options, serializer: ClientSerializer, rng: Random) -> None:
        self.state: State = "closed"
        self.malformed_count = 0
        self.connect_count = 0
        self._line = Line(options, serializer, rng)
        self._tries = 0
        self._refusals = 0
        self._opened_at = 0.0
        self._heartbeat_ref: str | None = None

    @property
    def stale_count(self) -> int:
        """Messages of earlier joins, which were dropped."""
        return self._line.stale_count

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be sent."""
        line = self._line
        return line.is_idle and all(each.is_idle for each in line.topics.values())

    # From the application.

    def connect(self) -> None:
        """Have a connection from now on."""
        assert self.state == "closed", f"expected a closed client, it is {self.state}"
        self._connect()

    def close(self, error: ClientError | None = None) -> None:
        """Have none any more; all channels are over.

        Args:
            error: Why, if the application has not asked for it.
        """
        if self.state == "closed":
            return
        was_open = self._line.is_open
        self._lose()
        for membership in list(self._line.topics.values()):
            membership.end(error)
        self._line.timers.cancel("reconnect")
        if was_open or self.state == "connecting":
            self._line.events.append(Disconnect(False))
        self._become("closed", "", error)

    def membership(
        self, topic: str, params: JsonPayload | None, presence: PresenceEvents | None
    ) -> Membership:
        """A channel of a topic, which is not joined yet.

        Args:
            topic: Which.
            params: Of its joins; None to be asked for them at each.
            presence: Which events its mirror takes; None: it has none.
        """
        return Membership(self._line, topic, params, presence)

    # From the connection.

    def connection_opened(self, now: float) -> None:
        """``Connect`` has succeeded."""
        assert self.state == "connecting", f"expected to be connecting, the client is {self.state}"
        self._opened_at = now
        self._refusals = 0
        self.connect_count += 1
        self._line.is_open = True
        self._become("open")
        self._line.timers.set("heartbeat", now + self._line.options.heartbeat_interval)
        self._line.timers.set("pulse", now + PULSE_INTERVAL)
        for membership in list(self._line.topics.values()):
            if membership.state in ("joining", "errored"):
                membership.opened(now)

    def connection_failed(self, error: ConnectFailed, now: float) -> None:
        """``Connect`` has not."""
        assert self.state == "connecting", f"expected to be connecting, the client is {self.state}"
        if isinstance(error, ConnectRejected) and error.is_final:
            self._refusals += 1
            max_refusals = self._line.options.max_refusals
            if self.connect_count == 0 or self._refusals == max_refusals:
                self.close(error)
                return
        else:
            self._refusals = 0
        self._wait(error.reason, now)

    def connection_lost(self, reason: str, now: float) -> None:
        """The connection has ended, and nobody here has asked for that."""
        assert self.state == "open", f"expected an open connection, the client is {self.state}"
        if now - self._opened_at >= self._line.options.stable_after:
            self._tries = 0
        self._lose()
        self._wait(reason, now)

    def receive(self, data: str | bytes, now: float) -> None:
        """Take a text frame (str) or a binary frame (bytes)."""
        self._notice_sleep(now)
        try:
            self._receive(self._line.serializer.decode(data), len(data), now)
        except InvalidMessage as error:
            self.malformed_count += 1
            self._line.events.append(Malformed(error))

    # From the clock.

    def next_timer(self) -> float | None:
        """When ``handle_timer`` is to be called; None: not by itself."""
        return self._line.timers.next_at()

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self._notice_sleep(now)
        while (key := self._line.timers.pop_due(now)) is not None:
            match key:
                case "reconnect":
                    self._connect()
                case "heartbeat":
                    self._send_heartbeat(now)
                case "heartbeat timeout":
                    self._line.events.append(Disconnect(True))
                    self.connection_lost("no reply to a heartbeat", now)
                case "pulse":
                    self._line.timers.set("pulse", now + PULSE_INTERVAL)
                case (Membership() as membership, "join"):
                    membership.join_timed_out(now)
                case (Membership() as membership, "rejoin"):
                    membership.rejoin(now)
                case Push() as push:
                    push.membership.push_timed_out(push)
                case unknown:
                    raise AssertionError(f"no such timer: {unknown!r}")

    # Out.

    def take_events(self) -> list[Event]:
        """What is new for the shell, once."""
        events, self._line.events = self._line.events, []
        return events

    def next_frame(self) -> Frame | None:
        """What the connection should write next; it counts as sent."""
        return self._line.next_frame()

    def _receive(self, message: Message, size: int, now: float) -> None:
        if message.event == REPLY:
            status, response = _reply(message.payload)
            self._replied(message, status, response, now)
            return
        membership = self._line.topics.get(message.topic)
        if membership is None:
            self._line.stale_count += 1
        else:
            membership.receive(message, size, now)

    def _replied(self, message: Message, status: str, response: Any, now: float) -> None:
        line, ref = self._line, message.ref
        if not isinstance(ref, str):
            return
        if ref == self._heartbeat_ref:
            self._heartbeat_ref = None
            line.timers.cancel("heartbeat timeout")
            line.timers.set("heartbeat", now + line.options.heartbeat_interval)
            return
        push = line.sent.get(ref)
        if push is not None:
            self._push_replied(push, status, response)
            return
        membership = line.topics.get(message.topic)
        if membership is not None and membership.join_ref == ref:
            membership.join_replied(status, response, now)
        else:
            line.stale_count += 1  # it had timed out, or nobody waits for it

    def _push_replied(self, push: Push, status: str, response: Any) -> None:
        membership = push.membership
        if status == "ok" or push.event == LEAVE:
            self._line.finish(push)
            self._line.events.append(Replied(push, response))
        else:
            error = PushRejected(membership.topic, push.event, status, response)
            self._line.fail(push, error)
        if push.event == LEAVE:
            membership.left()

    def _send_heartbeat(self, now: float) -> None:
        self._heartbeat_ref = self._line.next_ref()
        self._line.send_first(Message(None, self._heartbeat_ref, PHOENIX, HEARTBEAT, NOTHING))
        timeout = self._line.options.heartbeat_timeout
        self._line.timers.set("heartbeat timeout", now + timeout)

    def _notice_sleep(self, now: float) -> None:
        """Let no deadline pass for which nobody here was awake."""
        due = self._line.timers.next_at()
        if due is None or now - due <= SLEPT:
            return
        self._line.timers.postpone(now - due)
        if self._line.is_open:
            self._line.timers.cancel("heartbeat")
            self._send_heartbeat(now)
        elif "reconnect" in self._line.timers:
            self._line.timers.set("reconnect", now)

    def _connect(self) -> None:
        self._become("connecting")
        self._line.events.append(Connect())

    def _wait(self, reason: str, now: float) -> None:
        options = self._line.options
        self._tries += 1
        delay = delay_of(self._tries, options.reconnect_delays, options.jitter, self._line.rng)
        self._line.timers.set("reconnect", now + delay)
        self._become("waiting", reason)

    def _lose(self) -> None:
        """There is no connection."""
        line = self._line
        for name in ("heartbeat", "heartbeat timeout", "pulse"):
            line.timers.cancel(name)
        self._heartbeat_ref = None
        if not line.is_open:
            return
        unsent: dict[PushOwner, list[Push]] = {each: [] for each in line.topics.values()}
        for push in line.lost():
            unsent.setdefault(push.membership, []).append(push)
        for membership, pushes in unsent.items():
            membership.lost(pushes)

    def _become(self, state: State, reason: str = "", error: ClientError | None = None) -> None:
        self.state = state
        self._line.events.append(StateChanged(state, reason, error))


def _reply(payload: Any) -> tuple[str, Any]:
    """Status and response of a reply."""
    try:
        status, response = payload["status"], payload["response"]
    except (TypeError, KeyError) as error:
        raise InvalidMessage("a status and a response in a reply") from error
    if not isinstance(status, str):
        raise InvalidMessage("a string as the status of a reply", type(status).__name__)
    return status, response
