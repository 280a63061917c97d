"""One connection and its topics: joins that are cancelled, refused or replaced."""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from roost import Channel, JoinRefused, Socket, event
from roost.testing import ChannelCase, ClientCase
from roost.wire.frame import Frame
from roost.wire.serializers import V2Serializer
from tests.channels.scenes import FrameClient, Notes, said, ticks
from tests.virtual_clock import run_virtually


class Pending:
    """A client whose join of ``room:1`` is being decided, and will not be.

    Attributes:
        notes: ``"cancelled"`` of the join, and the reason that terminate got.
    """

    def __init__(self, case: ChannelCase) -> None:
        notes = self.notes = Notes()

        class RoomChannel(Channel):
            async def join(self, topic: str, params: Any) -> None:
                self.subscribe("news")
                if "quick" in params:
                    return
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    notes.add("cancelled")
                    raise

            @event("ping")
            def ping(self, payload: Any) -> Any:
                return {}

            def terminate(self, reason: Any) -> None:
                notes.add(reason)

        class UserSocket(Socket):
            channels = {"room:*": RoomChannel}

        self.case = case
        self.client = case.client(UserSocket())

    async def begin(self) -> ClientCase:
        self.client.send("1", "1", "room:1", "phx_join", {})
        await ticks()
        assert said(self.client) == []
        return self.client

    @property
    def subscription_count(self) -> int:
        pubsub = self.case.endpoint.pubsub
        return len(pubsub.subscriptions("room:1")) + len(pubsub.subscriptions("news"))


async def test_a_leave_cancels_a_pending_join(case: ChannelCase):
    """The client gave up: the join is cancelled and cleaned up, then the leave is answered."""
    pending = Pending(case)
    alice = await pending.begin()

    alice.send("1", "2", "room:1", "phx_leave", {})
    await case.settled()

    assert pending.notes.all() == ["cancelled", "left"]
    assert said(alice) == ["reply ok 1/2", "phx_close 1/1"]
    assert pending.subscription_count == 0


async def test_a_newer_join_cancels_a_pending_join(case: ChannelCase):
    """Phoenix.js joins anew when 10 s were not enough: only the newer join counts."""
    pending = Pending(case)
    alice = await pending.begin()

    alice.send("2", "2", "room:1", "phx_join", {"quick": True})
    await case.settled()
    await ticks()

    assert pending.notes.all() == ["cancelled", "duplicate_join"]
    assert said(alice) == ["reply ok 2/2", "phx_close 1/1"]
    assert pending.subscription_count == 2  # of the newer join


@pytest.mark.parametrize("reason", ["closed", "disconnected", "draining"])
async def test_the_end_of_the_connection_cancels_a_pending_join(case: ChannelCase, reason: str):
    """Nothing of the join is left, and nobody is answered."""
    pending = Pending(case)
    alice = await pending.begin()

    alice.connection.close(reason)
    await case.settled()

    assert pending.notes.all() == ["cancelled", reason]
    assert said(alice) == []
    assert pending.subscription_count == 0
    assert alice.connection.runners == []


async def test_a_join_that_was_cancelled_before_it_began(case: ChannelCase):
    """A join and a leave in one batch: the coroutine never runs, and none is forgotten."""
    pending = Pending(case)
    alice = pending.client
    alice.send("1", "1", "room:1", "phx_join", {})
    alice.send("1", "2", "room:1", "phx_leave", {})
    alice.send("3", "3", "room:1", "phx_join", {"quick": True})
    await case.settled()
    await ticks()

    assert said(alice) == ["reply ok 1/2", "phx_close 1/1", "reply ok 3/3"]
    assert [each for each in pending.notes.all() if each != "cancelled"] == ["left"]
    assert pending.subscription_count == 2


async def test_messages_behind_a_cancelled_join_go_to_the_newer_one(case: ChannelCase):
    """What comes behind the newer join waits for it; what is the older one's is not handled."""
    pending = Pending(case)
    alice = await pending.begin()

    alice.send("1", "2", "room:1", "ping", {})
    alice.send("3", "3", "room:1", "phx_join", {"quick": True})
    alice.send("3", "4", "room:1", "ping", {})
    alice.send("1", "5", "room:1", "ping", {})
    await case.settled()
    await ticks()

    # When the first ping's turn came, nothing was joined; when the last's, another channel was.
    assert said(alice) == ["reply error /2", "reply ok 3/3", "phx_close 1/1", "reply ok 3/4"]


