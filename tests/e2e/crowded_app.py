"""The demo, whose rooms are crowded as soon as more than three people are in them."""

from examples.demo.online import Online, online
from roost import Policy
from tests.e2e.app import app

__all__ = ["app"]


class Crowded(Online):
    policies = Online.policies | {"room:*": Policy(counts_above=3, count_period=0.2)}


online.__class__ = Crowded
