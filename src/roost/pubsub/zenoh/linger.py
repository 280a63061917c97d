"""Sockets of zenoh that would hold up their closing.

zenoh sets SO_LINGER of 10 s on each TCP connection. If a peer is cut off, what was sent to it last
is still unsent when its lease ends. Closing the connection then blocks the thread that does it, one
of the few that receive from all others: measured with 1.10, a healthy node heard nothing from its
healthy peers for 10 s, and took them for dead. It is a constant of its build, so the option is
taken off the sockets themselves; the kernel then sends what is unsent, or gives it up, by itself.

Each socket has to be found before zenoh closes it. A silent connection is closed after
``OPEN_TIMEOUT``, while it is being opened, or after ``LEASE_PERIOD``. ``watch`` looks more often
than that, whatever else goes on, and a session is searched once more before it is closed by us.
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
_OFF: Final = _LINGER.pack(0, 0)


def stop_lingering() -> list[int]:
    """Let no connection of zenoh that is open now linger when it is closed.

    Returns:
        The descriptors of those that would have.
    """
    found = []
    for connection in _lingering():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _OFF)
        found.append(connection.fileno())
    return found


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
        # What it really is, is asked only of those that linger: there may be thousands.
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, descriptor)
    except OSError:
        yield None
        return
    try:
        yield connection
    finally:
        connection.detach()


def _lingers(connection: socket.socket) -> bool:
    try:
        linger = connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.size)
        return linger == _ZENOHS and _is_tcp(connection.fileno())
    except OSError:  # it is gone
        return False


def _is_tcp(descriptor: int) -> bool:
    connection = socket.socket(fileno=descriptor)
    try:
        return (
            connection.family in (socket.AF_INET, socket.AF_INET6)
            and connection.type == socket.SOCK_STREAM
        )
    finally:
        connection.detach()
