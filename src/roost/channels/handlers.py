"""Which method of a channel handles which event."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from roost.exceptions import ConfigurationError
from roost.naming import configured_name

__all__ = ["EVENT", "INTERCEPT", "Handler", "declared", "event", "intercept"]

HandlerFunction = TypeVar("HandlerFunction", bound=Callable[..., Any])


class Handler(msgspec.Struct, frozen=True):
    """How a channel handles one event.

    Args:
        event: Name of the event.
        method: Name of the method.
        is_threaded: Runs in a thread.
    """

    event: str
    method: str
    is_threaded: bool = False


EVENT, INTERCEPT = "_roost_event", "_roost_intercept"


def event(name: str, *, threaded: bool = False) -> Callable[[HandlerFunction], HandlerFunction]:
    """Declare the handler of an event that clients push.

    The handler gets the payload: decoded JSON, or bytes. A dict or bytes that it returns is an ok
    reply, ``None`` is no reply, ``raise ReplyError(payload)`` an error reply; any other exception
    ends the channel.

    Args:
        name: The event.
        threaded: Run a ``def`` handler in a thread, because it blocks. There it may return a
            reply, but push and broadcast belong to the loop's thread.

    Example:
        >>> from roost import Channel
        >>> class RoomChannel(Channel):
        ...     @event("shout")
        ...     def shout(self, payload):
        ...         self.broadcast("shout", payload)
    """

    _check_event("event", name)

    def declare(function: HandlerFunction) -> HandlerFunction:
        if threaded and inspect.iscoroutinefunction(function):
            raise ConfigurationError(f"{function.__qualname__} is async: it can't be threaded")
        _declare(function, EVENT, Handler(name, function.__name__, threaded))
        return function

    name = configured_name(name, "event")
    return declare


def intercept(name: str) -> Callable[[HandlerFunction], HandlerFunction]:
    """Declare a handler that sees a broadcast before this channel's client does.

    Nothing is sent by default: push what the client is to get. It costs one call and one encoding
    for each subscriber, where other broadcasts are encoded once.

    Args:
        name: The event.

    Example:
        >>> from roost import Channel
        >>> class RoomChannel(Channel):
        ...     @intercept("shout")
        ...     def filter_shout(self, payload):
        ...         if payload["from"] not in self.assigns["blocked"]:
        ...             self.push("shout", payload)
    """

    _check_event("intercept", name)

    def declare(function: HandlerFunction) -> HandlerFunction:
        _declare(function, INTERCEPT, Handler(name, function.__name__))
        return function

    name = configured_name(name, "intercept")
    return declare


def _check_event(decorator: str, name: object) -> None:
    """Say what to write to a developer who left out the parentheses."""
    if inspect.isfunction(name):
        raise ConfigurationError(
            f'{name.__qualname__}: write @{decorator}("{name.__name__}"), with the event\'s name'
        )


def _declare(function: Callable[..., Any], attribute: str, handler: Handler) -> None:
    """Mark a method as handling an event, besides those that it handles already."""
    setattr(function, attribute, (*getattr(function, attribute, ()), handler))


def declared(cls: type, attribute: str) -> dict[str, Handler]:
    """The handlers that the body of ``cls`` declares."""
    handlers: dict[str, Handler] = {}
    for method, function in vars(cls).items():
        for handler in getattr(function, attribute, ()):
            if handler.event in handlers:
                raise ConfigurationError(
                    f"{cls.__qualname__} has two handlers for {handler.event!r}: "
                    f"{handlers[handler.event].method} and {method}"
                )
            handlers[handler.event] = Handler(handler.event, method, handler.is_threaded)
    return handlers
