"""Code of the application in the handshake: what it does wrong refuses one connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from roost import Channel, Drainer, Endpoint, Mount, Socket, WebSocket, event
from roost.exceptions import ConnectRefused
from tests.presence.strange import STRANGE, Stubborn
from tests.virtual_clock import virtually
from tests.waiting import until

user: ContextVar[str] = ContextVar("user", default="nobody")


class Request:
    """A handshake with an endpoint, and what it answers."""

    def __init__(self, *, origin: str | None = None) -> None:
        headers = [(b"host", b"example.com")]
        if origin is not None:
            headers.append((b"origin", origin.encode()))
        self.scope: dict[str, Any] = {
            "type": "websocket",
            "path": "/websocket",
            "headers": headers,
            "query_string": b"vsn=2.0.0",
            "extensions": {"websocket.http.response": {}},
        }
        self.answers: list[dict[str, Any]] = []
        self._frames: asyncio.Queue[Any] = asyncio.Queue()
        self._frames.put_nowait({"type": "websocket.connect"})

    def push(self, text: str) -> None:
        self._frames.put_nowait({"type": "websocket.receive", "text": text})

    def hang_up(self) -> None:
        self._frames.put_nowait({"type": "websocket.disconnect", "code": 1000})

    async def send(self, event: Any) -> None:
        self.answers.append(event)

    async def run(self, endpoint: Endpoint) -> None:
        await endpoint(self.scope, self._frames.get, self.send)

    @property
    def outcome(self) -> Any:
        """``"accepted"``, or the status of the refusal."""
        first = self.answers[0]
        if first["type"] == "websocket.accept":
            return "accepted"
        return first.get("status", 403)


async def ask(mount: Any, *, origin: str | None = None) -> Any:
    """What becomes of a handshake."""
    async with Endpoint({"/": mount}).running() as endpoint:
        request = Request(origin=origin)
        request.hang_up()
        async with asyncio.timeout(5):
            await request.run(endpoint)
        return request.outcome


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("where", ["connect", "id", "constructor"])
async def test_a_socket_fails_in_strange_ways(
    where: str, strange: Callable[[], Any], caplog: pytest.LogCaptureFixture
):
    """The client gets an error, and the log says why."""

    class UserSocket(Socket):
        def __init__(self) -> None:
            super().__init__()
            if where == "constructor":
                raise Stubborn

        def connect(self, params: Any, info: Any) -> Any:
            return strange() if where == "connect" else None

        def id(self) -> Any:
            return strange() if where == "id" else None

    assert await ask(UserSocket) in (403, 500)
    assert caplog.records


@pytest.mark.parametrize("answer", [Stubborn, None, "403", (403,), ("403", "no"), asyncio.sleep])
async def test_an_error_handler_that_fails_refuses_all_the_same(
    answer: Any, caplog: pytest.LogCaptureFixture
):
    """What is no answer is 403."""

    class UserSocket(Socket):
        def connect(self, params: Any, info: Any) -> None:
            raise ConnectRefused

    def handle(refused: ConnectRefused) -> Any:
        if answer is Stubborn:
            raise Stubborn
        return asyncio.sleep(0) if answer is asyncio.sleep else answer

    assert await ask(Mount(UserSocket, websocket=WebSocket(error_handler=handle))) == 403
    assert "gets 403" in caplog.text


async def test_an_async_check_of_the_origin_allows_nobody(caplog: pytest.LogCaptureFixture):
    """What a check returns counts only if it was run: a coroutine is not a yes."""

    async def check(origin: Any) -> bool:
        return True

    def fail(origin: Any) -> bool:
        raise Stubborn

    for each in (check, fail):
        mount = Mount(Socket, websocket=WebSocket(check_origin=each))  # type: ignore[arg-type]
        assert await ask(mount, origin="http://example.com") == 403
    assert caplog.text.count("the origin is refused") == 2


@virtually
async def test_a_connect_that_ignores_cancellation_is_given_up():
    """A server that ends its requests does not wait for it."""

    class UserSocket(Socket):
        async def connect(self, params: Any, info: Any) -> None:
            for _ in range(60):
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    pass

    async with Endpoint({"/": UserSocket}).running() as endpoint:
        serving = asyncio.create_task(Request().run(endpoint))
        await asyncio.sleep(1)
        serving.cancel()
        await asyncio.wait([serving])

        assert asyncio.get_running_loop().time() == 2
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            for _ in range(60):
                task.cancel()
                await asyncio.sleep(0)


async def test_handlers_see_what_an_async_connect_set():
    """The context of connect is the connection's, and the server's is not changed."""

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> Any:
            return {"user": user.get()}

        @event("shout")
        def shout(self, payload: Any) -> None: ...

    class UserSocket(Socket):
        channels = {"room:*": RoomChannel}

        async def connect(self, params: Any, info: Any) -> None:
            await asyncio.sleep(0)
            user.set("alice")

    async with Endpoint({"/": UserSocket}).running() as endpoint:
        request = Request()
        request.push('["1","1","room:1","phx_join",{}]')
        serving = asyncio.create_task(request.run(endpoint))
        await until(lambda: len(request.answers) == 2)
        request.hang_up()
        await serving

    assert '"user":"alice"' in request.answers[1]["text"]
    assert user.get() == "nobody"


@pytest.mark.parametrize(
    ("made", "error"), [(Stubborn, Stubborn), (None, TypeError), (Drainer, TypeError)]
)
async def test_a_drainer_that_fails_lets_channels_clean_up(made: Any, error: type[BaseException]):
    """Whoever stops the endpoint hears of it, once all that belongs to a stop is done."""
    ends: list[str] = []

    class RoomChannel(Channel):
        async def terminate(self, reason: Any) -> None:
            await asyncio.sleep(0.05)
            ends.append(reason)

    class UserSocket(Socket):
        channels = {"room:*": RoomChannel}

    def drainer() -> Any:
        if made is Stubborn:
            raise Stubborn
        return made

    endpoint = Endpoint({"/": Mount(UserSocket, drainer=drainer)})
    await endpoint.start()
    request = Request()
    request.push('["1","1","room:1","phx_join",{}]')
    serving = asyncio.create_task(request.run(endpoint))
    await until(lambda: len(request.answers) == 2)
    stopping = asyncio.create_task(endpoint.stop())
    await until(lambda: len(request.answers) == 3)
    request.hang_up()
    await asyncio.wait([serving, stopping])

    assert request.answers[-1]["code"] == 1012
    assert ends == ["draining"]
    assert isinstance(stopping.exception(), error)
