"""Bugs that trackers in the field had, each as the story that would show it here.

The titles name the reports: of phoenix_pubsub where nothing else is said, and of chitchat.
"""

from __future__ import annotations

import pytest

from roost.exceptions import NotTracked
from roost.testing.simulation import Simulation
from roost.tracker.messages import (
    MAX_PART_SIZE,
    Changes,
    ChunkTransfer,
    Digest,
    Heartbeat,
    Hello,
    Transfer,
    decode_message,
    encode_message,
)
from roost.tracker.meta import MAX_META_SIZE
from roost.tracker.options import ReplicationOptions
from roost.tracker.protocol import Joined, Left, Updated

OPTIONS = ReplicationOptions()
HEARTBEAT = OPTIONS.heartbeat_period
DOWN = OPTIONS.down_period
PERMDOWN = OPTIONS.permdown_period
A_WHILE = 10 * HEARTBEAT

ROOM = "room:1"


def test_148_213_a_stale_transfer_overwrites_nothing():
    """A node comes up during churn; a full state that comes late does not undo what came since."""
    sim = Simulation(nodes="ab")
    alice = sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    stale = sim.hold(Transfer, ChunkTransfer, target="c")
    sim.start("c")
    sim.advance(0.5)
    stale.stop()
    sim.a.end(alice)
    sim.a.track(ROOM, "bob")
    sim.run_until_quiet()
    assert sim.c.keys(ROOM) == ["bob"]

    stale.deliver()
    stale.deliver()

    assert stale.messages
    assert sim.c.keys(ROOM) == ["bob"]
    assert sum(isinstance(event, Joined) for event in sim.c.events) == 1


def test_148_213_rolling_deploys_leave_no_trace():
    """Every node is replaced three times while members come and go, and all agree after each."""
    sim = Simulation(seed=1, nodes="abc")
    for _ in range(3):
        for name in "abc":
            owners = [(node, node.track(ROOM, node.name)) for node in sim.nodes.values()]
            sim.stop(name)
            sim.start(name).track(ROOM, "alice")
            for node, owner in owners:
                if node.is_live:
                    node.end(owner)
            assert sim.run_until_quiet() <= 2 * HEARTBEAT


def test_55_80_kept_changes_of_a_forgotten_origin_do_not_resurface():
    """Changes that waited for a gap to close go with the origin, and are handed to no newcomer."""
    sim = Simulation(nodes="abc")
    sim.run_until_quiet()
    lost = sim.hold(Changes, Transfer, ChunkTransfer)
    sim.a.track(ROOM, "alice")
    sim.advance(0.1)
    lost.stop()
    late = sim.hold(Transfer, ChunkTransfer)
    sim.a.track(ROOM, "bob")
    sim.advance(0.1)
    sim.crash("a")
    sim.advance(PERMDOWN + A_WHILE)

    lost.deliver()
    late.release()
    sim.start("d")
    sim.advance(A_WHILE)

    assert [node.keys(ROOM) for node in sim.nodes.values()] == [[], [], []]
    assert [len(node.replication.peers) for node in sim.nodes.values()] == [2, 2, 2]


def test_55_80_a_newcomer_is_told_of_no_dead_origin():
    """What others still hold of a node that is down is never shown by one that never heard it."""
    sim = Simulation(nodes="abc")
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    sim.crash("a")
    sim.advance(DOWN)

    sim.start("d")
    sim.advance(PERMDOWN)

    assert sim.d.events == []


@pytest.mark.parametrize("count", [51, 1_001])
def test_74_large_sides_agree_when_they_first_meet(count: int):
    """Two nodes that each hold many presences connect for the first time."""
    sim = Simulation(nodes="")
    sim.partition("a", "b")
    for name in "ab":
        node = sim.start(name)
        for n in range(count):
            node.track(ROOM, f"{name}{n}")
    sim.advance(A_WHILE)

    sim.heal()
    sim.run_until_quiet()

    assert sim.a.tracker.count_keys(ROOM) == sim.b.tracker.count_keys(ROOM) == 2 * count


def test_109_changes_that_do_not_chain_are_not_merged():
    """A change before which one is missing is not applied, so that its number does not lie."""
    sim = Simulation(nodes="ab")
    alice = sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    lost = sim.hold(Changes)
    sim.a.end(alice)
    sim.advance(0.1)
    lost.stop()

    sim.a.track(ROOM, "bob")
    sim.advance(0.1)
    assert sim.b.keys(ROOM) == ["alice"]

    sim.run_until_quiet()
    assert sim.b.keys(ROOM) == ["bob"]


def test_111_a_removal_is_seen_through_a_third_node():
    """Alice leaves a node that c does not hear; c learns it from b."""
    sim = Simulation(nodes="abc")
    alice = sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    sim.partition("a", "c")

    sim.a.end(alice)
    sim.run_until_quiet()

    assert sim.c.keys(ROOM) == []
    assert [peer.is_up for peer in sim.c.replication.peers] == [True, True]


