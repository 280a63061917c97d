"""A thread that looks at zenoh's connections from below, where zenoh itself can't be asked.

It takes the option to linger off each of them (``linger``), and sees whether what others sent is
read: zenoh's calls hang just when its threads are held up, but the kernel says how much it got for
a connection and how much of that still waits. A node that reads nothing hears nobody, and would
take everybody for dead; so that is said as the node's own fault, which it is.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from roost.pubsub.zenoh.linger import stop_lingering
from roost.pubsub.zenoh.settings import OPEN_TIMEOUT

if sys.platform == "linux":
    import fcntl
    import termios

__all__ = ["HELD_UP_PERIOD", "Reading", "Watch"]

LOOK_INTERVAL: Final = 0.5  # seconds
# With 10,000 descriptors a search took 30 ms. So it is made rarer with more, but not beyond this.
MAX_SEARCH_INTERVAL: Final = 0.6 * OPEN_TIMEOUT
SEARCH_SHARE: Final = 0.02  # of a CPU, as far as the interval allows
HELD_UP_PERIOD: Final = 1.5  # seconds in which nothing is read though something waits: twice as
# long as a peer's silence between signs of life

_ESTABLISHED: Final = 1
_RECEIVED_AT: Final = 128  # offset of tcpi_bytes_received in Linux's struct tcp_info, since 4.1
_INFO_SIZE: Final = _RECEIVED_AT + 8


@dataclass
class _Connection:
    inode: int  # the descriptor may soon be another file's
    read_size: int
    read_at: float
    waits_since: float | None = None


class Reading:
    """Whether what comes on some connections is read; always so where Linux does not say.

    Everything takes ``now``, monotonic, in seconds.
    """

    def __init__(self) -> None:
        self._connections: dict[int, _Connection] = {}
        self._looked_at = 0.0

    def add(self, descriptor: int, now: float) -> None:
        """Look at this connection, too, until it is closed."""
        if sys.platform == "linux":
            try:
                inode = os.fstat(descriptor).st_ino
            except OSError:  # it is closed
                return
            known = self._connections.get(descriptor)
            if known is None or known.inode != inode:
                self._connections[descriptor] = _Connection(inode, -1, now)

    def is_held_up(self, now: float) -> bool:
        """Look at all; True if something has waited for a while, and nothing was read meanwhile."""
        if now - self._looked_at > 2 * LOOK_INTERVAL:  # the process slept, and nobody could read
            for connection in self._connections.values():
                connection.read_at, connection.waits_since = now, None
        self._looked_at = now
        for descriptor, connection in list(self._connections.items()):
            try:
                _look(descriptor, connection, now)
            except OSError:
                del self._connections[descriptor]
        connections = self._connections.values()
        return any(
            each.waits_since is not None and now - each.waits_since >= HELD_UP_PERIOD
            for each in connections
        ) and all(now - each.read_at >= HELD_UP_PERIOD for each in connections)


def _look(descriptor: int, connection: _Connection, now: float) -> None:
    """Look at what was read, and what waits.

    Raises:
        OSError: It is closed, by us or by its other end.
    """
    if sys.platform == "linux":
        if os.fstat(descriptor).st_ino != connection.inode:
            raise OSError
        borrowed = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, descriptor)
        try:
            info = borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_SIZE)
        finally:
            borrowed.detach()
        if len(info) < _INFO_SIZE or info[0] != _ESTABLISHED:
            raise OSError
        waiting = fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4))
        waiting_size = int.from_bytes(waiting, sys.byteorder)
        read_size = struct.unpack_from("=Q", info, _RECEIVED_AT)[0] - waiting_size
        if read_size != connection.read_size:
            connection.read_size, connection.read_at = read_size, now
            connection.waits_since = None
        elif waiting_size and connection.waits_since is None:
            connection.waits_since = now


class Watch(threading.Thread):
    """Looks after all connections of zenoh in this process, until ``stop``.

    Args:
        notify: Called, on this thread, when the reading of them is held up, and when it goes on.
    """

    def __init__(self, notify: Callable[[bool], None]) -> None:
        super().__init__(name="roost-zenoh-watch", daemon=True)
        self._notify = notify
        self._stopped = threading.Event()
        self._reading = Reading()
        self._is_held_up = False
        self._search_at = 0.0

    def run(self) -> None:
        while not self._stopped.wait(LOOK_INTERVAL):
            now = time.monotonic()
            if now >= self._search_at:
                self._search(now)
            is_held_up = self._reading.is_held_up(now)
            if is_held_up is not self._is_held_up:
                self._is_held_up = is_held_up
                self._notify(is_held_up)

    def stop(self) -> None:
        """End soon; reports in between are of no interest."""
        self._stopped.set()

    def _search(self, now: float) -> None:
        start = time.thread_time()
        for descriptor in stop_lingering():
            self._reading.add(descriptor, now)
        cost = time.thread_time() - start
        self._search_at = now + min(cost / SEARCH_SHARE, MAX_SEARCH_INTERVAL - LOOK_INTERVAL)
