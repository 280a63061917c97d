"""WebSockets, by the library ``websockets``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from roost.client.exceptions import ConnectFailed, ConnectRejected
from roost.client.transport import Target
from roost.client.url import without_query

__all__ = ["WebSocketTransport"]

MAX_FRAME_SIZE: Final = 64 * 1_048_576  # bytes: a list of 100,000 presences has 10 MB
CLOSE_TIMEOUT: Final = 2.0  # seconds
MAX_BODY: Final = 200  # characters of a refusal


class WebSocketTransport:
    """Open WebSockets.

    Args:
        options: Of ``websockets.asyncio.client.connect``, for example ``ssl`` or ``proxy``.
    """

    def __init__(self, **options: Any) -> None:
        self._options = {
            "compression": None,
            "open_timeout": None,  # the client has its own
            "ping_interval": None,  # heartbeats say more: they are answered by the application
            "close_timeout": CLOSE_TIMEOUT,
            "max_size": MAX_FRAME_SIZE,
            **options,
        }

    async def __call__(self, target: Target) -> _WebSocket:
        subprotocols = [Subprotocol(each) for each in target.subprotocols]
        try:
            return _WebSocket(
                await connect(
                    target.url,
                    additional_headers=dict(target.headers),
                    subprotocols=subprotocols or None,
                    **self._options,
                )
            )
        except InvalidStatus as error:
            response, url = error.response, without_query(target.url)
            body = bytes(response.body or b"")[: 4 * MAX_BODY].decode(errors="replace")[:MAX_BODY]
            raise ConnectRejected(url, response.status_code, body) from error
        except (OSError, WebSocketException) as error:
            raise ConnectFailed(without_query(target.url), _sentence(error)) from error


class _WebSocket:
    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket

    async def frames(self) -> AsyncIterator[str | bytes]:
        try:
            async for data in self._websocket:
                yield data
        except ConnectionClosed:
            pass

    def why_closed(self) -> str:
        code, reason = self._websocket.close_code, self._websocket.close_reason
        if code is None or code == 1006:
            return "the connection was cut"
        return f"the server closed with {code}" + (f" ({reason})" if reason else "")

    async def send(self, data: str | bytes) -> None:
        try:
            await self._websocket.send(data)
        except ConnectionClosed as error:
            raise ConnectionError(str(error)) from error

    async def close(self) -> None:
        await self._websocket.close()

    def abort(self) -> None:
        self._websocket.transport.abort()


def _sentence(error: Exception) -> str:
    return str(error) or type(error).__name__