def test_135_a_replaced_node_leaves_the_others_quiet():
    """A node crashes with changes that nobody got, and starts again: nobody asks for the old."""
    sim = Simulation(nodes="abc")
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    lost = sim.hold(Changes, Transfer, ChunkTransfer, source="a")
    sim.a.track(ROOM, "bob")
    sim.advance(2 * HEARTBEAT)
    sim.crash("a")
    lost.stop()
    sim.start("a")
    sim.advance(A_WHILE)
    sim.sent.clear()

    sim.advance(A_WHILE)

    assert set(sim.sent) == {"Heartbeat"}


@pytest.mark.parametrize("updates", [1, 2, 5])
def test_172_an_update_is_one_event_everywhere(updates: int):
    """However many updates travel together, no reader sees the key missing, or twice."""
    sim = Simulation(nodes="ab")
    alice = sim.a.track(ROOM, "alice", {"n": 0})
    sim.run_until_quiet()
    before = len(sim.b.events)

    for n in range(updates):
        sim.a.update(ROOM, "alice", {"n": n + 1}, owner=alice)
    sim.run_until_quiet()

    events = sim.b.events[before:]
    assert all(isinstance(event, Updated) for event in events)
    assert 1 <= len(events) <= 2  # the first goes out at once, the rest together


def test_172_an_update_that_comes_in_a_chunk_is_one_event():
    """A node that was cut off finds the update in a chunk of all, and it is still an update."""
    sim = Simulation(nodes="ab")
    alice = sim.a.track(ROOM, "alice", {"n": 0})
    sim.run_until_quiet()
    (held,) = sim.b.replication.peers
    sim.hold(Changes, Transfer, ChunkTransfer)
    sim.a.update(ROOM, "alice", {"n": 1}, owner=alice)
    sim.a.update(ROOM, "alice", {"n": 2}, owner=alice)

    diff = held.held.take(sim.a.tracker.own.snapshot())
    assert diff is not None
    sim.b.tracker.change(diff.removed, diff.added)
    sim.settle(sim.b)

    assert [type(event) for event in sim.b.events] == [Joined, Updated]


def test_175_updates_leak_nothing():
    """After a thousand updates every node holds one entry."""
    sim = Simulation(nodes="ab")
    alice = sim.a.track(ROOM, "alice")
    for n in range(1_000):
        sim.a.update(ROOM, "alice", {"n": n}, owner=alice)
        sim.advance(0.01)
    sim.run_until_quiet()

    (peer,) = sim.b.replication.peers
    assert len(peer.held) == len(sim.a.tracker.own) == len(sim.b.shown) == 1
    assert sim.b.tracker.count_entries(ROOM) == 1
    assert peer.ahead == []


def test_103_an_update_just_before_the_end_leaves_nothing_behind():
    """Alice's meta changes and she leaves in the same moment: nobody keeps the old or the new."""
    sim = Simulation(nodes="ab")
    alice = sim.a.track(ROOM, "alice", {"n": 0})
    sim.run_until_quiet()

    sim.a.update(ROOM, "alice", {"n": 1}, owner=alice)
    sim.a.end(alice)
    sim.run_until_quiet()

    assert sim.b.keys(ROOM) == []
    assert len(sim.b.replication.peers[0].held) == 0


def test_103_an_update_just_after_a_broadcast_is_not_forgotten():
    """A change in the pause between two broadcasts goes out when the pause is over."""
    sim = Simulation(nodes="ab")
    alice = sim.a.track(ROOM, "alice", {"n": 0})
    sim.run_until_quiet()
    sim.a.update(ROOM, "alice", {"n": 1}, owner=alice)
    sim.advance(0.01)
    sim.a.update(ROOM, "alice", {"n": 2}, owner=alice)

    sim.advance(OPTIONS.broadcast_period + 0.01)

    assert sim.disagreement() is None


def test_184_a_presence_of_another_node_cannot_be_updated():
    """A node changes its own presences only, even where the numbers of the owners are the same."""
    sim = Simulation(nodes="ab")
    alice = sim.a.track(ROOM, "alice")
    sim.run_until_quiet()

    with pytest.raises(NotTracked):
        sim.b.update(ROOM, "alice", {"n": 1}, owner=alice)
    sim.b.untrack(ROOM, "alice", owner=alice)
    sim.b.end(alice)
    sim.run_until_quiet()

    assert sim.a.keys(ROOM) == sim.b.keys(ROOM) == ["alice"]


