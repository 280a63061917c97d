"""What is made of a handshake: the ASGI scope, the extensions offered, the line in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from uvicorn.config import Config
from uvicorn.protocols.utils import (
    get_client_addr,
    get_local_addr,
    get_path_with_query_string,
    get_remote_addr,
    is_ssl,
)
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request

from roost.asgi.access_log import mask_query
from roost.asgi.transports.extension import EXTENSION, Receiver, TakenWebSocket
from roost.asgi.types import Scope

__all__ = ["access_line", "extensions", "make_scope"]


def make_scope(
    request: Request,
    transport: asyncio.Transport,
    config: Config,
    app_state: Mapping[str, Any],
    take: Callable[[Receiver], TakenWebSocket],
) -> Scope:
    """What the application gets to know of a request; ``take`` is for the scope extension."""
    path, _, query = request.path.partition("?")
    root = config.root_path
    return {
        "type": "websocket",
        "asgi": {"version": config.asgi_version, "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "wss" if is_ssl(transport) else "ws",
        "server": get_local_addr(transport),
        "client": get_remote_addr(transport),
        "root_path": root,
        "path": root + unquote(path),
        "raw_path": (root + path).encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "headers": [
            (name.lower().encode("latin-1"), value.encode("latin-1", "surrogateescape"))
            for name, value in request.headers.raw_items()
        ],
        "subprotocols": [
            token.strip()
            for value in request.headers.get_all("Sec-WebSocket-Protocol")
            for token in value.split(",")
        ],
        "state": dict(app_state),
        "extensions": {"websocket.http.response": {}, EXTENSION: {"take": take}},
    }


def access_line(scope: Scope, answer: str) -> tuple[str, str, str, str]:
    """uvicorn's line for its access log, without the values of tokens and the like.

    Its format and what belongs into it, as uvicorn logs it: so that filters find the path.
    """
    path = mask_query(get_path_with_query_string(scope))  # type: ignore[arg-type]
    return '%s - "WebSocket %s" %s', get_client_addr(scope), path, answer  # type: ignore[arg-type]


def extensions(config: Config) -> list[ServerPerMessageDeflateFactory]:
    """The WebSocket extensions to offer."""
    if not config.ws_per_message_deflate:
        return []
    settings = {"memLevel": 5}  # with 12 bits a fraction of zlib's default memory, as in uvicorn
    return [
        ServerPerMessageDeflateFactory(
            server_max_window_bits=12, client_max_window_bits=12, compress_settings=settings
        )
    ]
