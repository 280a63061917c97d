"""Starts a server on a free port and its own core, and ends it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import psutil

from bench.load.dialects import Dialect, Phoenix
from bench.load.shares import use_core
from bench.load.target import Target
from roost.cli.limits import raise_file_limit

__all__ = ["SERVER_CORE", "Command", "NotStarted", "Server", "free_port", "start"]

ROOT: Final = Path(__file__).parents[2]
SERVER_CORE: Final = 0
START_TIMEOUT: Final = 20.0  # seconds
STOP_TIMEOUT: Final = 3.0  # seconds: there is nothing worth a graceful end

Command = Callable[[int], Sequence[str]]
"""Makes a command line for a port."""


class NotStarted(Exception):
    """A server did not come up; what it printed is in the notes."""


@dataclass(frozen=True)
class Server:
    """A server that can be measured.

    Args:
        name: In the tables.
        about: What it is, in half a sentence.
        command: Starts it.
        dialect: How one talks to it.
        has_presence: ``room:*`` are topics with presence.
        needs_redis: It is given REDIS, the URL of a redis-server of its own.
        missing: Says what is not installed, None if everything is.
    """

    name: str
    about: str
    command: Command
    dialect: Dialect = Phoenix()  # noqa: RUF009 # has no state
    has_presence: bool = False
    needs_redis: bool = False
    missing: Callable[[], str | None] = lambda: None


@contextmanager
def start(server: Server) -> Iterator[Target]:
    """Start a server; yields once it answers, and kills it at the end.

    Whatever fails meanwhile is given the last line that the server has printed as a note.

    Raises:
        NotStarted: Something is not installed, or the process ended or stayed silent.
    """
    if missing := server.missing():
        raise NotStarted(missing)
    with ExitStack() as stack:
        pids = []
        environment = {"CLUSTER": "local"}
        if server.needs_redis:
            redis = shutil.which("redis-server")
            if redis is None:
                raise NotStarted("redis-server is not installed")
            port = free_port()
            options = ["--port", str(port), "--save", "", "--appendonly", "no"]
            pids.append(stack.enter_context(_process([redis, *options], port, {})))
            environment["REDIS"] = f"redis://127.0.0.1:{port}"
        port = free_port()
        pids.append(stack.enter_context(_process(server.command(port), port, environment)))
        yield Target(f"http://127.0.0.1:{port}", server.dialect, server.has_presence, pids)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def _process(command: Sequence[str], port: int, more: Mapping[str, str]) -> Iterator[int]:
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "NODE_ENV": "production", **more}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_prepare,
        )
        try:
            _wait_for(process, port)
            yield process.pid
        except Exception as failure:
            output.seek(0)
            failure.add_note("".join(output.read().strip().splitlines()[-1:]))
            raise
        finally:
            _end(process)


def _prepare() -> None:
    use_core(SERVER_CORE)
    raise_file_limit()


def _wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = monotonic() + START_TIMEOUT
    while monotonic() < deadline:
        if process.poll() is not None:
            raise NotStarted(f"it ended with {process.returncode}")
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        sleep(0.05)
    raise NotStarted(f"nobody listens after {START_TIMEOUT:g} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill it and its children: it is started anew for everything that is measured."""
    family = []
    with suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for child in family:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait(STOP_TIMEOUT)
    psutil.wait_procs(family, STOP_TIMEOUT)