def test_194_195_a_tracker_that_said_goodbye_stays_gone():
    """Nothing that a closing node hears or does makes it known again."""
    sim = Simulation(nodes="ab")
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    sim.a.replication.close(sim.now)
    sim.settle(sim.a)
    sim.advance(1)

    sim.deliver("a", Hello(sim.b.tracker.origin, 0))
    sim.a.track(ROOM, "bob")
    sim.a.replication.attached(sim.now)
    sim.settle(sim.a)
    sim.advance(A_WHILE)

    assert sim.b.keys(ROOM) == []
    assert sim.b.replication.peers == []


def test_a_step_of_the_wall_clock_takes_nobody_down():
    """A node starts while its clock is a day ahead, which is then set back: it stays up."""
    sim = Simulation(nodes="ab")
    sim.start("c", clock_step=86_400.0).track(ROOM, "alice")
    sim.run_until_quiet()

    sim.advance(2 * DOWN)

    assert not [event for event in sim.a.events if isinstance(event, Left)]
    assert not [event for event in sim.c.events if isinstance(event, Left)]


@pytest.mark.parametrize("step", [-3_600.0, 3_600.0])
def test_a_step_of_the_given_clock_takes_nobody_down(step: float):
    """Even if time itself jumps by an hour, nobody is judged for it."""
    sim = Simulation(nodes="ab")
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()

    replication = sim.b.replication
    replication.handle_timer(sim.now + step)
    replication.handle_timer(sim.now + step)

    assert sim.b.keys(ROOM) == ["alice"]


def test_a_late_heartbeat_of_an_earlier_life_does_not_evict_the_next():
    """Another life is not a newer one: the ids are ordered."""
    sim = Simulation(nodes="ab")
    late = sim.hold(Heartbeat, Hello, Changes, source="a", target="b", copies=True)
    sim.a.track(ROOM, "bob")
    sim.advance(2 * HEARTBEAT)
    late.stop()
    sim.crash("a")
    sim.start("a").track(ROOM, "alice")
    sim.run_until_quiet()

    late.deliver()
    sim.advance(1)

    assert late.messages
    assert sim.b.keys(ROOM) == ["alice"]
    assert sim.a.replication.counters["renewed"] == 0


def test_chitchat_133_a_node_that_is_talked_about_is_not_alive_for_it():
    """Digests that name a dead node keep coming, and do not make it one that lives."""
    sim = Simulation(nodes="abc")
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    dead = sim.a.tracker.origin
    sim.crash("a")
    sim.advance(DOWN)

    for seq in range(1, 100):
        sim.deliver("b", Digest(sim.c.tracker.origin, ((dead, seq),)))
        sim.advance(HEARTBEAT)
    assert sim.b.keys(ROOM) == []

    sim.advance(PERMDOWN)
    assert [peer.name for peer in sim.b.replication.peers] == ["c"]


def test_chitchat_144_nodes_of_a_simulation_share_nothing():
    """What arrives in the simulation was encoded and decoded, as between machines."""
    sim = Simulation(nodes="ab")
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()

    (sent,), (received,) = sim.a.tracker.list(ROOM), sim.b.tracker.list(ROOM)

    assert sent == received
    assert sent is not received
    assert sim.a.tracker.origin is not sim.b.replication.peers[0].origin


def test_chitchat_170_what_is_empty_and_what_is_large_are_both_sent():
    """An empty digest is a message, and no part is larger than a part may be."""
    sim = Simulation(nodes="ab")
    empty = Digest(sim.a.tracker.origin, ())
    assert decode_message(encode_message(empty)) == empty

    parts = sim.hold(Changes, copies=True)
    for n in range(50):
        sim.a.track(ROOM, f"{n}", {"text": "x" * (MAX_META_SIZE - 100)})
    sim.run_until_quiet()

    sizes = [len(encode_message(message)) for _, _, message in parts.messages]
    assert max(sizes) < 2 * MAX_PART_SIZE
    assert sim.b.tracker.count_keys(ROOM) == 50


def test_chitchat_179_a_stale_digest_changes_nothing():
    """A digest from before a goodbye and a restart arrives after both."""
    sim = Simulation(nodes="abc")
    alice = sim.a.track(ROOM, "alice")
    stale = sim.hold(Digest, source="c", target="b", copies=True)
    sim.start("b")
    sim.run_until_quiet()
    stale.stop()
    sim.a.end(alice)
    sim.stop("a")
    sim.start("a").track(ROOM, "bob")
    sim.run_until_quiet()
    before = list(sim.b.events)

    stale.deliver()
    sim.advance(A_WHILE)

    assert stale.messages
    assert sim.b.events == before
    assert sim.b.keys(ROOM) == ["bob"]


def test_a_goodbye_is_heard_before_the_silence():
    """A deploy is no crash: who was on the node that stops is gone at once, everywhere."""
    sim = Simulation(nodes="abc")
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()

    sim.stop("a")
    sim.advance(0.1)

    assert sim.b.keys(ROOM) == sim.c.keys(ROOM) == []
    assert sim.sent["Goodbye"] == 2
