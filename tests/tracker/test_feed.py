"""Joined diffs: right for any receiver inside, by the rules of phoenix.js."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.crdt.entry import Entry
from roost.tracker.feed import Diff, TopicFeed
from tests.laws import LAW
from tests.models.phoenix_presence import State, sync_diff, sync_state

KEYS = ["alice", "bob", "carol"]


def state_of(entries: tuple[Entry, ...]) -> State:
    """A ``presence_state``, or one side of a ``presence_diff``."""
    state: State = {}
    for entry in entries:
        state.setdefault(entry.key, {"metas": []})["metas"].append({"phx_ref": entry.ref})
    return state


def refs_of(state: State) -> dict[str, set[str]]:
    """What a list shows, whatever its order."""
    return {key: {meta["phx_ref"] for meta in entry["metas"]} for key, entry in state.items()}


class Receiver:
    """A client that got the state at one version, and the diffs that end later."""

    def __init__(self, state: State, version: int) -> None:
        self.state = state
        self.version = version

    def receive_state(self, state: State, version: int) -> None:
        self.state = sync_state(self.state, state)
        self.version = version

    def receive_diff(self, diff: Diff) -> None:
        if self.version < diff.end:
            payload = {"joins": state_of(diff.joins), "leaves": state_of(diff.leaves)}
            self.state = sync_diff(self.state, payload)
            self.version = diff.end


class Topic:
    """One topic: who is visible, who was, its feed, and everybody who was told of it."""

    def __init__(self) -> None:
        self.feed = TopicFeed()
        self.version = 0
        self.visible: dict[str, Entry] = {}
        self.gone: dict[str, Entry] = {}
        self.receivers = [Receiver({}, 0)]
        # Since the last diff:
        self.before: set[str] = set()
        self.touched: set[str] = set()
        self.handed_out = False
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
                self._hand_out(choice)
            case "take":
                self.take()

    def take(self) -> Diff:
        """Tell everybody the diff."""
        diff = self.feed.take()
        for receiver in self.receivers:
            receiver.receive_diff(diff)
        self.before, self.touched, self.handed_out = set(self.visible), set(), False
        return diff

    def state(self) -> State:
        return state_of(tuple(self.visible.values()))

    def _hand_out(self, choice: int) -> None:
        self.feed.hand_out()
        self.handed_out = self.handed_out or bool(self.touched)
        if choice % 2:  # somebody new
            self.receivers.append(Receiver(self.state(), self.version))
        else:  # somebody who had one before
            self.receivers[choice % len(self.receivers)].receive_state(self.state(), self.version)

    def _new(self, key: str) -> Entry:
        self._seq += 1
        return Entry("room:1", key, b"{}", 1, "r", self._seq)

    def _enter(self, entry: Entry) -> None:
        self.version += 1
        self.gone.pop(entry.ref, None)
        self.visible[entry.ref] = entry
        self.touched.add(entry.ref)
        self.feed.join(entry, self.version)

    def _leave(self, entry: Entry, *, forever: bool = False) -> None:
        self.version += 1
        del self.visible[entry.ref]
        if not forever:
            self.gone[entry.ref] = entry
        self.touched.add(entry.ref)
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


@settings(LAW, max_examples=300)
@given(steps)
def test_a_diff_is_right_for_any_receiver_inside_it(steps):
    """Whoever got a state at a version inside a diff's range has the visible set after it."""
    topic = Topic()
    for step in [*steps, ("take", 0)]:
        topic.do(step)
        if step[0] == "take":
            for receiver in topic.receivers:
                assert refs_of(receiver.state) == refs_of(topic.state())
                assert receiver.version == topic.version


@LAW
@given(steps)
def test_a_diff_names_where_each_ref_stands_at_its_end(steps):
    """Touched refs are in joins if visible, else in leaves, and never in both."""
    topic = Topic()
    for step in [*steps, ("take", 0)]:
        if step[0] != "take":
            topic.do(step)
            continue
        before, touched, handed_out = topic.before, topic.touched, topic.handed_out
        diff = topic.take()
        now = set(topic.visible)
        assert not refs(diff.joins) & refs(diff.leaves)
        if handed_out:  # somebody may have seen the ref's other status: all are told
            assert refs(diff.joins) == touched & now
            assert refs(diff.leaves) == touched - now
        else:  # nobody did: only real changes are told, no leave without its join
            assert refs(diff.joins) == now - before
            assert refs(diff.leaves) == before - now


