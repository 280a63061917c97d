"""The client against a real server: what it offers, what it raises, and that it hangs nowhere."""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import AsyncIterator
from typing import Any, TypedDict

import msgspec
import pytest

from roost.client import (
    AlreadyJoined,
    ChannelEnded,
    Client,
    ClientClosed,
    ConnectFailed,
    ConnectRejected,
    JoinRejected,
    JoinTimedOut,
    Limits,
    MessagesDropped,
    Options,
    PresenceEvents,
    PushInterrupted,
    PushRejected,
    PushTimedOut,
)
from roost.exceptions import ConfigurationError, InvalidName, NotStarted, PayloadError
from tests.client.app import app, online, token
from tests.client.servers import Proxy
from tests.clients import V1, V2
from tests.engines import free_port
from tests.servers import run_uvicorn
from tests.waiting import until

FAST = Options(
    reconnect_delays=(0.01, 0.05),
    rejoin_delays=(0.05,),
    heartbeat_interval=0.5,
    heartbeat_timeout=0.5,
)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with run_uvicorn(app) as url:
        yield f"{url}/socket"


def client(url: str, name: str = "alice", **options: Any) -> Client:
    return Client(url, params={"name": name}, **{"options": FAST, **options})


# Life.


async def test_the_address(url: str):
    """It is that of the socket; http and ws are the same, and /websocket may be there."""
    for each in (url, url.replace("http", "ws"), f"{url}/websocket", f"{url}/?lang=en"):
        async with client(each) as alice:
            assert alice.state == "open"


@pytest.mark.parametrize("url", ["", "localhost:4000", "ftp://a/socket", "ws:///socket"])
def test_an_address_that_is_none(url: str):
    """It is refused where it is given."""
    with pytest.raises(ConfigurationError, match="ws://"):
        Client(url)


async def test_nobody_there():
    """The first connection is tried until its time is up; then it is told why."""
    port = free_port()
    with pytest.raises(ConnectFailed, match=rf"127.0.0.1:{port}/socket/websocket: .*[Cc]onnect"):
        await Client(f"ws://127.0.0.1:{port}/socket?password=1", connect_timeout=0.3).connect()


async def test_a_server_that_comes_later():
    """Whoever starts before the server waits for it."""
    async with Proxy(free_port()) as proxy, asyncio.TaskGroup() as group:
        alice = client(proxy.url)
        connecting = group.create_task(alice.connect())
        await until(lambda: proxy.connection_count > 2)
        async with run_uvicorn(app) as url:
            proxy.target = int(url.rpartition(":")[2])
            await connecting
            await alice.close()


async def test_a_refused_handshake(url: str):
    """It is told at once, with the status, and without the token."""
    with pytest.raises(ConnectRejected) as refused:
        await Client(url, token=token("alice", -1)).connect()

    assert refused.value.status == 403
    assert "alice" not in str(refused.value)


async def test_before_and_after():
    """A client that was not connected, or is closed, says so."""
    alice = client("ws://127.0.0.1:1/socket")
    with pytest.raises(NotStarted):
        await alice.join("room:1")
    await alice.close()
    with pytest.raises(NotStarted):
        await alice.join("room:1")


async def test_closing_ends_everything(url: str):
    """Iterations end, whoever waits is told, and nothing runs any more."""
    alice = client(url)
    await alice.connect()
    room = await alice.join("room:1")
    waiting = asyncio.create_task(room.push("silence", timeout=math.inf))
    reading = asyncio.create_task(collect(room))
    await until(lambda: alice._replies != {})
    await alice.flush()

    await alice.close()

    assert isinstance(await gather(waiting), ChannelEnded)
    assert await reading == []
    with pytest.raises(ClientClosed):
        await alice.join("room:2")
    with pytest.raises(ClientClosed):
        await room.push("echo")
    await until(lambda: online.count_users("room:1") == 0)
    assert len(asyncio.all_tasks()) <= 12  # those of the test, and of the server


