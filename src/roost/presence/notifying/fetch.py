"""The application's ``fetch``: called seldom, contained when it fails."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from operator import itemgetter
from typing import Any, Final

from roost.aliases import Presences
from roost.channels.application import Contained, Failed, run
from roost.channels.tasks import Tasks, until_done
from roost.crdt.entry import Entry
from roost.naming import NameLimits
from roost.presence.definition import PresenceDefinition
from roost.strict_json import JsonEncoder
from roost.tracker.feed import Diff
from roost.tracker.protocol import TrackerProtocol
from roost.wire.presence import decode_grouped, encode_grouped

__all__ = ["Fetcher"]

logger = logging.getLogger("roost.presence")

MAX_ROUNDS: Final = 3  # fetches of one list for those who came during the one before
MAX_CACHED: Final = 100_000  # presences; beyond, the oldest are fetched anew


class _Cache:
    """What ``fetch`` made of presences, for ``ttl`` seconds.

    A ref never names another presence or meta, so that nothing has to be taken out but for age.
    """

    def __init__(self, ttl: float) -> None:
        self._ttl = ttl
        self._kept: OrderedDict[str, tuple[float, str, dict[str, Any]]] = OrderedDict()

    def put(self, presences: Presences, now: float) -> None:
        if not self._ttl:
            return
        for key, entry in presences.items():
            for meta in entry["metas"]:
                ref = meta["phx_ref"]
                self._kept.pop(ref, None)  # so that the oldest stay in front
                self._kept[ref] = (now + self._ttl, key, {**entry, "metas": [meta]})
        while self._kept:
            ends_at, _, _ = next(iter(self._kept.values()))
            if ends_at > now and len(self._kept) <= MAX_CACHED:
                break
            self._kept.popitem(last=False)

    def split(self, entries: Iterable[Entry], now: float) -> tuple[Presences, list[Entry]]:
        """What is kept of entries, and those of which nothing is."""
        found: Presences = {}
        kept, missing = [], []
        for entry in entries:
            each = self._kept.get(entry.ref)
            if each is not None and each[0] > now:
                kept.append(each)
            else:
                missing.append(entry)
        for _, key, presence in sorted(kept, key=itemgetter(0)):  # what is known last counts
            _merge(found, {key: presence})
        return found, missing


class _Batch:
    """One call of ``fetch`` that lists wait for, and the entries that it is about."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}  # by ref
        self.task: asyncio.Task[Presences | None]

    def fetched(self, known: set[str]) -> Presences:
        """Entries whose refs are not in ``known``, as fetched; as tracked if ``fetch`` failed."""
        result = None if self.task.cancelled() else self.task.result()
        presences = decode_grouped(self.entries.values()) if result is None else result
        return _only(presences, self.entries.keys() - known)


