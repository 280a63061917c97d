"""What is told of nodes: each thing once, and in order."""

from __future__ import annotations

from roost.crdt.incarnation import OriginId
from roost.crdt.slice import Slice
from roost.tracker.messages import Alive, Digest, Goodbye, Hello, Probe
from roost.tracker.options import ReplicationOptions
from roost.tracker.replication import Namesake, PeerDown, PeerGone, PeerUp, Renamed
from tests.tracker.one_node import OneNode, add, changes, heartbeat, origin, transfer

OPTIONS = ReplicationOptions()
DOWN = OPTIONS.down_period
PERMDOWN = OPTIONS.permdown_period
B = origin("b")


def test_a_node_is_up_once():
    """However much is heard of it, it comes up with the first word."""
    node, theirs = OneNode(), Slice(B)
    add(theirs, "alice")

    node.hear(Hello(B, 0), heartbeat(theirs), changes(theirs))
    node.advance(5.0, heartbeat(theirs))

    assert node.replication.events() == [PeerUp(B)]


def test_events_are_handed_over_once():
    """What was asked for is forgotten."""
    node = OneNode()
    node.hear(Hello(B, 0))
    node.replication.events()

    assert node.replication.events() == []


def test_what_others_say_of_a_node_is_no_event():
    """Neither a digest nor relayed data brings a node up; its answer to a probe does."""
    node, theirs = OneNode(), Slice(B)
    add(theirs, "alice")
    node.hear(Hello(origin("c"), 0))
    node.replication.events()

    node.hear(Digest(origin("c"), ((B, 1),)), transfer(origin("c"), theirs))
    assert node.replication.events() == []

    probe = next(probe for _, probe in node.said(Probe))
    node.hear(Alive(B, "a", probe.nonce, 1))
    assert node.replication.events() == [PeerUp(B)]


def test_what_others_say_of_a_node_that_is_down_is_no_event():
    """It stays down until it is heard, or answers."""
    node, theirs = OneNode(), Slice(B)
    add(theirs, "alice")
    node.hear(Hello(B, 0))
    node.advance(DOWN + 5, Hello(origin("c"), 0))
    assert node.up() == [origin("c")]
    node.replication.events()

    node.hear(Digest(origin("c"), ((B, 1),)), transfer(origin("c"), theirs))

    assert node.replication.events() == []
    assert node.up() == [origin("c")]


def test_a_node_is_down_once():
    """A long silence is one event."""
    node = OneNode()
    node.hear(Hello(B, 0))

    node.advance(5 * DOWN)

    assert node.replication.events() == [PeerUp(B), PeerDown(B)]


def test_a_node_that_is_silent_in_any_case_is_down_once():
    """Where the grace of a probe is longer than the down period, that one decides, once."""
    node = OneNode(options=ReplicationOptions(probe_grace=1.5 * DOWN))
    node.hear(Hello(B, 0))

    node.advance(5 * DOWN)

    assert node.replication.events() == [PeerUp(B), PeerDown(B)]


def test_a_node_that_comes_back_is_up_again():
    """Each absence is a down and an up."""
    node, theirs = OneNode(), Slice(B)
    for _ in range(2):
        node.hear(heartbeat(theirs), heartbeat(theirs))
        node.advance(DOWN + 5)

    assert node.replication.events() == [PeerUp(B), PeerDown(B)] * 2


def test_a_goodbye_is_the_end_of_a_node():
    """It is gone at once, without being down before, and its second goodbye says nothing."""
    node = OneNode()

    node.hear(Hello(B, 0), Goodbye(B), Goodbye(B), heartbeat(Slice(B)))

    assert node.replication.events() == [PeerUp(B), PeerGone(B)]


def test_the_goodbye_of_a_stranger_is_no_event():
    """Who was not there does not go."""
    node = OneNode()

    node.hear(Goodbye(B))

    assert node.replication.events() == []


def test_a_node_that_is_forgotten_is_gone():
    """After permdown_period it is not down any more, but gone."""
    node = OneNode()
    node.hear(Hello(B, 0))

    node.advance(PERMDOWN + 5)

    assert node.replication.events() == [PeerUp(B), PeerDown(B), PeerGone(B, was_silent=True)]


def test_a_life_is_gone_before_the_next_one_is_up():
    """At no point are there two nodes of one name."""
    node = OneNode()

    node.hear(Hello(B, 0), Hello(origin("b", 2), 0))

    assert node.replication.events() == [PeerUp(B), PeerGone(B), PeerUp(origin("b", 2))]


def test_the_word_of_an_earlier_life_is_no_event():
    """Who is told that it is superseded has not been here."""
    node = OneNode()

    node.hear(Hello(origin("b", 2), 0), heartbeat(Slice(B)))

    assert node.replication.events() == [PeerUp(origin("b", 2))]


def clash(node: OneNode) -> None:
    """Somebody else makes changes under the node's id."""
    node.hear(Digest(B, ((node.tracker.origin, 99),)))


def test_a_node_that_renames_itself_says_so():
    """The first refutation gives a new id only, the second within down_period a new name."""
    node = OneNode()
    node.hear(Hello(B, 0))
    node.replication.events()

    clash(node)
    assert node.replication.events() == []

    clash(node)
    (renamed,) = node.replication.events()
    assert renamed == Renamed("a", node.tracker.origin.name)
    assert isinstance(renamed, Renamed)
    assert renamed.new.startswith("a~")


def test_a_namesake_that_took_another_name_is_told():
    """Who keeps the name learns as well that two nodes had it, as long as both run."""
    node = OneNode()
    stranger, namesake = OriginId("b~1", 1, 8), OriginId("a~1", 1, 9)
    told: list[bool] = []
    for word in (Hello(stranger, 0), Hello(namesake, 0), Goodbye(namesake)):
        node.hear(word)
        told.append(node.replication.has_namesake)

    assert told == [False, True, False]
    assert node.replication.events() == [
        PeerUp(stranger),
        PeerUp(namesake),
        Namesake(namesake),
        PeerGone(namesake),
    ]


def test_all_is_told_in_order():
    """What happened between two calls is handed over as it happened."""
    node, c = OneNode(), OriginId("c", 1, 3)

    node.hear(Hello(B, 0), Hello(c, 0), Goodbye(c), Goodbye(B), Hello(c, 0))

    assert node.replication.events() == [PeerUp(B), PeerUp(c), PeerGone(c), PeerGone(B)]
