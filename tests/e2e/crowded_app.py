"""The demo, whose rooms are crowded as soon as more than two people are in them."""

from examples.demo.online import Online
from roost import Policy, Presence
from tests.e2e.app import app

__all__ = ["app"]

usual = Online.policy


def policy(online: Presence, topic: str) -> Policy:
    if topic.startswith("room:"):
        return Policy(counts_above=2, count_period=0.2)
    return usual(online, topic)


Online.policy = policy  # type: ignore[method-assign]
