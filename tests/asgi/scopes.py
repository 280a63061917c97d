"""Scopes of handshakes, as an ASGI server makes them."""

from typing import Any

from roost.asgi.types import Scope


def websocket_scope(headers: dict[str, str] | None = None, **fields: Any) -> Scope:
    """A scope of a WebSocket handshake for `ws://example.com/socket/websocket`."""
    headers = {"host": "example.com", **(headers or {})}
    return {
        "type": "websocket",
        "scheme": "ws",
        "path": "/socket/websocket",
        "root_path": "",
        "query_string": b"",
        "headers": [
            (name.encode(), value.encode("latin-1")) for name, value in headers.items() if value
        ],
        "client": ("10.0.0.1", 5000),
        "server": ("10.0.0.2", 8000),
        "subprotocols": [],
        **fields,
    }
