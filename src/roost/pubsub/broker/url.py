"""URLs of engines in the middle: what in them is for roost, and not for the library."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import parse_qsl, urlencode

from roost.exceptions import ConfigurationError

__all__ = ["take_parameters"]


def take_parameters(url: str, names: Collection[str]) -> tuple[str, dict[str, str]]:
    """Take query parameters out of a URL, and leave the others in it.

    Raises:
        ConfigurationError: One is given twice, or without a value.

    Example:
        >>> take_parameters("redis://db/0?namespace=chat&health_check_interval=1", {"namespace"})
        ('redis://db/0?health_check_interval=1', {'namespace': 'chat'})
    """
    base, _, query = url.partition("?")
    taken: dict[str, str] = {}
    left = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in names:
            left.append((name, value))
        elif name in taken or not value:
            raise ConfigurationError(f"{name}= in a URL: expected it once, with a value")
        else:
            taken[name] = value
    return (f"{base}?{urlencode(left)}" if left else base), taken
