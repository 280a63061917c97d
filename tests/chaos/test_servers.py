"""How the servers that people use start and end nodes: goodbye, reload, and strangers."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests import clients
from tests.engines import free_port

ROOT = Path(__file__).parents[2]
APP = "examples.interop.app:app"
START_TIMEOUT = 30.0  # seconds
END_TIMEOUT = 5.0  # seconds, for a server and all its workers
FORGET_TIMEOUT = 1.0  # seconds until others know of a goodbye; a death takes 2 s and more

UVICORN = ("uvicorn", APP, "--port", "{port}", "--log-level", "warning")
GUNICORN = (
    *("gunicorn", APP, "-k", "uvicorn_worker.UvicornWorker"),
    *("-b", "127.0.0.1:{port}", "--log-level", "error"),
)
SERVERS = {
    "uvicorn": UVICORN,
    "uvicorn, 2 workers": (*UVICORN, "--workers", "2"),
    "gunicorn": GUNICORN,
    "gunicorn, 2 workers": (*GUNICORN, "--workers", "2"),
}


class Server:
    """A command that serves the interop app, with all processes that it makes.

    Args:
        process: Leads a session of its own.
        port: Where it serves.
    """

    def __init__(self, process: psutil.Popen, port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"

    async def nodes(self) -> dict[str, Any]:
        """Its name, and those it sees, itself included; of one of its workers."""
        async with httpx.AsyncClient(trust_env=False) as client:
            nodes: dict[str, Any] = (await client.get(f"{self.url}/nodes")).json()
            return nodes

    async def until(
        self, condition: Callable[[dict[str, Any]], bool], timeout: float = START_TIMEOUT
    ) -> dict[str, Any]:
        """Wait until ``nodes`` are as they should be."""
        deadline = time.monotonic() + timeout
        nodes: dict[str, Any] = {}
        while True:
            try:
                nodes = await self.nodes()
            except httpx.TransportError as error:
                nodes = {"error": repr(error)}
            else:
                if condition(nodes):
                    return nodes
            assert time.monotonic() < deadline, nodes
            assert self.process.poll() is None, "it has ended"
            await asyncio.sleep(0.02)

    async def terminate(self) -> None:
        """SIGTERM; all its processes are to end in time."""
        family = [self.process, *self.process.children(recursive=True)]
        self.process.terminate()
        _, left = await asyncio.to_thread(psutil.wait_procs, family, END_TIMEOUT)
        assert not left

    def kill(self) -> None:
        """End what is left of it, if anything is."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@asynccontextmanager
async def serving(server: Sequence[str], **environ: str) -> AsyncIterator[Server]:
    """Run a server on a free port for the duration of the block."""
    port = free_port()
    running = Server(start(command(server, port), **environ), port)
    try:
        yield running
    finally:
        running.kill()


def command(server: Sequence[str], port: int) -> list[str]:
    return [sys.executable, "-m", *(each.format(port=port) for each in server)]


def start(arguments: Sequence[str], **environ: str) -> psutil.Popen:
    return psutil.Popen(
        arguments,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), **environ},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.mark.parametrize("name", SERVERS)
async def test_a_server_that_is_terminated_says_goodbye(name: str):
    """It ends within seconds, also with clients, and other nodes know at once."""
    cluster = f"zenoh://127.0.0.1:{free_port()}"
    worker_count = 2 if "2 workers" in name else 1
    async with (
        serving(UVICORN, CLUSTER=cluster) as witness,
        serving(SERVERS[name], CLUSTER=cluster) as server,
    ):
        await server.until(lambda nodes: len(nodes["nodes"]) == 1 + worker_count)
        await witness.until(lambda nodes: len(nodes["nodes"]) == 1 + worker_count)
        async with clients.connect(server.url, params={"user_id": "alice"}) as alice:
            await alice.join("room:1")

            await server.terminate()

            await witness.until(lambda nodes: len(nodes["nodes"]) == 1, FORGET_TIMEOUT)


async def test_reloading_does_not_hang(tmp_path: Path):
    """With --reload a change of the code starts a new process, though clients are connected."""
    code = tmp_path / "reloaded.py"
    code.write_text("from examples.interop.app import app as app\n")
    command = ("uvicorn", "reloaded:app", "--app-dir", str(tmp_path), *UVICORN[2:])
    options = ("--reload", "--reload-dir", str(tmp_path))
    cluster = f"zenoh://127.0.0.1:{free_port()}"
    async with serving((*command, *options), CLUSTER=cluster) as server:
        first = await server.until(lambda nodes: True)
        async with clients.connect(server.url, params={"user_id": "alice"}) as alice:
            await alice.join("room:1")

            def is_reloaded(nodes: dict[str, Any]) -> bool:
                code.touch()  # again and again: the reloader may not have looked for the first time
                return bool(nodes["name"] != first["name"])

            second = await server.until(is_reloaded)
            assert second["nodes"] == [second["name"]]
        await server.terminate()


async def test_apps_of_one_shell_do_not_mesh():
    """Two servers that a shell starts side by side see their own workers, and nobody else."""
    ports = [free_port(), free_port()]
    servers = (UVICORN, (*UVICORN, "--workers", "2"))
    commands = [
        shlex.join(command(server, port)) for server, port in zip(servers, ports, strict=True)
    ]
    shell = start(["/bin/sh", "-c", " & ".join([*commands, "wait"])])
    single, pair = (Server(shell, port) for port in ports)
    try:
        both = await pair.until(lambda nodes: len(nodes["nodes"]) == 2)
        alone = await single.until(lambda nodes: True)
        assert alone["nodes"] == [alone["name"]]
        assert alone["name"] not in both["nodes"]
    finally:
        single.kill()