@LAW
@given(steps)
def test_diffs_join_without_a_gap(steps):
    """Each diff starts where the one before it ended, and ends at the last change."""
    topic = Topic()
    end = 0
    for step in steps:
        topic.do(step)
        assert topic.feed.is_pending == (topic.version > end)
        diff = topic.take()
        assert (diff.start, diff.end) == (end, topic.version)
        end = diff.end


# By hand.


def entry(key: str, seq: int) -> Entry:
    return Entry("room:1", key, b"{}", 1, "r", seq)


ALICE, BOB = entry("alice", 1), entry("bob", 2)


def test_a_new_feed_has_nothing_to_tell():
    """A feed starts at the version it is given, with an empty diff."""
    feed = TopicFeed(7)

    assert not feed.is_pending
    assert feed.take() == Diff(7, 7, (), ())


def test_a_visit_is_not_told_if_nobody_can_have_seen_it():
    """Somebody who came and went between two diffs is in neither side."""
    feed = TopicFeed()
    feed.join(ALICE, 1)
    feed.leave(ALICE, 2)

    assert feed.is_pending
    assert feed.take() == Diff(0, 2, (), ())


def test_a_visit_is_told_if_somebody_may_have_seen_it():
    """Whoever was handed the state during a visit is told of its end."""
    feed = TopicFeed()
    feed.join(ALICE, 1)
    feed.hand_out()
    feed.leave(ALICE, 2)

    assert feed.take() == Diff(0, 2, (), (ALICE,))


def test_a_flap_is_told_as_a_join():
    """A ref that leaves and comes back is in joins alone: clients apply the leaves last."""
    feed = TopicFeed()
    feed.join(ALICE, 1)
    feed.take()
    feed.leave(ALICE, 2)
    feed.hand_out()
    feed.join(ALICE, 3)

    assert feed.take() == Diff(1, 3, (ALICE,), ())


def test_a_state_handed_out_between_diffs_changes_nothing():
    """Who was handed the state while nothing was pending is no receiver inside the next diff."""
    feed = TopicFeed()
    feed.join(ALICE, 1)
    feed.take()
    feed.hand_out()
    feed.leave(ALICE, 2)
    feed.join(ALICE, 3)

    assert feed.take() == Diff(1, 3, (), ())


def test_a_handed_out_state_counts_for_one_diff():
    """After the diff that covers it a handed out state is forgotten."""
    feed = TopicFeed()
    feed.join(ALICE, 1)
    feed.hand_out()
    feed.take()
    feed.join(BOB, 2)
    feed.leave(BOB, 3)

    assert feed.take() == Diff(1, 3, (), ())


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
    assert len(feed.take().joins) == 3


def test_past_its_bound_a_feed_says_that_it_overflowed():
    """One ref more and the feed gathers nothing: the state is to be told instead."""
    feed = TopicFeed(max_count=3)
    change_refs(feed, 4)
    feed.leave(entry("alice", 4), 5)

    assert feed.overflowed
    assert feed.is_pending
    assert feed.take() == Diff(0, 5, (), ())


def test_after_an_overflow_a_feed_starts_anew():
    """What changes after the state was told in place of a diff is a diff again."""
    feed = TopicFeed(max_count=3)
    change_refs(feed, 4)
    feed.take()
    feed.join(entry("bob", 5), 5)

    assert not feed.overflowed
    assert feed.take() == Diff(4, 5, (entry("bob", 5),), ())


@pytest.mark.parametrize("max_count", [1, 10])
def test_an_overflowing_feed_holds_nothing(max_count):
    """However many refs change, a feed never holds more than its bound."""
    feed: Any = TopicFeed(max_count=max_count)
    for seq in range(1, 50):
        feed.join(entry("alice", seq), seq)
        assert len(feed._touched) <= max_count
