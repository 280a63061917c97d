"""Rules of replication that planted bugs got past, each with the bug that it was written for.

The names of the bugs are those of ``tests/mutations/mutants.toml``.
"""

from __future__ import annotations

import pytest

from roost.crdt.entry import Entry
from roost.crdt.held import join_ranges
from roost.crdt.incarnation import OriginId
from roost.crdt.slice import Range, Slice
from roost.testing.simulation import Simulation
from roost.tracker.messages import (
    MAX_PART_COUNT,
    MAX_PART_SIZE,
    VERSIONS,
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
    Transfer,
)
from roost.tracker.protocol import Joined, Left
from tests.simulation.test_rules import (
    A_WHILE,
    DOWN,
    HEARTBEAT,
    OPTIONS,
    OTHER,
    OWN,
    PERMDOWN,
    ROOM,
    answers,
    kinds,
    known,
    pass_time,
    protocol,
)

C = OriginId("c", 1, 3)


def test_a_probe_of_another_life_has_no_answer():
    """probe_of_another_life_is_answered: only who is asked for says that it lives."""
    _, replication = protocol()
    before = OriginId(OWN.name, OWN.incarnation - 1, 9)

    sent = answers(replication, Probe(OTHER, before, 1))

    assert Alive not in kinds(sent)


def test_a_relayed_probe_is_no_sign_of_life():
    """relayed_probe_is_life: a question that comes through others may be older than its sender."""
    _, replication = protocol()
    answers(replication, Hello(OTHER, 0))
    pass_time(replication, 0.0, DOWN + A_WHILE)

    sent = answers(replication, Probe(OTHER, OWN, 1, "c"), now=DOWN + A_WHILE)

    assert kinds(sent) == [Alive]
    assert [peer.is_up for peer in replication.peers] == [False]


def test_an_answer_to_another_question_is_no_sign_of_life():
    """any_answer_is_life: what does not carry our nonce may be older than its sender."""
    _, replication = protocol()
    answers(replication, Hello(OTHER, 0))
    pass_time(replication, 0.0, DOWN + A_WHILE)

    answers(replication, Alive(OTHER, OWN.name, 12345, 0), now=DOWN + A_WHILE)

    assert [peer.is_up for peer in replication.peers] == [False]


def test_no_life_of_our_own_name_is_asked_for():
    """own_id_may_be_met: a digest that names an earlier life of ours leads to nothing."""
    _, replication = protocol()
    answers(replication, Hello(C, 0))

    assert answers(replication, Digest(C, ((OriginId(OWN.name, 1, 9), 5),))) == []


def test_a_digest_that_names_a_closed_id_leads_to_nothing():
    """closed_id_may_be_met: who has not heard of a goodbye does not bring its origin back."""
    _, replication = protocol()
    answers(replication, Hello(C, 0), Hello(OTHER, 0), Goodbye(OTHER))

    assert answers(replication, Digest(C, ((OTHER, 5),))) == []


def test_a_late_goodbye_does_not_lower_the_floor():
    """goodbye_lowers_the_floor: after the goodbye of an earlier life the last one stays closed."""
    _, replication = protocol()
    earlier = OriginId(OTHER.name, OTHER.incarnation - 1, 9)
    answers(replication, Hello(OTHER, 0), Goodbye(OTHER), Goodbye(earlier))

    answers(replication, Heartbeat(OTHER, 0, 0))

    assert replication.peers == []


def test_a_repeated_goodbye_does_not_prolong_the_floor():
    """repeated_goodbye_prolongs: a name is remembered from its first goodbye on."""
    _, replication = protocol()
    answers(replication, Hello(OTHER, 0), Goodbye(OTHER))
    pass_time(replication, 0.0, PERMDOWN - 10)
    answers(replication, Goodbye(OTHER), now=PERMDOWN - 10)
    pass_time(replication, PERMDOWN - 10, PERMDOWN + A_WHILE)

    sent = answers(replication, Hello(C, 0), now=PERMDOWN + A_WHILE)

    digests = [each.message for each in sent if isinstance(each.message, Digest)]
    assert [digest.closed for digest in digests] == [()]


def test_a_lower_id_of_a_node_that_is_down_is_told_the_highest():
    """lower_id_of_the_down_is_ignored: whatever became of the highest life, the next is above."""
    _, replication = protocol()
    answers(replication, Hello(OTHER, 0))
    pass_time(replication, 0.0, DOWN + A_WHILE)
    assert [peer.is_up for peer in replication.peers] == [False]
    lower = OriginId(OTHER.name, OTHER.incarnation - 1, 9)

    sent = answers(replication, Heartbeat(lower, 0, 0), now=DOWN + A_WHILE)

    assert [each.message for each in sent] == [Superseded(OWN, OTHER)]


