"""The list of presences of a client: the rules of phoenix.js, and where we differ."""

from __future__ import annotations

import json
import sys
from random import Random
from typing import Any

import pytest

from roost.client.membership import PresenceChanged
from roost.client.mirror import MAX_WAITING_COUNT, Change, Mirror
from tests.client.scene import NONE, Scene
from tests.fresh_seeds import first_of_commit
from tests.models.phoenix_presence import ClientPresence

PROTOTYPE_NAMES = ["__proto__", "constructor", "hasOwnProperty", "toString", "", "0", "ключ"]


def metas(*refs: str, **fields: Any) -> dict[str, Any]:
    """An entry with metas of these refs."""
    return {"metas": [{"phx_ref": ref} for ref in refs], **fields}


def diff(joins: Any = NONE, leaves: Any = NONE) -> dict[str, Any]:
    return {"joins": joins, "leaves": leaves}


def refs(mirror: Mirror) -> dict[str, list[str]]:
    """The refs of each key, in order."""
    return {
        key: [meta["phx_ref"] for meta in entry["metas"]] for key, entry in mirror.entries.items()
    }


def synced(**entries: Any) -> Mirror:
    """A mirror with a list."""
    mirror = Mirror()
    mirror.joined()
    mirror.receive_state(entries)
    return mirror


def told(changes: list[Change] | None) -> list[tuple[str, str]]:
    return [(change.kind, change.key) for change in changes or []]


def test_a_list_and_its_changes():
    """Metas are known by their ref; joins are added after the others, leaves taken out."""
    mirror = synced(alice=metas("1"), bob=metas("2"))
    changes = mirror.receive_diff(diff({"alice": metas("3")}, {"bob": metas("2")}))

    assert refs(mirror) == {"alice": ["1", "3"]}
    assert told(changes) == [("join", "alice"), ("leave", "bob")]
    assert (mirror.user_count, mirror.connection_count) == (1, 2)


def test_what_a_change_tells():
    """Of a join the entry before it, of a leave the one after it, and what joined or left alone."""
    mirror = synced(alice=metas("1"))
    changes = mirror.receive_diff(
        diff({"alice": metas("2"), "bob": metas("4")}, {"alice": metas("1")})
    )
    assert changes == [
        Change("join", "alice", metas("1"), metas("2")),
        Change("join", "bob", None, metas("4")),
        Change("leave", "alice", metas("2"), metas("1")),
    ]
    assert mirror.receive_diff(diff(leaves={"bob": metas("4")})) == [
        Change("leave", "bob", metas(), metas("4"))
    ]


def test_an_update_never_removes_its_key():
    """It is the join of the new meta and the leave of the old one, in one diff."""
    mirror = synced(alice=metas("1"))
    changes = mirror.receive_diff(diff({"alice": metas("2")}, {"alice": metas("1")}))

    assert told(changes) == [("join", "alice"), ("leave", "alice")]
    assert refs(mirror) == {"alice": ["2"]}


def test_a_join_of_a_known_ref_is_no_second_one():
    """The list may have it already, when the diff of one's own join comes."""
    mirror = synced(alice=metas("1"))
    mirror.receive_diff(diff({"alice": metas("1")}))

    assert refs(mirror) == {"alice": ["1"]}


def test_leaves_of_nobody():
    """An unknown key is passed over; of a known one it is told, and changes nothing."""
    mirror = synced(alice=metas("1"))
    changes = mirror.receive_diff(diff(leaves={"bob": metas("2"), "alice": metas("9")}))

    assert told(changes) == [("leave", "alice")]
    assert refs(mirror) == {"alice": ["1"]}


def test_diffs_wait_for_the_list():
    """They are applied after it."""
    mirror = Mirror()
    mirror.joined()
    assert mirror.receive_diff(diff(leaves={"bob": metas("2")})) is None
    assert mirror.entries == {}
    changes = mirror.receive_state({"alice": metas("1"), "bob": metas("2")})

    assert told(changes) == [("join", "alice"), ("join", "bob"), ("leave", "bob")]
    assert refs(mirror) == {"alice": ["1"]}


