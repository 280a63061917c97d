"""Every error that roost raises, in one tree.

::

    RoostError
    ├── ConfigurationError (ValueError)      an option that can't work; raised where it is given
    ├── NotStarted (RuntimeError)            used before start, or after stop
    ├── WrongThread (RuntimeError)           called outside the event loop's thread
    ├── AdapterError (ConnectionError)       the engine between nodes is not to be reached
    ├── Refusals, raised by the application
    │   ├── ConnectRefused                   in ``Socket.connect``
    │   │   └── TokenError (JoinRefused, ReplyError)  a token that says nobody; anywhere
    │   │       ├── TokenMissing             there is none
    │   │       ├── TokenInvalid             it is none of ours, or not for this
    │   │       └── TokenExpired             it was good once
    │   ├── JoinRefused                      in ``Channel.join``
    │   │   └── TopicFull (ReplyError)       no member more; in an event handler, too
    │   └── ReplyError                       in an event handler
    ├── KeysUnavailable (ConnectionError)    an identity provider's keys can't be fetched
    ├── Channel life
    │   ├── NotJoined (RuntimeError)         push or broadcast before the join was accepted
    │   ├── ChannelClosed (RuntimeError)     anything after the channel's end
    │   ├── NoReplyRef (RuntimeError)        no message is being answered
    │   └── MailboxFull (RuntimeError)       a channel can't take more messages
    ├── PayloadError (ValueError)            not strict JSON
    ├── TermError (ValueError)               a value, or bytes, that are no term of Erlang's
    ├── InvalidName (ValueError)             a topic, event or status that can't be one
    │   └── InvalidKey                       a presence key that clients can't have
    ├── Presence
    │   ├── AlreadyTracked (ValueError)      same owner, topic and key
    │   └── NotTracked (LookupError)         nothing to update
    └── ProtocolError
        ├── LocalProtocolError               our caller's mistake
        │   ├── FieldTooLong (ValueError)    over 255 bytes in a binary frame
        │   └── UnsupportedPayload (ValueError)  a serializer can't carry the payload
        └── RemoteProtocolError              the other side's mistake
            └── InvalidMessage (ValueError)  a frame that can't be decoded

Errors hold data; ``str()`` makes the sentence. They can be copied, and pickled.
"""

from __future__ import annotations

from typing import Any

from roost.aliases import EMPTY

__all__ = [
    "AdapterError",
    "AlreadyTracked",
    "ChannelClosed",
    "ConfigurationError",
    "ConnectRefused",
    "FieldTooLong",
    "InvalidKey",
    "InvalidMessage",
    "InvalidName",
    "JoinRefused",
    "KeysUnavailable",
    "LocalProtocolError",
    "MailboxFull",
    "NoReplyRef",
    "NotJoined",
    "NotStarted",
    "NotTracked",
    "PayloadError",
    "ProtocolError",
    "RemoteProtocolError",
    "ReplyError",
    "RoostError",
    "TermError",
    "TokenError",
    "TokenExpired",
    "TokenInvalid",
    "TokenMissing",
    "TopicFull",
    "UnsupportedPayload",
    "WrongThread",
]


class RoostError(Exception):
    """Base of every error that roost raises."""


class ConfigurationError(RoostError, ValueError):
    """An option, or a combination of options, that can't work."""


