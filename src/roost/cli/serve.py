"""``roost serve``: uvicorn's own command, with the front door, the fast path and other defaults.

Every option of uvicorn works, from the command line and as an environment variable (UVICORN_PORT).
What they are by default differs, the limit of open files is raised first, and there are options of
its own: the bounds of the front door. These go to the server's processes by the environment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from roost.cli.limits import raise_file_limit

if TYPE_CHECKING:
    import click

__all__ = ["DEFAULTS", "serve"]

DEFAULTS: Final[dict[str, Any]] = {
    "ws": "roost.asgi.uvicorn:DeflateProtocol",  # which only says that the option below is meant
    "http": "roost.asgi.uvicorn:HttpProtocol",
    "loop": "roost.cli.worker:new_event_loop",
    "backlog": 2048,  # connections that the system holds until the server gets to them
    # Deflate takes 51 to 124 kB for each connection.
    "ws_per_message_deflate": False,
    # As in Phoenix: clients send heartbeats, and are closed after 60 s of silence.
    "ws_ping_interval": 0,
    # Seconds for clients to go; then handlers and the goodbye to other nodes have their own.
    "timeout_graceful_shutdown": 10,
    # A line for each request costs more than many requests do.
    "access_log": False,
    # Where it is asked for, tokens in queries are masked.
    "log_config": str(Path(__file__).with_name("logging.json")),
}

# The fields of ``roost.asgi.uvicorn.admission.Bounds``, for each process.
OPTIONS: Final[dict[str, tuple[type, str]]] = {
    "max_connections": (
        int,
        "Connections of one process.  [default: nine tenths of the open files that it may have]",
    ),
    "max_connections_per_address": (
        int,
        "Connections from one address, or of one client of a trusted proxy.  [default: no bound]",
    ),
    "max_connection_rate": (float, "New connections in a second.  [default: no bound]"),
    "max_waiting": (
        int,
        "Connections that have not sent a whole request head.  [default: 4096]",
    ),
    "head_timeout": (float, "Seconds for a whole request head.  [default: 10]"),
}


def serve(arguments: Sequence[str]) -> None:
    """Serve until terminated.

    Args:
        arguments: Of uvicorn's command line.

    Raises:
        SystemExit: The command has ended, or ``roost[server]`` is not installed.
    """
    try:
        import httptools  # noqa: F401
        import uvicorn
        import websockets  # noqa: F401
    except ImportError as error:
        sys.exit(
            f"roost serve needs {error.name}, which is not installed: "
            'run `pip install "roost[server]"`'
        )
    raise_file_limit()
    _command(uvicorn.main).main(
        list(arguments),
        prog_name="roost serve",
        default_map=DEFAULTS,
        # What the command of uvicorn does by itself where it is run as that.
        auto_envvar_prefix="UVICORN",
    )


def _command(original: click.Command) -> click.Command:
    """uvicorn's command with further options."""
    import click

    options = [
        click.Option(
            [f"--{name.replace('_', '-')}"],
            type=kind,
            envvar=f"ROOST_{name.upper()}",
            show_envvar=True,
            help=text,
        )
        for name, (kind, text) in OPTIONS.items()
    ]

    def run(**values: Any) -> None:
        for name in OPTIONS:
            if (value := values.pop(name)) is not None:
                os.environ[f"ROOST_{name.upper()}"] = str(value)
        assert original.callback is not None, "uvicorn's command does something"
        original.callback(**values)

    return click.Command("serve", params=[*original.params, *options], callback=run)
