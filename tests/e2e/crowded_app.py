"""The demo, whose rooms are crowded as soon as more than three people are in them."""

from examples.demo.online import Online, online
from roost import Policy
from roost.asgi.types import Receive, Scope, Send
from tests.e2e.app import app as demo

__all__ = ["app"]


class Crowded(Online):
    policies = Online.policies | {"room:*": Policy(counts_above=3, count_period=0.2)}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The demo; crowded when it is served, and not already when this module is imported."""
    if scope["type"] == "lifespan":
        online.__class__ = Crowded
    await demo(scope, receive, send)
