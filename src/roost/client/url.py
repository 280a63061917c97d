"""The address of an endpoint, as clients say it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit, urlunsplit

from roost.exceptions import ConfigurationError

__all__ = ["endpoint_url", "subprotocols_of", "with_params"]

_SCHEMES: Final = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
_SUFFIX: Final = "/websocket"
_TOKEN_PREFIX: Final = "base64url.bearer.phx."  # in spite of its name: the standard alphabet


def endpoint_url(url: str) -> str:
    """The URL of an endpoint's WebSocket.

    Args:
        url: Of the socket, as it is mounted; ``/websocket`` is added unless it ends so.

    Raises:
        ConfigurationError: It is no URL of a socket.

    Example:
        >>> endpoint_url("https://example.com/socket?lang=en")
        'wss://example.com/socket/websocket?lang=en'
        >>> endpoint_url("ws://localhost:4000/socket/websocket")
        'ws://localhost:4000/socket/websocket'
    """
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise ConfigurationError(
            f"expected a URL like ws://localhost:4000/socket, got one of the scheme "
            f"{parts.scheme!r} and the host {parts.hostname!r}"
        )
    path = parts.path.rstrip("/")
    if not path.endswith(_SUFFIX):
        path += _SUFFIX
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))


def without_query(url: str) -> str:
    """A URL for logs and errors: its query, and what is before its host, may hold passwords.

    Example:
        >>> without_query("wss://user:secret@example.com/socket/websocket?token=1")
        'wss://example.com/socket/websocket'
    """
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def with_params(url: str, params: Mapping[str, Any], vsn: str) -> str:
    """A URL with parameters, nested ones as ``a[b]=1``, and the protocol version.

    Example:
        >>> with_params("ws://h/s/websocket", {"user": {"id": 7}, "tags": ["a", "b"]}, "2.0.0")
        'ws://h/s/websocket?user%5Bid%5D=7&tags%5B%5D=a&tags%5B%5D=b&vsn=2.0.0'
    """
    parts = urlsplit(url)
    pairs = [pair for name, value in params.items() for pair in _pairs(str(name), value)]
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
    query = "&".join(each for each in (parts.query, query, f"vsn={vsn}") if each)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))


def subprotocols_of(token: str) -> list[str]:
    """How a token is sent in the handshake, where it shows in no log of URLs.

    Example:
        >>> subprotocols_of("1234")
        ['phoenix', 'base64url.bearer.phx.MTIzNA']
    """
    return ["phoenix", _TOKEN_PREFIX + b64encode(token.encode()).decode().rstrip("=")]


def _pairs(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _pairs(f"{name}[{key}]", item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _pairs(f"{name}[]", item)
    elif value is None:
        yield name, ""
    elif isinstance(value, bool):
        yield name, str(value).lower()
    else:
        yield name, str(value)
