"""The indexes agree with plain lists and dicts, however groups grow and shrink."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from roost.crdt.entry import Entry
from roost.crdt.index import OwnerIndex, TopicIndex
from tests.laws import MACHINE

TOPICS = ["room:1", "room:2"]
KEYS = ["alice", "bob"]
OWNERS = [1, 2, 3]


def new_entry(topic: str, key: str, owner: int, seq: int) -> Entry:
    return Entry(topic, key, b"{}", owner, "r", seq)


class TopicIndexMachine(RuleBasedStateMachine):
    """Add, remove and replace at random; the model is one list in the order of arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.index = TopicIndex()
        self.entries: list[Entry] = []
        self.keys: dict[str, list[str]] = {topic: [] for topic in TOPICS}
        self.seq = 0

    def model_of(self, topic: str, key: str) -> tuple[Entry, ...]:
        return tuple(each for each in self.entries if (each.topic, each.key) == (topic, key))

    @rule(topic=st.sampled_from(TOPICS), key=st.sampled_from(KEYS), owner=st.sampled_from(OWNERS))
    def add(self, topic: str, key: str, owner: int) -> None:
        self.seq += 1
        entry = new_entry(topic, key, owner, self.seq)
        is_first = not self.model_of(topic, key)
        assert self.index.add(entry) is is_first
        self.entries.append(entry)
        if key not in self.keys[topic]:
            self.keys[topic].append(key)

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.entries))
        is_last = self.index.remove(entry)
        self.entries.remove(entry)
        assert is_last is not bool(self.model_of(entry.topic, entry.key))
        if not self.model_of(entry.topic, entry.key):
            self.keys[entry.topic].remove(entry.key)

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def replace(self, data: st.DataObject) -> None:
        old = data.draw(st.sampled_from(self.entries))
        self.seq += 1
        new = new_entry(old.topic, old.key, old.owner, self.seq)
        self.index.replace(old, new)
        self.entries.remove(old)
        self.entries.append(new)

    @invariant()
    def agrees(self) -> None:
        index = self.index
        for topic in TOPICS:
            assert index.of(topic).keys() == self.keys[topic]
            assert index.of(topic).count_keys == len(self.keys[topic])
            for key in KEYS:
                assert index.of(topic).by_key(key) == self.model_of(topic, key)
            expected = [each for key in self.keys[topic] for each in self.model_of(topic, key)]
            assert list(index.of(topic).entries()) == expected
            assert index.of(topic).count_entries == len(expected)
        assert sorted(index.topics()) == [topic for topic in TOPICS if self.keys[topic]]


class OwnerIndexMachine(RuleBasedStateMachine):
    """Put, remove and pop at random; the model is a dict by owner, topic and key."""

    def __init__(self) -> None:
        super().__init__()
        self.index = OwnerIndex()
        self.entries: dict[tuple[int, str, str], Entry] = {}
        self.seq = 0

    @rule(topic=st.sampled_from(TOPICS), key=st.sampled_from(KEYS), owner=st.sampled_from(OWNERS))
    def put(self, topic: str, key: str, owner: int) -> None:
        self.seq += 1
        entry = new_entry(topic, key, owner, self.seq)
        self.index.put(entry)
        self.entries[owner, topic, key] = entry

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        place = data.draw(st.sampled_from(list(self.entries)))
        self.index.remove(self.entries.pop(place))

    @rule(owner=st.sampled_from(OWNERS))
    def pop(self, owner: int) -> None:
        expected = [entry for place, entry in self.entries.items() if place[0] == owner]
        popped = self.index.pop(owner)
        assert sorted(popped, key=lambda entry: entry.seq) == sorted(
            expected, key=lambda entry: entry.seq
        )
        self.entries = {place: each for place, each in self.entries.items() if place[0] != owner}

    @invariant()
    def agrees(self) -> None:
        for owner in OWNERS:
            for topic in TOPICS:
                for key in KEYS:
                    expected = self.entries.get((owner, topic, key))
                    assert self.index.get(owner, topic, key) is expected

    @invariant()
    def forgets_who_tracks_nothing(self) -> None:
        # A look inside: a group that stays for every owner there ever was would be a leak.
        assert set(self.index._groups) == {owner for owner, _, _ in self.entries}


TestTopicIndex = TopicIndexMachine.TestCase
TestTopicIndex.settings = MACHINE

TestOwnerIndex = OwnerIndexMachine.TestCase
TestOwnerIndex.settings = MACHINE


def test_a_key_stays_in_its_place_while_it_is_replaced():
    """An update moves the entry behind its siblings, and leaves the key where it is."""
    index = TopicIndex()
    alice1, alice2 = new_entry("room:1", "alice", 1, 1), new_entry("room:1", "alice", 2, 2)
    for entry in (alice1, alice2, new_entry("room:1", "bob", 3, 3)):
        index.add(entry)
    alice4 = new_entry("room:1", "alice", 1, 4)
    index.replace(alice1, alice4)

    assert index.of("room:1").keys() == ["alice", "bob"]
    assert index.of("room:1").by_key("alice") == (alice2, alice4)


def test_a_listing_survives_changes():
    """Who changes the index while listing it gets no error, and nobody who is gone."""
    index = TopicIndex()
    alice, bob = new_entry("room:1", "alice", 1, 1), new_entry("room:1", "bob", 2, 2)
    index.add(alice)
    index.add(bob)

    listed = []
    for entry in index.of("room:1").entries():
        listed.append(entry)
        index.remove(bob)

    assert listed == [alice]
