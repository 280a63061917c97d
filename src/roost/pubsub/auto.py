"""The adapter that needs no configuration: alone, or with the other workers of the server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from roost.exceptions import ConfigurationError
from roost.pubsub.adapter import Adapter, LinkEvents
from roost.pubsub.local import LocalAdapter
from roost.pubsub.node_names import NodeName
from roost.pubsub.siblings import SiblingGroup, sibling_group
from roost.pubsub.zenoh import ZenohAdapter
from roost.pubsub.zenoh.engine import is_installed

__all__ = ["AutoAdapter"]


class AutoAdapter:
    """Local for a single process; workers of one machine reach each other through zenoh.

    It decides at ``start``, since a server may load the application before it forks its workers.
    Workers are recognised under uvicorn, hypercorn, granian and gunicorn.

    Args:
        node_name: Name of the node; by default unique.

    Attributes:
        chosen: What it decided for.

    Example:
        >>> adapter = AutoAdapter("web-1")
        >>> adapter.node_name, adapter.reaches_others
        ('web-1', False)
    """

    def __init__(self, node_name: str | None = None) -> None:
        self._name = NodeName(node_name)
        self.chosen: Adapter = LocalAdapter(node_name)

    @property
    def node_name(self) -> str:
        """Unique name of this node."""
        return str(self._name)

    @property
    def link(self) -> str:
        """Names the way to this node in this run; empty if there is no other node."""
        return self.chosen.link

    @property
    def reaches_others(self) -> bool:
        """Whether there are sibling workers, or may be."""
        return self.chosen.reaches_others

    @property
    def is_attached(self) -> bool:
        """Whether the engine can be reached, if one is needed."""
        return self.chosen.is_attached

    @property
    def free_size(self) -> int:
        """How many bytes the adapter takes now that make nothing wait long."""
        return self.chosen.free_size

    @property
    def max_size(self) -> int | None:
        """How many bytes it takes in one piece; None for any number."""
        return self.chosen.max_size

    @property
    def is_isolated(self) -> bool:
        """Whether siblings are there that can't be reached."""
        return self.chosen.is_isolated

    @property
    def counters(self) -> Counter[str]:
        """What was dropped and why: reason → how often."""
        return self.chosen.counters

    async def start(self, deliver: Callable[[bytes], None], links: LinkEvents) -> None:
        """Decide, and attach.

        Raises:
            ConfigurationError: This is one of several workers, and zenoh is not installed.
            AdapterError: As ``ZenohAdapter.start``.
        """
        self.chosen = _choose(self.node_name, sibling_group())
        await self.chosen.start(deliver, links)

    async def close(self) -> None:
        """Detach, if it is running."""
        await self.chosen.close()

    def publish(self, data: bytes) -> None:
        """Send to all sibling workers."""
        self.chosen.publish(data)

    def publish_to(self, node_name: str, data: bytes) -> None:
        """Send to one sibling worker."""
        self.chosen.publish_to(node_name, data)


def _choose(node_name: str, group: SiblingGroup | None) -> Adapter:
    if group is None:
        return LocalAdapter(node_name)
    if is_installed():
        # Also for the only worker: it may get siblings later, by a signal to the manager.
        return ZenohAdapter(node_name=node_name, siblings=group)
    if group.worker_count == 1:
        return LocalAdapter(node_name)
    try:
        return ZenohAdapter(node_name=node_name, siblings=group)
    except ConfigurationError as error:
        raise ConfigurationError(
            "this is one of several workers, which would not hear each other's broadcasts: "
            f"{error}; or choose another adapter, or one worker"
        ) from None
