"""Presence lists as clients keep them, cheaply enough for a thousand clients in one process.

Clients of one room are sent the same bytes, so each message is decoded once for all of them. A list
is a set of (key, phx_ref): a state replaces it, a diff adds and removes; a diff that comes before
the state waits for it, as in phoenix.js.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from bench.load.expected import Lost

__all__ = ["Reader", "Roll"]

Listed = frozenset[tuple[str, str]]

_PRESENCE: Final = b'"presence_'
_HEAD_SIZE: Final = 300  # bytes in which a message says what it is


@dataclass(frozen=True)
class _Change:
    is_state: bool
    topic: str
    joins: Listed
    leaves: Listed


def _listed(presences: Mapping[str, Any]) -> Listed:
    return frozenset(
        (key, meta["phx_ref"]) for key, value in presences.items() for meta in value["metas"]
    )


class Reader:
    """Decodes for many lists, counts what they receive, and knows how many have reached a size.

    Attributes:
        message_count, size: Of all text messages, in bytes without the headers of frames.
        reached_count: Lists that have as many members as was asked for.
    """

    def __init__(self) -> None:
        self._changes: dict[bytes, _Change | None] = {}
        self.message_count = 0
        self.size = 0
        self.goal = -1
        self.reached_count = 0

    def aim(self, rolls: Iterable[Roll], goal: int) -> None:
        """From now on count the lists among ``rolls``, the only open ones, that have ``goal``."""
        self.goal = goal
        self.reached_count = sum(len(roll.listed) == goal for roll in rolls)
        self.message_count = self.size = 0

    def read(self, message: bytes) -> _Change | None:
        self.message_count += 1
        self.size += len(message)
        if _PRESENCE not in message[:_HEAD_SIZE]:
            return None
        try:
            return self._changes[message]
        except KeyError:
            pass
        change = self._changes[message] = self._decode(message)
        return change

    def _decode(self, message: bytes) -> _Change | None:
        _, _, topic, event, payload = msgspec.json.decode(message)
        if event == "presence_state":
            return _Change(True, topic, _listed(payload), frozenset())
        if event == "presence_diff":
            return _Change(False, topic, _listed(payload["joins"]), _listed(payload["leaves"]))
        return None


class Roll:
    """One client's list of one topic.

    Args:
        reader: Shared with others.
        topic: Whose.
        key: Under which the client itself is listed.
    """

    __slots__ = ("_early", "_has_state", "_reader", "_topic", "key", "listed")

    def __init__(self, reader: Reader, topic: str, key: str) -> None:
        self._reader = reader
        self._topic = topic
        self.key = key
        self._has_state = False
        self._early: list[_Change] = []
        self.listed: set[tuple[str, str]] = set()

    def receive(self, message: bytes) -> None:
        """Take a text message of the server."""
        change = self._reader.read(message)
        if change is None or change.topic != self._topic:
            return
        had = len(self.listed) == self._reader.goal
        if change.is_state:
            self.listed = set(change.joins)
            self._has_state = True
            for early in self._early:
                self._apply(early)
            self._early.clear()
        elif self._has_state:
            self._apply(change)
        else:
            self._early.append(change)
        self._reader.reached_count += (len(self.listed) == self._reader.goal) - had

    def _apply(self, change: _Change) -> None:
        self.listed |= change.joins
        self.listed -= change.leaves

    def is_in(self) -> bool:
        """The client sees itself."""
        return any(key == self.key for key, _ in self.listed)

    def check(self, others: Roll, keys: Iterable[str]) -> None:
        """See that this list is another's, and that it has exactly ``keys``, once each."""
        expected = sorted(keys)
        if sorted(key for key, _ in self.listed) != expected:
            found = len(self.listed)
            raise Lost(f"{self.key} lists {found} rather than exactly {len(expected)} members")
        if self.listed != others.listed:
            raise Lost(f"{self.key} and {others.key} have different lists")
