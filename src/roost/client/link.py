"""One connection of a client, from the attempt to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from roost.client.exceptions import ConnectFailed
from roost.client.protocol import ClientProtocol
from roost.client.transport import Connection
from roost.wire.frame import Frame

__all__ = ["Link"]

log: Final = logging.getLogger("roost.client")


class Link:
    """One connection of a client, from the attempt to its end.

    It tells the protocol what happens, until it is ended.

    Args:
        protocol: The client's.
        now: The time.
        open_connection: Opens it, or raises ``ConnectFailed``.
        pump: Called after each input to the protocol.
        note_flushed: Called when nothing is left to be written.

    Attributes:
        is_writing: Whether a frame is under way to the connection.
    """

    def __init__(
        self,
        protocol: ClientProtocol,
        now: Callable[[], float],
        open_connection: Callable[[], Awaitable[Connection]],
        pump: Callable[[], None],
        note_flushed: Callable[[], None],
    ) -> None:
        self.is_writing = False
        self._protocol = protocol
        self._now = now
        self._open_connection = open_connection
        self._pump = pump
        self._note_flushed = note_flushed
        self._connection: Connection | None = None
        self._has_ended = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_alive(self) -> bool:
        """Whether anything of it runs."""
        return bool(self._tasks) or not self._has_ended

    def start(self) -> None:
        """Begin."""
        self._start(self._run())

    def write(self) -> None:
        """Write what is there to be written."""
        if self._connection is None or self.is_writing or self._has_ended:
            return
        frame = self._protocol.next_frame()
        if frame is not None:
            self.is_writing = True
            self._start(self._write_from(self._connection, frame))

    def end(self, is_dead: bool) -> None:
        """End it; the protocol is told nothing more.

        Args:
            is_dead: Nobody seems to be at the other end: do not wait for it.
        """
        self._has_ended = True
        if self._connection is None:
            for task in self._tasks:
                task.cancel()
        elif is_dead:
            self._connection.abort()
        else:
            self._start(self._connection.close())

    async def ended(self, timeout: float) -> None:
        """Wait until nothing of it runs any more."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)
        if self._connection is not None:
            self._connection.abort()
        for task in self._tasks:
            task.cancel()

    async def _run(self) -> None:
        try:
            connection = await self._open_connection()
        except ConnectFailed as error:
            if not self._has_ended:
                self._has_ended = True
                self._protocol.connection_failed(error, self._now())
                self._pump()
            return
        self._connection = connection
        try:
            self._protocol.connection_opened(self._now())
            self._pump()
            async for data in connection.frames():
                if self._has_ended:
                    return
                self._protocol.receive(data, self._now())
                self._pump()
        except Exception:
            log.exception("a connection is given up")
        finally:
            if not self._has_ended:
                self._has_ended = True
                connection.abort()
                self._protocol.connection_lost(connection.why_closed(), self._now())
                self._pump()

    async def _write_from(self, connection: Connection, frame: Frame | None) -> None:
        try:
            while frame is not None:
                await connection.send(frame.text if frame.is_text else frame.data)
                frame = None if self._has_ended else self._protocol.next_frame()
        except ConnectionError:
            pass  # whoever reads is told why
        finally:
            self.is_writing = False
            self._note_flushed()

    def _start(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a connection failed", exc_info=error)