class NotStarted(RoostError, RuntimeError):
    """Something was used before it was started, or after it was stopped.

    Attributes:
        what: What was used, for example ``"Online"``.
        remedy: What to do about it.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what} is not running: {self.remedy}"


class WrongThread(RoostError, RuntimeError):
    """A call that belongs to the event loop's thread came from another one, or the other way round.

    Attributes:
        what: The call, for example ``"push"``.
        is_loops: Whether it was the event loop's thread that called what blocks.
    """

    def __init__(self, what: str, is_loops: bool = False) -> None:
        super().__init__(what, is_loops)
        self.what = what
        self.is_loops = is_loops

    def __str__(self) -> str:
        if self.is_loops:
            return (
                f"{self.what} was called on the event loop's thread, where it would wait for "
                "itself: await the method there, without it"
            )
        return (
            f"{self.what} was called outside the event loop's thread: use endpoint.call(…), which "
            "runs it there and returns its result, or loop.call_soon_threadsafe, or "
            "endpoint.broadcast, which works from any thread"
        )


class AdapterError(RoostError, ConnectionError):
    """The engine that carries messages between nodes cannot be reached, or refuses us.

    Attributes:
        engine: Where it is, without credentials, for example ``redis://10.0.0.5:6379/0``.
        reason: What went wrong, and what to do about it.

    Example:
        >>> print(AdapterError("redis://db:6379", "connection refused: is the server running?"))
        redis://db:6379: connection refused: is the server running?
    """

    def __init__(self, engine: str, reason: str) -> None:
        super().__init__(engine, reason)
        self.engine = engine
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.engine}: {self.reason}"


class ConnectRefused(RoostError):
    """Raise in ``Socket.connect`` to refuse a connection; the client gets HTTP 403.

    Args:
        reason: For the log and for the error handler; it never reaches the client by itself.
    """

    def __init__(self, reason: object = None) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return "connection refused" if self.reason is None else f"connection refused: {self.reason}"


class JoinRefused(RoostError):
    """Raise in ``Channel.join`` to refuse a join; the client gets an error reply.

    Args:
        payload: The response of the error reply, any JSON value or bytes; by default ``{}``.
    """

    def __init__(self, payload: Any = EMPTY) -> None:
        super().__init__(payload)
        self.payload: Any = payload

    def __str__(self) -> str:
        return f"join refused with {self.payload!r}"


class ReplyError(RoostError):
    """Raise in an event handler to answer with an error reply; the channel lives on.

    Args:
        payload: The response, any JSON value or bytes; by default ``{}``.
    """

    def __init__(self, payload: Any = EMPTY) -> None:
        super().__init__(payload)
        self.payload: Any = payload

    def __str__(self) -> str:
        return f"error reply with {self.payload!r}"


class TokenError(ConnectRefused, JoinRefused, ReplyError):
    """A token does not say who this is: raised by all that verifies or decrypts tokens.

    Left alone it refuses what was asked for: in ``Socket.connect`` the connection, in
    ``Channel.join`` the join, in an event handler the event. The reply says ``{"reason": code}``.

    Attributes:
        code: What is wrong, for programs: ``"token_missing"``, ``"token_invalid"`` or
            ``"token_expired"``.
        reason: What is wrong, for the log; never a part of the token, or of what it carries.
    """

    code = "token_invalid"

    def __init__(self, reason: str) -> None:
        super().__init__({"reason": self.code})
        self.args = (reason,)  # what a copy is made of
        self.reason: str = reason
        self.payload = {"reason": self.code}

    def __str__(self) -> str:
        return self.reason


class TokenMissing(TokenError):
    """No token was given: None.

    Send one: ``authToken`` of phoenix.js reaches ``info.auth_token`` if the mount says
    ``auth_token=True``. Ask whoever comes without one to log in.
    """

    code = "token_missing"

    def __init__(self, reason: str = "there is no token") -> None:
        super().__init__(reason)


class TokenInvalid(TokenError):
    """A token was made with another secret or salt, was changed, or is not meant for this.

    Ask its sender to log in. If your own tokens are refused, compare what signs and what verifies:
    the secret, the salt, the class, for JWTs the issuer, the audience and the algorithm, and the
    clocks of the machines.
    """


class TokenExpired(TokenError):
    """A token was good, and is too old now: its sender has to get a new one.

    Attributes:
        expired_at: Since when, in seconds since 1970.
    """

    code = "token_expired"

    def __init__(self, expired_at: float) -> None:
        super().__init__("the token has expired")
        self.args = (expired_at,)
        self.expired_at = expired_at


class KeysUnavailable(RoostError, ConnectionError):
    """The keys that tokens of an identity provider are verified with can't be fetched.

    This says nothing about the token: its sender may try again. Look whether this machine reaches
    the URL, and whether it serves a JSON Web Key Set.

    Attributes:
        url: Where they should be.
        reason: What went wrong.
    """

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url = url
        self.reason = reason

    def __str__(self) -> str:
        return f"no keys from {self.url}: {self.reason}"


class NotJoined(RoostError, RuntimeError):
    """A push, reply or broadcast before the join was accepted.

    Move the call from ``join`` to ``after_join``, which runs once the client has its reply.
    """

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.topic = topic

    def __str__(self) -> str:
        return (
            f"channel {self.topic!r} has not joined yet: push, reply and broadcast work "
            "from after_join on"
        )


class ChannelClosed(RoostError, RuntimeError):
    """The channel has ended: nothing can reach its client, and nothing can be tracked for it."""

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.topic = topic

    def __str__(self) -> str:
        return f"channel {self.topic!r} has ended"


class NoReplyRef(RoostError, RuntimeError):
    """``Channel.ref`` or ``reply`` was used while no message of the client was being handled."""

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.topic = topic

    def __str__(self) -> str:
        return (
            f"channel {self.topic!r} is not handling a message that has a ref to reply to: keep "
            "self.ref while its handler runs, and reply to that"
        )


class MailboxFull(RoostError, RuntimeError):
    """A channel can't take more messages; the one given was not queued.

    Attributes:
        topic: The channel's topic.
        max_count: How many messages its mailbox holds.
    """

    def __init__(self, topic: str, max_count: int) -> None:
        super().__init__(topic, max_count)
        self.topic = topic
        self.max_count = max_count

    def __str__(self) -> str:
        return f"the mailbox of channel {self.topic!r} is full ({self.max_count} messages)"


class PayloadError(RoostError, ValueError):
    """A value that is not strict JSON: NaN, bytes inside an object, clashing keys, unknown types.

    Give ``encode_hook`` to turn objects of your own into JSON values.
    """


class TermError(RoostError, ValueError):
    """A value can't be written as a term of Erlang's, or bytes are no term that can be read.

    What a ``PhoenixTokens`` carries is made of None, booleans, integers below 2^2040, finite
    floats, text, bytes, ``Atom``, lists, tuples and dicts, at most 64 deep.
    """


class InvalidName(RoostError, ValueError):
    """What was given as a topic, an event, a status or a presence key can't be one.

    A name is Unicode text of a bounded size; ``NameLimits`` sets the bounds.

    Attributes:
        argument: The argument that it was given as, for example ``"topic"``.
        given: What was given.
        expected: What a name is.
        got: What this one is; short, and never a part of a payload, which may hold passwords.
        remedy: What to do about it, if that can be said.
        max_size: How many bytes it may have, if it has more.
    """

    def __init__(
        self,
        argument: str,
        given: object,
        expected: str,
        got: str,
        *,
        remedy: str | None = None,
        max_size: int | None = None,
    ) -> None:
        super().__init__(argument, expected, got)  # not what was given: repr might fail
        self.argument = argument
        self.given = given
        self.expected = expected
        self.got = got
        self.remedy = remedy
        self.max_size = max_size

    def __str__(self) -> str:
        return self._with_remedy(f"{self.argument}: expected {self.expected}, got {self.got}")

    def _with_remedy(self, sentence: str) -> str:
        return sentence if self.remedy is None else f"{sentence}: {self.remedy}"

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (type(self), self.args, self.__dict__)


def _restored(
    kind: type[InvalidName], args: tuple[object, ...], state: dict[str, object]
) -> InvalidName:
    """A copy of an error, which may come from another process."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class InvalidKey(InvalidName):
    """A presence key that clients can't have.

    A name of JavaScript's object prototype would crash clients that keep presences in plain objects
    (CVE-2026-56812); what is neither Unicode text nor an integer can't be sent to them, and what is
    too long would be sent to all of them.

    Attributes:
        key: What was given.
    """

    def __init__(
        self,
        key: object,
        got: str | None = None,
        *,
        expected: str = (
            "Unicode text that is no name of JavaScript's object prototype, or an integer"
        ),
        remedy: str | None = None,
        max_size: int | None = None,
        argument: str = "key",
    ) -> None:
        got = ascii(key) if got is None else got
        super().__init__(argument, key, expected, got, remedy=remedy, max_size=max_size)
        self.key = key

    def __str__(self) -> str:
        where = "" if self.argument == "key" else f"{self.argument}: "
        return self._with_remedy(
            f"{where}{self.got} can't be a presence key: expected {self.expected}"
        )