class Fetcher:
    """Run ``fetch`` for lists and diffs, and encode what comes back.

    Lists of one topic share what is being made: who asks while one is under way waits for it, and
    for another one only if somebody came meanwhile whom it has not got. 500 channels that join a
    topic together make one call, and encode one list, not 500.

    Args:
        presence: Whose ``fetch`` it is.
        encoder: Encodes what it returns.
        tasks: Those of the presence's run.
        context: That of the run: what is fetched for several is fetched in nobody's context.
        limits: What a key that it returns may be.
    """

    def __init__(
        self,
        presence: PresenceDefinition,
        encoder: JsonEncoder,
        tasks: Tasks,
        context: contextvars.Context,
        limits: NameLimits,
    ) -> None:
        self._presence = presence
        self._limits = limits
        self._encoder = encoder
        self._tasks = tasks
        self._context = context
        self._listings: dict[str, asyncio.Task[tuple[bytes, int]]] = {}  # by topic: under way
        self._open: dict[str, _Batch] = {}  # by topic: still taking entries, in this tick
        self._asked: dict[str, dict[str, _Batch]] = {}  # by topic and ref: under way
        self._cache = _Cache(presence.fetch_ttl)

    async def list(self, topic: str, tracker: TrackerProtocol) -> tuple[bytes, int]:
        """The state of a topic, made once for all who wait for it, and its version.

        It is current when it is made, and has everybody who was there when it was asked for. If
        the presence stops meanwhile, nothing more is fetched, and all are listed as tracked.
        """
        asked_at = tracker.version
        while tracker.count_entries(topic):
            listing = self._listings.get(topic)
            if listing is None or listing.done():
                listing = self._listings[topic] = self._tasks.spawn(self._list(topic, tracker))
                listing.add_done_callback(partial(self._list_made, topic))
            await until_done(listing)
            if listing.cancelled():  # the run has ended
                return encode_grouped(tracker.list(topic)), tracker.version
            state, version = listing.result()
            if version >= asked_at:
                return state, version
        return b"{}", tracker.version

    def _list_made(self, topic: str, listing: asyncio.Task[tuple[bytes, int]]) -> None:
        if self._listings.get(topic) is listing:  # and not one that was begun since it ended
            del self._listings[topic]

    async def _list(self, topic: str, tracker: TrackerProtocol) -> tuple[bytes, int]:
        """The state of a topic, and its version.

        Those who left during the fetch are dropped, those who came are fetched too. If somebody
        came during the last of ``MAX_ROUNDS``, the state is that from before it, so that nobody is
        in it who was not fetched.
        """
        version, entries = tracker.version, list(tracker.list(topic))
        fetched, missing = self._cache.split(entries, _now())
        asked = {entry.ref for entry in entries}  # refs that fetch was given
        asked.difference_update(entry.ref for entry in missing)
        for _ in range(MAX_ROUNDS):
            if missing:
                for batch in await self._fetch_shared(topic, missing):
                    _merge(fetched, batch.fetched(asked))
                    asked.update(batch.entries)
            now_there = list(tracker.list(topic))
            missing = [entry for entry in now_there if entry.ref not in asked]
            if not missing:
                return self._encode_state(topic, now_there, fetched), tracker.version
            version_before, entries_before = version, entries
            version, entries = tracker.version, now_there
        return self._encode_state(topic, entries_before, fetched), version_before

    async def get_by_key(
        self, topic: str, key: str, tracker: TrackerProtocol
    ) -> dict[str, Any] | None:
        """The fetched entry of one key; None if it is not there."""
        entries = tracker.get_by_key(topic, key)
        if not entries:
            return None
        task = self._tasks.spawn(self._fetch_rest(topic, entries))
        await until_done(task)
        if task.cancelled():  # the presence stopped meanwhile
            return decode_grouped(entries)[key]
        found = task.result().get(key)
        return deepcopy(found) if self._presence.fetch_ttl else found  # the caller may change it

    async def diff(self, topic: str, entries: Sequence[Entry]) -> Presences:
        """All who joined or left, as one fetch returned them; as tracked if it failed."""
        return await self._fetch_rest(topic, entries)

    @staticmethod
    def sides(presences: Presences, diff: Diff) -> tuple[Presences, Presences]:
        """Those of fetched presences who joined, and those who left."""
        return (
            _only(presences, {entry.ref for entry in diff.joins}),
            _only(presences, {entry.ref for entry in diff.leaves}),
        )

    async def _fetch_rest(self, topic: str, entries: Sequence[Entry]) -> Presences:
        """Entries as fetched now or lately; as tracked if ``fetch`` failed."""
        found, missing = self._cache.split(entries, _now())
        if missing:
            fetched = await self._fetch(topic, missing)
            _merge(found, decode_grouped(missing) if fetched is None else fetched)
        return _in_order(found, entries)

    async def _fetch_shared(self, topic: str, entries: Sequence[Entry]) -> Sequence[_Batch]:
        """Fetch entries in calls that are shared; the calls may be about others, too."""
        asked = self._asked.setdefault(topic, {})
        for entry in entries:
            if entry.ref not in asked:
                batch = self._open.get(topic)
                if batch is None:
                    batch = _Batch()
                    batch.task = self._tasks.spawn(self._run(topic, batch))
                    batch.task.add_done_callback(partial(self._forget, topic, batch))
                    self._open[topic] = batch
                batch.entries[entry.ref] = entry
                asked[entry.ref] = batch
        batches = list(dict.fromkeys(asked[entry.ref] for entry in entries))
        for batch in batches:
            await until_done(batch.task)
        return batches

    async def _run(self, topic: str, batch: _Batch) -> Presences | None:
        await asyncio.sleep(0)  # to the end of the tick: others may ask for more
        del self._open[topic]
        return await self._fetch(topic, batch.entries.values())

    def _forget(self, topic: str, batch: _Batch, task: asyncio.Task[Any]) -> None:
        """Nothing is asked for any more by a batch that is done, however far it came."""
        if self._open.get(topic) is batch:
            del self._open[topic]
        asked = self._asked[topic]
        for ref in batch.entries:
            del asked[ref]
        if not asked:
            del self._asked[topic]

    async def _fetch(self, topic: str, entries: Iterable[Entry]) -> Presences | None:
        """What ``fetch`` makes of entries; None if it failed, which is logged."""
        fetch = self._presence.fetch
        try:
            result = await run(
                self._context.copy(),
                fetch,
                topic,
                decode_grouped(entries),
                timeout=self._presence.fetch_timeout,
            )
            with Contained(fetch):
                presences = _checked(result, self._limits)
        except Failed as failed:
            self._log(topic, failed)
            return None
        self._cache.put(presences, _now())
        return presences

    def _encode_state(self, topic: str, entries: Sequence[Entry], fetched: Presences) -> bytes:
        """Entries as fetched."""
        visible = _only(fetched, {entry.ref for entry in entries})
        try:
            with Contained(self._presence.fetch):  # no JSON, or a bug of the encode_hook
                return self._encoder.encode(_in_order(visible, entries))
        except Failed as failed:
            self._log(topic, failed)
            return encode_grouped(entries)

    def _log(self, topic: str, failed: Failed) -> None:
        logger.error(
            "%s failed for %r, its presences are sent without fetched data",
            failed.name,
            topic,
            exc_info=failed.error,
        )


