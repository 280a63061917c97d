"""What is logged of what happens again and again."""

from __future__ import annotations

import asyncio

import pytest

from roost.repeats import Repeats
from tests.virtual_clock import virtually


@virtually
async def test_the_sum_of_a_burst_is_logged_when_the_minute_is_over():
    """Though nothing happens after it; then it begins anew."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    lines: list[tuple[float, str, int]] = []
    dropped = Repeats()

    def drop(what: str) -> None:
        dropped.note(lambda count: lines.append((loop.time() - start, what, count)))

    for number in range(1_000):
        drop(f"message {number}")
    await asyncio.sleep(90)
    drop("another")
    await asyncio.sleep(300)
    drop("the last")

    assert lines == [
        (0, "message 0", 1),
        (60, "message 999", 999),
        (120, "another", 1),
        (390, "the last", 1),
    ]


def test_the_sum_of_a_burst_waits_for_the_next_time_without_a_loop(
    monkeypatch: pytest.MonkeyPatch,
):
    """A thread has no timer."""
    times = iter((0.0, 1.0, 2.0, 61.0))
    counts: list[int] = []
    dropped = Repeats()
    with monkeypatch.context() as patch:
        patch.setattr("time.monotonic", lambda: next(times))
        for _ in range(4):
            dropped.note(counts.append)

    assert counts == [1, 3]
