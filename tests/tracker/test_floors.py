"""Ids that are over: how many are kept, for how long, and which goes first."""

import pytest

from roost.crdt.incarnation import OriginId
from roost.tracker import floors
from roost.tracker.floors import Floor, Floors


@pytest.fixture(autouse=True)
def of_three_names(monkeypatch):
    monkeypatch.setattr(floors, "MAX_FLOORS", 3)


def floor(name: str, incarnation: int = 1, *, is_closed: bool = True, until: float = 9.0) -> Floor:
    return Floor(OriginId(name, incarnation, 0), is_closed, until)


def names(kept: Floors) -> str:
    return "".join(name for name in "abcdefgh" if kept.get(name) is not None)


def test_the_oldest_goes_first():
    """Of four names that said goodbye the first is forgotten."""
    kept = Floors()
    for name in "abcd":
        kept.put(floor(name))

    assert names(kept) == "bcd"


@pytest.mark.parametrize(("until", "left"), [(9.0, "acd"), (11.0, "bcd")])
def test_the_one_goes_whose_time_ends_first(until, left):
    """Of a closed id and one that was forgotten, that one goes which was heard longest ago.

    Args:
        until: The end of those that were forgotten.
        left: Which names are left.
    """
    kept = Floors()
    kept.put(floor("a", until=10.0))
    for name in "bcd":
        kept.put(floor(name, is_closed=False, until=until))

    assert names(kept) == left


def test_goodbyes_are_handed_on_while_they_are_new():
    """Those are named whose time ends beyond an instant."""
    kept = Floors()
    for name, until in zip("abc", (1.0, 2.0, 3.0), strict=True):
        kept.put(floor(name, until=until))
    kept.put(floor("d", until=3.0, is_closed=False))

    assert [origin.name for origin in kept.closed(beyond=1.0)] == ["b", "c"]


def test_a_floor_that_is_renewed_is_the_latest():
    """The goodbye of a later life counts from when it was said."""
    kept = Floors()
    for name in "abc":
        kept.put(floor(name))
    kept.put(floor("a", 2))
    kept.put(floor("d"))

    assert names(kept) == "acd"


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_name_has_one_floor(is_closed):
    """A goodbye takes the place of what was forgotten, and the reverse."""
    kept = Floors()
    kept.put(floor("a", is_closed=not is_closed))
    kept.put(floor("a", 2, is_closed=is_closed))

    assert len(kept) == 1
    assert kept.get("a") == floor("a", 2, is_closed=is_closed)
    kept.pop("a")
    assert len(kept) == 0


@pytest.mark.parametrize("is_closed", [True, False])
def test_floors_expire_in_their_time(is_closed):
    """Each is kept until its time, and no longer."""
    kept = Floors()
    for name, until in zip("abc", (1.0, 2.0, 3.0), strict=True):
        kept.put(floor(name, until=until, is_closed=is_closed))

    kept.expire(2.0)

    assert names(kept) == "c"
