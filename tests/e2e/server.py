"""A real server in a process of its own, and a way to it that can be cut."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

__all__ = ["Link", "Server"]

ROOT = Path(__file__).parents[2]
TIMEOUT = 20.0  # seconds to start, and to stop

_RUNNING = re.compile(r"running on http://127\.0\.0\.1:(\d+)")


class Server:
    """``roost serve`` with one app, on a free port that it keeps when it starts again.

    Args:
        app: The app as uvicorn names it, such as ``examples.demo.app:app``.

    Attributes:
        log: What it has written so far.
    """

    def __init__(self, app: str) -> None:
        self.log = ""
        self.port = 0
        self._app = app
        self._process: Process | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start, and return when it takes connections."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "roost.cli", "serve", self._app),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            cwd=ROOT,
            stdout=DEVNULL,
            stderr=PIPE,
        )
        running = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read(self._process, running))
        self.port = await asyncio.wait_for(running, TIMEOUT)

    async def kill(self) -> None:
        """End it with SIGKILL: nothing is cleaned up, and nobody is told."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """End it with SIGTERM, if it runs."""
        await self._end(signal.SIGTERM)

    async def _end(self, by: signal.Signals) -> None:
        process, reading = self._process, self._reading
        if process is None or reading is None:
            return
        self._process = self._reading = None
        process.send_signal(by)
        try:
            await asyncio.wait_for(process.wait(), TIMEOUT)
        except TimeoutError:
            process.kill()
            raise
        finally:
            await reading

    async def _read(self, process: Process, running: asyncio.Future[int]) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            self.log += line.decode()
            if not running.done() and (match := _RUNNING.search(self.log)):
                running.set_result(int(match[1]))
        if not running.done():
            running.set_exception(RuntimeError(f"the server did not start:\n{self.log}"))


class Link:
    """A way to a server, for one browser tab: what the network does happens here."""

    def __init__(self, server: Server) -> None:
        self.port = 0
        self._server = server
        self._listener: asyncio.Server | None = None
        self._is_cut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._listener = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Abort every connection, on both sides, and those that come until ``mend``."""
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        self._is_cut = False

    async def stop(self) -> None:
        self.cut()
        if self._listener is not None:
            self._listener.close()
        await asyncio.gather(*self._pumps)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        if self._is_cut:
            writer.transport.abort()
            server_writer.transport.abort()
            return
        for source, target in ((reader, server_writer), (server_reader, writer)):
            self._writers.add(target)
            pump = asyncio.create_task(self._pump(source, target))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                target.write(data)
                await target.drain()
        except OSError:
            pass  # the other side is gone, and this one goes too
        finally:
            self._writers.discard(target)
            target.close()
