"""The language of scenarios: what each line does, to nodes, to messages and to links."""

from __future__ import annotations

import string
from collections.abc import Iterator

import pytest
from msgspec.inspect import (
    BoolType,
    BytesType,
    FloatType,
    IntType,
    NoneType,
    StrType,
    StructType,
    TupleType,
    Type,
    UnionType,
    VarTupleType,
    type_info,
)

from roost.crdt.incarnation import OriginId
from roost.exceptions import NotTracked
from roost.testing import Faults, Oracle, Simulation
from roost.tracker.messages import Changes, Heartbeat, Superseded, TrackerMessage
from roost.tracker.options import ReplicationOptions
from roost.tracker.protocol import Joined, Left

OPTIONS = ReplicationOptions()
ROOM = "room:1"

FROZEN = (
    *(BoolType, BytesType, FloatType, IntType, NoneType, StrType),
    *(TupleType, UnionType, VarTupleType),
)


def arrivals(sim: Simulation, seconds: float) -> list[tuple[float, str, int]]:
    """What reaches b from a meanwhile: (when, kind, number)."""
    found: list[tuple[float, str, int]] = []

    def listen(node, message):
        if node.name == "b" and isinstance(message, Changes):
            found.append((sim.now, "Changes", message.part.end))

    sim.listeners.append(listen)
    for number in range(round(seconds * 10)):
        sim.a.track(ROOM, f"user-{number}")
        sim.advance(0.1)
    sim.listeners.remove(listen)
    return found


def parts_of(info: Type) -> Iterator[Type]:
    """A type, and those of all that it holds."""
    yield info
    match info:
        case StructType(fields=fields):
            for field in fields:
                yield from parts_of(field.type)
        case UnionType(types=types) | TupleType(item_types=types):
            for each in types:
                yield from parts_of(each)
        case VarTupleType(item_type=each):
            yield from parts_of(each)
        case _:
            pass


def is_frozen(info: Type) -> bool:
    if isinstance(info, StructType):
        return info.cls.__struct_config__.frozen
    return isinstance(info, FROZEN)


def calm_pair(faults: Faults | None = None) -> Simulation:
    sim = Simulation(nodes="ab", faults=faults)
    sim.run_until_quiet()
    return sim


def test_delays_are_within_their_bounds():
    """A message takes as long as it must, and no longer than it may."""
    sim = calm_pair()

    sim.delay(0.4, shortest=0.3)
    found = arrivals(sim, 10)

    assert found
    assert 0.35 < sim.network.longest_delay <= 0.55  # one may wait for the one before it


def test_lost_messages_do_not_arrive():
    """About as many are lost as were asked for."""
    sim = calm_pair()

    sim.lose(0.5)

    assert 30 < len(arrivals(sim, 10)) < 70


def test_doubled_messages_arrive_twice():
    """About as many are doubled as were asked for."""
    sim = calm_pair()

    sim.duplicate(0.5)

    assert 130 < len(arrivals(sim, 10)) < 170


@pytest.mark.parametrize("is_on", [False, True])
def test_messages_overtake_each_other_only_where_they_may(is_on: bool):
    """Messages of one link are in order, unless reordering is on."""
    sim = calm_pair(Faults(max_delay=2.0))

    sim.reorder(is_on)
    numbers = [number for _, _, number in arrivals(sim, 10)]

    assert (numbers != sorted(numbers)) is is_on


def test_a_partial_partition_leaves_a_third_node_both_sides():
    """Links are cut between groups only."""
    sim = Simulation(nodes="abc")
    sim.run_until_quiet()

    sim.partition("a", "b")
    sim.a.track(ROOM, "alice")
    sim.advance(0.1)

    assert sim.b.keys(ROOM) == []
    assert sim.c.keys(ROOM) == ["alice"]


def test_a_cut_has_one_direction():
    """What a says does not reach b; what b says reaches a."""
    sim = calm_pair()

    sim.cut("a", "b")
    sim.a.track(ROOM, "alice")
    sim.b.track(ROOM, "bob")
    sim.advance(1)

    assert sim.a.keys(ROOM) == ["alice", "bob"]
    assert sim.b.keys(ROOM) == ["bob"]


