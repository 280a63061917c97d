"""The types that appear in signatures all over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

__all__ = ["EMPTY", "Meta", "Params", "Payload", "Presences"]

Params: TypeAlias = dict[str, Any]
"""Parameters of a connect or a join: decoded JSON, or a decoded query string."""

Payload: TypeAlias = Any
"""What a message carries: a JSON object (a mapping with string keys), or bytes (a binary frame)."""

EMPTY: Final[Mapping[str, Any]] = {}
"""The payload of a message that says all in its event."""

Meta: TypeAlias = Mapping[str, Any]
"""What is known of one presence: a small JSON object."""

Presences: TypeAlias = dict[str, dict[str, Any]]
"""Key → entry; an entry has at least ``metas``, a list of metas with their ``phx_ref``."""
