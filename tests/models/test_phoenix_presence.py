"""Show what a phoenix.js client makes of states and diffs, one rule per test."""

import copy
from typing import Any

import pytest

from .phoenix_presence import (
    ClientPresence,
    Diff,
    Entry,
    HandWrittenPresence,
    State,
    own_keys,
    sync_diff,
    sync_state,
)

ALICE_AND_BOB = {"alice": ["1"], "bob": ["2"]}


def entry(*refs: str, **fields: Any) -> Entry:
    """Build an entry with one meta per ref."""
    return {"metas": [{"phx_ref": ref} for ref in refs], **fields}


def state(keys: dict[str, list[str]]) -> State:
    """Build a state from the refs of each key."""
    return {key: entry(*refs) for key, refs in keys.items()}


def diff(
    joins: dict[str, list[str]] | None = None, leaves: dict[str, list[str]] | None = None
) -> Diff:
    """Build a diff from the refs of each key."""
    return {"joins": state(joins or {}), "leaves": state(leaves or {})}


def refs(entry: Entry | None) -> list[str] | None:
    """Return the refs of an entry, None for none."""
    return None if entry is None else [meta["phx_ref"] for meta in entry["metas"]]


class Calls(list[tuple[Any, ...]]):
    """Record the callbacks as `(name, key, refs of current, refs of the diff's entry)`."""

    def on_join(self, key: str, current: Entry | None, joined: Entry) -> None:
        self.append(("join", key, refs(current), refs(joined)))

    def on_leave(self, key: str, current: Entry, left: Entry) -> None:
        self.append(("leave", key, refs(current), refs(left)))

    def on_sync(self) -> None:
        self.append(("sync",))

    def watch(self, presence: ClientPresence | HandWrittenPresence) -> None:
        presence.on_join = self.on_join
        presence.on_leave = self.on_leave
        presence.on_sync = self.on_sync


class Channel:
    """Stand in for a channel: the join_ref of its latest join."""

    def __init__(self, join_ref: str | None = "3") -> None:
        self.join_ref = join_ref
        self.presence = ClientPresence(lambda: self.join_ref)
        self.calls = Calls()
        self.calls.watch(self.presence)


# The upstream examples.


def test_a_diff_adds_a_meta_and_removes_a_key() -> None:
    """A join adds its meta to a known key and the leave of the last meta removes the key."""
    before = state({"alice": ["1"], "bob": ["2"], "carol": ["3"]})

    after = sync_diff(before, diff(joins={"alice": ["1.2"]}, leaves={"bob": ["2"]}))

    assert after == state({"alice": ["1", "1.2"], "carol": ["3"]})


def test_a_leave_of_one_meta_keeps_the_others() -> None:
    """A key with another meta stays when one of its metas leaves."""
    after = sync_diff(state({"alice": ["1", "1.2"]}), diff(leaves={"alice": ["1"]}))

    assert after == state({"alice": ["1.2"]})


def test_a_diff_before_the_state_is_applied_after_it() -> None:
    """A leave that overtakes the state is queued and then removes what the state brought."""
    channel = Channel()
    channel.presence.receive_diff(diff(leaves={"bob": ["2"]}))

    assert channel.presence.list() == []
    assert channel.presence.pending_diffs == [diff(leaves={"bob": ["2"]})]
    assert channel.calls == []

    channel.presence.receive_state(state(ALICE_AND_BOB))

    assert channel.calls == [
        ("join", "alice", None, ["1"]),
        ("join", "bob", None, ["2"]),
        ("leave", "bob", [], ["2"]),
        ("sync",),
    ]
    assert channel.presence.list() == [entry("1")]
    assert channel.presence.pending_diffs == []


# sync_state.


def test_a_state_tells_only_the_differences() -> None:
    """A new state joins what is new, leaves what is gone and is silent about the rest."""
    calls = Calls()
    before = state({"alice": ["1"], "bob": ["2"], "carol": ["3"]})
    new = state({"alice": ["1"], "carol": ["4"], "dave": ["5"]})

    after = sync_state(before, new, calls.on_join, calls.on_leave)

    assert after == new
    assert calls == [
        ("join", "carol", ["3"], ["4"]),
        ("join", "dave", None, ["5"]),
        ("leave", "bob", [], ["2"]),
        ("leave", "carol", ["4"], ["3"]),
    ]


def test_a_state_keeps_the_content_of_known_metas() -> None:
    """A meta with a known ref keeps its old content, whatever the new state says."""
    before: State = {"alice": {"metas": [{"phx_ref": "1", "status": "away"}]}}
    new: State = {"alice": {"metas": [{"phx_ref": "1", "status": "online"}]}}

    assert sync_state(before, new) == before


