"""What a client must not send: it costs the sender its answer, its channel or its connection, as
the protocol says, and nobody else anything.
"""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from roost import Channel, Endpoint, Mount, Presence, RoostError, Socket, WebSocket, event
from tests.clients import V1, Client, connect, error, ok
from tests.crowd import frame, open_member, text_frame
from tests.servers import run_process, run_uvicorn, settled

pytestmark = pytest.mark.usefixtures("each_path")

MAX_FRAME_SIZE = 65_536  # bytes

JOIN_V2 = '["1","1","room:1","phx_join",{}]'


class RoomChannel(Channel):
    """A room whose join may wait, and whose handlers answer with what they get."""

    shutdown_timeout = 0.1  # one of the handlers never ends

    async def join(self, topic: str, params: Any) -> None:
        if topic.startswith("room:slow"):
            await asyncio.Event().wait()

    @event("ping")
    def ping(self, payload: Any) -> Any:
        return {"payload": payload}

    @event("shout")
    def shout(self, payload: Any) -> dict[str, Any]:
        self.broadcast("shout", payload)
        return {}

    @event("sleep")
    async def sleep(self, payload: Any) -> None:
        await asyncio.Event().wait()

    @event("track")
    def track(self, payload: dict[str, Any]) -> dict[str, Any]:
        try:
            online.track(self, payload["key"], payload["meta"])
        except RoostError as refused:
            return {"refused": type(refused).__name__}
        return {}


class UserSocket(Socket):
    channels = {"room:*": RoomChannel}


online = Presence()


@asynccontextmanager
async def a_room(vsn: str) -> AsyncIterator[tuple[Client, Client]]:
    """Alice, who misbehaves, and Bob, in one room; Bob notices nothing."""
    websocket = WebSocket(max_frame_size=MAX_FRAME_SIZE)
    endpoint = Endpoint({"/socket": Mount(UserSocket, websocket=websocket)}, presences=[online])
    async with run_uvicorn(endpoint) as url, connect(url) as bob:
        await bob.join("room:1")
        async with connect(url, vsn=vsn) as alice:
            await alice.send("1", "1", "room:1", "phx_join")
            assert await alice.receive_message() == alice.seen(
                "1", "1", "room:1", "phx_reply", ok({})
            )
            yield alice, bob
        assert await bob.heartbeat() == []
        assert await bob.ask("room:1", "ping", 1) == {"payload": 1}
        await bob.close()
        await settled(endpoint)
        assert endpoint.pubsub.subscriptions("room:1") == ()


# What costs the connection.

