"""A node in a process of its own: ``python -m tests.pubsub.zenoh_node URL NAME [GROUP]``.

It takes one command a line, and says one thing a line: ``started``, ``up``, ``down``, ``got``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Self

from roost.exceptions import AdapterError
from roost.pubsub.siblings import SiblingGroup
from roost.pubsub.zenoh import ZenohAdapter

REPOSITORY = Path(__file__).parents[2]


class NodeProcess:
    """One such process, seen from a test; killed at the end of its ``with`` block."""

    def __init__(self, url: str, name: str, group: str = "") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.pubsub.zenoh_node", url, name, group],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines: Queue[str] = Queue()
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.strip())

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def wait_for(self, start: str, timeout: float = 10.0) -> str:
        """The next line that starts so; what comes before it is passed over."""
        deadline = time.monotonic() + timeout
        seen: list[str] = []
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                raise AssertionError(f"expected {start!r}, got {seen[-20:]}") from None
            seen.append(line)
            if line.startswith(start):
                return line

    def said(self) -> list[str]:
        """What it said since it was last asked."""
        return [self.lines.get() for _ in range(self.lines.qsize())]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


forgotten: list[ZenohAdapter] = []  # as a global of a program would be


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


class SayLinks:
    def link_up(self, node_name: str, link: str) -> None:
        say("up", node_name, link)

    def link_down(self, link: str) -> None:
        say("down", link)

    def detached(self) -> None:
        say("detached")

    def attached(self) -> None:
        say("attached")


def start_in_a_fork(url: str) -> None:
    """What a forked child sees that starts an adapter."""

    async def start() -> None:
        try:
            await ZenohAdapter(url).start(lambda data: None, SayLinks())
        except AdapterError as error:
            say("refused", error)

    if pid := os.fork():
        say("child", os.waitpid(pid, 0)[1])
    else:
        asyncio.set_event_loop(None)
        Thread(target=asyncio.run, args=(start(),)).start()
        sys.exit(0)


async def main(url: str, name: str, group: str = "") -> None:
    adapter = ZenohAdapter(url, node_name=name, siblings=SiblingGroup(group) if group else None)
    await adapter.start(lambda data: say("got", data[:40].strip(b"\0").decode()), SayLinks())
    say("started", adapter.link)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        match line.split():
            case ["publish", text]:
                adapter.publish(text.encode())
            case ["burst", count, size]:
                for number in range(int(count)):
                    adapter.publish(str(number).encode().ljust(int(size)))
            case ["counters"]:
                say("counters", dict(adapter.counters))
            case ["close"]:
                await adapter.close()
                say("closed")
            case ["fork"]:
                start_in_a_fork(url)
            case ["forget"]:
                forgotten.append(adapter)
                return  # without close


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
