"""Names of nodes."""

from __future__ import annotations

import os
import secrets
import socket

__all__ = ["default_node_name"]


def default_node_name() -> str:
    """A name that no other process has: host, process id and eight random digits."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