def test_a_slow_link_delays_what_it_carries():
    """Only messages of that link, in that direction, take longer."""
    sim = calm_pair()

    sim.slow("a", "b", 3.0)
    sim.a.track(ROOM, "alice")
    sim.b.track(ROOM, "bob")
    sim.advance(2.9)
    assert sim.b.keys(ROOM) == ["bob"]
    assert sim.a.keys(ROOM) == ["alice", "bob"]

    sim.advance(0.2)
    assert sim.b.keys(ROOM) == ["alice", "bob"]


@pytest.mark.parametrize("end", ["thaw", "heal", "calm"])
def test_a_frozen_link_delivers_what_is_old(end: str):
    """Messages wait on their way, in order, and outlive who sent them."""
    sim = calm_pair()
    sim.freeze("a", "b")
    sim.a.track(ROOM, "alice")
    sim.advance(1)
    sim.a.track(ROOM, "bob")
    sim.advance(1)
    sim.crash("a")
    assert sim.b.keys(ROOM) == []

    getattr(sim, end)()

    assert sim.b.keys(ROOM) == ["alice", "bob"]


def test_a_frozen_link_carries_the_other_way():
    """Who freezes one direction has not frozen the other."""
    sim = calm_pair()

    sim.freeze("a", "b")
    sim.b.track(ROOM, "bob")
    sim.advance(0.1)

    assert sim.a.keys(ROOM) == ["bob"]


def test_a_paused_node_wakes_with_old_messages():
    """It does nothing while it is paused, and handles all of them when it goes on."""
    sim = calm_pair()
    sim.pause("b")
    sim.a.track(ROOM, "alice")
    sim.advance(5)
    assert sim.b.keys(ROOM) == []
    assert any(isinstance(message, Heartbeat) for message in sim.b.inbox)

    sim.resume("b")

    assert sim.b.keys(ROOM) == ["alice"]
    assert sim.b.inbox == []
    assert sim.b.sleeps == [(sim.now - 5, sim.now)]


def test_a_node_that_is_awake_cannot_be_woken():
    """To go on twice is to go on."""
    sim = calm_pair()

    sim.resume("b")

    assert sim.b.sleeps == []


def test_a_node_may_wake_without_its_messages():
    """What waited for it is lost, and found missing later."""
    sim = calm_pair()
    sim.pause("b")
    sim.a.track(ROOM, "alice")
    sim.advance(1)

    sim.drop_inbox("b")
    sim.resume("b")
    assert sim.b.keys(ROOM) == []

    sim.run_until_quiet()
    assert sim.b.keys(ROOM) == ["alice"]


def test_sleepers_are_forgotten_and_come_back():
    """A member and a relay sleep for longer than the others remember them."""
    sim = Simulation(nodes="abcd")
    oracle = Oracle(sim)
    sim.a.track(ROOM, "alice")
    sim.b.track(ROOM, "bob")
    sim.run_until_quiet()

    sim.sleep(OPTIONS.permdown_period + 60, "a", "b")
    assert sim.c.keys(ROOM) == []
    assert {peer.name for peer in sim.c.replication.peers} <= {"a", "b", "d"}
    oracle.judge()

    assert sim.c.keys(ROOM) == sim.d.keys(ROOM) == ["alice", "bob"]


def test_a_restart_is_another_life_of_its_name():
    """The wall clock of the next life may be behind; the name stays."""
    sim = calm_pair()
    before = sim.b.tracker.origin

    sim.restart("b", clock_step=-3600)

    assert sim.b.tracker.origin.name == before.name
    assert sim.b.tracker.origin < before


def test_a_node_that_is_gone_can_be_restarted():
    """A restart of what does not run is a start."""
    sim = calm_pair()
    sim.crash("b")

    sim.restart("b")

    assert sim.b.is_live


def test_a_twin_has_the_name_and_not_the_id():
    """Two nodes of one name run in two places, until both find names of their own."""
    sim = calm_pair()
    oracle = Oracle(sim)

    sim.twin("a", "z")
    assert sim.z.tracker.origin.name == sim.a.tracker.origin.name == "a"
    assert sim.z.tracker.origin != sim.a.tracker.origin
    oracle.judge()

    assert sim.z.tracker.origin.name != sim.a.tracker.origin.name


