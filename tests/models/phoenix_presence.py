"""Model the client side of presence as phoenix.js has it, as an oracle for tests.

Theory of operation. The server sends two events. `presence_state` is the whole list, pushed
once after each join; `presence_diff` is `{"joins": ..., "leaves": ...}`, broadcast on each
change. Both map a key to an entry; an entry holds `metas`, a list of metas, and any field the
server's fetch added; a meta is known by its `phx_ref` alone. The client folds both events into
one mirror, `state`, and tells the differences through three callbacks.

A diff makes sense only on top of the state it changes. So `ClientPresence` remembers the
join_ref under which its last state came. While that differs from the channel's join_ref (before
the first state, and from a rejoin until the next state) diffs wait in `pending_diffs`; the next
state is applied first, the waiting diffs after it. `HandWrittenPresence` has no such guard.

What must change together: a new state sets `join_ref`, `state` and empties `pending_diffs`.

There are three sets of rules, named by the version that began with them; everything above is so in
all of them but for the oldest, which has no class and no queue, and is used as
`HandWrittenPresence` is:

- 1.2 (and 1.3): a joined meta is added to those that are known, whether or not its `phx_ref` is
  known. Who is told of a ref twice has it twice, for as long as it is there.
- 1.4 (and 1.5): a known ref is replaced. On_join gets the whole entry after the join.
- 1.8 (and from 1.6 on): on_join gets what joined alone.

Outside the model: the channel drops a message whose own join_ref is set and is not the
channel's (`isMember`). Hence a late state of an earlier join must not reach `receive_state`,
while a late diff does reach `receive_diff`, as broadcasts carry no join_ref.

Departures from phoenix.js, both on the side of the tests: `sync_state` and `sync_diff` change
none of their arguments, and a meta without `phx_ref` or an entry without `metas` is a KeyError,
as only a broken server sends one.
"""

import builtins
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar, cast, overload

__all__ = [
    "ClientPresence",
    "Diff",
    "Entry",
    "HandWrittenPresence",
    "Meta",
    "OnJoin",
    "OnLeave",
    "OnSync",
    "Rules",
    "State",
    "own_keys",
    "sync_diff",
    "sync_state",
]

T = TypeVar("T")

Meta = dict[str, Any]
Entry = dict[str, Any]  # "metas": list[Meta], and other fields.
State = dict[str, Entry]
Diff = Mapping[str, State]  # "joins" and "leaves".

OnJoin = Callable[[str, Entry | None, Entry], object]
OnLeave = Callable[[str, Entry, Entry], object]
OnSync = Callable[[], object]

Rules = Literal["1.2", "1.4", "1.8"]

ARRAY_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")
MAX_ARRAY_INDEX = 2**32 - 2  # ECMA-262, "array index".


def sync_state(
    state: State,
    new_state: State,
    on_join: OnJoin | None = None,
    on_leave: OnLeave | None = None,
    rules: Rules = "1.8",
) -> State:
    """Return `state` brought to `new_state` by the smallest diff between both.

    The rule is: compute what joined and what left by `phx_ref`, then go on as `sync_diff`. So a
    retained meta keeps its old content and place, new metas follow the retained ones, and the
    other fields of an entry are refreshed only when one of its metas joined.

    Neither argument is changed; phoenix.js cuts the metas of `new_state` to the joined ones.

    >>> old = {"alice": {"metas": [{"phx_ref": "1"}]}, "bob": {"metas": [{"phx_ref": "2"}]}}
    >>> sync_state(old, {"alice": {"metas": [{"phx_ref": "3"}, {"phx_ref": "1"}]}})
    {'alice': {'metas': [{'phx_ref': '1'}, {'phx_ref': '3'}]}}
    """
    synced, incoming = _clone(state), _clone(new_state)
    joins: State = {}
    # A key that the new state lacks leaves with its whole entry.
    leaves: State = {key: entry for key, entry in synced.items() if key not in incoming}
    for key, entry in incoming.items():
        current = synced.get(key)
        if current is None:
            # An unknown key joins with its whole entry, even one without metas.
            joins[key] = entry
            continue
        # A known key takes part only with the metas that differ. The joins carry the new
        # entry's fields, the leaves those of the current one.
        joined_metas = _without(entry["metas"], current["metas"])
        left_metas = _without(current["metas"], entry["metas"])
        if joined_metas:
            joins[key] = {**entry, "metas": joined_metas}
        if left_metas:
            leaves[key] = {**current, "metas": left_metas}
    _apply_diff(synced, {"joins": joins, "leaves": leaves}, on_join, on_leave, rules)
    return synced