def _now() -> float:
    return asyncio.get_running_loop().time()


def _checked(result: Any, limits: NameLimits) -> Presences:
    """The result of a fetch, if it has the shape of presences."""
    if not isinstance(result, Mapping):
        raise TypeError(f"fetch must return a mapping, got {type(result).__name__}")
    for key, entry in result.items():
        if not isinstance(entry, Mapping) or not isinstance(entry.get("metas"), list | tuple):
            raise TypeError(f"fetch must keep the metas of {key!r} in a list")
        if not all(
            isinstance(meta, Mapping) and isinstance(meta.get("phx_ref"), str)
            for meta in entry["metas"]
        ):
            raise TypeError(f"fetch must keep the phx_ref of each meta of {key!r}")
    presences = {limits.key(key): dict(entry) for key, entry in result.items()}
    if len(presences) != len(result):
        raise TypeError("fetch returned two keys that are the same once they are text")
    return presences


def _only(presences: Presences, refs: set[str]) -> Presences:
    """Presences with these refs; entries without any are left out."""
    found = {}
    for key, entry in presences.items():
        metas = [meta for meta in entry["metas"] if meta["phx_ref"] in refs]
        if metas:
            found[key] = {**entry, "metas": metas}
    return found


def _merge(presences: Presences, more: Presences) -> None:
    """Add presences to presences: the later entry counts, with the metas of both."""
    for key, entry in more.items():
        if key in presences:
            entry = {
                **presences[key],
                **entry,
                "metas": [*presences[key]["metas"], *entry["metas"]],
            }
        presences[key] = entry


def _in_order(presences: Presences, entries: Iterable[Entry]) -> Presences:
    """Presences with keys and metas in the order of their entries, whichever call each is from."""
    positions = {entry.ref: position for position, entry in enumerate(entries)}

    def position(meta: Mapping[str, Any]) -> int:
        return positions.get(meta["phx_ref"], len(positions))

    def first_position(member: tuple[str, dict[str, Any]]) -> int:
        return min(map(position, member[1]["metas"]), default=len(positions))

    return {
        key: {**entry, "metas": sorted(entry["metas"], key=position)}
        for key, entry in sorted(presences.items(), key=first_position)
    }
