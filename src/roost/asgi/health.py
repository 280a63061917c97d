"""How a node and its cluster are, for probes and dashboards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NotRequired, TypedDict

from roost.pubsub.adapter import Adapter
from roost.pubsub.replicator import PeerHealth, Replicator

__all__ = ["Health", "reasons"]

MAX_NAMED_COUNT: Final = 5  # nodes that one reason names


class Health(TypedDict):
    """What ``Endpoint.health`` tells; all but ``status`` only while it runs.

    Attributes:
        status: ``degraded`` while there are reasons for that.
        reasons: Why it is degraded, in words: the engine between nodes cannot be reached, nobody is
            there who should be, all others fell silent, a node has messages of another version,
            two nodes have one name, the node fails at telling others what it has, or it has been
            behind another one for more than two minutes: then with how far, and why.
        node: Name of this node; another one than it was given if two nodes have that.
        is_attached: The engine between nodes can be reached.
        is_isolated: No other node is there although some should be.
        has_namesake: Another node has the name that this one was given; one of them took another.
        is_failing: In the last minute something that was to be sent to other nodes could not be, or
            the replication failed otherwise; ``dropped`` and the log say what.
        alone_for: Seconds since no other node is up; None while one is, or if there can be none. It
            is no fault by itself: a node may be the only one.
        nodes: Names of the nodes that are up, this one included.
        peers: What is known of the others.
        incompatible: Names of those that share no message format with this one.
        connections: How many clients are connected here.
        dropped: What was dropped and why: part → reason → how often.
    """

    status: Literal["ok", "degraded", "stopped"]
    reasons: NotRequired[list[str]]
    node: NotRequired[str]
    is_attached: NotRequired[bool]
    is_isolated: NotRequired[bool]
    has_namesake: NotRequired[bool]
    is_failing: NotRequired[bool]
    alone_for: NotRequired[float | None]
    nodes: NotRequired[list[str]]
    peers: NotRequired[list[PeerHealth]]
    incompatible: NotRequired[list[str]]
    connections: NotRequired[int]
    dropped: NotRequired[dict[str, dict[str, int]]]


def reasons(replicator: Replicator, adapter: Adapter) -> list[str]:
    """Why a node is degraded, each with what to look at; empty if it is not."""
    found = []
    if not adapter.is_attached:
        found.append("the engine between nodes cannot be reached, or not heard: see the log")
    elif adapter.is_isolated:
        found.append("no other node is heard although some should be there: see the log")
    elif lost := replicator.lost:
        found.append(
            f"all other nodes fell silent, without a goodbye: {_names(lost)}; is this one cut off "
            "from them, or on another engine?"
        )
    if incompatible := replicator.incompatible:
        found.append(f"nodes share no version of messages with this one: {_names(incompatible)}")
    if replicator.has_namesake:
        found.append("another node has the name that this one was given: give each its own")
    if replicator.is_failing:
        found.append(
            "something failed in the last minute, and other nodes may lack it: see `dropped` and "
            "the log"
        )
    return found + replicator.lagging


def _names(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMED_COUNT
    return ", ".join(names[:MAX_NAMED_COUNT]) + (f" and {more} more" if more > 0 else "")