async def test_what_was_pushed_is_sent_before_it_closes(url: str):
    """A script may push, and end."""
    async with client(url, "bob") as bob:
        room = await bob.join("room:1")
        async with client(url) as alice:
            hers = await alice.join("room:1")
            for number in range(500):
                hers.push_nowait("shout", {"n": number})

        for number in range(500):
            assert (await room.receive(5)).payload == {"n": number}


async def test_a_close_that_is_cancelled_goes_on(url: str):
    """Nothing is left half open."""
    alice = client(url)
    await alice.connect()
    closing = asyncio.create_task(alice.close())
    await asyncio.sleep(0)
    closing.cancel()
    await gather(closing)
    await until(lambda: alice.state == "closed")


async def test_nothing_holds_a_client_that_is_closed(url: str):
    """A thousand clients one after the other take the memory of one."""
    for _ in range(2):
        async with client(url) as alice:
            await alice.join("room:1")
    gc.collect()
    alive = [each for each in gc.get_objects() if type(each) is Client and each is not alice]

    assert alive == []


async def collect(stream: Any) -> list[Any]:
    """The payloads of an iteration until its end."""
    return [message.payload async for message in stream]


async def gather(task: asyncio.Future[Any]) -> Any:
    """The result of a task, or what it raised."""
    results = await asyncio.gather(task, return_exceptions=True)
    return results[0]


# Tokens and parameters.


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_token_is_asked_for_at_each_connection(url: str, is_async: bool):
    """One that has expired is never used again."""
    tokens: list[str] = []

    def make() -> str:
        tokens.append(token("alice", lasts=0.3))
        return tokens[-1]

    async def make_async() -> str:
        return make()

    async with Client(url, token=make_async if is_async else make, options=FAST) as alice:
        room = await alice.join("room:1")
        for count in range(2, 5):
            await asyncio.sleep(0.35)
            room.push_nowait("disconnect")
            await until(lambda count=count: alice.connect_count == count)  # type: ignore[misc]
            await room.presence.synced(5)

    assert len(tokens) == 4


async def test_a_token_that_expires_without_another(url: str):
    """After some refusals the client gives up, and tells everybody."""
    options = Options(reconnect_delays=(0.01,), max_refusals=3)
    alice = Client(url, token=token("alice", lasts=0.3), options=options)
    await alice.connect()
    room = await alice.join("room:1")
    reading = asyncio.create_task(collect(room))
    await asyncio.sleep(0.35)
    room.push_nowait("disconnect")

    assert isinstance(await gather(reading), ConnectRejected)
    assert alice.state == "closed"
    with pytest.raises(ConnectRejected):
        await room.push("echo")
    with pytest.raises(ConnectRejected):
        await room.presence.synced()
    assert isinstance(room.error, ConnectRejected)
    await alice.close()


async def test_a_provider_that_fails_for_a_while(url: str):
    """It is asked again; at the first connection its failure is the reason that is told."""
    answers = iter([{"name": "alice"}, None, None, {"name": "alice"}])

    def params() -> dict[str, Any]:
        answer = next(answers)
        if answer is None:
            raise LookupError("no database")
        return answer

    async with Client(url, params=params, options=FAST) as alice:
        room = await alice.join("room:1")
        room.push_nowait("disconnect")
        await until(lambda: alice.connect_count == 2)

    def never() -> dict[str, Any]:
        raise LookupError("no database")

    with pytest.raises(ConnectFailed, match="LookupError: no database"):
        await Client(url, params=never, connect_timeout=0.2).connect()


async def test_parameters_of_a_join_are_asked_for_each_time(url: str):
    """So that a token in them is a fresh one."""
    count = 0

    async def params() -> dict[str, Any]:
        nonlocal count
        count += 1
        return {"count": count}

    async with client(url) as alice:
        room = await alice.join("room:1", params)
        responses: list[Any] = []
        room.on_join(responses.append)
        assert room.response == {"params": {"count": 1}}
        room.push_nowait("crash")
        await until(lambda: responses)
        assert responses == [{"params": {"count": 2}}]


