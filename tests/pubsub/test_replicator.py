"""What goes wrong in the replication of a node loses itself only, and is said."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from roost import Endpoint, Presence, PubSub
from roost.crdt.entry import Entry
from roost.exceptions import ConfigurationError
from roost.presence import Lease
from roost.presence.owners.owned_tracker import OwnedTracker
from roost.pubsub import replicator
from roost.tracker.messages import Heartbeat, TrackerMessage, encode_message
from roost.tracker.protocol import TrackerEvent
from tests.pubsub.nodes import Network
from tests.virtual_clock import virtually

TOPIC = "room:1"


class Node:
    def __init__(self, network: Network, name: str) -> None:
        self.adapter = network.adapter(name)
        self.pubsub = PubSub(self.adapter)
        self.online = Presence()
        self.endpoint = Endpoint({}, presences=[self.online], pubsub=self.pubsub)

    def track(self, key: str) -> None:
        self.online.track(Lease(self.online, TOPIC, key), key, {}, topic=TOPIC)

    @property
    def status(self) -> str:
        return self.endpoint.health()["status"]

    @property
    def failures(self) -> dict[str, int]:
        return self.endpoint.health()["dropped"]["trackers"]

    async def keys(self) -> set[str]:
        return set(await self.online.list(TOPIC))


@asynccontextmanager
async def two_nodes() -> AsyncIterator[tuple[Node, Node]]:
    network = Network()
    a, b = Node(network, "a"), Node(network, "b")
    async with a.endpoint.running(), b.endpoint.running():
        await asyncio.sleep(1)
        yield a, b


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]


@virtually
async def test_a_message_that_cant_be_encoded_loses_itself_only(caplog: pytest.LogCaptureFixture):
    """It is counted and named in the log, health tells of it, and the others flow on."""
    async with two_nodes() as (a, b):
        # Below the doors, where no name is checked: a text that MessagePack can't say.
        own = a.pubsub.replicator._own
        bad = own.add(TOPIC, "\ud800", b"{}", owner=99)
        a.pubsub.replicator.changed()
        await asyncio.sleep(0.2)

        assert (a.status, b.status) == ("degraded", "ok")
        assert a.failures["unsendable"] >= 1
        assert any("can't send Changes to all nodes" in line for line in errors(caplog))

        own.remove(bad)
        a.track("alice")
        await asyncio.sleep(5)
        assert await b.keys() == {"alice"}
        assert a.endpoint.health()["is_failing"]

        await asyncio.sleep(61)
        a.track("bob")
        await asyncio.sleep(1)
        assert await b.keys() == {"alice", "bob"}
        assert (a.status, a.endpoint.health()["is_failing"]) == ("ok", False)


@virtually
async def test_what_fails_again_and_again_is_logged_now_and_then(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """Each failure is counted, and one in ten seconds is logged."""

    def encode(message: TrackerMessage) -> bytes:
        if isinstance(message, Heartbeat):
            raise ValueError("no heartbeats today")
        return encode_message(message)

    async with two_nodes() as (a, _):
        monkeypatch.setattr(replicator, "encode_message", encode)
        await asyncio.sleep(20)
        monkeypatch.undo()

        assert a.failures["unsendable"] >= 12
        # Both nodes have the same code.
        assert 4 <= len([each for each in errors(caplog) if "Heartbeat" in each]) <= 6


@virtually
async def test_an_adapter_that_raises(caplog: pytest.LogCaptureFixture):
    """What it does not take is lost as anything else, and sent again when others miss it."""
    async with two_nodes() as (a, b):

        def refuse(*args: Any) -> None:
            raise OSError("the engine is full")

        for way in ("publish", "publish_to"):
            setattr(a.adapter, way, refuse)
        a.track("alice")
        await asyncio.sleep(3)
        assert a.status == "degraded"
        assert await b.keys() == set()

        del a.adapter.publish, a.adapter.publish_to
        await asyncio.sleep(5)
        assert await b.keys() == {"alice"}
        assert any("can't send" in line for line in errors(caplog))


@pytest.mark.parametrize("step", ["handle_timer", "receive", "link_up", "next_timer"])
@virtually
async def test_a_step_that_raises_leaves_the_timer_ringing(
    step: str, caplog: pytest.LogCaptureFixture
):
    """A node without its timer would be silent for ever."""
    async with two_nodes() as (a, b):
        protocol = a.pubsub.replicator._protocol
        right = getattr(protocol, step)
        calls = 0

        def fail(*args: Any) -> Any:
            nonlocal calls
            calls += 1
            raise ZeroDivisionError("planted")

        setattr(protocol, step, fail)
        a.adapter.links.link_up("b", "other")
        await asyncio.sleep(10)
        assert 1 <= calls <= 200  # it is not tried over and over
        assert a.status == "degraded"
        assert a.failures["failed"] == calls
        assert any(f"a step of the replication failed: {step}" in line for line in errors(caplog))

        setattr(protocol, step, right)
        a.track("alice")
        await asyncio.sleep(5)
        assert await b.keys() == {"alice"}


@virtually
async def test_who_raises_when_told_holds_up_nobody_else(caplog: pytest.LogCaptureFixture):
    """Another tracker is told of the same message, the timer rings, and health says so."""

    def fail(events: Sequence[TrackerEvent]) -> None:
        raise asyncio.CancelledError

    async with two_nodes() as (a, b):
        # Below presences, which contain what the application raises.
        touchy_here, touchy_there = OwnedTracker(b.pubsub, "touchy", fail), Presence(name="touchy")
        touchy_here.start()
        await touchy_there.start(a.pubsub)
        a.online.track(Lease(a.online, TOPIC, "alice"), "alice", {}, topic=TOPIC)
        touchy_there.track(Lease(touchy_there, TOPIC, "x"), "x", {}, topic=TOPIC)
        await asyncio.sleep(1)
        a.track("bob")
        await asyncio.sleep(1)

        assert await b.keys() == {"alice", "bob"}
        assert (a.status, b.status) == ("ok", "degraded")
        assert b.failures["untold"] >= 1
        assert any("notifying 'touchy' of changes failed" in line for line in errors(caplog))
        touchy_here.stop()
        await touchy_there.stop()


@virtually
async def test_bad_rows_of_another_node_are_left_out():
    """A node of an older version may have let them in; its other presences are shown."""
    async with two_nodes() as (a, b):
        own = a.pubsub.replicator._own
        for key in ("alice", "__proto__", "k" * 1_025, "k" * 300_000, "bob"):
            ref = own.next_ref.encode()
            own.add(TOPIC, key, b'{"phx_ref":"%b"}' % ref, owner=9, tracker=a.online.name)
        a.pubsub.replicator.changed()
        await asyncio.sleep(5)

        assert await b.keys() == {"alice", "bob"}
        assert b.failures == {"unsound_row": 3}
        assert b.endpoint.health()["peers"][0]["is_behind"] is False
        assert (a.status, b.status) == ("ok", "ok")

        entry: Entry
        for entry in list(own):
            own.remove(entry)
        a.pubsub.replicator.changed()
        await asyncio.sleep(5)
        assert await b.keys() == set()


@pytest.mark.parametrize("name", [7, b"a", "a\ud800", "n" * 256], ids=ascii)
@virtually
async def test_a_node_needs_a_name(name: Any):
    """One that can't be sent is refused at the start, with its argument's name."""
    with pytest.raises(ConfigurationError, match="node_name"):
        await PubSub(Network().adapter(name)).start()
    for url in ("local", "auto", "redis://localhost", "nats://localhost"):
        with pytest.raises(ConfigurationError, match="node_name"):
            PubSub(url, node_name=name)


@pytest.mark.parametrize("name", [7, b"jobs", "jobs\ud800", "j" * 256], ids=ascii)
def test_trackers_and_dispatchers_need_names(name: Any):
    """They are what other nodes know them by."""
    with pytest.raises(ConfigurationError, match="name: expected"):
        Presence(name=name)
    with pytest.raises(ConfigurationError, match="dispatchers: expected"):
        PubSub(dispatchers={name: lambda subscriptions, sender, message: None})