class AlreadyTracked(RoostError, ValueError):
    """The owner tracks this key in this topic already; use ``update`` to change its meta."""

    def __init__(self, topic: str, key: str) -> None:
        super().__init__(topic, key)
        self.topic = topic
        self.key = key

    def __str__(self) -> str:
        return f"{self.key!r} is already tracked in {self.topic!r} by this owner"


class NotTracked(RoostError, LookupError):
    """The owner does not track this key in this topic; use ``track`` first."""

    def __init__(self, topic: str, key: str) -> None:
        super().__init__(topic, key)
        self.topic = topic
        self.key = key

    def __str__(self) -> str:
        return f"{self.key!r} is not tracked in {self.topic!r} by this owner"


class TopicFull(JoinRefused, ReplyError):
    """The topic has as many members as its policy admits, and this key would be one more.

    Raised in ``join`` it refuses the join, and in an event handler it is an error reply; both say
    ``{"reason": "full", "max_members": …}``. Track in ``join`` to refuse in time.

    Attributes:
        topic: The topic.
        key: Who was to be tracked.
        max_members: How many keys the topic admits.
    """

    def __init__(self, topic: str, key: str, max_members: int) -> None:
        super().__init__({"reason": "full", "max_members": max_members})
        self.args = (topic, key, max_members)  # what a copy is made of
        self.topic = topic
        self.key = key
        self.max_members = max_members

    def __str__(self) -> str:
        return (
            f"{self.key!r} can't be tracked in {self.topic!r}, which has its "
            f"{self.max_members} members: raise Policy.max_members, or let somebody leave"
        )


