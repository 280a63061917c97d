"""Ids that are over, kept so that late messages do not bring them back.

Two kinds are kept, each for ``permdown_period``: ids that were forgotten after a long silence, and
ids that said goodbye. A forgotten one whose messages still come, late as they are, is kept for as
long again. There are ``MAX_FLOORS`` names at most. Past that, the one goes that was heard longest
ago, as nothing of it is on its way any more. A forgotten id was silent for ``permdown_period`` when
it came here, and an id that said goodbye is gone from here when that time has passed since; so each
forgotten one that was not heard again was heard before each closed one, and within both kinds the
order of arrival is the order of the last words.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

import msgspec

from roost.crdt.origin import OriginId

__all__ = ["MAX_FLOORS", "Floor", "Floors"]

MAX_FLOORS: Final = 4_096  # names


class Floor(msgspec.Struct, frozen=True):
    """The highest id of a name that is over.

    Args:
        origin: The id.
        is_closed: It said goodbye; else it was forgotten, and may come back if it lives.
        until: When this is forgotten, too.
    """

    origin: OriginId
    is_closed: bool
    until: float


class Floors:
    """Floors by name."""

    def __init__(self) -> None:
        self._forgotten: OrderedDict[str, Floor] = OrderedDict()
        self._closed: OrderedDict[str, Floor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._forgotten) + len(self._closed)

    def get(self, name: str) -> Floor | None:
        return self._closed.get(name) or self._forgotten.get(name)

    def closed(self) -> Iterator[OriginId]:
        """The ids that said goodbye."""
        return (floor.origin for floor in self._closed.values())

    def put(self, floor: Floor) -> None:
        """Keep a floor in place of the one of its name; it is the latest."""
        name = floor.origin.name
        self.pop(name)
        (self._closed if floor.is_closed else self._forgotten)[name] = floor
        if len(self) > MAX_FLOORS:
            (self._forgotten or self._closed).popitem(last=False)

    def pop(self, name: str) -> None:
        """Forget the floor of a name, if there is one."""
        self._closed.pop(name, None)
        self._forgotten.pop(name, None)

    def expire(self, now: float) -> None:
        """Forget those whose time has come."""
        for floors in (self._forgotten, self._closed):
            while floors:
                name, floor = next(iter(floors.items()))
                if floor.until > now:
                    break
                del floors[name]
