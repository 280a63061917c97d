"""The queues between the event loop and zenoh's threads are bounded, and count what they drop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter

import pytest

from roost.pubsub.zenoh.traffic import Inbox, Outbox


class Line:
    """Carries parcels from an outbox to an inbox, unless they are to be lost."""

    def __init__(self, *, max_count: int = 1000, max_size: int = 1000) -> None:
        self.counters: Counter[str] = Counter()
        self.received: list[bytes] = []
        self.parcels: list[bytes] = []
        self.is_held = threading.Event()
        self.is_held.set()
        self.inbox = Inbox(self.receive, self.counters, max_count=max_count, max_size=max_size)
        self.outbox = Outbox(self.send, self.counters, max_count=max_count, max_size=max_size)

    def receive(self, data: bytes) -> None:
        if data == b"bad":
            raise ValueError(data)
        self.received.append(data)

    def send(self, node_name: str | None, parcel: bytes) -> None:
        self.is_held.wait()
        self.parcels.append(parcel)

    def sent(self, *messages: bytes) -> list[bytes]:
        """The parcels of these messages, each sent by itself."""
        for message in messages:
            self.outbox.put(None, message)
            self.outbox.put("other", b"between")
        self.outbox.finish()
        self.outbox.start()
        self.outbox.join()
        return self.parcels[::2]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_waits_goes_in_one_parcel():
    """Messages of one way are joined, in order, up to a size; other ways are not mixed in."""
    line = Line(max_size=200_000)
    for number in range(10):
        line.outbox.put(None, bytes([number]))
    line.outbox.put("b", b"for b")
    line.outbox.put(None, bytes(30_000))
    line.outbox.put(None, bytes(30_000))
    line.outbox.finish()
    line.outbox.start()
    line.outbox.join()

    line.inbox.put_parcel("a", line.parcels[0])
    line.inbox.open()
    await settle()

    assert len(line.parcels) == 4
    assert line.received == [bytes([number]) for number in range(10)]


async def test_a_gap_is_counted():
    """Messages that never came are counted once the next one comes; the first is no gap."""
    line = Line()
    parcels = line.sent(b"1", b"2", b"3", b"4", b"5")
    line.inbox.open()

    for index in (1, 4):
        line.inbox.put_parcel("a", parcels[index])
    await settle()

    assert line.received == [b"2", b"5"]
    assert line.counters == {"lost": 2}


async def test_a_full_outbox_drops():
    """At the bound of bytes or of messages ``put`` drops, and does not wait."""
    line = Line(max_count=2, max_size=10)
    for message in (b"x" * 11, b"x" * 6, b"y" * 6, b"z", b"z"):
        line.outbox.put(None, message)

    assert line.counters == {"outbox_full": 3}


async def test_a_full_inbox_slows_and_then_drops():
    """A thread waits a little for the loop, once; until the loop goes on the rest is dropped."""
    parcels = Line().sent(*(bytes([number]) for number in range(50)))
    line = Line(max_count=2)
    line.inbox.open()
    began_at = time.monotonic()

    for parcel in parcels:  # the loop can't take them meanwhile: this is its thread
        line.inbox.put_parcel("a", parcel)
    took = time.monotonic() - began_at
    await settle()

    assert line.received == [b"\0", b"\1"]
    assert line.counters == {"inbox_full": 48}
    assert 0.05 <= took < 0.5


async def test_a_failing_subscriber_harms_no_other_message():
    """What ``deliver`` raises is logged and counted."""
    line = Line()
    [parcel] = line.sent(b"bad")
    line.inbox.open()

    line.inbox.put_parcel("a", parcel)
    line.inbox.put_call(lambda: line.received.append(b"called"))
    await settle()

    assert line.received == [b"called"]
    assert line.counters == {"failed_delivery": 1}


@pytest.mark.parametrize("parcel", [b"", b"short", bytes(8), bytes(8) + b"\0\0\0\5four"])
async def test_what_is_no_parcel_is_dropped(parcel: bytes):
    """Bytes of somebody else are counted, nothing more."""
    line = Line()
    line.inbox.open()

    line.inbox.put_parcel("a", parcel)
    await settle()

    assert (line.received, line.counters) == ([], {"invalid_message": 1})


async def test_nothing_is_delivered_before_it_opens_and_after_it_closes():
    """What comes early waits; what comes late is ignored."""
    line = Line()
    parcels = line.sent(b"early", b"late")
    line.inbox.put_parcel("a", parcels[0])
    await settle()
    before = list(line.received)

    line.inbox.open()
    await settle()
    line.inbox.close()
    line.inbox.put_parcel("a", parcels[1])
    await settle()

    assert (before, line.received) == ([], [b"early"])