async def test_parameters_of_a_first_join_that_cannot_be_had(url: str):
    """What the function raises is raised by the join."""

    def params() -> dict[str, Any]:
        raise LookupError("no database")

    async with client(url) as alice:
        with pytest.raises(LookupError):
            await alice.join("room:1", params)
        await alice.join("room:1")


# Channels.


@pytest.mark.parametrize("vsn", [V1, V2])
async def test_pushes_and_broadcasts(url: str, vsn: str):
    """Over both versions of the protocol."""
    async with client(url, vsn=vsn) as alice, client(url, "bob") as bob:
        hers, his = await alice.join("room:1"), await bob.join("room:1")
        assert await hers.push("echo", {"body": "hi"}) == {"body": "hi"}
        hers.push_nowait("shout", {"body": "hi"})
        message = await his.receive(5)
        assert (message.topic, message.event, message.payload) == (
            "room:1",
            "shout",
            {"body": "hi"},
        )


async def test_bytes(url: str):
    """They go as binary frames, in both directions."""
    async with client(url) as alice:
        room = await alice.join("room:1")
        assert await room.push("echo", b"\x00\xff") == b"\x00\xff"
        room.push_nowait("shout", bytearray(b"hi"))
        assert (await room.receive(5)).payload == b"hi"


async def test_errors_have_types(url: str):
    """Each outcome is an exception of its own, with what the server said."""
    async with client(url) as alice:
        with pytest.raises(JoinRejected) as refused:
            await alice.join("room:1", {"refuse": True})
        assert refused.value.response == {"reason": "not you"}
        with pytest.raises(JoinRejected, match="unmatched topic"):
            await alice.join("nowhere:1")
        room = await alice.join("room:1")
        with pytest.raises(AlreadyJoined):
            await alice.join("room:1")
        with pytest.raises(PushRejected) as rejected:
            await room.push("refuse", {"why": "no"})
        assert (rejected.value.status, rejected.value.response) == ("error", {"why": "no"})
        with pytest.raises(PushTimedOut):
            await room.push("silence", timeout=0.1)
        with pytest.raises(PayloadError):
            await room.push("echo", {"load": math.nan})
        with pytest.raises(PayloadError):
            await room.push("echo", ["no", "object"])
        with pytest.raises(InvalidName):
            await room.push(5)  # type: ignore[arg-type]
        await room.leave()
        with pytest.raises(ChannelEnded):
            await room.push("echo")
        with pytest.raises(ChannelEnded):
            await room.join()
        with pytest.raises(ChannelEnded):
            await room.presence.synced()


async def test_a_timeout_is_a_timeout_error(url: str):
    """The errors are also those of Python, for whoever catches these."""
    async with Proxy(int(url.split(":")[2].split("/")[0])) as proxy, client(proxy.url) as alice:
        proxy.is_silent = True
        with pytest.raises(TimeoutError) as timed_out:
            await alice.join("room:1", timeout=0.3)
        assert isinstance(timed_out.value, JoinTimedOut)


async def test_a_channel_for_a_block(url: str):
    """It is left at the end."""
    async with client(url) as alice:
        async with alice.join("room:1") as room:
            await room.presence.synced(5)
        await until(lambda: online.count_users("room:1") == 0)
        async with alice.channel("room:1") as room:
            assert room.state == "joined"


async def test_callbacks_from_the_first_message_on(url: str):
    """They are registered before the join; what they raise touches nothing."""
    heard: list[Any] = []
    async with client(url) as alice:
        room = alice.channel("room:1")

        def fail(payload: Any) -> None:
            raise RuntimeError("on purpose")

        async def slowly(payload: Any) -> None:
            await asyncio.sleep(0.01)
            heard.append(("slowly", payload["n"]))

        room.on("shout", fail)
        end = room.on("shout", lambda payload: heard.append(("at once", payload["n"])))
        room.on("shout", slowly)
        await room.join()
        for number in range(3):
            room.push_nowait("shout", {"n": number})
        await until(lambda: len(heard) == 6)
        assert [each for each in heard if each[0] == "slowly"] == [
            ("slowly", 0),
            ("slowly", 1),
            ("slowly", 2),
        ]
        end()
        room.push_nowait("shout", {"n": 3})
        await until(lambda: ("slowly", 3) in heard)
        assert ("at once", 3) not in heard


