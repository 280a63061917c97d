"""Nodes of different versions: what each reads, what may be written, and what cannot be read."""

from __future__ import annotations

import msgspec
import pytest

from roost.crdt.slice import Slice
from roost.tracker.messages import (
    LAST_KIND,
    Goodbye,
    Heartbeat,
    Hello,
    Superseded,
    TrackerMessage,
    decode_message,
    encode_message,
)
from roost.tracker.options import ReplicationOptions
from tests.tracker.one_node import OneNode, add, changes, heartbeat, origin

DOWN = ReplicationOptions().down_period
B, C = origin("b"), origin("c")


def reads(who: str, lowest: int, highest: int, *, incarnation: int = 1) -> Heartbeat:
    """A heartbeat of a node that reads these versions."""
    return heartbeat(Slice(origin(who, incarnation)), versions=(lowest, highest))


# What may be written.


def test_a_node_alone_writes_the_highest_that_it_reads():
    """There is nobody who could not read it."""
    assert OneNode(versions=(1, 3)).replication.version == 3


def test_what_is_written_is_read_by_all():
    """The written version is the highest that all peers that are up read."""
    node = OneNode(versions=(1, 3))

    node.hear(reads("b", 1, 5))
    assert node.replication.version == 3

    node.hear(reads("c", 1, 2))
    assert node.replication.version == 2


def test_a_hello_says_as_much_as_a_heartbeat():
    """The first word of a node is enough to write what it reads."""
    node = OneNode(versions=(1, 3))

    node.hear(Hello(B, 0, (1, 2)))

    assert node.replication.version == 2


def test_a_peer_whose_versions_are_not_known_reads_the_first():
    """Until a node has said otherwise it may be an old one."""
    node, theirs = OneNode(versions=(1, 3)), Slice(B)
    add(theirs, "alice")

    node.hear(changes(theirs))

    assert node.replication.version == 1


@pytest.mark.parametrize("end", ["goodbye", "down", "next life"])
def test_the_written_version_rises_when_the_old_node_goes(end):
    """A rolling upgrade ends with the version of its last step, however the old node went."""
    node = OneNode(versions=(1, 3))
    node.hear(reads("b", 1, 1))
    assert node.replication.version == 1

    match end:
        case "goodbye":
            node.hear(Goodbye(B))
        case "down":
            node.advance(DOWN + 5)
        case "next life":
            node.hear(reads("b", 1, 3, incarnation=2))

    assert node.replication.version == 3


def test_a_node_announces_the_versions_that_it_reads():
    """Both its hello and its heartbeat say it."""
    node = OneNode(versions=(2, 4))
    node.advance(2.0)
    words = [each.message for each in node.sent if isinstance(each.message, Hello | Heartbeat)]

    assert {type(word) for word in words} == {Hello, Heartbeat}
    assert {word.versions for word in words} == {(2, 4)}


# Who shares none.


@pytest.mark.parametrize("theirs", [(1, 1), (4, 5)])
def test_an_incompatible_peer_stays_known_and_is_named(theirs):
    """A node that is too old or too new to be talked to is up, and listed."""
    node = OneNode(versions=(2, 3))

    node.hear(reads("b", *theirs), reads("c", 2, 2))

    assert [peer.origin for peer in node.replication.incompatible] == [B]
    assert node.up() == [B, C]


@pytest.mark.parametrize("theirs", [(1, 2), (3, 5), (2, 3), (1, 9)])
def test_one_version_in_common_is_enough(theirs):
    """Ranges that touch are compatible."""
    node = OneNode(versions=(2, 3))

    node.hear(reads("b", *theirs))

    assert node.replication.incompatible == []


def test_a_peer_that_is_gone_is_not_named_any_more():
    """Nobody has to care about an incompatible node that does not run."""
    node = OneNode(versions=(2, 3))
    node.hear(reads("b", 1, 1))

    node.advance(DOWN + 5)

    assert node.peer(B) is not None
    assert node.replication.incompatible == []


def test_the_presences_of_an_incompatible_peer_stay():
    """The halves of a rolling upgrade do not hide each other."""
    node, theirs = OneNode(versions=(2, 3)), Slice(B)
    add(theirs, "alice")
    node.hear(reads("b", 2, 3), changes(theirs))

    node.hear(heartbeat(theirs, versions=(4, 5)))

    assert [peer.origin for peer in node.replication.incompatible] == [B]
    assert list(node.tracker.keys("room:1")) == ["alice"]


def test_an_incompatible_peer_does_not_count():
    """What it reads this node cannot write; the others need not do with less for it."""
    node = OneNode(versions=(2, 3))

    node.hear(reads("b", 1, 1), reads("c", 2, 3))

    assert node.replication.version == 3


# What cannot be read.


@pytest.mark.parametrize("kind", [LAST_KIND + 1, 127])
def test_a_kind_of_a_later_version_is_skipped(kind):
    """A message of an unknown kind is counted as such, whatever else is in it."""
    node = OneNode()

    node.replication.receive_data(msgspec.msgpack.encode([kind, {"any": ["thing"]}]), 0.0)

    assert node.replication.counters == {"unknown_kind": 1}
    assert node.replication.peers == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x91",
        b"\xff\xff",
        msgspec.msgpack.encode({"kind": 99}),
        msgspec.msgpack.encode({99: "a"}),
        msgspec.msgpack.encode("c"),
        msgspec.msgpack.encode(["99"]),
        msgspec.msgpack.encode([-1]),
        msgspec.msgpack.encode([LAST_KIND]),
        msgspec.msgpack.encode([0, ["a", 1, 2], "many", 4]),
        encode_message(Goodbye(B))[:-1],
    ],
)
def test_bytes_that_no_version_makes_are_unsound(data):
    """What is no message, or a broken one of a known kind, is counted apart from the unknown."""
    node = OneNode()

    node.replication.receive_data(data, 0.0)

    assert node.replication.counters == {"unsound": 1}
    assert node.replication.peers == []


def test_the_last_kind_is_known():
    """The border between the known kinds and later ones lies behind the last one."""
    message: TrackerMessage = Superseded(B, C)

    assert decode_message(encode_message(message)) == message


def test_sound_bytes_are_heard():
    """What can be read is a message like any other, and counts nothing."""
    node = OneNode()

    node.replication.receive_data(encode_message(heartbeat(Slice(B))), 0.0)

    assert node.up() == [B]
    assert node.replication.counters == {}
