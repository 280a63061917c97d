"""The end of an endpoint, at SIGTERM for example: its connections are closed, in batches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from roost.asgi.drainer import Drainer, DrainerLike, resolve

__all__ = ["close_all", "drain"]

logger = logging.getLogger("roost.asgi")


class _Drainable(Protocol):
    def drain(self) -> None: ...


Connection = TypeVar("Connection", bound=_Drainable)


async def close_all(connections: Mapping[Connection, DrainerLike]) -> None:
    """Close connections, each as its drainer says; those of False are left."""
    by_drainer: dict[DrainerLike, list[Connection]] = {}
    for connection, drainer in connections.items():
        by_drainer.setdefault(drainer, []).append(connection)
    await asyncio.gather(
        *(
            drain(those, options)
            for drainer, those in by_drainer.items()
            if (options := resolve(drainer)) is not None
        )
    )


async def drain(connections: Sequence[_Drainable], drainer: Drainer) -> None:
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
