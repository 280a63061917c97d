"""Several trackers of one node: they share its slice and its peers, and show their own."""

from __future__ import annotations

import pytest

from roost.crdt.slice import Slice
from roost.exceptions import NotTracked
from roost.tracker.messages import (
    Changes,
    Digest,
    Heartbeat,
    decode_message,
    encode_message,
)
from roost.tracker.options import ReplicationOptions
from roost.tracker.protocol import Joined, Left, TrackerEvent, TrackerProtocol, Updated
from tests.tracker.one_node import OneNode, add, changes, heartbeat, origin

DOWN = ReplicationOptions().down_period


def keys(tracker: TrackerProtocol) -> list[str]:
    """Who is visible in ``room:1``."""
    return list(tracker.keys("room:1"))


def kinds(tracker: TrackerProtocol) -> list[type[TrackerEvent]]:
    """What a tracker told since the last call."""
    return [type(event) for event in tracker.events()]


def talk(speaker: OneNode, listener: OneNode) -> None:
    """What one node has to say reaches another one, as bytes."""
    speaker.hear()
    for envelope in speaker.sent:
        listener.replication.receive_data(encode_message(envelope.message), listener.now)
    speaker.sent.clear()


def hash_of(node: OneNode) -> int:
    """What its next heartbeat says about what it holds."""
    node.said(Heartbeat)
    node.advance(2.0)
    return node.said(Heartbeat)[0][1].digest


# What others track.


def test_a_tracker_shows_what_others_track_under_its_name():
    """Two trackers of one node divide a peer's entries by name."""
    node, theirs = OneNode(), Slice(origin("b"))
    games = node.add_tracker("games")
    add(theirs, "alice")
    add(theirs, "bob", tracker="games")

    node.hear(heartbeat(theirs), changes(theirs))

    assert (keys(node.tracker), keys(games)) == (["alice"], ["bob"])
    assert (kinds(node.tracker), kinds(games)) == ([Joined], [Joined])


def test_entries_leave_the_tracker_that_shows_them():
    """A leave concerns the tracker of its entry, and no other one."""
    node, theirs = OneNode(), Slice(origin("b"))
    games = node.add_tracker("games")
    add(theirs, "alice")
    bob = theirs.add("room:1", "bob", b"{}", owner=2, tracker="games")
    node.hear(heartbeat(theirs), changes(theirs))
    node.tracker.events()

    theirs.remove(bob)
    node.hear(changes(theirs, start=2))

    assert (keys(node.tracker), keys(games)) == (["alice"], [])
    assert kinds(node.tracker) == []


def test_what_no_tracker_shows_is_held():
    """Entries under a name that no tracker here has are held and counted, and nobody is told."""
    node, theirs = OneNode(), Slice(origin("b"))
    add(theirs, "alice")
    add(theirs, "bob", tracker="games")

    node.hear(heartbeat(theirs), changes(theirs))

    peer = node.peer(theirs.origin)
    assert peer is not None
    assert (peer.held.seq, len(peer.held), peer.is_behind) == (2, 2, False)
    assert keys(node.tracker) == ["alice"]
    assert kinds(node.tracker) == [Joined]


def test_nodes_with_different_trackers_hold_the_same():
    """Whether or not a node has a tracker of a name, it has the same digest, and asks nothing."""
    nodes = OneNode(), OneNode()
    nodes[1].add_tracker("games")
    theirs = Slice(origin("b"))
    add(theirs, "bob", tracker="games")
    for node in nodes:
        node.hear(heartbeat(theirs), changes(theirs))

    assert hash_of(nodes[0]) == hash_of(nodes[1])


def test_a_tracker_that_is_added_later_shows_what_is_held():
    """What came before there was a tracker for it is shown once there is one."""
    node, theirs = OneNode(), Slice(origin("b"))
    add(theirs, "alice")
    add(theirs, "bob", tracker="games")
    node.hear(heartbeat(theirs), changes(theirs))

    games = node.add_tracker("games")

    assert keys(games) == ["bob"]
    assert kinds(games) == [Joined]


def test_a_tracker_that_is_added_later_shows_nobody_who_is_down():
    """Entries of a peer that is down wait for it, also in a tracker that never showed them."""
    node, theirs = OneNode(), Slice(origin("b"))
    add(theirs, "bob", tracker="games")
    node.hear(heartbeat(theirs), changes(theirs))
    node.advance(DOWN + 5)
    assert node.up() == []

    games = node.add_tracker("games")
    assert keys(games) == []

    node.hear(heartbeat(theirs))
    assert keys(games) == ["bob"]


def test_a_peer_is_hidden_and_shown_in_all_trackers():
    """Liveness belongs to the node, and not to one of its trackers."""
    node, theirs = OneNode(), Slice(origin("b"))
    games = node.add_tracker("games")
    add(theirs, "alice")
    add(theirs, "bob", tracker="games")
    node.hear(heartbeat(theirs), changes(theirs))

    node.advance(DOWN + 5)
    assert (keys(node.tracker), keys(games)) == ([], [])

    node.hear(heartbeat(theirs))
    assert (keys(node.tracker), keys(games)) == (["alice"], ["bob"])


def test_a_tracker_that_was_removed_is_told_nothing():
    """What others do after a tracker ended is held, and is no event of it."""
    node, theirs = OneNode(), Slice(origin("b"))
    games = node.add_tracker("games")
    node.hear(heartbeat(theirs))

    node.replication.remove_tracker(games)
    add(theirs, "bob", tracker="games")
    node.hear(changes(theirs))

    assert kinds(games) == []
    assert keys(node.add_tracker("games")) == ["bob"]


