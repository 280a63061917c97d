"""Many WebSockets in one thread, over ``epoll`` and without a library.

A ``Client`` first shakes hands and joins by a *conversation*: a generator that is sent each message
of the server and yields what to say. Then its owner decides what its messages, or its raw chunks,
are given to.
"""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Final
from urllib.parse import urlsplit

from bench.load.frames import CLOSE, PING, PONG, FrameReader, ProtocolError, frame, upgrade_request

__all__ = ["Client", "Conversation", "Crowd", "Entry", "Impatient"]

Conversation = Generator[bytes, bytes, None]
"""Yields a text to send, or nothing; is sent the server's messages; returns when it is over."""

CHUNK_SIZE: Final = 1 << 16
BATCH_COUNT: Final = 64  # sockets that are read before the clock is looked at again
PORTS_PER_ADDRESS: Final = 20_000  # Linux has 28,000 for connections to one port
RESET: Final = b"\1\0\0\0\0\0\0\0"  # SO_LINGER, 0 s: no port is kept in TIME_WAIT


class Impatient(Exception):
    """What a scenario waits for did not happen in time."""


@dataclass(frozen=True)
class Entry:
    """How a client begins.

    Args:
        target: Path and query of the upgrade.
        conversation: What it says once it is connected.
        on_message: Is given each message, those of the conversation included.
    """

    target: str
    conversation: Conversation
    on_message: Callable[[bytes], None] | None = None


class Client:
    """One connection.

    Attributes:
        on_message: Is given each text message.
        on_chunk: Is given raw bytes instead, once set.
        is_over: The conversation has ended: the client is where the scenario wants it.
    """

    __slots__ = (
        "_conversation",
        "_crowd",
        "_greeting",
        "_outgoing",
        "_reader",
        "is_closed",
        "is_over",
        "on_chunk",
        "on_message",
        "socket",
    )

    def __init__(self, crowd: Crowd, sock: socket.socket, request: bytes, entry: Entry) -> None:
        self._crowd = crowd
        self.socket = sock
        self._greeting: bytes | None = b""  # of the answer to the upgrade, until it is whole
        self._outgoing = request
        self._conversation: Conversation | None = entry.conversation
        self._reader = FrameReader()
        self.on_message = entry.on_message
        self.on_chunk: Callable[[bytes], None] | None = None
        self.is_over = False
        self.is_closed = False

    def send(self, text: bytes) -> None:
        """Send a text message."""
        self.send_frames(frame(text))

    def send_frames(self, data: bytes) -> None:
        """Send frames that were made before."""
        if not self._outgoing:
            try:
                sent = self.socket.send(data)
            except BlockingIOError:
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
            self._crowd.wants_to_write(self, True)
        self._outgoing += data

    def talk(self, conversation: Conversation) -> None:
        """Begin another conversation, for example to join one more topic."""
        self._conversation = conversation
        self.is_over = False
        self._say(None)

    def take_chunks(self, on_chunk: Callable[[bytes], None]) -> None:
        """From now on all that comes is given to ``on_chunk`` as it is."""
        if not self._reader.is_between_frames:
            raise ProtocolError("a message is under way that nobody expects")
        self.on_chunk = on_chunk

    # For the crowd.

    def flush(self) -> None:
        if failure := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(failure, errno.errorcode[failure])
        data, self._outgoing = self._outgoing, b""
        self._crowd.wants_to_write(self, False)
        self.send_frames(data)

    def receive(self, chunk: bytes) -> None:
        if self._greeting is not None:
            greeting, end, chunk = (self._greeting + chunk).partition(b"\r\n\r\n")
            if not end:
                self._greeting = greeting
                return
            if b" 101 " not in greeting[:20]:
                raise ProtocolError(f"the server refused the upgrade: {greeting[:200]!r}")
            self._greeting = None
            self._say(None)
        for opcode, payload in self._reader.feed(chunk):
            if opcode == PING:
                self.send_frames(frame(payload, PONG))
            elif opcode == CLOSE:
                raise ProtocolError(f"the server closed the connection: {payload!r}")
            elif self._conversation is not None:
                self._say(payload)
            elif self.on_message is not None:
                self.on_message(payload)

    def _say(self, message: bytes | None) -> None:
        assert self._conversation is not None
        if message is not None and self.on_message is not None:
            self.on_message(message)
        try:
            text = next(self._conversation) if message is None else self._conversation.send(message)
        except StopIteration:
            self._conversation = None
            self.is_over = True
            self._crowd.over_count += 1
            return
        if text:
            self.send(text)


