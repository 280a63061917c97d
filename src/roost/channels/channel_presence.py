"""What a channel tells of the topics that it is in, so that somebody may track it there."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Protocol

from roost.exceptions import ConfigurationError

if TYPE_CHECKING:
    from roost.channels.channel import Channel

__all__ = ["ChannelPresence", "check_channel_presence"]


class ChannelPresence(Protocol):
    """Whoever tracks channels by itself: ``TrackJoins``, or an object of your own.

    Both methods are called on the loop, in the middle of a join or of ``Channel.subscribe``, and
    must be ``def``. What belongs to a channel ends with it, so the end of a channel calls nothing.

    Example:
        >>> class TrackMembers:
        ...     def start(self, channel, topic):
        ...         online.track(channel, channel.assigns["user_id"], {}, topic=topic)
        ...
        ...     def stop(self, channel, topic):
        ...         online.untrack(channel, channel.assigns["user_id"], topic=topic)
    """

    def start(self, channel: Channel[Any], topic: str, /) -> object:
        """``channel`` is joining its topic, or subscribed to ``topic``.

        For its own topic this is a part of the join, between ``join`` and the reply: what it
        raises refuses the join as if ``join`` had raised it, a ``JoinRefused`` with its payload.
        In ``Channel.subscribe`` it goes to the caller, and the subscription is undone.
        """
        ...

    def stop(self, channel: Channel[Any], topic: str, /) -> object:
        """``channel`` unsubscribed from ``topic``."""
        ...


def check_channel_presence(cls: type) -> None:
    """Check what the body of a channel or socket class says about presence.

    Raises:
        ConfigurationError: It can't track channels. A ``Presence`` by itself can't.
    """
    presence = vars(cls).get("presence")
    if presence is None or presence is False:
        return
    for name in ("start", "stop"):
        method = getattr(presence, name, None)
        if not callable(method) or inspect.iscoroutinefunction(method):
            raise ConfigurationError(
                f"{cls.__qualname__}.presence must have def {name}(channel, topic), got "
                f"{presence!r}: write TrackJoins(…) around a Presence, or give an object of your "
                "own"
            )
