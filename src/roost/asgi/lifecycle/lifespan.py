"""The lifespan protocol of ASGI: ours, with that of the application around which we are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from roost.asgi.types import ASGIApp, Event, Receive, Scope, Send

__all__ = ["run_lifespan"]

logger = logging.getLogger("roost.asgi")


async def run_lifespan(
    context: AbstractAsyncContextManager[object],
    app: ASGIApp | None,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Enter ``context``, and the lifespan of ``app`` if it has one, from startup to shutdown."""
    await receive()
    step = "startup"
    try:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(context)
            if app is not None:
                await stack.enter_async_context(_inner_lifespan(app, scope))
            await send({"type": "lifespan.startup.complete"})
            step = "shutdown"
            await receive()
    except Exception as error:
        logger.exception("%s failed", step)
        await send({"type": f"lifespan.{step}.failed", "message": _text(error)})
    else:
        await send({"type": "lifespan.shutdown.complete"})


def _text(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # the error of an application, whose text is code of its own
        return type(error).__name__


@asynccontextmanager
async def _inner_lifespan(app: ASGIApp, scope: Scope) -> AsyncIterator[None]:
    """Run the lifespan of an application; one without a lifespan (Django) is left alone.

    Raises:
        RuntimeError: The application failed to start, or to stop.
    """
    to_app: asyncio.Queue[Event] = asyncio.Queue()
    from_app: asyncio.Queue[Event] = asyncio.Queue()

    async def run() -> None:
        try:
            await app(scope, to_app.get, from_app.put)
        except Exception as error:
            logger.debug("the lifespan of the application raised %r", error)
            from_app.put_nowait({"type": "raised", "message": repr(error)})
        else:
            from_app.put_nowait({"type": "returned"})

    task = asyncio.create_task(run())
    try:
        to_app.put_nowait({"type": "lifespan.startup"})
        answer = await from_app.get()
        if answer["type"] == "lifespan.startup.failed":
            raise RuntimeError(answer.get("message") or "the application failed to start")
        # The specification: an application that raises or returns at once has no lifespan.
        has_lifespan = answer["type"] == "lifespan.startup.complete"
        yield
        if has_lifespan:
            to_app.put_nowait({"type": "lifespan.shutdown"})
            answer = await from_app.get()
            if answer["type"] != "lifespan.shutdown.complete":
                raise RuntimeError(answer.get("message") or "the application failed to stop")
    finally:
        task.cancel()  # what it has to do is done, or the server can't wait
        await asyncio.wait({task})
