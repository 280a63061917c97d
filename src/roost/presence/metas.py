"""``handle_metas``: the application's view of each topic, moved on by each diff.

Phoenix hands its callback the metas of the topic *after* the diff. They are kept here, since the
tracker may be further on by then; and they are kept by ref, where Phoenix compares whole metas and
so keeps what a ``fetch`` decorated differently at the join and at the leave.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from roost.aliases import Presences
from roost.presence.serial import cancels_us

if TYPE_CHECKING:
    from roost.presence.presence import Presence

__all__ = ["MetasHandler"]

logger = logging.getLogger("roost.presence")

_Metas: TypeAlias = Mapping[str, list[Any]]  # by key


class MetasHandler:
    """Call ``handle_metas`` for each diff, one after the other.

    Args:
        presence: Whose callback it is.
    """

    def __init__(self, presence: Presence) -> None:
        self._presence = presence
        self._lock = asyncio.Lock()  # the state goes from call to call, whatever the topic
        self._topics: dict[str, dict[str, list[Any]]] = {}  # key → metas, by topic
        self._state: Any = None

    async def start(self) -> None:
        """Ask ``init`` for the first state."""
        state = self._presence.init()
        self._state = await state if inspect.isawaitable(state) else state

    async def handle_diff(self, topic: str, joins: Presences, leaves: Presences) -> None:
        """A diff was told, as fetched."""
        known = self._topics.setdefault(topic, {})
        joins, leaves = _unknown(joins, known), _known(leaves, known)
        await self._handle(topic, known, joins, leaves)

    async def handle_state(self, topic: str, presences: Presences) -> None:
        """A state was told instead of a diff, which would have been too long."""
        known = self._topics.setdefault(topic, {})
        before: Presences = {key: {"metas": metas} for key, metas in known.items()}
        now = {key: entry["metas"] for key, entry in presences.items()}
        await self._handle(topic, known, _unknown(presences, known), _unknown(before, now))

    async def _handle(
        self, topic: str, known: dict[str, list[Any]], joins: Presences, leaves: Presences
    ) -> None:
        _apply(known, joins, leaves)
        if not known:
            del self._topics[topic]
        if not joins and not leaves:
            return
        diff = {"joins": joins, "leaves": leaves}
        async with self._lock:
            try:
                state = self._presence.handle_metas(
                    topic, diff, MappingProxyType(known), self._state
                )
                if inspect.isawaitable(state):
                    state = await state
            except (Exception, asyncio.CancelledError) as error:
                if cancels_us(error):
                    raise
                name = type(self._presence).__qualname__
                logger.exception("%s.handle_metas raised for %r, its state stays", name, topic)
            else:
                if state is not None:
                    self._state = state


def _unknown(presences: Presences, metas: _Metas) -> Presences:
    """What of ``presences`` is not among ``metas``."""
    return _select(presences, metas, is_known=False)


def _known(presences: Presences, metas: _Metas) -> Presences:
    """What of ``presences`` is among ``metas``."""
    return _select(presences, metas, is_known=True)


def _select(presences: Presences, metas: _Metas, *, is_known: bool) -> Presences:
    selected = {}
    for key, entry in presences.items():
        refs = {meta["phx_ref"] for meta in metas.get(key, ())}
        found = [meta for meta in entry["metas"] if (meta["phx_ref"] in refs) is is_known]
        if found:
            selected[key] = {**entry, "metas": found}
    return selected


def _apply(known: dict[str, list[Any]], joins: Presences, leaves: Presences) -> None:
    """Move a topic's metas on: first the joins, behind those that are there, then the leaves."""
    for key, entry in joins.items():
        known.setdefault(key, []).extend(entry["metas"])
    for key, entry in leaves.items():
        gone = {meta["phx_ref"] for meta in entry["metas"]}
        known[key] = [meta for meta in known[key] if meta["phx_ref"] not in gone]
        if not known[key]:
            del known[key]
