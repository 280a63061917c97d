"""`roost serve` in a process of its own: what is served how, and how it ends."""

import asyncio
import gc
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest

from tests.clients import connect, refusal
from tests.rfc6455.wire import CLOSE, open_wire
from tests.servers import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits are Unix's")


HOW = {
    "is_fast": True,
    "loop": "uvloop",
    "network": "uvloop.loop",
    "has_all_files": True,
    "collects_every": 10_000,
    "refused": {},
}


class Served:
    """A running server.

    Attributes:
        url: Where it listens.
        log: Its lines so far; all of them once it has ended.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.url = ""
        self.log: list[str] = []

    async def read_until(self, pattern: str) -> re.Match[str]:
        """Read its log up to a line."""
        assert self._process.stdout is not None
        while line := (await self._process.stdout.readline()).decode():
            self.log.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"expected {pattern!r} in its log:\n{''.join(self.log)}")

    async def terminate(self) -> int:
        """Ask it to end, and wait until it has."""
        assert self._process.stdout is not None
        self._process.terminate()
        async with asyncio.timeout(20):
            self.log += (await self._process.stdout.read()).decode().splitlines(keepends=True)
            return await self._process.wait()


@asynccontextmanager
async def serve(*arguments: str) -> AsyncIterator[Served]:
    """Run `roost serve` on a free port for the duration of the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "roost.cli", "serve", *arguments, "--port", "0"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    served = Served(process)
    try:
        async with asyncio.timeout(20):
            served.url = (await served.read_until(r"running on (http://[\d.:]+)"))[1]
        yield served
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def test_how_it_is_served():
    """With the fast path, on uvloop, with all files allowed, and a collector that runs less."""
    async with serve("tests.cli.app:app") as served, connect(served.url) as alice:
        answer = await alice.join("info")

    assert answer == HOW


@pytest.mark.parametrize(
    ("loop", "difference"),
    [
        (
            "asyncio",
            {
                "loop": "asyncio.unix_events",
                "network": "asyncio.base_events",
                "collects_every": gc.get_threshold()[0],
            },
        ),
        ("roost.cli.worker:new_fast_event_loop", {"network": "aiofastnet.api_create_server"}),
    ],
)
async def test_the_loop_of_a_choice(loop: str, difference: dict[str, Any]):
    """Another loop has the collector as Python has it; the faster transports are asked for."""
    async with (
        serve("tests.cli.app:app", "--loop", loop) as served,
        connect(served.url) as alice,
    ):
        answer = await alice.join("info")

    assert answer == HOW | difference


async def test_any_option_of_uvicorn():
    """Factories, prefixes, and other WebSockets, if they are asked for."""
    options = ("--factory", "--root-path", "/api", "--ws", "websockets-sansio")
    async with (
        serve("tests.cli.app:make", *options) as served,
        connect(served.url) as alice,
    ):
        assert (await alice.join("info"))["is_fast"] is False


async def test_the_access_log():
    """There is none by default, and tokens are masked in the one that is asked for."""
    for options, lines in ((), 0), (("--access-log",), 3):
        async with serve("tests.cli.app:app", *options) as served:
            async with httpx.AsyncClient() as http:
                await http.get(f"{served.url}/health?api_token=abc")
            async with connect(served.url, params={"token": "abc", "n": "1"}):
                pass
            await refusal(served.url, "/other", params={"token": "abc"})
            await served.terminate()

        log = "".join(served.log)
        assert "abc" not in log
        assert log.count("token=[FILTERED]") == lines


async def test_tokens_are_masked_without_the_fast_path():
    """uvicorn's own WebSockets are logged even without an access log."""
    async with serve("tests.cli.app:app", "--ws", "websockets-sansio") as served:
        async with connect(served.url, params={"token": "abc", "n": "1"}):
            pass
        await served.terminate()

    log = "".join(served.log)
    assert "abc" not in log
    assert log.count("token=[FILTERED]") == 1


async def test_clients_are_told_to_come_back_before_the_process_ends():
    """Clients are told to come back (1012), then the process ends."""
    async with serve("tests.cli.app:app") as served, connect(served.url) as alice:
        await alice.join("info")
        ending = asyncio.create_task(served.terminate())

        assert await alice.closed() == 1012
        assert await ending in (0, -signal.SIGTERM)


async def test_the_end_has_a_bound():
    """A client that does not answer holds the end up no longer than is allowed."""
    options = ("--timeout-graceful-shutdown", "1")
    async with (
        serve("tests.cli.app:app", *options) as served,
        open_wire(f"{served.url}/socket/websocket?vsn=2.0.0") as wire,
    ):
        ending = asyncio.create_task(served.terminate())

        heard = await wire.hear()
        assert (heard.opcode, heard.data) == (CLOSE, b"\x03\xf4")
        async with asyncio.timeout(8):  # the ten seconds of the closing handshake are not waited
            assert await ending in (0, -signal.SIGTERM)


async def test_several_workers_are_served_alike_and_end_together():
    """They are served alike, and end together."""
    async with serve("tests.cli.app:app", "--workers", "2") as served:
        async with asyncio.timeout(20):
            await served.read_until("startup complete")
            await served.read_until("startup complete")
        for _ in range(4):
            async with connect(served.url) as alice:
                assert await alice.join("info") == HOW
        assert await served.terminate() == 0


async def test_bounds_of_connections():
    """They are options, and hold in each process; the endpoint's health tells what was over."""
    options = ("--max-connections", "1", "--head-timeout", "5")
    async with (
        serve("tests.cli.app:app", *options) as served,
        connect(served.url) as alice,
    ):
        await alice.join("info")
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"{served.url}/health")

        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        assert (await alice.join("info"))["refused"] == {"connections_full": 1}
