"""The server's side of one connection, sans I/O: which channel a message is for, and what becomes
of the channel.

Theory of operation. Each topic of a connection is a sequence of channels, one after the other. Its
*slot* is in one of four states::

                 join_succeeded              leave                closed, crashed
      joining ───────────────────▶ joined ──────────▶ leaving ─────────────────────┐
         │                            │                                            ▼
         │ leave, newer join          │ newer join, closed, crashed             closing
         └────────────────────────────┴──────────────────────────────────────────▶ │
         │ join_failed                                                             │ ended
         ▼                                                                         ▼
       (free) ◀────────────────────────────────────────────────────────────── (free)

- joining: the application decides. Messages for the topic wait behind the join, in order, bounded.
  Other topics and heartbeats go on: Phoenix holds up the whole connection here, we do not.
- joined, leaving: messages go to the channel, as long as their join_ref is null or the channel's.
- closing: the channel cleans up. A new join waits for it, and whatever comes behind that join
  waits too, so that there is never more than one channel for a topic, and nothing of the old one
  is left when the new one starts. Without a waiting join the topic counts as not joined.

A message that waited is judged when its turn comes, by the same table as a fresh one. The table is
Phoenix's (``Phoenix.Socket.__in__``); so are the answers, to the byte. Departures: a leave with
the pending join_ref, or a newer join, cancels a join that is still being decided, where Phoenix
would decide it first; a leave followed by a join is answered in that order, where Phoenix lets the
join's reply overtake; a full waiting line answers ``overloaded``.

On a duplicate join the client is sent the old channel's end (``phx_close``) after the new
join's reply, as Phoenix does: clients match on the join_ref. Only where many joins cancel each
other before any is answered the oldest ends are sent at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, Final, TypeAlias

import msgspec

from roost.exceptions import LocalProtocolError
from roost.wire.messages import CLOSE, ERROR, HEARTBEAT, JOIN, LEAVE, Message, Reply

__all__ = [
    "ConnectionProtocol",
    "Deliver",
    "Output",
    "StartChannel",
    "StopChannel",
    "StopReason",
    "Unrouted",
]

MAX_CHANNELS: Final = 100  # channels of one connection, as in Phoenix
MAX_WAITING: Final = 1_000  # messages that wait behind one join
MAX_NOTICES: Final = 10  # ends of channels that wait for the reply of one join

_NO_ROUTE: Final = {"reason": "unmatched topic"}
_TOO_MANY: Final = {"reason": "too many channels joined"}
_OVERLOADED: Final = {"reason": "overloaded"}
_CRASHED: Final = {"reason": "channel_crash"}


class StopReason(Enum):
    """Why the connection ends a channel that did not end by itself."""

    LEFT = "left"
    """The client left, while the join was being decided or before the channel got to the leave."""
    DUPLICATE_JOIN = "duplicate_join"
    """A newer join of the same topic takes its place."""


class StartChannel(msgspec.Struct, frozen=True):
    """Decide this join; answer with ``join_succeeded`` or ``join_failed``.

    Args:
        channel_id: Names the channel in all further calls and outputs.
        message: The join; its payload is the parameters.
    """

    channel_id: int
    message: Message


class StopChannel(msgspec.Struct, frozen=True):
    """End this channel or its join, clean up, then call ``channel_ended``."""

    channel_id: int
    reason: StopReason


class Deliver(msgspec.Struct, frozen=True):
    """A message for a channel; ``phx_leave`` asks it to end."""

    channel_id: int
    message: Message


class Unrouted(msgspec.Struct, frozen=True):
    """No route matches the topic of this join, or there are too many channels; for the log."""

    message: Message
    reason: str


Output: TypeAlias = Message | Reply | StartChannel | StopChannel | Deliver | Unrouted
"""What to do, in order: write a message or a reply, or act on a channel."""


class _State(Enum):
    JOINING = auto()
    JOINED = auto()
    LEAVING = auto()
    CLOSING = auto()


class _Slot:
    # Of the join and the leave only what their answers need: a slot lives as long as its channel,
    # and their payloads, whatever a client put there, need not.
    __slots__ = (
        "channel_id",
        "has_left",
        "join_ref",
        "leave_ref",
        "notices",
        "ref",
        "state",
        "stopped",
        "topic",
        "waiting",
    )

    def __init__(self, channel_id: int, join: Message, notices: tuple[Message, ...]) -> None:
        self.state = _State.JOINING
        self.channel_id = channel_id
        self.topic = join.topic
        self.join_ref = join.join_ref
        self.ref = join.ref
        self.has_left = False
        self.leave_ref: Any = None  # of the first leave
        self.stopped = False  # by us: its end is sent as a notice
        self.notices = notices  # ends of predecessors, to be sent after this join's reply
        self.waiting: list[Message] | None = None  # once something waits


class ConnectionProtocol:
    """Route the messages of one connection to its channels.

    Call ``receive`` for each message of the client, the other methods as channels report, and
    after each call carry out ``outputs()`` in order.

    Args:
        has_route: Whether a topic can be joined.
        max_channels: Channels that the connection may have at once, joins being decided and
            channels cleaning up included.
        max_waiting: Messages that wait behind one join; more are answered ``overloaded``.

    Example:
        >>> protocol = ConnectionProtocol(has_route=lambda topic: topic.startswith("room:"))
        >>> protocol.receive(Message("1", "1", "room:1", "phx_join", {}))
        >>> protocol.outputs()[0].channel_id
        1
        >>> protocol.join_succeeded(1, {})
        >>> protocol.outputs()
        [Reply(join_ref='1', ref='1', topic='room:1', status='ok', response={})]
    """

    def __init__(
        self,
        *,
        has_route: Callable[[str], bool],
        max_channels: int = MAX_CHANNELS,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._has_route = has_route
        self._max_channels = max_channels
        self._max_waiting = max_waiting
        self._slots: dict[str, _Slot] = {}
        self._topics: dict[int, str] = {}  # by channel id
        self._last_id = 0
        self._outputs: list[Output] = []

    # In: from the client.

    def receive(self, message: Message) -> None:
        """A message arrived."""
        topic, event = message.topic, message.event
        if topic == "phoenix" and event == HEARTBEAT:
            self._outputs.append(Reply(None, message.ref, topic, "ok", {}))
            return
        slot = self._slots.get(topic)
        if slot is None:
            self._receive_unjoined(message)
        elif slot.state is _State.JOINED or slot.state is _State.LEAVING:
            self._receive_joined(slot, message)
        elif slot.state is _State.JOINING:
            self._receive_joining(slot, message)
        elif slot.waiting or event == JOIN:
            self._wait(slot, message)
        else:
            self._receive_unjoined(message)

    def _receive_unjoined(self, message: Message) -> None:
        if message.event == JOIN:
            self._start(message, ())
        elif message.event == LEAVE:
            self._reply(message, "ok", {}, join_ref=message.join_ref)
        else:
            self._reply(message, "error", _NO_ROUTE, join_ref=None)

    def _receive_joined(self, slot: _Slot, message: Message) -> None:
        if message.event == JOIN:
            # If it has left it just did not get to it yet.
            self._stop(slot, StopReason.LEFT if slot.has_left else StopReason.DUPLICATE_JOIN)
            self._wait(slot, message)
        elif _is_meant(message, slot):
            if message.event == LEAVE:
                if slot.has_left:
                    return  # it is leaving already, and Phoenix never answers the second one
                slot.state = _State.LEAVING
                _note_leave(slot, message)
            self._outputs.append(Deliver(slot.channel_id, message))
        # Else it is for a channel that is no more: dropped without a word, as in Phoenix.

    def _receive_joining(self, slot: _Slot, message: Message) -> None:
        if message.event == JOIN:
            self._stop(slot, StopReason.DUPLICATE_JOIN)
            self._wait(slot, message)
        elif message.event == LEAVE and _is_meant(message, slot):
            _note_leave(slot, message)
            self._stop(slot, StopReason.LEFT)
        else:
            self._wait(slot, message)

    # In: from the channels.

    def join_succeeded(self, channel_id: int, response: Any) -> None:
        """The application accepted the join; ignored if it was cancelled meanwhile."""
        slot = self._slot(channel_id, _State.JOINING)
        if slot is None:
            return
        slot.state = _State.JOINED
        self._answer_join(slot, "ok", response)
        self._release(slot)

    def join_failed(self, channel_id: int, response: Any) -> None:
        """The join was refused or crashed, and the channel is gone; ignored if cancelled."""
        slot = self._slot(channel_id, _State.JOINING)
        if slot is None:
            return
        self._answer_join(slot, "error", response)
        self._free(slot)

    def channel_closed(self, channel_id: int) -> None:
        """The channel ended gracefully; it may still clean up, until ``channel_ended``."""
        slot = self._slot(channel_id, _State.JOINED, _State.LEAVING)
        if slot is None:
            return
        slot.state = _State.CLOSING
        self._outputs.append(_notice(slot, CLOSE, {}))

    def channel_crashed(self, channel_id: int) -> None:
        """The channel ended abnormally, and is gone."""
        slot = self._slot(channel_id, _State.JOINED, _State.LEAVING)
        if slot is not None:
            self._outputs.append(_notice(slot, ERROR, _CRASHED))
            self._free(slot)
        else:
            self.channel_ended(channel_id)

    def channel_ended(self, channel_id: int) -> None:
        """The channel is gone, and has cleaned up; if it never said why, it crashed."""
        slot = self._slot(channel_id, _State.CLOSING)
        if slot is None:
            if self._slot(channel_id, _State.JOINED, _State.LEAVING) is not None:
                self.channel_crashed(channel_id)
            return
        if slot.stopped and slot.has_left:
            self._outputs.append(Reply(slot.join_ref, slot.leave_ref, slot.topic, "ok", {}))
            self._outputs.extend((*slot.notices, _notice(slot, CLOSE, {})))
            slot.notices = ()
        elif slot.stopped:
            slot.notices = (*slot.notices, _notice(slot, CLOSE, {}))
            if len(slot.notices) > MAX_NOTICES:
                self._outputs.append(slot.notices[0])
                slot.notices = slot.notices[1:]
        self._free(slot)

    # Out.

    def outputs(self) -> Sequence[Output]:
        """What to do now, in order; handed over once."""
        outputs, self._outputs = self._outputs, []
        return outputs

    def channel_ids(self) -> Sequence[int]:
        """The channels that have not ended."""
        return list(self._topics)

    # How slots change.

    def _start(self, join: Message, notices: tuple[Message, ...]) -> None:
        if not self._has_route(join.topic):
            self._refuse(join, _NO_ROUTE, None, notices)
        elif len(self._slots) >= self._max_channels:
            self._refuse(join, _TOO_MANY, join.join_ref, notices)
        else:
            self._last_id += 1
            self._slots[join.topic] = _Slot(self._last_id, join, notices)
            self._topics[self._last_id] = join.topic
            self._outputs.append(StartChannel(self._last_id, join))

    def _refuse(
        self, join: Message, response: dict[str, str], join_ref: Any, notices: tuple[Message, ...]
    ) -> None:
        self._reply(join, "error", response, join_ref=join_ref)
        self._outputs.extend(notices)
        self._outputs.append(Unrouted(join, response["reason"]))

    def _stop(self, slot: _Slot, reason: StopReason) -> None:
        slot.state = _State.CLOSING
        slot.stopped = True
        self._outputs.append(StopChannel(slot.channel_id, reason))

    def _answer_join(self, slot: _Slot, status: str, response: Any) -> None:
        self._outputs.append(Reply(slot.join_ref, slot.ref, slot.topic, status, response))
        self._outputs.extend(slot.notices)
        slot.notices = ()

    def _free(self, slot: _Slot) -> None:
        del self._slots[slot.topic]
        del self._topics[slot.channel_id]
        self._release(slot)

    def _release(self, slot: _Slot) -> None:
        """Judge what waited; the first join among it inherits the notices and the line."""
        waiting, slot.waiting = slot.waiting, None
        notices, slot.notices = slot.notices, ()
        for message in waiting or ():
            if message.event == JOIN and message.topic not in self._slots:
                self._start(message, notices)
                notices = ()
            else:
                self.receive(message)
        self._outputs.extend(notices)

    def _wait(self, slot: _Slot, message: Message) -> None:
        if slot.waiting is None:
            slot.waiting = []
        if len(slot.waiting) < self._max_waiting:
            slot.waiting.append(message)
        else:
            self._reply(message, "error", _OVERLOADED, join_ref=message.join_ref)

    def _slot(self, channel_id: int, *states: _State) -> _Slot | None:
        """The slot of a channel in one of ``states``; None if it has moved on."""
        if not 0 < channel_id <= self._last_id:
            raise LocalProtocolError(f"there never was a channel {channel_id}")
        topic = self._topics.get(channel_id)
        slot = None if topic is None else self._slots[topic]
        return slot if slot is not None and slot.state in states else None

    def _reply(self, message: Message, status: str, response: Any, *, join_ref: Any) -> None:
        self._outputs.append(Reply(join_ref, message.ref, message.topic, status, response))


def _is_meant(message: Message, slot: _Slot) -> bool:
    """Whether a message is for this channel, and not for one before it."""
    join_ref = slot.join_ref
    # 1 and true are the same to Python, and not on the wire.
    return message.join_ref is None or (
        message.join_ref == join_ref and type(message.join_ref) is type(join_ref)
    )


def _notice(slot: _Slot, event: str, payload: dict[str, str]) -> Message:
    """``phx_close`` and ``phx_error`` carry the join_ref in both places."""
    join_ref = slot.join_ref
    return Message(join_ref, join_ref, slot.topic, event, payload)


def _note_leave(slot: _Slot, leave: Message) -> None:
    slot.has_left = True
    slot.leave_ref = leave.ref
