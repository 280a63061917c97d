"""How a node and its cluster are, for probes and dashboards."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from roost.pubsub.replicator import PeerHealth

__all__ = ["Health"]


class Health(TypedDict):
    """What ``Endpoint.health`` tells; all but ``status`` only while it runs.

    Attributes:
        status: ``degraded`` if the engine between nodes cannot be reached, nobody is there who
            should be, a node has messages of another version, two nodes have one name, the
            node fails at telling others what it has, or it has been behind another one for long.
        node: Name of this node; another one than it was given if two nodes have that.
        is_attached: The engine between nodes can be reached.
        is_lonely: No other node is there although some should be.
        has_namesake: Another node has the name that this one was given; one of them took another.
        is_failing: In the last minute something that was to be sent to other nodes could not be, or
            the replication failed otherwise; ``dropped`` and the log say what.
        lagging: Since when and how far this node is behind others, and why; a sentence for each
            that it has been behind for more than two minutes.
        nodes: Names of the nodes that are up, this one included.
        peers: What is known of the others.
        incompatible: Names of those that share no message format with this one.
        connections: How many clients are connected here.
        dropped: What was dropped and why: part → reason → how often.
    """

    status: Literal["ok", "degraded", "stopped"]
    node: NotRequired[str]
    is_attached: NotRequired[bool]
    is_lonely: NotRequired[bool]
    has_namesake: NotRequired[bool]
    is_failing: NotRequired[bool]
    lagging: NotRequired[list[str]]
    nodes: NotRequired[list[str]]
    peers: NotRequired[list[PeerHealth]]
    incompatible: NotRequired[list[str]]
    connections: NotRequired[int]
    dropped: NotRequired[dict[str, dict[str, int]]]
