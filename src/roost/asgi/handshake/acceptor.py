"""Accepting the WebSocket connections of one mount: the checks of the handshake, in order.

Parse the query, check the origin, take the auth token, choose the subprotocol, negotiate the
version, ask the application (Phoenix's ``Phoenix.Transports.WebSocket``). What fails is answered
with an HTTP status where the server can do that (the ASGI extension ``websocket.http.response``),
else by closing before accepting, which servers turn into 403.
"""

from __future__ import annotations

import contextvars
import logging
import time
from collections.abc import Mapping
from typing import Any

from roost.asgi.handshake.query import parse_query
from roost.asgi.handshake.request import (
    choose_subprotocol,
    connect_info,
    peer,
    split_auth_token,
    without_tokens,
)
from roost.asgi.lifecycle.run import Run
from roost.asgi.mount import Mount, PathPattern, WebSocket
from roost.asgi.origin import CheckOrigin, OriginPolicy, header
from roost.asgi.transports.close_codes import RESTART, close_websocket
from roost.asgi.transports.extension import server_counters, take_from
from roost.asgi.transports.limits import BoundedTransport
from roost.asgi.transports.raw import RawTransport
from roost.asgi.transports.websocket import WebSocketTransport
from roost.asgi.types import Receive, Scope, Send
from roost.channels import application
from roost.channels.application import Contained, Failed
from roost.channels.connection import Connection
from roost.channels.hub import Hub
from roost.channels.router import Router
from roost.channels.socket import ConnectInfo, Socket
from roost.exceptions import ConfigurationError, ConnectRefused, InvalidMessage, InvalidName
from roost.wire.serializers import Serializer, negotiate

__all__ = ["Acceptor", "deny"]

logger = logging.getLogger("roost.asgi")


class _Denied(Exception):
    """The handshake ends here, with this answer."""

    def __init__(self, status: int, body: str = "") -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body


