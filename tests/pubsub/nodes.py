"""A cluster in memory: what a node publishes arrives at the others as bytes, a tick later."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from roost.pubsub.adapter import LinkEvents

__all__ = ["Network", "NodeAdapter"]


class Network:
    """What connects the nodes.

    Attributes:
        nodes: Link → adapter of each node that is attached.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, NodeAdapter] = {}

    def adapter(self, node_name: str, *, key: str | None = None) -> NodeAdapter:
        """The adapter of one node; two of one name need a key each."""
        return NodeAdapter(self, node_name, key or node_name)


class NodeAdapter:
    """One node's way to the others.

    Attributes:
        node_name: Name of the node.
        deliver: What its PubSub gave it; call it to deliver any bytes.
        sent: What was broadcast; what trackers say is left out.
    """

    def __init__(self, network: Network, node_name: str, key: str | None = None) -> None:
        self.node_name = node_name
        self.link = key or node_name
        self.reaches_others = True
        self.is_attached = True
        self.is_isolated = False
        self.free_size = 1 << 20
        self.max_size: int | None = None
        self.counters: Counter[str] = Counter()
        self.is_crashed = False
        self.is_started = False
        self.deliver: Callable[[bytes], None]
        self.links: LinkEvents
        self.sent: list[bytes] = []
        self._network = network

    async def start(self, deliver: Callable[[bytes], None], links: LinkEvents) -> None:
        self.is_started = True
        self.deliver = deliver
        self.links = links
        self._network.nodes[self.link] = self

    async def close(self) -> None:
        self._network.nodes.pop(self.link, None)

    def crash(self) -> None:
        """Send and receive nothing more, all of a sudden."""
        del self._network.nodes[self.link]
        self.is_crashed = True

    def publish(self, data: bytes) -> None:
        if self.is_crashed:
            return
        self._note(data)
        for node in self._network.nodes.values():
            if node is not self:
                asyncio.get_running_loop().call_soon(node.deliver, data)

    def publish_to(self, node_name: str, data: bytes) -> None:
        if self.is_crashed:
            return
        self._note(data)
        for node in self._network.nodes.values():
            if node is not self and node.node_name == node_name:
                asyncio.get_running_loop().call_soon(node.deliver, data)

    def _note(self, data: bytes) -> None:
        if data.startswith(b"B"):
            self.sent.append(data)
