"""Every error that the client raises, in one tree.

::

    RoostError
    └── ClientError
        ├── ConnectFailed (ConnectionError)      the server was not reached in time
        │   └── ConnectRejected                  it answered the handshake with an HTTP status
        ├── ClientClosed (RuntimeError)          anything after ``close``
        ├── AlreadyJoined (ValueError)           the client has a channel of this topic
        ├── JoinRejected                         the server refused the join
        ├── JoinTimedOut (TimeoutError)          it did not answer the join in time
        ├── PushRejected                         the reply has another status than ``"ok"``
        ├── PushTimedOut (TimeoutError)          no reply in time
        ├── PushInterrupted (ConnectionError)    sent, but whether it was handled is unknown
        ├── BufferFull                           too many messages wait to be sent
        ├── ChannelEnded (RuntimeError)          the channel was left, or ended by the server
        └── MessagesDropped                      an iterator was read too slowly

Errors hold data; ``str()`` makes the sentence. They can be copied, and pickled.
"""

from __future__ import annotations

from typing import Any

from roost.exceptions import RoostError

__all__ = [
    "AlreadyJoined",
    "BufferFull",
    "ChannelEnded",
    "ClientClosed",
    "ClientError",
    "ConnectFailed",
    "ConnectRejected",
    "JoinRejected",
    "JoinTimedOut",
    "MessagesDropped",
    "PushInterrupted",
    "PushRejected",
    "PushTimedOut",
]


class ClientError(RoostError):
    """Base of every error of the client."""


class ConnectFailed(ClientError, ConnectionError):
    """The server could not be reached.

    Attributes:
        url: Of the server, without its query, which may hold tokens.
        reason: What went wrong at the last attempt.
    """

    def __init__(self, url: str, reason: str) -> None:
        super().__init__()  # an OSError makes errno and more of its arguments
        self.args = (url, reason)
        self.url = url
        self.reason = reason

    def __str__(self) -> str:
        return f"can't connect to {self.url}: {self.reason}"


class ConnectRejected(ConnectFailed):
    """The server answered the handshake with an HTTP status instead of a WebSocket.

    Attributes:
        status: For example 403: the application refused the parameters or the token.
        body: The beginning of what the answer said.
    """

    def __init__(self, url: str, status: int, body: str = "") -> None:
        super().__init__(url, f"HTTP {status}" + (f": {body}" if body else ""))
        self.args = (url, status, body)  # what a copy is made of
        self.status = status
        self.body = body

    @property
    def is_final(self) -> bool:
        """Whether asking again is of no use, unless with another token: a 4xx that is no hurry."""
        return 400 <= self.status < 500 and self.status not in (408, 425, 429)


class ClientClosed(ClientError, RuntimeError):
    """The client was closed; make a new one."""

    def __str__(self) -> str:
        return "the client is closed: make a new one"


class AlreadyJoined(ClientError, ValueError):
    """The client has a channel of this topic; use that one, or leave it first."""

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.topic = topic

    def __str__(self) -> str:
        return f"this client has a channel of {self.topic!r} already: use it, or leave it first"


class JoinRejected(ClientError):
    """The server refused the join.

    Attributes:
        topic: What was to be joined.
        response: What the server said, for example ``{"reason": "unauthorized"}``.
    """

    def __init__(self, topic: str, response: Any) -> None:
        super().__init__(topic, response)
        self.topic = topic
        self.response = response

    def __str__(self) -> str:
        return f"the server refused the join of {self.topic!r}: {self.response!r}"


class JoinTimedOut(ClientError, TimeoutError):
    """The server did not answer a join in time, or there was no connection all the while."""

    def __init__(self, topic: str, timeout: float) -> None:
        super().__init__()  # see ConnectFailed
        self.args = (topic, timeout)
        self.topic = topic
        self.timeout = timeout

    def __str__(self) -> str:
        return f"the join of {self.topic!r} was not answered within {self.timeout:g} s"


class PushRejected(ClientError):
    """The server replied to a push with another status than ``"ok"``.

    Attributes:
        topic: Of the channel.
        event: What was pushed.
        status: Mostly ``"error"``.
        response: What the server said.
    """

    def __init__(self, topic: str, event: str, status: str, response: Any) -> None:
        super().__init__(topic, event, status, response)
        self.topic = topic
        self.event = event
        self.status = status
        self.response = response

    def __str__(self) -> str:
        return f"{self.event!r} to {self.topic!r} got the reply {self.status!r}: {self.response!r}"


class PushTimedOut(ClientError, TimeoutError):
    """No reply to a push in time.

    Attributes:
        topic: Of the channel.
        event: What was pushed.
        timeout: Seconds that it had.
        was_sent: Whether it left this client. If not, the server has not seen it, and will not.
    """

    def __init__(self, topic: str, event: str, timeout: float, was_sent: bool) -> None:
        super().__init__()  # see ConnectFailed
        self.args = (topic, event, timeout, was_sent)
        self.topic = topic
        self.event = event
        self.timeout = timeout
        self.was_sent = was_sent

    def __str__(self) -> str:
        what = "got no reply" if self.was_sent else "could not be sent"
        return f"{self.event!r} to {self.topic!r} {what} within {self.timeout:g} s"


class PushInterrupted(ClientError, ConnectionError):
    """A push was sent, and the channel or the connection was lost before its reply came.

    The server may have handled it or not: repeat it only if doing it twice does no harm.
    """

    def __init__(self, topic: str, event: str) -> None:
        super().__init__()  # see ConnectFailed
        self.args = (topic, event)
        self.topic = topic
        self.event = event

    def __str__(self) -> str:
        return (
            f"{self.event!r} to {self.topic!r} was sent, but the channel was lost before a reply: "
            "whether it was handled is unknown"
        )


class BufferFull(ClientError):
    """Too many messages wait to be sent; the one given was not taken.

    Attributes:
        topic: Of the channel.
        max_count: How many may wait.
    """

    def __init__(self, topic: str, max_count: int) -> None:
        super().__init__(topic, max_count)
        self.topic = topic
        self.max_count = max_count

    def __str__(self) -> str:
        return (
            f"{self.max_count} messages to {self.topic!r} wait to be sent already: wait for "
            "client.flush(), or for the connection to come back"
        )


class ChannelEnded(ClientError, RuntimeError):
    """The channel was left, or the server ended it; join the topic anew."""

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.topic = topic

    def __str__(self) -> str:
        return f"the channel of {self.topic!r} has ended: join the topic anew"


class MessagesDropped(ClientError):
    """An iterator was read too slowly, so that messages had to be dropped; it can be read on.

    Attributes:
        topic: Of the channel.
        count: How many were dropped since the iterator was last read.
    """

    def __init__(self, topic: str, count: int) -> None:
        super().__init__(topic, count)
        self.topic = topic
        self.count = count

    def __str__(self) -> str:
        return f"{self.count} messages of {self.topic!r} were dropped: they were read too slowly"