def test_diffs_that_waited_for_an_earlier_join_are_dropped():
    """They would bring back who is gone: the list of the newer join knows better."""
    mirror = synced(alice=metas("1"))
    mirror.rejoining()
    mirror.joined()
    mirror.receive_diff(diff({"bob": metas("2")}))
    mirror.rejoining()
    mirror.receive_diff(diff({"carol": metas("3")}))
    mirror.joined()
    mirror.receive_state({"alice": metas("1")})

    assert refs(mirror) == {"alice": ["1"]}


def test_the_list_stays_through_a_reconnect():
    """Only the differences are told: who was there before and after did not leave."""
    mirror = synced(alice=metas("1"), bob=metas("2"), carol=metas("3", "4"))
    mirror.rejoining()
    assert refs(mirror).keys() == {"alice", "bob", "carol"}
    assert not mirror.is_synced
    mirror.joined()
    changes = mirror.receive_state(
        {"alice": metas("1"), "carol": metas("4", "5"), "dave": metas("6")}
    )

    assert told(changes) == [
        ("join", "carol"),
        ("join", "dave"),
        ("leave", "bob"),
        ("leave", "carol"),
    ]
    assert refs(mirror) == {"alice": ["1"], "carol": ["4", "5"], "dave": ["6"]}


def test_a_list_of_an_earlier_join_is_dropped():
    """It comes between the loss of the channel and the reply to the next join."""
    mirror = synced(alice=metas("1"))
    mirror.rejoining()
    mirror.receive_state({})

    assert refs(mirror) == {"alice": ["1"]}


def test_another_list_of_the_same_join():
    """A server may send it twice; the second one counts, too."""
    mirror = synced(alice=metas("1"))
    mirror.receive_state({"bob": metas("2")})

    assert refs(mirror) == {"bob": ["2"]}


def test_keys_of_any_name():
    """No name is special, here or in an entry of the server."""
    mirror = synced(**{key: metas(key) for key in PROTOTYPE_NAMES})
    assert list(mirror.entries) == PROTOTYPE_NAMES
    mirror.receive_diff(diff(leaves={key: metas(key) for key in PROTOTYPE_NAMES}))

    assert mirror.entries == {}


def test_fields_of_an_entry():
    """What the server's fetch adds is that of the last join."""
    mirror = synced(alice=metas("1", user={"name": "Alice"}))
    mirror.receive_diff(diff({"alice": metas("2", user={"name": "Alicia"})}))

    assert mirror.entries["alice"] == metas("1", "2", user={"name": "Alicia"})


def test_counts_of_a_large_topic():
    """It sends counts and an empty list; they hold until a list, or a diff, comes again."""
    mirror = synced(alice=metas("1"))
    mirror.receive_count({"users": 2_000, "connections": 3_000})
    mirror.receive_state({})
    assert (mirror.user_count, mirror.connection_count) == (2_000, 3_000)
    assert mirror.entries == {}

    mirror.receive_state({"alice": metas("1"), "bob": metas("2", "3")})
    assert (mirror.user_count, mirror.connection_count) == (2, 3)


def test_counts_are_those_of_the_present_join():
    """The old ones hold through a reconnect, until the first list without newer ones."""
    mirror = synced()
    mirror.receive_count({"users": 2_000, "connections": 3_000})
    mirror.rejoining()
    assert mirror.user_count == 2_000
    mirror.joined()
    assert mirror.user_count == 2_000
    mirror.receive_state({})
    assert mirror.user_count == 0


def test_diffs_wait_up_to_a_bound():
    """A server that never sends a list does not fill the memory."""
    mirror = Mirror()
    mirror.joined()
    for number in range(10 * MAX_WAITING_COUNT):
        mirror.receive_diff(diff({str(number): metas(str(number))}))

    assert len(mirror._waiting) == MAX_WAITING_COUNT
    mirror.receive_state({})
    assert str(10 * MAX_WAITING_COUNT - 1) in mirror.entries