NO_MESSAGES = [
    "",
    " ",
    "phx",
    "{",
    "[",
    "null",
    "1",
    '"room:1"',
    "[]",
    '{"topic":"room:1"}',
    '[1,2,"room:1","ping",{}',
    '["1","2","room:1","ping",{},]',
    '["1","2","room:1","ping",NaN]',
    '["1","2","room:1","ping",{"a":-Infinity}]',
    '["1","2","room:1","ping",1e999]',
    '["1","2","room:1","ping","\\ud800"]',
    '["1","2","room:\\udc00\\ud800","ping",{}]',
    '["1","2","room:1","ping","\x00"]',
    '["1","2","room:1","ping",{}] ["1","3","room:1","ping",{}]',
    "\ufeff" + JOIN_V2,
    "[" * 30_000,
    '["1","2","room:1","ping",' + "[" * 20_000 + "]" * 20_000 + "]",
    '["1","2","room:1","ping",' + '{"a":' * 10_000 + "1" + "}" * 10_000 + "]",
]
WRONG_V2 = [
    '["1","2","room:1","ping"]',
    '["1","2",null,"ping",{}]',
    '["1","2",1,"ping",{}]',
    '["1","2",["room:1"],"ping",{}]',
    '["1","2",{},"phx_join",{}]',
    '["1","2","room:1",null,{}]',
    '["1","2","room:1",{"ping":1},{}]',
    '{"topic":"room:1","event":"ping","payload":{},"ref":"2"}',
]
WRONG_V1 = [
    JOIN_V2,
    '{"event":"ping","payload":{},"ref":"2"}',
    '{"topic":"room:1","payload":{},"ref":"2"}',
    '{"topic":"room:1","event":"ping","ref":"2"}',
    '{"topic":"room:1","event":"ping","payload":{}}',
    '{"topic":null,"event":"ping","payload":{},"ref":"2"}',
    '{"topic":7,"event":"ping","payload":{},"ref":"2"}',
    '{"topic":["room:1"],"event":"ping","payload":{},"ref":"2"}',
    '{"topic":"room:1","event":["ping"],"payload":{},"ref":"2"}',
]
WRONG_BINARY = [
    b"",
    b"\x00",
    b"\x00\x00\x00\x06",
    b"\x00\x01\x01\x06\x0412room:1pin",
    b"\x00\xff\xff\xff\xff" + b"x" * 1019,
    b"\x01\x01\x01\x06\x0412room:1ping",
    b"\x02\x01\x01\x06\x0412room:1ping",
    b"\xff\x01\x01\x06\x0412room:1ping",
    b"\x00\x01\x01\x06\x0412room:\xffping",
    b"\x00\x01\x01\x06\x04\x80\xffroom:1ping",
]


@pytest.mark.parametrize("vsn", ["1.0.0", "2.0.0"])
async def test_what_is_no_message_closes_the_connection(vsn: str, caplog: pytest.LogCaptureFixture):
    """JSON that is none, or of another shape: 1011, for the sender alone."""
    wrong: list[str | bytes] = [*NO_MESSAGES]
    wrong += [*WRONG_V1, b"", b"\x00\x01\x01\x06\x0412room:1ping"] if vsn == V1 else WRONG_V2
    if vsn != V1:
        wrong += WRONG_BINARY
    endpoint = Endpoint({"/socket": UserSocket})
    async with run_uvicorn(endpoint) as url, connect(url) as bob:
        await bob.join("room:1")
        for data in wrong:
            async with connect(url, vsn=vsn) as alice:
                await alice.join("room:1")
                await alice.websocket.send(data)
                assert (data, await alice.closed()) == (data, 1011)
        assert await bob.heartbeat() == []
        await bob.close()
        await settled(endpoint)
    warnings = [each for each in caplog.records if each.name.startswith("roost")]
    assert len(warnings) == len(wrong)
    assert all(each.getMessage().startswith("closing a connection") for each in warnings)


async def test_an_oversize_message(vsn: str):
    """A message of the greatest size is taken, one byte more closes the connection (1009)."""
    async with a_room(vsn) as (alice, _):
        message = json.dumps(["1", "2", "room:1", "ping", "{}"])
        if vsn == V1:
            fields = {"topic": "room:1", "event": "ping", "payload": "{}", "ref": "2"}
            message = json.dumps(fields)
        padding = "é" * ((MAX_FRAME_SIZE - len(message)) // 2)
        message = message.replace("{}", padding)
        message += " " * (MAX_FRAME_SIZE - len(message.encode()))

        await alice.websocket.send(message)
        assert await alice.reply("2") == {"payload": padding}

        await alice.websocket.send(f"{message} ")
        assert await alice.closed() == 1009


async def test_an_oversize_message_in_pieces(vsn: str):
    """Fragments count together, and an oversize binary message is as bad."""
    async with a_room(vsn) as (alice, _):
        await alice.websocket.send(["x" * 30_000] * 3)
        assert await alice.closed() == 1009
    async with a_room(vsn) as (alice, _):
        await alice.websocket.send(bytes(MAX_FRAME_SIZE + 1))
        assert await alice.closed() == 1009


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x84\0\0\0\0\xff\xfe\xfd\xfc", 1007),
        (b"\x81\x02hi", 1002),
        (b"\xf1\x80\0\0\0\0", 1002),
        (b"\x83\x80\0\0\0\0", 1002),
        (b"\x80\x80\0\0\0\0", 1002),
        (b"\x89\xfe\x00\x7e\0\0\0\0" + b"x" * 126, 1002),
    ],
    ids=["no UTF-8", "no mask", "reserved bits", "unknown opcode", "stray piece", "long ping"],
)
async def test_what_is_no_frame(vsn: str, data: bytes, code: int):
    """The WebSocket protocol itself is the server's business; the room is none the wiser."""
    async with a_room(vsn) as (alice, _):
        alice.websocket.transport.write(data)

        assert await alice.closed() == code


