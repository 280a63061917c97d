"""A client of the real servers: says what a test tells it to, and returns what it hears.

It keeps no state of channels and repairs nothing, so a test sees what was on the wire.

    async with connect(url, "/socket") as alice:
        assert await alice.join("room:1") == {}
        await alice.push("room:1", "shout", {"body": "hi"})
        assert await alice.receive("shout") == {"body": "hi"}
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus

V1, V2 = "1.0.0", "2.0.0"
TIMEOUT = 5.0  # seconds, for what must come; far above what it takes


class Received(NamedTuple):
    """One message of the server; V1 has no join_ref, so it is None there.

    The payload of a reply is `{"status": …, "response": …}`, in binary frames, too. It compares
    equal to a plain tuple: `("1", "1", "room:1", "phx_reply", ok({}))`.
    """

    join_ref: Any
    ref: Any
    topic: str
    event: str
    payload: Any


class Client:
    """One WebSocket connection; made by `connect`.

    Attributes:
        websocket: The connection, for what is no message.
        vsn: The protocol version spoken.
    """

    def __init__(self, websocket: ClientConnection, vsn: str) -> None:
        self.websocket = websocket
        self.vsn = vsn
        # Above those that a test makes up for `send`.
        self._refs = map(str, itertools.count(1001))
        self._join_refs: dict[str, str] = {}
        self._unread: list[Received] = []

    # Say.

    async def send(
        self, join_ref: Any, ref: Any, topic: str, event: str, payload: Any = None
    ) -> None:
        """Send a message as it is; bytes go as a binary frame."""
        await self.websocket.send(
            encode(self.vsn, join_ref, ref, topic, event, {} if payload is None else payload)
        )

    async def send_together(self, *messages: tuple[Any, Any, str, str, Any]) -> None:
        """Send messages in one write, so that the server reads them in one go."""
        for message in messages:
            data = encode(self.vsn, *message)
            if isinstance(data, bytes):
                self.websocket.protocol.send_binary(data)
            else:
                self.websocket.protocol.send_text(data.encode())
        self.websocket.transport.write(b"".join(self.websocket.protocol.data_to_send()))

    async def push(self, topic: str, event: str, payload: Any = None) -> str:
        """Send an event to a topic that was joined, and return its ref."""
        ref = next(self._refs)
        await self.send(self._join_refs.get(topic), ref, topic, event, payload)
        return ref

    async def ask(self, topic: str, event: str, payload: Any = None) -> Any:
        """`push`, and return the response of the ok reply."""
        return await self.reply(await self.push(topic, event, payload))

    async def start_join(self, topic: str, params: Any = None) -> str:
        """Send a join and return its ref, which is its join_ref, too."""
        ref = self._join_refs[topic] = next(self._refs)
        await self.send(ref, ref, topic, "phx_join", params)
        return ref

    async def join(self, topic: str, params: Any = None) -> Any:
        """Join and return the response of the ok reply."""
        return await self.reply(await self.start_join(topic, params))

    async def leave(self, topic: str) -> None:
        """Leave, and wait for the reply and the close."""
        await self.ask(topic, "phx_leave")
        await self.receive("phx_close", topic=topic)

    async def close(self) -> None:
        """Close the connection."""
        await self.websocket.close()

    # Hear.

    def seen(self, join_ref: Any, ref: Any, topic: str, event: str, payload: Any) -> Received:
        """What a message of the server looks like to this client: V1 has no join_ref."""
        return Received(None if self.vsn == V1 else join_ref, ref, topic, event, payload)

    async def receive_message(self, *, timeout: float = TIMEOUT) -> Received:
        """The next message.

        Raises:
            TimeoutError: None came.
            ConnectionClosed: The server closed; its code is in `rcvd.code`.
        """
        if self._unread:
            return self._unread.pop(0)
        async with asyncio.timeout(timeout):
            return decode(self.vsn, await self.websocket.recv())

    async def receive_messages(self, count: int) -> list[Received]:
        """The next `count` messages."""
        return [await self.receive_message() for _ in range(count)]

    async def receive(
        self, event: str, *, topic: str | None = None, timeout: float = TIMEOUT
    ) -> Any:
        """The payload of the next message of that event; others are kept for later calls."""
        message = await self._find(
            lambda each: each.event == event and topic in (None, each.topic), timeout
        )
        return message.payload

    async def reply(self, ref: str, *, status: str = "ok", timeout: float = TIMEOUT) -> Any:
        """The response of the reply to `ref`, which must be of that status."""
        message = await self._find(
            lambda each: each.event == "phx_reply" and each.ref == ref, timeout
        )
        assert message.payload["status"] == status, message
        return message.payload["response"]

    async def heartbeat(self) -> list[Received]:
        """Exchange a heartbeat; what the server said before its answer is returned.

        Whatever the server was to say because of what the client said earlier is among it, if the
        server says it at once: this is how to see that it says nothing.
        """
        ref = next(self._refs)
        await self.send(None, ref, "phoenix", "heartbeat")
        earlier = []
        while (message := await self.receive_message()).ref != ref:
            earlier.append(message)
        return earlier

    async def closed(self, *, timeout: float = TIMEOUT) -> int:
        """Wait until the server closes, and return its close code; what comes before is dropped."""
        async with asyncio.timeout(timeout):
            with suppress(ConnectionClosed):
                while True:
                    await self.websocket.recv()
        code = self.websocket.close_code
        assert code is not None
        return code

    async def _find(self, wanted: Any, timeout: float) -> Received:
        for position, message in enumerate(self._unread):
            if wanted(message):
                return self._unread.pop(position)
        async with asyncio.timeout(timeout):
            while True:
                message = decode(self.vsn, await self.websocket.recv())
                if wanted(message):
                    return message
                self._unread.append(message)


@asynccontextmanager
async def connect(
    url: str,
    path: str = "/socket",
    params: Mapping[str, Any] | Iterable[tuple[str, Any]] = (),
    *,
    vsn: str | None = V2,
    websocket_path: str | None = None,
    **options: Any,
) -> AsyncIterator[Client]:
    """Connect a client for the duration of the block.

    Args:
        url: Of the server; `http` or `ws`.
        path: Of the socket, as phoenix.js takes it: `/websocket` is added.
        params: Of the query.
        vsn: The protocol version; None leaves the parameter out, which means version 1.
        websocket_path: The whole path, where it is another one than that.
        options: Of `websockets.connect`: `additional_headers`, `origin`, `subprotocols`, …

    Raises:
        Refused: The server answered with an HTTP status.
    """
    pairs = list(params.items() if isinstance(params, Mapping) else params)
    if vsn is not None:
        pairs.append(("vsn", vsn))
    path = websocket_path or f"{path}/websocket"
    uri = f"{url.replace('http', 'ws', 1)}{path}?{urlencode(pairs)}"
    options = {"proxy": None, "compression": None, "ping_interval": None, **options}
    try:
        websocket = await connect_websocket(uri, **options)
    except InvalidStatus as error:
        raise Refused(error.response.status_code, bytes(error.response.body or b"")) from None
    async with websocket:
        yield Client(websocket, V1 if vsn is None else vsn)


class Refused(Exception):
    """The server refused the handshake.

    Attributes:
        status: Of its HTTP answer.
        body: Of its HTTP answer.
    """

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body


async def refusal(url: str, *args: Any, **options: Any) -> Refused:
    """Connect as `connect` does, expecting to be refused, and return how."""
    try:
        async with connect(url, *args, **options):
            raise AssertionError("expected the server to refuse, it accepted")
    except Refused as refused:
        return refused


def ok(response: Any) -> dict[str, Any]:
    """The payload of an ok reply."""
    return {"status": "ok", "response": response}


def error(response: Any) -> dict[str, Any]:
    """The payload of an error reply."""
    return {"status": "error", "response": response}


def encode(vsn: str, join_ref: Any, ref: Any, topic: str, event: str, payload: Any) -> str | bytes:
    """A message as it is on the wire."""
    if isinstance(payload, bytes):
        assert vsn.startswith("2."), "version 1 has no binary form"
        fields = [each.encode() for each in (join_ref or "", ref or "", topic, event)]
        return bytes([0, *map(len, fields)]) + b"".join(fields) + payload
    if vsn.startswith("1."):
        fields_by_name = {"topic": topic, "event": event, "payload": payload, "ref": ref}
        if join_ref is not None:
            fields_by_name["join_ref"] = join_ref
        return json.dumps(fields_by_name)
    return json.dumps([join_ref, ref, topic, event, payload])


def decode(vsn: str, data: str | bytes) -> Received:
    """A message of the server; asserts that it has the very form of its version."""
    if isinstance(data, bytes):
        return _decode_binary(data)
    message = json.loads(data)
    if vsn.startswith("1."):
        assert list(message) == ["topic", "event", "payload", "ref"], message
        return Received(
            None, message["ref"], message["topic"], message["event"], message["payload"]
        )
    assert isinstance(message, list), message
    return Received(*message)


def _decode_binary(data: bytes) -> Received:
    kind = data[0]
    count = {0: 3, 1: 4, 2: 2}[kind]
    end = 1 + count
    fields = []
    for size in data[1 : 1 + count]:
        fields.append(data[end : end + size].decode())
        end += size
    rest = data[end:]
    if kind == 0:
        join_ref, topic, event = fields
        return Received(join_ref or None, None, topic, event, rest)
    if kind == 1:
        join_ref, ref, topic, status = fields
        payload = {"status": status, "response": rest}
        return Received(join_ref or None, ref, topic, "phx_reply", payload)
    topic, event = fields
    return Received(None, None, topic, event, rest)
