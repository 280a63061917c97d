"""The tracker of one node against a plain model of what it should say."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from roost.crdt.entry import Entry
from roost.crdt.incarnation import OriginId
from roost.crdt.slice import Slice
from roost.exceptions import (
    AlreadyTracked,
    LocalProtocolError,
    NotTracked,
    PayloadError,
)
from roost.strict_json import JsonEncoder
from roost.tracker.meta import decode_meta
from roost.tracker.protocol import Joined, Left, TrackerProtocol, Updated
from tests.laws import MACHINE

ORIGIN = OriginId("a", 1, 7)

TOPICS = ["room:1", "room:2"]
KEYS = ["alice", "bob"]
OWNERS = [1, 2, 3]

Place = tuple[int, str, str]  # owner, topic, key

places = st.tuples(st.sampled_from(OWNERS), st.sampled_from(TOPICS), st.sampled_from(KEYS))
metas = st.dictionaries(
    st.sampled_from(["online_at", "phx_ref", "phx_ref_prev", "n"]), st.integers(), max_size=3
)
bad_metas: st.SearchStrategy[Any] = st.sampled_from(
    [None, [], {"load": float("nan")}, {"raw": b"x"}, {"o": object()}]
)


def without_refs(meta: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in meta.items() if not name.startswith("phx_ref")}


class TrackerMachine(RuleBasedStateMachine):
    """Call everything at random; the model is a dict of metas in the order of their arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker = TrackerProtocol(Slice(ORIGIN))
        self.metas: dict[Place, dict[str, Any]] = {}  # refs included
        self.hidden: set[Place] = set()
        self.keys: dict[str, list[str]] = {topic: [] for topic in TOPICS}
        self.refs: set[str] = set()  # of all time
        # What somebody knows who was told the events and nothing else.
        self.told: dict[str, Entry] = {}
        self.told_version = 0

    # How the model changes.

    def has_joined(
        self, place: Place, ref: str, meta: dict[str, Any], *, hidden: bool = False
    ) -> None:
        assert ref not in self.refs
        self.refs.add(ref)
        self.metas[place] = {**without_refs(meta), "phx_ref": ref}
        if hidden:
            self.hidden.add(place)
        elif place[2] not in self.keys[place[1]]:
            self.keys[place[1]].append(place[2])

    def has_left(self, place: Place) -> None:
        del self.metas[place]
        if place in self.hidden:
            self.hidden.remove(place)
        elif not self.visible(place[1], place[2]):
            self.keys[place[1]].remove(place[2])

    def visible(self, topic: str, key: str) -> list[dict[str, Any]]:
        return [
            meta
            for place, meta in self.metas.items()
            if place[1:] == (topic, key) and place not in self.hidden
        ]

    def was_updated(self, place: Place, ref: str, meta: dict[str, Any]) -> None:
        assert ref not in self.refs
        self.refs.add(ref)
        previous = self.metas.pop(place)["phx_ref"]  # and to the end: it arrives anew
        self.metas[place] = {**without_refs(meta), "phx_ref": ref, "phx_ref_prev": previous}

    # What is called.

    @rule(place=places, meta=metas, hidden=st.booleans())
    def track(self, place: Place, meta: dict[str, Any], hidden: bool) -> None:
        owner, topic, key = place
        if place in self.metas:
            with pytest.raises(AlreadyTracked) as error:
                self.tracker.track(topic, key, meta, owner=owner, hidden=hidden)
            assert (error.value.topic, error.value.key) == (topic, key)
        else:
            ref = self.tracker.track(topic, key, meta, owner=owner, hidden=hidden)
            self.has_joined(place, ref, meta, hidden=hidden)

    @rule(place=places)
    def hide(self, place: Place) -> None:
        self.set_hidden(place, self.tracker.hide, hidden=True)

    @rule(place=places)
    def show(self, place: Place) -> None:
        self.set_hidden(place, self.tracker.show, hidden=False)

    def set_hidden(self, place: Place, call: Callable[..., str], *, hidden: bool) -> None:
        owner, topic, key = place
        if place not in self.metas:
            with pytest.raises(NotTracked):
                call(topic, key, owner=owner)
        elif (place in self.hidden) is hidden:
            assert call(topic, key, owner=owner) == self.metas[place]["phx_ref"]
        else:
            meta = self.metas[place]
            self.has_left(place)
            self.has_joined(place, call(topic, key, owner=owner), meta, hidden=hidden)

    @rule(place=places, meta=bad_metas)
    def track_badly(self, place: Place, meta: Any) -> None:
        owner, topic, key = place
        with pytest.raises(PayloadError):
            self.tracker.track(topic, key, meta, owner=owner)

    @rule(place=places)
    def untrack(self, place: Place) -> None:
        owner, topic, key = place
        assert self.tracker.untrack(topic, key, owner=owner) == (place in self.metas)
        if place in self.metas:
            self.has_left(place)

    @rule(owner=st.sampled_from(OWNERS))
    def untrack_owner(self, owner: int) -> None:
        gone = [place for place in self.metas if place[0] == owner]
        assert self.tracker.untrack_owner(owner) == len(gone)
        for place in gone:
            self.has_left(place)

    @rule(place=places, meta=metas)
    def update(self, place: Place, meta: dict[str, Any]) -> None:
        self.call_update(place, meta, meta)

    @rule(place=places)
    def update_by_function(self, place: Place) -> None:
        seen: list[dict[str, Any]] = []

        def count_up(meta: dict[str, Any]) -> dict[str, Any]:
            seen.append(dict(meta))
            meta["n"] = meta.get("n", 0) + 1  # it may change what it gets
            return meta

        before = self.metas.get(place, {})
        self.call_update(place, count_up, {**before, "n": before.get("n", 0) + 1})
        assert seen == ([before] if before else [])

    @rule(place=places, meta=bad_metas)
    def update_badly(self, place: Place, meta: Any) -> None:
        owner, topic, key = place
        for given in (meta, lambda _: meta):
            with pytest.raises(PayloadError if place in self.metas else NotTracked):
                self.tracker.update(topic, key, given, owner=owner)

    @rule(place=places)
    def update_by_raising(self, place: Place) -> None:
        owner, topic, key = place

        def fail(meta: dict[str, Any]) -> dict[str, Any]:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError if place in self.metas else NotTracked):
            self.tracker.update(topic, key, fail, owner=owner)

    @rule(place=places, inner=places, meta=metas)
    def update_reentering(self, place: Place, inner: Place, meta: dict[str, Any]) -> None:
        """The function updates another presence, or the very one that it is asked about."""
        owner, topic, key = place
        if place not in self.metas or inner not in self.metas:
            return

        def reenter(old: dict[str, Any]) -> dict[str, Any]:
            self.update(inner, meta)
            return meta

        if inner == place:
            with pytest.raises(LocalProtocolError, match=key):
                self.tracker.update(topic, key, reenter, owner=owner)
        else:
            self.call_update(place, reenter, meta)

    def call_update(
        self,
        place: Place,
        given: dict[str, Any] | Callable[[dict[str, Any]], dict[str, Any]],
        meta: dict[str, Any],
    ) -> None:
        owner, topic, key = place
        if place in self.metas:
            ref = self.tracker.update(topic, key, given, owner=owner)
            self.was_updated(place, ref, meta)
        else:
            with pytest.raises(NotTracked) as error:
                self.tracker.update(topic, key, given, owner=owner)
            assert (error.value.topic, error.value.key) == (topic, key)

    # What holds after each call.

    @invariant()
    def reads_agree(self) -> None:
        tracker = self.tracker
        for topic in TOPICS:
            listed: list[dict[str, Any]] = []
            for key in self.keys[topic]:
                group = self.visible(topic, key)
                found = tracker.get_by_key(topic, key)
                assert [decode_meta(entry.meta) for entry in found] == group
                assert [entry.ref for entry in found] == [meta["phx_ref"] for meta in group]
                listed += group
            assert [decode_meta(entry.meta) for entry in tracker.list(topic)] == listed
            assert list(tracker.keys(topic)) == self.keys[topic]
            assert tracker.count_keys(topic) == len(self.keys[topic])
            assert tracker.count_entries(topic) == len(listed)
            hidden = [decode_meta(entry.meta) for entry in tracker.list_hidden(topic)]
            expected = [self.metas[place] for place in self.hidden if place[1] == topic]
            assert sorted(hidden, key=repr) == sorted(expected, key=repr)
            for key in KEYS:
                assert tracker.has_key(topic, key) is (key in self.keys[topic])
                if key not in self.keys[topic]:
                    assert tracker.get_by_key(topic, key) == ()
                for owner in OWNERS:
                    entry = tracker.tracked(topic, key, owner=owner)
                    meta = self.metas.get((owner, topic, key))
                    assert (entry and decode_meta(entry.meta)) == meta

    @invariant()
    def events_are_the_difference(self) -> None:
        for event in self.tracker.events():
            assert event.version > self.told_version
            self.told_version = event.version
            match event:
                case Joined(entry, _, is_first):
                    assert entry.ref not in self.told
                    assert is_first is (not self.told_of(entry))
                    self.told[entry.ref] = entry
                case Left(entry, _, is_last):
                    assert self.told.pop(entry.ref) is entry
                    assert is_last is (not self.told_of(entry))
                case Updated(old, new, _):
                    assert (old.owner, old.topic, old.key) == (new.owner, new.topic, new.key)
                    assert self.told.pop(old.ref) is old
                    assert new.ref not in self.told
                    self.told[new.ref] = new
        assert self.told_version == self.tracker.version
        assert self.told == {entry.ref: entry for entry in self.tracker.list_all()}
        assert self.tracker.events() == []

    def told_of(self, entry: Entry) -> list[Entry]:
        place = (entry.topic, entry.key)
        return [each for each in self.told.values() if (each.topic, each.key) == place]


