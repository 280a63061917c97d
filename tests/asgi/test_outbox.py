"""Who has something to write: once per tick, in turns, and each for itself."""

import asyncio

import pytest

from roost.asgi.transports.write_queue import TURN_COUNT, WriteQueue


class Writer:
    def __init__(self, flushed: list["Writer"], error: Exception | None = None) -> None:
        self._flushed = flushed
        self._error = error

    def flush(self) -> None:
        self._flushed.append(self)
        if self._error is not None:
            raise self._error


async def test_writers_are_called_when_the_tick_is_over():
    """Each in its turn, and again if it is added again."""
    outbox = WriteQueue(asyncio.get_running_loop())
    flushed: list[Writer] = []
    alice, bob = Writer(flushed), Writer(flushed)
    for _ in range(2):
        outbox.add(alice)
        outbox.add(bob)
        assert flushed == []
        await asyncio.sleep(0)
        assert flushed == [alice, bob]
        flushed.clear()


async def test_many_writers_let_others_have_their_turn():
    """Ten thousand writes do not hold up the loop."""
    outbox = WriteQueue(asyncio.get_running_loop())
    flushed: list[Writer] = []
    for _ in range(2 * TURN_COUNT + 1):
        outbox.add(Writer(flushed))
    counts = []
    for _ in range(3):
        await asyncio.sleep(0)
        counts.append(len(flushed))

    assert counts == [TURN_COUNT, 2 * TURN_COUNT, 2 * TURN_COUNT + 1]


async def test_a_writer_that_fails(caplog: pytest.LogCaptureFixture):
    """The others do not notice; the log does."""
    outbox = WriteQueue(asyncio.get_running_loop())
    flushed: list[Writer] = []
    alice, bob = Writer(flushed, OSError("gone")), Writer(flushed)
    outbox.add(alice)
    outbox.add(bob)
    await asyncio.sleep(0)

    assert flushed == [alice, bob]
    assert "writing to a connection failed" in caplog.text