def test_a_clone_has_the_id():
    """A copy knows all that its model knew, and is it."""
    sim = calm_pair()
    sim.b.track(ROOM, "bob")
    alice = sim.a.track(ROOM, "alice")
    sim.run_until_quiet()

    sim.clone("a", "z")

    assert sim.z.tracker.origin == sim.a.tracker.origin
    assert sim.z.keys(ROOM) == ["alice", "bob"]
    sim.z.end(alice)
    assert sim.a.keys(ROOM) == ["alice", "bob"]


def test_a_clone_of_a_renamed_node_is_reached_as_its_model_is():
    """Its adapter has the name that the model was given, and not the one that it took itself."""
    sim = Simulation(nodes="ab")
    sim.twin("b", "c")
    sim.run_until_quiet()
    (renamed,) = (name for name in "bc" if "~" in sim.nodes[name].tracker.origin.name)
    lost = sim.hold(Changes, target=renamed)
    sim.a.track(ROOM, "alice")
    sim.advance(1)
    lost.stop()

    sim.clone(renamed, "z")
    sim.crash(renamed)
    sim.run_until_quiet()

    assert sim.z.keys(ROOM) == ["alice"]


def test_a_clone_is_part_of_the_same_simulation():
    """Its chance is that of the simulation, and no copy of it."""
    sim = Simulation(nodes="a")
    sim.clone("a", "z")
    sim.crash("a")
    before = sim.rng.getstate()

    sim.deliver("z", Superseded(OriginId("b", 1, 1), OriginId("a", 2**60, 1)))

    assert sim.z.replication.origin.incarnation > 2**60
    assert sim.rng.getstate() != before


def test_messages_find_a_node_that_took_another_name():
    """Who was renamed is reached as before: what is missing there is asked for, and comes."""
    sim = calm_pair()
    oracle = Oracle(sim)
    sim.twin("a", "z")
    oracle.judge()
    sim.partition("a", "b", "z")
    sim.z.track(ROOM, "carol")
    sim.advance(60)

    sim.heal()
    oracle.judge()

    assert sim.a.keys(ROOM) == sim.b.keys(ROOM) == ["carol"]


def test_a_rolling_upgrade_mixes_versions():
    """Newer nodes write fields that older ones overlook, and all know what all can read."""
    sim = Simulation(nodes="abc")
    oracle = Oracle(sim)
    sim.c.track(ROOM, "carol")

    sim.roll("ab", versions=(2, 3))
    sim.a.track(ROOM, "alice")
    oracle.judge()
    assert sim.c.keys(ROOM) == ["alice", "carol"]
    assert [node.replication.version for node in sim.nodes.values()] == [2, 2, 2]

    sim.roll("c", versions=(2, 3))
    oracle.judge()
    assert [node.replication.version for node in sim.nodes.values()] == [3, 3, 3]


def test_a_later_version_writes_a_field_more():
    """What it says is longer, and says the same."""

    def size_of_heartbeats(versions: tuple[int, int]) -> int:
        sim = Simulation(nodes="b")
        sim.start("a", versions=versions)
        sim.run_until_quiet()
        sim.sent_size = 0
        sim.advance(10 * OPTIONS.heartbeat_period)
        assert len(sim.b.replication.peers) == 1
        return sim.sent_size

    assert size_of_heartbeats((2, 3)) > size_of_heartbeats((2, 2)) + 10


def test_nodes_that_share_no_version_know_of_each_other():
    """The oracle sees to it that both name the other one."""
    sim = Simulation(nodes="a")
    oracle = Oracle(sim)

    sim.start("b", versions=(3, 3))
    oracle.judge()

    assert [peer.name for peer in sim.a.replication.incompatible] == ["b"]


def test_a_link_that_comes_up_is_used_at_once():
    """A node that is told so need not wait for a heartbeat."""
    sim = calm_pair()
    sim.partition("a", "b")
    sim.a.track(ROOM, "alice")
    sim.advance(60)

    sim.heal()
    sim.link_up("a", "b")
    sim.advance(OPTIONS.repair_delay + 0.1)

    assert sim.b.keys(ROOM) == ["alice"]


def test_a_cluster_grows_and_shrinks():
    """From one node to fifty, and back to two; all agree at both ends."""
    names = string.ascii_letters[:50]
    sim = Simulation(nodes="a")
    sim.a.track(ROOM, "alice")

    sim.grow(names[1:], period=0.2)
    assert len(sim.nodes) == 50
    sim.run_until_quiet()
    assert sim.nodes[names[-1]].keys(ROOM) == ["alice"]

    sim.shrink(names[2:30], period=0.1)
    sim.shrink(names[30:], period=0.1, crash=True)
    assert list(sim.nodes) == ["a", "b"]
    sim.run_until_quiet()


