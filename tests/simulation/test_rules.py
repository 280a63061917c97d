"""The rules of replication, each as the story of what goes wrong without it.

Alice and bob are in ``room:1``; the nodes are a, b and c. Sections are those of the rules in
docs/replication.md.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import pairwise

import msgspec
import pytest

from roost.crdt.cutter import Cutter
from roost.crdt.incarnation import OriginId
from roost.crdt.slice import Chunk, Range, Slice
from roost.testing.simulation import Faults, SimulatedNode, Simulation
from roost.tracker.floors import MAX_FLOORS
from roost.tracker.messages import (
    MAX_PART_COUNT,
    Alive,
    Changes,
    ChunkTransfer,
    Digest,
    Goodbye,
    Heartbeat,
    Hello,
    Part,
    Probe,
    Request,
    Superseded,
    TrackerMessage,
    Transfer,
    decode_message,
    encode_message,
)
from roost.tracker.node import Envelope
from roost.tracker.options import ReplicationOptions
from roost.tracker.protocol import Joined, Left, TrackerProtocol
from roost.tracker.replication import ReplicationProtocol

OPTIONS = ReplicationOptions()
HEARTBEAT = OPTIONS.heartbeat_period
DOWN = OPTIONS.down_period
PERMDOWN = OPTIONS.permdown_period
A_WHILE = 10 * HEARTBEAT

ROOM = "room:1"

OWN = OriginId("b", 10, 1)
OTHER = OriginId("a", 10, 2)


def told(node: SimulatedNode, kind: type[Joined | Left], key: str) -> int:
    """How many such events of a key a node told."""
    return sum(isinstance(event, kind) and event.entry.key == key for event in node.events)


def known(node: SimulatedNode) -> set[str]:
    """Names of the origins that a node knows."""
    return {peer.name for peer in node.replication.peers}


def relayed(sim: Simulation, origin: str, holder: str) -> ChunkTransfer:
    """What ``holder`` would send of the slice of ``origin``."""
    node = sim.nodes[holder]
    held = next(peer for peer in node.replication.peers if peer.name == origin)
    return ChunkTransfer.of(
        held.held.snapshot(),
        sender=node.tracker.origin,
        origin=held.origin,
        number=1,
        mark=held.mark,
        is_last=True,
    )


def protocol(
    origin: OriginId = OWN, options: ReplicationOptions = OPTIONS
) -> tuple[TrackerProtocol, ReplicationProtocol]:
    """One node by itself, at 0 on its clock, whose hello was sent."""
    rng = random.Random(1)
    tracker = TrackerProtocol(Slice(origin))
    replication = ReplicationProtocol(
        tracker.own, rng=rng, new_nonce=lambda: rng.getrandbits(64), options=options, now=0.0
    )
    replication.add_tracker(tracker)
    replication.messages_to_send()
    return tracker, replication


def answers(
    replication: ReplicationProtocol, *messages: TrackerMessage, now: float = 0.0
) -> list[Envelope]:
    """What is sent at once when messages arrive."""
    replication.messages_to_send()
    for message in messages:
        replication.receive(message, now)
    return list(replication.messages_to_send())


def kinds(envelopes: Iterable[Envelope]) -> list[type[TrackerMessage]]:
    return [type(envelope.message) for envelope in envelopes]


def pass_time(replication: ReplicationProtocol, start: float, end: float) -> list[Envelope]:
    """Call the timer whenever it is due; all that was sent."""
    sent: list[Envelope] = []
    while (timer := replication.next_timer()) is not None and timer <= end:
        replication.handle_timer(max(timer, start))
        sent += replication.messages_to_send()
    return sent


# 2. Who may create, raise and end an origin.


def test_relayed_state_of_an_unknown_origin_creates_nothing():
    """A part that was on its way for longer than its origin is remembered makes no ghost."""
    sim = Simulation()
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    late = relayed(sim, "a", "b")
    sim.crash("a")
    sim.advance(2 * PERMDOWN + A_WHILE)

    sim.deliver("c", late)
    sim.advance(A_WHILE)

    assert sim.c.keys(ROOM) == []
    assert known(sim.c) == {"b"}


def test_relayed_state_of_a_down_origin_is_taken_silently():
    """What others know of a node that is down here is held, and shown to nobody."""
    sim = Simulation()
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    sim.partition("a", "c")
    sim.hold(Probe, Alive)
    sim.advance(A_WHILE)
    assert sim.c.keys(ROOM) == []

    sim.a.track(ROOM, "bob")
    sim.advance(A_WHILE)

    assert sim.b.keys(ROOM) == ["alice", "bob"]
    assert sim.c.keys(ROOM) == []
    assert told(sim.c, Joined, "alice") == 1
    assert told(sim.c, Joined, "bob") == 0
    assert [len(peer.held) for peer in sim.c.replication.peers if peer.name == "a"] == [2]


def test_newcomers_do_not_keep_a_dead_node_alive():
    """Nodes come and go after a crash, and none of them ever shows who was on the dead one."""
    sim = Simulation(nodes="ab")
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    sim.crash("a")
    sim.advance(DOWN)

    last = "b"
    for name in "cdefghijklmnop":
        node = sim.start(name)
        sim.advance(100)
        sim.stop(last)
        last = name
        sim.advance(1)
        assert told(node, Joined, "alice") == 0

    assert known(sim.p) == set()


def test_an_id_in_a_digest_is_asked_whether_it_lives():
    """A digest that names an unknown origin leads to a probe of it, and to nothing else."""
    _, replication = protocol()
    answers(replication, Hello(OriginId("c", 1, 3), 0))

    sent = answers(replication, Digest(OriginId("c", 1, 3), ((OTHER, 5),)))

    assert [(each.to, type(each.message)) for each in sent] == [("a", Probe), ("c", Probe)]
    assert [peer.name for peer in replication.peers] == ["c"]


def test_a_probe_goes_through_three_others():
    """Of ten nodes, three are asked to pass a probe on."""
    _, replication = protocol()
    answers(replication, *(Hello(OriginId(f"c{n}", 1, n), 0) for n in range(10)))

    sent = answers(replication, Digest(OriginId("c1", 1, 1), ((OTHER, 5),)))

    assert kinds(sent) == [Probe] * 4


def test_an_answer_without_our_nonce_brings_nobody_up():
    """An answer to somebody else's probe, or to one long past, is no sign of life."""
    _, replication = protocol()
    answers(replication, Digest(OriginId("c", 1, 3), ((OTHER, 5),)))

    answers(replication, Alive(OTHER, "b", 12345, 5))

    assert [peer.name for peer in replication.peers] == ["c"]


