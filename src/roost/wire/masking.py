"""Keep passwords and tokens out of logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from roost.logs import Shown, show

__all__ = ["FILTERED", "ParameterFilter"]

FILTERED: Final = "[FILTERED]"
DEFAULT_NAMES: Final = ("password", "token", "secret")


class ParameterFilter:
    """Mask the values of parameters whose names contain one of ``names``.

    The ``value`` of a form event is a query string; it is masked as a whole if it may have such a
    parameter, well-formed or not, as in Phoenix.

    Args:
        names: Parts of names, in lower case.

    Example:
        >>> ParameterFilter()({"name": "alice", "user": {"password": "x"}})
        {'name': 'alice', 'user': {'password': '[FILTERED]'}}
    """

    __slots__ = ("_names",)

    def __init__(self, names: Sequence[str] = DEFAULT_NAMES) -> None:
        self._names = tuple(name.lower() for name in names)

    def __call__(self, value: Any, *, _depth: int = 0) -> Any:
        """Return a copy of ``value`` with the sensitive parts masked."""
        if _depth > 8:  # deeper than any form; the rest is not shown
            return "…"
        if isinstance(value, Mapping):
            return {
                key: self(self.mask(key, item), _depth=_depth + 1) for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self(item, _depth=_depth + 1) for item in value]
        return value

    def mask(self, key: object, item: Any) -> Any:
        """What to show of a parameter."""
        if isinstance(key, str):
            if self._hides(key):
                return FILTERED
            if key == "value" and isinstance(item, str) and self._hides_in_query(item):
                return FILTERED
        return item

    def show(self, value: Any) -> Shown:
        """Render ``value`` for a log line, of a bounded size, with the sensitive parts masked."""
        return show(value, self.mask)

    def _hides(self, name: str) -> bool:
        lower = name.lower()
        return any(part in lower for part in self._names)

    def _hides_in_query(self, query: str) -> bool:
        lower = query.lower()
        return any("=" in lower[lower.find(part) :] for part in self._names if part in lower)
