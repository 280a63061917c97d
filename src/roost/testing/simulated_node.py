"""One node of a simulation: the protocol objects that a node runs, and what was seen of them."""

from __future__ import annotations

import copy
import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from roost.crdt.entry import Entry
from roost.crdt.incarnation import OriginId
from roost.crdt.slice import Slice
from roost.tracker.messages import TrackerMessage
from roost.tracker.meta import decode_meta
from roost.tracker.options import ReplicationOptions
from roost.tracker.protocol import TrackerEvent, TrackerProtocol
from roost.tracker.replication import ClusterEvent, ReplicationProtocol

__all__ = ["SimulatedNode"]


class SimulatedNode:
    """One incarnation of a node.

    Args:
        name: Its name, by which scenarios call it.
        origin: Its id, with the name that it was configured with.
        options: Its periods.
        link: What its adapter calls the way to it.
        versions: The lowest and the highest message version that it reads.
        rng: Its chance.
        new_nonce: Makes 64 random bits for a new id.
        now: When it starts.
        settle: Does what a shell does after any input.

    Attributes:
        name: Its name in the scenario.
        address: The name that it was configured with; it may have taken another one since.
        model: The node that it is a copy of.
        tracker: Its tracker.
        replication: Its conversation with the others.
        shown: What its events alone amount to: ref → entry.
        events: All that its subscribers were notified of, in order.
        cluster_events: All events about other nodes, in order.
        inbox: What waits for it while it is paused.
        sleeps: When it was paused, and when it woke.
        hinted_at: Link → when it last got a hint that it is gone.
        ended_at: When it stopped or crashed; None while it runs.
    """

    def __init__(
        self,
        name: str,
        origin: OriginId,
        *,
        options: ReplicationOptions,
        link: str,
        versions: tuple[int, int],
        rng: random.Random,
        new_nonce: Callable[[], int],
        now: float,
        settle: Callable[[SimulatedNode], None],
    ) -> None:
        self.name = name
        self.address = origin.name
        self.link = link
        self.versions = versions
        own = Slice(origin)
        self.tracker = TrackerProtocol(own)
        self.replication = ReplicationProtocol(
            own,
            rng=rng,
            new_nonce=new_nonce,
            now=now,
            options=options,
            link=link,
            versions=versions,
        )
        self.replication.add_tracker(self.tracker)
        self.shown: dict[str, Entry] = {}
        self.events: list[TrackerEvent] = []
        self.cluster_events: list[ClusterEvent] = []
        self.model: SimulatedNode | None = None
        self.is_live = True
        self.paused_at: float | None = None
        self.inbox: list[TrackerMessage] = []
        self.sleeps: list[tuple[float, float]] = []
        self.hinted_at: dict[str, float] = {}
        self.ended_at: float | None = None
        self.timer_at = math.inf  # when the simulation looks after it
        self._settle = settle
        self._last_owner = 0

    @property
    def is_paused(self) -> bool:
        return self.paused_at is not None

    @property
    def is_detached(self) -> bool:
        return self.replication.is_detached

    def copy_from(self, model: SimulatedNode) -> None:
        """Know all that another node knows, and be it."""
        self.model = model
        self.address = model.address  # it may have taken another name since it was given that
        self.tracker, self.replication, self.shown = copy.deepcopy(
            (model.tracker, model.replication, model.shown)
        )
        self.sleeps, self.hinted_at = list(model.sleeps), dict(model.hinted_at)
        self._last_owner = model._last_owner

    # What the scenario did to it.

    def slept(self, since: float) -> list[tuple[float, float]]:
        """Its sleeps that ended after ``since``: when it was paused, and when it woke."""
        return [each for each in self.sleeps if each[1] > since]

    def awake(self, since: float, now: float) -> float:
        """Seconds that it was awake since then."""
        asleep = sum(woke - max(paused, since) for paused, woke in self.slept(since))
        return (now if self.paused_at is None else self.paused_at) - since - asleep

    # What an application does.

    def track(self, topic: str, key: str, meta: Any = None, *, owner: int | None = None) -> int:
        """Track ``key`` for a new owner, or for ``owner``, and return the owner."""
        if owner is None:
            self._last_owner += 1
            owner = self._last_owner
        self.tracker.track(topic, key, meta or {}, owner=owner)
        self._settle(self)
        return owner

    def untrack(self, topic: str, key: str, *, owner: int) -> None:
        self.tracker.untrack(topic, key, owner=owner)
        self._settle(self)

    def update(self, topic: str, key: str, meta: Any, *, owner: int) -> None:
        self.tracker.update(topic, key, meta, owner=owner)
        self._settle(self)

    def hide(self, topic: str, key: str, *, owner: int) -> None:
        self.tracker.hide(topic, key, owner=owner)
        self._settle(self)

    def show(self, topic: str, key: str, *, owner: int) -> None:
        self.tracker.show(topic, key, owner=owner)
        self._settle(self)

    def end(self, owner: int) -> None:
        """An owner ends, with all that it tracks."""
        self.tracker.untrack_owner(owner)
        self._settle(self)

    # What it shows.

    def keys(self, topic: str) -> list[str]:
        """The keys that are visible in a topic, sorted."""
        return sorted(self.tracker.keys(topic))

    def visible(self) -> Counter[tuple[str, str, str]]:
        """All that is visible: (topic, key, meta without refs)."""
        return Counter(map(_content, self.tracker.list_all()))

    def own(self) -> Counter[tuple[str, str, str]]:
        """All that it tracks itself and does not hide."""
        return Counter(_content(entry) for entry in self.tracker.own if not entry.hidden)


def _content(entry: Entry) -> tuple[str, str, str]:
    meta = decode_meta(entry.meta)
    meta.pop("phx_ref", None)
    meta.pop("phx_ref_prev", None)
    return entry.topic, entry.key, repr(sorted(meta.items()))
