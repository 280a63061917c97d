"""A cluster through a NATS server, or a cluster of them."""

from roost.pubsub.nats.adapter import NatsAdapter

__all__ = ["NatsAdapter"]
