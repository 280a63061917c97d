"""How the connections of a mount are closed when the endpoint stops: in batches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

from roost.channels.application import Failed, call_sync, name_of

__all__ = ["Drainable", "Drainer", "DrainerLike", "drain", "resolve"]

logger = logging.getLogger("roost.asgi")


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


class Drainable(Protocol):
    def drain(self) -> None: ...


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


async def drain(connections: Sequence[Drainable], drainer: Drainer) -> None:
    """Close ``connections`` in batches; returns when the last batch was told."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + drainer.shutdown_timeout
    for start in range(0, len(connections), drainer.batch_size):
        if start and loop.time() + drainer.batch_interval < deadline:
            await asyncio.sleep(drainer.batch_interval)
        batch = connections[start : start + drainer.batch_size]
        logger.info("draining %d of %d connections", len(batch), len(connections))
        for connection in batch:
            connection.drain()
