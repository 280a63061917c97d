"""Access logs without the secrets of queries: browsers can't send a token in a header of theirs."""

from __future__ import annotations

import logging
from typing import Final
from urllib.parse import unquote_plus

from roost.logs import plain
from roost.wire.filter import DEFAULT_NAMES, FILTERED

__all__ = ["MaskParameters", "mask_query"]

_PATH: Final = 2  # uvicorn logs client, method, path with query, version, status


def mask_query(path: str) -> str:
    """Mask the values of parameters whose names contain ``token`` and the like.

    What is not printable is escaped, and what is too long is cut, as in all logs of roost.

    Example:
        >>> mask_query("/socket/websocket?vsn=2.0.0&user_token=abc")
        '/socket/websocket?vsn=2.0.0&user_token=[FILTERED]'
    """
    base, mark, query = path.partition("?")
    return plain(base + mark + "&".join(map(_mask, query.split("&"))))


def _mask(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    lower = unquote_plus(name).lower()
    is_secret = equals and any(part in lower for part in DEFAULT_NAMES)
    return f"{name}={FILTERED}" if is_secret else parameter


class MaskParameters(logging.Filter):
    """A filter for uvicorn's access log, for the ``filters`` of a logging configuration."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask the query in a record of ``uvicorn.access``; every record passes."""
        arguments = record.args
        if isinstance(arguments, tuple) and len(arguments) > _PATH:
            path = arguments[_PATH]
            if isinstance(path, str):
                masked = mask_query(path)
                record.args = (*arguments[:_PATH], masked, *arguments[_PATH + 1 :])
        return True
