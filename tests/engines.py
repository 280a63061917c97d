"""Real redis and nats servers on free ports of 127.0.0.1, and a way to them that can be cut."""

import asyncio
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import pytest

DEADLINE = 10.0  # seconds for a server to start


class EngineProcess:
    """A server in a process of its own, for the duration of a `with` block.

    Attributes:
        port: Where it listens, also after a restart.
    """

    program = ""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.folder = folder
        self.options = options
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        """The arguments that it is started with."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.start_now()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop_now()

    @property
    def process(self) -> psutil.Process:
        """The process, while it runs."""
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def start_now(self) -> None:
        """Start it and wait until it listens."""
        log = self.folder / f"{self.program}-{self.port}.log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [find_program(self.program), *self.command(), *self.options],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        deadline = time.monotonic() + DEADLINE
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop_now()
                raise RuntimeError(f"{self.program} does not start:\n{log.read_text()}")
            time.sleep(0.01)

    def stop_now(self) -> None:
        """End it as `kill -9` does; nothing happens if it doesn't run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def start(self) -> None:
        await asyncio.to_thread(self.start_now)

    async def stop(self) -> None:
        self.stop_now()

    async def stall(self) -> None:
        """Halt it, and return once it is."""
        self.process.send_signal(signal.SIGSTOP)
        while self.process.status() != psutil.STATUS_STOPPED:  # noqa: ASYNC110
            await asyncio.sleep(0.001)  # processes do not tell

    async def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


class RedisServer(EngineProcess):
    """A redis-server that stores nothing; options are of its command line."""

    program = "redis-server"

    def command(self) -> Sequence[str]:
        plain = () if "--port" in self.options else ("--port", str(self.port))
        return (*plain, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")


class NatsServer(EngineProcess):
    """A nats-server; options are lines of its configuration file."""

    program = "nats-server"

    def __init__(self, folder: Path, *lines: str) -> None:
        super().__init__(folder)
        self.lines = lines

    def command(self) -> Sequence[str]:
        path = self.folder / f"nats-{self.port}.conf"
        path.write_text("\n".join(self.lines))
        return ("--addr", "127.0.0.1", "--port", str(self.port), "--config", str(path))


class Proxy:
    """A way to a server that can be cut: a TCP proxy in the test's event loop.

    Attributes:
        port: Where to connect instead.
        connection_count: How many connections there have been.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.connection_count = 0
        self._is_cut = False
        self._gates: list[asyncio.Event] = []  # of each connection, in the order of connecting
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        listener = socket.create_server(("127.0.0.1", self.port))
        # Little room in the kernel, so that a cut is felt by those who send much, too.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        self._server = await asyncio.start_server(self._serve, sock=listener)
        self.port = listener.getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.drop()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.sleep(0)  # transports that were aborted close in the next tick

    def cut(self) -> None:
        """Let nothing pass in either direction, as on a network that drops all packets.

        Connections stay, and new ones are accepted and hear nothing.
        """
        self._is_cut = True
        for gate in self._gates:
            gate.clear()

    def cut_one(self, number: int) -> None:
        """Cut one connection: the first is 0."""
        self._gates[number].clear()

    def heal(self) -> None:
        self._is_cut = False
        for gate in self._gates:
            gate.set()

    def drop(self) -> None:
        """End all connections as a reset does."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.append(writer)
        self.connection_count += 1
        gate = asyncio.Event()
        self._gates.append(gate)
        if not self._is_cut:
            gate.set()
        try:
            await gate.wait()
            there = await asyncio.open_connection("127.0.0.1", self.target_port)
            self._writers.append(there[1])
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(reader, there[1], gate))
                tasks.create_task(self._pump(there[0], writer, gate))
        except* OSError:
            pass
        except* asyncio.CancelledError:
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event
    ) -> None:
        while data := await reader.read(1 << 16):
            await gate.wait()
            writer.write(data)
            await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def greeter(greeting: bytes) -> AsyncIterator[tuple[int, bytearray]]:
    """A server that says the same to everybody; yields its port and what it has heard."""
    heard = bytearray()
    open_count = 0
    ended = asyncio.Event()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_count
        open_count += 1
        ended.clear()
        writer.write(greeting)
        with suppress(OSError):
            while data := await reader.read(4096):
                heard.extend(data)
        writer.transport.abort()
        open_count -= 1
        if not open_count:
            ended.set()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], heard
        await asyncio.wait_for(ended.wait(), DEADLINE)
        await asyncio.sleep(0)  # the transport closes in the next tick


def find_program(name: str) -> str:
    """The path of an engine's program."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        pytest.fail(f"no {name} here: run `scripts/find-engines --install` as root", pytrace=False)
    return path


def free_port() -> int:
    """A port that nobody listens on, and that no connection of ours is given by chance."""
    while True:
        port = random.randrange(15_000, 30_000)  # systems take those of connections from above
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue


def open_sockets() -> set[tuple[int, int]]:
    """The connections of this process: (own port, other's port)."""
    return {
        (connection.laddr.port, connection.raddr.port)
        for connection in psutil.Process().net_connections("tcp")
        if connection.raddr
    }
