"""How many browsers have the page open: a topic that only counts.

However many they are, each gets one small message a second at most, and nothing is kept of a
visitor but a key. It is a presence of its own, so that nobody can come online as a visitor.
"""

from __future__ import annotations

from typing import Any

from examples.demo import checks
from roost import Channel, Policy, Presence


class Visitors(Presence):
    """Browsers, by an id that each made up for itself; tabs of one count once."""

    policies = {"*": Policy(counts_above=0, keep_metas=False)}


visitors = Visitors()


class VisitorsChannel(Channel):
    """One tab, also of somebody without a name."""

    def join(self, topic: str, params: dict[str, Any]) -> None:
        self.assigns["id"] = checks.key(params, "id")

    async def after_join(self) -> None:
        await visitors.enter(self, self.assigns["id"])
