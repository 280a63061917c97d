"""The two ways between the event loop and zenoh's threads, each with a bound.

Out: ``Outbox``, a thread that sends what the loop queued, because zenoh's ``put`` may wait for a
peer. In: ``Inbox``, which gathers what zenoh's threads receive and wakes the loop once for all of
it.

Messages that wait for one way are sent together, as a *parcel*: a number of eight bytes, then each
message behind its size of four bytes. Each parcel costs the receiver a turn of Python's global lock
on a thread of zenoh, which is slow to get while the loop is busy; a message for each turn lost half
of a flood of 200,000. The number is that of the parcel's first message, counted for each sender and
each way: to all, or to this node. A gap says that messages were lost, where nobody would know else.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import Counter, deque
from collections.abc import Callable

from roost.repeats import Repeats

__all__ = ["Inbox", "Outbox"]

logger = logging.getLogger("roost.pubsub")

_NUMBER_SIZE = 8  # bytes
_SIZE_SIZE = 4  # bytes
_MAX_PARCEL_SIZE = 32 * 1024  # bytes, unless a single message is larger
_FREE_SIZE = 1024 * 1024  # bytes that wait before those who have much to send wait as well
_SLICE_COUNT = 256  # messages delivered before the loop may do something else,
_SLICE_SIZE = 256 * 1024  # and bytes of them
_MAX_WAIT = 0.05  # seconds: half of what a sender waits before it drops
_MAX_NUMBERED_COUNT = 4096  # senders whose last number is kept

# What stands for an empty queue; no node has this name.
_NOTHING: tuple[str | None, bytes] = ("", b"")

# Counters are shared between threads: each reason is counted by one thread, or under one lock.


class Outbox(threading.Thread):
    """Sends in order, on a thread of its own.

    Args:
        send: Sends to the node of a name, or to all if it is ``None``; may block for a while.
        counters: ``outbox_full``, ``send_failed`` and ``closed`` are counted here.
        max_count, max_size: Bounds of what waits, in messages and in bytes.
    """

    def __init__(
        self,
        send: Callable[[str | None, bytes], None],
        counters: Counter[str],
        *,
        max_count: int,
        max_size: int,
    ) -> None:
        super().__init__(name="roost-zenoh-sender", daemon=True)
        self._send = send
        self._counters = counters
        self._max_count = max_count
        self._max_size = max_size
        self._queue: queue.SimpleQueue[tuple[str | None, bytes] | None] = queue.SimpleQueue()
        # Each is written by one thread only, so that no lock is needed.
        self._queued_size = 0  # bytes that the loop ever queued
        self._sent_size = 0  # bytes that the thread ever sent
        self._numbers: Counter[str | None] = Counter()
        self._is_abandoned = False
        self._failed = Repeats()
        self._dropped = Repeats()

    @property
    def free_size(self) -> int:
        """How many bytes more make nothing wait long. For the loop's thread."""
        return max(_FREE_SIZE - (self._queued_size - self._sent_size), 0)

    def put(self, node_name: str | None, data: bytes) -> None:
        """Queue a message; at the bound it is dropped. For the loop's thread."""
        waiting_size = self._queued_size - self._sent_size
        if self._queue.qsize() >= self._max_count or waiting_size + len(data) > self._max_size:
            self._counters["outbox_full"] += 1
            self._dropped.note(self._log_dropped)
            return
        self._queued_size += len(data)
        self._queue.put((node_name, data))

    def _log_dropped(self, count: int) -> None:
        what = "zenoh is too slow: dropped %d messages for other nodes, %d of %d wait"
        logger.warning(what, count, self._queue.qsize(), self._max_count)

    def finish(self) -> None:
        """End once all that waits is sent."""
        self._queue.put(None)

    def abandon(self) -> None:
        """End after the message that is being sent; what waits is dropped."""
        self._is_abandoned = True

    def run(self) -> None:
        item = self._queue.get()
        while item is not None:
            node_name, data = item
            waiting, size = [data], len(data)
            while True:  # what waits for the same way goes along
                item = self._next()
                if item is None or item is _NOTHING or item[0] != node_name:
                    break
                if size + len(item[1]) > _MAX_PARCEL_SIZE:
                    break
                waiting.append(item[1])
                size += len(item[1])
            self._send_parcel(node_name, waiting)
            self._sent_size += size
            if item is _NOTHING:
                item = self._queue.get()

    def _next(self) -> tuple[str | None, bytes] | None:
        try:
            return self._queue.get_nowait()
        except queue.Empty:
            return _NOTHING

    def _send_parcel(self, node_name: str | None, messages: list[bytes]) -> None:
        if self._is_abandoned:
            self._counters["closed"] += len(messages)
            return
        parts = [(self._numbers[node_name] + 1).to_bytes(_NUMBER_SIZE, "big")]
        for data in messages:
            parts += (len(data).to_bytes(_SIZE_SIZE, "big"), data)
        self._numbers[node_name] += len(messages)
        try:
            self._send(node_name, b"".join(parts))
        except Exception as error:  # of the engine; the next may go better
            self._counters["send_failed"] += len(messages)
            who = "all other nodes" if node_name is None else node_name
            what = "zenoh could not send %d messages, the last of them to %s: %s"
            why = error  # which ``except`` forgets
            self._failed.note(lambda count: logger.warning(what, count, who, why), len(messages))


