"""One run of an endpoint: how long it takes to end."""

from __future__ import annotations

import asyncio
from typing import Any

from roost import PubSub
from roost.asgi.lifecycle.run import Run
from tests.channels.scenes import ticks


class FakeTransport:
    """A connection that is gone when the test says so."""

    is_drained = False

    def drain(self) -> None:
        self.is_drained = True


async def test_a_run_ends_when_its_last_connection_is_gone():
    """Not before: what a channel cleans up needs what the run has started."""
    run = await Run.start(PubSub(), (), filter_parameters=())
    alice, bob = connections = [FakeTransport(), FakeTransport()]
    for each in connections:
        transport: Any = each
        run.add(transport, False)

    ending = asyncio.create_task(run.end())
    await ticks()
    assert alice.is_drained
    assert bob.is_drained

    for transport in connections:
        assert not ending.done()
        run.remove(transport)
        await ticks()

    assert ending.done()
    await ending
