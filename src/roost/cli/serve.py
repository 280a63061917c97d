"""``roost serve``: uvicorn's own command, with the fast path and other defaults.

Every option of uvicorn works, from the command line and as an environment variable (UVICORN_PORT).
Only what they are by default differs, and the limit of open files is raised first.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from roost.cli.limits import raise_file_limit

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
    uvicorn.main.main(
        list(arguments),
        prog_name="roost serve",
        default_map=DEFAULTS,
        # What the command of uvicorn does by itself where it is run as that.
        auto_envvar_prefix="UVICORN",
    )
