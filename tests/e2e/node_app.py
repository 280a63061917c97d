"""The demo as a node of a cluster: CLUSTER is the URL of its adapter."""

import os

from examples.demo.app import app, endpoint
from roost import PubSub

__all__ = ["app"]

endpoint.pubsub = PubSub(os.environ["CLUSTER"])