def test_an_answer_to_our_probe_makes_an_origin_known():
    """An answer that carries the nonce of our probe proves that its sender lives now."""
    _, replication = protocol()
    sent = answers(replication, Digest(OriginId("c", 1, 3), ((OTHER, 5),)))
    nonce = next(e.message.nonce for e in sent if isinstance(e.message, Probe))

    answers(replication, Alive(OTHER, "b", nonce, 5))

    assert {peer.name for peer in replication.peers} == {"a", "c"}


def test_nodes_without_a_link_know_of_each_other_through_a_third():
    """Two nodes that never hear each other show each other's presences, and keep them current."""
    sim = Simulation(nodes="abc")
    sim.partition("a", "c")
    alice = sim.a.track(ROOM, "alice")
    sim.c.track(ROOM, "bob")
    sim.run_until_quiet()
    assert sim.a.keys(ROOM) == sim.c.keys(ROOM) == ["alice", "bob"]

    sim.advance(DOWN + A_WHILE)
    sim.a.end(alice)
    sim.run_until_quiet()

    assert sim.c.keys(ROOM) == ["bob"]
    assert told(sim.c, Left, "alice") == told(sim.c, Joined, "alice") == 1
    assert told(sim.a, Left, "bob") == 0


def test_a_late_message_of_a_forgotten_life_revives_nothing():
    """A heartbeat that was on its way for 20 minutes is answered with a question."""
    sim = Simulation()
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    late = sim.hold(Heartbeat, Changes, source="a", target="b", copies=True)
    sim.a.track(ROOM, "bob")
    sim.advance(2 * HEARTBEAT)
    sim.crash("a")
    sim.advance(PERMDOWN + A_WHILE)
    assert known(sim.b) == {"c"}

    late.release()
    sim.advance(A_WHILE)

    assert late.messages
    assert known(sim.b) == {"c"}


def test_an_id_that_was_forgotten_is_welcome_when_it_lives():
    """A node that was cut off until all had forgotten each other comes back under its own id."""
    sim = Simulation()
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    origin = sim.a.tracker.origin
    sim.partition("a", "bc")
    sim.advance(PERMDOWN + A_WHILE)
    assert known(sim.b) == {"c"}

    sim.heal()

    assert sim.run_until_quiet() < 2 * HEARTBEAT
    assert sim.a.tracker.origin == origin
    assert sim.b.keys(ROOM) == ["alice"]


def test_floors_are_bounded():
    """Of more names than are remembered, the one that was forgotten first may come back."""
    _, replication = protocol()
    for n in range(MAX_FLOORS + 1):
        answers(replication, Goodbye(OriginId(f"a{n}", 1, n)))

    answers(replication, Heartbeat(OriginId("a0", 1, 0), 0, 0))
    answers(replication, Heartbeat(OriginId("a1", 1, 1), 0, 0))

    assert [peer.name for peer in replication.peers] == ["a0"]


