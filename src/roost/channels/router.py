"""Which channel serves a topic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from roost.exceptions import ConfigurationError

if TYPE_CHECKING:
    from roost.channels.channel import Channel

__all__ = ["Route", "Router"]


class Route(msgspec.Struct, frozen=True):
    """A channel, and assigns that every channel of this route starts with.

    Args:
        channel: The channel's class.
        assigns: Laid over the connection's assigns.
    """

    channel: type[Channel[Any]]
    assigns: Mapping[str, Any] = {}


class Router:
    """Find the route of a topic: the first declared pattern that matches.

    A pattern is a literal topic, or a prefix that ends in ``*``, which matches the empty rest too;
    ``*`` alone matches everything.

    Raises:
        ConfigurationError: A ``*`` that is not the last character.

    Example:
        >>> Router({"room:*": Route(object)}).find("room:1")
        Route(channel=<class 'object'>, assigns={})
    """

    __slots__ = ("_literals", "_prefixes")

    def __init__(self, channels: Mapping[str, type[Channel[Any]] | Route]) -> None:
        # The position tells which of a literal and a prefix was declared first.
        self._literals: dict[str, tuple[int, Route]] = {}
        self._prefixes: list[tuple[int, str, Route]] = []
        for position, (pattern, target) in enumerate(channels.items()):
            route = target if isinstance(target, Route) else Route(target)
            if "*" in pattern[:-1]:
                raise ConfigurationError(f"a topic pattern must end with *, got {pattern!r}")
            if pattern.endswith("*"):
                self._prefixes.append((position, pattern[:-1], route))
            else:
                self._literals[pattern] = (position, route)

    def find(self, topic: str) -> Route | None:
        """The route of ``topic``; None if there is none."""
        position, found = self._literals.get(
            topic, (len(self._prefixes) + len(self._literals), None)
        )
        for declared, prefix, route in self._prefixes:
            if declared > position:
                break
            if topic.startswith(prefix):
                return route
        return found

    def has_route(self, topic: str) -> bool:
        """Whether ``topic`` has a route."""
        return self.find(topic) is not None
