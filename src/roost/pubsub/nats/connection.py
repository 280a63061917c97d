"""One attachment to a NATS server, by a client of nats-py that must not reconnect by itself."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, TypedDict
from urllib.parse import quote

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.transport import TcpTransport

from roost.pubsub.broker.adapter import ANSWER_TIMEOUT, CONNECT_TIMEOUT, ConnectionLost
from roost.pubsub.broker.outbox import Address

__all__ = ["NatsConnection", "Options", "connect", "explain"]

LINK_TIMEOUT: Final = 1.0  # seconds for a node to answer; one that is gone, the server answers for


class Options(TypedDict):
    """How to be admitted, in the words of nats-py."""

    user: str | None
    password: str | None
    token: str | None
    user_credentials: str | None
    nkeys_seed: str | None
    tls: ssl.SSLContext | None


async def connect(
    servers: Sequence[str],
    options: Options,
    namespace: str,
    addresses: Sequence[Address],
    receive: Callable[[bytes], None],
) -> NatsConnection:
    """Connect to any one of the servers and subscribe; whatever fails, nothing is left behind."""
    errors: list[Exception] = []
    for server in random.sample(servers, len(servers)):
        connection = NatsConnection(namespace, receive)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT / len(servers)):
                await connection.open(server, options, addresses)
            return connection
        except Exception as error:
            await connection.close()
            errors.append(error)
        except BaseException:
            await connection.close()
            raise
    raise errors[0]


def explain(error: BaseException) -> str | None:
    """Say what went wrong between us and the server."""
    text = str(error).removeprefix("nats: ").strip("'")
    match error:
        case nats.errors.AuthorizationError():
            return _WRONG_CREDENTIALS
        case nats.errors.SecureConnWantedError():
            return "the server does not offer TLS: turn it on there, or use nats://"
        case nats.errors.UnexpectedEOF() | nats.errors.ConnectionClosedError():
            return "the server closed the connection: does it run, did we read too slowly?"
        case nats.errors.Error() if "authorization violation" in text.lower():
            return _WRONG_CREDENTIALS
        case nats.errors.Error() if "permissions violation" in text.lower():
            return f"no permission ({text}): allow to publish and subscribe to <namespace>.>"
        case nats.errors.Error() if "INFO" in text:
            return "what answers there is no NATS server: is the port right?"
        case nats.errors.Error() if text:
            return text
        case _:
            return None


_WRONG_CREDENTIALS = (
    "wrong or missing credentials: give user and password, or a token, in the URL, or a "
    "credentials file or an nkey"
)


class _Client(Client):
    """nats-py's client, with what its public side lacks.

    The parts that it touches are private: the tests fail when a release moves them.
    """

    must_have_tls = False

    def _connect_command(self) -> bytes:
        # nats-py takes ``tls://`` for "if the server likes": whoever sits in between could have
        # the credentials in the clear.
        if self.must_have_tls and not self._server_info.get("tls_required"):
            raise nats.errors.SecureConnWantedError
        return super()._connect_command()

    async def confirm(self) -> None:
        """Return when the server has taken all that was published before."""
        # The ping of nats-py's ``flush`` overtakes what is pending; and without its reader it
        # would not wait for an answer at all.
        pending, self._pending, self._pending_data_size = self._pending, [], 0
        if self._transport is not None:
            self._transport.writelines(pending)
        await self.rtt(timeout=ANSWER_TIMEOUT)  # type: ignore[arg-type]  # floats work

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        # nats-py would wait for the server to take what is pending, and leave tasks behind if it
        # doesn't. Whatever was confirmed has been taken; for the rest nobody waits.
        self._pending, self._pending_data_size = [], 0
        if isinstance(transport := self._transport, TcpTransport):
            for writer in (transport._io_writer, transport._bare_io_writer):
                if writer is not None:
                    writer.transport.abort()
        if self._flush_queue is not None:  # else it didn't come to connecting
            await super()._close(status, do_cbs)


class NatsConnection:
    """A client that is subscribed."""

    def __init__(self, namespace: str, receive: Callable[[bytes], None]) -> None:
        self._namespace = namespace
        self._client = _Client()
        self._client.msg_class = _arrivals(receive, f"{namespace}.inbox.")
        self._errors: list[Exception] = []
        self._closed = asyncio.Event()

    @property
    def max_size(self) -> int | None:
        return self._client.max_payload

    @property
    def other_count(self) -> None:
        return None  # a server does not say

    async def open(self, server: str, options: Options, addresses: Sequence[Address]) -> None:
        self._client.must_have_tls = server.startswith("tls:")
        try:
            await self._client.connect(
                [server],
                error_cb=self._note_error,
                closed_cb=self._note_closed,
                allow_reconnect=False,
                max_reconnect_attempts=1,  # 0 would stand for no limit
                reconnect_time_wait=0,
                connect_timeout=CONNECT_TIMEOUT,  # type: ignore[arg-type]  # floats work
                no_echo=True,
                pending_size=0,  # or publish waits for the server, and swallows being cancelled
                inbox_prefix=f"{self._namespace}.inbox",
                **options,
            )
        except nats.errors.NoServersError as error:
            # It does not say why; what it reported before does.
            raise self._errors[-1] if self._errors else error from None
        self._errors.clear()
        for address in addresses:
            answer = self._answer if address[0] == "link" else _pass
            await self._client.subscribe(self._subject(address), cb=answer)
        await self._confirm()

    async def run(self) -> None:
        await self._closed.wait()
        errors = [*self._errors, self._client.last_error]
        raise next((error for error in errors if error is not None), ConnectionLost("it is closed"))

    async def send(self, frames: Sequence[tuple[Address, bytes]]) -> None:
        for address, frame in frames:
            await self._client.publish(self._subject(address), frame)
        await self._confirm()

    async def check(self, links: Sequence[str]) -> Collection[str]:
        await self._confirm()
        are_gone = await asyncio.gather(*map(self._is_gone, links))
        return [link for link, is_gone in zip(links, are_gone, strict=True) if is_gone]

    async def close(self) -> None:
        await self._client.close()

    def _subject(self, address: Address) -> str:
        return ".".join((self._namespace, *map(_token, address)))

    async def _confirm(self) -> None:
        """Return when the server has taken all that was sent; raise what it refused."""
        await self._client.confirm()
        if self._errors:
            raise self._errors[-1]

    async def _is_gone(self, link: str) -> bool:
        try:
            await self._client.request(self._subject(("link", link)), timeout=LINK_TIMEOUT)
        except nats.errors.NoRespondersError:
            return True
        except nats.errors.TimeoutError:  # stopped, not gone
            pass
        return False

    async def _answer(self, message: Msg) -> None:
        if message.reply:
            await self._client.publish(message.reply)

    async def _note_error(self, error: Exception) -> None:
        self._errors.append(error)

    async def _note_closed(self) -> None:
        self._closed.set()


def _arrivals(receive: Callable[[bytes], None], inbox: str) -> type[Msg]:
    """A class of messages that are received as they are made.

    nats-py gives each subscription a queue and a task, and so loses the order of messages to all
    and to one node; it makes them in the order in which they came.
    """

    @dataclass
    class Arrival(Msg):
        def __post_init__(self) -> None:
            if not self.reply and not self.subject.startswith(inbox):
                receive(self.data)

    return Arrival


async def _pass(message: Msg) -> None:
    """Nothing: it was received when it arrived."""


def _token(text: str) -> str:
    return quote(text, safe="").replace(".", "%2E")
