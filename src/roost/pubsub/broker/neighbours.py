"""The links that were heard of, and which of them to ask the engine about."""

from __future__ import annotations

from roost.pubsub.adapter import LinkEvents

__all__ = ["Neighbours"]

LONELY_PERIOD = 10.0  # seconds in which others are subscribed and not heard, until it is said

SETTLING_PERIOD = 6.0  # seconds after we attached in which others may still be on their way back:
# 3 until they notice, 2 of back-off, and one for connecting


class Neighbours:
    """Links of other nodes that are up; reports to ``links`` when one comes or goes.

    Everything takes ``now``, monotonic, in seconds.

    After an engine was away, all nodes come back one after the other. Until they have had the time,
    only those that were heard since are asked about: to the engine, one that is still on its way
    looks like one that is gone.
    """

    def __init__(self, links: LinkEvents) -> None:
        self._links = links
        self._heard_at: dict[str, float] = {}
        self._attached_at = 0.0
        self._strangers_since: float | None = None
        self.is_isolated = False

    def attached(self, now: float) -> None:
        """We are attached to the engine, for the first time or again."""
        self._attached_at = now
        self._strangers_since = None
        self.is_isolated = False

    def heard(self, node_name: str, link: str, now: float) -> None:
        """Something came from this link."""
        is_new = link not in self._heard_at
        self._heard_at[link] = now
        if is_new:
            self._links.link_up(node_name, link)

    def counted(self, other_count: int | None, now: float) -> None:
        """The engine has subscribed so many others; None if it does not say.

        If none of them is heard, they hang, are cut off, or speak what we don't understand: all of
        this is worth a look.
        """
        if not other_count or self._heard_at:
            self._strangers_since = None
        elif self._strangers_since is None:
            self._strangers_since = now
        since = self._strangers_since
        self.is_isolated = since is not None and now - since >= LONELY_PERIOD

    def gone(self, link: str) -> None:
        """The engine knows this link no more."""
        if self._heard_at.pop(link, None) is not None:
            self._links.link_down(link)

    def to_ask(self, now: float, *, silent_period: float, max_count: int) -> list[str]:
        """The links to ask the engine about: silent for ``silent_period``, the longest first."""
        is_settled = now >= self._attached_at + SETTLING_PERIOD
        silent = [
            (heard_at, link)
            for link, heard_at in self._heard_at.items()
            if now - heard_at >= silent_period and (is_settled or heard_at >= self._attached_at)
        ]
        return [link for _, link in sorted(silent)[:max_count]]

    def asked(self, link: str, now: float) -> None:
        """The engine says that the link is there: ask about the others first."""
        if link in self._heard_at:
            self._heard_at[link] = max(self._heard_at[link], now)
