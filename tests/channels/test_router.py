"""Which channel serves a topic."""

from __future__ import annotations

import pytest

from roost import Channel, Route
from roost.channels.router import Router
from roost.exceptions import ConfigurationError


class Food(Channel): ...


class Foo(Channel): ...


@pytest.mark.conforms("SKT-1")
def test_the_first_matching_pattern_wins():
    """Patterns are tried in the order of their declaration; a route's options come with it."""
    router = Router({"food*": Food, "foo*": Route(Foo, {"kind": "foo"})})

    assert router.find("food:1") == Route(Food)
    assert router.find("foo:1") == Route(Foo, {"kind": "foo"})
    assert router.find("bar") is None
    assert Router({"foo*": Foo, "food*": Food}).find("food:1") == Route(Foo)


@pytest.mark.parametrize(
    ("pattern", "topic", "matches"),
    [
        ("room:1", "room:1", True),
        ("room:1", "room:12", False),
        ("room:*", "room:", True),
        ("room:*", "room:1:2", True),
        ("room:*", "room", False),
        ("foo*", "food:1", True),
        ("*", "", True),
        ("*", "anything", True),
        ("room.", "roomX", False),
    ],
)
def test_a_pattern_is_a_topic_or_a_prefix(pattern: str, topic: str, matches: bool):
    """A star at the end stands for any rest, the empty one too; nothing else is special."""
    assert (Router({pattern: Foo}).find(topic) is not None) is matches


@pytest.mark.parametrize("reverse", [False, True])
def test_literals_and_prefixes_share_one_order(reverse: bool):
    """A literal is not preferred: what was declared first wins."""
    patterns = [("room:lobby", Food), ("room:*", Foo)]
    router = Router(dict(reversed(patterns) if reverse else patterns))

    assert router.find("room:lobby") == Route(Foo if reverse else Food)
    assert router.find("room:1") == Route(Foo)


@pytest.mark.parametrize("pattern", ["*:1", "room:*:x", "room:**", "**"])
def test_a_star_may_only_be_the_last_character(pattern: str):
    """A pattern that could not match as it looks is refused, by name."""
    with pytest.raises(ConfigurationError, match="must end with"):
        Router({pattern: Foo})
