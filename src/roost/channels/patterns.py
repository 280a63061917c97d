"""What is declared by topic: ``{"room:*": …, "*": …}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from roost.exceptions import ConfigurationError
from roost.naming import configured_name

__all__ = ["TopicPatterns"]

T = TypeVar("T")


class TopicPatterns(Generic[T]):
    """Find what was declared for a topic: the first declared pattern that matches.

    A pattern is a literal topic, or a prefix that ends in ``*``, which matches the empty rest too;
    ``*`` alone matches everything.

    Raises:
        ConfigurationError: A ``*`` that is not the last character, or a pattern that is no text.

    Example:
        >>> patterns = TopicPatterns({"room:lobby": 1, "room:*": 2})
        >>> patterns.find("room:lobby"), patterns.find("room:1"), patterns.find("news")
        (1, 2, None)
    """

    __slots__ = ("_literals", "_prefixes")

    def __init__(self, declared: Mapping[str, T]) -> None:
        # The position says which of a literal and a prefix was declared first.
        self._literals: dict[str, tuple[int, T]] = {}
        self._prefixes: list[tuple[int, str, T]] = []
        for position, (given, target) in enumerate(declared.items()):
            pattern = configured_name(given, "topic pattern")
            if "*" in pattern[:-1]:
                raise ConfigurationError(f"a topic pattern must end with *, got {pattern!r}")
            if pattern.endswith("*"):
                self._prefixes.append((position, pattern[:-1], target))
            else:
                self._literals[pattern] = (position, target)

    def find(self, topic: str) -> T | None:
        """What was declared for ``topic``; None if nothing was."""
        literal = self._literals.get(topic)
        for position, prefix, target in self._prefixes:
            if literal is not None and literal[0] < position:
                break
            if topic.startswith(prefix):
                return target
        return None if literal is None else literal[1]
