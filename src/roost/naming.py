"""Names: topics, keys, events and statuses, made of what is given.

A name goes to other nodes and to clients, into tables that live as long as a connection, and
beside the payloads of everybody else: one that can't be encoded, or has a megabyte, costs those who
did not give it. So names are made once, at the door where they come in, and below the doors nobody
checks again. The doors are what applications call, what a client's message is decoded to
(``channels/connection.py``), and what other nodes' messages are decoded to
(``tracker/messages.py``, ``pubsub/envelope.py``).

A name is Unicode text of a bounded size, and an exact ``str``: a subclass would not encode, and may
say one thing and be another. A ``str`` enum is its value. Keys may be given as integers, too, which
become decimal digits; a bool, a float or anything else has more than one spelling and is refused.
Empty names and control characters are allowed: JSON and MessagePack carry them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from roost.exceptions import ConfigurationError, InvalidKey, InvalidName

__all__ = [
    "DEFAULT_LIMITS",
    "MAX_NAME_SIZE",
    "RESERVED_KEYS",
    "NameLimits",
    "configured_name",
    "is_short",
    "make_name",
]

MAX_NAME_SIZE: Final = 255
"""Bytes of a name that roost itself gives or uses between nodes: of a node, link or tracker."""

MAX_SETTABLE_SIZE: Final = 65_535  # bytes: parts of a slice, and frames, are made of many names
MIN_SETTABLE_SIZE: Final = 32  # bytes: roost's own events and statuses must fit

RESERVED_KEYS: Final = frozenset(
    {
        "__proto__",
        "__defineGetter__",
        "__defineSetter__",
        "__lookupGetter__",
        "__lookupSetter__",
        "constructor",
        "hasOwnProperty",
        "isPrototypeOf",
        "propertyIsEnumerable",
        "toLocaleString",
        "toString",
        "valueOf",
    }
)
"""Names of JavaScript's object prototype: clients with plain objects crash on such keys."""


class NameLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How many bytes of UTF-8 names may have; its methods make names of what is given.

    All nodes of a cluster have the same: what is longer than a node allows, it does not take from
    others.

    Args:
        max_topic_size: Of a topic. A binary frame carries 255 bytes in any case, of an event and a
            status, too.
        max_key_size: Of a presence key.
        max_event_size: Of an event.
        max_status_size: Of the status of a reply.
        max_ref_size: Of the refs that clients give their messages, which are sent back to them.

    Raises:
        ConfigurationError: A limit outside of 32 to 65,535.

    Example:
        >>> limits = NameLimits(max_topic_size=64)
        >>> limits.topic("room:1"), limits.key(7)
        ('room:1', '7')
        >>> limits.topic("x" * 65)
        Traceback (most recent call last):
        ...
        roost.exceptions.InvalidName: topic: expected at most 64 bytes of UTF-8, got 65: ...
    """

    max_topic_size: int = 1_024
    max_key_size: int = 1_024
    max_event_size: int = 1_024
    max_status_size: int = 1_024
    max_ref_size: int = MAX_NAME_SIZE

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            limit = getattr(self, name)
            if type(limit) is not int or not MIN_SETTABLE_SIZE <= limit <= MAX_SETTABLE_SIZE:
                raise ConfigurationError(
                    f"{name} must be {MIN_SETTABLE_SIZE} to {MAX_SETTABLE_SIZE:,} bytes, got "
                    f"{limit!r}"
                )

    # The first line of each is what nearly all names pass by.

    def topic(self, given: Any, argument: str = "topic") -> str:
        """Make a topic.

        Args:
            given: What was given.
            argument: As which argument; for the error.

        Raises:
            InvalidName: It can't be one.
        """
        if type(given) is str and len(given) <= self.max_topic_size and given.isascii():
            return given
        return make_name(given, argument, self.max_topic_size, "max_topic_size")

    def event(self, given: Any, argument: str = "event") -> str:
        """Make an event; raises as ``topic`` does."""
        if type(given) is str and len(given) <= self.max_event_size and given.isascii():
            return given
        return make_name(given, argument, self.max_event_size, "max_event_size")

    def status(self, given: Any, argument: str = "status") -> str:
        """Make the status of a reply; raises as ``topic`` does."""
        if type(given) is str and len(given) <= self.max_status_size and given.isascii():
            return given
        return make_name(given, argument, self.max_status_size, "max_status_size")

    def key(self, given: Any, argument: str = "key") -> str:
        """Make a presence key, of text or an integer.

        Raises:
            InvalidKey: It can't be one.
        """
        if (
            type(given) is str
            and len(given) <= self.max_key_size
            and given.isascii()
            and given not in RESERVED_KEYS
        ):
            return given
        return _key(given, argument, self.max_key_size)


DEFAULT_LIMITS: Final = NameLimits()


def configured_name(given: Any, option: str, max_size: int = MAX_SETTABLE_SIZE) -> str:
    """Make a name of what is given as an option, before anybody knows the limits.

    Raises:
        ConfigurationError: It is no text, or has over ``max_size`` bytes.
    """
    try:
        return make_name(given, option, max_size)
    except InvalidName as error:
        raise ConfigurationError(str(error)) from error


def is_short(text: str, max_size: int = MAX_NAME_SIZE) -> bool:
    """Whether text that was decoded from UTF-8 has at most ``max_size`` bytes."""
    length = len(text)
    # A character has at most four bytes: only long texts need to be measured.
    return length * 4 <= max_size or (
        length <= max_size and (text.isascii() or len(text.encode()) <= max_size)
    )


def make_name(given: Any, argument: str, max_size: int, option: str | None = None) -> str:
    """Make a name of any kind but a key; ``option`` sets its ``max_size``.

    Raises:
        InvalidName: It can't be one.
    """
    if not issubclass(type(given), str):
        raise InvalidName(argument, given, "text", _what(given), remedy=_way_to_text(given))
    text = str.__str__(given)  # not str(given), which may be the same subclass again
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidName(
            argument, given, "Unicode text", f"a lone surrogate in {_what(text)}"
        ) from error
    if size > max_size:
        raise InvalidName(
            argument,
            given,
            f"at most {max_size:,} bytes of UTF-8",
            f"{size:,}",
            remedy=_way_up(option),
            max_size=max_size,
        )
    return text


def _key(given: Any, argument: str, max_size: int) -> str:
    kind = type(given)
    if issubclass(kind, int) and kind is not bool:
        name = _digits(given, argument, max_size)
    elif issubclass(kind, str):
        name = given
    else:
        raise InvalidKey(given, _what(given), remedy=_way_to_text(given), argument=argument)
    try:
        text = make_name(name, argument, max_size, "max_key_size")
    except InvalidName as error:
        raise InvalidKey(
            given,
            error.got if error.max_size is None else f"{error.got} bytes",
            expected=error.expected,
            remedy=error.remedy,
            max_size=error.max_size,
            argument=argument,
        ) from error
    if text in RESERVED_KEYS:
        raise InvalidKey(given, _what(text), argument=argument)
    return text


def _digits(given: int, argument: str, max_size: int) -> str:
    # A digit has more than three bits. So many are never spelled: the time is quadratic in them.
    try:
        if int.bit_length(given) <= 4 * max_size:
            return int.__repr__(given)  # not str(given), which an enum has its own way with
    except ValueError:  # more digits than this interpreter spells
        pass
    raise InvalidKey(
        given,
        "an integer with more digits",
        expected=f"at most {max_size:,} bytes of UTF-8",
        remedy=_way_up("max_key_size"),
        max_size=max_size,
        argument=argument,
    )


def _what(given: Any) -> str:
    """What was given, for an error: short, and no part of a payload, which may hold passwords."""
    if type(given) is str:
        return ascii(given) if len(given) <= 60 else f"{given[:60]!a}…"
    if given is None or type(given) is bool:
        return repr(given)
    return type(given).__name__


def _way_to_text(given: Any) -> str | None:
    if issubclass(type(given), Mapping):
        return "if this is the payload, an argument before it was left out"
    if given is None or isinstance(given, type) or callable(given):
        return None
    if issubclass(type(given), (bytes, bytearray)):
        return "decode() makes text of bytes"
    return "str(…) makes text of an id"


def _way_up(option: str | None) -> str | None:
    return None if option is None else f"NameLimits({option}=…) of the PubSub or Endpoint sets it"
