"""Socket: what an application says about its connections."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Final
from uuid import uuid4

from roost.aliases import EMPTY, Params
from roost.channels.channel import Channel, ChannelPresence, check_channel_presence
from roost.channels.joins import MAX_CHANNELS
from roost.channels.router import Route
from roost.exceptions import InvalidKey
from roost.naming import DEFAULT_LIMITS
from roost.wire.serializers import Serializer, V1Serializer, V2Serializer

__all__ = ["ConnectInfo", "Socket"]

MAX_BROWSER_ID_LENGTH: Final = 64  # characters; a UUID has 36


class ConnectInfo(Mapping[str, Any]):
    """What is known of a connecting client besides its parameters.

    It is a mapping of the values that the application itself configured; what comes from the
    client is in attributes. Names and contents follow Phoenix's ``connect_info``.

    Attributes:
        peer_data: ``{"address", "port", "ssl_cert"}``; values are None where the server is silent.
        uri: ``{"scheme", "host", "port", "path", "query"}`` of the request.
        user_agent: The ``user-agent`` header, or None.
        x_headers: Headers that begin with ``x-``, as (name, value) in order.
        trace_context_headers: ``traceparent`` and ``tracestate``.
        sec_websocket_headers: Headers that begin with ``sec-websocket-``.
        auth_token: The token sent by phoenix.js as ``authToken``; never verified by roost. None
            unless the mount says ``auth_token=True`` and the client sent exactly one.
        session: The session, if the application's middleware has one and the request may use it.
        scope: The ASGI scope, for everything else.
    """

    def __init__(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        peer_data: Mapping[str, Any] | None = None,
        uri: Mapping[str, Any] | None = None,
        user_agent: str | None = None,
        x_headers: Sequence[tuple[str, str]] = (),
        trace_context_headers: Sequence[tuple[str, str]] = (),
        sec_websocket_headers: Sequence[tuple[str, str]] = (),
        auth_token: str | None = None,
        session: Mapping[str, Any] | None = None,
        scope: Mapping[str, Any] | None = None,
    ) -> None:
        self._values = dict(values or {})
        self.peer_data = dict(peer_data or {})
        self.uri = dict(uri or {})
        self.user_agent = user_agent
        self.x_headers = list(x_headers)
        self.trace_context_headers = list(trace_context_headers)
        self.sec_websocket_headers = list(sec_websocket_headers)
        self.auth_token = auth_token
        self.session = session
        self.scope = dict(scope or {})

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class Socket:
    """One client connection: who may connect, under which id, and which channels serve it.

    Subclass it, name the channels, and give it to an ``Endpoint``. There is one instance for each
    connection.

    Attributes:
        channels: Topic pattern → channel class or ``Route``; the first match wins.
        max_channels: Channels that one connection may have at once.
        serializers: The protocol versions spoken, the preferred first.
        log_connect: Level of the connect log; None for none.
        presence: Tracks the channels that have no ``presence`` of their own; None for nobody.
        assigns: Yours; each channel starts with a copy.
        params: Those that ``connect`` gets.
        session: That of ``ConnectInfo``.

    Example:
        >>> class UserSocket(Socket):
        ...     async def connect(self, params, info):
        ...         self.assigns["user_id"] = params["user_id"]
        ...
        ...     def id(self):
        ...         return f"users:{self.assigns['user_id']}"
    """

    channels: ClassVar[Mapping[str, type[Channel[Any]] | Route]] = {}
    max_channels: ClassVar[int] = MAX_CHANNELS
    serializers: ClassVar[Sequence[type[Serializer]]] = (V1Serializer, V2Serializer)
    log_connect: ClassVar[int | None] = logging.INFO
    presence: ClassVar[ChannelPresence | None] = None

    # Set before ``connect``, by whoever connects.
    params: Mapping[str, Any] = EMPTY
    session: Mapping[str, Any] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_channel_presence(cls)

    def __init__(self) -> None:
        self.assigns: dict[str, Any] = {}

    @cached_property
    def store(self) -> dict[str, Any]:
        """Yours: what all channels of the connection share, where ``assigns`` are copies."""
        return {}

    @cached_property
    def browser_id(self) -> str:
        """The client's name for its browser, or one made up for this connection.

        The connect parameter ``browser_id`` if it is a presence key of up to 64 characters, for
        example a UUID that the page keeps in its local storage. It distinguishes anonymous browsers
        and proves nothing: a client may send what it likes.
        """
        given = self.params.get("browser_id")
        if not isinstance(given, str) or not 0 < len(given) <= MAX_BROWSER_ID_LENGTH:
            return str(uuid4())
        try:
            return DEFAULT_LIMITS.key(given)
        except InvalidKey:
            return str(uuid4())

    def connect(self, params: Params, info: ConnectInfo) -> Awaitable[None] | None:
        """Accept the connection, or refuse it; ``async def`` or ``def``.

        Verify a token here. Whatever context variables are set here, the handlers see.

        Args:
            params: Query and path parameters; ``a[b]=c`` is decoded to ``{"a": {"b": "c"}}``.
            info: What else is known of the client.

        Raises:
            ConnectRefused: To refuse; the client gets HTTP 403, and any other exception is logged
                and refuses too.
        """
        return None

    def id(self) -> str | None:
        """Topic that names this connection's user; None for anonymous connections.

        Broadcasting the event ``disconnect`` to it closes all connections with that id.
        """
        return None