async def test_a_burst_of_joins_leaves_one_channel(case: ChannelCase):
    """Whatever a client sends in one batch, in the end there is the last join's channel."""
    pending = Pending(case)
    alice = pending.client
    for n in range(1, 30):
        ref = str(n)
        params = {"quick": True} if n % 3 else {}
        alice.send(ref, ref, "room:1", "phx_join", params)
        if n % 4 == 0:
            alice.send(ref, f"leave {n}", "room:1", "phx_leave", {})
    async with asyncio.timeout(5):
        while "reply ok 29/29" not in said(alice):
            await case.settled()

    (runner,) = alice.connection.runners
    assert runner.join_ref == "29"
    assert pending.subscription_count == 2
    assert [each for each in said(alice) if "29" in each] == ["reply ok 29/29"]


def test_a_join_that_ignores_its_cancellation_holds_up_its_topic_for_seconds_only():
    """It is given up after shutdown_timeout and a second; then the newer join goes on."""

    class RoomChannel(Channel):
        shutdown_timeout = 2.0

        async def join(self, topic: str, params: Any) -> None:
            release = self.socket.assigns["release"]
            while not (params or release.is_set()):
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    pass

    async def scene() -> None:
        async with ChannelCase() as case:
            socket = Socket()
            socket.assigns["release"] = asyncio.Event()
            alice = case.client(socket)
            stubborn = asyncio.ensure_future(alice.join("room:1", channel=RoomChannel))
            await ticks()
            again = await alice.join("room:1", {"quick": True}, timeout=60)
            assert asyncio.get_running_loop().time() == 3.0
            socket.assigns["release"].set()
            await ticks()
            assert again.channel.is_joined
            stubborn.cancel()
            await asyncio.wait({stubborn})
            assert len(alice.connection.runners) == 1

    run_virtually(scene())


async def test_a_topic_without_a_route(case: ChannelCase, caplog: pytest.LogCaptureFixture):
    """A join of it is refused and logged; the connection goes on."""
    alice = case.client(Socket())
    with pytest.raises(JoinRefused, match="unmatched topic"):
        await alice.join("room:1")
    assert "refused to join 'room:1': unmatched topic" in caplog.text


async def test_too_many_channels(case: ChannelCase, caplog: pytest.LogCaptureFixture):
    """A connection has a bound on its channels; an ended one makes room."""

    class UserSocket(Socket):
        channels = {"*": Channel}
        max_channels = 2

    alice = await case.connect(UserSocket)
    first, _ = await alice.join("1"), await alice.join("2")
    with pytest.raises(JoinRefused, match="too many channels joined"):
        await alice.join("3")
    assert "refused to join '3': too many channels joined" in caplog.text

    first.leave()
    await case.settled()
    await alice.join("3")


async def test_a_refusal_that_is_no_json(case: ChannelCase, caplog: pytest.LogCaptureFixture):
    """The client gets an answer all the same, the log has the reason, and nothing is left."""

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> None:
            raise JoinRefused({"load": float("nan")})

    class UserSocket(Socket):
        channels = {"room:*": RoomChannel, "lobby": Channel}

    alice = await case.connect(UserSocket)
    with pytest.raises(JoinRefused, match="join crashed"):
        await alice.join("room:1")

    assert "nan is not a JSON number" in caplog.text
    assert alice.connection.runners == []
    await alice.join("lobby")


