"""Whether what others send is read, as the kernel tells it."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator

import pytest

from roost.pubsub.zenoh.watch import HELD_UP_PERIOD, LOOK_INTERVAL, Reading
from tests.engines import free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def connect() -> Iterator[Callable[[], Pair]]:
    """Makes connections: their ends at a peer, and here."""
    opened: list[socket.socket] = []

    def make() -> Pair:
        with socket.create_server(("127.0.0.1", free_port())) as server:
            peer = socket.create_connection(server.getsockname())
            here, _ = server.accept()
        opened.extend((peer, here))
        return peer, here

    yield make
    for each in opened:
        each.close()


class Scene:
    """A reading of some connections, and a time that passes."""

    def __init__(self, *connections: socket.socket) -> None:
        self.now = 100.0
        self.reading = Reading()
        for connection in connections:
            self.reading.add(connection.fileno(), self.now)
        assert not self.reading.is_held_up(self.now)

    def pass_time(self, seconds: float) -> bool:
        """Look again and again; whether it is held up in the end."""
        is_held_up = False
        for _ in range(round(seconds / LOOK_INTERVAL)):
            self.now += LOOK_INTERVAL
            is_held_up = self.reading.is_held_up(self.now)
        return is_held_up


def _send(peer: socket.socket, here: socket.socket) -> None:
    """Send something, and return when it has come."""
    peer.send(b"hello")
    here.settimeout(5)
    while here.recv(9, socket.MSG_PEEK) != b"hello":
        pass


def test_what_waits_unread_is_noticed(connect: Callable[[], Pair]):
    """If something came and nothing is read for a while, the reader is held up, until it reads."""
    peer, here = connect()
    scene = Scene(here)
    _send(peer, here)

    assert not scene.pass_time(HELD_UP_PERIOD)
    assert scene.pass_time(LOOK_INTERVAL)

    here.recv(1)
    assert not scene.pass_time(LOOK_INTERVAL)


def test_silence_is_no_fault_of_the_reader(connect: Callable[[], Pair]):
    """Where nothing has come there is nothing to read."""
    _, here = connect()

    assert not Scene(here).pass_time(3 * HELD_UP_PERIOD)


def test_who_reads_elsewhere_is_not_held_up(connect: Callable[[], Pair]):
    """One connection may have to wait, if others are read."""
    (peer, here), (other_peer, other) = connect(), connect()
    scene = Scene(here, other)
    _send(peer, here)

    for _ in range(5):
        _send(other_peer, other)
        other.recv(5)
        assert not scene.pass_time(LOOK_INTERVAL)


def test_a_process_that_slept_is_not_held_up(connect: Callable[[], Pair]):
    """While it was stopped it could not read; what has come meanwhile gets its time."""
    peer, here = connect()
    scene = Scene(here)
    _send(peer, here)
    scene.pass_time(HELD_UP_PERIOD)

    scene.now += 10
    assert not scene.reading.is_held_up(scene.now)
    assert not scene.pass_time(HELD_UP_PERIOD - LOOK_INTERVAL)
    assert scene.pass_time(LOOK_INTERVAL)


def test_a_closed_connection_is_forgotten(connect: Callable[[], Pair]):
    """Nobody has to read what came for one that has ended, at either end."""
    (peer, here), (ended_peer, ended) = connect(), connect()
    scene = Scene(here, ended)
    _send(peer, here)
    _send(ended_peer, ended)
    scene.pass_time(HELD_UP_PERIOD)

    here.close()
    ended_peer.close()
    assert not scene.pass_time(2 * HELD_UP_PERIOD)