async def test_a_connection_that_breaks(vsn: str):
    """Without a closing handshake the channels end just as well."""
    async with a_room(vsn) as (alice, _):
        alice.websocket.transport.write(b"\x81\xfe")
        alice.websocket.transport.abort()


# What costs the message, or the channel.


async def test_unknown_events_get_an_error_reply_and_the_channel_lives(vsn: str):
    """They get an error reply, also those that only servers send; the channel lives."""
    async with a_room(vsn) as (alice, _):
        events = ["", "unknown", "phx_reply", "phx_error", "phx_close", "presence_diff", "join"]
        events += ["handle_in", "__init__", "terminate", "x" * 10_000]
        for event_name in events:
            await alice.send("1", "2", "room:1", event_name)
            assert await alice.receive_message() == alice.seen(
                "1", "2", "room:1", "phx_reply", error({"reason": "unknown event"})
            )
        await alice.send("1", "3", "room:1", "ping")
        assert await alice.reply("3") == {"payload": {}}


async def test_payloads_of_any_type(vsn: str):
    """A payload may be any JSON value; what it does to a handler is the handler's business."""
    async with a_room(vsn) as (alice, _):
        nested: Any = {}
        for _ in range(200):
            nested = {"a": [nested]}
        for payload in (None, True, 1.5, "text", [], [1], {"__proto__": {"x": 1}}, nested):
            await alice.websocket.send(_text(alice, "1", "2", "room:1", "ping", payload))
            assert await alice.reply("2") == {"payload": payload}


async def test_a_payload_that_a_handler_chokes_on(vsn: str, caplog: pytest.LogCaptureFixture):
    """Its channel crashes, alone, and can be joined again."""
    async with a_room(vsn) as (alice, _):
        await alice.send("1", "2", "room:1", "track", "not a dict")
        assert await alice.receive_message() == alice.seen(
            "1", "1", "room:1", "phx_error", {"reason": "channel_crash"}
        )
        await alice.send("3", "3", "room:1", "phx_join")
        assert await alice.reply("3") == {}
    assert "crashed in a handler" in caplog.text


async def test_names_of_the_object_prototype(vsn: str):
    """As keys of presences they would harm other people's browsers: they are refused."""
    async with a_room(vsn) as (alice, _):
        for key in ("__proto__", "constructor", "toString", None, 1.5, ["alice"]):
            await alice.send("1", "2", "room:1", "track", {"key": key, "meta": {}})
            assert await alice.reply("2") == {"refused": "InvalidKey"}
        metas: list[Any] = [[], "text", 7]
        for meta in metas:
            await alice.send("1", "2", "room:1", "track", {"key": "alice", "meta": meta})
            assert await alice.reply("2") == {"refused": "PayloadError"}
        assert online.count_connections("room:1") == 0


async def test_topics_that_lead_nowhere(vsn: str):
    """Joins, events and leaves of such topics are answered, whatever the topic."""
    async with a_room(vsn) as (alice, _):
        for topic in ("", "phoenix", "room", "Room:1", "\x00", "x" * 10_000):
            await alice.send("2", "2", topic, "phx_join")
            assert await alice.receive_message() == alice.seen(
                None, "2", topic, "phx_reply", error({"reason": "unmatched topic"})
            )
            await alice.send("2", "3", topic, "phx_leave")
            assert await alice.receive_message() == alice.seen("2", "3", topic, "phx_reply", ok({}))


