"""The opening handshake (RFC 6455, 4.2): what is wrong with a request, and what is answered.

It works on the head that was parsed once (``head``), and its answers are bytes.
"""

from __future__ import annotations

import asyncio
import binascii
import hashlib
import http
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote

from uvicorn.config import Config
from uvicorn.protocols.utils import (
    get_client_addr,
    get_local_addr,
    get_path_with_query_string,
    get_remote_addr,
    is_ssl,
)
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake
from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.server import ServerProtocol

from roost.asgi.access_log import mask_query
from roost.asgi.transports.extension import EXTENSION
from roost.asgi.types import Scope
from roost.asgi.uvicorn.head import BadHead, Head

__all__ = [
    "access_line",
    "check",
    "make_scope",
    "negotiate_deflate",
    "refusal",
    "response",
    "switching_protocols",
]

HeaderLines = Iterable[tuple[bytes, bytes]]

VERSION: Final = b"13"
KEY_SIZE: Final = 16  # bytes, before base64
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # of the RFC
_SWITCHING: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
    b"sec-websocket-accept: "
)
_NO_NAME: Final = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
_NO_VALUE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def check(head: Head) -> bytes:
    """Check a request that wants to be a WebSocket.

    Returns:
        Its key, proven to be one.

    Raises:
        BadHead: It must not be one, with the status of the answer.
    """
    if head.method != b"GET":
        raise BadHead(405, "expected the method GET")
    if head.version != b"1.1":
        raise BadHead(400, "expected HTTP/1.1")
    fields = head.fields
    if b"transfer-encoding" in fields or fields.get(b"content-length", b"0") != b"0":
        raise BadHead(400, "expected a request without a body")
    if len(fields) != len(head.headers):
        for name in (b"sec-websocket-key", b"sec-websocket-version", b"origin"):
            if len(head.get_all(name)) > 1:
                raise BadHead(400, f"expected one {name.decode()}")
    if fields.get(b"sec-websocket-version") != VERSION:
        raise BadHead(400, f"expected sec-websocket-version: {VERSION.decode()}")
    key = fields.get(b"sec-websocket-key", b"")
    try:
        is_key = len(binascii.a2b_base64(key, strict_mode=True)) == KEY_SIZE
    except binascii.Error:
        is_key = False
    if not is_key:
        raise BadHead(400, "expected sec-websocket-key: 16 bytes in base64")
    return key


def make_scope(
    head: Head,
    transport: asyncio.Transport,
    config: Config,
    app_state: Mapping[str, Any],
    extension: Mapping[str, Any],
) -> Scope:
    """What the application gets to know of a request; ``extension`` is what roost offers it."""
    path, query = head.path_and_query
    root = config.root_path
    text = path.decode("ascii")
    return {
        "type": "websocket",
        "asgi": {"version": config.asgi_version, "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "wss" if is_ssl(transport) else "ws",
        "server": get_local_addr(transport),
        "client": get_remote_addr(transport),
        "root_path": root,
        "path": root + (unquote(text) if "%" in text else text),
        "raw_path": root.encode("ascii") + path,
        "query_string": query,
        "headers": head.headers,
        "subprotocols": [
            token.decode("latin-1").strip()
            for value in head.get_all(b"sec-websocket-protocol")
            for token in value.split(b",")
        ],
        "state": dict(app_state),
        "extensions": {"websocket.http.response": {}, EXTENSION: extension},
    }


def access_line(scope: Scope, answer: str) -> tuple[str, str, str, str]:
    """uvicorn's line for its access log, without the values of tokens and the like.

    Its format and what belongs into it, as uvicorn logs it: so that filters find the path.
    """
    path = mask_query(get_path_with_query_string(scope))  # type: ignore[arg-type]
    return '%s - "WebSocket %s" %s', get_client_addr(scope), path, answer  # type: ignore[arg-type]


def negotiate_deflate(head: Head) -> tuple[bytes | None, list[Extension]]:
    """What to answer to an offer of compression, and the extensions of the library that do it.

    Raises:
        BadHead: The offer can't be read.
    """
    offers = head.get_all(b"sec-websocket-extensions")
    if not offers:
        return None, []
    settings = {"memLevel": 5}  # with 12 bits a fraction of zlib's default memory, as in uvicorn
    factory = ServerPerMessageDeflateFactory(
        server_max_window_bits=12, client_max_window_bits=12, compress_settings=settings
    )
    headers = Headers([("Sec-WebSocket-Extensions", value.decode("latin-1")) for value in offers])
    try:
        answer, extensions = ServerProtocol(extensions=[factory]).process_extensions(headers)
    except InvalidHandshake as error:
        raise BadHead(400, "expected sec-websocket-extensions that can be read") from error
    return None if answer is None else answer.encode("latin-1"), extensions


def switching_protocols(key: bytes, headers: HeaderLines) -> bytes:
    """The answer that accepts.

    Raises:
        RuntimeError: A header would be none, or more than one.
    """
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    return b"".join(
        [_SWITCHING, binascii.b2a_base64(digest, newline=False), b"\r\n", *_lines(headers), b"\r\n"]
    )


def response(status: int, headers: HeaderLines, body: bytes = b"") -> bytes:
    """Another answer, after which the connection is closed.

    Raises:
        RuntimeError: A header would be none, or more than one.
    """
    line = f"HTTP/1.1 {status} {_phrase(status)}\r\n".encode("ascii")
    return b"".join([line, *_lines(headers), b"\r\n", body])


def refusal(status: int, reason: str, headers: HeaderLines = ()) -> bytes:
    """The answer to a request that no application is asked about."""
    body = f"{reason}\n".encode() if reason else b""
    hints = {405: [(b"allow", b"GET")], 400: [(b"sec-websocket-version", VERSION)]}
    own = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
        *hints.get(status, ()),
    ]
    return response(status, [*headers, *own], body)


def _lines(headers: HeaderLines) -> Iterable[bytes]:
    for name, value in headers:
        if not name or _NO_NAME.search(name) or _NO_VALUE.search(value):
            raise RuntimeError(f"the application sent a header that is none: {name!r}: {value!r}")
        yield b"%b: %b\r\n" % (name, value)


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return ""
