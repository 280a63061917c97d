"""The lifespan protocol: ours, around that of an application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from roost.asgi.lifecycle.lifespan import run_lifespan
from roost.asgi.types import ASGIApp, Event, Receive, Scope, Send


class Life:
    """What a server says and hears; everything that happens is noted in order.

    Args:
        app: The application around which ours is.
        starting, stopping: What our own start and stop raise.
    """

    def __init__(
        self,
        app: ASGIApp | None = None,
        *,
        starting: Exception | None = None,
        stopping: Exception | None = None,
    ) -> None:
        self.notes: list[str] = []
        self.failure: str | None = None
        self.started = asyncio.Event()
        self._app = app
        self._starting = starting
        self._stopping = stopping
        self._said: asyncio.Queue[Event] = asyncio.Queue()

    def say(self, event: str) -> None:
        self._said.put_nowait({"type": f"lifespan.{event}"})

    async def run(self) -> list[str]:
        """From startup to shutdown; returns the notes."""
        self.say("startup")
        self.say("shutdown")
        await self.serve()
        return self.notes

    async def serve(self) -> None:
        scope = {"type": "lifespan", "state": {}}
        await run_lifespan(self._context(), self._app, scope, self._said.get, self._send)

    @asynccontextmanager
    async def _context(self) -> AsyncIterator[None]:
        if self._starting is not None:
            raise self._starting
        self.notes.append("we start")
        try:
            yield
        finally:
            self.notes.append("we stop")
            if self._stopping is not None:
                raise self._stopping

    async def _send(self, event: Event) -> None:
        self.notes.append(event["type"].removeprefix("lifespan."))
        self.failure = event.get("message")
        self.started.set()


def inner(life: list[str], *, failing: str | None = None, raising: str | None = None) -> ASGIApp:
    """An application with a lifespan, which may fail, or raise, at `startup` or `shutdown`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan"
        for step in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{step}"
            life.append(f"it {step}s")
            if raising == step:
                raise RuntimeError(f"broken {step}")
            how = "failed" if failing == step else "complete"
            await send({"type": f"lifespan.{step}.{how}", "message": "it can't"})

    return app


async def test_our_own_lifespan():
    """We run between startup and shutdown, and say so."""
    assert await Life().run() == ["we start", "startup.complete", "we stop", "shutdown.complete"]


async def test_around_an_application():
    """It starts after us and stops before us: it may use us from its first to its last moment."""
    notes: list[str] = []
    life = Life(inner(notes))
    life.notes = notes

    assert await life.run() == [
        "we start",
        "it startups",
        "startup.complete",
        "it shutdowns",
        "we stop",
        "shutdown.complete",
    ]


async def test_an_application_without_a_lifespan():
    """One that raises, or returns at once, is left alone."""

    async def django(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("Django can only handle ASGI/HTTP connections, not lifespan.")

    async def returns(scope: Scope, receive: Receive, send: Send) -> None:
        pass

    for app in (django, returns):
        notes = await Life(app).run()
        assert notes == ["we start", "startup.complete", "we stop", "shutdown.complete"]


async def test_our_start_fails(caplog: pytest.LogCaptureFixture):
    """The server is told why, and the application is never started."""
    notes: list[str] = []
    life = Life(inner(notes), starting=ValueError("no broker"))

    assert await life.run() == ["startup.failed"]
    assert life.failure == "no broker"
    assert notes == []
    assert "startup failed" in caplog.text


async def test_our_stop_fails(caplog: pytest.LogCaptureFixture):
    """The server is told why."""
    life = Life(stopping=ValueError("broker gone"))

    assert (await life.run())[-1] == "shutdown.failed"
    assert life.failure == "broker gone"
    assert "shutdown failed" in caplog.text


async def test_the_application_fails_to_start():
    """We stop again before the server hears of it."""
    notes: list[str] = []
    life = Life(inner(notes, failing="startup"))

    assert await life.run() == ["we start", "we stop", "startup.failed"]
    assert life.failure == "it can't"


async def test_the_application_fails_to_stop():
    """We stop all the same, and the server is told."""
    for options in ({"failing": "shutdown"}, {"raising": "shutdown"}):
        life = Life(inner([], **options))

        assert await life.run() == ["we start", "startup.complete", "we stop", "shutdown.failed"]
        assert life.failure in ("it can't", "RuntimeError('broken shutdown')")


async def test_the_server_gives_up():
    """A lifespan that is cancelled stops us, and leaves no task of the application."""

    async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await asyncio.Event().wait()

    before = asyncio.all_tasks()
    life = Life(stubborn)
    life.say("startup")
    serving = asyncio.create_task(life.serve())
    await life.started.wait()

    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving

    assert life.notes == ["we start", "startup.complete", "we stop"]
    assert asyncio.all_tasks() == before


async def test_state_of_the_lifespan():
    """The application gets the scope of the server, whose state it may fill."""
    scopes: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        raise ValueError("enough")

    await Life(app).run()

    assert scopes == [{"type": "lifespan", "state": {}}]