def test_a_state_puts_new_metas_after_the_retained_ones() -> None:
    """The order of the metas is that of arrival, not that of the new state."""
    after = sync_state(state({"alice": ["1", "2"]}), state({"alice": ["3", "2", "1"]}))

    assert refs(after["alice"]) == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("new_refs", "user"),
    [
        pytest.param(["1"], "old", id="nothing joined"),
        pytest.param(["2", "1"], "new", id="a meta joined"),
        pytest.param([], "old", id="a meta left"),
    ],
)
def test_a_state_refreshes_an_entry_only_when_a_meta_joined(new_refs: list[str], user: str) -> None:
    """The fields beside the metas are replaced with a join and are left alone without one."""
    before: State = {"alice": entry("1", "9", user="old")}

    after = sync_state(before, {"alice": entry(*new_refs, "9", user="new")})

    assert after["alice"]["user"] == user


def test_the_entry_of_a_partial_leave_has_the_old_fields() -> None:
    """The leaves of a state carry the current entry's fields, not the new ones."""
    left_entries: list[Entry] = []

    sync_state(
        {"alice": entry("1", "2", user="old")},
        {"alice": entry("2", user="new")},
        on_leave=lambda _key, _current, left: left_entries.append(left),
    )

    assert left_entries == [entry("1", user="old")]


def test_an_entry_without_metas_stays() -> None:
    """A key that joins without metas is kept, as only a leave removes keys."""
    assert sync_state({}, state({"alice": []})) == state({"alice": []})
    assert sync_state(state({"alice": []}), state({"alice": []})) == state({"alice": []})


# sync_diff.


def test_a_known_ref_that_joins_again_moves_to_the_end() -> None:
    """A join of a known ref replaces its meta, last, without a duplicate, and is told again."""
    calls = Calls()
    again: Diff = {"joins": {"alice": {"metas": [{"phx_ref": "1", "n": 2}]}}, "leaves": {}}

    after = sync_diff(state({"alice": ["1", "2"]}), again, calls.on_join)

    assert after == {"alice": {"metas": [{"phx_ref": "2"}, {"phx_ref": "1", "n": 2}]}}
    assert calls == [("join", "alice", ["1", "2"], ["1"])]


def test_an_update_joins_before_it_leaves() -> None:
    """An update keeps the key in place: first the new meta joins, then the old one leaves."""
    calls = Calls()
    update = diff(joins={"alice": ["1.2"]}, leaves={"alice": ["1"]})

    after = sync_diff(state(ALICE_AND_BOB), update, calls.on_join, calls.on_leave)

    assert own_keys(after) == ["alice", "bob"]
    assert refs(after["alice"]) == ["1.2"]
    assert calls == [
        ("join", "alice", ["1"], ["1.2"]),
        ("leave", "alice", ["1.2"], ["1"]),
    ]


def test_all_joins_come_before_all_leaves() -> None:
    """The leaves of one key wait for the joins of another."""
    calls = Calls()

    sync_diff(
        state({"bob": ["2"]}),
        diff(joins={"alice": ["1"], "carol": ["3"]}, leaves={"bob": ["2"]}),
        calls.on_join,
        calls.on_leave,
    )

    assert [call[:2] for call in calls] == [
        ("join", "alice"),
        ("join", "carol"),
        ("leave", "bob"),
    ]


def test_a_join_replaces_the_fields_of_the_entry() -> None:
    """The entry of a join wins, also over fields it lacks; on_join gets the old entry whole."""
    told: list[tuple[Entry | None, Entry]] = []

    after = sync_diff(
        {"alice": entry("1", user="old", age=7)},
        {"joins": {"alice": entry("2", user="new")}, "leaves": {}},
        on_join=lambda _key, current, joined: told.append((current, joined)),
    )

    assert after == {"alice": entry("1", "2", user="new")}
    assert told == [(entry("1", user="old", age=7), entry("2", user="new"))]


def test_a_leave_does_not_touch_the_fields_of_the_entry() -> None:
    """The fields in a leave are told to on_leave and do not enter the state."""
    leave: Diff = {"joins": {}, "leaves": {"alice": entry("1", user="new")}}

    after = sync_diff({"alice": entry("1", "2", user="old")}, leave)

    assert after == {"alice": entry("2", user="old")}


def test_a_leave_of_an_unknown_key_is_ignored() -> None:
    """Nothing changes and nothing is told when a key leaves that is not there."""
    calls = Calls()

    after = sync_diff(state({"alice": ["1"]}), diff(leaves={"bob": ["2"]}), on_leave=calls.on_leave)

    assert after == state({"alice": ["1"]})
    assert calls == []


