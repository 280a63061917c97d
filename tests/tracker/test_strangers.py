"""Origins that others name and nobody here has heard: asked whether they live, with a bound."""

from __future__ import annotations

from roost.crdt.incarnation import OriginId
from roost.crdt.slice import Slice
from roost.tracker.members import MAX_ASKED
from roost.tracker.messages import Alive, Digest, Hello, Probe
from roost.tracker.options import ReplicationOptions
from tests.tracker.one_node import OneNode, heartbeat, origin

OPTIONS = ReplicationOptions()
B, C, D = origin("b"), origin("c"), origin("d")


def asked(node: OneNode, *messages: Digest) -> list[OriginId]:
    """Who is asked directly when these arrive."""
    node.said(Probe)
    node.hear(*messages)
    return [probe.target for _, probe in node.said(Probe) if probe.via is None]


def test_a_stranger_is_asked_once_however_many_name_it():
    """While its answer is awaited a second digest that names it leads to nothing."""
    node = OneNode()
    node.hear(Hello(C, 0), Hello(D, 0))

    assert asked(node, Digest(C, ((B, 5),)), Digest(D, ((B, 5),))) == [B]


def test_a_stranger_that_did_not_answer_is_asked_again():
    """An answer that was lost is no reason never to know its origin."""
    node = OneNode()
    node.hear(Hello(C, 0))
    asked(node, Digest(C, ((B, 5),)))

    node.advance(OPTIONS.probe_grace + OPTIONS.heartbeat_period + 0.1, heartbeat(Slice(C)))

    assert asked(node, Digest(C, ((B, 5),))) == [B]


def test_a_stranger_that_answers_is_a_peer():
    """And is not asked any more."""
    node = OneNode()
    node.hear(Hello(C, 0), Digest(C, ((B, 5),)))
    probe = next(probe for to, probe in node.said(Probe) if to == "b")

    node.hear(Alive(B, "a", probe.nonce, 5))

    assert node.up() == [C, B]
    assert asked(node, Digest(C, ((B, 5),))) == []


def test_strangers_are_asked_in_bounded_numbers():
    """A digest full of names that nobody has makes no more probes than are kept in mind."""
    node = OneNode()
    node.hear(Hello(C, 0))
    names = tuple((OriginId(f"x{n}", 1, n), 1) for n in range(MAX_ASKED + 100))

    assert len(asked(node, Digest(C, names))) == MAX_ASKED

    node.advance(OPTIONS.probe_grace + OPTIONS.heartbeat_period + 0.1, heartbeat(Slice(C)))
    assert len(asked(node, Digest(C, names[MAX_ASKED:]))) == 100
