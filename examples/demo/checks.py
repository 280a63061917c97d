"""What clients sent, checked: each refusal is a sentence that people can read.

The page has the same limits, to tell people early; only these count. Bad input costs its sender
an error reply, and nobody else anything.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from typing import Any, TypeAlias

from roost import InvalidKey, JoinRefused, Presence, ReplyError

Refusal: TypeAlias = type[JoinRefused] | type[ReplyError]

JOINERS = frozenset("\u200c\u200d")
INVISIBLE = {
    "Cc",  # control characters
    "Cf",  # what formats text, and turns its direction
    "Cn",  # not assigned
    "Co",  # private use
    "Cs",  # halves of a pair
    "Zl",  # the ends of lines
    "Zp",  # and of paragraphs
}
MAX_NAME_LENGTH = 40  # characters, also of a browser's id
MAX_MESSAGE_LENGTH = 500


def text(
    values: Any,
    field: str,
    max_length: int,
    refusal: Refusal = ReplyError,
    *,
    may_be_empty: bool = False,
) -> str:
    """Take one text out of what a client sent."""
    value = _get(values, field)
    value = value.strip() if isinstance(value, str) else ""
    if not value and not may_be_empty:
        raise refusal({"reason": f"The {field} is empty."})
    if len(value) > max_length:
        raise refusal({"reason": f"The {field} is longer than {max_length} characters."})
    return value


def key(values: Any, field: str, refusal: Refusal = JoinRefused) -> str:
    """Take a text that names somebody: it can be the key of a presence."""
    name = text(values, field, MAX_NAME_LENGTH, refusal)
    if not is_legible(name):
        raise refusal({"reason": f"The {field} has characters that can't be seen."})
    try:
        return Presence.check_key(name)
    except InvalidKey as error:
        reason = f"{name} is a {field} that JavaScript keeps for itself."
        raise refusal({"reason": reason}) from error


def is_legible(name: str) -> bool:
    """Whether a name looks like what it is: nothing in it is invisible, or turns text around.

    What joins characters stays: families of emoji are made with it, and Persian words.
    """
    return all(
        character in JOINERS or unicodedata.category(character) not in INVISIBLE
        for character in name
    ) and not JOINERS.issuperset(name)


def choice(values: Any, field: str, choices: Collection[str]) -> str:
    """Take one of a few words."""
    value = _get(values, field)
    if not isinstance(value, str) or value not in choices:
        raise ReplyError({"reason": f"The {field} must be one of: {', '.join(choices)}."})
    return value


def fraction(values: Any, field: str) -> float:
    """Take a number from 0 to 1, such as a place between two edges."""
    value = _get(values, field)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ReplyError({"reason": f"{field} must be a number from 0 to 1."})
    return float(value)


def _get(values: Any, field: str) -> Any:
    return values.get(field) if isinstance(values, dict) else None
