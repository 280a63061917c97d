"""When keys were last seen, kept beyond the life of a node.

A presence is gone when its owner is. What stays is one number for each key, the unix time at which
it was last here. A ``LastSeenStore`` keeps the numbers, and applications may write their own;
``SqliteLastSeen`` is one in a file. What a running presence has of it is ``following.recorder``.

A later time wins wherever two meet: in the recorder, in the store, between nodes. So times may be
written twice and in any order, and what failed to be written is simply written again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from roost.exceptions import ConfigurationError, NotStarted

if TYPE_CHECKING:
    import sqlite3  # at run time where it is used: some builds of Python have none

__all__ = ["LastSeenStore", "SqliteLastSeen"]

logger = logging.getLogger("roost.presence")

T = TypeVar("T")

BUSY_TIMEOUT: Final = 5.0  # seconds that another process may hold the file, as sqlite3 has it
BUSY_RETRY_PERIOD: Final = 0.01  # seconds
READ_COUNT: Final = 500  # keys of one query; SQLite before 3.32 takes 999 parameters


class LastSeenStore(Protocol):
    """Keep for each key the time at which it was last seen.

    Write one to keep the times where your other data is, and name it in
    ``Presence.last_seen_store``. It has to promise:

    - Times are unix seconds. The later one of a key stays, whatever the order in which they come
      and whichever process writes them; the same may come again.
    - ``open`` and ``close`` come in pairs. Pairs may nest, as several presences may share a store:
      it is usable until the last ``close``. After it ``open`` may come again, and on another event
      loop, so make nothing before ``open`` that belongs to a loop.
    - ``record`` either raises or has stored everything when it returns. If it raises, the same
      and more comes again in a second or so.
    - Calls end: nothing else is recorded meanwhile, and a presence that stops waits for them, up
      to 10 seconds. Give what may hang a timeout.
    - They don't block the event loop.

    Example:
        >>> class RedisLastSeen:
        ...     def __init__(self, redis): self.redis = redis  # connects when used
        ...     async def open(self): pass
        ...     async def close(self): pass  # the application closes what it made
        ...     async def record(self, seen_at): await self.redis.zadd("seen", seen_at, gt=True)
        ...     async def read(self, keys):
        ...         times = await self.redis.zmscore("seen", list(keys)) if keys else []
        ...         return {key: at for key, at in zip(keys, times) if at is not None}
    """

    async def open(self) -> None:
        """Make ready for use; if it raises, nothing was opened, and nobody calls ``close``."""
        ...

    async def close(self) -> None:
        """End the use that the last ``open`` began."""
        ...

    async def record(self, seen_at: Mapping[str, float]) -> None:
        """Store when keys were seen, unless a later time is known.

        Args:
            seen_at: Key → unix seconds, up to 100,000 keys; it doesn't change until this
                returns, so copy it to keep it.
        """
        ...

    async def read(self, keys: Collection[str]) -> dict[str, float]:
        """Return when keys were last seen, in unix seconds; unknown keys are missing.

        Args:
            keys: Any number.
        """
        ...


class SqliteLastSeen:
    """Keep last seen times in an SQLite file.

    Several processes of one machine may share the file; between machines use a store of your own,
    as SQLite's locks don't hold on network drives. The times are in the table
    ``roost_last_seen (key, seen_at)``, which may live among others. It keeps every key ever seen:
    ``DELETE FROM roost_last_seen WHERE seen_at < …`` is yours to run, at any time.

    Everything that SQLite does happens in a thread of its own, which lives from ``open`` to
    ``close``. A power cut may cost the times of the last moments, but not the file.

    Args:
        path: The file, made by ``open`` if it isn't there; its folder has to be. ``":memory:"``
            keeps the times until ``close``.

    Raises:
        ConfigurationError: The path is empty.

    Example:
        >>> async def see_alice():
        ...     store = SqliteLastSeen(":memory:")
        ...     await store.open()
        ...     await store.record({"alice": 1520417565.0})
        ...     times = await store.read(["alice", "bob"])
        ...     await store.close()
        ...     return times
        >>> asyncio.run(see_alice())
        {'alice': 1520417565.0}
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        if not self.path:  # SQLite would take it, for a file that vanishes
            raise ConfigurationError("SqliteLastSeen needs the path of a file, got an empty one")
        self._file: _SqliteFile | None = None
        # The loop of each open: what ended with its loop, unclosed, is not waited for.
        self._users: list[asyncio.AbstractEventLoop] = []
        self._lock = threading.Lock()  # loops of several threads may share the store

    def __repr__(self) -> str:
        return f"SqliteLastSeen({self.path!r})"

    async def open(self) -> None:
        """Open the file, or join those who have it open.

        Raises:
            ConfigurationError: The file can't be opened or written, or is no database; the cause
                is SQLite's error.
        """
        with self._lock:
            self._forget_closed_loops()
            self._users.append(asyncio.get_running_loop())
            if self._file is None:
                self._file = _SqliteFile(self.path)
            file = self._file
            opened = file.submit(file.connect)
        try:
            await asyncio.wrap_future(opened)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Wait for what is being recorded, and let go of the file if nobody else has it open."""
        loop = asyncio.get_running_loop()
        with self._lock:
            self._forget_closed_loops()
            if loop in self._users:
                self._users.remove(loop)
            file = self._file
            if file is None:
                return
            is_last = not self._users
            if is_last:
                self._file = None
            closed = file.close() if is_last else file.submit(_nothing)
        # Shielded: a caller who is cancelled would take the closing along.
        await asyncio.shield(asyncio.wrap_future(closed))
        if is_last:
            file.join()

    async def record(self, seen_at: Mapping[str, float]) -> None:
        """Store when keys were seen, in one transaction; later times stay.

        Args:
            seen_at: Key → unix seconds; leave it as it is until this returns.

        Raises:
            sqlite3.Error: SQLite can't, for example as the disk is full or another process has
                held the file for 5 seconds; nothing was stored.
            NotStarted: The store is not open.
        """
        file = self._current()
        await asyncio.wrap_future(file.submit(lambda: file.record(seen_at)))

    async def read(self, keys: Collection[str]) -> dict[str, float]:
        """Return when keys were last seen, in unix seconds; unknown keys are missing.

        Args:
            keys: Any number; they are queried 500 at a time.

        Raises:
            sqlite3.Error: SQLite can't.
            NotStarted: The store is not open.
        """
        file = self._current()
        wanted = list(keys)
        return await asyncio.wrap_future(file.submit(lambda: file.read(wanted)))

    def _current(self) -> _SqliteFile:
        if self._file is None:
            raise NotStarted(
                type(self).__qualname__, "await its open(), as a presence that starts does"
            )
        return self._file

    def _forget_closed_loops(self) -> None:
        self._users = [loop for loop in self._users if not loop.is_closed()]


class _SqliteFile:
    """A connection and its thread, from the first open to the last close.

    What takes time, ``connect``, ``record`` and ``read``, is submitted to the thread, which does
    one after the other.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="roost-last-seen")

    def submit(self, work: Callable[[], T]) -> Future[T]:
        return self._thread.submit(work)

    def close(self) -> Future[None]:
        """Let the thread close the connection, after all that was submitted, and end."""
        closed = self.submit(self._disconnect)
        self._thread.shutdown(wait=False)
        return closed

    def join(self) -> None:
        """See the thread end, once what ``close`` returned is done: it takes no time then."""
        self._thread.shutdown()

    def connect(self) -> None:
        if self._connection is not None:  # opened by another user
            return
        try:
            import sqlite3
        except ImportError as error:
            raise ConfigurationError(
                f"SqliteLastSeen needs sqlite3, which this Python was built without: {error}"
            ) from error
        try:
            connection = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT, isolation_level=None)
            try:
                _prepare(connection)
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise ConfigurationError(
                f"SqliteLastSeen can't keep times in {self._path!r}: {error}"
            ) from error
        self._connection = connection

    def record(self, seen_at: Mapping[str, float]) -> None:
        connection = self._connected()
        with connection:  # commits, or rolls back
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO roost_last_seen (key, seen_at) VALUES (?, ?) ON CONFLICT (key)"
                " DO UPDATE SET seen_at = excluded.seen_at WHERE excluded.seen_at > seen_at",
                seen_at.items(),
            )

    def read(self, keys: list[str]) -> dict[str, float]:
        connection = self._connected()
        times: dict[str, float] = {}
        for start in range(0, len(keys), READ_COUNT):
            chunk = keys[start : start + READ_COUNT]
            marks = ",".join("?" * len(chunk))
            times.update(
                connection.execute(
                    f"SELECT key, seen_at FROM roost_last_seen WHERE key IN ({marks})", chunk
                )
            )
        return times

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            raise NotStarted("SqliteLastSeen", "await its open() to the end")
        return self._connection


def _prepare(connection: sqlite3.Connection) -> None:
    """Make the table, if need be, and see that it can be written and read.

    SQLite doesn't wait for a file that several processes turn to WAL together, whatever its busy
    timeout: that would be a deadlock. So we try again.
    """
    from sqlite3 import SQLITE_BUSY, OperationalError

    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")  # readers and a writer don't wait
            connection.execute("PRAGMA synchronous = NORMAL")  # safe with WAL
            with connection:
                connection.execute("BEGIN IMMEDIATE")  # fails for a file that is read only
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS roost_last_seen"
                    " (key TEXT PRIMARY KEY NOT NULL, seen_at REAL NOT NULL) WITHOUT ROWID"
                )
            connection.execute("SELECT key, seen_at FROM roost_last_seen LIMIT 0")
            return
        except OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF == SQLITE_BUSY  # low byte: without details
            if not is_busy or time.monotonic() > deadline:
                raise
        time.sleep(BUSY_RETRY_PERIOD)


def _nothing() -> None:
    """What comes after everything that was submitted before."""