def test_two_refutations_far_apart_rename_nobody():
    """renamed_for_good: a node whose clock was set back twice in its life keeps its name."""
    tracker, replication = protocol()
    for start in (0.0, DOWN + A_WHILE):
        answers(replication, Digest(C, ((tracker.origin, 100),)), now=start)
        pass_time(replication, start, start + DOWN + A_WHILE)

    assert tracker.origin.name == OWN.name
    assert replication.counters["renewed"] == 2
    assert replication.counters["renamed"] == 0


def test_a_renamed_node_is_counted():
    """rename_goes_uncounted, two_nodes_keep_one_name: the second refutation changes the name."""
    tracker, replication = protocol()
    for _ in range(2):
        answers(replication, Hello(C, 0), Digest(C, ((tracker.origin, 100),)))

    assert tracker.origin.name.startswith(f"{OWN.name}~")
    assert replication.counters["renamed"] == 1


def test_links_that_die_one_after_the_other_are_believed():
    """hints_add_up_for_ever: only those within one grace are counted together."""
    sim = Simulation(nodes="abcdefg")
    sim.run_until_quiet()
    sim.a.track(ROOM, "alice")
    sim.advance(1)
    for name in "gfedcba"[:3]:
        sim.hint("b", sim.nodes[name].tracker.origin)
        sim.advance(OPTIONS.probe_grace + 1)
    origin = sim.a.tracker.origin
    sim.crash("a")

    sim.hint("b", origin)
    sim.advance(OPTIONS.probe_grace + 0.1)

    assert sim.b.keys(ROOM) == []


@pytest.mark.parametrize("nodes", ["abc", "abcde"])
def test_one_link_that_dies_is_believed(nodes):
    """few_links_gone_is_doubted, any_links_gone_is_doubted: one link is not most of them."""
    sim = Simulation(nodes=nodes)
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    origin = sim.a.tracker.origin
    sim.crash("a")

    sim.hint("b", origin)
    sim.advance(OPTIONS.probe_grace + 0.1)

    assert sim.b.keys(ROOM) == []


def test_of_two_peers_both_links_are_believed():
    """few_links_gone_is_doubted: two of two peers are too few to blame ourselves."""
    sim = Simulation(nodes="abc")
    sim.a.track(ROOM, "alice")
    sim.c.track(ROOM, "bob")
    sim.run_until_quiet()
    origins = [sim.a.tracker.origin, sim.c.tracker.origin]
    sim.crash("a")
    sim.crash("c")

    for origin in origins:
        sim.hint("b", origin)
    sim.advance(OPTIONS.probe_grace + 0.1)

    assert sim.b.keys(ROOM) == []


def test_hints_count_again_once_attached():
    """detached_for_ever: after the attachment is back a dead link tells within 3 s."""
    sim = Simulation(nodes="abc")
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    sim.detach("b")
    sim.advance(1)
    sim.attach("b")
    sim.advance(A_WHILE)
    origin = sim.a.tracker.origin
    sim.crash("a")

    sim.hint("b", origin)
    sim.advance(OPTIONS.probe_grace + 0.1)

    assert sim.b.keys(ROOM) == []


def test_who_comes_back_unchanged_is_shown_at_once():
    """current_and_not_shown: nothing is missing, so there is nothing to wait for."""
    sim = Simulation(nodes="ab")
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()
    origin, seq = sim.a.tracker.origin, sim.a.tracker.own.seq
    sim.partition("a", "b")
    sim.advance(DOWN + A_WHILE)
    assert sim.b.keys(ROOM) == []

    sim.deliver("b", Heartbeat(origin, seq, 0))

    assert sim.b.keys(ROOM) == ["alice"]


def test_the_versions_of_a_peer_are_known():
    """versions_are_not_noted, heartbeat_hides_versions: what a heartbeat announces is kept."""
    _, replication = protocol()
    answers(replication, Heartbeat(OTHER, 0, 0, (3, 5)))

    assert [peer.versions for peer in replication.peers] == [(3, 5)]


def test_a_node_that_is_gone_for_good_is_forgotten():
    """permdown_never_comes: after permdown_period nothing of it is held."""
    sim = Simulation()
    sim.advance(1)
    assert known(sim.b) == {"a", "c"}
    sim.crash("a")

    sim.advance(PERMDOWN + A_WHILE)

    assert known(sim.b) == {"c"}


