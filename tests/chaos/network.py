"""Where nodes live: on the loopback, or each on a network of its own that can be cut.

The full form needs cuts that look like cuts: packets vanish, and nobody is told. So each node has
a network namespace with two ways out, *front* for its clients and *back* for other nodes and the
engine. A cut takes the node's port off the bridge that is the back; a cut of one direction gives
one end of that port a queue without room. All of it, processes included, lies in namespaces of this
process (``enter``), so that nothing is left behind however it ends, and no right is needed but to
make user namespaces.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Final, Literal, Protocol, TypeAlias

from tests.engines import free_port

__all__ = ["DIRECTIONS", "Direction", "Loopback", "Namespaces", "Network", "enter"]

_ENTERED = "ROOST_CHAOS_ENTERED"

Direction: TypeAlias = Literal["from", "to"]
"""Of a node's packets: those that it sends, or those that are sent to it."""

DIRECTIONS: Final[tuple[Direction, ...]] = ("from", "to")


class Network(Protocol):
    """Places for nodes, by number from 1."""

    engine_host: str

    def add(self, number: int) -> None:
        """Make a place."""
        ...

    def front(self, number: int) -> tuple[str, int]:
        """Where the node listens for clients."""
        ...

    def back(self, number: int) -> tuple[str, int]:
        """Where it listens for other nodes."""
        ...

    def command(self, number: int) -> list[str]:
        """What to put before a command so that it runs there."""
        ...


class Loopback:
    """All nodes on 127.0.0.1, at ports of their own."""

    engine_host = "127.0.0.1"

    def __init__(self) -> None:
        self._ports: dict[int, tuple[int, int]] = {}

    def add(self, number: int) -> None:
        self._ports[number] = free_port(), free_port()

    def front(self, number: int) -> tuple[str, int]:
        return "127.0.0.1", self._ports[number][0]

    def back(self, number: int) -> tuple[str, int]:
        return "127.0.0.1", self._ports[number][1]

    def command(self, number: int) -> list[str]:
        return []


class Namespaces:
    """Each node in a network namespace; this process and the engine are at host 254."""

    engine_host = "10.9.0.254"

    def __init__(self) -> None:
        self._made: set[int] = set()
        _ip("link", "set", "lo", "up")
        for bridge, net in (("back", "10.9.0"), ("front", "10.8.0")):
            _ip("link", "add", bridge, "type", "bridge")
            _ip("link", "set", bridge, "up")
            _ip("address", "add", f"{net}.254/24", "dev", bridge)

    def add(self, number: int) -> None:
        if number in self._made:  # by an earlier run, which may have ended in a cut
            self.heal(number)
            return
        self._made.add(number)
        space = f"node-{number}"
        _ip("netns", "add", space)
        _ip("-n", space, "link", "set", "lo", "up")
        for bridge, net in (("back", "10.9.0"), ("front", "10.8.0")):
            port = f"{bridge}-{number}"
            _ip("link", "add", port, "type", "veth", "peer", "name", bridge, "netns", space)
            _ip("link", "set", port, "master", bridge, "up")
            _ip("-n", space, "address", "add", f"{net}.{number}/24", "dev", bridge)
            _ip("-n", space, "link", "set", bridge, "up")

    def front(self, number: int) -> tuple[str, int]:
        return f"10.8.0.{number}", 4000

    def back(self, number: int) -> tuple[str, int]:
        return f"10.9.0.{number}", 7447

    def command(self, number: int) -> list[str]:
        return [_find("ip"), "netns", "exec", f"node-{number}"]

    def cut(self, number: int) -> None:
        """From now on no packet passes between a node and all others."""
        _ip("link", "set", f"back-{number}", "nomaster")

    def cut_one_way(self, number: int, direction: Direction) -> None:
        """From now on packets pass in one direction only: those from the node vanish, or to it."""
        self._queue(number, direction, 0)

    def heal(self, number: int) -> None:
        _ip("link", "set", f"back-{number}", "master", "back")
        for direction in DIRECTIONS:
            self._queue(number, direction, 1000)

    @staticmethod
    def _queue(number: int, direction: Direction, length: int) -> None:
        """Give the end of a node's port that sends in this direction room for so many packets."""
        space = ["-n", f"node-{number}"] if direction == "from" else []
        device = "back" if direction == "from" else f"back-{number}"
        _tc(*space, "qdisc", "replace", "dev", device, "root", "pfifo", "limit", str(length))


def enter() -> None:
    """Go on in namespaces of this process's own: start it again there, with its arguments.

    Raises:
        SystemExit: This system has none.
    """
    if os.environ.get(_ENTERED):
        # What names the namespaces of nodes lies in /run, and goes with this process.
        subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
        return
    unshare = shutil.which("unshare")
    ways: tuple[list[str], ...] = (
        [],
        ["--user", "--map-root-user"],
    )  # as root; else as root of a namespace
    for way in ways:
        command = [unshare or "unshare", *way, "--net", "--mount", "--pid", "--fork"]
        command += ["--mount-proc", "--kill-child"]
        if unshare and subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            module = [sys.executable, "-m", "tests.chaos", *sys.argv[1:]]
            os.execve(unshare, [*command, *module], {**os.environ, _ENTERED: "1"})
    raise SystemExit("the full form needs Linux, with unshare, ip and network namespaces")


def _find(program: str) -> str:
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        raise SystemExit(f"no {program}: install iproute2")
    return path


def _ip(*arguments: str) -> None:
    subprocess.run([_find("ip"), *arguments], check=True)


def _tc(*arguments: str) -> None:
    subprocess.run([_find("tc"), *arguments], check=True)
