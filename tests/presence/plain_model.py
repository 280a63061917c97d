"""What should be visible, and what should be told, by the plainest rules: lists and loops."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from roost import Join, Leave, Policy, Update

__all__ = ["Held", "Model", "Told", "told_of"]

Told = tuple[Any, ...]
"""("join", n, is_first), ("update", n, old n) or ("leave", n, is_last)."""


@dataclass
class Held:
    """One presence: its owner, where, who, what, and until when it is held without its owner."""

    owner: Any
    topic: str
    key: str
    n: int | None
    hidden: bool
    ref: str = ""
    until: float | None = None
    ended: int = 0  # the how-manieth owner to end had it; some end at one instant


@dataclass
class Model:
    """Everything that is tracked, in the order of its arrival.

    Args:
        policies: The policy of each topic.
    """

    policies: dict[str, Policy]
    held: list[Held] = field(default_factory=list)
    told: dict[tuple[str, str], list[Told]] = field(default_factory=dict)
    ended_count: int = 0

    # What there is.

    def visible(self, topic: str, key: str | None = None) -> list[Held]:
        return [
            each
            for each in self.held
            if each.topic == topic and not each.hidden and key in (None, each.key)
        ]

    def hidden(self, topic: str) -> list[Held]:
        return [each for each in self.held if each.topic == topic and each.hidden]

    def keys(self, topic: str) -> set[str]:
        return {each.key for each in self.visible(topic)}

    def refs(self, topic: str) -> dict[str, set[str]]:
        return {key: {each.ref for each in self.visible(topic, key)} for key in self.keys(topic)}

    def find(self, owner: Any, topic: str, key: str) -> Held | None:
        for each in self.held:
            if each.owner is owner and (each.topic, each.key) == (topic, key):
                return each
        return None

    def is_full_for(self, topic: str, key: str) -> bool:
        bound = self.policies[topic].max_members
        return bound is not None and key not in self.keys(topic) and len(self.keys(topic)) >= bound

    # What happens.

    def track(self, owner: Any, topic: str, key: str, n: int, *, hidden: bool) -> Held:
        """The presence that ``owner`` has now; its ref is empty if it must be a new one."""
        kept = n if self.policies[topic].keep_metas else None
        if not hidden:
            waiting = [each for each in self.visible(topic, key) if each.until is not None]
            waiting.sort(key=lambda each: each.ended)
            for returned in [each for each in waiting if each.n == kept] or waiting[:1]:
                returned.owner, returned.until = owner, None
                if returned.n != kept:
                    self.update(returned, n)
                return returned
        new = Held(owner, topic, key, kept, hidden)
        self._appear(new)
        return new

    def update(self, held: Held, n: int) -> None:
        if not self.policies[held.topic].keep_metas:
            return
        if not held.hidden:
            self._tell(held, "update", n, held.n)
        held.n, held.ref = n, ""
        self.held.remove(held)
        self.held.append(held)

    def renewed(self) -> None:
        """The node has a new id: each visible presence is told as an update."""
        for held in self.held:
            if not held.hidden:
                self._tell(held, "update", held.n, held.n)

    def remove(self, held: Held) -> None:
        self.held.remove(held)
        if not held.hidden:
            self._tell(held, "leave", held.n, not self.visible(held.topic, held.key))

    def set_hidden(self, held: Held, *, hidden: bool) -> None:
        if held.hidden is not hidden:
            self.remove(held)
            held.hidden, held.ref = hidden, ""
            self._appear(held)

    def end(self, owner: Any, now: float) -> None:
        self.ended_count += 1
        for held in [each for each in self.held if each.owner is owner]:
            grace = self.policies[held.topic].leave_grace
            if held.hidden or not grace:
                self.remove(held)
            else:
                held.owner, held.until, held.ended = None, now + grace, self.ended_count

    def pass_time(self, now: float) -> None:
        over = [each for each in self.held if each.until is not None and each.until <= now]
        for held in sorted(over, key=lambda each: each.until or 0.0):
            self.remove(held)

    def _appear(self, held: Held) -> None:
        if not held.hidden:
            self._tell(held, "join", held.n, not self.visible(held.topic, held.key))
        self.held.append(held)

    def _tell(self, held: Held, *told: Any) -> None:
        self.told.setdefault((held.topic, held.key), []).append(told)


def told_of(change: Join | Update | Leave) -> Told:
    """A change as the model has it."""
    match change:
        case Join(meta=meta, is_first=is_first):
            return ("join", meta.get("n"), is_first)
        case Update(meta=meta, old_meta=old):
            return ("update", meta.get("n"), old.get("n"))
        case Leave(meta=meta, is_last=is_last):
            return ("leave", meta.get("n"), is_last)
