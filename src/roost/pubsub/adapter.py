"""The way between nodes: what an engine must do to carry a cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

__all__ = ["Adapter", "LinkEvents"]


class LinkEvents(Protocol):
    """What an adapter reports of its links; each call comes on the loop's thread.

    A *link* is the way to one run of a node's adapter. A report is a hint, no judgement of the
    node's health: what it means is decided above. An adapter that cannot see the links of others
    reports nothing of them.
    """

    def link_up(self, node_name: str, link: str) -> None:
        """``node_name`` can be reached, for the first time or again."""
        ...

    def link_down(self, link: str) -> None:
        """The link that ``link_up`` reported is gone: its process died, or it is cut off."""
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
    can block sends from a thread or task of its own, through a queue that is bounded in count and
    bytes. At the bound a message is dropped and counted, never an exception.

    It is started, closed and started again, on different event loops one after the other; nothing
    of an engine is opened before ``start``, so that a process may fork until then.
    """

    @property
    def node_name(self) -> str:
        """Unique name of this node in the cluster; messages for this node are addressed to it."""
        ...

    @property
    def link(self) -> str:
        """Names the way to this node in this run, as other nodes hear of it; new at each start.

        With it the death of an old run is not taken for that of its successor. Empty before the
        first start, and for an adapter that reports no links.
        """
        ...

    @property
    def reaches_others(self) -> bool:
        """Whether there can be other nodes; if not, nothing is encoded for them."""
        ...

    @property
    def is_attached(self) -> bool:
        """Whether the engine can be reached, as far as is known."""
        ...

    @property
    def is_isolated(self) -> bool:
        """Whether nobody is there although somebody should be; False if that cannot be known."""
        ...

    @property
    def free_size(self) -> int:
        """How many bytes ``publish`` takes now so that what follows does not wait long for them.

        Who has much to send sends no more than that, and asks again a few milliseconds later. It is
        well below the bound of what may wait, and 0 while others have filled the way.
        """
        ...

    @property
    def max_size(self) -> int | None:
        """How many bytes a message may have to go in one piece now; None for any number.

        Larger ones may go in several pieces, one of which is easily lost, or not at all.
        """
        ...

    @property
    def counters(self) -> Counter[str]:
        """What was dropped and why: reason → how often."""
        ...

    async def start(self, deliver: Callable[[bytes], None], links: LinkEvents) -> None:
        """Attach to the engine; from now on call ``deliver`` on the loop for each message.

        Raises:
            AdapterError: The engine cannot be reached, or refuses us; nothing is left behind.
        """
        ...

    async def close(self) -> None:
        """Send what waits, within a second or two, and detach; ``deliver`` is not called after it.

        Nothing happens if it is not running.
        """
        ...

    def publish(self, data: bytes) -> None:
        """Send to all other nodes, not to this one."""
        ...

    def publish_to(self, node_name: str, data: bytes) -> None:
        """Send to one other node; nothing happens if there is none of that name."""
        ...