def sync_diff(
    state: State,
    diff: Diff,
    on_join: OnJoin | None = None,
    on_leave: OnLeave | None = None,
    rules: Rules = "1.8",
) -> State:
    """Return `state` with the joins of `diff` applied, then its leaves.

    `on_join(key, current, joined)` gets the entry before the join (None for an unknown key) and
    the entry of the diff, with the joined metas alone. `on_leave(key, current, left)` gets the
    entry after the leave (its metas may be empty) and the entry of the diff.

    Neither argument is changed; phoenix.js changes `state` in place, which only someone who
    holds it can tell. `ClientPresence` does it in place too, as its callbacks hold it.

    >>> sync_diff(
    ...     {"alice": {"metas": [{"phx_ref": "1"}]}},
    ...     {
    ...         "joins": {"alice": {"metas": [{"phx_ref": "2"}]}},
    ...         "leaves": {"alice": {"metas": [{"phx_ref": "1"}]}},
    ...     },
    ...     on_join=lambda key, current, joined: print("join", key),
    ...     on_leave=lambda key, current, left: print("leave", key),
    ... )
    join alice
    leave alice
    {'alice': {'metas': [{'phx_ref': '2'}]}}
    """
    synced = _clone(state)
    _apply_diff(synced, diff, on_join, on_leave, rules)
    return synced


def own_keys(entries: Mapping[str, object]) -> list[str]:
    """Return the keys in the order of a JavaScript object.

    The rule is: array indices first, ascending; then the others as they were inserted. A key
    that is replaced keeps its place, one that is deleted and set again goes last, as in a dict.

    >>> own_keys({"b": 0, "10": 0, "a": 0, "9": 0, "01": 0})
    ['9', '10', 'b', 'a', '01']
    """
    indices = sorted((key for key in entries if _is_array_index(key)), key=int)
    return indices + [key for key in entries if not _is_array_index(key)]


class _Mirror:
    """Hold what both clients share: the state, the callbacks and the listing."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.state: State = {}
        self.on_join: OnJoin | None = None
        self.on_leave: OnLeave | None = None
        self.on_sync: OnSync | None = None

    @overload
    def list(self) -> builtins.list[Entry]: ...

    @overload
    def list(self, by: Callable[[str, Entry], T]) -> builtins.list[T]: ...

    def list(self, by: Callable[[str, Entry], Any] = lambda _key, entry: entry) -> Any:
        """Return `by(key, entry)` of each entry, by default the entry, in `own_keys` order."""
        return [by(key, self.state[key]) for key in own_keys(self.state)]


class ClientPresence(_Mirror):
    """Mirror the presences of one channel, as `new Presence(channel)` does.

    Assign `on_join`, `on_leave` and `on_sync` as you like; there is one callback of each and
    None means no call. The callbacks of an event are those assigned when it arrives. A callback
    that looks at `state` sees, as in phoenix.js, the old state while a new state is applied, and
    a half applied one while a diff is.

    Payloads are copied through JSON at reception: each client decodes its own frame.

    Args:
        join_ref: Tells the channel's join_ref of this moment; None before the first join.
        rules: Of 1.4 or later.

    >>> presence = ClientPresence(lambda: "3")
    >>> presence.receive_diff({"joins": {}, "leaves": {"bob": {"metas": [{"phx_ref": "2"}]}}})
    >>> len(presence.pending_diffs)
    1
    >>> presence.receive_state({
    ...     "alice": {"metas": [{"phx_ref": "1"}]},
    ...     "bob": {"metas": [{"phx_ref": "2"}]},
    ... })
    >>> presence.list(lambda key, entry: key)
    ['alice']
    """

    def __init__(self, join_ref: Callable[[], str | None], rules: Rules = "1.8") -> None:
        super().__init__(rules)
        self.join_ref: str | None = None
        self.pending_diffs: builtins.list[Diff] = []
        self._channel_join_ref = join_ref

    @property
    def is_pending(self) -> bool:
        """Tell whether diffs wait: no state has come yet under the channel's join_ref."""
        return self.join_ref is None or self.join_ref != self._channel_join_ref()

    def receive_state(self, payload: State) -> None:
        """Take a `presence_state`: the state, then each waiting diff, then one on_sync.

        Diffs that wait since an earlier join are applied as well. Their leaves are of unknown
        refs and harmless; a join of theirs may bring back a presence that is gone.
        """
        on_join, on_leave, on_sync = self.on_join, self.on_leave, self.on_sync
        self.join_ref = self._channel_join_ref()
        self.state = sync_state(self.state, payload, on_join, on_leave, self.rules)
        for diff in tuple(self.pending_diffs):
            _apply_diff(self.state, diff, on_join, on_leave, self.rules)
        self.pending_diffs = []
        if on_sync:
            on_sync()

    def receive_diff(self, payload: Diff) -> None:
        """Take a `presence_diff`: queue it without any callback, or apply it and on_sync."""
        on_sync = self.on_sync
        if self.is_pending:
            self.pending_diffs.append(_clone(payload))
            return
        _apply_diff(self.state, payload, self.on_join, self.on_leave, self.rules)
        if on_sync:
            on_sync()


