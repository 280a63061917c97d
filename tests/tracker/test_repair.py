"""Asking for what is missing: whom, when, and how often."""

from __future__ import annotations

from itertools import pairwise

import pytest

from roost.crdt.slice import Slice
from roost.tracker.messages import Digest, Heartbeat, Hello, Probe, Request, TrackerMessage
from roost.tracker.options import ReplicationOptions
from roost.tracker.repair import JITTER
from tests.tracker.one_node import OneNode, add, changes, heartbeat, origin, range_from, transfer

OPTIONS = ReplicationOptions()
B, C = origin("b"), origin("c")
STEP = 0.05  # seconds


def asks(node: OneNode, seconds: float, *heard: TrackerMessage) -> list[tuple[float, str | None]]:
    """When it asks for something, and whom, while ``heard`` arrives again and again."""
    asked = []
    end = node.now + seconds
    while node.now < end:
        node.advance(STEP, *heard)
        asked += [(node.now, to) for to, _ in node.said(Request)]
    return asked


def behind() -> Slice:
    """The slice of a node that answers nothing."""
    theirs = Slice(B)
    add(theirs, "alice")
    return theirs


# Back-off.


@pytest.mark.parametrize("timeout", [0.2, 1.0, 10.0])
def test_a_request_is_waited_for_no_longer_than_two_heartbeats(timeout):
    """Pauses between requests double, up to two heartbeats, or what was asked for if it is more."""
    node = OneNode(options=ReplicationOptions(request_timeout=timeout))

    asked = asks(node, 60.0, heartbeat(behind()))

    longest = max(timeout, 2 * OPTIONS.heartbeat_period)
    pauses = [after - before for (before, _), (after, _) in pairwise(asked)]
    expected = [min(timeout * 2**attempt, longest) for attempt in range(len(pauses))]
    assert len(pauses) >= 4
    for pause, least in zip(pauses, expected, strict=True):
        assert least - STEP <= pause <= least * (1 + JITTER) + STEP


@pytest.mark.parametrize(
    ("options", "longest"),
    [
        (ReplicationOptions(), 3.0),
        (ReplicationOptions(heartbeat_period=0.5), 1.0),
        (ReplicationOptions(request_timeout=10.0), 10.0),
    ],
)
def test_the_longest_timeout_follows_from_the_periods(options, longest):
    """It is two heartbeats, and never below ``request_timeout``."""
    assert options.max_request_timeout == longest


def test_an_answer_ends_the_back_off():
    """Who was repaired is asked for its next gap as if there had been none before."""
    node, theirs = OneNode(), behind()
    asks(node, 20.0, heartbeat(theirs))
    node.hear(changes(theirs))
    add(theirs, "bob")

    asked = asks(node, 2.5, heartbeat(theirs))

    pauses = [after - before for (before, _), (after, _) in pairwise(asked)]
    assert pauses[0] <= OPTIONS.request_timeout * (1 + JITTER) + STEP


# Who comes back.


def test_who_comes_back_is_asked_whatever_was_asked_of_others():
    """A request to a third node that will not be answered holds up nobody who is back."""
    for wait in range(20):
        node, theirs = OneNode(), behind()
        node.hear(heartbeat(theirs), Hello(C, 0))
        holder = Digest(C, ((B, 1), (C, 0)))
        node.advance(OPTIONS.down_period + wait * 0.25, Hello(C, 0), holder)
        assert node.up() == [C]
        node.said(Request)

        node.hear(heartbeat(theirs))
        asked = asks(node, OPTIONS.repair_delay + STEP)

        assert [to for _, to in asked] == ["b"]


def test_who_comes_back_is_asked_as_for_the_first_time():
    """How often it did not answer before says nothing: the pauses begin anew."""
    node, theirs = OneNode(), behind()
    asks(node, 20.0, heartbeat(theirs))
    node.advance(OPTIONS.down_period + 5)
    assert node.up() == []
    node.said(Request)

    asked = asks(node, 2.5, heartbeat(theirs))

    pauses = [after - before for (before, _), (after, _) in pairwise(asked)]
    assert pauses[0] <= OPTIONS.request_timeout * (1 + JITTER) + STEP


def test_who_comes_back_is_not_shown_on_hearsay():
    """Others may know less of it than there is, so that who left meanwhile would join again."""
    node, theirs = OneNode(), behind()
    node.hear(heartbeat(theirs), changes(theirs), Hello(C, 0))
    node.advance(OPTIONS.down_period + 5, Hello(C, 0))
    assert node.up() == [C]

    node.hear(Probe(B, origin("d"), 9), Digest(C, ((B, 1), (C, 0))))
    assert node.up() == [B, C]
    assert list(node.tracker.keys("room:1")) == []

    node.hear(heartbeat(theirs))
    assert list(node.tracker.keys("room:1")) == ["alice"]


as_range = pytest.mark.parametrize("as_range", [False, True], ids=["chunk", "range"])


@as_range
def test_what_is_handed_on_of_a_node_that_is_down_brings_it_not_up(as_range: bool):
    """Only a node itself shows that it lives."""
    node, theirs = OneNode(), behind()
    node.hear(heartbeat(theirs), changes(theirs), Hello(C, 0))
    node.advance(OPTIONS.down_period + 5, Hello(C, 0))
    add(theirs, "bob")

    node.hear(transfer(C, theirs, range_from(theirs, 1) if as_range else None))

    assert node.up() == [C]
    assert list(node.tracker.keys("room:1")) == []


@as_range
def test_who_comes_back_is_not_shown_as_it_is_handed_on(as_range: bool):
    """What others have of it may be from before; what it says itself shows that it is not."""
    node, theirs = OneNode(), behind()
    node.hear(heartbeat(theirs), changes(theirs), Hello(C, 0))
    node.advance(OPTIONS.down_period + 5, Hello(C, 0))
    add(theirs, "bob")

    node.hear(Probe(B, origin("d"), 9))
    node.hear(transfer(C, theirs, range_from(theirs, 1) if as_range else None))
    assert node.up() == [B, C]
    assert list(node.tracker.keys("room:1")) == []

    node.hear(heartbeat(theirs))
    assert list(node.tracker.keys("room:1")) == ["alice", "bob"]


# What is announced.


def test_a_hello_announces_what_was_broadcast():
    """Nobody asks for changes that are about to be broadcast to all."""
    node = OneNode()
    node.hear()
    node.said(Hello)
    node.tracker.track("room:1", "alice", {}, owner=1)

    node.replication.link_up("b", node.now)
    node.hear(Hello(C, 0))

    assert [(to, hello.seq) for to, hello in node.said(Hello)] == [("b", 0), ("c", 0)]


# Whom.


def test_a_holder_that_is_gone_is_not_asked():
    """What a node held is no use when the node is gone; the origin is asked alone."""
    node, theirs = OneNode(), behind()
    node.hear(heartbeat(theirs), Hello(C, 0), Digest(C, ((B, 1), (C, 0))))
    node.advance(STEP)
    node.hear(heartbeat(Slice(origin("c", 2))))
    node.said(Request)

    asked = asks(node, 10.0, heartbeat(theirs), Heartbeat(origin("c", 2), 0, 0))

    assert {to for _, to in asked} == {"b"}


def test_a_holder_that_did_not_answer_is_not_asked_again():
    """Until it says again that it holds more, somebody else is."""
    node, theirs = OneNode(), behind()
    node.hear(heartbeat(theirs), Hello(C, 0), Digest(C, ((B, 1), (C, 0))))

    asked = asks(node, 20.0, heartbeat(theirs), Heartbeat(C, 0, 0))

    assert [to for _, to in asked].count("c") == 1