async def test_refs_of_any_type():
    """A ref is the client's own business: whatever it is, it is echoed."""
    async with a_room("2.0.0") as (alice, _):
        for ref in ("", 7, -1.5, True, None, [1, {"a": 2}], {"b": None}, 10**30, "x" * 10_000):
            await alice.send("1", ref, "room:1", "ping")
            assert await alice.receive_message() == (
                "1",
                ref,
                "room:1",
                "phx_reply",
                ok({"payload": {}}),
            )


async def test_join_refs_of_another_channel():
    """What is for a channel that is no more is dropped; a number is no string."""
    async with a_room("2.0.0") as (alice, _):
        stale: list[Any] = ["0", 1, ["1"], {}, "", False]
        for join_ref in stale:
            await alice.send(join_ref, "2", "room:1", "ping")
            await alice.send(join_ref, "3", "room:1", "phx_leave")
        await alice.websocket.send(b"\x00\x00\x01\x06\x042room:1ping")

        assert await alice.heartbeat() == []


# Too much.


async def test_a_flood_of_joins(vsn: str):
    """A hundred channels, joins being decided included; the rest is refused at once."""
    async with a_room(vsn) as (alice, _):
        refs = [str(ref) for ref in range(2, 1002)]
        await alice.send_together(*((ref, ref, f"room:slow:{ref}", "phx_join", {}) for ref in refs))

        for ref in refs[99:]:
            assert await alice.receive_message() == alice.seen(
                ref,
                ref,
                f"room:slow:{ref}",
                "phx_reply",
                error({"reason": "too many channels joined"}),
            )
        assert await alice.heartbeat() == []


async def test_a_flood_behind_a_join(vsn: str):
    """A thousand messages wait for a join that is being decided; more are refused."""
    async with a_room(vsn) as (alice, _):
        await alice.send("2", "2", "room:slow", "phx_join")
        await alice.send_together(
            *(("2", str(ref), "room:slow", "ping", {}) for ref in range(3, 1103))
        )

        for ref in range(1003, 1103):
            assert await alice.receive_message() == alice.seen(
                "2", str(ref), "room:slow", "phx_reply", error({"reason": "overloaded"})
            )
        assert await alice.heartbeat() == []


async def test_a_flood_behind_a_slow_handler(vsn: str):
    """A thousand messages wait for a handler; more are refused."""
    async with a_room(vsn) as (alice, _):
        await alice.send("1", "2", "room:1", "sleep")
        await alice.send_together(
            *(("1", str(ref), "room:1", "ping", {}) for ref in range(3, 1103))
        )

        refused = [await alice.receive_message() for _ in range(100)]
        assert {each.payload["response"]["reason"] for each in refused} == {"overloaded"}
        assert await alice.heartbeat() == []


# A great many.

ROUND_COUNT = 22
MEMBER_COUNT = 10  # connections that send what does not close
REPEAT_COUNT = 23  # times that each of them sends all of BAD_MESSAGES in a round
WARM_UP_COUNT = 22  # rounds
MAX_GROWTH = 5_000_000  # bytes

