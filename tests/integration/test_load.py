"""Five thousand connections come, join, leave and go, and leave nothing behind."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest

from tests.crowd import ROOM_SIZE
from tests.servers import ROOT, run_process

pytestmark = pytest.mark.usefixtures("each_path")

CONNECTION_COUNT = 5_000
ROOM_COUNT = CONNECTION_COUNT // ROOM_SIZE
MAX_ROUND_COUNT = 12
MAX_GROWTH = 5_000_000  # bytes: one kilobyte for each connection, of the 12 to 25 that it takes
MAX_OBJECTS = 500  # a tenth of an object for each connection


class Stats(msgspec.Struct):
    """What the server says of itself.

    `memory` is what the system sees: it holds what bursts needed, and settles after some rounds.
    `objects` are those that Python's garbage collector knows: they must not grow at all.
    """

    connections: int
    subscriptions: int
    presences: int
    dropped: dict[str, int]
    tasks: int
    files: int
    objects: int
    memory: int

    @property
    def open(self) -> tuple[int, ...]:
        """What is open."""
        return self.connections, self.subscriptions, self.presences, self.tasks, self.files


@asynccontextmanager
async def run_crowd(url: str) -> AsyncIterator[Callable[..., Awaitable[None]]]:
    """The connections, in a process of their own; yields what makes them do something."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.crowd", url, str(CONNECTION_COUNT)),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None

    async def do(*commands: str) -> None:
        for command in commands:
            stdin.write(f"{command}\n".encode())
            assert await stdout.readline() == b"done\n", f"{command} failed"

    try:
        yield do
    finally:
        stdin.close()
        await process.wait()


@pytest.mark.timeout(300)  # for machines that do other things, too
async def test_thousands_of_connections_leave_nothing_behind():
    """Rounds of joins and leaves cost no memory, no task, no file; nor does coming and going."""
    async with (
        run_process("tests.integration.load_app:app") as (url, _),
        httpx.AsyncClient(timeout=60) as http,
        run_crowd(url) as do,
    ):

        async def stats() -> Stats:
            response = await http.get(f"{url}/stats?rooms={ROOM_COUNT}")
            return msgspec.json.decode(response.content, type=Stats)

        at_first = await stats()
        await do("connect")
        connected = await stats()
        assert connected.connections == CONNECTION_COUNT
        assert connected.files - at_first.files == CONNECTION_COUNT

        rounds: list[Stats] = []
        while not _has_settled(rounds):
            assert len(rounds) < MAX_ROUND_COUNT, [each.memory for each in rounds]
            await do("join")
            joined = await stats()
            assert joined.subscriptions == joined.presences == CONNECTION_COUNT
            await do("leave")
            rounds.append(await stats())
            assert rounds[-1].open == connected.open
        assert rounds[-1].objects - rounds[1].objects < MAX_OBJECTS

        await do("close")
        empty = [await stats()]
        while not _has_peaked(empty):
            assert len(empty) < MAX_ROUND_COUNT, [each.memory for each in empty]
            await do("connect", "join", "close")
            empty.append(await stats())
            assert empty[-1].open == at_first.open
        assert empty[-1].objects - empty[0].objects < MAX_OBJECTS
        assert empty[-1].dropped == {}


def _has_peaked(rounds: list[Stats]) -> bool:
    """Whether the last round left no more behind than one before; how much of what is free goes
    back to the system is chance, so that less may have been left once.
    """
    return (
        len(rounds) > 1
        and rounds[-1].memory - max(each.memory for each in rounds[:-1]) < MAX_GROWTH
    )


def _has_settled(rounds: list[Stats]) -> bool:
    """Whether the last three rounds cost no memory; the first ones find out what a burst needs."""
    return len(rounds) > 3 and rounds[-1].memory - rounds[-4].memory < MAX_GROWTH