ENDS: dict[str, Callable[[ClientCase], None]] = {
    "closed": lambda client: client.close(),
    "disconnected": lambda client: client.connection.close("disconnected"),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
async def test_a_closed_connection_leaves_nothing(
    case: ChannelCase, end: Callable[[ClientCase], None]
):
    """All its channels end; what is still sent to it is ignored, and closing again harmless."""

    class UserSocket(Socket):
        channels = {"room:*": Channel}

        def id(self) -> str:
            return "users:alice"

    alice = await case.connect(UserSocket)
    rooms = [await alice.join(f"room:{n}") for n in range(3)]
    for room in rooms:
        room.unsubscribe()  # the test kit's own

    end(alice)
    end(alice)
    alice.send("9", "9", "room:9", "phx_join", {})
    await case.settled()

    assert alice.connection.runners == []
    assert not any(room.channel.is_joined for room in rooms)
    pubsub = case.endpoint.pubsub
    assert [pubsub.subscriptions(f"room:{n}") for n in (0, 1, 2, 9)] == [(), (), (), ()]
    assert pubsub.subscriptions("users:alice") == ()
    assert said(alice) == []


async def test_a_transport_that_closes_while_it_is_written_to(case: ChannelCase):
    """A slow consumer is closed by a write: nothing that was to come behind it is begun."""
    begun = Notes()

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> None:
            begun.add(params["n"])

        @event("think")
        async def think(self, payload: Any) -> None:
            await asyncio.Event().wait()

    class SlowConsumer(FrameClient):
        is_full = False

        def write(self, frame: Frame) -> None:
            if self.is_full:
                self.connection.close("closed")
            super().write(frame)

    alice = SlowConsumer(case, {"room:*": RoomChannel}, V2Serializer)
    alice.send("1", "1", "room:1", "phx_join", {"n": 1})
    alice.send("1", "2", "room:1", "think", {})
    alice.send("1", "3", "room:1", "phx_leave", {})
    alice.send("4", "4", "room:1", "phx_join", {"n": 2})
    alice.is_full = True  # when the leave is answered
    await case.settled()
    await ticks()

    assert begun.all() == [1]
    assert alice.connection.runners == []
    assert case.endpoint.pubsub.subscriptions("room:1") == ()


async def test_a_join_while_a_crash_is_cleaned_up(case: ChannelCase):
    """It waits for the clean-up; then there is one channel, and the old one's end is told."""
    gate, notes = asyncio.Event(), Notes()

    class RoomChannel(Channel):
        @event("crash")
        def crash(self, payload: Any) -> None:
            raise LookupError

        async def terminate(self, reason: Any) -> None:
            await gate.wait()
            notes.add(type(reason))

    class UserSocket(Socket):
        channels = {"room:*": RoomChannel}

    alice = await case.connect(UserSocket)
    room = await alice.join("room:1")
    room.push("crash")
    alice.send("7", "7", "room:1", "phx_join", {})
    await ticks()
    assert said(alice) == []

    gate.set()
    await case.settled()
    await ticks()
    assert notes.all() == [LookupError]
    assert said(alice) == ["reply ok 7/7", "phx_close 1/1"]
    assert len(alice.connection.runners) == 1


async def test_what_waits_has_a_size(case: ChannelCase):
    """A client may have 8 MiB waiting for slow handlers, however few messages; then no more."""
    may_end = asyncio.Event()

    class RoomChannel(Channel):
        @event("save")
        async def save(self, payload: Any) -> Any:
            await may_end.wait()
            return {}

    alice = FrameClient(case, {"room:*": RoomChannel, "lobby": RoomChannel}, V2Serializer)
    alice.join()
    body = "x" * 1_000_000
    for number in range(12):
        frame = f'["1","{number}","room:1","save",{{"body":"{body}"}}]'
        alice.connection.receive_frame(frame)

    refused = [frame for frame in alice.frames if "overloaded" in frame.text]
    assert len(refused) == 3
    assert case.endpoint.counters["inbound_full"] == 3

    may_end.set()
    await ticks()
    alice.connection.receive_frame('["1","20","room:1","save",{}]')
    await ticks()
    assert alice.frames[-1].text == (
        '["1","20","room:1","phx_reply",{"status":"ok","response":{}}]'
    )


class Crowded:
    """A client that joins many topics with large parameters.

    Args:
        case: Runs.
        channel: Of all topics.
    """

    def __init__(self, case: ChannelCase, channel: type[Channel]) -> None:
        self.client = FrameClient(case, {"room:*": channel}, V2Serializer)

    def join(self, count: int, params: str, *, first: int = 0) -> list[str]:
        """Join ``room:0`` and so on; returns the statuses of the replies."""
        for number in range(first, first + count):
            frame = f'["{number}","{number}","room:{number}","phx_join",{{"since":7,"x":{params}}}]'
            self.client.connection.receive_frame(frame)
        return self.statuses()

    def receive(self, *fields: Any) -> list[str]:
        """Send one message; returns the statuses of the replies."""
        self.client.connection.receive_frame(json.dumps(fields))
        return self.statuses()

    def statuses(self) -> list[str]:
        frames, self.client.frames = self.client.frames, []
        payloads = [json.loads(frame.text)[4] for frame in frames]
        return [payload["status"] for payload in payloads if "status" in payload]


async def test_an_accepted_join_does_not_wait(case: ChannelCase):
    """What channels were joined with does not count as waiting as long as they live."""
    alice = Crowded(case, Channel)

    assert alice.join(100, f'"{"x" * 90_000}"') == ["ok"] * 100
    assert alice.receive(None, "1", "phoenix", "heartbeat", {}) == ["ok"]
    assert alice.receive("7", "2", "room:7", "phx_leave", {}) == ["ok"]


async def test_the_parameters_of_joins_are_bounded(case: ChannelCase):
    """Past 16 MiB of parameters of its channels a client's joins are refused, and nothing else."""
    alice = Crowded(case, Channel)

    assert alice.join(20, f'"{"x" * 1_000_000}"') == ["ok"] * 16 + ["error"] * 4
    assert case.endpoint.counters["inbound_full"] == 4
    assert alice.receive("7", "2", "room:7", "phx_leave", {}) == ["ok"]
    await ticks()
    assert alice.join(8, f'"{"x" * 1_000_000}"')[-1] == "ok"


async def test_the_decoded_parameters_of_a_join_go_with_its_decision(case: ChannelCase):
    """They are kept as JSON: decoded, nested arrays take twenty times as much."""

    class RoomChannel(Channel):
        async def join(self, topic: str, params: Any) -> None:
            await asyncio.sleep(0)

    alice = Crowded(case, RoomChannel)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(20):
            alice.join(1, f"[{','.join(['[]'] * 30_000)}]", first=number)
            await ticks()
            assert alice.statuses() == ["ok"]
        gc.collect()
        held_size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert held_size < 20 * 200_000
    channel = alice.client.connection.runners[0].channel
    assert channel.join_params["since"] == 7


async def test_the_parameters_are_what_the_client_sent(case: ChannelCase):
    """Whatever ``join`` makes of those that it is given."""

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> None:
            params["since"] = object()
            assert self.join_params == {"since": 7}

    room = await case.client(Socket()).join("room:1", {"since": 7}, channel=RoomChannel)

    assert room.channel.join_params == {"since": 7}


async def test_who_waits_may_leave(case: ChannelCase):
    """However much waits for handlers, heartbeats are answered and leaves are taken."""
    may_end = asyncio.Event()

    class RoomChannel(Channel):
        @event("save")
        async def save(self, payload: Any) -> None:
            await may_end.wait()

    alice = Crowded(case, RoomChannel)
    alice.join(1, "1")
    for number in range(9):
        alice.receive("0", str(number), "room:0", "save", {"body": "x" * 1_000_000})
    assert alice.receive("0", "9", "room:0", "save", {}) == ["error"]

    assert alice.receive(None, "10", "phoenix", "heartbeat", {}) == ["ok"]
    assert alice.receive("0", "11", "room:0", "heartbeat", {}) == ["error"]
    alice.receive("0", "12", "room:0", "phx_leave", {})
    may_end.set()
    await ticks()
    assert alice.statuses() == ["ok"]
    assert alice.client.connection.runners == []


async def test_what_waits_weighs_what_it_takes_decoded(case: ChannelCase):
    """A text of brackets takes twenty times its size, and counts as such."""

    class RoomChannel(Channel):
        @event("save")
        async def save(self, payload: Any) -> None:
            await asyncio.Event().wait()

    alice = Crowded(case, RoomChannel)
    alice.join(1, "1")
    refused = [
        alice.receive("0", str(number), "room:0", "save", {"body": [[]] * 60_000})
        for number in range(4)
    ]

    assert refused == [[], [], ["error"], ["error"]]


async def test_a_ref_for_later_holds_no_payload(case: ChannelCase):
    """A channel that answers later keeps the ref, and not the megabyte that came with it."""

    class RoomChannel(Channel):
        @event("save")
        def save(self, payload: Any) -> None:
            self.assigns.setdefault("refs", []).append(self.ref)

    alice = Crowded(case, RoomChannel)
    alice.join(1, "1")
    for number in range(12):
        statuses = alice.receive("0", str(number), "room:0", "save", {"body": "x" * 1_000_000})
        assert statuses == []

    (runner,) = alice.client.connection.runners
    runner.channel.assigns["refs"][3].reply({})
    assert alice.statuses() == ["ok"]