BAD_MESSAGES: list[str | bytes] = [
    '["1","2","plain:1","unknown",{}]',
    '["1","2","plain:1","phx_reply",{"status":"ok"}]',
    '["1","2","plain:1","__init__",null]',
    '["0","2","plain:1","ping",{}]',
    '[1,"2","plain:1","phx_leave",{}]',
    '["1",{"a":[1]},"plain:1","ping",{"__proto__":{"x":1}}]',
    '["1","' + "r" * 5_000 + '","plain:1","ping",{}]',
    '["1","2","plain:1","ping",' + "[" * 300 + "]" * 300 + "]",
    '["1","1","plain:1","phx_join",[1,2]]',
    '["1","2","plain:1","shout","no object"]',
    '["1","1","plain:1","phx_join",{}]',
    '["2","2","nowhere","phx_join",{}]',
    '["2","2","nowhere","phx_leave",{}]',
    '["2","2","plain:2","ping",{}]',
    '["2","2","phoenix","phx_join",{}]',
    '["2","2","phoenix","unknown",{}]',
    '["3","3","room:forbidden","phx_join",{}]',
    '["3","3","room:boom","phx_join",{}]',
    b"\x00\x00\x00\x07\x04plain:1ping",
    b"\x00\x01\x01\x07\x071" + b"2plain:1unknown\xff\xfe",
]
BAD_ENDS: list[bytes] = [
    *(text_frame(each) for each in (*NO_MESSAGES, *WRONG_V2)),
    *(frame(0x2, each) for each in WRONG_BINARY),
    *(frame(0x1, b"\xff"), frame(0x3, b""), frame(0x0, b"stray"), b"\xf1\x80\0\0\0\0"),
    *(frame(0x1, bytes(1_048_577)), frame(0x9, bytes(126))),
]


@pytest.mark.timeout(300)  # for machines that do other things, too
async def test_a_hundred_thousand_of_them_cost_no_memory():
    """After warm-up the server grows by less than 5 MB, and somebody else in the room is well."""
    everything = b"".join(
        text_frame(each) if isinstance(each, str) else frame(0x2, each) for each in BAD_MESSAGES
    )

    async def misbehave(url: str) -> int:
        member = await open_member(url)
        await member.ask("1", message=["1", "1", "plain:1", "phx_join", {}])
        heartbeat: list[Any] = [None, "last", "phoenix", "heartbeat", {}]
        await member.ask("last", everything * REPEAT_COUNT, message=heartbeat)
        member.close()
        await member.lost
        return REPEAT_COUNT * len(BAD_MESSAGES)

    async def end_badly(url: str, data: bytes) -> int:
        member = await open_member(url)
        await member.ask("1", message=["1", "1", "plain:1", "phx_join", {}])
        member.send_raw(data)
        await member.lost
        assert member.close_code in (1002, 1007, 1009, 1011)
        return 1

    async with (
        run_process("examples.interop.app:app", log=subprocess.DEVNULL) as (url, process),
        connect(url) as bob,
    ):

        async def misbehave_together() -> int:
            members = (misbehave(url) for _ in range(MEMBER_COUNT))
            ends = (end_badly(url, data) for data in BAD_ENDS)
            async with asyncio.timeout(60):
                return sum(await asyncio.gather(*members, *ends))

        async def high_water(round_count: int) -> tuple[int, int]:
            """The most memory after any of the rounds, and how many inputs there were."""
            sizes, count = [], 0
            for _ in range(round_count):
                count += await misbehave_together()
                sizes.append(process.memory_info().rss)
            return max(sizes), count

        await bob.join("plain:1")
        # The same many rounds: what is free in the heap differs by megabytes from round to round.
        before, _ = await high_water(WARM_UP_COUNT)

        after, count = await high_water(ROUND_COUNT)

        assert count >= 100_000
        assert after - before < MAX_GROWTH
        assert await bob.heartbeat() == []
        assert await bob.ask("plain:1", "ping", {"n": 1}) == {"n": 1}


def _text(client: Client, join_ref: Any, ref: Any, topic: str, event: str, payload: Any) -> str:
    """A text frame, also for a payload that the client would replace."""
    if client.vsn == V1:
        fields = {"topic": topic, "event": event, "payload": payload, "ref": ref}
        return json.dumps({**fields, "join_ref": join_ref})
    return json.dumps([join_ref, ref, topic, event, payload])