@pytest.mark.parametrize("crash", [False, True])
def test_a_rolling_restart_replaces_one_after_another(crash: bool):
    """All are new afterwards, and at most one was away at a time."""
    sim = Simulation(nodes="abc")
    before = {name: node.tracker.origin for name, node in sim.nodes.items()}
    counts: list[int] = []
    sim.checks.append(lambda: counts.append(len(sim.nodes)))

    sim.roll(down_for=0.5, period=2.0, crash=crash)

    assert counts == [2, 3] * 3
    assert all(sim.nodes[name].tracker.origin > before[name] for name in "abc")
    sim.run_until_quiet()


def test_some_of_a_cluster_can_be_rolled():
    """Who is not named stays."""
    sim = Simulation(nodes="abc")
    stays = sim.b

    sim.roll("ac")

    assert sim.b is stays


def test_all_links_die_at_once():
    """Each node is told of each of its links, and nothing gets through until they are mended."""
    sim = Simulation(nodes="abcd")
    sim.a.track(ROOM, "alice")
    sim.run_until_quiet()

    sim.drop_links()
    assert len(sim.b.hinted_at) == 3
    sim.a.track(ROOM, "bob")
    sim.advance(1)
    assert sim.b.keys(ROOM) == ["alice"]

    sim.heal()
    sim.run_until_quiet()
    assert not any(isinstance(event, Left) for event in sim.b.events)


def test_nodes_whose_names_are_words_lose_their_links_too():
    """A name is a name, whatever its length."""
    sim = Simulation(nodes=["one", "two", "three"])
    sim.nodes["one"].track(ROOM, "alice")
    sim.run_until_quiet()

    sim.restart_engine(5.0)
    sim.nodes["one"].track(ROOM, "bob")
    sim.run_until_quiet()

    assert sim.nodes["three"].keys(ROOM) == ["alice", "bob"]
    assert not any(isinstance(event, Left) for event in sim.nodes["two"].events)


def test_calm_ends_all_faults():
    """Whatever a scenario did to a cluster, nodes that run agree soon afterwards."""
    sim = Simulation(nodes="abcd", faults=Faults(max_delay=1.0, loss=0.5, hints=0.1))
    sim.a.track(ROOM, "alice")
    sim.partition("a", "bcd")
    sim.slow("b", "c", 9.0)
    sim.freeze("c", "d")
    sim.pause("d")
    sim.detach("b")
    sim.advance(10)

    sim.calm()

    assert sim.run_until_quiet() < 2 * OPTIONS.heartbeat_period
    assert sim.faults == Faults(hints=0.1)
    assert not sim.b.is_detached


def test_a_node_can_hide_and_show_what_it_tracks():
    """Others are told of a leave, and of a join."""
    sim = calm_pair()
    alice = sim.a.track(ROOM, "alice")
    sim.advance(1)

    sim.a.hide(ROOM, "alice", owner=alice)
    sim.advance(1)
    assert sim.b.keys(ROOM) == []
    sim.a.show(ROOM, "alice", owner=alice)
    sim.advance(1)

    assert sim.b.keys(ROOM) == ["alice"]
    assert [type(event) for event in sim.b.events] == [Joined, Left, Joined]
    with pytest.raises(NotTracked):
        sim.a.hide(ROOM, "bob", owner=alice)


def test_a_message_is_decoded_once_and_changed_by_nobody():
    """All who get a broadcast get the same message, which none of them can change."""
    sim = Simulation(nodes="abc")
    seen = []
    sim.listeners.append(lambda node, message: seen.append(message))
    sim.run_until_quiet()
    seen.clear()
    sim.a.track(ROOM, "alice")
    sim.advance(0.1)

    first, second = (message for message in seen if isinstance(message, Changes))

    assert first is second
    assert isinstance(first.part.added, tuple)
    with pytest.raises(AttributeError, match="immutable"):
        first.part = second.part  # type: ignore[misc]


def test_messages_are_frozen_down_to_their_last_field():
    """No message holds anything that one of its receivers could change under the others."""
    changeable = [
        type(part).__name__ for part in parts_of(type_info(TrackerMessage)) if not is_frozen(part)
    ]

    assert not changeable