def test_a_leave_of_an_unknown_ref_is_told_for_a_known_key() -> None:
    """On_leave is called for a known key even though no meta of it left."""
    calls = Calls()

    after = sync_diff(
        state({"alice": ["1"]}), diff(leaves={"alice": ["9"]}), on_leave=calls.on_leave
    )

    assert after == state({"alice": ["1"]})
    assert calls == [("leave", "alice", ["1"], ["9"])]


def test_a_key_that_joins_and_leaves_in_one_diff_is_told_twice() -> None:
    """A short visit within one diff is joined, left and gone."""
    calls = Calls()
    visit = diff(joins={"bob": ["2"]}, leaves={"bob": ["2"]})

    assert sync_diff({}, visit, calls.on_join, calls.on_leave) == {}
    assert calls == [("join", "bob", None, ["2"]), ("leave", "bob", [], ["2"])]


def test_the_arguments_are_not_changed() -> None:
    """Neither function changes what it was given, nor shares it with what it returns."""
    before = state({"alice": ["1"], "bob": ["2"]})
    new = state({"alice": ["3", "1"], "carol": ["4"]})
    change = diff(joins={"alice": ["3"], "carol": ["4"]}, leaves={"alice": ["1"]})
    given = copy.deepcopy((before, new, change))

    for after in (sync_state(before, new), sync_diff(before, change)):
        for key in after:
            after[key]["metas"].append({"phx_ref": "5"})
            after[key]["metas"][0]["n"] = 1

    assert (before, new, change) == given


# The events.


def test_without_a_join_ref_diffs_wait() -> None:
    """Diffs are queued while the channel was never joined, even past a state."""
    channel = Channel(join_ref=None)
    channel.presence.receive_state(state({"alice": ["1"]}))
    channel.presence.receive_diff(diff(joins={"bob": ["2"]}))

    assert channel.presence.is_pending
    assert channel.presence.list() == [entry("1")]


def test_a_diff_after_the_state_is_applied_at_once() -> None:
    """A diff under the join_ref of the state is applied, told and synced once."""
    channel = Channel()
    channel.presence.receive_state(state({"alice": ["1"]}))
    channel.calls.clear()

    channel.presence.receive_diff(diff(joins={"bob": ["2"]}, leaves={"alice": ["1"]}))

    assert channel.calls == [
        ("join", "bob", None, ["2"]),
        ("leave", "alice", [], ["1"]),
        ("sync",),
    ]
    assert channel.presence.list() == [entry("2")]


def test_waiting_diffs_are_applied_in_order_with_one_sync() -> None:
    """The queue is applied first in first out and on_sync is called once for all of it."""
    channel = Channel()
    channel.presence.receive_diff(diff(joins={"bob": ["2"]}))
    channel.presence.receive_diff(diff(joins={"bob": ["2.2"]}, leaves={"bob": ["2"]}))
    channel.presence.receive_state({})

    assert channel.calls == [
        ("join", "bob", None, ["2"]),
        ("join", "bob", ["2"], ["2.2"]),
        ("leave", "bob", ["2.2"], ["2"]),
        ("sync",),
    ]


def test_a_rejoin_queues_diffs_until_the_next_state() -> None:
    """After a rejoin the old state stays listed and the new one tells the differences only."""
    channel = Channel()
    channel.presence.receive_state(state(ALICE_AND_BOB))
    channel.calls.clear()

    channel.join_ref = "7"
    channel.presence.receive_diff(diff(leaves={"carol": ["3"]}))

    assert channel.presence.list() == [entry("1"), entry("2")]
    assert channel.calls == []

    channel.presence.receive_state(state({"bob": ["2"], "carol": ["3"]}))

    assert channel.presence.join_ref == "7"
    assert channel.presence.list() == [entry("2")]
    assert channel.calls == [
        ("join", "carol", None, ["3"]),
        ("leave", "alice", [], ["1"]),
        ("leave", "carol", [], ["3"]),
        ("sync",),
    ]


def test_a_stale_diff_may_bring_back_a_presence() -> None:
    """A join queued before the latest rejoin is applied after the state that lacks it."""
    channel = Channel()
    channel.presence.receive_diff(diff(joins={"bob": ["2"]}))
    channel.join_ref = "7"
    channel.presence.receive_state(state({"alice": ["1"]}))

    assert channel.presence.list() == [entry("1"), entry("2")]