TestTracker = TrackerMachine.TestCase
TestTracker.settings = MACHINE


@pytest.fixture(name="tracker")
def new_tracker() -> TrackerProtocol:
    return TrackerProtocol(Slice(ORIGIN))


def test_metas_are_held_encoded(tracker):
    """An entry holds the bytes that travel, with its own ref and the one before it."""
    first = tracker.track("room:1", "alice", {"online_at": 1}, owner=1)
    second = tracker.update("room:1", "alice", {"online_at": 2, "phx_ref": "mine"}, owner=1)
    (alice,) = tracker.get_by_key("room:1", "alice")

    assert alice.meta == b'{"online_at":2,"phx_ref":"%b","phx_ref_prev":"%b"}' % (
        second.encode(),
        first.encode(),
    )


def test_a_key_may_be_tracked_by_several_owners(tracker):
    """One user with two tabs is one key with two metas, in the order of their arrival."""
    one = tracker.track("room:1", "alice", {}, owner=1)
    two = tracker.track("room:1", "alice", {}, owner=2)

    assert [entry.ref for entry in tracker.get_by_key("room:1", "alice")] == [one, two]
    assert (tracker.count_keys("room:1"), tracker.count_entries("room:1")) == (1, 2)


def test_refs_of_two_lives_differ():
    """Two trackers that do the same give different refs."""
    refs = {
        TrackerProtocol(Slice(OriginId("a", 1, nonce))).track("room:1", "alice", {}, owner=1)
        for nonce in range(10)
    }

    assert len(refs) == 10


