"""Publish and subscribe by topic, within a node and, through an adapter, between nodes."""

from roost.pubsub.adapter import Adapter
from roost.pubsub.local import LocalAdapter
from roost.pubsub.pubsub import PubSub
from roost.pubsub.registry import Dispatcher, Subscriber, Subscription

__all__ = ["Adapter", "Dispatcher", "LocalAdapter", "PubSub", "Subscriber", "Subscription"]
