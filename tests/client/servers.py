"""Servers that end and come back, and a way to them on which everything can happen."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.engines import free_port

__all__ = ["Node", "Proxy", "running"]

ROOT = Path(__file__).parents[2]
TIMEOUT = 30.0  # seconds to start, and to stop


class Node:
    """``tests.client.app`` in a process of its own, on a port that it keeps.

    Args:
        environ: Of the process, for example ``CLUSTER``.
    """

    def __init__(self, **environ: str) -> None:
        self.port = free_port()
        self._environ = {**os.environ, **environ}
        self._process: Process | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/socket"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start, and return when it takes connections."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "roost.cli", "serve", "tests.client.app:app"),
            *("--port", str(self.port), "--log-level", "critical"),
            cwd=ROOT,
            env=self._environ,
            stdout=DEVNULL,
            stderr=DEVNULL,
        )
        async with asyncio.timeout(TIMEOUT):
            while not await self._answers():  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self._process is not None:
            self._process.send_signal(number)

    async def end(self, by: signal.Signals = signal.SIGTERM) -> None:
        """End it, if it runs."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(by)
        try:
            await asyncio.wait_for(process.wait(), TIMEOUT)
        except TimeoutError:
            process.kill()
            raise

    async def restart(self, by: signal.Signals) -> None:
        """End it, and start it again."""
        await self.end(by)
        await self.start()

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            assert self._process is not None
            assert self._process.returncode is None, "it ended"
            return False
        writer.close()
        return True


@asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[None]:
    """Nodes that run for the duration of the block, unless a test ends them."""
    try:
        for node in nodes:
            await node.start()
        yield
    finally:
        for node in nodes:
            with suppress(ProcessLookupError):
                node.send(signal.SIGCONT)
            await node.end()


class Proxy:
    """A way to a server.

    Attributes:
        port: Where it listens.
        target: The port that it leads to; for connections from now on.
        is_silent: It takes everything, and hands over nothing: what is sent is lost.
        connection_count: Connections that it was asked for.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.target = target
        self.is_silent = False
        self.connection_count = 0
        self._listener: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/socket"

    async def __aenter__(self) -> Proxy:
        self._listener = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listener is not None
        self._listener.close()
        self.cut()
        await asyncio.gather(*self._pumps)

    def cut(self) -> None:
        """Abort every connection, on both sides."""
        for writer in self._writers:
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connection_count += 1
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        for source, target in ((reader, server_writer), (server_reader, writer)):
            self._writers.add(target)
            pump = asyncio.create_task(self._pump(source, target))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        was_silent = False  # what was lost once breaks the stream for good
        try:
            while data := await source.read(65_536):
                was_silent = was_silent or self.is_silent
                if not was_silent:
                    target.write(data)
                    await target.drain()
            if was_silent:
                return  # nobody hears the goodbye, either
        except OSError:
            pass  # the other side is gone, and this one goes too
        self._writers.discard(target)
        target.close()
