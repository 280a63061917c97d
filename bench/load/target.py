"""What a scenario is given, and what it hands back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.load.crowd import Conversation, Entry
from bench.load.dialects import Dialect
from bench.load.shares import Shares

__all__ = ["Measured", "Target", "entry", "percentile"]


@dataclass(frozen=True)
class Target:
    """A server that answers.

    Args:
        url: Where.
        dialect: How one talks to it.
        has_presence: ``room:*`` are topics with presence.
        pids: Its processes, without their children; none if it is somebody else's.
    """

    url: str
    dialect: Dialect
    has_presence: bool
    pids: Sequence[int] = ()


@dataclass(frozen=True)
class Measured:
    """What a scenario has found, once all was received that should have been.

    Args:
        figures: By name, in the units of the scenario's columns.
        shares: How busy both sides were meanwhile.
    """

    figures: Mapping[str, float]
    shares: Shares


def entry(
    target: Target,
    user: str,
    topics: Sequence[str],
    on_message: Callable[[bytes], None] | None = None,
    until: Callable[[], bool] | None = None,
    *,
    greets: bool = True,
) -> Entry:
    """Connect as ``user`` and join ``topics`` one after the other, then wait for ``until``."""

    def conversation() -> Conversation:
        if greets:
            yield from target.dialect.greet()
        for topic in topics:
            yield from target.dialect.join(topic)
        while until is not None and not until():
            yield b""

    return Entry(target.dialect.target(user), conversation(), on_message)


def percentile(counts: Mapping[int, int], share: float) -> int:
    """The value below which ``share`` of all counted values are.

    Example:
        >>> percentile({3: 98, 50: 2}, 0.5), percentile({3: 98, 50: 2}, 0.99)
        (3, 50)
    """
    rest = share * sum(counts.values())
    for value in sorted(counts):
        rest -= counts[value]
        if rest <= 0:
            return value
    raise ValueError("nothing was counted")
