"""The adapter of a single process: there is nobody else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from roost.pubsub.adapter import LinkEvents
from roost.pubsub.node_names import NodeName

__all__ = ["LocalAdapter"]


class LocalAdapter:
    """One process by itself; needs no engine.

    Args:
        node_name: Name of the node; by default unique.
    """

    def __init__(self, node_name: str | None = None) -> None:
        self._name = NodeName(node_name)
        self.link = ""
        self.reaches_others = False
        self.is_attached = True
        self.is_isolated = False
        self.free_size = 0
        self.max_size: int | None = None
        self.counters: Counter[str] = Counter()

    @property
    def node_name(self) -> str:
        """Unique name of this node."""
        return str(self._name)

    async def start(self, deliver: Callable[[bytes], None], links: LinkEvents) -> None:
        pass

    async def close(self) -> None:
        pass

    def publish(self, data: bytes) -> None:
        pass

    def publish_to(self, node_name: str, data: bytes) -> None:
        pass
