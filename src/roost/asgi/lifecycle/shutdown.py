"""The end of an endpoint, at SIGTERM for example: its connections are closed, in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TypeVar

from roost.asgi.drainer import Drainable, DrainerLike, drain, resolve

__all__ = ["close_all"]


Connection = TypeVar("Connection", bound=Drainable)


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
