"""One topic of a client: it is joined, and joined again whenever it was lost.

Theory of operation::

                 join                ok                    error, connection lost
      (new) ───────────▶ joining ─────────▶ joined ───────────────────┐
                         ▲     │                                      ▼
                         │     │ time is up, refused, lost (rejoin)   errored
                         │     └────────────────────────────────────▶ │
                         └────────────────────────────────────────────┘
                                  timer, or a new connection

      leave, the server's close, a first join that failed, too many refusals ──▶ closed

- Each join has a *join_ref* of its own, which the server says in all that belongs to it. What has
  another one is of an earlier join, and dropped. Broadcasts have none.
- A first join has one deadline, whatever the connection does meanwhile; when it fails, the channel
  is over. A channel that was joined comes back by itself, for ever, unless it is refused
  ``max_refusals`` times in a row.
- Pushes wait while the channel is not joined, in order, up to a bound. A push that no connection
  has taken goes back to them when the channel or the connection is lost; one that was taken fails,
  since nobody knows what became of it.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from roost.client.exceptions import (
    AlreadyJoined,
    BufferFull,
    ChannelEnded,
    ClientError,
    JoinRejected,
    JoinTimedOut,
    PushTimedOut,
)
from roost.client.line import NOTHING, Line
from roost.client.mirror import Change, Mirror
from roost.client.options import delay_of
from roost.client.push import Push
from roost.exceptions import NotStarted
from roost.wire.messages import CLOSE, COUNT, DIFF, ERROR, JOIN, LEAVE, STATE, Message
from roost.wire.payload import JsonPayload

__all__ = ["ChannelState", "Membership", "PresenceEvents"]

ChannelState: TypeAlias = Literal["new", "joining", "joined", "errored", "closed"]

CRASHED = {"reason": "join crashed"}  # the server's fault, of which it may recover


class PresenceEvents(msgspec.Struct, frozen=True, kw_only=True):
    """Which events say who is there.

    Args:
        state: Of the whole list.
        diff: Of changes.
        count: Of the counts of a large topic.
    """

    state: str = STATE
    diff: str = DIFF
    count: str = COUNT


class ParamsNeeded(msgspec.Struct, frozen=True):
    """Ask for the parameters of a join, and hand them to ``Membership.provide``.

    Args:
        membership: Whose.
        attempt: To be handed back with them.
    """

    membership: Membership
    attempt: int


class Joined(msgspec.Struct, frozen=True):
    """A join was accepted.

    Args:
        membership: Which.
        response: What the server said.
        is_rejoin: Whether it had been joined before; what was broadcast in between is missed.
    """

    membership: Membership
    response: Any
    is_rejoin: bool


class JoinFailed(msgspec.Struct, frozen=True):
    """The first join of a channel failed; it is over."""

    membership: Membership
    error: ClientError


class Ended(msgspec.Struct, frozen=True):
    """A channel that was joined is over.

    Args:
        membership: Which.
        error: Why, unless it was left, or ended by the server as it should.
        dropped_count: Messages that waited to be sent and never will.
    """

    membership: Membership
    error: ClientError | None
    dropped_count: int


class Received(msgspec.Struct, frozen=True):
    """A push or broadcast came.

    Args:
        membership: For whom.
        message: What.
        size: Bytes or characters of its frame.
    """

    membership: Membership
    message: Message
    size: int


class PresenceChanged(msgspec.Struct, frozen=True):
    """The mirror of a channel took something, even if that changed nothing."""

    membership: Membership
    changes: list[Change]


class Membership:
    """One topic of a client.

    Args:
        line: What it shares with the client's other channels.
        topic: Which.
        params: Of its joins; None to be asked for them each time.
        presence: Which events its mirror takes; None: it has none.

    Attributes:
        state: See above.
        join_ref: Of the present join; None if none was sent on this connection.
        mirror: Who is there.
    """

    def __init__(
        self,
        line: Line,
        topic: str,
        params: JsonPayload | None,
        presence: PresenceEvents | None,
    ) -> None:
        self.topic = topic
        self.state: ChannelState = "new"
        self.join_ref: str | None = None
        self.mirror = None if presence is None else Mirror()
        self._line = line
        self._params = params
        self._presence = presence or PresenceEvents()
        self._timeout = 0.0
        self._was_joined = False
        self._attempt = 0
        self._tries = 0
        self._refusals = 0
        self._waiting: dict[Push, None] = {}  # in order
        self._unsent_count = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits for the channel to be joined."""
        return not self._waiting

    # From the application.

    def join(self, timeout: float, now: float) -> None:
        """Join; ``Joined`` or ``JoinFailed`` tells how it went.

        Args:
            timeout: Seconds for this join and each later one.
            now: The time.

        Raises:
            AlreadyJoined: The client has a channel of the topic.
        """
        if self.topic in self._line.topics:
            raise AlreadyJoined(self.topic)
        self._line.topics[self.topic] = self
        self.state = "joining"
        self._timeout = timeout
        self._line.timers.set((self, "join"), now + timeout)
        if self._line.is_open:
            self._ask()

    def provide(self, attempt: int, params: JsonPayload) -> None:
        """Hand over what ``ParamsNeeded`` asked for."""
        if attempt == self._attempt and self.state == "joining" and self._line.is_open:
            self._send_join(params)

    def provide_nothing(self, attempt: int, now: float) -> None:
        """Parameters can't be had now; they will be asked for again."""
        if attempt == self._attempt and self.state == "joining":
            self._fail_rejoin(now)

    def push(
        self,
        event: str,
        payload: JsonPayload | bytes,
        now: float,
        *,
        timeout: float | None,
        wants_reply: bool,
    ) -> Push:
        """Send a message, or let it wait until the channel is joined.

        Args:
            event: What.
            payload: Encoded.
            now: The time.
            timeout: Seconds until it fails, sent or not; None: any time.
            wants_reply: Whether ``Replied`` or ``PushFailed`` is to tell what became of it.

        Raises:
            NotStarted: ``join`` was not called.
            ChannelEnded: The channel is over.
            BufferFull: Too many wait.
            LocalProtocolError: The serializer can't say it.
        """
        if self.state == "new":
            raise NotStarted(f"the channel of {self.topic!r}", "await channel.join() first")
        if self.state == "closed":
            raise ChannelEnded(self.topic)
        max_count = self._line.options.max_buffer_count
        if self._unsent_count >= max_count:
            raise BufferFull(self.topic, max_count)
        if isinstance(payload, bytes):  # what can't be said is refused here, not when it is sent
            self._line.serializer.encode(Message("", "", self.topic, event, b""))
        push = Push(self, event, payload, timeout, wants_reply)
        self._unsent_count += 1
        if timeout is not None:
            self._line.timers.set(push, now + timeout)
        if self.state == "joined":
            self._line.send_push(push)
        else:
            self._waiting[push] = None
        return push

    def cancel(self, push: Push) -> None:
        """Nobody waits for a push any more; if it has not been sent, it will not be."""
        if not push.is_over:
            self._line.finish(push)

    def leave(self, timeout: float, now: float) -> Push | None:
        """Leave; the channel is over at once.

        Args:
            timeout: Seconds for the server's answer.
            now: The time.

        Returns:
            What tells by ``Replied`` or ``PushFailed`` that the server knows, if it need be told.
        """
        if self.state in ("new", "closed"):
            self.state = "closed"
            return None
        is_known = self.join_ref is not None and self._line.is_open
        self.end(None)
        if not is_known:
            return None
        push = Push(self, LEAVE, NOTHING, timeout, True)
        self._unsent_count += 1
        self._line.timers.set(push, now + timeout)
        self._line.send_push(push)
        return push

    # From the connection.

    def opened(self, now: float) -> None:
        """There is a connection."""
        self._tries = 0
        if self._was_joined:  # else the deadline is that of the first join
            self._line.timers.set((self, "join"), now + self._timeout)
        self.state = "joining"
        self._ask()

    def lost(self, unsent: list[Push]) -> None:
        """There is none any more.

        Args:
            unsent: The channel's pushes that it has not taken.
        """
        self.join_ref = None
        self._attempt += 1
        if self.state == "closed":
            for push in unsent:
                self._line.fail(push, ChannelEnded(self.topic))
            return
        self._wait(unsent)
        if self._was_joined:
            self.state = "errored"
            self._line.timers.cancel((self, "join"))
        self._line.timers.cancel((self, "rejoin"))
        if self.mirror is not None:
            self.mirror.rejoining()

    def receive(self, message: Message, size: int, now: float) -> None:
        """Take what the server says in this topic, but for replies.

        Raises:
            InvalidMessage: A list or diff of presences that is none.
        """
        join_ref = message.join_ref
        if join_ref is None and message.event in (CLOSE, ERROR):
            join_ref = message.ref  # version 1 says it there
        if join_ref and join_ref != self.join_ref:
            self._line.stale_count += 1
            return
        match message.event:
            case event if event == CLOSE:
                self._wait(self._line.take_back(self))
                self.end(None)
                self.left()
            case event if event == ERROR:
                self._crashed(message.payload, now)
            case event if self.mirror is not None and self._mirrors(self.mirror, event, message):
                pass
            case _ if self._was_joined:
                self._line.events.append(Received(self, message, size))

    def join_replied(self, status: str, response: Any, now: float) -> None:
        """The present join was answered."""
        if self.state != "joining":
            return
        self._line.timers.cancel((self, "join"))
        if status == "ok":
            self._joined(response)
        elif not self._was_joined:
            self._fail(JoinRejected(self.topic, response))
        else:
            self._refused(response, now)

    # From the clock.

    def join_timed_out(self, now: float) -> None:
        """The join was not answered in time; it may still be accepted, so it is left."""
        if self.join_ref is not None:
            ref = self._line.next_ref()
            self._line.send(Message(self.join_ref, ref, self.topic, LEAVE, NOTHING))
        if self._was_joined:
            self._fail_rejoin(now)
        else:
            self._fail(JoinTimedOut(self.topic, self._timeout))

    def rejoin(self, now: float) -> None:
        """The time to try again has come."""
        self.state = "joining"
        self._ask()
        self._line.timers.set((self, "join"), now + self._timeout)

    def push_timed_out(self, push: Push) -> None:
        """A push had its time."""
        assert push.timeout is not None
        was_sent = push.ref is not None
        self._line.fail(push, PushTimedOut(self.topic, push.event, push.timeout, was_sent))
        if push.event == LEAVE:
            self.left()

    # From the line.

    def was_sent(self, push: Push) -> None:
        """A connection took a push."""
        self._unsent_count -= 1

    def forget(self, push: Push) -> None:
        """A push is over."""
        if push.ref is None:
            self._unsent_count -= 1
            self._waiting.pop(push, None)

    def left(self) -> None:
        """The server knows that the channel is left: no reply will come any more."""
        for push in [each for each in self._line.sent.values() if each.membership is self]:
            self._line.fail(push, ChannelEnded(self.topic))

    def end(self, error: ClientError | None) -> None:
        """The channel is over.

        Args:
            error: Why, unless it was left, or ended by the server as it should.
        """
        if self.state == "closed":
            return
        dropped_count = self._close()
        if self._was_joined:
            self._line.events.append(Ended(self, error, dropped_count))
        else:
            error = error or ChannelEnded(self.topic)
            self._line.events.append(JoinFailed(self, error))

    def _joined(self, response: Any) -> None:
        self.state = "joined"
        self._tries = self._refusals = 0
        if self.mirror is not None:
            self.mirror.joined()
        self._line.events.append(Joined(self, response, self._was_joined))
        self._was_joined = True
        waiting, self._waiting = self._waiting, {}
        for push in waiting:
            self._line.send_push(push)

    def _refused(self, response: Any, now: float) -> None:
        max_refusals = self._line.options.max_refusals
        if response != CRASHED:
            self._refusals += 1
        if max_refusals is not None and self._refusals >= max_refusals:
            self.end(JoinRejected(self.topic, response))
        else:
            self._fail_rejoin(now)

    def _crashed(self, payload: Any, now: float) -> None:
        if not self._was_joined:
            self._fail(JoinRejected(self.topic, payload))
            return
        self._line.interrupt(self)
        self._wait(self._line.take_back(self))
        if self.mirror is not None:
            self.mirror.rejoining()
        self._fail_rejoin(now)

    def _mirrors(self, mirror: Mirror, event: str, message: Message) -> bool:
        """Hand what tells of presences to the mirror; tell whether it was that."""
        names = self._presence
        changes = None
        if event == names.state:
            changes = mirror.receive_state(message.payload)
        elif event == names.diff:
            changes = mirror.receive_diff(message.payload)
        elif event == names.count:
            changes = [] if mirror.receive_count(message.payload) else None
        else:
            return False
        if changes is not None:
            self._line.events.append(PresenceChanged(self, changes))
        return True

    def _ask(self) -> None:
        """Begin a join: with the parameters that there are, or new ones."""
        self._attempt += 1
        self.join_ref = None
        if self._params is None:
            self._line.events.append(ParamsNeeded(self, self._attempt))
        else:
            self._send_join(self._params)

    def _send_join(self, params: JsonPayload) -> None:
        self.join_ref = self._line.next_ref()
        self._line.send(Message(self.join_ref, self.join_ref, self.topic, JOIN, params))

    def _fail(self, error: ClientError) -> None:
        """The first join failed."""
        self._close()
        self._line.events.append(JoinFailed(self, error))

    def _fail_rejoin(self, now: float) -> None:
        """The channel is lost; it is to be joined again later."""
        line, options = self._line, self._line.options
        self.state = "errored"
        self.join_ref = None
        self._attempt += 1
        line.timers.cancel((self, "join"))
        if line.is_open:
            self._tries += 1
            delay = delay_of(self._tries, options.rejoin_delays, options.jitter, line.rng)
            line.timers.set((self, "rejoin"), now + delay)

    def _close(self) -> int:
        """Be over; return how many messages for nobody's reply were not sent."""
        self.state = "closed"
        self._attempt += 1
        self._line.timers.cancel((self, "join"))
        self._line.timers.cancel((self, "rejoin"))
        if self._line.topics.get(self.topic) is self:
            del self._line.topics[self.topic]
        dropped = list(self._waiting)
        for push in dropped:
            if push.wants_reply:
                self._line.fail(push, ChannelEnded(self.topic))
            else:
                self._line.finish(push)
        return sum(not push.wants_reply for push in dropped)

    def _wait(self, pushes: list[Push]) -> None:
        """Let pushes wait that a joined channel could not send: nothing waits there yet."""
        self._waiting.update(dict.fromkeys(pushes))
