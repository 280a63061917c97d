"""What is said on the wire, whatever the serializer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import msgspec

from roost.exceptions import InvalidMessage
from roost.wire.masking import ParameterFilter

__all__ = [
    "CLOSE",
    "COUNT",
    "DIFF",
    "ERROR",
    "HEARTBEAT",
    "JOIN",
    "LEAVE",
    "REPLY",
    "STATE",
    "Broadcast",
    "Message",
    "Outgoing",
    "Reply",
]

JOIN: Final = "phx_join"
LEAVE: Final = "phx_leave"
REPLY: Final = "phx_reply"
ERROR: Final = "phx_error"
CLOSE: Final = "phx_close"
HEARTBEAT: Final = "heartbeat"
STATE: Final = "presence_state"
DIFF: Final = "presence_diff"
COUNT: Final = "presence_count"  # not of Phoenix: sent in place of diffs where a topic is too large

_REQUIRED: Final = ("topic", "event", "payload", "ref")


class Message(msgspec.Struct, frozen=True, weakref=True):
    """A message of a client, or a push of a channel.

    Args:
        join_ref: Ref of the join that created the channel; any JSON value, None if absent.
        ref: The client's name for this message, echoed in its reply; None in a push.
        topic: For example ``"room:1"``.
        event: For example ``"new_msg"``.
        payload: Decoded JSON, or bytes.
    """

    join_ref: Any
    ref: Any
    topic: str
    event: str
    payload: Any

    @classmethod
    def from_fields(cls, join_ref: Any, ref: Any, topic: Any, event: Any, payload: Any) -> Message:
        """Make a message of decoded fields.

        Raises:
            InvalidMessage: Topic or event is not a string.
        """
        if type(topic) is not str:
            raise InvalidMessage("topic to be a string", type(topic).__name__)
        if type(event) is not str:
            raise InvalidMessage("event to be a string", type(event).__name__)
        return cls(join_ref, ref, topic, event, payload)

    @classmethod
    def from_map(cls, fields: Mapping[str, Any]) -> Message:
        """Make a message of a decoded V1 object; further keys are ignored.

        Raises:
            InvalidMessage: A required key is missing, or topic or event is not a string.
        """
        for name in _REQUIRED:
            if name not in fields:
                raise InvalidMessage(f"an object with the key {name!r}")
        return cls.from_fields(
            fields.get("join_ref"),
            fields["ref"],
            fields["topic"],
            fields["event"],
            fields["payload"],
        )

    def __repr__(self) -> str:
        """Show the message with passwords and tokens masked: messages end up in logs."""
        return (
            f"Message(join_ref={self.join_ref!r}, ref={self.ref!r}, topic={self.topic!r}, "
            f"event={self.event!r}, payload={ParameterFilter().show(self.payload)})"
        )


class Reply(msgspec.Struct, frozen=True):
    """The answer to one message.

    Args:
        join_ref: As held by the channel, not as the request said it.
        ref: Ref of the request.
        topic: Topic of the request.
        status: ``"ok"``, ``"error"``, or any other word.
        response: Any JSON value, or bytes.
    """

    join_ref: Any
    ref: Any
    topic: str
    status: str
    response: Any


class Broadcast(msgspec.Struct, frozen=True):
    """An event for all subscribers of a topic; it names no join and no ref.

    Args:
        topic: Where.
        event: What.
        payload: A ``JsonPayload`` or bytes on its way to clients.
    """

    topic: str
    event: str
    payload: Any


Outgoing: TypeAlias = Message | Reply