class HandWrittenPresence(_Mirror):
    """Mirror presences as the tutorial's client does, without a queue.

    It calls `syncState` and `syncDiff` as the events arrive and renders after each, which is
    `on_sync` here. So of a diff that overtakes the state, a leave is lost (the key is unknown
    yet, then the state brings it) and a join is undone (if the state lacks it).

    The tutorial starts from `{}`, an object with a prototype, which the very first `syncDiff`
    copies: only a callback of that one event could tell it from this model.
    """

    def __init__(self, rules: Rules = "1.8") -> None:
        super().__init__(rules)

    def receive_state(self, payload: State) -> None:
        """Apply a `presence_state` at once, then on_sync."""
        on_sync = self.on_sync
        self.state = sync_state(self.state, payload, self.on_join, self.on_leave, self.rules)
        if on_sync:
            on_sync()

    def receive_diff(self, payload: Diff) -> None:
        """Apply a `presence_diff` at once, then on_sync."""
        on_sync = self.on_sync
        _apply_diff(self.state, payload, self.on_join, self.on_leave, self.rules)
        if on_sync:
            on_sync()


def _apply_diff(
    state: State, diff: Diff, on_join: OnJoin | None, on_leave: OnLeave | None, rules: Rules
) -> None:
    """Apply a copy of `diff` to `state` in place: all joins before all leaves.

    That order keeps a key in the state through an update, which leaves the old meta and joins
    the new one in a single diff.
    """
    diff = _clone(diff)
    joins, leaves = diff["joins"], diff["leaves"]
    for key in own_keys(joins):
        _join(state, key, joins[key], on_join, rules)
    for key in own_keys(leaves):
        _leave(state, key, leaves[key], on_leave)


def _join(state: State, key: str, joined: Entry, on_join: OnJoin | None, rules: Rules) -> None:
    """Replace the entry by the joined one, with the other current metas before the joined.

    A joined meta with a known `phx_ref` takes the place of the known one, at the end; on_join
    is called for it all the same. The current entry itself stays as it was, for on_join.
    """
    current = state.get(key)
    entry = _clone(joined)
    if current is not None:
        replaced = [] if rules == "1.2" else joined["metas"]
        entry["metas"] = _without(current["metas"], replaced) + entry["metas"]
    state[key] = entry
    if on_join:
        on_join(key, current, joined if rules == "1.8" else entry)


def _leave(state: State, key: str, left: Entry, on_leave: OnLeave | None) -> None:
    """Take the left metas out of the entry; call on_leave; then drop an entry without metas.

    An unknown key is ignored without a call. A known key is told even if no meta matched.
    """
    current = state.get(key)
    if current is None:
        return
    current["metas"] = _without(current["metas"], left["metas"])
    if on_leave:
        on_leave(key, current, left)
    if not current["metas"]:
        state.pop(key, None)


def _without(metas: Iterable[Meta], others: Iterable[Meta]) -> list[Meta]:
    refs = {meta["phx_ref"] for meta in others}
    return [meta for meta in metas if meta["phx_ref"] not in refs]


def _is_array_index(key: str) -> bool:
    return ARRAY_INDEX.fullmatch(key) is not None and int(key) <= MAX_ARRAY_INDEX


def _clone(value: T) -> T:
    # JSON and not deepcopy, so that what could not come over the wire fails here.
    return cast(T, json.loads(json.dumps(value, allow_nan=False)))
