"""The links that were heard of, and which of them to ask the engine about."""

from typing import Any

from roost.pubsub.broker.neighbours import LONELY_PERIOD, SETTLING_PERIOD, Neighbours


class Told:
    """Notes what is told of links."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []

    def link_up(self, node_name: str, link: str) -> None:
        self.told.append(("up", node_name, link))

    def link_down(self, link: str) -> None:
        self.told.append(("down", link))

    def detached(self) -> None: ...

    def attached(self) -> None: ...


def ask(neighbours: Neighbours, now: float, **options: Any) -> list[str]:
    return neighbours.to_ask(now, **{"silent_period": 0.0, "max_count": 100, **options})


def test_a_link_is_told_of_once():
    """A link that is heard is up; nothing is told when it is heard again."""
    told = Told()
    neighbours = Neighbours(told)
    neighbours.heard("alice", "a1", 0.0)
    neighbours.heard("alice", "a1", 1.0)

    assert told.told == [("up", "alice", "a1")]


def test_a_link_that_is_gone_is_told_of_once():
    """A link that the engine no longer knows is down, once; heard again it is up again."""
    told = Told()
    neighbours = Neighbours(told)
    neighbours.gone("a1")
    neighbours.heard("alice", "a1", 0.0)
    neighbours.gone("a1")
    neighbours.gone("a1")
    neighbours.heard("alice", "a1", 1.0)

    assert told.told == [("up", "alice", "a1"), ("down", "a1"), ("up", "alice", "a1")]


def test_silent_links_are_asked_about_longest_first():
    """Only links that were silent for long enough, and no more than asked for."""
    neighbours = Neighbours(Told())
    for at, link in enumerate(["a1", "b1", "c1"]):
        neighbours.heard("node", link, float(at))

    assert ask(neighbours, 3.0, silent_period=2.0) == ["a1", "b1"]
    assert ask(neighbours, 3.0, max_count=1) == ["a1"]
    neighbours.asked("a1", 3.0)
    assert ask(neighbours, 3.0, max_count=1) == ["b1"]


def test_a_link_that_is_gone_is_not_asked_about():
    """What was asked about and is gone meanwhile does not come back by that."""
    neighbours = Neighbours(Told())
    neighbours.heard("alice", "a1", 0.0)
    neighbours.gone("a1")
    neighbours.asked("a1", 1.0)

    assert ask(neighbours, 2.0) == []


def test_after_an_outage_others_are_given_time():
    """Links not heard since we are back may be on their way: they are asked about later."""
    neighbours = Neighbours(Told())
    neighbours.heard("alice", "a1", 0.0)
    neighbours.heard("bob", "b1", 0.0)
    neighbours.attached(100.0)
    neighbours.heard("bob", "b1", 101.0)

    assert ask(neighbours, 101.0) == ["b1"]
    assert ask(neighbours, 100.0 + SETTLING_PERIOD) == ["a1", "b1"]


def is_isolated(neighbours: Neighbours, *counts: tuple[int | None, float]) -> bool:
    """Whether it is, after the engine counted these others at these times."""
    for count, now in counts:
        neighbours.counted(count, now)
    return neighbours.is_isolated


def test_others_that_are_not_heard_make_lonely():
    """If others are subscribed for a while, and nothing of them is understood, that is said."""
    neighbours = Neighbours(Told())

    assert not is_isolated(neighbours, (2, 0.0))
    assert is_isolated(neighbours, (1, LONELY_PERIOD))

    neighbours.heard("alice", "a1", LONELY_PERIOD)
    assert not is_isolated(neighbours, (1, LONELY_PERIOD + 1))


def test_nobody_else_makes_not_lonely():
    """Where nobody else is subscribed, or the engine does not say, nobody is missed."""
    late = LONELY_PERIOD + 1

    assert not is_isolated(Neighbours(Told()), (1, 0.0), (0, 1.0), (1, 2.0), (1, late))
    assert not is_isolated(Neighbours(Told()), (None, 0.0), (None, late))


def test_a_new_attachment_begins_anew():
    """What was counted through the last one is no longer so."""
    neighbours = Neighbours(Told())
    assert is_isolated(neighbours, (1, 0.0), (1, LONELY_PERIOD))

    neighbours.attached(LONELY_PERIOD + 1)

    assert not is_isolated(neighbours)
