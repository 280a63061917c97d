"""Connections are closed in batches when an endpoint stops."""

import asyncio
import logging

import pytest

from roost import Drainer
from roost.asgi.drainer import drain, resolve
from tests.virtual_clock import virtually


class FakeConnection:
    """Notes when it was drained."""

    def __init__(self) -> None:
        self.drained_at: float | None = None

    def drain(self) -> None:
        self.drained_at = asyncio.get_running_loop().time()


@virtually
async def test_each_batch_is_closed_at_once_with_an_interval_between_two():
    """Each batch is closed at once, with an interval between two of them, none after the last."""
    connections = [FakeConnection() for _ in range(5)]

    await drain(connections, Drainer(batch_size=2, batch_interval=3.0))

    assert [each.drained_at for each in connections] == [0, 0, 3, 3, 6]
    assert asyncio.get_running_loop().time() == 6


@virtually
async def test_a_shutdown_that_takes_too_long():
    """Towards the timeout nobody waits any more."""
    connections = [FakeConnection() for _ in range(5)]

    await drain(connections, Drainer(batch_size=1, batch_interval=2.0, shutdown_timeout=5.0))

    assert [each.drained_at for each in connections] == [0, 2, 4, 4, 4]


@virtually
async def test_batches_are_logged(caplog: pytest.LogCaptureFixture):
    """The log says how far it is."""
    caplog.set_level(logging.INFO)

    await drain([FakeConnection()] * 3, Drainer(batch_size=2, batch_interval=0))

    assert [each.getMessage() for each in caplog.records] == [
        "draining 2 of 3 connections",
        "draining 1 of 3 connections",
    ]


@virtually
async def test_nobody_to_drain():
    """It takes no time."""
    await drain([], Drainer())

    assert asyncio.get_running_loop().time() == 0


@pytest.mark.conforms("SKT-9")
def test_a_drainer_closes_ten_thousand_every_two_seconds_by_default():
    """A drainer is what it is; by default it closes 10,000 connections every two seconds."""
    drainer = Drainer(batch_size=7)

    assert resolve(drainer) is drainer
    assert Drainer() == Drainer(batch_size=10_000, batch_interval=2.0, shutdown_timeout=30.0)


@pytest.mark.conforms("SKT-10")
def test_a_function_of_options():
    """It is asked each time."""
    sizes = iter([1, 2])

    def drainer() -> Drainer:
        return Drainer(batch_size=next(sizes))

    assert resolve(drainer) == Drainer(batch_size=1)
    assert resolve(drainer) == Drainer(batch_size=2)


@pytest.mark.conforms("SKT-11")
def test_without_a_drainer_there_are_no_batches():
    """False means that there are no batches."""
    assert resolve(False) is None
