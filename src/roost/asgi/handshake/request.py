"""What a client brings along when it connects, besides its parameters."""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from roost.asgi.mount import WebSocket
from roost.asgi.origin import header
from roost.asgi.types import Scope
from roost.channels.socket import ConnectInfo
from roost.exceptions import InvalidMessage
from roost.wire.masking import FILTERED

__all__ = ["choose_subprotocol", "connect_info", "peer", "split_auth_token", "without_tokens"]

_TOKEN_PREFIX: Final = "base64url.bearer.phx."
_TRACE_HEADERS: Final = frozenset({"traceparent", "tracestate"})


def split_auth_token(offered: Sequence[str]) -> tuple[str | None, list[str]]:
    """Take the ``authToken`` of phoenix.js out of the offered subprotocols.

    Despite its name the prefix announces the standard base64 alphabet without padding, on both
    sides. What is encoded is UTF-8, or else Latin-1: phoenix.js uses ``btoa``, which makes a byte
    of each character. With none or several such entries there is no token.

    Raises:
        InvalidMessage: The token is not base64. (Phoenix answers 500 here, we 400.)

    Example:
        >>> split_auth_token(["phoenix", "base64url.bearer.phx.MTIzNA"])
        ('1234', ['phoenix'])
    """
    tokens = [each for each in offered if each.startswith(_TOKEN_PREFIX)]
    rest = [each for each in offered if not each.startswith(_TOKEN_PREFIX)]
    if len(tokens) != 1:
        return None, rest
    encoded = tokens[0].removeprefix(_TOKEN_PREFIX)
    try:
        token = b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except binascii.Error as error:
        raise InvalidMessage("an auth token in base64", str(error)) from error
    try:
        return token.decode(), rest
    except UnicodeDecodeError:
        return token.decode("latin-1"), rest


def without_tokens(offered: Sequence[str]) -> list[str]:
    """The offered subprotocols for a log: what is after the prefix of ``authToken`` is masked.

    Example:
        >>> without_tokens(["phoenix", "base64url.bearer.phx.MTIzNA"])
        ['phoenix', 'base64url.bearer.phx.[FILTERED]']
    """
    return [
        _TOKEN_PREFIX + FILTERED if each.startswith(_TOKEN_PREFIX) else each for each in offered
    ]


def choose_subprotocol(
    offered: Sequence[str], configured: Sequence[str]
) -> tuple[bool, str | None]:
    """Whether the handshake may go on, and with which subprotocol.

    Example:
        >>> choose_subprotocol(["b", "a"], ["a", "b"])
        (True, 'a')
        >>> choose_subprotocol(["c"], ["a", "b"])
        (False, None)
    """
    if not configured or not offered:
        return True, None
    chosen = next((each for each in configured if each in offered), None)
    return chosen is not None, chosen


def connect_info(
    scope: Scope,
    values: Mapping[str, Any],
    *,
    params: Mapping[str, Any],
    options: WebSocket,
    auth_token: str | None,
) -> ConnectInfo:
    """Gather what Phoenix calls ``connect_info`` from an ASGI scope."""
    return _RequestInfo(
        values, scope, auth_token=auth_token, session=_session(scope, params, options)
    )


class _RequestInfo(ConnectInfo):
    """That of a request; what hardly any application asks for is made when one does."""

    def __init__(
        self,
        values: Mapping[str, Any],
        scope: Scope,
        *,
        auth_token: str | None,
        session: Mapping[str, Any] | None,
    ) -> None:
        self._values = dict(values)
        self.scope = dict(scope)
        self.auth_token = auth_token
        self.session = session

    def __getattr__(self, name: str) -> Any:
        if (make := _MADE_LATE.get(name)) is None:
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")
        value = make(self.scope)
        setattr(self, name, value)
        return value


def _peer_data(scope: Mapping[str, Any]) -> dict[str, Any]:
    client = scope.get("client") or (None, None)
    return {"address": client[0], "port": client[1], "ssl_cert": None}


def _headers(chosen: Callable[[str], bool]) -> Callable[[Mapping[str, Any]], Any]:
    def choose(scope: Mapping[str, Any]) -> list[tuple[str, str]]:
        return [
            (decoded, value.decode("latin-1"))
            for name, value in scope["headers"]
            if chosen(decoded := name.decode("latin-1"))
        ]

    return choose


def peer(scope: Scope) -> str:
    """The client's address, for logs; empty if the server does not tell.

    Example:
        >>> peer({"client": ("10.0.0.1", 5000)})
        '10.0.0.1:5000'
    """
    client = scope.get("client")
    return f"{client[0]}:{client[1]}" if client else ""


def _uri(scope: Mapping[str, Any]) -> dict[str, Any]:
    host, _, port = (header(scope, b"host") or "").rpartition(":")
    if not port.isdecimal():
        host, port = header(scope, b"host") or "", ""
    server = scope.get("server") or (None, None)
    scheme = scope.get("scheme", "http")
    return {
        "scheme": {"ws": "http", "wss": "https"}.get(scheme, scheme),
        "host": host or server[0],
        "port": int(port) if port else {"ws": 80, "wss": 443}.get(scheme, server[1]),
        "path": scope["path"],
        "query": scope.get("query_string", b"").decode("latin-1"),
    }


def _session(
    scope: Scope, params: Mapping[str, Any], options: WebSocket
) -> Mapping[str, Any] | None:
    """The session of the application's middleware, if the request may use it.

    A page of another site can open a WebSocket with the user's cookies, but it does not know the
    token that the application's own page got from the session.
    """
    session: Mapping[str, Any] | None = scope.get("session")
    if session is None or not options.check_csrf:
        return session
    expected, given = session.get(options.csrf_token_key), params.get("_csrf_token")
    if not isinstance(expected, str) or not isinstance(given, str):
        return None
    return session if hmac.compare_digest(expected.encode(), given.encode()) else None


_MADE_LATE: Final[Mapping[str, Callable[[Mapping[str, Any]], Any]]] = {
    "peer_data": _peer_data,
    "uri": _uri,
    "user_agent": lambda scope: header(scope, b"user-agent"),
    "x_headers": _headers(lambda name: name.startswith("x-")),
    "trace_context_headers": _headers(_TRACE_HEADERS.__contains__),
    "sec_websocket_headers": _headers(lambda name: name.startswith("sec-websocket-")),
}
