"""docs/python-client.md: its programs run against its server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from roost.client import Client
from tests.docs.guide import Guide
from tests.servers import run_uvicorn
from tests.waiting import until

GUIDE = Guide("python-client.md")


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Any, str]]:
    """The page's program, and its server."""
    guide = GUIDE.run()
    async with run_uvicorn(guide.app) as url:
        yield guide, f"{url}/socket"


@asynccontextmanager
async def running(program: Coroutine[Any, Any, Any]) -> AsyncIterator[asyncio.Task[Any]]:
    """A program that goes on for the duration of the block."""
    task = asyncio.create_task(program)
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def metas(guide: Any, name: str) -> list[dict[str, Any]]:
    entry = await guide.online.get_by_key("room:lobby", name)
    return [] if entry is None else list(entry["metas"])


async def test_hello(capsys: pytest.CaptureFixture[str]):
    """It says hello, is refused, and hears itself."""
    async with served() as (guide, url):
        heard = await asyncio.wait_for(guide.say_hello(url), 10)

    assert heard == ("new_msg", {"from": "alice", "body": "Hello!"})
    assert "refused: {'reason': 'empty'}" in capsys.readouterr().out


async def test_callbacks_and_greetings():
    """Bob hears carol greet him, and everybody who comes."""
    async with served() as (guide, url):
        heard: list[Any] = []
        async with running(guide.repeat(url, heard)), running(guide.greet(url)):
            await until(lambda: guide.online.count_users("room:lobby") == 2)
            async with Client(url, params={"name": "zoe"}) as zoe:
                await zoe.join("room:lobby")
                await until(lambda: {"from": "carol", "body": "Hello, zoe!"} in heard)


async def test_types_and_tokens():
    """A meta has the fields that were named, and a token is fetched."""
    async with served() as (guide, url):
        async with running(guide.repeat(url, [])):
            await until(lambda: guide.online.count_users("room:lobby") == 1)
            assert await guide.first_to_come(url) in ("bob", "dave")
        assert await guide.with_a_token(url) == "joined"
        assert guide.impatient.push_timeout == 3.0


async def test_following():
    """Messages are handled one after the other."""
    async with served() as (guide, url):
        heard: list[Any] = []

        async def handle(message: Any) -> None:
            heard.append(message.payload)

        async with running(guide.follow(url, handle)):
            await until(lambda: guide.online.count_users("room:lobby") == 1)
            await asyncio.to_thread(guide.shout, url, "hi")
            await until(lambda: heard == [{"from": "script", "body": "hi"}])


async def test_the_presence_of_programs():
    """A job, an agent and a device are present, and show what they do."""
    async with served() as (guide, url):
        step = asyncio.Event()

        async def page() -> None:
            step.clear()
            await step.wait()

        async def think(body: str) -> str:
            return f"You said {body}."

        job = guide.index(url, [page, page])
        agent, device = guide.assist(url, think), guide.be_a_thermometer(url, lambda: 12)
        async with running(job) as indexing, running(agent), running(device):
            await until(lambda: guide.online.count_users("room:lobby") == 3)
            step.set()
            await comes(lambda: field(guide, "indexer", "done"), 1)
            await comes(lambda: field(guide, "cellar", "celsius"), 12)
            async with Client(url, params={"name": "alice"}) as client:
                channel = await client.join("room:lobby")
                await channel.push("new_msg", {"body": "hi"})
                bodies = [(await channel.receive(10)).payload["body"] for _ in range(2)]
                assert bodies == ["hi", "You said hi."]
                await comes(lambda: field(guide, "assistant", "typing"), False)
            step.set()
            await indexing
            await until(lambda: guide.online.count_users("room:lobby") == 2)


async def field(guide: Any, name: str, key: str) -> Any:
    """A field of somebody's meta."""
    return [meta.get(key) for meta in await metas(guide, name)]


async def comes(ask: Callable[[], Awaitable[Any]], expected: Any) -> None:
    """Wait until that is the answer."""
    async with asyncio.timeout(10):
        while await ask() != [expected]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_without_await():
    """A script says something, and sees who is there."""
    async with served() as (guide, url):
        assert await asyncio.to_thread(guide.shout, url, "hi") == ["script"]


async def test_what_is_said_to_supabase():
    """The join has its configuration and a token of the moment, in version 1."""
    guide = GUIDE.run()
    said: list[Any] = []

    class FakeChannel:
        def push_nowait(self, event: str, payload: Any) -> None:
            said.append((event, payload))

    class FakeClient:
        async def join(self, topic: str, params: Any) -> Any:
            said.append((topic, await params()))
            return FakeChannel()

    async def get_access_token() -> str:
        return "jwt"

    channel = await guide.join_supabase(FakeClient(), "chat", get_access_token)
    await guide.renew(channel, get_access_token)
    guide.broadcast(channel, "say", {"n": 1})

    (topic, params), *pushes = said
    assert (topic, params["access_token"]) == ("realtime:chat", "jwt")
    assert params["config"]["presence"] == {"enabled": True, "key": "alice"}
    assert pushes == [
        ("presence", {"type": "presence", "event": "track", "payload": {"typing": False}}),
        ("access_token", {"access_token": "jwt"}),
        ("broadcast", {"type": "broadcast", "event": "say", "payload": {"n": 1}}),
    ]
    assert "supabase.co/realtime/v1/websocket" in repr(guide.supabase("project", "key"))
