"""Access logs without the secrets of queries: browsers can't send a token in a header of theirs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote_plus

from roost.logs import plain
from roost.wire.masking import DEFAULT_NAMES, FILTERED

__all__ = ["MaskParameters", "mask_query"]

# uvicorn logs client, method, path with query, version, status to ``uvicorn.access``, and to
# ``uvicorn.error``, for each WebSocket and whether or not there is an access log: client, path.
_PATH: Final = 2
_WEBSOCKET: Final = '"WebSocket %s"'
_WEBSOCKET_PATH: Final = 1


def mask_query(path: str, names: Sequence[str] = DEFAULT_NAMES) -> str:
    """Mask the values of parameters whose names contain one of ``names``.

    What is not printable is escaped, and what is too long is cut, as in all logs of roost.

    Args:
        path: With its query.
        names: Parts of names, in lower case.

    Example:
        >>> mask_query("/socket/websocket?vsn=2.0.0&user_token=abc")
        '/socket/websocket?vsn=2.0.0&user_token=[FILTERED]'
    """
    base, mark, query = path.partition("?")
    return plain(base + mark + "&".join(_mask(each, names) for each in query.split("&")))


def _mask(parameter: str, names: Sequence[str]) -> str:
    name, equals, _ = parameter.partition("=")
    lower = unquote_plus(name).lower()
    is_secret = equals and any(part in lower for part in names)
    return f"{name}={FILTERED}" if is_secret else parameter


class MaskParameters(logging.Filter):
    """A filter for uvicorn's logs: of a logger, or in the ``filters`` of a logging configuration.

    The lines for HTTP are of ``uvicorn.access``, those for WebSockets of ``uvicorn.error``.

    Args:
        names: Parts of names of parameters to mask, those of ``Endpoint(filter_parameters=…)``.

    Example:
        >>> logging.Logger("uvicorn's").addFilter(MaskParameters(names=["token", "iban"]))
    """

    def __init__(self, *, names: Sequence[str] = DEFAULT_NAMES) -> None:
        super().__init__()
        self._names = tuple(name.lower() for name in names)

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask the query in a record of uvicorn's; every record passes."""
        arguments = record.args
        at = _WEBSOCKET_PATH if _WEBSOCKET in str(record.msg) else _PATH
        if isinstance(arguments, tuple) and len(arguments) > at:
            path = arguments[at]
            if isinstance(path, str):
                masked = mask_query(path, self._names)
                record.args = (*arguments[:at], masked, *arguments[at + 1 :])
        return True
