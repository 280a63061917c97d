"""The WebSocket protocol class for uvicorn: one connection, from the upgrade to its end.

uvicorn's HTTP protocol hands an upgrade over: it makes one of these, calls ``connection_made``, and
``data_received`` with the request written out again. From then on this is the asyncio protocol of
the transport, is one of the server's ``connections``, and is told of the server's end by
``shutdown``.

Whatever comes goes through the sans-I/O protocol of ``websockets``: it checks the handshake and
each frame, unmasks, decompresses, answers pings and closes, and enforces ``ws_max_size``. Of the
libraries that can be fed bytes it measured best: a text of 50 bytes took 3.0 µs to read, 8.2 µs
with wsproto, which unmasks in Python. picows parses in C, but only on connections that its own
server accepted: neither its parser nor its protocol class is public.

Messages go to a ``Receiver``. At first that is the ``Application``, which runs the ASGI application
with events and queues, as uvicorn's own classes do. An application that knows the scope extension
puts a receiver of its own in its place. What such a receiver writes is framed already, and goes
straight to the transport. It is not compressed, even if that was negotiated: RFC 7692 lets each
message be without it, and the same bytes can go to every connection only if no connection has a
compression state of its own.

The end comes once, by the first of these causes: the client closes, breaks the protocol or is gone;
the receiver closes and the client answers or does not; the server ends. The receiver is told
before, so that what it still holds goes out before the close frame, and after.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from roost.asgi.transports.extension import Receiver, TakenWebSocket
from roost.asgi.uvicorn.application import Application
from roost.asgi.uvicorn.handshake import extensions, make_scope
from roost.asgi.uvicorn.keepalive import Keepalive
from roost.asgi.uvicorn.messages import Messages
from roost.asgi.uvicorn.pace import PacedProtocol

__all__ = ["Protocol"]

# For the library. uvicorn gives it its own, which shows when each connection opens and ends.
logger = logging.getLogger("roost.asgi.uvicorn")

NO_STATUS: Final = 1005  # never on the wire: the connection was lost
ABNORMAL: Final = 1006  # never on the wire: it never was open
INVALID_DATA: Final = 1007
RESTART: Final = 1012


class Protocol(PacedProtocol):
    """One WebSocket connection; uvicorn makes it with these arguments.

    Args:
        config: Of the server: the application, and the ``ws_`` options.
        server_state: Shared by all its connections.
        app_state: What the application's lifespan left.
    """

    __slots__ = (
        "_app_state",
        "_config",
        "_ended",
        "_has_ended",
        "_held_pong",
        "_is_writing_paused",
        "_keepalive",
        "_messages",
        "_receiver",
        "_response",
        "_server_state",
        "_websocket",
    )

    _response: Response  # to the handshake, if the application accepts

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(_loop or asyncio.get_running_loop())
        if not config.loaded:
            config.load()
        self._config = config
        self._server_state = server_state
        self._app_state = app_state
        self._websocket = ServerProtocol(
            extensions=extensions(config), max_size=config.ws_max_size, logger=logger
        )
        self._receiver: Receiver | None = None  # until the handshake has come
        self._keepalive: Keepalive | None = None
        self._messages = Messages()
        self._held_pong: bytes | None = None
        self._is_writing_paused = False
        self._has_ended = False  # the receiver was told
        self._ended: asyncio.Future[None] | None = None  # once the server waits for it

    # For uvicorn and the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server_state.connections.add(self)  # type: ignore[arg-type]

    def pause_writing(self) -> None:
        self._is_writing_paused = True
        if self._receiver is not None:
            self._receiver.pause_writing()

    def resume_writing(self) -> None:
        self._is_writing_paused = False
        if self._held_pong is not None:
            self._transport.write(self._held_pong)
            self._held_pong = None
        if self._receiver is not None:
            self._receiver.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        try:
            super().connection_lost(exc)
            self._end(ABNORMAL if self._websocket.state is State.CONNECTING else NO_STATUS)
        finally:
            self._server_state.connections.discard(self)

    def shutdown(self) -> None:
        """The server ends, and waits until its connections have."""
        if self._receiver is None or self._has_ended:
            self.close_transport()
            return
        self._receiver.server_ending()
        if self._ended is None and not isinstance(self._receiver, Application):
            # Among the tasks that uvicorn cancels when it has waited enough: this one has none.
            self._ended = self._loop.create_future()
            self._ended.add_done_callback(self._outlasted)
            self._server_state.tasks.add(self._ended)  # type: ignore[arg-type]

    def _outlasted(self, ended: asyncio.Future[None]) -> None:
        self._server_state.tasks.discard(ended)
        if ended.cancelled():
            self.end(RESTART)

    # For the application: the scope extension, and what plain ASGI needs.

    def take(self, receiver: Receiver) -> TakenWebSocket:
        """Take the connection over.

        Raises:
            RuntimeError: It is not open, or was taken over already.
        """
        application = self._receiver
        if not isinstance(application, Application) or not application.has_accepted:
            raise RuntimeError("a WebSocket is taken over once, after websocket.accept")
        self._receiver = receiver
        if not self._has_ended:  # uvloop's transports raise once they are closed
            # From now on, whatever the system does not take over at once pauses writing.
            self._transport.set_write_buffer_limits(high=1, low=0)
        if self._is_writing_paused:
            receiver.pause_writing()
        for message in application.hand_over():
            receiver.message_received(message)
        if self._has_ended:
            receiver.connection_lost(NO_STATUS, "")
        self._loop.call_soon(self.resume_reading)
        return self

    def write(self, framed: bytes) -> None:
        """Send whole frames, unmasked."""
        self._transport.write(framed)

    def send(self, data: str | bytes) -> None:
        """Send a message by the library, which may compress it."""
        if isinstance(data, str):
            self._websocket.send_text(data.encode())
        else:
            self._websocket.send_binary(data)
        self._write_out()

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame; the connection is closed when it is answered, or a while later."""
        if self._websocket.state is State.OPEN and not self._has_ended:
            self._websocket.send_close(code, reason)
            self._write_out()
            self.abort_in_time()
            self.resume_reading()  # the answer has to be read

    def end(self, code: int) -> None:
        """Send a close frame, and close the connection without an answer."""
        self.close(code)
        self._end(code)
        self.close_transport()

    def drop(self) -> None:
        """Close the connection without a close frame, unless it has ended."""
        if not self._has_ended:
            self.close_transport()

    def accept(self, headers: Sequence[tuple[str, str]]) -> None:
        """Accept the handshake, with these headers added."""
        response = self._response
        del self._response  # is not needed again, and connections are many
        del response.headers["Date"]  # uvicorn has one of its own among those to be added
        for name, value in headers:
            response.headers[name] = value
        self._websocket.send_response(response)
        self._write_out()
        interval, timeout = self._config.ws_ping_interval, self._config.ws_ping_timeout
        if interval:
            websocket = self._websocket
            self._keepalive = Keepalive(self._loop, websocket, interval, timeout, self._write_out)

    def refuse(self, status: int, text: str = "") -> None:
        """Answer the handshake with an error."""
        self.answer(self._websocket.reject(status, text))

    def answer(self, response: Response) -> None:
        """Answer the handshake with another response than its acceptance."""
        self._websocket.send_response(response)
        self._write_out()

    # Reading.

    def read(self, data: bytes | bytearray) -> int:
        """Read what came; returns how many frames that were."""
        websocket = self._websocket
        websocket.receive_data(data)
        events = websocket.events_received()
        for event in events:
            if isinstance(event, Frame):
                self._frame_received(event)
            elif isinstance(event, Request):
                self._request_received(event)
        if self._is_writing_paused and websocket.state is State.OPEN:
            # All that it has to say are pongs. RFC 6455, 5.5.3: the last one is enough, so that a
            # client that pings and does not read fills no memory.
            if pongs := websocket.data_to_send():
                self._held_pong = pongs[-1]
        else:
            self._write_out()
        return len(events)

    def _request_received(self, request: Request) -> None:
        response = self._websocket.accept(request)
        if response.status_code != 101:
            self._websocket.send_response(response)
            return
        self._response = response
        scope = make_scope(request, self._transport, self._config, self._app_state, self.take)
        request.headers.clear()  # which the library's parser holds to the end: two kilobytes
        application = self._receiver = Application(
            self, self._server_state, scope, logs_access=self._config.access_log
        )
        application.start(self._config.loaded_app)

    def _frame_received(self, frame: Frame) -> None:
        if self._has_ended or self._receiver is None:
            return
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            try:
                message = self._messages.add(frame)
            except UnicodeDecodeError as error:
                self._websocket.fail(INVALID_DATA, f"{error.reason} at position {error.start}")
                self._write_out()
                return
            if message is not None:
                self._receiver.message_received(message)
        elif frame.opcode in (Opcode.PING, Opcode.PONG):
            self._receiver.sign_of_life_received()
            if frame.opcode is Opcode.PONG and self._keepalive is not None:
                self._keepalive.pong_received(bytes(frame.data))

    # Writing, and the end.

    def _write_out(self) -> None:
        """Send what the library has to say: messages, handshakes, pongs, closes."""
        websocket = self._websocket
        output = websocket.data_to_send()
        if not output:
            return
        if websocket.state is State.CLOSING and self._receiver is not None:
            self._held_pong = None
            self._receiver.connection_closing()
        self._transport.write(b"".join(output))
        if output[-1] == b"":  # the library's word for the end
            self._finish()

    def _finish(self) -> None:
        """The library sent its last: it has the client's close, or failed, or refused."""
        websocket = self._websocket
        has_failed = websocket.close_rcvd is None and websocket.close_sent is not None
        if has_failed:
            self.close_after_reading()
        else:
            self.close_transport()
        close = websocket.close_rcvd or websocket.close_sent
        self._end(*((ABNORMAL, "") if close is None else (close.code, close.reason)))

    def _end(self, code: int, reason: str = "") -> None:
        """Tell the receiver, once."""
        if self._keepalive is not None:
            self._keepalive.stop()
            self._keepalive = None
        if not self._has_ended:
            self._has_ended = True
            if self._ended is not None and not self._ended.done():
                self._ended.set_result(None)
            if self._receiver is not None:
                self._receiver.connection_lost(code, reason)
