"""How the connections of a mount are closed when the endpoint stops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec

from roost.channels.application import Failed, call_sync, name_of

__all__ = ["Drainer", "DrainerLike", "resolve"]


class Drainer(msgspec.Struct, frozen=True, kw_only=True):
    """How the connections of one mount are closed when the endpoint stops.

    Clients whose connections are closed all at once come back all at once; batches spread them.

    Args:
        batch_size: Connections closed at once.
        batch_interval: Seconds between two batches.
        shutdown_timeout: Seconds after which the rest is closed at once.
    """

    batch_size: int = 10_000
    batch_interval: float = 2.0
    shutdown_timeout: float = 30.0


DrainerLike: TypeAlias = Drainer | Callable[[], Drainer] | Literal[False]
"""A drainer, a function that makes one when it is needed, or False for none."""


def resolve(drainer: DrainerLike) -> Drainer | None:
    """The drainer's options; None if there is none.

    Raises:
        BaseException: What a function raised that was to make it.
    """
    if drainer is False:
        return None
    if isinstance(drainer, Drainer):
        return drainer
    try:
        made = call_sync(None, drainer)
    except Failed as failed:
        raise failed.error from failed
    if not isinstance(made, Drainer):
        raise TypeError(f"{name_of(drainer)} returned {type(made).__name__}, expected a Drainer")
    return made
