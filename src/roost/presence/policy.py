"""What the subscribers of a topic are sent, and who may be in it."""

from __future__ import annotations

import math

import msgspec

from roost.exceptions import ConfigurationError

__all__ = ["Policy"]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How a presence treats one topic; each field's default is what Phoenix does, or better.

    When N members join a topic, each of them is sent each join: N² messages. A longer
    ``diff_period`` joins them into fewer, ``counts_above`` replaces them by counts, and
    ``announce=False`` sends none; ``docs/big-rooms.md`` has the figures.

    Args:
        diff_period: Seconds between two diffs. The first change in a quiet topic is sent at the
            end of its tick, those that follow are joined. 0: one diff for each tick with changes.
        announce: False: subscribers are not notified of changes. Lists, callbacks,
            ``handle_metas`` and watches work as ever.
        counts_above: Above so many members (keys) subscribers get counts instead of diffs:
            ``presence_count`` with ``{"users", "connections"}``, and an empty list, since nobody
            keeps theirs up to date any more. They get lists again when three quarters of it are
            left. 0: always counts. None: never.
        count_period: Seconds between two counts.
        keep_metas: False: metas are dropped where they are tracked, and nothing but keys is kept
            or replicated. Needs a topic whose subscribers get no lists: ``counts_above=0`` or
            ``announce=False``.
        leave_grace: Seconds that a presence outlives its owner. If its key is tracked
            again on this node within them, nobody is notified: the new owner takes the presence
            over, with its ref. A meta that differs in more than ``online_at`` is an update.
            ``untrack`` has no grace.
        max_members: How many keys the topic admits; ``track`` of one more raises ``TopicFull``. In
            a cluster each node judges by what it sees, so that a few more may get in at once.

    Raises:
        ConfigurationError: Values that can't work, with the reason.

    Example:
        >>> Policy(counts_above=1_000, leave_grace=5.0).diff_period
        0.05
    """

    diff_period: float = 0.05
    announce: bool = True
    counts_above: int | None = None
    count_period: float = 1.0
    keep_metas: bool = True
    leave_grace: float = 0.0
    max_members: int | None = None

    def __post_init__(self) -> None:
        for name in ("diff_period", "count_period", "leave_grace"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ConfigurationError(f"{name} must be a number of seconds, got {value!r}")
        if self.counts_above is not None and self.counts_above < 0:
            raise ConfigurationError(f"counts_above must not be negative, got {self.counts_above}")
        if self.max_members is not None and self.max_members < 1:
            raise ConfigurationError(f"max_members must be at least 1, got {self.max_members}")
        if not self.keep_metas and self.announce and self.counts_above != 0:
            raise ConfigurationError(
                "keep_metas=False leaves nothing to list: it needs counts_above=0 or announce=False"
            )

    def counts(self, member_count: int, *, is_counting: bool) -> bool:
        """Whether the subscribers of a topic are sent counts instead of lists.

        Args:
            member_count: Its keys.
            is_counting: Whether it did until now. Going back needs fewer members than going
                there, so that a topic at the bound does not change its mind all the time.
        """
        bound = self.counts_above
        if bound is None:
            return False
        if bound == 0:
            return True
        return member_count > (bound * 3 // 4 if is_counting else bound)
