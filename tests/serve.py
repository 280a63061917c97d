"""Serve an app in a process of its own: `python -m tests.serve examples.interop.app:app WS HTTP`.

WS and HTTP are what serves WebSockets and the rest, as uvicorn names it.

The first line on stdout is the URL; connections made from then on are served.
"""

import socket
import sys

import uvicorn

from roost.cli.limits import raise_file_limit

BACKLOG = 2048  # connections that the kernel holds until the server gets to them


def serve(app: str, websockets: str, http: str) -> None:
    """Serve until terminated."""
    raise_file_limit()
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    host, port = listener.getsockname()
    sys.stdout.write(f"http://{host}:{port}\n")
    sys.stdout.flush()
    config = uvicorn.Config(
        app,
        ws=websockets,
        http=http,
        ws_ping_interval=0,  # pings under way would look like something left behind
        log_config=None,
        log_level="warning",
        backlog=BACKLOG,
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    serve(*sys.argv[1:])