class ProtocolError(RoostError):
    """Something broke the wire protocol."""


class LocalProtocolError(ProtocolError):
    """A bug in the code that calls roost: this can't be said on the wire."""


class FieldTooLong(LocalProtocolError, ValueError):
    """A field of a binary frame is over 255 bytes.

    Attributes:
        field: ``"topic"``, ``"event"``, ``"join_ref"``, ``"ref"`` or ``"status"``.
        size: Its length in bytes of UTF-8.
    """

    max_size = 255

    def __init__(self, field: str, size: int) -> None:
        super().__init__(field, size)
        self.field = field
        self.size = size

    def __str__(self) -> str:
        return f"{self.field} has {self.size} bytes, a binary frame carries at most {self.max_size}"


class UnsupportedPayload(LocalProtocolError, ValueError):
    """A serializer can't carry a payload, for example bytes over protocol version 1."""


class RemoteProtocolError(ProtocolError):
    """The other side broke the protocol.

    Attributes:
        close_code: The WebSocket close code that says so.
    """

    close_code = 1011


class InvalidMessage(RemoteProtocolError, ValueError):
    """A frame that can't be decoded into a message. It costs the sender its connection.

    Attributes:
        expected: What a frame has there.
        got: What this one has; never a part of its payload, which may hold passwords.
    """

    def __init__(self, expected: str, got: str | None = None) -> None:
        super().__init__(expected, got)
        self.expected = expected
        self.got = got

    def __str__(self) -> str:
        return f"expected {self.expected}" + ("" if self.got is None else f", got {self.got}")
