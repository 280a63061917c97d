"""The network of a simulation: which links carry messages, and what it does to them.

A link is a pair of places, (source, target), and has one direction. Whatever the network does to a
message is drawn from the generator of the simulation; a fault that is off draws nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

import msgspec

from roost.tracker.messages import TrackerMessage

__all__ = ["Faults", "HeldMessages", "Link", "Network", "Sent"]

Link = tuple[str, str]
"""From where, and to where."""

Sent = tuple[str, str, TrackerMessage]
"""From where, to where, and what."""


class Faults(msgspec.Struct, kw_only=True):
    """What the network does to messages.

    Args:
        min_delay: Seconds that a message takes at least.
        max_delay: Seconds that it takes at most.
        loss: Probability that it is lost.
        duplication: Probability that it arrives twice.
        reordering: Whether messages of one link overtake each other.
        hints: Whether nodes get hints of links that die, and after how many seconds.
    """

    min_delay: float = 0.0005
    max_delay: float = 0.005
    loss: float = 0.0
    duplication: float = 0.0
    reordering: bool = False
    hints: float | None = None


class HeldMessages:
    """Messages that the network holds for as long as the scenario says.

    Args:
        arrive: Lets a message arrive at a place.
        kinds: Types of the messages; none: all.
        source: Place that they are sent from; None: any.
        target: Place that they are for; None: any.
        copies: They arrive all the same, and only copies are held.

    Attributes:
        messages: (source, target, message), in the order in which they were sent.
    """

    def __init__(
        self,
        arrive: Callable[[str, TrackerMessage], None],
        kinds: tuple[type[TrackerMessage], ...],
        source: str | None,
        target: str | None,
        *,
        copies: bool,
    ) -> None:
        self.messages: list[Sent] = []
        self.copies = copies
        self._arrive = arrive
        self._kinds = kinds
        self._source = source
        self._target = target
        self._is_open = True

    def matches(self, source: str, target: str, message: TrackerMessage) -> bool:
        return (
            self._is_open
            and (not self._kinds or isinstance(message, self._kinds))
            and self._source in (None, source)
            and self._target in (None, target)
        )

    def stop(self) -> None:
        """Hold no more; what is held stays."""
        self._is_open = False

    def deliver(self) -> None:
        """All that is held arrives, in order; a second call delivers it again."""
        for _, target, message in list(self.messages):
            self._arrive(target, message)

    def release(self) -> None:
        """Hold no more, and deliver what is held."""
        self.stop()
        self.deliver()


class Network:
    """Links between places, and their faults.

    Args:
        rng: All chance.
        faults: What every link does to messages.

    Attributes:
        longest_delay: The longest time that a message took so far, in seconds.
    """

    def __init__(self, rng: random.Random, faults: Faults) -> None:
        self.faults = faults
        self.longest_delay = 0.0
        self._rng = rng
        self._cut: set[Link] = set()
        self._slow: dict[Link, float] = {}
        self._frozen: set[Link] = set()
        self._waiting: list[Sent] = []
        self._arrives_at: dict[Link, float] = {}
        self._holds: list[HeldMessages] = []

    # Its links.

    def cut(self, links: Iterable[Link]) -> None:
        self._cut.update(links)

    def slow(self, link: Link, delay: float) -> None:
        self._slow[link] = delay

    def freeze(self, link: Link) -> None:
        self._frozen.add(link)

    def thaw(self) -> Sequence[Sent]:
        """Freeze no link any more; return what waited, in order."""
        self._frozen.clear()
        waiting, self._waiting = self._waiting, []
        return waiting

    def mend(self) -> None:
        """No link is cut or slow any more."""
        self._cut.clear()
        self._slow.clear()

    def mend_at(self, place: str) -> None:
        """No link of a place is cut any more."""
        self._cut = {link for link in self._cut if place not in link}

    def hold(self, held: HeldMessages) -> None:
        self._holds.append(held)

    # Its messages.

    @property
    def is_holding(self) -> bool:
        """Whether any message may stay on its way."""
        return bool(self._holds)

    def holds(self, source: str, target: str, message: TrackerMessage) -> bool:
        """Whether a message that is sent stays on its way; those who asked for it get it."""
        is_held = False
        for held in self._holds:
            if held.matches(source, target, message):
                held.messages.append((source, target, message))
                is_held = is_held or not held.copies
        return is_held

    def arrivals(self, source: str, target: str, now: float) -> Sequence[float]:
        """When a message that is sent now arrives: never, once, or twice."""
        link, faults, draw = (source, target), self.faults, self._rng.random
        if self._cut and link in self._cut:
            return ()
        copy_count = 2 if faults.duplication and draw() < faults.duplication else 1
        if faults.loss:
            copy_count -= sum(draw() < faults.loss for _ in range(copy_count))
        arrivals = []
        for _ in range(copy_count):
            at = now + faults.min_delay + draw() * (faults.max_delay - faults.min_delay)
            if self._slow:
                at += self._slow.get(link, 0.0)
            if not faults.reordering:
                at = self._arrives_at[link] = max(at, self._arrives_at.get(link, 0.0))
            if at - now > self.longest_delay:
                self.longest_delay = at - now
            arrivals.append(at)
        return arrivals

    def lets_through(self, source: str, target: str, message: TrackerMessage) -> bool:
        """Whether a message that has come to the end of its link arrives."""
        link = (source, target)
        if link in self._frozen:
            self._waiting.append((source, target, message))
            return False
        return link not in self._cut
