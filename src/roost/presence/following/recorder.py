"""When keys were last seen: kept at the cost of a dict entry, written once a second."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import Counter, OrderedDict
from collections.abc import Collection
from typing import Final

from roost.channels.application import Failed, name_of, run
from roost.channels.tasks import end
from roost.presence.last_seen import LastSeenStore
from roost.repeats import Repeats

__all__ = ["LastSeenRecorder"]

logger = logging.getLogger("roost.presence")

STOP_TIMEOUT: Final = 10.0  # seconds that a store may take for its last write, and for its close
FLUSH_PERIOD: Final = 1.0  # seconds: what a node that dies at once may forget
MAX_WAITING: Final = 100_000  # keys, about 25 MB: a store that is away for long costs no more


class LastSeenRecorder:
    """Gather when keys were seen, and write it to a store in the background.

    ``start`` it, call ``seen`` and ``read``, ``stop`` it. There is one write at a
    time and one in a period, however many keys are seen. A write that fails is logged, counted and
    tried again in the next period with what came meanwhile.

    Args:
        store: Where to. It is open from ``start`` to ``stop``.
        counters: ``"last_seen_full"`` counts times that were dropped as too many waited,
            ``"last_seen_failed"`` counts writes that failed.
        flush_period: Seconds between two writes.
        max_waiting: Keys that may wait; one more costs the one seen longest ago. Those of a write
            that is under way, or failed, count by themselves until the next write takes up both.

    Example:
        >>> from roost.presence import SqliteLastSeen
        >>> async def see_alice():
        ...     recorder = LastSeenRecorder(SqliteLastSeen(":memory:"), Counter())
        ...     await recorder.start()
        ...     recorder.seen("alice", 1520417565.0)
        ...     times = await recorder.read(["alice", "bob"])
        ...     await recorder.stop()
        ...     return times
        >>> asyncio.run(see_alice())
        {'alice': 1520417565.0}
    """

    def __init__(
        self,
        store: LastSeenStore,
        counters: Counter[str],
        *,
        flush_period: float = FLUSH_PERIOD,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._store = store
        self._counters = counters
        self._flush_period = flush_period
        self._max_waiting = max_waiting
        # Both from the key kept longest ago to the last. Ordered dicts, as a plain one gets slow
        # when its first entry is dropped again and again.
        self._waiting: OrderedDict[str, float] = OrderedDict()
        self._writing: OrderedDict[str, float] = OrderedDict()  # emptied when it was written
        self._dropped_count = 0  # since the last flush
        self._dropped = Repeats()
        self._failures = Repeats()
        self._write_lock = asyncio.Lock()
        self._timer: asyncio.Task[None] | None = None
        self._context = contextvars.copy_context()

    def seen(self, key: str, at: float) -> None:
        """Keep that ``key`` was seen ``at`` that time, in unix seconds."""
        self._keep_latest(self._waiting, key, at)

    async def read(self, keys: Collection[str]) -> dict[str, float]:
        """Return when keys were last seen, in unix seconds, written or not; unknown are missing.

        Args:
            keys: Any number.

        Raises:
            Exception: What the store raises.
        """
        wanted = list(keys)
        # Before the store is asked: what is written meanwhile may be in neither afterwards.
        unwritten = [
            (key, times[key])
            for times in (self._writing, self._waiting)
            for key in wanted
            if key in times
        ]
        try:
            found: dict[str, float] = await run(
                contextvars.copy_context(), self._store.read, wanted
            )
        except Failed as failed:
            raise failed.error from failed
        for key, at in unwritten:
            found[key] = max(at, found.get(key, at))
        return found

    async def flush(self) -> None:
        """Write what waits, now; if the store fails, that is logged and it goes on waiting."""
        self._log_dropped()
        async with self._write_lock:
            waiting, self._waiting = self._waiting, OrderedDict()
            if self._writing:  # the write before failed
                for key, at in waiting.items():
                    self._keep_latest(self._writing, key, at)
            else:
                self._writing = waiting
            if not self._writing:
                return
            try:
                # A copy, which may be changed: what we have is written again if this fails.
                await run(self._context.copy(), self._store.record, dict(self._writing))
            except Failed as failed:
                self._failed(failed)
            else:
                self._writing = OrderedDict()

    async def start(self) -> None:
        """Open the store, and write to it from now on.

        Raises:
            Exception: What the store raises; then nothing was started.
        """
        self._context = contextvars.copy_context()
        try:
            await run(self._context.copy(), self._store.open)
        except Failed as failed:
            raise failed.error from failed
        self._write_lock = asyncio.Lock()  # of this loop
        self._timer = asyncio.get_running_loop().create_task(self._flush_regularly())

    async def stop(self) -> None:
        """Write what waits, and close the store; nothing happens the second time.

        What takes over ``STOP_TIMEOUT`` seconds is given up.
        """
        timer, self._timer = self._timer, None
        if timer is None:
            return
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                async with self._write_lock:  # not amid a write
                    timer.cancel()
                await asyncio.wait([timer])
                await self.flush()
        except TimeoutError as error:
            self._failed(Failed(name_of(self._store.record), error))
        finally:
            if self._writing:
                logger.error("stopped with the last seen times of %d keys", len(self._writing))
            await end([timer])
            await self._close()

    async def _close(self) -> None:
        try:
            await run(self._context.copy(), self._store.close, timeout=STOP_TIMEOUT)
        except Failed as failed:
            logger.error("%s failed", failed.name, exc_info=failed.error)

    async def _flush_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._flush_period)
            await self.flush()

    def _keep_latest(self, times: OrderedDict[str, float], key: str, at: float) -> None:
        known_at = times.get(key)
        if known_at is not None and known_at >= at:
            return
        times[key] = at
        times.move_to_end(key)
        if len(times) > self._max_waiting:
            times.popitem(last=False)
            self._counters["last_seen_full"] += 1
            self._dropped_count += 1

    def _log_dropped(self) -> None:
        dropped_count, self._dropped_count = self._dropped_count, 0
        if dropped_count:
            what, name = "%s is too slow: dropped the times of %d keys", name_of(self._store.record)
            self._dropped.note(lambda count: logger.error(what, name, count), dropped_count)

    def _failed(self, failed: Failed) -> None:
        self._counters["last_seen_failed"] += 1
        what = "%s failed %d times, the last seen times of %d keys wait for the next try"
        key_count = len(self._writing)

        def log(count: int) -> None:
            logger.error(what, failed.name, count, key_count, exc_info=failed.error)

        self._failures.note(log)
