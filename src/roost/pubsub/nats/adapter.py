"""Nodes that hear each other through NATS: ``pip install "roost[nats]"``.

Messages go over core NATS, no JetStream: nothing is stored. Each node subscribes to three subjects:
``<namespace>.all``, ``<namespace>.node.<name>`` and ``<namespace>.link.<link>``, and gets answers
below ``<namespace>.inbox``; in names all but letters, digits and ``_-~`` is percent-encoded, dots
included. A server knows at once that nobody listens to a subject, which shows that the link of
another node is gone; links are asked about once a second, sixteen at a time.

A user of NATS needs to publish and to subscribe to ``<namespace>.>``, no more. A message that does
not fit into the server's ``max_payload``, 1 MB by default, goes in pieces, up to 4 MiB; a larger
one is dropped and counted. The limit may change while the server runs.
"""

from __future__ import annotations

import importlib.util
import ssl
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, unquote, urlsplit

from roost.exceptions import ConfigurationError
from roost.pubsub.broker.adapter import BrokerAdapter
from roost.pubsub.broker.outbox import Address
from roost.pubsub.broker.reasons import connection_reason
from roost.pubsub.broker.url import take_parameters

if TYPE_CHECKING:
    from roost.pubsub.nats.connection import NatsConnection

__all__ = ["NatsAdapter"]

DEFAULT_PORT: Final = 4222
PARAMETERS: Final = ("namespace", "credentials", "nkey", "tls_ca", "tls_cert", "tls_key")


class NatsAdapter(BrokerAdapter):
    """The way between nodes through a NATS server, or a cluster of them.

    Args:
        url: ``nats://user:password@host:4222``, or ``tls://…``, which accepts no server without
            TLS; several servers with commas, of which any one is taken. Credentials of the first
            are for all. ``namespace=``, ``credentials=``, ``nkey=``, ``tls_ca=``, ``tls_cert=`` and
            ``tls_key=`` may follow as query parameters, the last three as paths of PEM files.
        node_name: Name of the node; by default unique.
        namespace: Keeps apps on one server apart: letters, digits, ``-`` and ``_``; the URL's
            comes first, as it does for the next ones.
        token: A token instead of user and password.
        credentials: Path of a credentials file (``.creds``), which needs ``nats-py[nkeys]``.
        nkey: Path of a file with the seed of an nkey, which needs ``nats-py[nkeys]``.
        tls: Certificates, for a server that asks for ours, or whose authority is our own.
        max_outbox_count: How many messages may wait for the server; more are dropped and counted.
        max_outbox_size: How many bytes they may have together.

    Raises:
        ConfigurationError: An option can't work, or nats-py is not installed.

    Example:
        >>> NatsAdapter("nats://alice:secret@10.0.0.5,10.0.0.6", node_name="web-1").engine
        'nats://10.0.0.5:4222,nats://10.0.0.6:4222'
    """

    max_asked_count = 16  # in one check: each is a message to a node, and one back

    def __init__(
        self,
        url: str,
        *,
        node_name: str | None = None,
        namespace: str = "roost",
        token: str | None = None,
        credentials: str | Path | None = None,
        nkey: str | Path | None = None,
        tls: ssl.SSLContext | None = None,
        max_outbox_count: int = 50_000,
        max_outbox_size: int = 32 * 2**20,
    ) -> None:
        try:
            from roost.pubsub.nats import connection
        except ImportError as error:
            raise ConfigurationError(
                'NatsAdapter needs nats-py: pip install "roost[nats]"'
            ) from error
        url, given = take_parameters(url, PARAMETERS)
        credentials = given.get("credentials", credentials)
        nkey = given.get("nkey", nkey)
        tls = _tls(given) or tls
        if (credentials or nkey) and importlib.util.find_spec("nkeys") is None:
            raise ConfigurationError(
                'credentials files and nkeys need nkeys: pip install "nats-py[nkeys]"'
            )
        servers, user, password = _read_url(url)
        if token is None and password is None:
            user, token = None, user
        if sum(way is not None for way in (token, user, credentials, nkey)) > 1:
            raise ConfigurationError(
                "several kinds of credentials: give one of user and password, token, credentials, "
                "nkey"
            )
        super().__init__(
            ",".join(servers),
            node_name=node_name,
            namespace=given.get("namespace", namespace),
            max_outbox_count=max_outbox_count,
            max_outbox_size=max_outbox_size,
        )
        self._library = connection
        self._servers = servers
        self._options = connection.Options(
            user=user,
            password=password,
            token=token,
            user_credentials=None if credentials is None else str(credentials),
            nkeys_seed=None if nkey is None else str(nkey),
            tls=tls,
        )

    async def _connect(
        self, addresses: Sequence[Address], receive: Callable[[bytes], None]
    ) -> NatsConnection:
        return await self._library.connect(
            self._servers, self._options, self.namespace, addresses, receive
        )

    def _explain(self, error: BaseException) -> str | None:
        return connection_reason(error) or self._library.explain(error)


def _tls(given: Mapping[str, str]) -> ssl.SSLContext | None:
    """What ``tls_ca``, ``tls_cert`` and ``tls_key`` say, if they say anything."""
    ca, cert, key = (given.get(name) for name in ("tls_ca", "tls_cert", "tls_key"))
    if ca is cert is key is None:
        return None
    if key is not None and cert is None:
        raise ConfigurationError("tls_key= needs tls_cert=, the certificate that it is for")
    try:
        context = ssl.create_default_context(cafile=ca)
        if cert is not None:
            context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"tls_ca=, tls_cert=, tls_key= can't be used: {error}") from error
    return context


def _read_url(url: str) -> tuple[list[str], str | None, str | None]:
    """Return the servers without credentials, and the user and password, if any."""
    servers: list[str] = []
    user = password = None
    scheme = "nats"
    for part in url.split(","):
        has_scheme = "://" in part
        try:
            split = urlsplit(part if has_scheme else f"{scheme}://{part}")
            servers.append(_server(split))
        except ValueError as error:  # never with the URL: it may hold a password
            raise ConfigurationError(
                f"a NATS URL that can't work ({error}): expected nats://host:4222, "
                "tls://host:4222, or several with commas"
            ) from None
        scheme = split.scheme
        if user is None and split.username is not None:
            user = unquote(split.username)
            password = None if split.password is None else unquote(split.password)
    if len({server.partition("://")[0] for server in servers}) > 1:
        raise ConfigurationError("a NATS URL mixes nats:// and tls://: give one of them")
    return servers, user, password


def _server(split: SplitResult) -> str:
    if split.scheme not in ("nats", "tls"):
        raise ValueError("unknown scheme")
    if not split.hostname:
        raise ValueError("a host is missing")
    if split.path.strip("/") or split.query or split.fragment:
        raise ValueError("something follows the port; in a password, encode / ? # as %2F %3F %23")
    try:
        port = split.port or DEFAULT_PORT
    except ValueError:
        raise ValueError("the port is no number up to 65535") from None
    host = f"[{split.hostname}]" if ":" in split.hostname else split.hostname
    return f"{split.scheme}://{host}:{port}"
