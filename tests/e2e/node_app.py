"""The demo as a node of a cluster: CLUSTER is the URL of its adapter."""

import os

from examples.demo.app import app as demo
from examples.demo.app import endpoint
from roost import PubSub
from roost.asgi.types import Receive, Scope, Send

__all__ = ["app"]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The demo; a node when it is served, and not already when this module is imported."""
    if scope["type"] == "lifespan":
        endpoint.pubsub = PubSub(os.environ["CLUSTER"])
    await demo(scope, receive, send)
