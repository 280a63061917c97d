"""The bare server once more, on picows: its WebSockets are C, its loop is uvloop.

``python -m bench.servers.bare_picows PORT``. It shows what a server in Python can reach; it is no
ASGI server, so that no application of any framework runs on it.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from bench.servers.rooms import Rooms

rooms: Rooms[bytes] = Rooms(msgspec.json.encode)


class Member(WSListener):  # type: ignore[misc]
    """One socket."""

    def __init__(self) -> None:
        super().__init__()
        self.topics: set[str] = set()
        self._transport: WSTransport

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            rooms.handle(self, frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        rooms.leave(self)

    def write(self, text: bytes) -> None:
        self._transport.send(WSMsgType.TEXT, text)


def _accept(request: WSUpgradeRequest) -> Member:
    return Member()


async def serve(port: int) -> None:
    server = await ws_create_server(_accept, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
