"""Clients of phoenix.js at every node: what they show is what their node shows."""

from __future__ import annotations

import random
from collections.abc import Sequence

from roost.crdt.entry import Entry
from roost.testing.oracle import BrokenPromise
from roost.testing.simulation import SimulatedNode, Simulation
from roost.tracker.feed import TopicFeed
from roost.tracker.protocol import Joined, Left, TrackerEvent, Updated
from tests.models.phoenix_presence import ClientPresence, State

__all__ = ["Clients"]

MAX_COUNT = 3  # clients of one topic of one node


class Clients:
    """Tell clients of every topic of every node what its feed says, now and then.

    Args:
        simulation: To be watched from its beginning.
        rng: Says who joins, and when.
        max_count: Of a feed: past it, clients get a fresh state.
    """

    def __init__(self, simulation: Simulation, rng: random.Random, max_count: int) -> None:
        self._rng = rng
        self._max_count = max_count
        self._topics: dict[SimulatedNode, dict[str, _Topic]] = {}
        simulation.watchers.append(self._watch)

    def flush(self) -> None:
        """Each topic takes its diff, tells its clients, and perhaps welcomes one more."""
        for topics in self._topics.values():
            for topic in topics.values():
                if self._rng.random() < 0.7:
                    topic.flush()
                if self._rng.random() < 0.1:
                    topic.welcome()

    def _watch(self, node: SimulatedNode, events: Sequence[TrackerEvent]) -> None:
        if node not in self._topics:  # a clone shows something from its beginning
            self._topics[node] = {}
            names = {entry.topic for entry in node.shown.values()} if not events else set()
            for name in sorted(names):
                self._topics[node][name] = _Topic(node, name, self._max_count)
                self._topics[node][name].welcome()
        topics = self._topics[node]
        for event in events:
            entry = event.new if isinstance(event, Updated) else event.entry
            topic = topics.get(entry.topic)
            if topic is None:
                topic = topics[entry.topic] = _Topic(node, entry.topic, self._max_count)
                topic.expect_nobody()
            match event:
                case Joined(entry, version):
                    topic.feed.join(entry, version)
                case Left(entry, version):
                    topic.feed.leave(entry, version)
                case Updated(old, new, version):
                    topic.feed.leave(old, version)
                    topic.feed.join(new, version)


class _Client:
    def __init__(self) -> None:
        self.presence = ClientPresence(lambda: "1")
        self.version = 0


class _Topic:
    def __init__(self, node: SimulatedNode, name: str, max_count: int) -> None:
        self.node = node
        self.name = name
        self.feed = TopicFeed(max_count=max_count)
        self.level = 0  # what clients hold who were not pushed a state since
        self.clients: list[_Client] = []

    def expect_nobody(self) -> None:
        """A client that has been there since before the first presence."""
        client = _Client()
        client.presence.receive_state({})
        self.clients.append(client)

    def flush(self) -> None:
        if not self.feed.is_pending:
            return
        overflowed = self.feed.overflowed
        end = self.feed.take()
        expected = _refs(_state(tuple(self.node.tracker.list(self.name))))
        for client in self.clients:
            if overflowed:
                self._push_state(client)
            elif client.version < end:
                diff = self.feed.diff(max(client.version, self.level), end)
                payload = {"joins": _state(diff.joins), "leaves": _state(diff.leaves)}
                client.presence.receive_diff(payload)
            shown = _refs(client.presence.state)
            if shown != expected:
                raise BrokenPromise(f"a client of {self.node.name} shows {shown}, not {expected}")
        self.level = end
        self.feed.forget(end)

    def welcome(self) -> None:
        """One more joins, or one that is there gets the state again."""
        client = _Client()
        if len(self.clients) < MAX_COUNT:
            self.clients.append(client)
        else:
            client = self.clients[0]
        self._push_state(client)

    def _push_state(self, client: _Client) -> None:
        client.presence.receive_state(_state(tuple(self.node.tracker.list(self.name))))
        if client.presence.pending_diffs:
            raise BrokenPromise("a client that was pushed a state holds back diffs")
        client.version = self.node.tracker.version


def _state(entries: tuple[Entry, ...]) -> State:
    state: State = {}
    for entry in entries:
        state.setdefault(entry.key, {"metas": []})["metas"].append({"phx_ref": entry.ref})
    return state


def _refs(state: State) -> dict[str, set[str]]:
    return {key: {meta["phx_ref"] for meta in entry["metas"]} for key, entry in state.items()}
