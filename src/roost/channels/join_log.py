"""The lines that joins and events are logged by, if their levels are on."""

from __future__ import annotations

import logging
from typing import Any

from roost.channels.channel import Channel
from roost.wire.masking import ParameterFilter
from roost.wire.messages import Message

__all__ = ["log_event", "log_join"]

logger = logging.getLogger("roost.channels")


def log_join(channel: Channel[Any], join: Message, what: str, shown: ParameterFilter) -> None:
    """A join was decided.

    Args:
        channel: Whose join it was.
        join: The join.
        what: What became of it.
        shown: Says what of its parameters may be shown.
    """
    level = channel.log_join
    if level is not None and _is_logged(level, join.topic):
        logger.log(level, "%s %s\n  Parameters: %s", what, join.topic, shown.show(join.payload))


def log_event(channel: Channel[Any], message: Message, shown: ParameterFilter) -> None:
    """An event of the client is about to be handled."""
    level = channel.log_handle_in
    if level is not None and _is_logged(level, message.topic):
        logger.log(
            level,
            "HANDLED %s INCOMING ON %s (%s)\n  Parameters: %s",
            message.event,
            message.topic,
            type(channel).__qualname__,
            shown.show(message.payload),
        )


def _is_logged(level: int, topic: str) -> bool:
    return logger.isEnabledFor(level) and not topic.startswith("phoenix")
