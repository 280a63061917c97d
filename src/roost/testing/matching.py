"""Partial patterns for payloads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["matches"]


def matches(pattern: Any, value: Any) -> bool:
    """Whether ``value`` has what ``pattern`` names: dicts may have more keys, at any depth.

    Other values are compared by ``==``, so ``unittest.mock.ANY`` stands for anything.

    Example:
        >>> matches({"user": {"name": "alice"}}, {"user": {"name": "alice", "age": 7}, "id": 1})
        True
        >>> matches({"tags": ["a"]}, {"tags": ["a", "b"]})
        False
    """
    if isinstance(pattern, Mapping):
        return isinstance(value, Mapping) and all(
            key in value and matches(part, value[key]) for key, part in pattern.items()
        )
    if isinstance(pattern, list | tuple):
        return (
            isinstance(value, list)
            and len(pattern) == len(value)
            and all(matches(*pair) for pair in zip(pattern, value, strict=True))
        )
    return bool(pattern == value)
