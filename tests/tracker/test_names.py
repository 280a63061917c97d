"""A node that took another name is still reached by the one that it was given."""

from __future__ import annotations

import pytest

from roost.crdt.incarnation import OriginId
from roost.crdt.slice import Slice
from roost.tracker.messages import (
    Alive,
    Digest,
    Heartbeat,
    Hello,
    Probe,
    Request,
    Superseded,
    Transfer,
)
from tests.tracker.one_node import OneNode, add, heartbeat, origin

NAME = "b~00000000000000ff"
B = OriginId(NAME, 3, 7)  # a node that was called b
C = origin("c")


def test_a_renamed_node_is_greeted_where_it_is():
    """The answers to its hello go to the name that its adapter listens to."""
    node = OneNode()
    node.hear()
    node.said(Hello)

    node.hear(Hello(B, 0))

    assert [(each.to, type(each.message)) for each in node.sent] == [("b", Hello), ("b", Digest)]


def test_a_renamed_node_is_asked_for_its_changes():
    """What it announces is asked for by the name that it was given."""
    node, theirs = OneNode(), Slice(B)
    add(theirs, "alice")
    node.hear(heartbeat(theirs))

    node.advance(0.5)

    assert [(to, request.origin) for to, request in node.said(Request)] == [("b", B)]


def test_a_renamed_node_is_answered():
    """What it asks for is sent there."""
    node = OneNode()
    node.tracker.track("room:1", "alice", {}, owner=1)

    node.hear(Hello(B, 0), Request(B, node.tracker.origin, 0, 1), Probe(B, node.tracker.origin, 9))

    assert [to for to, _ in node.said(Transfer)] == ["b"]
    node.hear(Probe(B, node.tracker.origin, 9))
    assert node.said(Alive) == [("b", Alive(node.tracker.origin, NAME, 9, 1))]


def test_a_renamed_node_is_told_of_its_later_life():
    """Also a word of its past is answered where it is."""
    node = OneNode()
    node.hear(Hello(B, 0))

    node.hear(heartbeat(Slice(OriginId(NAME, 2, 0))))

    assert [to for to, _ in node.said(Superseded)] == ["b"]


def test_who_is_superseded_itself_is_believed():
    """Two nodes with old ids tell each other of the higher ones; neither waits for the other."""
    node = OneNode()
    node.hear(Hello(origin("c", 2), 0))
    node.said(Hello)

    node.hear(Superseded(C, origin("a", 9)))

    assert node.tracker.origin.incarnation == 10
    assert node.said(Superseded) == []


def test_a_renamed_node_is_asked_whether_it_lives():
    """A digest that names it leads to a probe, directly and through others."""
    node = OneNode()
    node.hear(Hello(C, 0))

    node.hear(Digest(C, ((B, 5),)))

    assert [(to, probe.target, probe.via) for to, probe in node.said(Probe)] == [
        ("b", B, None),
        ("c", B, "c"),
    ]


def test_a_renamed_node_relays():
    """A probe that is to go through it names it by its own name, and is sent to the given one."""
    node = OneNode()
    node.hear(Hello(B, 0))

    node.hear(Digest(B, ((C, 5),)))

    assert [(to, probe.via) for to, probe in node.said(Probe)] == [("c", None), ("b", NAME)]


def test_a_probe_is_passed_on_by_the_renamed():
    """A relay that has another name now knows itself by it, and hands question and answer on."""
    relay = OneNode(B)
    question = Probe(C, origin("d"), 9, NAME)
    answer = Alive(origin("d"), "c", 9, 0)

    relay.hear(question)
    assert relay.said(Probe) == [("d", question)]

    relay.hear(answer)
    assert relay.said(Alive) == [("c", answer)]


@pytest.mark.parametrize(("own", "asker"), [(B, "b"), (origin("b"), NAME), (B, "b~ee")])
def test_an_answer_is_not_passed_to_and_fro_by_namesakes(own, asker):
    """Two nodes that were given one name hear each other's answers, and let them be."""
    node = OneNode(own)

    node.hear(Alive(C, asker, 9, 0))

    assert node.said(Alive) == []


def test_a_link_to_a_name_is_greeted_by_it():
    """The adapter speaks of names that were given."""
    node = OneNode()
    node.hear()
    node.said(Hello)

    node.replication.link_up("b", 0.0)
    node.hear()

    assert [to for to, _ in node.said(Hello)] == ["b"]


def test_names_do_not_grow():
    """A node that renames itself again replaces what it had added."""
    node, names = OneNode(), []
    node.hear(Hello(C, 0))
    for _ in range(4):
        node.hear(Digest(C, ((node.tracker.origin, 99),)))
        names.append(node.tracker.origin.name)

    assert [name.partition("~")[0] for name in names] == ["a"] * 4
    assert [name.count("~") for name in names] == [0, 1, 1, 1]
    assert names[1] == names[2] != names[3]


def test_renamed_nodes_of_one_name_know_each_other():
    """Both are peers like any other, each under its own name."""
    node = OneNode(origin("a"))
    other = OriginId("b~00000000000000ee", 3, 8)

    node.hear(heartbeat(Slice(B)), heartbeat(Slice(other)), heartbeat(Slice(origin("b"))))
    node.advance(2.0)

    assert set(node.up()) == {B, other, origin("b")}
    assert [to for to, _ in node.said(Heartbeat)] == [None] * 2
