"""The list of a topic's presences: immutable, lazy, and the bytes of ``presence_state``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

from roost.wire.payload import JsonPayload

__all__ = ["PresenceList"]


OnPush: TypeAlias = Callable[["PresenceList", object, str], Sequence[tuple[str, JsonPayload]]]


class PresenceList(JsonPayload, Mapping[str, Any]):
    """Key → entry of everybody in a topic at one version; an entry has ``metas``.

    Push it as ``presence_state`` and its bytes are written unchanged; look into it and they are
    decoded, once. Its order is that of the keys' arrival.

    It is a mapping, and no dict, since a dict can't be lazy: ``encoded`` is its JSON, and what
    wants a dict, as ``json.dumps`` does, gets ``dict(presences)``. A deep copy may be changed; a
    pickle is for other processes, where it can be read.

    Attributes:
        topic: The topic.
        version: Counts the visible changes of this node; a later list has a higher one.

    Example:
        >>> alice = PresenceList(b'{"alice":{"metas":[{"phx_ref":"F1"}]}}', "room:1", 1)
        >>> list(alice), alice["alice"]["metas"][0]["phx_ref"]
        (['alice'], 'F1')
    """

    def __init__(
        self,
        encoded: bytes,
        topic: str,
        version: int,
        on_push: OnPush | None = None,
    ) -> None:
        super().__init__(encoded)
        self.topic = topic
        self.version = version
        self._on_push = on_push

    @cached_property
    def _entries(self) -> dict[str, Any]:
        entries: dict[str, Any] = self.decode()
        return entries

    def __getitem__(self, key: str) -> Any:
        return self._entries[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __eq__(self, other: object) -> bool:
        return Mapping.__eq__(self, other)

    __hash__ = None  # type: ignore[assignment]  # equal to dicts, which have none

    def pushed_as(self, subscription: object, event: str) -> Sequence[tuple[str, JsonPayload]]:
        if self._on_push is None:
            return super().pushed_as(subscription, event)
        return self._on_push(self, subscription, event)

    def __copy__(self) -> PresenceList:
        return self

    def __deepcopy__(self, memo: object) -> PresenceList:
        return PresenceList(self.encoded, self.topic, self.version, self._on_push)

    def __reduce__(self) -> tuple[type[PresenceList], tuple[bytes, str, int]]:
        return PresenceList, (self.encoded, self.topic, self.version)

    def __repr__(self) -> str:
        return f"PresenceList({self._entries!r}, topic={self.topic!r}, version={self.version})"