def test_a_callback_may_be_replaced() -> None:
    """The last callback assigned is the one that is called, from the next event on."""
    channel = Channel()
    first, second = Calls(), Calls()
    first.watch(channel.presence)
    channel.presence.on_join = lambda *_: second.watch(channel.presence)

    channel.presence.receive_state(state({"alice": ["1"]}))
    channel.presence.receive_diff(diff(leaves={"alice": ["1"]}))

    assert first == [("sync",)]
    assert second == [("leave", "alice", [], ["1"]), ("sync",)]


def test_a_callback_sees_the_state_as_phoenix_shows_it() -> None:
    """A callback lists the old state during a state and the half applied one during a diff."""
    presence = ClientPresence(lambda: "3")
    seen: list[list[str]] = []
    presence.on_join = lambda *_: seen.append(own_keys(presence.state))
    presence.on_leave = lambda *_: seen.append(own_keys(presence.state))

    presence.receive_state(state(ALICE_AND_BOB))
    presence.receive_diff(diff(joins={"carol": ["3"]}, leaves={"alice": ["1"]}))

    assert seen == [[], [], ["alice", "bob", "carol"], ["alice", "bob", "carol"]]
    assert own_keys(presence.state) == ["bob", "carol"]


def test_a_payload_is_copied_at_reception() -> None:
    """Two clients that are given one payload do not share it."""
    payload, waiting = state({"alice": ["1"]}), diff(joins={"bob": ["2"]})
    one, other = Channel().presence, Channel().presence
    for presence in (one, other):
        presence.receive_diff(waiting)
    waiting["joins"]["bob"]["metas"].clear()
    for presence in (one, other):
        presence.receive_state(payload)
    one.receive_diff(diff(leaves=ALICE_AND_BOB))

    assert one.list() == []
    assert other.list() == [entry("1"), entry("2")]
    assert payload == state({"alice": ["1"]})


# list.


def test_list_goes_by_the_order_of_a_javascript_object() -> None:
    """Array indices come first, ascending; the other keys follow in the order they came."""
    presence = Channel().presence
    keys = ["bob", "10", "01", "9", "4294967295", "4294967294", "-1", "0", "alice"]
    presence.receive_state(state({key: [key] for key in keys}))

    listed = presence.list(lambda key, _entry: key)

    assert listed == [
        *["0", "9", "10", "4294967294"],
        *["bob", "01", "4294967295", "-1", "alice"],
    ]


def test_list_keeps_the_place_of_an_update_and_not_of_a_return() -> None:
    """A key keeps its place through an update and goes last when it left and came back."""
    presence = Channel().presence
    presence.receive_state(state(ALICE_AND_BOB))
    presence.receive_diff(diff(joins={"alice": ["3"]}, leaves={"alice": ["1"]}))

    assert presence.list(lambda key, _entry: key) == ["alice", "bob"]

    presence.receive_diff(diff(leaves={"alice": ["3"]}))
    presence.receive_diff(diff(joins={"alice": ["4"]}))

    assert presence.list(lambda key, _entry: key) == ["bob", "alice"]


@pytest.mark.parametrize("key", ["__proto__", "constructor", "hasOwnProperty", ""])
def test_any_string_is_an_ordinary_key(key: str) -> None:
    """The names of JavaScript's own properties join and leave as any other key."""
    channel = Channel()
    channel.presence.receive_state(state({key: ["1"]}))
    channel.presence.receive_diff(diff(leaves={key: ["1"]}))

    assert channel.calls == [
        ("join", key, None, ["1"]),
        ("sync",),
        ("leave", key, [], ["1"]),
        ("sync",),
    ]
    assert channel.presence.list() == []


# The hand-written client.


def test_the_hand_written_client_shows_a_ghost_after_an_early_leave() -> None:
    """Without the queue a leave that overtakes the state is lost and the state revives it."""
    presence, calls = HandWrittenPresence(), Calls()
    calls.watch(presence)
    presence.receive_diff(diff(leaves={"bob": ["2"]}))
    presence.receive_state(state(ALICE_AND_BOB))

    assert presence.list() == [entry("1"), entry("2")]
    assert calls == [
        ("sync",),
        ("join", "alice", None, ["1"]),
        ("join", "bob", None, ["2"]),
        ("sync",),
    ]


def test_the_hand_written_client_loses_an_early_join() -> None:
    """Without the queue a join that overtakes an older state is undone by it."""
    presence, calls = HandWrittenPresence(), Calls()
    calls.watch(presence)
    presence.receive_diff(diff(joins={"bob": ["2"]}))
    presence.receive_state(state({"alice": ["1"]}))

    assert presence.list() == [entry("1")]
    assert calls == [
        ("join", "bob", None, ["2"]),
        ("sync",),
        ("join", "alice", None, ["1"]),
        ("leave", "bob", [], ["2"]),
        ("sync",),
    ]
