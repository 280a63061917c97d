"""The WebSocket protocol class for uvicorn: one connection, from its request to its end.

The request head is read by ``head``, the opening handshake is answered by ``handshake``. It comes
from the transport, where the server uses the front door (``door``); or uvicorn's HTTP protocol
hands an upgrade over: it makes one of these, calls ``connection_made``, and ``data_received`` with
the request written out again. From then on this is the asyncio protocol of the transport, is one of
the server's ``connections``, and is told of the server's end by ``shutdown``.

After the handshake whatever comes goes through the sans-I/O protocol of ``websockets``: it checks
each frame, unmasks, decompresses, answers pings and closes, and bounds what a message may have. Of
the libraries that can be fed bytes it measured best: a text of 50 bytes took 3.0 µs to read, 8.2 µs
with wsproto, which unmasks in Python. picows parses in C, but only on connections that its own
server accepted: neither its parser nor its protocol class is public. What nearly every client sends
needs none of that: a whole message in one frame, which came in one piece, is read past the library
(0.9 µs). The library's object is made when something else comes, and kept while it has something to
remember, so that an idle connection has none.

Messages go to a ``Receiver``. At first that is the ``Application``, which runs the ASGI application
with events and queues, as uvicorn's own classes do. An application that knows the scope extension
puts a receiver of its own in its place. What such a receiver writes is framed already, and goes
straight to the transport. It is not compressed, even if that was negotiated: RFC 7692 lets each
message be without it, and the same bytes can go to every connection only if no connection has a
compression state of its own.

The end comes once, by the first of these causes: the client closes, breaks the protocol or is gone;
the receiver closes and the client answers or does not; the server ends. The receiver is told
before, so that what it still holds goes out before the close frame, and after. Then nothing here
refers to the receiver or to the library, whose parser refers to itself: all of it is freed at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from uvicorn.config import Config
from uvicorn.protocols.utils import get_remote_addr
from uvicorn.server import ServerState
from websockets.extensions import Extension
from websockets.frames import Frame, Opcode
from websockets.protocol import SERVER, State
from websockets.protocol import Protocol as Library

from roost.asgi.transports.extension import Receiver, TakenWebSocket
from roost.asgi.uvicorn.application import Application
from roost.asgi.uvicorn.handshake import (
    check,
    make_scope,
    negotiate_deflate,
    refusal,
    switching_protocols,
)
from roost.asgi.uvicorn.head import BadHead, Head, HeadReader
from roost.asgi.uvicorn.keepalive import Keepalive
from roost.asgi.uvicorn.library import dispose, is_between_messages, whole_message
from roost.asgi.uvicorn.messages import Messages, TooBig
from roost.asgi.uvicorn.pace import SLICE_SIZE, PacedProtocol
from roost.asgi.uvicorn.shared import shared_by
from roost.wire.frame import Frame as OutgoingFrame

__all__ = ["DeflateProtocol", "Protocol"]

# For the library, too. uvicorn gives it its own, which shows when each connection opens and ends.
logger = logging.getLogger("roost.asgi.uvicorn")

NO_STATUS: Final = 1005  # never on the wire: the connection was lost
ABNORMAL: Final = 1006  # never on the wire: it never was open
INVALID_DATA: Final = 1007
INTERNAL_ERROR: Final = 1011
TOO_BIG: Final = 1009
RESTART: Final = 1012
LINGER_DURATION: Final = 1.0  # seconds for whoever is refused to read why
MAX_DISCARDED_SIZE: Final = 131_072  # bytes of whoever is refused
LOAD_SIZE: Final = 1_024  # bytes of a message that are as much work as a frame


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
        "_discardable_size",
        "_ended",
        "_extensions",
        "_has_accepted",
        "_has_ended",
        "_head_reader",
        "_held_pong",
        "_is_writing_paused",
        "_keepalive",
        "_max_size",
        "_messages",
        "_opening",
        "_receiver",
        "_server_state",
        "_shared",
        "_websocket",
    )

    offers_deflate: ClassVar[bool] = False
    """uvicorn's option for it is on by default, so that a class of its own says that it is meant:
    what a client compresses to a kilobyte may be a megabyte to handle.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        loop = _loop or asyncio.get_running_loop()
        self._shared = shared = shared_by(server_state, config, loop)
        super().__init__(loop, shared.turns)
        self._config = config
        self._server_state = server_state
        self._app_state = app_state
        self._head_reader: HeadReader | None = HeadReader()  # until the head has come
        self._opening: tuple[bytes, bytes | None] | None = None  # until it is answered
        self._discardable_size: int | None = None  # once it is refused
        self._extensions: list[Extension] | None = None
        self._max_size: int | None = config.ws_max_size
        self._websocket: Library | None = None  # from the first bytes after the handshake on
        self._receiver: Receiver | None = None  # from the handshake to the end
        self._keepalive: Keepalive | None = None
        self._messages: Messages | None = None  # while one is incomplete
        self._held_pong: bytes | None = None
        self._is_writing_paused = False
        self._has_accepted = False
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

    def data_received(self, data: bytes) -> None:
        if self._head_reader is not None:
            self._receive_head(self._head_reader, data)
        elif self._discardable_size is None:
            super().data_received(data)
        else:
            self._discard(len(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self._server_state.connections.discard(self)
        super().connection_lost(exc)

    def ended(self) -> None:
        try:
            self._end(NO_STATUS if self._has_accepted else ABNORMAL)
        finally:
            self._messages = self._opening = self._extensions = None
            if not isinstance(self._receiver, Application) or self._receiver.has_returned:
                self._receiver = None
            websocket, self._websocket = self._websocket, None
            if websocket is not None:
                dispose(websocket)

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

    def take(self, receiver: Receiver, max_size: int | None = None) -> TakenWebSocket:
        """Take the connection over.

        Args:
            receiver: Is told from now on.
            max_size: Bytes of a message.

        Raises:
            RuntimeError: It is not open, or was taken over already.
        """
        application = self._receiver
        if not isinstance(application, Application) or not application.has_accepted:
            raise RuntimeError("a WebSocket is taken over once, after websocket.accept")
        self._receiver = receiver
        if max_size is not None:
            self._set_max_size(max_size)
        if not self._has_ended:  # uvloop's transports raise once they are closed
            # From now on, whatever the system does not take over at once pauses writing.
            self._transport.set_write_buffer_limits(high=1, low=0)
        if self._is_writing_paused:
            receiver.pause_writing()
        for message in application.hand_over():
            receiver.message_received(message)
        if self._has_ended:
            receiver.connection_lost(NO_STATUS, "")
            self._receiver = None
        elif self._is_reading_paused:
            self._loop.call_soon(self.resume_reading)
        return self

    def write(self, framed: bytes) -> None:
        """Send whole frames, unmasked."""
        self._transport.write(framed)

    def send(self, data: str | bytes) -> None:
        """Send a message by the library, which may compress it."""
        if self._extensions is None:
            is_text = isinstance(data, str)
            encoded = data.encode() if isinstance(data, str) else bytes(data)
            self._transport.write(OutgoingFrame(encoded, is_text=is_text).framed)
            return
        websocket = self._library()
        if isinstance(data, str):
            websocket.send_text(data.encode())
        else:
            websocket.send_binary(data)
        self._write_out(websocket)

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame; the connection is closed when it is answered, or a while later."""
        if self._has_ended or not self._has_accepted:
            return
        websocket = self._library()
        if websocket.state is State.OPEN:
            websocket.send_close(code, reason)
            self._write_out(websocket)
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

    def application_returned(self) -> None:
        """The application has nothing more to say."""
        if self._is_lost and isinstance(self._receiver, Application):
            self._receiver = None

    # The handshake.

    def open(self, head: Head, rest: bytes) -> None:
        """Shake hands with whoever sent this request.

        Args:
            head: Wants to be a WebSocket.
            rest: What came after it. It is read when the application has accepted: a client is to
                wait for that (RFC 6455, 4.1), but nothing gets lost if one does not.
        """
        self._head_reader = None
        config = self._config
        try:
            key = check(head)
            answer = None
            if self._deflates:
                answer, self._extensions = negotiate_deflate(head)
                self._longest_slice_size = SLICE_SIZE
        except BadHead as bad:
            self.reject(bad)
            return
        if self._is_too_much():
            self._shared.admission.note("concurrency_full", self.host)
            self.reject(BadHead(503, "The server is full."), [(b"retry-after", b"5")])
            return
        self._opening = key, answer
        self.hold()
        if rest:
            self.data_received(rest)
        extension = {"take": self.take, "counters": self._shared.admission.counters}
        scope = make_scope(head, self._transport, config, self._app_state, extension)
        application = self._receiver = Application(
            self, self._server_state, scope, logs_access=config.access_log
        )
        application.start(config.loaded_app)

    @property
    def _deflates(self) -> bool:
        kind = self._config.ws_protocol_class
        return self._config.ws_per_message_deflate and bool(getattr(kind, "offers_deflate", False))

    def _is_too_much(self) -> bool:
        """Whether it is over uvicorn's ``--limit-concurrency``, in which it counts itself."""
        limit, state = self._config.limit_concurrency, self._server_state
        return limit is not None and (len(state.connections) > limit or len(state.tasks) >= limit)

    @property
    def host(self) -> str | None:
        """The address of whoever is at the other end."""
        address = get_remote_addr(self._transport)
        return None if address is None else address[0]

    def _receive_head(self, reader: HeadReader, data: bytes) -> None:
        try:
            received = reader.receive(data)
        except BadHead as bad:
            self._head_reader = None
            self._shared.admission.note("bad_head", self.host)
            self.reject(bad)
        else:
            if received is not None:
                self.head_received(*received)

    def head_received(self, head: Head, data: bytes, size: int) -> None:
        """The head is whole: the first ``size`` bytes of ``data``."""
        self.open(head, data[size:])

    def accept(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Accept the handshake, with these headers added."""
        assert self._opening is not None, "it is accepted once"
        key, deflate = self._opening
        if deflate is not None:
            headers = [*headers, (b"sec-websocket-extensions", deflate)]
        self._transport.write(switching_protocols(key, headers))
        self._opening = None
        self._has_accepted = True
        interval, timeout = self._config.ws_ping_interval, self._config.ws_ping_timeout
        if interval:
            self._keepalive = Keepalive(self._loop, interval, timeout, self._ping, self._give_up)
        self.resume_reading()

    def refuse(self, status: int, text: str = "") -> None:
        """Answer the handshake with an error."""
        self.answer(refusal(status, text))

    def answer(self, response: bytes) -> None:
        """Answer the handshake with another response than its acceptance, whole."""
        self._transport.write(response)
        self.close_transport()
        self._end(ABNORMAL)

    def reject(self, bad: BadHead, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """Answer what no application is asked about, and read nothing more."""
        self._has_ended = True
        self._discardable_size = MAX_DISCARDED_SIZE
        all_headers = [*self._server_state.default_headers, *headers]
        self._transport.write(refusal(bad.status, bad.reason, all_headers))
        self.close_after_reading(LINGER_DURATION)

    def _discard(self, size: int) -> None:
        """Who still talks has not read yet why it is refused; but not for ever."""
        assert self._discardable_size is not None, "it is refused"
        self._discardable_size -= size
        if self._discardable_size < 0:
            self.abort()

    # Reading.

    def read(self, data: bytes | bytearray) -> int:
        """Read what came; returns how much work that was."""
        if self._websocket is not None or self._extensions is not None:
            return self._read_by_library(data)
        start = load = 0
        size = len(data)
        while start < size:
            # Nearly all that comes are whole messages, each in a frame of its own.
            if self._websocket is not None or self._has_ended or self._receiver is None:
                break
            found = whole_message(data, start, self._max_size)
            if found is None:
                break
            message, end = found
            load += 1 + (end - start) // LOAD_SIZE
            self._receiver.message_received(message)
            start = end
        if start < size:
            if self._has_ended and self._websocket is None:
                return load or 1  # nobody reads it any more
            load += self._read_by_library(data[start:] if start else data)
        return load

    def _read_by_library(self, data: bytes | bytearray) -> int:
        websocket = self._library()
        websocket.receive_data(data)
        events = websocket.events_received()
        load = len(events)
        for event in events:
            if isinstance(event, Frame):
                load += len(event.data) // LOAD_SIZE
                self._frame_received(event)
                event.data = b""  # the library's parser holds it until the next one comes
        if self._is_writing_paused and websocket.state is State.OPEN:
            # All that it has to say are pongs. RFC 6455, 5.5.3: the last one is enough, so that a
            # client that pings and does not read fills no memory.
            if pongs := websocket.data_to_send():
                self._held_pong = pongs[-1]
        else:
            self._write_out(websocket)
        if self._messages is None and is_between_messages(websocket) and self._extensions is None:
            # It has nothing to remember: the next one is as good, and few need any.
            self._websocket = None
            dispose(websocket)
        return load or 1

    def _library(self) -> Library:
        websocket = self._websocket
        if websocket is None:
            websocket = Library(SERVER, state=State.OPEN, max_size=self._max_size, logger=logger)
            if self._extensions is not None:
                websocket.extensions = self._extensions
            self._websocket = websocket
        return websocket

    def _set_max_size(self, max_size: int) -> None:
        if self._max_size is None or max_size < self._max_size:
            self._max_size = max_size
        if self._websocket is not None:
            self._websocket.max_message_size = self._max_size

    def _frame_received(self, frame: Frame) -> None:
        if self._has_ended or self._receiver is None:
            return
        opcode = frame.opcode
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY or opcode is Opcode.CONT:
            try:
                message = self._message(frame)
            except UnicodeDecodeError as error:
                self._fail(INVALID_DATA, f"{error.reason} at position {error.start}")
            except TooBig as error:
                self._fail(TOO_BIG, str(error))
            else:
                if message is not None:
                    self._receiver.message_received(message)
        elif opcode is Opcode.PING or opcode is Opcode.PONG:
            self._receiver.sign_of_life_received()
            if opcode is Opcode.PONG and self._keepalive is not None:
                self._keepalive.pong_received(bytes(frame.data))

    def _message(self, frame: Frame) -> str | bytes | None:
        """The message that a frame completes, if it does."""
        messages = self._messages
        if messages is None:
            if frame.fin and (self._max_size is None or len(frame.data) <= self._max_size):
                data = bytes(frame.data)
                return data.decode() if frame.opcode is Opcode.TEXT else data
            messages = self._messages = Messages(self._max_size)
        message = messages.add(frame)
        if message is not None:
            self._messages = None
        return message

    def _fail(self, code: int, reason: str) -> None:
        websocket = self._library()
        websocket.fail(code, reason)
        self._write_out(websocket)

    # Writing, and the end.

    def _ping(self, data: bytes) -> bool:
        websocket = self._websocket
        if self._has_ended or (websocket is not None and websocket.state is not State.OPEN):
            return False
        self._transport.write(b"\x89%c%b" % (len(data), data))
        return True

    def _give_up(self) -> None:
        self._fail(INTERNAL_ERROR, "keepalive ping timeout")

    def _write_out(self, websocket: Library) -> None:
        """Send what the library has to say: messages, pongs, closes."""
        output = websocket.data_to_send()
        if not output:
            return
        if websocket.state is State.CLOSING and self._receiver is not None:
            self._held_pong = None
            self._receiver.connection_closing()
        self._transport.write(b"".join(output))
        if output[-1] == b"":  # the library's word for the end
            self._finish(websocket)

    def _finish(self, websocket: Library) -> None:
        """The library sent its last: it has the client's close, or failed."""
        has_failed = websocket.close_rcvd is None and websocket.close_sent is not None
        if has_failed:
            self.close_after_reading()
        else:
            self.close_transport()
        close = websocket.close_rcvd or websocket.close_sent
        if has_failed and close is not None and close.code == TOO_BIG:
            self._shared.admission.note("message_too_big", self.host)
        self._end(*((ABNORMAL, "") if close is None else (close.code, close.reason)))

    def _end(self, code: int, reason: str = "") -> None:
        """Tell the receiver, once."""
        if self._keepalive is not None:
            self._keepalive.stop()
            self._keepalive = None
        self._messages = None
        if not self._has_ended:
            self._has_ended = True
            if self._ended is not None and not self._ended.done():
                self._ended.set_result(None)
            if self._receiver is not None:
                self._receiver.connection_lost(code, reason)


class DeflateProtocol(Protocol):
    """``Protocol`` that offers compression, as uvicorn's ``--ws-per-message-deflate`` says."""

    __slots__ = ()

    offers_deflate = True