def test_of_too_many_floors_the_one_goes_that_was_heard_longest_ago():
    """Nodes that were silent for 20 minutes do not take the place of a goodbye just heard."""
    _, replication = protocol()
    for n in range(2):
        answers(replication, Hello(OriginId(f"dead{n}", 1, n), 0))
    now = PERMDOWN - HEARTBEAT
    pass_time(replication, 0.0, now)
    for n in range(MAX_FLOORS - 1):
        answers(replication, Goodbye(OriginId(f"a{n}", 1, n)), now=now)
    pass_time(replication, now, PERMDOWN + HEARTBEAT)
    assert replication.peers == []

    answers(replication, Changes(OriginId("a0", 1, 0), Part(0, 0, (), ()), 0), now=now)

    assert replication.peers == []


@pytest.mark.parametrize("pause", [0.0, DOWN + A_WHILE, PERMDOWN + A_WHILE])
def test_a_restart_with_its_clock_set_back_is_seen(pause: float):
    """A node that crashed lives again an hour earlier; the others show it within seconds.

    Args:
        pause: It starts while its last life is up, down or forgotten.
    """
    sim = Simulation()
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    sim.crash("a")
    sim.advance(pause)

    sim.start("a", clock_step=-3600).track(ROOM, "bob")

    assert sim.run_until_quiet() < 2 * HEARTBEAT
    assert sim.b.keys(ROOM) == ["bob"]
    assert sim.a.tracker.origin.name == "a"


def test_a_restart_with_its_clock_set_back_after_a_goodbye_is_seen():
    """A goodbye closes the lives before it, and tells a later one with a lower id to rise."""
    sim = Simulation()
    sim.stop("a")

    sim.start("a", clock_step=-3600).track(ROOM, "bob")

    assert sim.run_until_quiet() < 2 * HEARTBEAT
    assert sim.b.keys(ROOM) == ["bob"]


def test_a_lower_id_is_told_the_highest():
    """Whoever speaks under an id that is over is told by which one it is superseded."""
    _, replication = protocol()
    answers(replication, Heartbeat(OTHER, 0, 0))

    sent = answers(replication, Heartbeat(OriginId("a", 9, 0), 0, 0))

    assert sent == [Envelope("a", Superseded(OWN, OTHER))]


def test_data_about_our_own_id_is_never_applied():
    """Others hold an old copy of what is tracked here; it changes nothing."""
    sim = Simulation()
    alice = sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    late = relayed(sim, "a", "b")
    sim.a.end(alice)

    sim.deliver("a", late)

    assert sim.a.keys(ROOM) == []
    assert known(sim.a) == {"b", "c"}


def test_a_node_whose_id_is_further_elsewhere_takes_a_new_one():
    """A virtual machine goes on from an old copy: what others hold under its id is not its own."""
    tracker, replication = protocol()
    tracker.track(ROOM, "alice", {}, owner=1)
    replication.handle_timer(0.0)

    sent = answers(replication, Digest(OTHER, ((OWN, 2),)))

    assert tracker.origin > OWN
    assert tracker.keys(ROOM) == ["alice"]
    assert all(entry.ref_prefix == tracker.origin.ref_prefix for entry in tracker.list(ROOM))
    assert [e.message.sender for e in sent if isinstance(e.message, Changes)] == [tracker.origin]


def test_a_clone_and_its_model_part():
    """A copied machine and its model end with ids of their own, and all presences are seen."""
    sim = Simulation()
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()

    sim.clone("a", "x").track(ROOM, "bob")
    sim.a.track(ROOM, "carol")
    sim.run_until_quiet()

    assert sim.x.tracker.origin != sim.a.tracker.origin
    assert sim.b.keys(ROOM) == ["alice", "bob", "carol"]
    assert sim.b.tracker.count_entries(ROOM) == 4


def test_of_two_nodes_with_one_name_one_is_renamed():
    """Two nodes are configured with one name: within seconds they go on under two."""
    sim = Simulation(nodes="bc")
    sim.start("a").track(ROOM, "alice")
    sim.start("x", called="a").track(ROOM, "bob")

    assert sim.run_until_quiet() < DOWN
    sim.advance(A_WHILE)

    assert sim.disagreement() is None
    names = sorted(sim.nodes[name].tracker.origin.name for name in "ax")
    assert names[0] == "a"
    assert names[1].startswith("a~")
    assert sim.a.replication.counters["renamed"] + sim.x.replication.counters["renamed"] == 1


def test_who_tells_us_that_we_are_superseded_lives():
    """A peer of which nothing else comes is not hidden as long as it says that."""
    _, replication = protocol()
    answers(replication, Hello(OTHER, 0))
    for n in range(1, 20):
        pass_time(replication, (n - 1) * HEARTBEAT, n * HEARTBEAT)
        answers(replication, Superseded(OTHER, OriginId(OWN.name, 1, 0)), now=n * HEARTBEAT)

    assert [peer.is_up for peer in replication.peers] == [True]


