"""The way between nodes: what an engine must do to carry a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["Adapter", "LinkEvents"]


class LinkEvents(Protocol):
    """What an adapter tells of its links; each call comes on the loop's thread.

    A hint names a link, not a node's health: what it means is decided above.
    """

    def link_down(self, node_name: str) -> None:
        """The link to ``node_name`` is gone."""
        ...

    def link_up(self, node_name: str) -> None:
        """The link to ``node_name`` is there, or there again."""
        ...

    def detached(self) -> None:
        """We lost our own attachment to the engine: it says nothing about others."""
        ...

    def attached(self) -> None:
        """We have it again."""
        ...


class Adapter(Protocol):
    """Carries bytes between the nodes of a cluster; at most once, in order for each sender.

    ``publish`` and ``publish_to`` return at once and never block the loop: an adapter whose engine
    can block sends from a thread of its own, through a bounded queue, and counts what it drops.
    """

    @property
    def node_name(self) -> str:
        """Unique name of this node in the cluster."""
        ...

    @property
    def reaches_others(self) -> bool:
        """Whether there can be other nodes; if not, nothing is encoded for them."""
        ...

    async def start(self, deliver: Callable[[bytes], None], links: LinkEvents) -> None:
        """Attach to the engine; from now on call ``deliver`` on the loop for each message."""
        ...

    async def close(self) -> None:
        """Detach; afterwards ``deliver`` is not called any more."""
        ...

    def publish(self, data: bytes) -> None:
        """Send to all other nodes, not to this one."""
        ...

    def publish_to(self, node_name: str, data: bytes) -> None:
        """Send to one other node; nothing happens if there is none of that name."""
        ...
