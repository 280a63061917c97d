"""What ends is freed at once: nothing of roost is left for the garbage collector to find.

A server whose objects all live long collects seldom; until then garbage would be memory.
"""

import asyncio
import gc
import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from roost import Channel, Endpoint, JoinRefused, Presence, Socket, event
from tests.clients import Client, connect
from tests.servers import run_uvicorn
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("each_path")

online = Presence()


class RoomChannel(Channel):
    shutdown_timeout = 0.05

    async def join(self, topic: str, params: Any) -> None:
        if topic == "room:secret":
            raise JoinRefused({"reason": "secret"})
        await asyncio.sleep(0)

    async def after_join(self) -> None:
        self.subscribe("news")
        self.send_after(0, "soon")
        await online.enter(self, self.join_params["name"])

    def handle_info(self, message: Any) -> None:
        pass

    @event("ping")
    async def ping(self, payload: Any) -> Any:
        await asyncio.sleep(0)
        return payload

    @event("crash")
    def crash(self, payload: Any) -> None:
        raise ValueError("as planned")

    @event("wait")
    async def wait(self, payload: Any) -> None:
        self.spawn(asyncio.sleep(60))
        self.send_after(60, "late")
        await asyncio.sleep(60)


class UserSocket(Socket):
    channels = {"room:*": RoomChannel}

    def id(self) -> str:
        return "users:1"


@pytest.fixture
def collector() -> Iterator[None]:
    """The collector off, so that what only it frees stays to be found."""
    gc.collect()
    gc.disable()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


def garbage() -> Counter[str]:
    """Objects of the package and of this module that nobody can reach, by type."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    kinds = [type(each) for each in gc.garbage]
    gc.garbage.clear()
    return Counter(
        kind.__qualname__ for kind in kinds if kind.__module__.startswith(("roost", __name__))
    )


async def come_and_go(client: Client, name: str) -> None:
    """Join, talk, join anew, crash, be refused, and leave one room and not the other."""
    for topic in ("room:1", "room:2", "room:1"):
        await client.join(topic, {"name": name})
        await client.receive("presence_state")
        assert await client.ask(topic, "ping", {"n": 1}) == {"n": 1}
    await client.push("room:2", "crash")
    await client.receive("phx_error")
    await client.push("room:secret", "phx_join", {"name": name})
    await client.receive("phx_reply")
    await client.join("room:2", {"name": name})
    await client.push("room:2", "wait")


@pytest.mark.usefixtures("collector")
async def test_a_connection_leaves_no_garbage(caplog: pytest.LogCaptureFixture):
    """Whether its channels left, crashed, were replaced, or were busy when the client went."""
    caplog.set_level(logging.CRITICAL, "roost")  # records of crashes hold their tracebacks
    endpoint = Endpoint({"/socket": UserSocket}, presences=[online])
    async with run_uvicorn(endpoint) as url:
        task_count = len(asyncio.all_tasks())
        for number in range(5):
            async with connect(url) as client:
                await come_and_go(client, f"user{number}")
            await until(lambda: len(asyncio.all_tasks()) == task_count)
            assert endpoint.connection_count == 0
            found = garbage()

    assert found == Counter()