def test_who_says_that_we_are_superseded_is_not_met_by_that():
    """An unknown node says so and is not answered: it may be superseded itself."""
    _, replication = protocol()

    assert answers(replication, Superseded(OTHER, OriginId(OWN.name, 1, 0))) == []
    assert replication.peers == []


def test_our_own_words_refute_nobody():
    """What a node says to its namesake comes back to it, where both listen to one name."""
    tracker, replication = protocol()

    sent = answers(replication, Heartbeat(OriginId("b", 9, 0), 0, 0))
    answers(replication, *(each.message for each in sent))

    assert kinds(sent) == [Superseded]
    assert tracker.origin == OWN


def test_a_goodbye_is_not_undone_by_what_it_overtook():
    """A change that arrives after the goodbye of its origin revives nobody."""
    sim = Simulation()
    late = sim.hold(Changes, Heartbeat, source="a")
    sim.a.track(ROOM, "alice")
    sim.advance(2 * HEARTBEAT)
    sim.stop("a")
    sim.advance(1)

    late.release()
    sim.advance(1)

    assert late.messages
    assert sim.b.keys(ROOM) == sim.c.keys(ROOM) == []
    assert known(sim.b) == {"c"}


def test_a_repeated_goodbye_says_nothing():
    """The second goodbye of an id is no event and has no answer."""
    tracker, replication = protocol()
    answers(replication, Hello(OTHER, 0), Goodbye(OTHER))
    tracker.events()

    assert answers(replication, Goodbye(OTHER)) == []
    assert tracker.events() == []


def test_a_late_goodbye_of_an_earlier_life_closes_that_life_only():
    """A goodbye that the next life of its name overtook hides nobody."""
    sim = Simulation()
    late = sim.hold(Goodbye, target="b")
    sim.stop("a")
    sim.start("a").track(ROOM, "alice")
    sim.run_until_quiet()

    late.release()

    assert sim.b.keys(ROOM) == ["alice"]


def test_digests_pass_a_goodbye_on():
    """Who missed a goodbye hears of it from others, long before the silence tells."""
    sim = Simulation()
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    sim.hold(Goodbye, target="c")
    sim.stop("a")
    assert sim.c.keys(ROOM) == ["alice"]

    sim.advance(2.5 * HEARTBEAT)

    assert sim.c.keys(ROOM) == []


def test_a_goodbye_is_not_passed_on_for_ever():
    """Two nodes that remember a goodbye do not remind each other of it when one has forgotten."""
    _, replication = protocol()
    answers(replication, Hello(OTHER, 0))

    answers(replication, Digest(OTHER, ((OTHER, 0),), (OriginId("c", 1, 3),)))
    (answer,) = answers(replication, Hello(OTHER, 0))

    assert isinstance(answer.message, Digest)
    assert answer.message.closed == ()


def test_a_closing_node_says_nothing_after_its_goodbye():
    """Channels end, links die and rise, messages come after the goodbye: nothing is sent."""
    tracker, replication = protocol()
    answers(replication, Hello(OTHER, 0))
    owner = 1
    tracker.track(ROOM, "alice", {}, owner=owner)

    replication.close(1.0)
    assert kinds(replication.messages_to_send()) == [Goodbye]

    tracker.untrack_owner(owner)
    replication.receive(Hello(OTHER, 0), 1.0)
    replication.link_down("", 1.0)
    replication.link_up("b", 1.0)
    replication.detached(1.0)
    replication.attached(1.0)
    replication.close(1.0)
    replication.handle_timer(5.0)
    assert replication.messages_to_send() == []
    assert replication.next_timer() is None


# 3. Repair.


def test_a_heartbeat_says_no_more_than_the_changes_before_it():
    """What was tracked since the last broadcast goes out before the heartbeat that counts it."""
    tracker, replication = protocol(options=ReplicationOptions(broadcast_period=HEARTBEAT))
    tracker.track(ROOM, "alice", {}, owner=1)
    sent = pass_time(replication, 0, 0.01)
    tracker.track(ROOM, "bob", {}, owner=2)

    sent += pass_time(replication, 0.01, 10 * HEARTBEAT)

    broadcast = 0
    for envelope in sent:
        match envelope.message:
            case Changes(_, part):
                broadcast = part.end
            case Heartbeat(_, seq):
                assert seq == broadcast
    assert broadcast == 2


def test_a_gap_that_closes_by_itself_is_not_asked_for():
    """Changes that overtake each other are held until those before them arrive."""
    sim = Simulation(nodes="ab")
    sim.run_until_quiet()
    first = sim.hold(Changes, target="b")
    sim.a.track(ROOM, "alice")
    sim.advance(0.06)
    first.stop()
    sim.a.track(ROOM, "bob")
    sim.advance(0.06)
    assert sim.b.keys(ROOM) == []

    first.deliver()
    assert sim.b.keys(ROOM) == ["alice", "bob"]

    sim.advance(1)
    assert sim.sent["Request"] == 0


