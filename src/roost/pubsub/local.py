"""The adapter of a single process: there is nobody else."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable

from roost.pubsub.adapter import LinkEvents

__all__ = ["LocalAdapter"]


class LocalAdapter:
    """One process by itself; needs no engine.

    Args:
        node_name: Name of the node; by default unique: host, process id and eight random digits.
    """

    def __init__(self, node_name: str | None = None) -> None:
        self._node_name = node_name or (
            f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        )

    @property
    def node_name(self) -> str:
        return self._node_name

    @property
    def reaches_others(self) -> bool:
        return False

    async def start(self, deliver: Callable[[bytes], None], links: LinkEvents) -> None:
        pass

    async def close(self) -> None:
        pass

    def publish(self, data: bytes) -> None:
        pass

    def publish_to(self, node_name: str, data: bytes) -> None:
        pass
