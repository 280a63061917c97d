"""Handing on slices (docs/replication.md, rule 3.4), as fast as the way to others takes them.

An answer is made piece by piece. Of a node's own slice it has the broadcasts since the number that
was asked about, as far as the log has them; else, and of slices of others, it has chunks. Nothing
is made before there is room for it, so that what is asked for by many waits here, as a few numbers
each, and not as bytes in front of what is new. An answer ends after ``MAX_ANSWER_COUNT`` messages:
whoever asked has taken it, or most of it, before asking for the rest, and names what was lost. So
neither end is ever more than an answer ahead of the other, whatever the size of a slice.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from roost.crdt.cutter import Cutter
from roost.crdt.held import Gap
from roost.crdt.incarnation import OriginId
from roost.tracker import messages
from roost.tracker.members import Members
from roost.tracker.messages import ChunkTransfer, Part, Request, Transfer
from roost.tracker.node import Node

__all__ = ["Answers"]

MAX_ANSWER_COUNT: Final = 64  # messages in one answer: 4 MB
RANGE_COUNT: Final = 1_000  # changes that are sent as ranges, however small the slice
RANGE_SHARE: Final = 50  # and as many as a slice has in a 50th: then its numbers alone are more
MAX_ANSWERS: Final = 1_000  # under way; one more drops the one that waited longest
PACE: Final = 0.005  # seconds until it is seen again whether there is room
WHOLE: Final[Gap] = (0, None)


class _Answer:
    """What is left to be sent of one answer.

    Attributes:
        to: Name of the node that asked.
        number: That of the request.
        origin: Whose slice it is about.
        at: The number that the next range begins at; None if there are only chunks.
        until: The number that ranges are needed to.
        gaps: What chunks are to fill, in order.
        known: As in the request.
        left_count: Messages that it may still have.
        ends_at: When whoever asked has given it up.
    """

    __slots__ = ("at", "ends_at", "gaps", "known", "left_count", "number", "origin", "to", "until")

    def __init__(self, request: Request, at: int | None, gaps: list[Gap], ends_at: float) -> None:
        self.to = request.sender.name
        self.number = request.number
        self.origin = request.origin
        self.at = at
        self.until = request.until
        self.gaps = gaps
        self.known = request.known
        self.left_count = MAX_ANSWER_COUNT
        self.ends_at = ends_at


class Answers:
    """Answer requests for slices.

    Args:
        node: This one.
        members: All others.
    """

    def __init__(self, node: Node, members: Members) -> None:
        self._node = node
        self._members = members
        self._answers: OrderedDict[tuple[str, OriginId], _Answer] = OrderedDict()
        self._cutters: dict[OriginId, Cutter] = {}
        self._cut: set[OriginId] = set()  # since the last tick
        self._goes_on_at = 0.0

    @property
    def deadline(self) -> float | None:
        """When more can be sent; None if nothing waits."""
        return self._goes_on_at if self._answers else None

    def __len__(self) -> int:
        return len(self._answers)

    def begin(self, request: Request) -> None:
        """Answer a request, in place of an earlier one of the same node for the same slice."""
        node = self._node
        at, after = None, request.after
        if request.origin == node.id:
            # A range is right only for a point of our own history.
            is_ours = node.path.judge(after, request.mark)
            count = node.own.seq - after
            reaches = (
                bool(is_ours)
                and node.own.reaches(after)
                and count <= max(RANGE_COUNT, len(node.own) // RANGE_SHARE)
            )
            if reaches and after < node.broadcast_seq:
                at = after
        else:
            peer = self._members.get(request.origin)
            if peer is None or peer.held.is_partial or peer.held.seq < after:
                return
            if peer.contradicts(after, request.mark):
                return
            reaches = peer.held.seq == after
        if reaches and at is None and not request.gaps:
            return  # there is no more
        gaps = list(request.gaps) if reaches else [WHOLE]
        ends_at = node.clock.now + 2 * node.options.max_request_timeout
        key = request.sender.name, request.origin
        self._answers.pop(key, None)
        self._answers[key] = _Answer(request, at, gaps, ends_at)
        if len(self._answers) > MAX_ANSWERS:
            self._answers.popitem(last=False)
            node.counters["busy"] += 1
        self._goes_on_at = node.clock.now

    def send(self) -> None:
        """Send what there is room for; each answer has its turn."""
        node = self._node
        while self._answers and node.has_room:
            key, answer = self._answers.popitem(last=False)
            if answer.ends_at > node.clock.now and self._send_next(answer):
                self._answers[key] = answer
        self._goes_on_at = node.clock.now + (0.0 if node.is_turn_over else PACE)

    def reordered(self, origin: OriginId) -> None:
        """Entries came into the midst of a slice, or it is another one now."""
        self._cutters.pop(origin, None)

    def tick(self) -> None:
        """Forget the order of slices of which nothing was sent since the last tick."""
        cut, self._cut = self._cut, set()
        self._cutters = {origin: each for origin, each in self._cutters.items() if origin in cut}

    def _send_next(self, answer: _Answer) -> bool:
        """Send the next message of an answer; return whether there are more."""
        answer.left_count -= 1
        if answer.at is not None:
            return self._send_ranges(answer, answer.at)
        return self._send_chunk(answer)

    def _send_ranges(self, answer: _Answer, start: int) -> bool:
        node = self._node
        if answer.origin != node.id:
            return False  # it was ours when it was asked for
        max_size, mark = node.max_part_size, node.path.mark_of(start)
        parts: list[Part] = []
        size, at = 0, start
        for end, end_mark in node.path.points_after(start):
            change = node.own.range_from(at, end)
            if change is None:
                return False  # the log was cut meanwhile: it will be asked for again
            step_size = change.size
            if parts and (size + step_size > max_size or len(parts) >= messages.MAX_PART_COUNT):
                break
            parts.append(Part.of(change, (mark, end_mark)))
            size += step_size
            at, mark = end, end_mark
            if at == answer.until:
                break
        answer.at = at if at < node.broadcast_seq and at != answer.until else None
        has_more = answer.left_count > 0 and (answer.at is not None or bool(answer.gaps))
        message = Transfer(node.id, answer.origin, answer.number, tuple(parts), not has_more)
        node.send(answer.to, message)
        node.sent_large(size)
        return has_more

    def _send_chunk(self, answer: _Answer) -> bool:
        node = self._node
        if answer.origin == node.id:
            entries, end, mark = node.own.entries, node.own.seq, node.path.mark
        else:
            peer = self._members.get(answer.origin)
            if peer is None or peer.held.is_partial:
                return False
            entries, end, mark = peer.held.entries, peer.held.seq, peer.mark
        cutter = self._cutters.get(answer.origin)
        above, upto = answer.gaps.pop()
        if cutter is None:
            cutter = self._cutters[answer.origin] = Cutter(entries)
        self._cut.add(answer.origin)
        chunk = cutter.cut(
            above,
            upto,
            end=end,
            known=answer.known,
            max_size=node.max_part_size,
            max_count=messages.MAX_PART_COUNT,
        )
        if chunk.above > above:
            answer.gaps.append((above, chunk.above))
        has_more = answer.left_count > 0 and bool(answer.gaps)
        message = ChunkTransfer.of(
            chunk,
            sender=node.id,
            origin=answer.origin,
            number=answer.number,
            mark=mark,
            is_last=not has_more,
        )
        node.send(answer.to, message)
        node.sent_large(chunk.size)
        return has_more