def test_an_update_stays_in_its_tracker():
    """The successor of an entry is in the tracker that showed the entry, and is one event."""
    node, theirs = OneNode(), Slice(origin("b"))
    games = node.add_tracker("games")
    bob = theirs.add("room:1", "bob", b"{}", owner=1, tracker="games")
    node.hear(heartbeat(theirs), changes(theirs))
    games.events()

    theirs.replace(bob, b'{"n":1}')
    node.hear(changes(theirs, start=1))

    assert kinds(games) == [Updated]
    assert kinds(node.tracker) == []


def test_presences_in_two_trackers_are_no_update():
    """What leaves one tracker and joins another in one step is a leave and a join."""
    node, theirs = OneNode(), Slice(origin("b"))
    games = node.add_tracker("games")
    alice = theirs.add("room:1", "alice", b"{}", owner=1)
    node.hear(heartbeat(theirs), changes(theirs))
    node.tracker.events()

    theirs.remove(alice)
    theirs.add("room:1", "alice", b"{}", owner=1, tracker="games")
    node.hear(changes(theirs, start=1))

    assert kinds(node.tracker) == [Left]
    assert kinds(games) == [Joined]


def test_what_others_track_cannot_be_changed_here():
    """An owner here may have the number of one elsewhere, and what that one tracks is not its."""
    node, theirs = OneNode(), Slice(origin("b"))
    add(theirs, "alice")  # for the owner 1
    node.hear(heartbeat(theirs), changes(theirs))
    assert keys(node.tracker) == ["alice"]

    assert not node.tracker.untrack("room:1", "alice", owner=1)
    assert node.tracker.untrack_owner(1) == 0
    with pytest.raises(NotTracked):
        node.tracker.update("room:1", "alice", {"n": 1}, owner=1)

    assert keys(node.tracker) == ["alice"]
    assert node.tracker.own.seq == 0


# What we track.


def test_trackers_of_a_node_count_in_one_slice():
    """One number counts the changes of all, and each shows its own only."""
    node = OneNode()
    games = node.add_tracker("games")

    node.tracker.track("room:1", "alice", {}, owner=1)
    games.track("room:1", "bob", {}, owner=1)

    assert node.tracker.own.seq == 2
    assert (keys(node.tracker), keys(games)) == (["alice"], ["bob"])


def test_an_owner_ends_in_each_tracker_by_itself():
    """Owners are numbers of one tracker: another one may have the same."""
    node = OneNode()
    games = node.add_tracker("games")
    node.tracker.track("room:1", "alice", {}, owner=1)
    games.track("room:1", "alice", {}, owner=1)

    assert node.tracker.untrack_owner(1) == 1
    assert (keys(node.tracker), keys(games)) == ([], ["alice"])


def test_what_a_tracker_tracked_ends_with_it():
    """It leaves on all other nodes, once; here it stays to be read, and is no event."""
    here, there = OneNode(), OneNode(origin("b"))
    ours, theirs = here.add_tracker("games"), there.add_tracker("games")
    here.tracker.track("room:1", "alice", {}, owner=1)
    ours.track("room:1", "bob", {}, owner=1)
    here.advance(2.0)
    talk(here, there)
    ours.events()

    here.replication.remove_tracker(ours)
    ours.end()
    ours.end()
    here.advance(2.0)
    talk(here, there)

    assert (keys(ours), kinds(ours)) == (["bob"], [])
    assert (keys(there.tracker), keys(theirs)) == (["alice"], [])
    assert kinds(theirs) == [Joined, Left]


def test_a_presence_reaches_the_tracker_of_its_name_elsewhere():
    """Tracked, updated or renewed, what a tracker tracks is shown by its namesakes."""
    here, there = OneNode(), OneNode(origin("b"))
    ours, theirs = here.add_tracker("games"), there.add_tracker("games")
    ours.track("room:1", "alice", {}, owner=1)
    ours.track("room:1", "bob", {}, owner=2)
    ours.update("room:1", "bob", {"n": 1}, owner=2)
    here.advance(2.0)

    talk(here, there)
    assert keys(theirs) == ["alice", "bob"]

    there.now = here.now
    here.hear(heartbeat(Slice(origin("c"))), Digest(origin("c"), ((here.tracker.origin, 99),)))
    talk(here, there)
    assert here.tracker.origin != origin("a")
    assert keys(theirs) == ["alice", "bob"]
    renewed = here.tracker.origin.ref_prefix
    assert {entry.ref_prefix for entry in theirs.list("room:1")} == {renewed}
    assert keys(there.tracker) == []


def test_a_new_id_renews_all_trackers():
    """A node takes a new id: what any of its trackers tracks is published afresh."""
    node = OneNode()
    games = node.add_tracker("games")
    node.tracker.track("room:1", "alice", {}, owner=1)
    games.track("room:1", "bob", {}, owner=1)
    node.advance(2.0)
    node.said(Changes)

    node.hear(heartbeat(Slice(origin("b"))), Digest(origin("b"), ((origin("a"), 99),)))

    assert (kinds(node.tracker), kinds(games)) == ([Joined, Updated], [Joined, Updated])
    (sent,) = (message for _, message in node.said(Changes))
    assert sent.sender == node.tracker.origin != origin("a")
    assert {(row.key, row.tracker) for row in sent.part.added} == {("alice", ""), ("bob", "games")}


def test_the_name_of_a_tracker_travels():
    """An entry is decoded with the tracker that it was tracked by."""
    theirs = Slice(origin("b"))
    add(theirs, "bob", tracker="games")
    message = decode_message(encode_message(changes(theirs)))

    assert isinstance(message, Changes)
    assert message.part.range(theirs.origin.ref_prefix) == theirs.range_from(0)
    (bob,) = theirs
    assert bob.tracker == "games"
