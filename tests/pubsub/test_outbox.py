"""The bounded queue between publishing and an engine."""

import asyncio
from collections import Counter

import pytest

from roost.pubsub.broker.outbox import BATCH_SIZE, RUN_COUNT, RUN_SIZE, Outbox

ALL = ("all",)
BOB = ("node", "bob")


def outbox(*, max_count: int = 10_000, max_size: int = 10_000_000) -> Outbox:
    return Outbox(max_count=max_count, max_size=max_size, counters=Counter())


async def test_messages_come_out_in_order():
    """Messages for one address are together only if nothing for another came in between."""
    box = outbox()
    for address, message in [(ALL, b"1"), (ALL, b"2"), (BOB, b"3"), (ALL, b"4")]:
        box.put(address, message)

    assert await box.take() == [(ALL, [b"1", b"2"]), (BOB, [b"3"]), (ALL, [b"4"])]


async def test_taking_waits_for_a_message():
    """Nothing is taken until there is something."""
    box = outbox()
    taking = asyncio.create_task(box.take())
    await asyncio.sleep(0)
    assert not taking.done()
    box.put(ALL, b"1")

    assert await taking == [(ALL, [b"1"])]


async def test_the_bound_of_count(caplog: pytest.LogCaptureFixture):
    """At the bound the new message is dropped, counted and logged, those that wait are kept."""
    box = outbox(max_count=2)
    for message in (b"1", b"2", b"3"):
        box.put(ALL, message)

    assert box.counters == {"outbox_full": 1}
    assert await box.take() == [(ALL, [b"1", b"2"])]
    assert caplog.messages == [
        "the engine is too slow: dropped 1 messages for other nodes, 2 of 2 wait"
    ]


async def test_the_bound_of_size():
    """Bytes are bounded, too, and free again once they were taken."""
    box = outbox(max_size=10)
    box.put(ALL, b"x" * 6)
    box.put(ALL, b"y" * 6)
    assert (len(box), box.size, box.counters) == (1, 6, {"outbox_full": 1})
    await box.take()
    box.put(ALL, b"y" * 6)

    assert (len(box), box.size) == (1, 6)


async def test_a_message_over_the_bound_is_too_large():
    """A message that could never wait is told apart from one that came at a bad time."""
    box = outbox(max_size=10)
    box.put(ALL, b"x" * 11)

    assert box.counters == {"too_large": 1}
    assert len(box) == 0


async def test_what_is_together_is_bounded():
    """No more than RUN_COUNT messages or RUN_SIZE bytes are for one address together."""
    box = outbox()
    for _ in range(RUN_COUNT + 1):
        box.put(ALL, b"")
    assert [len(messages) for _, messages in await box.take()] == [RUN_COUNT, 1]
    for _ in range(3):
        box.put(ALL, b"x" * (RUN_SIZE // 2))

    assert [len(messages) for _, messages in await box.take()] == [2, 1]


async def test_a_batch_is_bounded():
    """About BATCH_SIZE bytes are taken at once, the rest with the next."""
    box = outbox()
    for _ in range(3):
        box.put(ALL, b"x" * (BATCH_SIZE // 2))

    assert sum(len(messages) for _, messages in await box.take()) == 2
    assert sum(len(messages) for _, messages in await box.take()) == 1


async def test_it_is_empty_once_the_engine_has_everything():
    """What was taken counts as waiting until it was sent."""
    box = outbox()
    await box.emptied()
    box.put(ALL, b"1")
    emptied = asyncio.create_task(box.emptied())
    await box.take()
    await asyncio.sleep(0)
    assert not emptied.done()
    box.sent()

    await emptied


async def test_dropping_tells_what_may_have_arrived_from_what_has_not():
    """What waits is dropped for a reason; what was taken may have arrived, or not."""
    box = outbox()
    box.put(ALL, b"1")
    box.put(ALL, b"2")
    await box.take()
    box.put(ALL, b"3")
    box.drop_all("detached")

    assert box.counters == {"detached": 1, "unconfirmed": 2}
    assert (len(box), box.size) == (0, 0)
    await box.emptied()
    box.put(ALL, b"4")
    assert await box.take() == [(ALL, [b"4"])]
