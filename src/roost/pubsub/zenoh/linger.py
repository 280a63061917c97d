"""Sockets of zenoh that would hold up their closing.

zenoh sets SO_LINGER of 10 s on each TCP connection. If a peer is cut off, what was sent to it last
is still unsent when its lease ends. Closing the connection then blocks the thread that does it, one
of the few that receive from all others: measured with 1.10, a healthy node heard nothing from its
healthy peers for 10 s, and took them for dead. It is a constant of its build, so the option is
taken off the sockets themselves; the kernel then sends what is unsent, or gives it up, by itself.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["lingering_count", "stop_lingering"]

_OPEN_FILES: Final = Path("/dev/fd")  # of this process; there is no such thing on Windows
_LINGER: Final = struct.Struct("ii")  # whether, and for how many seconds
_ZENOHS: Final = _LINGER.pack(1, 10)


def stop_lingering() -> None:
    """Let no connection of zenoh that is open now linger when it is closed."""
    for connection in _lingering():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.pack(0, 0))


def lingering_count() -> int:
    """How many connections of this process would linger as those of zenoh do."""
    return sum(1 for _ in _lingering())


def _lingering() -> Iterator[socket.socket]:
    # Other connections of this process are only looked at. Who sets just these 10 s on one of its
    # own gets the kernel's default instead.
    if not _OPEN_FILES.exists():
        return
    for name in os.listdir(_OPEN_FILES):
        with _borrowed(int(name)) as connection:
            if connection is not None and _lingers(connection):
                yield connection


@contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket | None]:
    """The socket of a descriptor, which stays open; None if it is none, or is gone."""
    try:
        connection = socket.socket(fileno=descriptor)
    except OSError:
        yield None
        return
    try:
        yield connection
    finally:
        connection.detach()


def _lingers(connection: socket.socket) -> bool:
    try:
        return (
            connection.family in (socket.AF_INET, socket.AF_INET6)
            and connection.type == socket.SOCK_STREAM
            and connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.size) == _ZENOHS
        )
    except OSError:  # it is gone
        return False
