"""Names of nodes."""

from __future__ import annotations

import os
import secrets
import socket
from typing import Any

from roost.exceptions import ConfigurationError, InvalidName
from roost.naming import MAX_NAME_SIZE, make_name

__all__ = ["NodeName", "default_node_name", "name_of_node"]


def default_node_name() -> str:
    """A name that no other process has: host, process id and eight random digits."""
    host = socket.gethostname().encode("ascii", "replace")[:200].decode()
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"


def name_of_node(given: Any) -> str:
    """Make the name of a node, of 1 to 255 bytes.

    Raises:
        InvalidName: It can't be one.
    """
    name = make_name(given, "node_name", MAX_NAME_SIZE)
    if not name:
        raise InvalidName("node_name", given, "1 to 255 bytes of UTF-8", "none")
    return name


class NodeName:
    """The name that was given, or else one for each process.

    What a server makes before it forks its workers is in all of them; their names must differ.

    Args:
        given: Name of the node; by default unique.

    Raises:
        ConfigurationError: It can't be one.

    Example:
        >>> str(NodeName("web-1"))
        'web-1'
    """

    __slots__ = ("_default", "_given", "_pid")

    def __init__(self, given: str | None) -> None:
        try:
            self._given = None if given is None else name_of_node(given)
        except InvalidName as error:
            raise ConfigurationError(str(error)) from error
        self._pid = 0
        self._default = ""

    def __str__(self) -> str:
        if self._given is not None:
            return self._given
        if self._pid != os.getpid():
            self._pid, self._default = os.getpid(), default_node_name()
        return self._default