def test_a_gap_that_lasts_is_asked_for():
    """A lost change is repaired after the delay, when the next one shows that it is missing."""
    sim = Simulation(nodes="ab")
    sim.run_until_quiet()
    lost = sim.hold(Changes, target="b")
    sim.a.track(ROOM, "alice")
    sim.advance(0.06)
    lost.stop()
    sim.a.track(ROOM, "bob")

    sim.advance(OPTIONS.repair_delay + 0.1)

    assert sim.sent["Request"] == 1
    assert sim.b.keys(ROOM) == ["alice", "bob"]


def test_what_is_held_beyond_a_gap_is_bounded():
    """Of a thousand changes beyond a gap a hundred are held; the repair brings the rest."""
    _, replication = protocol()
    answers(replication, Hello(OTHER, 0))
    theirs = Slice(OTHER)
    theirs.add(ROOM, "alice", b'{"phx_ref":"x"}', owner=0)
    for n in range(1_000):
        start = theirs.seq
        entry = theirs.add(ROOM, f"{n}", b"{}", owner=n)
        part = Part.of(Range(start, theirs.seq, (entry,), ()), (0, 0))
        answers(replication, Changes(OTHER, part, part.end))

    (peer,) = replication.peers
    assert len(peer.ahead) == 100


def test_quiet_nodes_send_heartbeats_only():
    """Nodes that hold the same exchange neither digests nor requests."""
    sim = Simulation(nodes="abcdef")
    for node in sim.nodes.values():
        node.track(ROOM, "alice")
    sim.run_until_quiet()
    sim.advance(A_WHILE)
    sim.sent.clear()

    sim.advance(A_WHILE)

    assert set(sim.sent) == {"Heartbeat"}


def test_nodes_fall_quiet_while_a_dead_one_is_remembered():
    """A newcomer that never knew a dead node does not talk about it for 20 minutes."""
    sim = Simulation()
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    sim.crash("a")
    sim.advance(DOWN + A_WHILE)
    sim.start("d")
    sim.advance(A_WHILE)
    sim.sent.clear()

    sim.advance(A_WHILE)

    assert set(sim.sent) == {"Heartbeat"}


def test_a_full_digest_goes_to_one_peer_at_a_tick():
    """A heartbeat does not grow with the cluster; only one peer gets the digest."""
    _, replication = protocol()
    peers = [OriginId(f"c{n}", 1, n) for n in range(100)]
    answers(replication, *(Hello(peer, 0) for peer in peers))
    answers(replication, *(Heartbeat(peer, 0, 0) for peer in peers))

    sent = [e for e in pass_time(replication, 0, HEARTBEAT / 2) if not isinstance(e.message, Probe)]

    assert kinds(sent) == [Heartbeat, Digest]
    assert sent[0].to is None
    assert len(encode_message(sent[0].message)) < 50


def test_a_hello_is_answered_with_the_digest():
    """A newcomer need not wait for a heartbeat to hear what there is."""
    sim = Simulation(nodes="ab")
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()

    sim.start("c")
    sim.advance(OPTIONS.repair_delay + 0.1)

    assert sim.c.keys(ROOM) == ["alice"]


def test_another_node_is_asked_when_the_origin_does_not_answer():
    """What the origin cannot send in time comes from somebody who holds it."""
    sim = Simulation()
    sim.run_until_quiet()
    sim.hold(Request, target="a")
    lost = sim.hold(Changes, target="c")
    sim.a.track(ROOM, "alice")
    sim.advance(0.1)
    lost.stop()

    sim.advance(3 * HEARTBEAT)

    assert sim.c.keys(ROOM) == ["alice"]


def test_nobody_is_asked_who_is_not_heard():
    """Of ten that held what is missing one still lives, and no time is lost on the others."""
    _, replication = protocol()
    holders = [OriginId(f"c{n}", 1, n) for n in range(10)]
    answers(replication, Hello(OTHER, 0), *(Digest(each, ((OTHER, 5),)) for each in holders))
    lives = holders[7]
    asked = []
    for n in range(8):
        now = n * HEARTBEAT
        answers(replication, Digest(lives, ((OTHER, 5),)), now=now)
        sent = pass_time(replication, now, now + HEARTBEAT)
        asked += [(now, each.to) for each in sent if isinstance(each.message, Request)]

    assert {to for now, to in asked if now > 4 * HEARTBEAT} == {lives.name}


def test_one_transfer_of_an_origin_is_in_flight():
    """However often a gap is announced, there is one request until its time is over."""
    _, replication = protocol()
    answers(replication, Hello(OTHER, 0))
    asked = []
    for n in range(8):
        now = 0.1 * n
        asked += [*answers(replication, Heartbeat(OTHER, 5 + n, 0), now=now)]
        asked += pass_time(replication, now, now + 0.1)

    assert kinds(asked).count(Request) == 1


