"""What a client knows of the presences of one topic, by the rules of phoenix.js.

Theory of operation. The server sends ``presence_state``, the whole list, once after each join, and
``presence_diff``, ``{"joins": …, "leaves": …}``, on each change. Both map keys to entries; an entry
has ``metas``, each of which is known by its ``phx_ref`` alone, and whatever else the server's
``fetch`` added. A diff makes sense only on top of a state. So the mirror is in one of three phases:

::

      not joined ──── joined ────▶ waiting ──── state ────▶ synced
          ▲                           │                        │
          └───────── rejoining ───────┴────────────────────────┘

- not joined: what comes belongs to an earlier join, as the reply to a join comes before anything
  else of it. It is dropped: the state to come knows better.
- waiting: diffs wait for the state, and are applied after it. A channel may never send one; so
  there is a bound, beyond which the oldest are dropped, which the state will have.
- synced: diffs are applied as they come; another state is, too.

The list stays as it was until the next state, whose differences from it are told as changes: who
reconnects within a second sees nobody leave and come back.

Departure from phoenix.js: that one keeps diffs of an earlier join and applies them after the state
of the newer one, by which it may show somebody who is gone. Here they are dropped.

A topic that has grown too large sends ``presence_count`` instead of diffs, and an empty list (see
``roost.Policy``). The counts of the mirror are those, until a list comes again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Final, Literal, TypeAlias, TypedDict

import msgspec

from roost.exceptions import InvalidMessage

__all__ = ["Change", "Entry", "Mirror"]

MAX_WAITING_COUNT: Final = 1_000  # diffs

Entry: TypeAlias = dict[str, Any]
"""What is known of one key: ``metas``, a list, and fields that the server added."""


class Change(msgspec.Struct, frozen=True):
    """One key, of which metas joined or left.

    Args:
        kind: ``"join"`` or ``"leave"``.
        key: Whose.
        current: Of a join: the entry before it, None for a key that was not there. Of a leave: the
            entry after it; its metas are empty if it was the last.
        entry: What joined or left: an entry with those metas alone.
    """

    kind: Literal["join", "leave"]
    key: str
    current: Entry | None
    entry: Entry


class Mirror:
    """The presences of one topic.

    Example:
        >>> mirror = Mirror()
        >>> mirror.joined()
        >>> changes = mirror.receive_state({"alice": {"metas": [{"phx_ref": "1"}]}})
        >>> [(change.kind, change.key) for change in changes]
        [('join', 'alice')]
        >>> mirror.user_count
        1
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.is_synced = False
        self._is_joined = False
        self._waiting: deque[_Diff] = deque(maxlen=MAX_WAITING_COUNT)
        self._counts: _Counts | None = None
        self._counts_are_old = False

    @property
    def user_count(self) -> int:
        """How many keys there are."""
        return len(self.entries) if self._counts is None else self._counts["users"]

    @property
    def connection_count(self) -> int:
        """How many metas there are."""
        if self._counts is not None:
            return self._counts["connections"]
        return sum(len(entry["metas"]) for entry in self.entries.values())

    # From the channel.

    def joined(self) -> None:
        """A join was accepted: what comes from now on is of that one."""
        self._is_joined = True
        self.is_synced = False
        self._counts_are_old = True
        self._waiting.clear()

    def rejoining(self) -> None:
        """The channel was lost: what comes until the next ``joined`` is out of date."""
        self._is_joined = self.is_synced = False
        self._waiting.clear()

    # From the server. A payload is given away: it must not be changed by others.

    def receive_state(self, payload: Any) -> list[Change]:
        """Take a whole list, then what waited for it; return what has changed.

        Raises:
            InvalidMessage: It is no list of presences; nothing has changed.
        """
        _check(payload, _Presences, "a list of presences")
        if not self._is_joined:
            return []
        changes = self._apply(_difference(self.entries, payload))
        while self._waiting:
            changes += self._apply(self._waiting.popleft())
        self.is_synced = True
        if payload or self._counts_are_old:
            self._counts = None
        return changes

    def receive_diff(self, payload: Any) -> list[Change] | None:
        """Take a diff; return what has changed, or None if it waits or was dropped.

        Raises:
            InvalidMessage: It is no diff; nothing has changed.
        """
        _check(payload, _CheckedDiff, "joins and leaves of presences")
        if self.is_synced:
            self._counts = None
            return self._apply(payload)
        if self._is_joined:
            self._waiting.append(payload)
        return None

    def receive_count(self, payload: Any) -> bool:
        """Take the counts of a large topic; tell whether they are of the present join.

        Raises:
            InvalidMessage: They are no counts.
        """
        _check(payload, _Counts, "counts of users and connections")
        if self._is_joined:
            self._counts = payload
            self._counts_are_old = False
        return self._is_joined

    def _apply(self, diff: _Diff) -> list[Change]:
        """Joins before leaves, so that a key stays through an update, which is one of each."""
        changes = [self._join(key, entry) for key, entry in diff["joins"].items()]
        for key, entry in diff["leaves"].items():
            if key in self.entries:
                changes.append(self._leave(key, entry))
        return changes

    def _join(self, key: str, entry: Entry) -> Change:
        """The other metas that there were come before those that joined."""
        current = self.entries.get(key)
        metas = entry["metas"]
        if current is not None:
            metas = _without(current["metas"], metas) + metas
        self.entries[key] = {**entry, "metas": metas}
        return Change("join", key, current, entry)

    def _leave(self, key: str, entry: Entry) -> Change:
        current = self.entries[key]
        current = {**current, "metas": _without(current["metas"], entry["metas"])}
        if current["metas"]:
            self.entries[key] = current
        else:
            del self.entries[key]
        return Change("leave", key, current, entry)


def _difference(old: dict[str, Entry], new: dict[str, Entry]) -> _Diff:
    """What must join and leave to get from one list to the other, by refs."""
    joins: dict[str, Entry] = {}
    leaves = {key: entry for key, entry in old.items() if key not in new}
    for key, entry in new.items():
        current = old.get(key)
        if current is None:
            joins[key] = entry
            continue
        joined = _without(entry["metas"], current["metas"])
        left = _without(current["metas"], entry["metas"])
        if joined:
            joins[key] = {**entry, "metas": joined}
        if left:
            leaves[key] = {**current, "metas": left}
    return {"joins": joins, "leaves": leaves}


def _without(metas: Iterable[Entry], others: Iterable[Entry]) -> list[Entry]:
    refs = {meta["phx_ref"] for meta in others}
    return [meta for meta in metas if meta["phx_ref"] not in refs]


# What payloads must have; they may have more.


class _Meta(TypedDict):
    phx_ref: str


class _Metas(TypedDict):
    metas: list[_Meta]


_Presences: Final = dict[str, _Metas]


class _Diff(TypedDict):
    joins: dict[str, Entry]
    leaves: dict[str, Entry]


class _CheckedDiff(TypedDict):
    joins: dict[str, _Metas]
    leaves: dict[str, _Metas]


class _Counts(TypedDict):
    users: int
    connections: int


def _check(payload: Any, form: Any, expected: str) -> None:
    try:
        msgspec.convert(payload, form)
    except msgspec.ValidationError as error:
        raise InvalidMessage(expected, str(error)) from error
