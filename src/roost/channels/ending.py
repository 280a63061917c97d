"""The end of a channel: what still runs may finish, the application cleans up, and it is gone.

Each of the three is bounded: ``shutdown_timeout`` for what still runs, and as much for
``terminate``; whoever is over it is cancelled, and given up if it ignores that.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from roost.channels.application import Failed, TookTooLong, call, check_ran, complete
from roost.channels.channel import Channel
from roost.channels.hub import Hub
from roost.channels.tasks import askers, end

__all__ = ["Ending"]

logger = logging.getLogger("roost.channels")


class Ending:
    """End a channel that is subscribed to nothing and tracked nowhere any more.

    Args:
        channel: The channel.
        reason: For ``terminate``.
        client: Whose channel it is, for logs.
        hub: Runs what takes time.
        context: What ``terminate`` runs in.
        log_crash: Called with where it was, and what was raised there.
        ended: Called when all is done.
    """

    __slots__ = ("_channel", "_client", "_context", "_ended", "_hub", "_log_crash", "_reason")

    def __init__(
        self,
        channel: Channel[Any],
        reason: str | BaseException,
        *,
        client: str,
        hub: Hub,
        context: contextvars.Context,
        log_crash: Callable[[str, BaseException], None],
        ended: Callable[[], None],
    ) -> None:
        self._channel = channel
        self._reason = reason
        self._client = client
        self._hub = hub
        self._context = context
        self._log_crash = log_crash
        self._ended = ended

    def begin(self, tasks: Collection[asyncio.Task[Any]]) -> None:
        """Go on at once if nothing runs.

        Args:
            tasks: What still runs: the handler, and cancelled tasks. A handler that stops the
                endpoint is not waited for, since it waits for this.
        """
        if waits_for := set(tasks) - askers():
            self._hub.spawn(self._wait(waits_for))
        else:
            self._terminate()

    async def _wait(self, tasks: Collection[asyncio.Task[Any]]) -> None:
        try:
            _, pending = await asyncio.wait(tasks, timeout=self._channel.shutdown_timeout)
            for task in pending:
                task.set_name(f"{task.get_name()} of {self._channel!r} ({self._client})")
            await end(pending)
        finally:
            self._terminate()

    def _terminate(self) -> None:
        terminate = self._channel.terminate
        try:
            result = call(self._context, terminate, self._reason)
            if result is not None:
                if inspect.isawaitable(result):
                    self._hub.spawn(self._complete(terminate, result))
                    return
                check_ran(terminate, result)
        except Failed as failed:
            self._log_crash("in terminate", failed.error)
        self._ended()

    async def _complete(self, terminate: Callable[..., Any], awaitable: Awaitable[Any]) -> None:
        timeout = self._channel.shutdown_timeout
        try:
            await complete(self._context, terminate, awaitable, timeout=timeout)
        except TookTooLong:
            what = "%r: cancelled terminate after %s s (%s)"
            logger.error(what, self._channel, timeout, self._client)
        except Failed as failed:
            self._log_crash("in terminate", failed.error)
        finally:
            self._ended()