class Crowd:
    """The clients of one scenario; a context manager that closes them.

    Args:
        url: Of the server, such as http://127.0.0.1:4000.
        first_address: If the server is on this machine, clients connect from 127.0.0.this, and
            from the next address once its ports are used up.

    Attributes:
        over_count: How many conversations have ended.
        now: The clock when the last batch of sockets became readable.
        on_batch: Is called after each batch of sockets was read.
    """

    def __init__(self, url: str, first_address: int = 1) -> None:
        parts = urlsplit(url)
        self._host = parts.netloc
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._is_local = self._address[0].startswith("127.")
        self._first_address = first_address
        self._epoll = select.epoll()
        self._by_number: dict[int, Client] = {}
        self._connected_count = 0
        self.over_count = 0
        self.now = monotonic()
        self.on_batch: Callable[[], None] | None = None

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *error: object) -> None:
        self.close(list(self._by_number.values()))
        self._epoll.close()

    def connect(self, entry: Entry) -> Client:
        """Begin to connect a client, and to talk once it is connected."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        if self._is_local:
            number = self._first_address + self._connected_count // PORTS_PER_ADDRESS
            sock.bind((f"127.0.0.{number}", 0))
        self._connected_count += 1
        client = Client(self, sock, upgrade_request(self._host, entry.target), entry)
        sock.connect_ex(self._address)
        self._by_number[sock.fileno()] = client
        self._epoll.register(sock, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        return client

    def connect_all(
        self,
        entries: Iterable[Entry],
        *,
        at_once: int = 100,
        timeout: float = 60.0,  # seconds
    ) -> list[Client]:
        """Connect clients, ``at_once`` of them at a time, until all conversations have ended."""
        clients: list[Client] = []
        waiting = iter(entries)
        before = self.over_count

        def is_done() -> bool:
            while len(clients) - (self.over_count - before) < at_once:
                each = next(waiting, None)
                if each is None:
                    break
                clients.append(self.connect(each))
            return self.over_count - before == len(clients)

        self.run(is_done, timeout, "not all clients have joined")
        return clients

    def close(self, clients: Iterable[Client]) -> None:
        """Drop connections without a closing handshake, as a client does that crashes."""
        for client in clients:
            if not client.is_closed:
                client.is_closed = True
                del self._by_number[client.socket.fileno()]
                client.socket.close()

    def wants_to_write(self, client: Client, wants: bool) -> None:
        events = select.EPOLLIN | (select.EPOLLOUT if wants else 0)
        self._epoll.modify(client.socket, events | select.EPOLLET)

    def run(self, is_done: Callable[[], bool], timeout: float, otherwise: str) -> None:
        """Read and write until ``is_done``, which is asked after each batch of sockets.

        Raises:
            Impatient: It took over ``timeout`` seconds.
        """
        deadline = monotonic() + timeout
        while not is_done():
            self.step(1.0)
            if self.now > deadline:
                raise Impatient(f"{otherwise} within {timeout:g} s")

    def step(self, timeout: float) -> None:
        """Wait for sockets and serve one batch of them."""
        ready = self._epoll.poll(timeout, BATCH_COUNT)
        self.now = monotonic()
        by_number = self._by_number
        for number, events in ready:
            client = by_number.get(number)
            if client is None:  # closed by an earlier one of this batch
                continue
            if events & select.EPOLLOUT:
                client.flush()
            if events & ~select.EPOLLOUT:
                # Edge-triggered: the system tells of each arrival once, so all of it is read.
                while not client.is_closed:
                    try:
                        chunk = client.socket.recv(CHUNK_SIZE)
                    except BlockingIOError:
                        break
                    if not chunk:
                        raise ProtocolError("the server dropped a connection")
                    if client.on_chunk is not None:
                        client.on_chunk(chunk)
                    else:
                        client.receive(chunk)
                    if len(chunk) < CHUNK_SIZE:
                        break
        if self.on_batch is not None:
            self.on_batch()