def _unpack(parcel: bytes) -> list[bytes] | None:
    """The messages of a parcel; ``None`` if it is none."""
    messages, at = [], _NUMBER_SIZE
    while at + _SIZE_SIZE <= len(parcel):
        end = at + _SIZE_SIZE + int.from_bytes(parcel[at : at + _SIZE_SIZE], "big")
        messages.append(parcel[at + _SIZE_SIZE : end])
        at = end
    return messages if messages and at == len(parcel) else None


class Inbox:
    """Brings what zenoh's threads receive to the loop, in order.

    Args:
        deliver: Called on the loop with each message.
        counters: ``inbox_full``, ``lost``, ``invalid_message`` and ``failed_delivery`` are counted
            here.
        max_count, max_size: Bounds of what waits for the loop, in messages and in bytes. At the
            bound the thread waits a little, which slows down the sender; if the loop takes nothing
            meanwhile, what comes is dropped until it does. Calls are never dropped.
    """

    def __init__(
        self,
        deliver: Callable[[bytes], None],
        counters: Counter[str],
        *,
        max_count: int,
        max_size: int,
    ) -> None:
        self._deliver = deliver
        self._counters = counters
        self._max_count = max_count
        self._max_size = max_size
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._has_room = threading.Condition(self._lock)
        self._is_stalled = False  # the loop took nothing while a thread waited for it
        self._dropped = Repeats()
        self._items: deque[bytes | Callable[[], None]] = deque()
        self._size = 0
        self._is_woken = True  # until it is opened nothing wakes the loop
        self._is_closed = False
        self._last_numbers: dict[str, int] = {}

    def open(self) -> None:
        """Deliver from now on, what has come before first."""
        self._loop.call_soon(self._drain)

    def put_parcel(self, key: str, data: bytes) -> None:
        """A parcel came; ``key`` names its sender and its way. From any thread."""
        messages = _unpack(data)
        if messages is None:
            with self._lock:
                self._counters["invalid_message"] += 1
            return
        number = int.from_bytes(data[:_NUMBER_SIZE], "big")
        with self._lock:
            self._count_lost(key, number, len(messages))
            for message in messages:
                self._put_message(message)

    def _put_message(self, data: bytes) -> None:
        if self._is_full(len(data)) and not self._is_stalled:
            self._is_stalled = not self._has_room.wait_for(
                lambda: self._is_closed or not self._is_full(len(data)), _MAX_WAIT
            )
        if self._is_full(len(data)):
            self._counters["inbox_full"] += 1
            what = "the event loop is too slow: dropped %d messages of other nodes"
            self._dropped.note(lambda count: logger.warning(what, count))
        else:
            self._size += len(data)
            self._put(data)

    def put_call(self, call: Callable[[], None]) -> None:
        """Call ``call`` on the loop, in order with the messages. From any thread."""
        with self._lock:
            self._put(call)

    def close(self) -> None:
        """Deliver nothing any more."""
        with self._lock:
            self._is_closed = True
            self._items.clear()
            self._size = 0
            self._has_room.notify_all()

    def _is_full(self, size: int) -> bool:
        return len(self._items) >= self._max_count or self._size + size > self._max_size

    def _put(self, item: bytes | Callable[[], None]) -> None:
        if self._is_closed:
            return
        self._items.append(item)
        if not self._is_woken:
            self._is_woken = True
            try:
                self._loop.call_soon_threadsafe(self._drain)
            except RuntimeError:  # the loop was closed, and we were not
                self._is_closed = True

    def _count_lost(self, key: str, number: int, count: int) -> None:
        last = self._last_numbers.get(key)
        if last is None:
            if len(self._last_numbers) >= _MAX_NUMBERED_COUNT:
                del self._last_numbers[next(iter(self._last_numbers))]
        elif number > last + 1:
            self._counters["lost"] += number - last - 1
        self._last_numbers[key] = number + count - 1

    def _drain(self) -> None:
        """Deliver a slice; what remains has its turn after what else the loop has to do."""
        with self._lock:
            items: list[bytes | Callable[[], None]] = []
            size = 0
            while self._items and len(items) < _SLICE_COUNT and size < _SLICE_SIZE:
                item = self._items.popleft()
                items.append(item)
                if isinstance(item, bytes):
                    size += len(item)
            self._size -= size
            self._is_stalled = False
            self._has_room.notify_all()
            if self._items:
                self._loop.call_soon(self._drain)
            else:
                self._is_woken = False
        for item in items:
            if self._is_closed:
                return
            try:
                if isinstance(item, bytes):
                    self._deliver(item)
                else:
                    item()
            except Exception:  # the messages behind it are not to blame
                self._counters["failed_delivery"] += 1
                logger.exception("delivering a message of another node failed")
