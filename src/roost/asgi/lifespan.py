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
    async with AsyncExitStack() as stack:
        await receive()
        try:
            await stack.enter_async_context(context)
            if app is not None:
                await stack.enter_async_context(_inner_lifespan(app, scope))
        except Exception as error:
            logger.exception("starting failed")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        try:
            await stack.aclose()
        except Exception as error:
            logger.exception("stopping failed")
            await send({"type": "lifespan.shutdown.failed", "message": str(error)})
            return
    await send({"type": "lifespan.shutdown.complete"})


@asynccontextmanager
async def _inner_lifespan(app: ASGIApp, scope: Scope) -> AsyncIterator[None]:
    """Run the lifespan of an application; one without a lifespan (Django) is left alone."""
    to_app: asyncio.Queue[Event] = asyncio.Queue()
    from_app: asyncio.Queue[Event | None] = asyncio.Queue()

    async def run() -> None:
        try:
            await app(scope, to_app.get, from_app.put)
        except Exception as error:  # the specification: an app without lifespan raises
            logger.debug("the application has no lifespan: %r", error)
        finally:
            from_app.put_nowait(None)

    task = asyncio.create_task(run())
    to_app.put_nowait({"type": "lifespan.startup"})
    answer = await from_app.get()
    if answer is not None and answer["type"] == "lifespan.startup.failed":
        await task
        raise RuntimeError(answer.get("message") or "the application failed to start")
    try:
        yield
    finally:
        if answer is not None:
            to_app.put_nowait({"type": "lifespan.shutdown"})
            answer = await from_app.get()
            if answer is not None and answer["type"] == "lifespan.shutdown.failed":
                logger.error("the application failed to stop: %s", answer.get("message"))
        await task
