"""Names of nodes."""

from __future__ import annotations

import os
import secrets
import socket

__all__ = ["NodeName", "default_node_name"]


def default_node_name() -> str:
    """A name that no other process has: host, process id and eight random digits."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


class NodeName:
    """The name that was given, or else one for each process.

    What a server makes before it forks its workers is in all of them; their names must differ.

    Args:
        given: Name of the node; by default unique.

    Example:
        >>> str(NodeName("web-1"))
        'web-1'
    """

    __slots__ = ("_default", "_given", "_pid")

    def __init__(self, given: str | None) -> None:
        self._given = given
        self._pid = 0
        self._default = ""

    def __str__(self) -> str:
        if self._given is not None:
            return self._given
        if self._pid != os.getpid():
            self._pid, self._default = os.getpid(), default_node_name()
        return self._default
