"""Links: adapters see them die, and nodes say which one is theirs."""

from __future__ import annotations

import pytest

from roost.crdt.incarnation import OriginId
from roost.crdt.slice import Slice
from roost.tracker.messages import Heartbeat, Hello, Probe
from roost.tracker.options import ReplicationOptions
from tests.tracker.one_node import OneNode, add, changes, heartbeat, origin

GRACE = ReplicationOptions().probe_grace
B = origin("b")
NEXT_B = origin("b", 2)
RENAMED_B = OriginId("b~00000000000000ff", 3, 7)


def linked(who: OriginId, link: str) -> Heartbeat:
    """A heartbeat of a node that is reached by a link."""
    return heartbeat(Slice(who), link=link)


def lose(node: OneNode, *links: str) -> set[OriginId]:
    """The adapter says that links are gone; return who is asked whether it lives."""
    node.said(Probe)
    for link in links:
        node.replication.link_down(link, node.now)
    node.hear()
    return {probe.target for _, probe in node.said(Probe)}


def test_a_node_says_what_its_link_is():
    """Both its hello and its heartbeat name it."""
    node = OneNode(link="way-a")
    node.advance(2.0)
    words = [each.message for each in node.sent if isinstance(each.message, Hello | Heartbeat)]

    assert {type(word) for word in words} == {Hello, Heartbeat}
    assert {word.link for word in words} == {"way-a"}


@pytest.mark.parametrize("word", [Hello(B, 0, (1, 1), "way-b"), linked(B, "way-b")])
def test_a_dead_link_is_asked_after(word):
    """Whoever said that a link is its own is asked when it is gone, and down without an answer."""
    node = OneNode()
    node.hear(word)
    node.advance(1.0)

    assert lose(node, "way-b") == {B}
    assert node.up() == [B]

    node.advance(GRACE + 0.1)
    assert node.up() == []


def test_the_link_of_an_earlier_life_says_nothing_of_its_successor():
    """A node crashes and starts again; that its last link is dead is found only then."""
    node = OneNode()
    node.hear(linked(B, "way-1"), linked(NEXT_B, "way-2"))

    assert lose(node, "way-1") == set()
    assert lose(node, "way-2") == {NEXT_B}


def test_no_life_inherits_a_link():
    """A successor that was heard, but has not named its link yet, has none."""
    node, theirs = OneNode(), Slice(NEXT_B)
    add(theirs, "alice")
    node.hear(linked(B, "way-1"), changes(theirs))

    assert node.up() == [NEXT_B]
    assert lose(node, "way-1") == set()


def test_a_link_may_change():
    """A node that attached anew has another link, and the old one is no one's."""
    node = OneNode()
    node.hear(linked(B, "way-1"), linked(B, "way-2"))

    assert lose(node, "way-1") == set()
    assert lose(node, "way-2") == {B}


def test_clones_share_a_link_and_both_are_asked():
    """A cloned machine goes on under another name: a link that both name may be either one's."""
    node = OneNode()
    node.hear(linked(B, "way-b"), linked(RENAMED_B, "way-b"))

    assert lose(node, "way-b") == {B, RENAMED_B}

    node.advance(GRACE + 0.1, linked(B, "way-b"))
    assert node.up() == [B]


def test_an_unknown_link_is_no_ones():
    """A link that nobody has named concerns nobody."""
    node = OneNode()
    node.hear(linked(B, "way-b"), linked(origin("c"), "way-c"))

    assert lose(node, "way-x") == set()


def test_most_links_gone_at_once_are_doubted():
    """Two of three links that die within one grace: it is rather us, and nobody is judged."""
    node = OneNode()
    node.hear(*(linked(origin(name), f"way-{name}") for name in "bcd"))

    assert lose(node, "way-b") == {B}
    assert lose(node, "way-c") == set()

    node.advance(GRACE + 0.1)
    assert node.up() == [origin(name) for name in "bcd"]


def test_half_of_the_links_are_believed():
    """Two of four links may well die together, with the machine that both nodes run on."""
    node = OneNode()
    node.hear(*(linked(origin(name), f"way-{name}") for name in "bcde"))

    assert lose(node, "way-b", "way-c") == {B, origin("c")}

    node.advance(GRACE + 0.1)
    assert node.up() == [origin("d"), origin("e")]


def test_what_is_lost_is_counted_by_link():
    """Three of four peers share a link: one link died, which is no reason to doubt."""
    node = OneNode()
    node.hear(*(linked(origin(name), "way-b") for name in "bcd"), linked(origin("e"), "way-e"))

    assert lose(node, "way-b") == {origin(name) for name in "bcd"}

    node.advance(GRACE + 0.1)
    assert node.up() == [origin("e")]


def test_a_link_that_is_lost_again_and_again_is_one():
    """An adapter that repeats itself does not turn one dead link into most of them."""
    node = OneNode()
    node.hear(*(linked(origin(name), f"way-{name}") for name in "bcd"))
    lose(node, "way-b", "way-b", "way-b")

    node.advance(GRACE + 0.1)
    assert node.up() == [origin("c"), origin("d")]


def test_unknown_links_are_not_counted():
    """Links of nodes that are long gone do not excuse one that is dead."""
    node = OneNode()
    node.hear(*(linked(origin(name), f"way-{name}") for name in "bcd"))

    assert lose(node, "way-x", "way-y", "way-b") == {B}


def test_a_hint_without_a_link_names_nobody():
    """Also where peers have not said how their link is called."""
    node = OneNode()
    node.hear(linked(B, ""))

    assert lose(node, "") == set()


def test_a_peer_that_is_down_already_is_not_asked():
    """Its link is dead, which is no news."""
    node = OneNode()
    node.hear(linked(B, "way-b"))
    lose(node, "way-b")
    node.advance(GRACE + 0.1)

    assert lose(node, "way-b") == set()