def test_requests_are_repeated_with_growing_pauses():
    """A node that does not answer is asked less and less often."""
    _, replication = protocol()
    answers(replication, Hello(OTHER, 0))
    asked_at = []
    for n in range(400):
        now = n / 10
        sent = answers(replication, Heartbeat(OTHER, 5, 0), now=now)
        replication.handle_timer(now)
        sent += replication.messages_to_send()
        asked_at += [now for kind in kinds(sent) if kind is Request]

    pauses = [after - before for before, after in pairwise(asked_at)]
    assert pauses[0] < pauses[1] < pauses[2]
    assert max(pauses) <= OPTIONS.max_request_timeout * 1.25 + 0.1


def test_changes_between_chunks_are_applied():
    """Changes that come while a slice is on its way are not lost, nor asked for."""
    sim = Simulation(nodes="a")
    for n in range(2 * MAX_PART_COUNT):
        sim.a.track(ROOM, f"{n}")
    sim.advance(1)
    transfer = sim.hold(ChunkTransfer, target="b")
    sim.start("b")
    sim.advance(0.5)
    sim.a.track(ROOM, "alice")
    sim.advance(0.1)
    assert sim.b.keys(ROOM) == []

    transfer.release()

    assert len(transfer.messages) > 2
    assert sim.b.tracker.has_key(ROOM, "alice")
    assert sim.disagreement() is None
    assert sim.sent["Request"] == 1


def test_a_transfer_that_ends_behind_is_followed_by_the_next():
    """An answer that does not bring all is no reason to wait for its time to be over."""
    sim = Simulation()
    sim.run_until_quiet()
    lost = sim.hold(Changes, target="c")
    answer = sim.hold(Transfer, target="c")
    sim.a.track(ROOM, "alice")
    sim.advance(0.1)
    sim.deliver("c", Heartbeat(sim.a.tracker.origin, 1, 0))
    sim.advance(OPTIONS.repair_delay + 0.1)
    sim.a.track(ROOM, "bob")
    sim.advance(0.1)
    sim.deliver("c", Heartbeat(sim.a.tracker.origin, 2, 0))
    lost.stop()

    answer.release()
    assert len(answer.messages) == 1
    assert sim.c.keys(ROOM) == ["alice"]

    sim.advance(OPTIONS.repair_delay + 0.1)
    assert sim.c.keys(ROOM) == ["alice", "bob"]


def test_an_old_transfer_changes_nothing():
    """A snapshot that is complete after newer changes came is ignored."""
    sim = Simulation()
    alice = sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    old = relayed(sim, "a", "b")
    sim.a.end(alice)
    sim.a.track(ROOM, "bob")
    sim.run_until_quiet()

    sim.deliver("c", old)

    assert sim.c.keys(ROOM) == ["bob"]


def test_an_empty_slice_is_one_chunk():
    """That there is nothing is something to say."""
    chunk = Cutter({}).cut(0, None, end=3, known=(0, 0), max_size=1, max_count=1)

    assert chunk == Chunk(0, None, 3, ())


def test_the_next_life_of_a_name_takes_the_place_of_the_last():
    """A node crashes and starts again; who was on it leaves before its new ones join."""
    sim = Simulation()
    sim.a.track(ROOM, "alice", {"life": 1})
    sim.run_until_quiet()
    sim.crash("a")
    sim.start("a").track(ROOM, "alice", {"life": 2})
    sim.run_until_quiet()

    kinds_told = [type(event) for event in sim.b.events]
    assert kinds_told == [Joined, Left, Joined]
    assert known(sim.b) == {"a", "c"}


# 4. Who is up.


def test_a_process_that_slept_judges_nobody():
    """A node is stopped for an hour; it handles what waits, and hides nobody."""
    sim = Simulation()
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    sim.pause("b")
    sim.advance(3600)

    sim.resume("b")
    sim.advance(A_WHILE)

    assert told(sim.b, Left, "alice") == 0


def test_a_process_that_slept_and_has_nothing_to_read_judges_nobody():
    """What came while it slept is lost, and still nobody is blamed for its sleep."""
    sim = Simulation()
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    sim.pause("b")
    sim.advance(3600)
    sim.b.inbox.clear()

    sim.resume("b")
    sim.advance(A_WHILE)

    assert told(sim.b, Left, "alice") == 0


def test_what_was_asked_before_a_sleep_is_asked_again():
    """The answer came while the process slept, and was lost: it is asked for once more."""
    sim = Simulation(nodes="ab")
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    sim.cut("a", "b")
    sim.advance(4.5 * HEARTBEAT)
    assert sim.sent["Probe"] > 0
    sim.pause("b")
    sim.heal()
    sim.advance(3600)
    sim.drop_inbox("b")

    sim.resume("b")
    sim.advance(A_WHILE)

    assert told(sim.b, Left, "alice") == 0


