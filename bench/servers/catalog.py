"""Which servers are compared, and how each is started."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Final

from bench.load.dialects import SocketIO
from bench.servers.process import ROOT, Command, Server

__all__ = ["BARE", "ROOST", "SERVERS", "from_command"]

INTEROP: Final = "examples.interop.app:app"


def _uvicorn(app: str) -> Command:
    options = ["--log-level", "error", "--no-access-log", "--ws-per-message-deflate", "false"]
    options += ["--ws-ping-interval", "0", "--backlog", "4096"]
    return lambda port: [sys.executable, "-m", "uvicorn", app, "--port", str(port), *options]


def _hypercorn(port: int) -> Sequence[str]:
    options = ["--worker-class", "uvloop", "--backlog", "4096", "--log-level", "ERROR"]
    bind = ["--bind", f"127.0.0.1:{port}"]
    return [sys.executable, "-m", "hypercorn", INTEROP, *bind, *options]


def _granian(port: int) -> Sequence[str]:
    options = ["--interface", "asgi", "--loop", "uvloop", "--backlog", "4096"]
    options += ["--log-level", "error", "--port", str(port)]
    return [sys.executable, "-m", "granian", *options, INTEROP]


def _serve(*more: str) -> Command:
    options = ["--log-level", "error", "--backlog", "4096", *more]
    serve = [sys.executable, "-m", "roost.cli", "serve", INTEROP, *options]
    return lambda port: [*serve, "--port", str(port)]


def _node(file: str) -> Command:
    return lambda port: [shutil.which("node") or "node", f"bench/servers/{file}", str(port)]


def _needs(*modules: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        absent = [name for name in modules if find_spec(name) is None]
        return f"not installed: {', '.join(absent)}" if absent else None

    return missing


def _needs_node(package: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        if shutil.which("node") is None:
            return "not installed: Node.js"
        if not (ROOT / "bench/node_modules" / package).is_dir():
            return f"not installed: {package}"
        return None

    return missing


ROOST: Final = Server(
    "roost, uvicorn", "the interop app on plain ASGI", _uvicorn(INTEROP), has_presence=True
)
BARE: Final = Server(
    "bare, uvicorn", "uvicorn's WebSockets and a dict", _uvicorn("bench.servers.bare:app")
)
SERVERS: Final = (
    Server(
        "roost serve",
        "the interop app on the fast path",
        _serve(),
        has_presence=True,
    ),
    Server(
        "roost serve, aiofastnet",
        "the same, with other transports below",
        _serve("--loop", "roost.cli.worker:new_fast_event_loop"),
        has_presence=True,
        missing=_needs("aiofastnet"),
    ),
    ROOST,
    Server(
        "roost, hypercorn",
        "the interop app on plain ASGI",
        _hypercorn,
        has_presence=True,
        missing=_needs("hypercorn"),
    ),
    Server(
        "roost, granian",
        "the interop app on plain ASGI; two threads of Rust beside Python",
        _granian,
        has_presence=True,
        missing=_needs("granian"),
    ),
    BARE,
    Server(
        "bare, picows",
        "WebSockets in C and a dict; no ASGI",
        lambda port: [sys.executable, "-m", "bench.servers.bare_picows", str(port)],
        missing=_needs("picows", "uvloop"),
    ),
    Server(
        "python-socketio",
        "rooms of Socket.IO, on uvicorn",
        _uvicorn("bench.servers.socketio_app:app"),
        SocketIO(),
        missing=_needs("socketio"),
    ),
    Server(
        "Django Channels",
        "a consumer and groups in redis-server, on uvicorn",
        _uvicorn("bench.servers.channels_app:app"),
        needs_redis=True,
        missing=_needs("channels", "channels_redis"),
    ),
    Server(
        "socket.io, Node",
        "rooms of Socket.IO",
        _node("socketio.mjs"),
        SocketIO(),
        missing=_needs_node("socket.io"),
    ),
    Server("ws, Node", "`ws` and a map", _node("ws.mjs"), missing=_needs_node("ws")),
)


def from_command(text: str) -> Server:
    """A server of the interop app's shape, spelled ``name=command line with {port}``.

    Example:
        >>> from_command("mine=serve-it --port {port}").command(4000)
        ['serve-it', '--port', '4000']
    """
    name, found, line = text.partition("=")
    if not found or "{port}" not in line:
        raise ValueError(f"expected name=command with {{port}} in it, got {text!r}")
    return Server(
        name,
        f"`{line}`",
        lambda port: shlex.split(line.replace("{port}", str(port))),
        has_presence=True,
    )
