"""Diffs from any version that is held, by the rules of phoenix.js, of old and of now."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.crdt.entry import Entry
from roost.tracker.feed import MAX_CHANGES_PER_REF, Diff, TopicFeed
from tests.laws import LAW
from tests.models.phoenix_presence import Rules, State, sync_diff

KEYS = ["alice", "bob", "carol"]


def state_of(entries: tuple[Entry, ...]) -> State:
    """A ``presence_state``, or one side of a ``presence_diff``."""
    state: State = {}
    for entry in entries:
        state.setdefault(entry.key, {"metas": []})["metas"].append({"phx_ref": entry.ref})
    return state


RULES: tuple[Rules, ...] = ("1.2", "1.8")


class Receiver:
    """A client that got the state at one version, and holds what diffs made of it."""

    def __init__(self, state: State, version: int, rules: Rules) -> None:
        self.state = state
        self.version = version
        self.rules = rules
        self.heard = {meta["phx_ref"] for entry in state.values() for meta in entry["metas"]}

    def receive_diff(self, diff: Diff) -> None:
        assert diff.start == self.version
        payload = {"joins": state_of(diff.joins), "leaves": state_of(diff.leaves)}
        assert {entry.ref for entry in diff.leaves} <= self.heard
        self.heard |= {entry.ref for entry in diff.joins}
        self.state = sync_diff(self.state, payload, rules=self.rules)
        self.version = diff.end


class Topic:
    """One topic: who is visible, who was, its feed, and everybody who holds something of it."""

    def __init__(self) -> None:
        self.feed = TopicFeed()
        self.version = 0
        self.visible: dict[str, Entry] = {}
        self.gone: dict[str, Entry] = {}
        self.receivers = [Receiver({}, 0, rules) for rules in RULES]
        self._seq = 0

    def do(self, step: tuple[str, int]) -> None:
        kind, choice = step
        match kind:
            case "join":
                self._enter(self._new(KEYS[choice % len(KEYS)]))
            case "leave" if self.visible:
                self._leave(_chosen(self.visible, choice))
            case "return" if self.gone:  # its node was down, and is up again
                self._enter(_chosen(self.gone, choice))
            case "flap" if self.visible:
                entry = _chosen(self.visible, choice)
                self._leave(entry)
                self._enter(entry)
            case "update" if self.visible:
                old = _chosen(self.visible, choice)
                self._leave(old, forever=True)
                self.version -= 1  # an update has one version
                self._enter(self._new(old.key))
            case "hand out":
                for rules in RULES:
                    self.receivers.append(Receiver(self.state(), self.version, rules))
            case "take":
                self.take(choice)

    def take(self, choice: int) -> None:
        """Tell most of them what they need; a few stay behind."""
        end = self.feed.take()
        for number, receiver in enumerate(self.receivers):
            if receiver.version < end and (number + choice) % 4:
                receiver.receive_diff(self.feed.diff(receiver.version, end))
        self.feed.forget(min(receiver.version for receiver in self.receivers))

    def state(self) -> State:
        return state_of(tuple(self.visible.values()))

    def _new(self, key: str) -> Entry:
        self._seq += 1
        return Entry("room:1", key, b"{}", 1, "r", self._seq)

    def _enter(self, entry: Entry) -> None:
        self.version += 1
        self.gone.pop(entry.ref, None)
        self.visible[entry.ref] = entry
        self.feed.join(entry, self.version)

    def _leave(self, entry: Entry, *, forever: bool = False) -> None:
        self.version += 1
        del self.visible[entry.ref]
        if not forever:
            self.gone[entry.ref] = entry
        self.feed.leave(entry, self.version)


def _chosen(entries: dict[str, Entry], choice: int) -> Entry:
    return list(entries.values())[choice % len(entries)]


steps = st.lists(
    st.tuples(
        st.sampled_from(["join", "join", "leave", "return", "flap", "update", "hand out", "take"]),
        st.integers(0, 9),
    ),
    max_size=40,
)


def refs(entries: tuple[Entry, ...]) -> set[str]:
    return {entry.ref for entry in entries}


def metas_of(state: State) -> list[str]:
    return sorted(meta["phx_ref"] for entry in state.values() for meta in entry["metas"])


@settings(LAW, max_examples=300)
@given(steps)
def test_a_diff_is_right_for_whoever_holds_its_start(steps):
    """Whatever version somebody holds, the diff from there leads to who is visible at its end."""
    topic = Topic()
    for step in steps:
        topic.do(step)
    end = topic.feed.take()
    for receiver in topic.receivers:
        receiver.receive_diff(topic.feed.diff(receiver.version, end))
        assert metas_of(receiver.state) == sorted(topic.visible)


@LAW
@given(steps)
def test_a_diff_has_what_differs_and_nothing_else(steps):
    """Refs that are visible at the end only join, refs that were at the start only leave."""
    topic = Topic()
    visible_at = [(0, set[str]())]
    for step in steps:
        if step[0] != "take":
            topic.do(step)
            visible_at.append((topic.version, set(topic.visible)))
    now = set(topic.visible)
    for version, before in visible_at:
        diff = topic.feed.diff(version, topic.version)
        assert (diff.start, diff.end) == (version, topic.version)
        assert refs(diff.joins) == now - before
        assert refs(diff.leaves) == before - now


@LAW
@given(steps)
def test_a_take_ends_at_the_last_change(steps):
    """What is taken is pending no longer."""
    topic = Topic()
    for step in steps:
        topic.do(step)
        end = topic.feed.take()
        assert end == topic.version
        assert not topic.feed.is_pending


# By hand.


def entry(key: str, seq: int) -> Entry:
    return Entry("room:1", key, b"{}", 1, "r", seq)


ALICE, BOB = entry("alice", 1), entry("bob", 2)


def test_a_new_feed_has_nothing_to_tell():
    """A feed starts at the version it is given, with an empty diff."""
    feed = TopicFeed(7)

    assert not feed.is_pending
    assert feed.take() == 7
    assert feed.diff(7, 7) == Diff(7, 7, (), ())


def test_a_visit_is_told_to_those_alone_who_saw_it():
    """Somebody who came and went is news to whoever got the state in between, and to no others."""
    feed = TopicFeed()
    feed.join(ALICE, 1)
    feed.leave(ALICE, 2)

    assert feed.diff(0, 2) == Diff(0, 2, (), ())
    assert feed.diff(1, 2) == Diff(1, 2, (), (ALICE,))


def test_a_flap_is_told_to_those_alone_who_saw_it():
    """A ref that leaves and comes back joins for whoever got the state in between."""
    feed = TopicFeed()
    feed.join(ALICE, 1)
    feed.leave(ALICE, 2)
    feed.join(ALICE, 3)

    assert feed.diff(1, 3) == Diff(1, 3, (), ())
    assert feed.diff(2, 3) == Diff(2, 3, (ALICE,), ())


def test_a_ref_that_two_keys_have_is_two_presences():
    """Two nodes of one id give their refs twice, until one of them takes another id."""
    feed = TopicFeed()
    alice, carol = entry("alice", 1), entry("carol", 1)
    assert alice.ref == carol.ref
    feed.join(alice, 1)
    feed.take()

    feed.leave(alice, 2)
    feed.join(carol, 3)
    diff = feed.diff(1, feed.take())

    assert [each.key for each in diff.joins] == ["carol"]
    assert [each.key for each in diff.leaves] == ["alice"]


def test_a_diff_is_in_the_order_of_arrival():
    """Of the keys, and of the metas of one key."""
    again = entry("alice", 3)
    feed = TopicFeed()
    for version, each in enumerate((ALICE, again, BOB), 1):
        feed.join(each, version)

    assert feed.diff(0, 3).joins == (ALICE, again, BOB)


def test_a_diff_ends_where_it_is_to_end():
    """What changed since it was begun is in the next one."""
    feed = TopicFeed()
    feed.join(ALICE, 1)
    end = feed.take()
    feed.join(BOB, 2)

    assert feed.diff(0, end) == Diff(0, 1, (ALICE,), ())
    assert feed.diff(1, feed.take()) == Diff(1, 2, (BOB,), ())


def test_what_was_forgotten_is_out_of_reach():
    """The log reaches back to what its driver still wants of it."""
    feed = TopicFeed()
    feed.join(ALICE, 1)
    feed.join(BOB, 2)
    feed.take()
    assert feed.reaches(0)

    feed.forget(1)

    assert not feed.reaches(0)
    assert feed.reaches(1)
    assert feed.diff(1, 2).joins == (BOB,)


def change_refs(feed: TopicFeed, count: int) -> None:
    for seq in range(1, count + 1):
        feed.join(entry("alice", seq), seq)


def test_a_diff_may_touch_as_many_refs_as_allowed():
    """At the bound the diff is whole, however often its refs change."""
    feed = TopicFeed(max_count=3)
    change_refs(feed, 3)
    feed.leave(entry("alice", 3), 4)
    feed.join(entry("alice", 3), 5)

    assert not feed.overflowed
    assert len(feed.diff(0, feed.take()).joins) == 3


def test_past_its_bound_a_feed_says_that_it_overflowed():
    """One ref more and the feed logs nothing: the state is to be told instead."""
    feed = TopicFeed(max_count=3)
    change_refs(feed, 4)
    feed.leave(entry("alice", 4), 5)

    assert feed.overflowed
    assert feed.is_pending
    assert feed.take() == 5
    assert not feed.reaches(4)
    assert feed.diff(5, 5) == Diff(5, 5, (), ())


def test_what_was_taken_outlives_an_overflow():
    """A diff that is being fetched is told, however much changes meanwhile."""
    feed = TopicFeed(max_count=3)
    feed.join(ALICE, 1)
    end = feed.take()
    for seq in range(2, 9):
        feed.join(entry("carol", seq), seq)

    assert feed.overflowed
    assert feed.diff(0, end).joins == (ALICE,)


def test_after_an_overflow_a_feed_starts_anew():
    """What changes after the state was told in place of a diff is a diff again."""
    feed = TopicFeed(max_count=3)
    change_refs(feed, 4)
    assert feed.take() == 4
    feed.join(entry("bob", 5), 5)

    assert not feed.overflowed
    assert feed.diff(4, feed.take()) == Diff(4, 5, (entry("bob", 5),), ())


def test_what_was_told_does_not_count_in_what_is_pending():
    """However many refs change in the course of time, each diff may touch as many."""
    feed = TopicFeed(max_count=3)
    for seq in range(1, 10):
        feed.join(entry("alice", seq), seq)
        if seq % 3 == 0:
            assert not feed.overflowed
            assert feed.take() == seq

    assert len(feed.diff(6, 9).joins) == 3


@pytest.mark.parametrize("max_count", [1, 10])
def test_a_feed_holds_a_bounded_log(max_count):
    """However many refs change, and however often one does."""
    feed: Any = TopicFeed(max_count=max_count)
    for version in range(1, 100):
        feed.join(entry("alice", version), version)
        assert len(feed._changes) <= max_count
    feed.take()
    for version in range(100, 300):
        (feed.join if version % 2 else feed.leave)(ALICE, version)
        assert len(feed._changes) <= max_count * MAX_CHANGES_PER_REF
