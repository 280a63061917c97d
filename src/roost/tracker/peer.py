"""What is known here of one other origin."""

from __future__ import annotations

from typing import Final

from roost.crdt.held import MAX_RECENT_COUNT, HeldSlice
from roost.crdt.incarnation import OriginId
from roost.crdt.slice import Range
from roost.tracker.path import NO_MARK

__all__ = ["Peer"]

MAX_AHEAD_COUNT: Final = 100  # ranges beyond a gap; more are dropped, and repaired
MAX_MARKS: Final = 2 * MAX_AHEAD_COUNT + MAX_RECENT_COUNT + 3  # of both ends of each, and of held


class Peer:
    """One other origin: its slice as held here, and whether it lives.

    All instants are on the protocol's clock, which a sleep of this process does not advance.

    Attributes:
        origin: Its id.
        held: Its slice.
        is_up: It is believed to live.
        is_shown: Its entries are visible.
        heard_at: When it was last known to live.
        heard_directly_at: When a message of its own last came directly.
        announced: The highest number that it is known to have broadcast.
        has_told: It told its number itself, since it came up.
        digest: The hash in its last heartbeat.
        versions: The message versions that it reads.
        link: What its adapter calls the way to it; empty if it did not say.
        show_at: When it is shown at the latest; None if that is not pending.
        gap_at: When what is missing is asked for; None if nothing is missing, or it is asked for.
        request: Number of the request in flight; None if there is none.
        request_ends_at: When the request is given up.
        request_to: Name of the node that was asked.
        attempts: Requests without an answer.
        behind_at: Since when less of it is held than there is; None if it is not.
        holders: Names of nodes that hold more of it than we do.
        probe: Nonce of the probe in flight; None if there is none.
        probe_ends_at: When it is down if it does not answer.
        ahead: Ranges beyond a gap.
        marks: Number → its mark, of what is held and of what is beyond a gap.
    """

    __slots__ = (
        "ahead",
        "announced",
        "attempts",
        "behind_at",
        "digest",
        "gap_at",
        "has_told",
        "heard_at",
        "heard_directly_at",
        "held",
        "holders",
        "is_shown",
        "is_up",
        "link",
        "marks",
        "origin",
        "probe",
        "probe_ends_at",
        "request",
        "request_ends_at",
        "request_to",
        "show_at",
        "versions",
    )

    def __init__(self, origin: OriginId, now: float) -> None:
        self.origin = origin
        self.held = HeldSlice()
        self.is_up = True
        self.is_shown = False
        self.heard_at = now
        self.heard_directly_at = now
        self.announced = 0
        self.has_told = False
        self.digest: int | None = None
        self.versions = (1, 1)
        self.link = ""
        self.show_at: float | None = None
        self.gap_at: float | None = None
        self.request: int | None = None
        self.request_ends_at = 0.0
        self.request_to = ""
        self.attempts = 0
        self.behind_at: float | None = None
        self.holders: set[str] = set()
        self.probe: int | None = None
        self.probe_ends_at = 0.0
        self.ahead: list[Range] = []
        self.marks: dict[int, int] = {}

    @property
    def name(self) -> str:
        return self.origin.name

    @property
    def is_behind(self) -> bool:
        """Whether we hold less of it than there is."""
        return self.held.seq < self.announced

    @property
    def mark(self) -> int:
        """The mark of the number that is held whole."""
        return self.marks.get(self.held.seq, NO_MARK)

    def contradicts(self, seq: int, mark: int) -> bool:
        """Whether a point is of another history than what is known of it here."""
        return NO_MARK not in (mark, known := self.marks.get(seq, NO_MARK)) and mark != known

    def overlaps(self, start: int, end: int) -> bool:
        """Whether a range leads past a known point of the history without coming by it.

        Each point was the end of a broadcast of the origin, so that no broadcast of the same
        history begins before it and ends after it.
        """
        return any(start < seq < end for seq in self.marks)

    def note(self, seq: int, mark: int) -> None:
        """``mark`` is that of the number ``seq``."""
        if mark != NO_MARK and seq >= self.held.seq:
            if len(self.marks) >= MAX_MARKS:
                held = self.held
                kept = {held.seq, held.at, held.newest}
                self.marks = {seq: mark for seq, mark in self.marks.items() if seq in kept}
            self.marks[seq] = mark

    def moved(self) -> None:
        """More is held than before: what was known of the numbers below says nothing any more."""
        held, floor = self.held, self.held.floor
        self.marks = {
            seq: mark for seq, mark in self.marks.items() if seq >= floor or seq == held.seq
        }

    def deadlines(self) -> list[float]:
        """When something has to be done about it."""
        deadlines = []
        if self.show_at is not None:
            deadlines.append(self.show_at)
        if self.gap_at is not None:
            deadlines.append(self.gap_at)
        if self.request is not None:
            deadlines.append(self.request_ends_at)
        if self.probe is not None:
            deadlines.append(self.probe_ends_at)
        return deadlines

    def keep_ahead(self, change: Range) -> None:
        """Hold a range until the gap before it is closed."""
        if len(self.ahead) < MAX_AHEAD_COUNT:
            self.ahead.append(change)
            self.ahead.sort(key=lambda each: (each.start, each.end))

    def next_ahead(self) -> Range | None:
        """Take the next range that can be applied; what is old is dropped."""
        while self.ahead and self.held.reaches(self.ahead[0]):
            change = self.ahead.pop(0)
            if change.start == self.held.at and change.end > self.held.at:
                return change
        return None
