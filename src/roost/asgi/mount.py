"""Where a socket is mounted, and with which options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from roost.asgi.drainer import Drainer, DrainerLike
from roost.asgi.origin import CheckOrigin
from roost.channels.socket import Socket
from roost.exceptions import ConfigurationError, ConnectRefused
from roost.wire.serializers import Serializer

__all__ = ["Mount", "PathPattern", "WebSocket"]

ErrorHandler = Callable[[ConnectRefused], tuple[int, str]]


@dataclass(frozen=True, kw_only=True)
class WebSocket:
    """Options of the WebSocket transport.

    Args:
        path: Added to the mount's path; may have ``:name`` segments.
        serializers: Protocol versions; None for the socket's own.
        timeout: Seconds without data from the client until the connection is closed (1002).
        max_frame_size: Bytes of one message of the client; a larger one closes the connection
            (1009). Servers have limits of their own before this one.
        max_outbound_size: Bytes that wait for a slow client; beyond, it is disconnected (1013).
        send_timeout: Seconds that one write may take; beyond, the client is disconnected (1013).
        check_origin: Overrides the endpoint's.
        check_csrf: Give the session to ``connect`` only if the query has a valid ``_csrf_token``.
        csrf_token_key: Where the session keeps that token.
        subprotocols: Names of subprotocols, the preferred first; none means no check.
        error_handler: ``ConnectRefused`` → (status, body) of the HTTP answer; 403 by default.
    """

    path: str = "/websocket"
    serializers: Sequence[type[Serializer]] | None = None
    timeout: float = 60.0
    max_frame_size: int = 1_048_576
    max_outbound_size: int = 8_388_608
    send_timeout: float = 30.0
    check_origin: CheckOrigin | None = None
    check_csrf: bool = True
    csrf_token_key: str = "_csrf_token"
    subprotocols: Sequence[str] = ()
    error_handler: ErrorHandler | None = None


@dataclass(frozen=True)
class Mount:
    """A socket with options; a socket class by itself means a mount without any.

    Args:
        socket: The socket's class.
        websocket: Options of the WebSocket transport; False for none.
        max_channels: Overrides the socket's.
        auth_token: Take the token that phoenix.js sends as ``authToken``.
        connect_info: Further values for ``connect``.
        drainer: How connections are closed when the endpoint stops.
    """

    socket: type[Socket]
    websocket: WebSocket | bool = field(default=True, kw_only=True)
    max_channels: int | None = field(default=None, kw_only=True)
    auth_token: bool = field(default=False, kw_only=True)
    connect_info: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    drainer: DrainerLike = field(default=Drainer(), kw_only=True)

    def __post_init__(self) -> None:
        if not (isinstance(self.socket, type) and issubclass(self.socket, Socket)):
            raise ConfigurationError(
                f"{self.socket!r} can't be mounted: expected a subclass of Socket, the class "
                "itself, or Mount(UserSocket, …)"
            )


class PathPattern:
    """A path whose ``:name`` segments are captured.

    Names that begin with ``_`` match but are not captured. A trailing slash is tolerated.

    Example:
        >>> PathPattern("/custom/:var/websocket").match("/custom/123/websocket/")
        {'var': '123'}
    """

    __slots__ = ("_segments",)

    def __init__(self, text: str) -> None:
        self._segments = _segments(text)
        if any(segment == ":" for segment in self._segments):
            raise ConfigurationError(f"{text!r} has a path segment without a name")

    def __str__(self) -> str:
        return "/" + "/".join(self._segments)

    def match(self, path: str) -> dict[str, str] | None:
        """The captured segments; None if the path is another one."""
        segments = _segments(path)
        if len(segments) != len(self._segments):
            return None
        captured = {}
        for expected, segment in zip(self._segments, segments, strict=True):
            if not expected.startswith(":"):
                if expected != segment:
                    return None
            elif not expected.startswith(":_"):
                captured[expected[1:]] = segment
        return captured


def _segments(path: str) -> list[str]:
    return [segment for segment in path.split("/") if segment]