def test_an_update_is_one_event(tracker):
    """Old and new meta change places at one version: nobody sees the key missing."""
    tracker.track("room:1", "alice", {}, owner=1)
    (joined,) = tracker.events()
    tracker.update("room:1", "alice", {"n": 1}, owner=1)

    assert tracker.events() == [
        Updated(joined.entry, tracker.get_by_key("room:1", "alice")[0], joined.version + 1)
    ]


def test_the_end_of_an_owner_leaves_others_alone(tracker):
    """All that an owner tracks leaves in all topics, and nothing else does."""
    for topic in TOPICS:
        tracker.track(topic, "alice", {}, owner=1)
        tracker.track(topic, "bob", {}, owner=2)

    assert tracker.untrack_owner(1) == 2
    assert [list(tracker.keys(topic)) for topic in TOPICS] == [["bob"], ["bob"]]
    assert tracker.untrack_owner(1) == 0


def test_an_update_function_that_leaves_is_refused(tracker):
    """A function that untracks what it updates does so, and its result has no place."""

    def leave(meta: dict[str, Any]) -> dict[str, Any]:
        tracker.untrack("room:1", "alice", owner=1)
        return meta

    tracker.track("room:1", "alice", {}, owner=1)
    with pytest.raises(LocalProtocolError):
        tracker.update("room:1", "alice", leave, owner=1)

    assert list(tracker.list("room:1")) == []


class Device:
    """Something that only the application's hook can encode."""


def test_an_encode_hook_may_use_the_tracker():
    """A hook that tracks while a meta is encoded neither doubles a ref nor a presence."""

    def track_too(device: object) -> str:
        if tracker.tracked("room:1", "bob", owner=2) is None:
            tracker.track("room:1", "bob", {}, owner=2)
        return "phone"

    tracker = TrackerProtocol(Slice(ORIGIN), encoder=JsonEncoder(track_too))
    ref = tracker.track("room:1", "alice", {"device": Device()}, owner=1)
    tracker.untrack("room:1", "bob", owner=2)
    new_ref = tracker.update("room:1", "alice", {"device": Device()}, owner=1)

    metas = [decode_meta(entry.meta) for entry in tracker.list("room:1")]
    assert metas == [
        {"device": "phone", "phx_ref": new_ref, "phx_ref_prev": ref},
        {"phx_ref": tracker.get_by_key("room:1", "bob")[0].ref},
    ]
    with pytest.raises(AlreadyTracked):
        tracker.track("room:1", "bob", {"device": Device()}, owner=2)


def test_a_hook_that_tracks_the_very_presence_is_refused():
    """The second of two that track one presence at once is told so."""

    def track_the_same(device: object) -> str:
        tracker.track("room:1", "alice", {}, owner=1)
        return "phone"

    tracker = TrackerProtocol(Slice(ORIGIN), encoder=JsonEncoder(track_the_same))
    with pytest.raises(AlreadyTracked):
        tracker.track("room:1", "alice", {"device": Device()}, owner=1)

    assert tracker.count_entries("room:1") == 1
