"""Which channel serves a topic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from roost.channels.channel import Channel
from roost.channels.patterns import TopicPatterns
from roost.exceptions import ConfigurationError

__all__ = ["Route", "Router"]


class Route(msgspec.Struct, frozen=True):
    """A channel, and assigns that every channel of this route starts with.

    Args:
        channel: The channel's class.
        assigns: Laid over the connection's assigns.
    """

    channel: type[Channel[Any]]
    assigns: Mapping[str, Any] = {}

    def __post_init__(self) -> None:
        if not (isinstance(self.channel, type) and issubclass(self.channel, Channel)):
            raise ConfigurationError(
                f"{self.channel!r} can't serve a topic: expected a subclass of Channel, the class "
                "itself"
            )


class Router(TopicPatterns[Route]):
    """Find the route of a topic among the channels of a socket.

    Example:
        >>> Router({"room:*": Route(Channel)}).find("room:1")
        Route(channel=<class 'roost.channels.channel.Channel'>, assigns={})
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