def test_silence_before_a_sleep_is_not_judged_on_waking():
    """A peer was silent for nearly the down period, in which no probe was answered, and lives."""
    options = ReplicationOptions(probe_grace=10.0)
    sim = Simulation(nodes="ab", options=options)
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    held = sim.hold(Heartbeat, Probe, Alive, source="a")
    sim.detach("b")
    sim.network.mend()
    sim.advance(DOWN - HEARTBEAT)
    sim.attach("b")
    sim.pause("b")
    held.stop()
    sim.advance(3600)
    sim.drop_inbox("b")

    sim.resume("b")
    sim.advance(A_WHILE)

    assert told(sim.b, Left, "alice") == 0


def test_who_died_during_a_sleep_is_hidden_after_a_grace():
    """To listen first does not take longer than a probe may take."""
    sim = Simulation(nodes="ab")
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    sim.pause("b")
    sim.crash("a")
    sim.advance(3600)
    sim.drop_inbox("b")

    sim.resume("b")
    sim.advance(3 * HEARTBEAT + OPTIONS.probe_grace)

    assert sim.b.keys(ROOM) == []


def test_a_silent_peer_is_asked_before_it_is_hidden():
    """A peer whose heartbeats are lost, but which answers, stays."""
    sim = Simulation(nodes="ab")
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    sim.hold(Heartbeat, source="a")

    sim.advance(2 * DOWN)

    assert told(sim.b, Left, "alice") == 0


def test_a_peer_that_does_not_answer_is_hidden():
    """Three missed heartbeats and the grace of a probe are enough to be down."""
    sim = Simulation()
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    sim.crash("a")

    sim.advance(3 * HEARTBEAT)
    assert sim.b.keys(ROOM) == ["alice"]

    sim.advance(2 * HEARTBEAT + OPTIONS.probe_grace)
    assert sim.b.keys(ROOM) == []


def test_a_peer_that_is_silent_for_the_down_period_is_hidden_in_any_case():
    """No grace of a probe is longer than the down period."""
    sim = Simulation(options=ReplicationOptions(probe_grace=1_000.0))
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    sim.crash("a")

    sim.advance(DOWN + 2 * HEARTBEAT)

    assert sim.b.keys(ROOM) == []


def test_a_link_that_dies_with_its_node_tells_within_three_seconds():
    """Where the adapter sees the link die, who was on a dead node is gone within 3 s."""
    sim = Simulation(faults=Faults(hints=0.1))
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    sim.crash("a")

    sim.advance(3)

    assert sim.b.keys(ROOM) == sim.c.keys(ROOM) == []


def test_a_sign_of_life_cancels_a_hint():
    """A link dies and its node lives: it answers, and nobody sees it leave."""
    sim = Simulation()
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()

    sim.hint("b", sim.a.tracker.origin)
    sim.advance(A_WHILE)

    assert told(sim.b, Left, "alice") == 0


def test_a_hint_about_an_earlier_life_says_nothing_of_the_next():
    """The link of a crashed node is found dead after the node came back."""
    sim = Simulation()
    before = sim.a.tracker.origin
    sim.crash("a")
    sim.start("a").track(ROOM, "alice")
    sim.run_until_quiet()
    sim.hold(Probe, Alive, Heartbeat)

    sim.hint("b", before)
    sim.advance(OPTIONS.probe_grace + 0.5)

    assert sim.b.keys(ROOM) == ["alice"]


def test_hints_that_repeat_do_not_put_off_the_end():
    """An adapter that tries a dead link every second does not keep its node up."""
    sim = Simulation()
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    origin = sim.a.tracker.origin
    sim.crash("a")

    for _ in range(3):
        sim.hint("b", origin)
        sim.advance(1)

    assert sim.b.keys(ROOM) == []


def test_hints_that_repeat_are_one_link():
    """Three hints of one link are not three links."""
    sim = Simulation(nodes="abcd")
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    origin = sim.a.tracker.origin
    sim.crash("a")

    for _ in range(3):
        sim.hint("b", origin)
    sim.advance(OPTIONS.probe_grace + 0.1)

    assert sim.b.keys(ROOM) == []


def test_most_links_gone_at_once_is_no_hint():
    """A node that loses three of four links at once blames itself, and not the others."""
    sim = Simulation(nodes="abcde")
    for name in "bcde":
        sim.nodes[name].track(ROOM, name)
    sim.run_until_quiet()
    sim.partition("a", "bcde")

    for name in "bcd":
        sim.hint("a", sim.nodes[name].tracker.origin)
    sim.advance(OPTIONS.probe_grace + 0.5)
    sim.heal()
    sim.advance(A_WHILE)

    assert not [event for event in sim.a.events if isinstance(event, Left)]


@pytest.mark.parametrize("seconds", [1.0, 10.0, 25.0])
def test_a_restart_of_the_engine_hides_nobody(seconds: float):
    """Redis restarts: every node sees every link die, and no client sees anybody leave."""
    sim = Simulation(nodes="ab")
    sim.a.track(ROOM, "alice")
    sim.b.track(ROOM, "bob")
    sim.run_until_quiet()

    sim.restart_engine(seconds)
    sim.advance(A_WHILE)

    assert not [event for event in (*sim.a.events, *sim.b.events) if isinstance(event, Left)]


