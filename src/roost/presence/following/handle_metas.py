"""``handle_metas``: the application's view of each topic, moved on by each diff.

Phoenix hands its callback the metas of the topic *after* the diff. They are kept here, since the
tracker may be further on by then; and they are kept by ref, where Phoenix compares whole metas and
so keeps what a ``fetch`` decorated differently at the join and at the leave.

What is kept is ours alone, and the application gets copies: whatever it does to its arguments,
neither clients nor the next diff see it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from roost.aliases import Presences
from roost.channels.application import Failed, run
from roost.presence.definition import PresenceDefinition

__all__ = ["MetasHandler"]

logger = logging.getLogger("roost.presence")


class MetasHandler:
    """Call ``handle_metas`` for each diff, one after the other.

    Args:
        presence: Whose callback it is.
        context: That of the run, in copies of which it is called.
    """

    def __init__(self, presence: PresenceDefinition, context: contextvars.Context) -> None:
        self._presence = presence
        self._context = context
        self._lock = asyncio.Lock()  # the state goes from call to call, whatever the topic
        self._topics: dict[str, _TopicMetas] = {}
        self._state: Any = None

    async def start(self) -> None:
        """Ask ``init`` for the first state.

        Raises:
            BaseException: What ``init`` raised.
        """
        try:
            self._state = await run(self._context.copy(), self._presence.init)
        except Failed as failed:
            raise failed.error from failed

    async def handle_diff(self, topic: str, joins: Presences, leaves: Presences) -> None:
        """A diff was sent, as fetched."""
        known = self._topics.setdefault(topic, _TopicMetas())
        await self._handle(topic, known, known.without_known(joins), known.only_known(leaves))

    async def handle_state(self, topic: str, presences: Presences) -> None:
        """A state was sent instead of a diff, which would have been too long."""
        known = self._topics.setdefault(topic, _TopicMetas())
        await self._handle(topic, known, known.without_known(presences), known.missing(presences))

    async def _handle(
        self, topic: str, known: _TopicMetas, joins: Presences, leaves: Presences
    ) -> None:
        known.apply(joins, leaves)
        if not known.shown:
            del self._topics[topic]
        if not joins and not leaves:
            return
        diff = {"joins": _copy(joins), "leaves": _copy(leaves)}
        presences = MappingProxyType(known.shown)
        async with self._lock:
            try:
                state = await run(
                    self._context.copy(),
                    self._presence.handle_metas,
                    topic,
                    diff,
                    presences,
                    self._state,
                )
            except Failed as failed:
                logger.error(
                    "%s raised for %r, its state stays", failed.name, topic, exc_info=failed.error
                )
            else:
                if state is not None:
                    self._state = state


class _TopicMetas:
    """The metas of one topic, as of its last diff.

    Attributes:
        shown: Key → metas, for the application.
    """

    def __init__(self) -> None:
        self.shown: dict[str, list[Any]] = {}
        self._kept: dict[str, dict[str, Any]] = {}  # key → ref → meta

    def apply(self, joins: Presences, leaves: Presences) -> None:
        """Move on: first the joins, behind those that are there, then the leaves."""
        for key, entry in joins.items():
            kept = self._kept.setdefault(key, {})
            kept.update((meta["phx_ref"], _copy(meta)) for meta in entry["metas"])
        for key, entry in leaves.items():
            for meta in entry["metas"]:
                del self._kept[key][meta["phx_ref"]]
        for key in dict.fromkeys((*joins, *leaves)):
            if self._kept[key]:
                self.shown[key] = [_copy(meta) for meta in self._kept[key].values()]
            else:
                self.shown.pop(key, None)
                del self._kept[key]

    def without_known(self, presences: Presences) -> Presences:
        """What of ``presences`` is not there."""
        return self._select(presences, is_known=False)

    def only_known(self, presences: Presences) -> Presences:
        """What of ``presences`` is there."""
        return self._select(presences, is_known=True)

    def missing(self, presences: Presences) -> Presences:
        """What is there and not among ``presences``."""
        found = {}
        for key, kept in self._kept.items():
            refs = {meta["phx_ref"] for meta in presences.get(key, {"metas": ()})["metas"]}
            if gone := [meta for ref, meta in kept.items() if ref not in refs]:
                found[key] = {"metas": gone}
        return found

    def _select(self, presences: Presences, *, is_known: bool) -> Presences:
        selected = {}
        for key, entry in presences.items():
            kept = self._kept.get(key, {})
            found = [meta for meta in entry["metas"] if (meta["phx_ref"] in kept) is is_known]
            if found:
                selected[key] = {**entry, "metas": found}
        return selected


def _copy(value: Any) -> Any:
    """A value with containers of its own; what else an application put into them is its own."""
    if isinstance(value, Mapping):
        return {key: _copy(each) for key, each in value.items()}
    if type(value) is list:
        return [_copy(each) for each in value]
    if type(value) is tuple:
        return tuple(_copy(each) for each in value)
    return value
