"""Any ASGI application on one WebSocket: events in queues, as on uvicorn's own classes.

The handshake is open until the application accepts it, refuses it (403), or answers it by itself
(the extension ``websocket.http.response``). While a message waits for the application nothing more
is read from the client; while the client does not read, ``send`` waits.
"""

from __future__ import annotations

import asyncio
import email.utils
import enum
import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.server import ServerState

from roost.asgi.types import ASGIApp, Event, Scope
from roost.asgi.uvicorn.handshake import access_line, response

__all__ = ["Application"]

logger = logging.getLogger("uvicorn.error")

INTERNAL_ERROR: Final = 1011
RESTART: Final = 1012


class _Step(enum.Enum):
    """Where the application is; it is out of step with the connection, which may be gone."""

    CONNECTING = "websocket.accept, websocket.close or websocket.http.response.start"
    ANSWERING = "websocket.http.response.body"
    OPEN = "websocket.send or websocket.close"
    CLOSED = "nothing more"


class WebSocketConnection(Protocol):
    """The connection, as far as the application acts on it."""

    def accept(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Accept the handshake, with these headers added."""
        ...

    def refuse(self, status: int, text: str = "") -> None:
        """Answer the handshake with an error."""
        ...

    def answer(self, response: bytes) -> None:
        """Answer the handshake with another response than its acceptance, whole."""
        ...

    def send(self, data: str | bytes) -> None:
        """Send a message."""
        ...

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame."""
        ...

    def end(self, code: int) -> None:
        """Send a close frame, and close the connection without an answer."""
        ...

    def drop(self) -> None:
        """Close the connection without a close frame, unless it has ended."""
        ...

    def abort(self) -> None:
        """Close the connection without waiting for what is written."""
        ...

    def application_returned(self) -> None:
        """The application has nothing more to say."""
        ...

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Application:
    """One call of the ASGI application; a ``Receiver``.

    Args:
        protocol: The connection.
        server_state: Of uvicorn: where the task and the default headers are.
        scope: Of the call.
        logs_access: Whether handshakes are logged.

    Attributes:
        has_returned: The call is over.
    """

    __slots__ = (
        "_answer",
        "_events",
        "_logs_access",
        "_protocol",
        "_reader",
        "_scope",
        "_server_state",
        "_step",
        "_was_told",
        "_writable",
        "has_returned",
    )

    def __init__(
        self,
        protocol: WebSocketConnection,
        server_state: ServerState,
        scope: Scope,
        *,
        logs_access: bool,
    ) -> None:
        self._protocol = protocol
        self._logs_access = logs_access
        self._server_state = server_state
        self._scope = scope
        # A list, which is short: an empty deque takes ten times its memory.
        self._events: list[Event] = [{"type": "websocket.connect"}]
        self._reader: asyncio.Future[None] | None = None  # the application waits for an event
        self._writable: asyncio.Future[None] | None = None  # done when the client reads again
        self._answer: tuple[int, list[tuple[bytes, bytes]], bytearray] | None = None
        self._step = _Step.CONNECTING
        self.has_returned = False
        self._was_told = False  # the application was told that the connection ended

    def start(self, app: ASGIApp) -> None:
        """Run the application in a task, which uvicorn waits for."""
        task = asyncio.get_running_loop().create_task(self._run(app))
        self._server_state.tasks.add(task)
        task.add_done_callback(self._server_state.tasks.discard)

    @property
    def has_accepted(self) -> bool:
        """The application sent ``websocket.accept``, and not closed."""
        return self._step is _Step.OPEN

    def hand_over(self) -> list[str | bytes]:
        """A receiver takes over: returns what came and was not received.

        The application has no more say, and may end before the connection does.
        """
        self._step = _Step.CLOSED
        events, self._events = self._events, []
        return [
            event["text"] if "text" in event else event["bytes"]
            for event in events
            if event["type"] == "websocket.receive"
        ]

    # For the protocol (``Receiver``).

    def message_received(self, data: str | bytes) -> None:
        if self._step is not _Step.CLOSED:
            kind = {"text": data} if isinstance(data, str) else {"bytes": data}
            self._put({"type": "websocket.receive", **kind})
            self._protocol.pause_reading()

    def sign_of_life_received(self) -> None:
        pass  # plain ASGI has no event for it

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None

    def connection_closing(self) -> None:
        pass  # everything is written at once

    def connection_lost(self, code: int, reason: str) -> None:
        self._tell(code, reason)
        self.resume_writing()

    def server_ending(self) -> None:
        if self._step is _Step.OPEN:
            self._protocol.end(RESTART)
        elif self._step is _Step.CLOSED:  # the client did not answer yet
            self._protocol.abort()
        else:
            self._protocol.refuse(503, "The server is restarting.\n")

    # For the application.

    async def receive(self) -> Event:
        while not self._events:
            if self._reader is None:
                self._reader = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._reader)  # several tasks may receive
        event = self._events.pop(0)
        if not self._events:
            self._protocol.resume_reading()
        return event

    async def send(self, event: Event) -> None:
        while self._writable is not None:
            await asyncio.shield(self._writable)
        if self._was_told and self._step is not _Step.CLOSED:
            raise ClientDisconnected
        match self._step, event["type"]:
            case _Step.OPEN, "websocket.send":
                data = event.get("bytes")
                self._protocol.send(event["text"] if data is None else data)
            case _Step.OPEN, "websocket.close":
                self._step = _Step.CLOSED
                code, reason = event.get("code", 1000), event.get("reason") or ""
                self._tell(code, reason)
                self._protocol.close(code, reason)
            case _Step.CONNECTING, "websocket.accept":
                self._accept(event)
            case _Step.CONNECTING, "websocket.close":
                self._log("403")
                self._step = _Step.CLOSED
                self._protocol.refuse(403)
            case _Step.CONNECTING, "websocket.http.response.start":
                self._start_answer(event)
            case _Step.ANSWERING, "websocket.http.response.body":
                self._continue_answer(event)
            case step, kind:
                raise RuntimeError(f"expected {step.value}, the application sent {kind}")

    # The handshake.

    def _accept(self, event: Event) -> None:
        self._log("[accepted]")
        headers = [*self._server_state.default_headers, *event.get("headers", ())]
        if (subprotocol := event.get("subprotocol")) is not None:
            headers.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
        self._protocol.accept(headers)
        self._step = _Step.OPEN

    def _start_answer(self, event: Event) -> None:
        status = event["status"]
        if not 200 <= status < 600:
            raise RuntimeError(f"expected the status of a response, the application sent {status}")
        self._log(str(status))
        self._answer = status, list(event.get("headers", ())), bytearray()
        self._step = _Step.ANSWERING

    def _continue_answer(self, event: Event) -> None:
        assert self._answer is not None
        status, headers, body = self._answer
        body += event.get("body", b"")
        if event.get("more_body"):
            return
        names = {name.lower() for name, _ in headers}
        for name, value in (
            (b"date", email.utils.formatdate(usegmt=True).encode("ascii")),
            (b"connection", b"close"),
            (b"content-length", b"%d" % len(body)),
            (b"content-type", b"text/plain; charset=utf-8"),
        ):
            if name not in names:
                headers.append((name, value))
        self._step = _Step.CLOSED
        self._protocol.answer(response(status, headers, bytes(body)))

    # Running.

    async def _run(self, app: ASGIApp) -> None:
        try:
            await app(self._scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except asyncio.CancelledError:  # the server ends, and has waited long enough
            self._end(self._protocol.end, RESTART)
            raise
        except Exception:
            logger.exception("Exception in ASGI application\n")
            self._end(self._protocol.close, INTERNAL_ERROR)
        else:
            if self._is_shaking_hands and not self._was_told:
                logger.error("ASGI callable returned without completing handshake.")
            self._end(self._protocol.drop)
        finally:
            self.has_returned = True
            self._protocol.application_returned()

    @property
    def _is_shaking_hands(self) -> bool:
        return self._step in (_Step.CONNECTING, _Step.ANSWERING)

    def _end(self, end: Callable[..., None], *arguments: int) -> None:
        """The application ended; the connection ends with it, unless it is about to."""
        if not self._is_shaking_hands:
            if self._step is _Step.OPEN:
                end(*arguments)
        elif not self._was_told:
            self._protocol.refuse(500, "Internal Server Error")
        self._step = _Step.CLOSED

    def _tell(self, code: int, reason: str) -> None:
        if not self._was_told:
            self._was_told = True
            self._put({"type": "websocket.disconnect", "code": code, "reason": reason})

    def _put(self, event: Event) -> None:
        self._events.append(event)
        if self._reader is not None:
            self._reader.set_result(None)
            self._reader = None

    def _log(self, answer: str) -> None:
        if self._logs_access:
            logger.info(*access_line(self._scope, answer))