def test_a_diff_costs_by_its_own_size():
    """Ten thousand who are there are not touched by one who comes and goes."""
    mirror = synced(**{str(number): metas(str(number)) for number in range(10_000)})
    before = {key: id(entry) for key, entry in mirror.entries.items()}
    mirror.receive_diff(diff({"alice": metas("a")}))
    mirror.receive_diff(diff(leaves={"alice": metas("a")}))

    assert {key: id(entry) for key, entry in mirror.entries.items()} == before


def test_the_channel_feeds_its_mirror():
    """Lists and diffs go there, and not to those who listen to messages."""
    scene = Scene().connected()
    room = scene.joined()
    scene.say("1", None, "room:1", "presence_state", {"alice": metas("1")})
    scene.say(None, None, "room:1", "presence_diff", diff({"bob": metas("2")}))
    scene.say(None, None, "room:1", "presence_count", {"users": 5, "connections": 6})

    assert room.mirror is not None
    assert refs(room.mirror) == {"alice": ["1"], "bob": ["2"]}
    assert room.mirror.user_count == 5
    assert len(scene.take(PresenceChanged)) == 3
    assert scene.events == [each for each in scene.events if type(each).__name__ != "Received"]

    scene.lose()
    assert not room.mirror.is_synced


def test_without_a_mirror_they_are_messages():
    """Whoever wants no list pays for none."""
    scene = Scene().connected()
    room = scene.joined(presence=False)
    scene.say("1", None, "room:1", "presence_state", {"alice": metas("1")})

    assert room.mirror is None
    assert [event.message.event for event in scene.events if hasattr(event, "message")] == [
        "presence_state"
    ]


# The model of phoenix.js, in step.


class Pair:
    """Our mirror and the model of phoenix.js 1.8, told the same."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.join_ref = 0
        self.mirror = Mirror()
        self.model = ClientPresence(lambda: str(self.join_ref) if self.join_ref else None)
        self.ours: list[Any] = []
        self.theirs: list[Any] = []
        self.model.on_join = lambda key, current, entry: self.theirs.append(
            json.loads(json.dumps(("join", key, current, entry)))
        )
        self.model.on_leave = lambda key, current, entry: self.theirs.append(
            json.loads(json.dumps(("leave", key, current, entry)))
        )

    def rejoin(self) -> None:
        self.join_ref += 1
        self.model.pending_diffs.clear()  # where we differ: see ``mirror``
        self.mirror.rejoining()
        self.mirror.joined()

    def step(self) -> None:
        match self.rng.randrange(8):
            case 0:
                self.rejoin()
            case 1:
                state = self._entries()
                self.model.receive_state(json.loads(json.dumps(state)))
                self._note(self.mirror.receive_state(state))
            case _:
                payload = diff(self._entries(), self._entries())
                self.model.receive_diff(json.loads(json.dumps(payload)))
                self._note(self.mirror.receive_diff(payload))

    def _note(self, changes: list[Change] | None) -> None:
        self.ours += json.loads(
            json.dumps([(each.kind, each.key, each.current, each.entry) for each in changes or []])
        )

    def _entries(self) -> dict[str, Any]:
        keys = sorted(self.rng.sample(["alice", "bob", "carol"], self.rng.randrange(4)))
        return {key: metas(*self._refs(key), by=self.rng.randrange(3)) for key in keys}

    def _refs(self, key: str) -> list[str]:
        return [f"{key}{n}" for n in self.rng.sample(range(4), self.rng.randrange(1, 4))]


FIXED = range(200)
FRESH = range(first_of_commit(), first_of_commit() + 200)


@pytest.mark.parametrize("seeds", [FIXED, FRESH], ids=["fixed", "fresh"])
def test_it_keeps_in_step_with_phoenix_js(seeds: range):
    """Whatever lists and diffs come, both show the same, and tell the same."""
    for seed in seeds:
        pair = Pair(seed)
        pair.rejoin()
        for _ in range(40):
            pair.step()
            assert pair.mirror.entries == pair.model.state, seed
            assert pair.ours == pair.theirs, seed
    sys.stdout.write(f"seeds {seeds}\n")