def test_hints_are_ignored_while_detached():
    """Links that die because our own attachment is gone say nothing about others."""
    sim = Simulation(nodes="ab")
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    sim.detach("b")

    sim.hint("b", sim.a.tracker.origin)
    sim.advance(OPTIONS.probe_grace + 1)

    assert sim.b.keys(ROOM) == ["alice"]


def test_an_attachment_that_is_back_is_announced():
    """What changed meanwhile is there at once, on both sides."""
    sim = Simulation(nodes="ab")
    sim.run_until_quiet()
    sim.detach("b")
    sim.advance(1)
    sim.a.track(ROOM, "alice")
    sim.b.track(ROOM, "bob")
    sim.advance(1)

    sim.attach("b")
    sim.advance(OPTIONS.repair_delay + 0.1)

    assert sim.disagreement() is None


def test_who_left_meanwhile_does_not_join():
    """A node comes back after alice left it; nobody is told that she joins again."""
    sim = Simulation()
    alice = sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    sim.partition("a", "bc")
    sim.advance(DOWN + A_WHILE)
    sim.a.end(alice)
    sim.a.track(ROOM, "bob")
    sim.advance(1)

    sim.heal()
    sim.run_until_quiet()

    assert sim.b.keys(ROOM) == ["bob"]
    assert told(sim.b, Joined, "alice") == told(sim.b, Left, "alice") == 1


def test_a_node_that_comes_up_is_shown_after_one_heartbeat_at_the_latest():
    """What is missing cannot be had; what is held is shown all the same."""
    sim = Simulation(nodes="ab")
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    sim.partition("a", "b")
    sim.advance(DOWN + A_WHILE)
    sim.a.track(ROOM, "bob")
    sim.advance(1)
    sim.hold(Transfer)

    sim.heal()
    sim.advance(2 * HEARTBEAT + 0.6)

    assert sim.b.keys(ROOM) == ["alice"]


def test_dropping_what_is_hidden_tells_nobody_anything():
    """Permdown comes long after the leaves, and is no event."""
    sim = Simulation()
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    sim.crash("a")
    sim.advance(DOWN + A_WHILE)
    version = sim.b.tracker.version

    sim.advance(PERMDOWN + A_WHILE)

    assert known(sim.b) == {"c"}
    assert sim.b.tracker.version == version


# 5. Versions.


def test_the_heartbeat_is_frozen():
    """Nodes of all versions read these fields, in this order, and write them."""
    sender = OriginId("a", 1, 2)

    fields = msgspec.msgpack.decode(encode_message(Heartbeat(sender, 3, 4, (1, 1), "way")))

    assert fields == [0, ["a", 1, 2], 3, 4, [1, 1], "way"]


def test_a_later_version_may_add_fields():
    """A heartbeat with a field that this version does not know is read without it."""
    sender = OriginId("a", 1, 2)
    data = msgspec.msgpack.encode([0, sender, 3, 4, [1, 9], "way", {"new": "field"}])

    assert decode_message(data) == Heartbeat(sender, 3, 4, (1, 9), "way")


def test_a_later_version_may_add_kinds():
    """A message of an unknown kind is skipped, and counted."""
    _, replication = protocol()

    replication.receive_data(msgspec.msgpack.encode([99, ["a", 1, 2]]), 0.0)

    assert replication.counters == {"unknown_kind": 1}
    assert kinds(replication.messages_to_send()) == []


# 7. Promises.


@pytest.mark.parametrize("seed", range(5))
def test_a_lost_change_is_repaired_within_a_heartbeat(seed: int):
    """Once messages arrive again, all is held everywhere within a heartbeat and the delay."""
    sim = Simulation(seed=seed, nodes="abcde")
    sim.run_until_quiet()
    sim.advance(sim.rng.random() * HEARTBEAT)
    sim.faults.loss = 1.0
    for node in sim.nodes.values():
        node.track(ROOM, node.name)
    sim.advance(1)
    sim.faults.loss = 0.0

    took = sim.run_until_quiet()

    assert took <= HEARTBEAT + OPTIONS.repair_delay + 0.25


def test_traffic_goes_quiet_when_the_dead_have_the_last_word():
    """What only a dead node had is not asked for again and again."""
    sim = Simulation()
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    sim.hold(Changes, source="a")
    sim.a.track(ROOM, "bob")
    sim.advance(0.1)
    for name in "bc":
        sim.deliver(name, Heartbeat(sim.a.tracker.origin, 2, 0))
    sim.crash("a")
    sim.advance(DOWN + A_WHILE)
    sim.sent.clear()

    sim.advance(DOWN)

    assert set(sim.sent) == {"Heartbeat"}