def test_a_floor_ends():
    """floors_for_ever: two permdown_periods after its goodbye an id may be heard again."""
    _, replication = protocol()
    answers(replication, Goodbye(OTHER))
    pass_time(replication, 0.0, 2 * PERMDOWN + A_WHILE)

    answers(replication, Heartbeat(OTHER, 0, 0), now=2 * PERMDOWN + A_WHILE)

    assert [peer.name for peer in replication.peers] == [OTHER.name]


def filled(count: int, key: str = "alice", meta: bytes = b"{}") -> Slice:
    """A slice of so many entries."""
    theirs = Slice(OTHER)
    for owner in range(count):
        theirs.add(ROOM, key, meta, owner=owner)
    return theirs


def ends(theirs: Slice, max_size: int = MAX_PART_SIZE) -> list[int]:
    """Where the ranges end that its changes are cut into."""
    found = [0]
    while found[-1] < theirs.seq:
        cut = theirs.cut(found[-1], max_size=max_size, max_count=MAX_PART_COUNT)
        assert cut is not None
        found.append(cut.end)
    return found[1:]


def test_parts_are_bounded_in_bytes():
    """parts_of_any_size: large metas make more parts."""
    assert ends(filled(4, meta=bytes(MAX_PART_SIZE // 2 - 200))) == [2, 4]


def test_topics_and_keys_count_in_the_size_of_a_part():
    """parts_of_any_text: long texts make more parts, as large metas do, by their bytes."""
    assert ends(filled(4, key="x" * (MAX_PART_SIZE // 2 - 200))) == [2, 4]
    assert ends(filled(4, key="\u00e9" * (MAX_PART_SIZE // 4 - 100))) == [2, 4]


def test_parts_are_bounded_in_entries():
    """parts_without_bound: many changes make more parts."""
    assert ends(filled(2 * MAX_PART_COUNT + 1), 1 << 30) == [
        MAX_PART_COUNT,
        2 * MAX_PART_COUNT,
        2 * MAX_PART_COUNT + 1,
    ]


def test_one_missed_heartbeat_is_no_reason_to_ask():
    """suspicion_is_hasty: a lost heartbeat is nothing special."""
    sim = Simulation(nodes="ab")
    sim.run_until_quiet()
    before = sim.sent["Probe"]
    sim.cut("a", "b")
    sim.advance(2.5 * HEARTBEAT)
    sim.heal()
    sim.advance(HEARTBEAT)

    assert sim.sent["Probe"] == before


def test_hints_before_the_last_are_ignored_as_well():
    """first_hints_stay: when most links are gone, the first of them says no more than the last."""
    sim = Simulation(nodes="abcde")
    for name in "bcde":
        sim.nodes[name].track(ROOM, name)
    sim.run_until_quiet()
    sim.partition("a", "bcde")

    for name in "bcd":
        sim.hint("a", sim.nodes[name].tracker.origin)
    sim.advance(OPTIONS.probe_grace + 0.1)

    assert not [event for event in sim.a.events if isinstance(event, Left)]


def test_a_closed_id_is_asked_nothing():
    """closed_id_is_asked: what comes after a goodbye is late, and no reason to ask."""
    _, replication = protocol()
    answers(replication, Hello(OTHER, 0), Goodbye(OTHER))

    assert Probe not in kinds(answers(replication, Heartbeat(OTHER, 0, 0)))


def test_no_heartbeat_runs_ahead_of_the_changes():
    """heartbeat_announces_too_much: what it announces was broadcast before it."""
    tracker, replication = protocol()
    sent = 0
    for n in range(200):
        now = n / 50
        tracker.track(ROOM, f"{n}", {}, owner=n)
        replication.handle_timer(now)
        for envelope in replication.messages_to_send():
            if isinstance(envelope.message, Changes):
                sent = envelope.message.part.end
            elif isinstance(envelope.message, Heartbeat):
                assert envelope.message.seq <= sent


def test_no_answer_runs_ahead_of_the_changes():
    """answer_runs_ahead: what one node is sent was broadcast to all before."""
    tracker, replication = protocol()
    tracker.track(ROOM, "alice", {}, owner=1)

    sent = answers(replication, Hello(C, 0), Request(C, OWN, 0, 1))

    assert [kind for kind in kinds(sent) if kind in (Changes, Transfer)] == [Changes, Transfer]


def test_the_origin_is_asked_first():
    """origin_is_spared: nobody else has to hold what the origin can send itself."""
    _, replication = protocol()
    answers(replication, Hello(OTHER, 0), Hello(C, 0), Digest(C, ((OTHER, 5), (C, 0))))

    sent = pass_time(replication, 0.0, OPTIONS.repair_delay + 0.1)

    assert [each.to for each in sent if isinstance(each.message, Request)] == [OTHER.name]


def test_a_copy_at_our_own_number_is_no_clone():
    """own_seq_refutes: others hold what we have broadcast, as they should."""
    tracker, replication = protocol()
    tracker.track(ROOM, "alice", {}, owner=1)
    replication.handle_timer(1.0)

    answers(replication, Hello(C, 0), Digest(C, ((OWN, 1),)), now=1.0)

    assert tracker.origin == OWN


def test_an_answer_to_a_probe_announces_what_was_broadcast():
    """hello_announces_too_much: nobody asks for changes that are about to be broadcast."""
    tracker, replication = protocol()
    tracker.track(ROOM, "alice", {}, owner=1)

    (alive,) = (
        each.message
        for each in answers(replication, Probe(OTHER, OWN, 1))
        if isinstance(each.message, Alive)
    )

    assert alive.seq == 0


def test_a_heartbeat_announces_the_versions_that_are_read():
    """heartbeat_hides_versions: others learn from it what they may write."""
    _, replication = protocol()

    sent = pass_time(replication, 0.0, 2 * HEARTBEAT)

    versions = {each.message.versions for each in sent if isinstance(each.message, Heartbeat)}
    assert versions == {VERSIONS}


def their_changes(count: int) -> list[Changes]:
    """So many changes of ``OTHER``, each by itself."""
    theirs, changes = Slice(OTHER), []
    for n in range(count):
        theirs.add(ROOM, f"{n}", b"{}", owner=n)
        change = theirs.range_from(n)
        assert change is not None
        changes.append(Changes(OTHER, Part.of(change, (0, 0)), theirs.seq))
    return changes


def test_changes_beyond_a_gap_may_come_in_any_order():
    """held_in_any_order: the last before the one before it, and then the first."""
    tracker, replication = protocol()
    first, second, third = their_changes(3)

    answers(replication, Hello(OTHER, 0), third, second, first)

    assert sorted(tracker.keys(ROOM)) == ["0", "1", "2"]


def test_who_is_repaired_is_shown_at_once():
    """repaired_and_not_shown: a node that came back is shown as soon as nothing is missing."""
    tracker, replication = protocol()
    now = DOWN + A_WHILE
    answers(replication, Hello(OTHER, 0))
    pass_time(replication, 0.0, now)
    answers(replication, Heartbeat(OTHER, 1, 0), now=now)
    assert list(tracker.keys(ROOM)) == []

    answers(replication, *their_changes(1), now=now)

    assert list(tracker.keys(ROOM)) == ["0"]


def test_a_transfer_whose_parts_arrive_is_not_asked_for_again():
    """transfer_gets_no_time: what is large takes longer than a request."""
    _, replication = protocol()
    answers(replication, Hello(OTHER, 5))
    (request,) = (
        each.message
        for each in pass_time(replication, 0.0, 0.3)
        if isinstance(each.message, Request)
    )
    for step in range(20):  # longer than any request is waited for
        now = 0.3 + step * OPTIONS.repair_delay
        upto = None if step == 0 else 100 - step
        chunk = ChunkTransfer(OTHER, OTHER, request.number, False, 99 - step, upto, 100, 1, ())
        sent = answers(replication, chunk, now=now)
        sent += pass_time(replication, now, now + OPTIONS.repair_delay)
        assert Request not in kinds(sent)


def test_ranges_with_a_gap_between_them_do_not_join():
    """join_over_a_gap: what happened in between is in neither of them."""
    with pytest.raises(ValueError, match="do not chain"):
        join_ranges(Range(0, 1, (), ()), Range(2, 3, (), ()))


def test_presences_of_two_owners_are_no_update():
    """update_paired_without_owner: of two connections with one key one leaves, and one joins."""
    tracker, _ = protocol()
    old, new = (Entry(ROOM, "alice", b"{}", owner, "r", owner) for owner in (1, 2))
    tracker.change((), (old,))
    tracker.events()

    tracker.change((old,), (new,))

    assert [type(event) for event in tracker.events()] == [Left, Joined]
