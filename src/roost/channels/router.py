"""Which channel serves a topic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from roost.channels.patterns import TopicPatterns

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


class Router(TopicPatterns[Route]):
    """Find the route of a topic among the channels of a socket.

    Example:
        >>> Router({"room:*": Route(object)}).find("room:1")
        Route(channel=<class 'object'>, assigns={})
    """

    __slots__ = ()

    def __init__(self, channels: Mapping[str, type[Channel[Any]] | Route]) -> None:
        super().__init__(
            {
                pattern: target if isinstance(target, Route) else Route(target)
                for pattern, target in channels.items()
            }
        )

    def has_route(self, topic: str) -> bool:
        """Whether ``topic`` has a route."""
        return self.find(topic) is not None
