"""Engines between nodes, and nodes in processes of their own, for the benchmarks of clusters."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import psutil

from bench.servers.process import free_port

__all__ = ["ENGINES", "NodeProcess", "engine_running", "enter_namespace", "is_in_namespace", "say"]

ENGINES: Final = ("zenoh", "redis", "nats")
_ENTERED: Final = "ROOST_BENCH_ENTERED"


def say(**said: object) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


class NodeProcess:
    """A node in a process of its own, which reads commands and says what came of them.

    Args:
        module: What it runs.
        arguments: Of that.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        self.process = psutil.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, *words: object) -> None:
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def wait_for(self, **wanted: object) -> dict[str, Any]:
        """The next thing said that has these, or has their names if they are None."""
        while True:
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError("a node has ended")
            said: dict[str, Any] = json.loads(line)
            if all(name in said and value in (None, said[name]) for name, value in wanted.items()):
                return said

    def end(self) -> None:
        with suppress(OSError):
            self.process.send_signal(signal.SIGCONT)
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except psutil.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


@contextmanager
def engine_running(name: str) -> Iterator[str]:
    """An engine that runs for the duration of the block; yields its URL."""
    port = free_port()
    url = f"{name}://127.0.0.1:{port}"
    if name == "zenoh":
        yield url
        return
    commands = {
        "redis": ("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", ""),
        "nats": ("nats-server", "--port", port, "--addr", "127.0.0.1"),
    }
    program, *options = map(str, commands[name])
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        raise SystemExit(f"no {program} here: scripts/find-engines says where to get it")
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        process = subprocess.Popen([path, *options], cwd=folder, stdout=nowhere, stderr=nowhere)
        try:
            _wait_for_port(port)
            yield url
        finally:
            process.kill()
            process.wait()


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def enter_namespace() -> None:
    """Start this program again in a network namespace of its own, if that can be had."""
    unshare, ip = shutil.which("unshare"), shutil.which("ip", path=os.defpath + ":/usr/sbin:/sbin")
    if os.environ.get(_ENTERED):
        return
    if unshare and ip:
        enter = [unshare, "--user", "--map-root-user", "--net"]
        up = ["sh", "-c", f'{ip} link set lo up && exec "$@"', "sh"]
        if subprocess.run([*enter, *up, "true"], capture_output=True).returncode == 0:
            command = [*enter, *up, sys.executable, "-m", "bench", *sys.argv[1:]]
            os.execve(unshare, command, {**os.environ, _ENTERED: "1"})


def is_in_namespace() -> bool:
    """Whether the loopback is ours alone."""
    return bool(os.environ.get(_ENTERED))