async def test_streams_of_some_events(url: str):
    """Several can be read at once; each has all that it is for."""
    async with client(url) as alice:
        room = await alice.join("room:1")
        shouts, others = room.messages("shout"), room.messages("whisper")
        room.push_nowait("shout", {"n": 1})
        assert (await shouts.receive(5)).payload == {"n": 1}
        assert (await room.receive(5)).payload == {"n": 1}
        with pytest.raises(TimeoutError):
            await others.receive(0.05)
        shouts.close()
        assert await collect(shouts) == []


async def test_a_stream_that_nobody_holds_holds_nothing(url: str):
    """Whoever leaves an iteration need not close its stream."""
    async with client(url) as alice:
        room = await alice.join("room:1")
        room.push_nowait("shout")
        async for message in room.messages("shout"):
            assert message.event == "shout"
            break
        changes = room.presence.changes()
        gc.collect()
        assert len(room._streams) == 1
        del changes
        assert len(room.presence._streams) == 0


async def test_a_slow_reader_is_told_what_it_missed(url: str):
    """The oldest messages are dropped, by default, and reading goes on."""
    async with client(url, limits=Limits(max_queue_count=3)) as alice:
        room = await alice.join("room:1")
        heard: list[Any] = []
        room.on("shout", heard.append)
        for number in range(10):
            room.push_nowait("shout", {"n": number})
        await until(lambda: len(heard) == 10)

        with pytest.raises(MessagesDropped) as dropped:
            await collect(room)
        assert dropped.value.count == 7
        assert [(await room.receive()).payload["n"] for _ in range(3)] == [7, 8, 9]


async def test_the_newest_may_be_dropped_instead(url: str):
    """Then the first ones come, and after them what was dropped is told."""
    limits = Limits(max_queue_count=3, overflow="drop_newest")
    async with client(url, limits=limits) as alice:
        room = await alice.join("room:1")
        heard: list[Any] = []
        room.on("shout", heard.append)
        for number in range(10):
            room.push_nowait("shout", {"n": number})
        await until(lambda: len(heard) == 10)

        assert [(await room.receive()).payload["n"] for _ in range(3)] == [0, 1, 2]
        with pytest.raises(MessagesDropped) as dropped:
            await room.receive()
        assert dropped.value.count == 7


async def test_a_bound_of_bytes(url: str):
    """A few large messages fill a stream, too."""
    async with client(url, limits=Limits(max_queue_size=25_000)) as alice:
        room = await alice.join("room:1")
        heard: list[Any] = []
        room.on("shout", heard.append)
        for _ in range(10):
            room.push_nowait("shout", b"x" * 10_000)
        await until(lambda: len(heard) == 10)
        with pytest.raises(MessagesDropped) as dropped:
            await room.receive()
        assert dropped.value.count == 8


async def test_cancelling_loses_nothing(url: str):
    """A push that was not sent is not sent; a message that was not returned is still there."""
    async with client(url) as alice:
        room = await alice.join("room:1")
        reading = asyncio.create_task(room.receive())
        await asyncio.sleep(0)
        reading.cancel()
        await gather(reading)
        room.push_nowait("shout", {"n": 1})
        assert (await room.receive(5)).payload == {"n": 1}

        pushing = asyncio.create_task(room.push("silence"))
        await asyncio.sleep(0)
        pushing.cancel()
        await gather(pushing)
        assert (alice._replies, alice._protocol._line.sent) == ({}, {})


