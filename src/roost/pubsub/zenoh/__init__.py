"""A cluster with no broker: nodes connect to each other, by zenoh."""

from roost.pubsub.zenoh.adapter import ZenohAdapter

__all__ = ["ZenohAdapter"]