class Acceptor:
    """Accept connections for one mount.

    Args:
        path: Where the socket is mounted.
        mount: The socket and its options.
        check_origin: The endpoint's, for transports without one of their own.

    Raises:
        ConfigurationError: Options that can't work together.
    """

    def __init__(self, path: str, mount: Mount, check_origin: CheckOrigin) -> None:
        if not path.startswith("/"):
            raise ConfigurationError(f'the path {path!r} must begin with "/", as in "/{path}"')
        options = WebSocket() if isinstance(mount.websocket, bool) else mount.websocket
        check = check_origin if options.check_origin is None else options.check_origin
        if check is False and not options.check_csrf:
            raise ConfigurationError(
                f"the WebSocket transport of {mount.socket.__qualname__} has neither an origin "
                "check nor a CSRF check: any web page could use its users' sessions"
            )
        if isinstance(options.subprotocols, str):
            raise ConfigurationError(f"subprotocols must be a list, got {options.subprotocols!r}")
        self.pattern = PathPattern(f"{path}/{options.path}")
        self.mount = mount
        self._options = options
        self._policy = OriginPolicy(check)
        self._router = Router(mount.socket.channels)
        self._serializers = options.serializers or mount.socket.serializers
        self._max_channels = mount.max_channels or mount.socket.max_channels
        # phoenix.js offers "phoenix" along with its token.
        phoenix = ["phoenix"] if mount.auth_token else []
        self._subprotocols = [*phoenix, *options.subprotocols]

    async def accept(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        path_params: Mapping[str, str],
        run: Run,
    ) -> None:
        """Shake hands and serve the connection.

        On a server that offers the scope extension it returns once the connection is set up: what
        a task and the calls of all middleware would take is more than the connection itself.

        Args:
            scope, receive, send: Of the ASGI server.
            path_params: What the pattern captured.
            run: Of the endpoint.
        """
        await receive()  # websocket.connect
        hub = run.hub
        # Of its own: what the application sets when it is asked is the connection's.
        context = contextvars.copy_context()
        try:
            socket, socket_id, serializer, subprotocol = await self._shake_hands(
                scope, path_params, hub, context
            )
        except _Denied as denied:
            await deny(scope, send, denied.status, denied.body)
            return
        await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})
        if run.is_ending:  # since the handshake began
            await close_websocket(send, RESTART)
            return
        transport: BoundedTransport
        run.server_counters = server_counters(scope)
        if (take := take_from(scope)) is not None:
            transport = RawTransport(
                take,
                self._options,
                hub.counters,
                run.remove,
                write_queue=run.write_queue,
                on_server_ending=run.close_connections,
            )
        else:
            transport = WebSocketTransport(receive, send, self._options, hub.counters, run.remove)
        connection = Connection(
            hub,
            socket,
            transport,
            hub.serializer(serializer),
            router=self._router,
            max_channels=self._max_channels,
            context=context,
            socket_id=socket_id,
            peer=peer(scope),
        )
        run.add(transport, self.mount.drainer)
        await transport.serve(connection)

    async def _shake_hands(
        self,
        scope: Scope,
        path_params: Mapping[str, str],
        hub: Hub,
        context: contextvars.Context,
    ) -> tuple[Socket, str | None, type[Serializer], str | None]:
        try:
            params = {**parse_query(scope.get("query_string", b"")), **path_params}
        except InvalidMessage as error:
            raise _Denied(400, str(error)) from error
        if not self._policy.allows(scope):
            logger.error(
                "refused the origin %r: it is not among the hosts that may connect; allow it with "
                "Endpoint(hosts=[…]) (%s)",
                header(scope, b"origin"),
                peer(scope),
            )
            raise _Denied(403)
        offered = list(scope.get("subprotocols") or ())
        auth_token = None
        if self.mount.auth_token:
            try:
                auth_token, offered = split_auth_token(offered)
            except InvalidMessage as error:
                raise _Denied(400, str(error)) from error
        may_go_on, subprotocol = choose_subprotocol(offered, self._subprotocols)
        if not may_go_on:
            logger.error(
                "refused the subprotocols %r: none is configured (%s)",
                without_tokens(offered),
                peer(scope),
            )
            raise _Denied(403)
        info = connect_info(
            scope,
            self.mount.connect_info,
            params=params,
            options=self._options,
            auth_token=auth_token,
        )
        vsn = params.get("vsn", "1.0.0")
        serializer = negotiate(vsn, self._serializers)
        if serializer is None:
            logger.warning(
                "refused protocol version %r: expected one like %s (%s)",
                vsn,
                " or ".join(each.version for each in self._serializers),
                peer(scope),
            )
            raise _Denied(403)
        socket, socket_id = await self._connect(params, info, serializer, hub, context)
        return socket, socket_id, serializer, subprotocol

    async def _connect(
        self,
        params: dict[str, Any],
        info: ConnectInfo,
        serializer: type[Serializer],
        hub: Hub,
        context: contextvars.Context,
    ) -> tuple[Socket, str | None]:
        """Ask the application; what it sets in ``context`` its handlers see."""
        started_at = time.perf_counter()
        try:
            socket = application.call_sync(context, self.mount.socket)
            socket.params, socket.session = params, info.session
            result = await application.run(context, socket.connect, params, info)
            if result is not None:
                raise TypeError(
                    f"connect returned {type(result).__name__}: return None to accept, raise "
                    "ConnectRefused to refuse"
                )
            socket_id = application.call_sync(context, socket.id)
        except Failed as failed:
            if isinstance(failed.error, ConnectRefused):
                self._log("REFUSED CONNECTION TO", params, serializer, hub, started_at)
                raise self._refusal(failed.error, info) from failed
            self._log_failure(failed.error, info)
            raise _Denied(500) from failed
        except Exception as error:
            self._log_failure(error, info)
            raise _Denied(500) from error
        if socket_id is not None:
            try:
                socket_id = hub.pubsub.name_limits.topic(socket_id, "id")
            except InvalidName as error:
                logger.warning(
                    "%s.id returned what is no topic: %s (%s)",
                    self.mount.socket.__qualname__,
                    error,
                    peer(info.scope),
                )
                raise _Denied(403) from error
        self._log("CONNECTED TO", params, serializer, hub, started_at)
        return socket, socket_id

    def _refusal(self, refused: ConnectRefused, info: ConnectInfo) -> _Denied:
        """What ``error_handler`` makes of a refusal; 403 without one, or if it fails."""
        handler = self._options.error_handler
        if handler is None:
            return _Denied(403)
        try:
            answer = application.call_sync(None, handler, refused)
            with Contained(handler):
                status, body = answer
                if not isinstance(status, int) or not isinstance(body, str):
                    raise TypeError(f"it returned {answer!r}, expected (status, body)")
        except Failed as failed:
            what = "%s failed, the client gets 403 (%s)"
            logger.error(what, failed.name, peer(info.scope), exc_info=failed.error)
            return _Denied(403)
        return _Denied(status, body)

    def _log_failure(self, error: BaseException, info: ConnectInfo) -> None:
        name, client = self.mount.socket.__qualname__, peer(info.scope)
        logger.error("connecting to %s failed (%s)", name, client, exc_info=error)

    def _log(
        self,
        what: str,
        params: dict[str, Any],
        serializer: type[Serializer],
        hub: Hub,
        started_at: float,
    ) -> None:
        level = self.mount.socket.log_connect
        if level is not None and logger.isEnabledFor(level):
            logger.log(
                level,
                "%s %s in %.0fµs\n  Transport: websocket\n  Serializer: %s\n  Parameters: %s",
                what,
                self.mount.socket.__qualname__,
                (time.perf_counter() - started_at) * 1e6,
                serializer.__qualname__,
                hub.parameter_filter.show(params),
            )


async def deny(scope: Scope, send: Send, status: int, body: str = "") -> None:
    """Answer a handshake with an HTTP status; where the server can't, it answers 403."""
    is_plain = status == 403 and not body
    # Servers answer a close with a plain 403. uvicorn logs an error for any other answer (seen in
    # 0.54, https://github.com/Kludex/uvicorn/pull/3138), so it gets one only where it is needed.
    if is_plain or "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1000, "reason": ""})
        return
    data = body.encode()
    headers = [(b"content-length", str(len(data)).encode())]
    if data:
        headers.append((b"content-type", b"text/plain; charset=utf-8"))
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": data})
