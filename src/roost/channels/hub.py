"""What the connections of one endpoint share while it runs."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine, Sequence
from typing import Any

from roost.channels.tasks import Tasks
from roost.pubsub.pubsub import PubSub
from roost.repeats import Repeats
from roost.wire.masking import DEFAULT_NAMES, ParameterFilter
from roost.wire.serializers import Serializer

__all__ = ["Hub"]

logger = logging.getLogger("roost.channels")


class Hub:
    """The PubSub, the serializers, and the tasks that outlive what started them.

    Args:
        pubsub: Running.
        filter_parameters: Parts of names of parameters that logs must not show.
    """

    def __init__(self, pubsub: PubSub, *, filter_parameters: Sequence[str] = DEFAULT_NAMES) -> None:
        self.pubsub = pubsub
        self.parameter_filter = ParameterFilter(filter_parameters)
        self._serializers: dict[type[Serializer], Serializer] = {}
        self._tasks = Tasks()
        self._full = Repeats()

    @property
    def counters(self) -> Counter[str]:
        """What was dropped and why."""
        return self.pubsub.counters

    def mailbox_full(self, channel: object, client: str) -> None:
        """Count a message that a full mailbox did not take, and log it now and then."""
        self.counters["mailbox_full"] += 1
        what = "full mailboxes took no more of %d messages, the last for %r (%s)"
        self._full.note(lambda count: logger.warning(what, count, channel, client))

    def serializer(self, kind: type[Serializer]) -> Serializer:
        """The one instance of a serializer: broadcasts are encoded once for each instance."""
        serializer = self._serializers.get(kind)
        if serializer is None:
            serializer = self._serializers[kind] = kind(self.pubsub.encoder)
        return serializer

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine that cleans up; ``settled`` waits for it."""
        self._tasks.spawn(coroutine).add_done_callback(_log_failure)

    async def settled(self) -> None:
        """Wait until nothing is cleaning up."""
        while self._tasks:
            await self._tasks.wait()


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("cleaning up failed", exc_info=error)