async def test_a_join_that_is_cancelled_is_left(url: str):
    """Nobody is present by a join that nobody waits for."""
    async with client(url) as alice:
        for _ in range(3):
            joining = asyncio.create_task(alice.channel("room:1").join())
            await asyncio.sleep(0)
            await alice.flush()
            joining.cancel()
            await gather(joining)
        room = await alice.join("room:1")
        await until(lambda: online.count_connections("room:1") == 1)
        assert list(await room.presence.synced(5)) == ["alice"]


async def test_the_server_ends_a_channel(url: str):
    """Its iteration ends, and it is not joined again."""
    async with client(url) as alice:
        room = await alice.join("room:1")
        room.push_nowait("stop")
        assert await collect(room) == []
        assert (room.state, room.error) == ("closed", None)


async def test_a_channel_that_crashes_comes_back(url: str):
    """A push that waited for its reply fails at once, and not after its timeout."""
    async with client(url) as alice:
        room = await alice.join("room:1")
        with pytest.raises(PushInterrupted):
            await room.push("crash", timeout=60)
        assert await room.push("echo", {"n": 1}, timeout=5) == {"n": 1}


async def test_states_are_told(url: str):
    """Whoever shows a light for the connection is called at each change."""
    states: list[str] = []
    alice = client(url)
    alice.on_state(lambda state, reason: states.append(state))
    async with alice:
        room = await alice.join("room:1")
        room.push_nowait("disconnect")
        await until(lambda: alice.connect_count == 2)

    assert states == ["connecting", "open", "waiting", "connecting", "open", "closed"]


# Presence.


async def test_who_is_there(url: str):
    """The list, its changes as callbacks and as a stream, and the counts."""
    async with client(url) as alice, client(url, "bob") as bob, client(url, "bob") as bob_too:
        room = await alice.join("room:1")
        presence = await room.presence.synced(5)
        told: list[tuple[str, str]] = []
        presence.on_join(lambda key, current, joined: told.append(("join", key)))
        presence.on_leave(lambda key, current, left: told.append(("leave", key)))
        changes = presence.changes()

        his, _ = await bob.join("room:1"), await bob_too.join("room:1")
        await until(lambda: presence.connection_count == 3)
        assert (len(presence), presence.user_count, list(presence)) == (2, 2, ["alice", "bob"])
        assert [meta["device"] for meta in presence["bob"]] == ["a", "a"]
        await his.push("become", {"device": "b"})
        await his.leave()
        await until(lambda: presence.connection_count == 2)
        await bob_too.close()
        await until(lambda: "bob" not in presence)

        assert told[0] == ("join", "bob")
        assert told[-1] == ("leave", "bob")
        change = await changes.receive(5)
        assert (change.kind, change.key, change.current) == ("join", "bob", None)
        with pytest.raises(KeyError):
            presence["bob"]


class Struct(msgspec.Struct):
    device: str
    phx_ref: str


class Dict(TypedDict):
    device: str


async def test_metas_have_the_type_that_one_likes(url: str):
    """A struct, a dataclass or a typed dict; what does not fit is said where it is read."""
    async with client(url) as alice:
        room = await alice.join("room:1", meta=Struct)
        (meta,) = (await room.presence.synced(5))["alice"]
        assert meta.device == "a"
        await room.push("become", {"dev": "b"})
        await until(lambda: "phx_ref_prev" in room.presence.entry("alice")["metas"][0])
        with pytest.raises(msgspec.ValidationError):
            room.presence["alice"]
        await room.leave()
        other = await alice.join("room:1", meta=Dict)
        (fields,) = (await other.presence.synced(5))["alice"]
        assert fields["device"] == "a"


async def test_without_presence(url: str):
    """Its events are messages then, or other events are those of presence."""
    async with client(url) as alice:
        room = await alice.join("room:1", presence=False)
        assert (await room.receive(5)).event == "presence_state"
        with pytest.raises(NotStarted):
            _ = room.presence
        await room.leave()
        renamed = PresenceEvents(state="presence_diff", diff="other")
        room = await alice.join("room:1", presence=renamed)
        assert (await room.receive(5)).event == "presence_state"
