"""Ids that are over, kept so that late messages do not bring them back.

Two kinds are kept, each until twice ``permdown_period`` after its last words, so that a goodbye
makes the memory of nobody shorter than silence would. An id that was forgotten was silent for one
period when it came here, and is kept for another; for as long again if messages of it still come,
late as they are. An id that said goodbye is kept for two. There are ``MAX_FLOORS`` names at most.
Past that, the one goes whose time ends first: it was heard longest ago, and nothing of it is on its
way any more. Within a kind the order of arrival is the order of the ends.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

import msgspec

from roost.crdt.incarnation import OriginId

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

    def closed(self, *, beyond: float) -> Iterator[OriginId]:
        """The ids that said goodbye and are kept beyond an instant."""
        return (floor.origin for floor in self._closed.values() if floor.until > beyond)

    def put(self, floor: Floor) -> None:
        """Keep a floor in place of the one of its name; it is the latest."""
        name = floor.origin.name
        self.pop(name)
        (self._closed if floor.is_closed else self._forgotten)[name] = floor
        if len(self) > MAX_FLOORS:
            kinds = [floors for floors in (self._forgotten, self._closed) if floors]
            min(kinds, key=_first_end).popitem(last=False)

    def pop(self, name: str) -> None:
        """Forget the floor of a name, if there is one."""
        self._closed.pop(name, None)
        self._forgotten.pop(name, None)

    def expire(self, now: float) -> None:
        """Forget those whose time has come."""
        for floors in (self._forgotten, self._closed):
            while floors and _first_end(floors) <= now:
                floors.popitem(last=False)


def _first_end(floors: OrderedDict[str, Floor]) -> float:
    return next(iter(floors.values())).until
