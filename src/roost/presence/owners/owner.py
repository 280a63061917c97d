"""Whom presences belong to: what Phoenix ties to a process, roost ties to an owner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from roost.aliases import Meta

__all__ = ["Lease", "Owner"]


class Owner(Protocol):
    """Anything that ends and says so: a channel, an ``asyncio.Task``, a ``Lease``."""

    def add_done_callback(self, callback: Callable[[Any], object], /) -> None:
        """Call ``callback(owner)`` when the owner ends."""
        ...


class _Tracking(Protocol):
    """Where a lease is tracked."""

    def update(
        self,
        owner: Lease,
        key: str | int,
        meta: Meta | Callable[[dict[str, Any]], Meta],
        *,
        topic: str | None = None,
    ) -> str: ...


class Lease:
    """A presence without a client or task behind it; made by ``lease``.

    Attributes:
        topic: Where it is.
        key: Who it is.
    """

    def __init__(self, tracking: _Tracking, topic: str, key: str) -> None:
        self.topic = topic
        self.key = key
        self._tracking = tracking
        self._callbacks: list[Callable[[Any], object]] = []
        self._has_ended = False

    def update(self, meta: Meta | Callable[[dict[str, Any]], Meta]) -> str:
        """Replace its meta; as ``update`` of what made the lease."""
        return self._tracking.update(self, self.key, meta, topic=self.topic)

    def add_done_callback(self, callback: Callable[[Any], object], /) -> None:
        if self._has_ended:  # soon, as a task that is done does
            asyncio.get_running_loop().call_soon(callback, self)
        else:
            self._callbacks.append(callback)

    def end(self) -> None:
        """Let the presence leave; nothing happens the second time."""
        self._has_ended = True
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)
