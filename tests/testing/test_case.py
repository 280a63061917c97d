"""The test kit: what it does for a test, and what it says when a test fails."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from roost import (
    Channel,
    ConnectRefused,
    Endpoint,
    JoinRefused,
    Presence,
    PubSub,
    ReplyError,
    Socket,
    event,
)
from roost.testing import ChannelCase, ClientCase, JoinedCase
from tests.virtual_clock import run_virtually

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


class RoomChannel(Channel):
    def join(self, topic: str, params: Any) -> Any:
        if topic == "room:secret":
            raise JoinRefused({"reason": "unauthorized"})
        return {"params": params}

    @event("echo")
    def echo(self, payload: Any) -> Any:
        return payload

    @event("refuse")
    def refuse(self, payload: Any) -> Any:
        raise ReplyError(payload)

    @event("push_me")
    def push_me(self, payload: Any) -> None:
        self.push("pushed", payload)

    @event("shout")
    def shout(self, payload: Any) -> None:
        self.broadcast("shout", payload)

    @event("shout_from")
    def shout_from(self, payload: Any) -> None:
        self.broadcast_from("shout", payload)

    @event("stop")
    def stop_now(self, payload: Any) -> None:
        self.stop()

    @event("crash")
    def crash(self, payload: Any) -> None:
        raise RuntimeError("crash")

    def terminate(self, reason: Any) -> None:
        self.socket.assigns.setdefault("terminated", []).append(reason)


class UserSocket(Socket):
    channels = {"room:*": RoomChannel}

    def connect(self, params: Any, info: Any) -> None:
        if "reject" in params:
            raise ConnectRefused(params["reject"])
        self.assigns["params"] = params

    def id(self) -> str:
        return f"users:{self.assigns['params'].get('user_id', 'alice')}"


@pytest.fixture
async def case() -> AsyncIterator[ChannelCase]:
    async with ChannelCase(Endpoint({"/socket": UserSocket})) as case:
        yield case


@pytest.fixture
async def room(case: ChannelCase) -> JoinedCase:
    alice = await case.connect(UserSocket)
    return await alice.join("room:1")


# Connecting.


@pytest.mark.conforms("CT-1")
async def test_a_client_of_a_socket_that_is_connected_already(case: ChannelCase):
    """A client may be made of a socket, without its connect; it can join like any other."""
    alice = case.client(UserSocket())

    assert isinstance(alice.socket, UserSocket)
    assert (alice.id, alice.socket.assigns) == (None, {})
    assert alice.connection.hub is case.endpoint.hub
    await alice.join("room:1")


@pytest.mark.conforms("CT-2")
async def test_a_client_with_an_id_and_assigns(case: ChannelCase):
    """The test says which id and assigns the socket has; channels start with them."""
    socket = UserSocket()
    socket.assigns["user_id"] = "alice"
    alice = case.client(socket, id="users:alice")

    assert alice.id == "users:alice"
    assert (await alice.join("room:1")).channel.assigns == {"user_id": "alice"}
    case.broadcast("users:alice", "disconnect")
    await alice.assert_closed(1001)


@pytest.mark.conforms("CT-18")
async def test_connect_runs_the_sockets_own_connect(case: ChannelCase):
    """A refusal is raised; else the client has the socket's id, and routes find its channels."""
    with pytest.raises(ConnectRefused, match="go away"):
        await case.connect(UserSocket, {"reject": "go away"})

    alice = await case.connect(UserSocket, {"user_id": "alice"})
    assert alice.id == "users:alice"
    assert type((await alice.join("room:1")).channel) is RoomChannel
    with pytest.raises(JoinRefused, match="unmatched topic"):
        await alice.join("lobby")


@pytest.mark.conforms("CT-23")
async def test_connect_params_are_as_a_server_gets_them(case: ChannelCase):
    """Keys become strings at any depth, as they would on their way."""
    alice = await case.connect(UserSocket, {1: {2: "two"}})  # type: ignore[dict-item]
    assert alice.socket.assigns["params"] == {"1": {"2": "two"}}


@pytest.mark.conforms("CT-39")
async def test_a_disconnect_can_be_seen(case: ChannelCase):
    """A client is subscribed to its id: the test sees that it is disconnected by it."""
    alice = await case.connect(UserSocket, {"user_id": "alice"})
    case.broadcast("users:alice", "disconnect")
    await alice.assert_closed(1001)


@pytest.mark.conforms("CT-3", "CT-5", "CT-19", "CT-25")
async def test_any_task_may_use_what_another_made(case: ChannelCase):
    """Clients, joins and assertions belong to the loop, not to the task that began them."""

    async def in_task(step: Awaitable[Any]) -> Any:
        async def run() -> Any:
            return await step

        return await asyncio.create_task(run())

    async def make() -> ClientCase:
        return case.client(UserSocket())

    made: ClientCase = await in_task(make())
    room: JoinedCase = await in_task(made.join("room:1"))
    connected: ClientCase = await in_task(case.connect(UserSocket))
    bob: JoinedCase = await in_task(connected.join("room:1"))

    room.push("shout", {"n": 1})
    await in_task(room.assert_push("shout", {"n": 1}))
    await in_task(bob.assert_push("shout", {"n": 1}))


async def test_connect_has_a_context_of_its_own(case: ChannelCase):
    """Context variables that connect sets are the connection's: the test's stay as they are."""
    seen = []

    class ContextChannel(Channel):
        def join(self, topic: str, params: Any) -> None:
            seen.append(user.get())

    class Inline(Socket):
        channels = {"*": ContextChannel}

        def connect(self, params: Any, info: Any) -> None:
            user.set(params["name"])

    class Later(Inline):
        async def connect(self, params: Any, info: Any) -> None:  # type: ignore[override]
            await asyncio.sleep(0)
            user.set(params["name"])

        def id(self) -> str:
            return user.get()

    alice = await case.connect(Inline, {"name": "alice"})
    bob = await case.connect(Later, {"name": "bob"})
    for client in (alice, bob):
        await client.join("room:1")

    assert seen == ["alice", "bob"]
    assert bob.id == "bob"
    assert user.get() == "nobody"


async def test_what_a_server_would_refuse_raises(case: ChannelCase):
    """A connect that returns something, or an id of another type, is a mistake of the socket."""

    class Returning(Socket):
        def connect(self, params: Any, info: Any) -> Any:
            return True

    class Numbered(Socket):
        def id(self) -> Any:
            return 7

    with pytest.raises(TypeError, match="connect returned True"):
        await case.connect(Returning)
    with pytest.raises(TypeError, match="id returned 7"):
        await case.connect(Numbered)


# Joining.


async def test_a_refused_join_raises(case: ChannelCase):
    """JoinRefused has the payload of the error reply, and leaves no subscription."""
    alice = await case.connect(UserSocket)
    with pytest.raises(JoinRefused) as refused:
        await alice.join("room:secret")
    assert refused.value.payload == {"reason": "unauthorized"}
    assert case.endpoint.pubsub.subscriptions("room:secret") == ()


@pytest.mark.conforms("CT-41")
async def test_join_params_are_as_a_server_gets_them(case: ChannelCase):
    """Keys become strings at any depth, and tuples lists."""
    alice = await case.connect(UserSocket)
    room = await alice.join("room:1", {1: [{2: (3, None)}]})  # type: ignore[dict-item]
    assert room.response == {"params": {"1": [{"2": [3, None]}]}}


async def test_a_channel_may_be_given(case: ChannelCase):
    """A test may join a channel that no route leads to, in place of what the routes say."""

    class Other(Channel):
        pass

    alice = await case.connect(UserSocket)
    assert type((await alice.join("room:1", channel=Other)).channel) is Other
    assert type((await alice.join("lobby", channel=Other)).channel) is Other


async def test_a_join_ref_may_be_anything(case: ChannelCase):
    """What another client says for one is no matter to ``join``."""
    client = await case.connect(UserSocket)
    client.send([1], "1", "room:1", "phx_join", {})
    client.send({}, "2", "room:2", "phx_join", {})

    joined = await client.join("room:3")

    assert joined.channel.topic == "room:3"
    assert client.connection.runners[-1].channel is joined.channel


async def test_a_channel_that_ended_at_once_was_joined(case: ChannelCase):
    """The test gets the channel even if it is gone by the time the reply is seen."""

    class Brief(Channel):
        async def join(self, topic: str, params: Any) -> None:
            await asyncio.sleep(0)

        def after_join(self) -> None:
            self.stop()

    alice = await case.connect(UserSocket)
    room = await alice.join("room:1", channel=Brief)
    await room.assert_closed()
    assert type(room.channel) is Brief


def test_a_join_without_a_reply_fails():
    """A join that takes too long fails the test, with topic and time; it stays pending."""

    class Slow(Channel):
        async def join(self, topic: str, params: Any) -> None:
            await asyncio.Event().wait()

    async def scene() -> None:
        async with ChannelCase(assert_timeout=2) as case:
            alice = case.client(Socket())
            with pytest.raises(AssertionError, match="no reply to the join of 'room:1' within 2 s"):
                await alice.join("room:1", channel=Slow)
            with pytest.raises(AssertionError, match="within 7 s"):
                await alice.join("room:1", channel=Slow, timeout=7)
            assert asyncio.get_running_loop().time() == 9
            assert case.endpoint.pubsub.subscriptions("room:1") == ()

    run_virtually(scene())


# Pushing.


@pytest.mark.conforms("CT-20")
async def test_payloads_are_as_a_server_gets_them(room: JoinedCase):
    """Keys of what a test pushes become strings at any depth."""
    ref = room.push("echo", {1: {2: "two"}})
    assert await room.assert_reply(ref, "ok") == {"1": {"2": "two"}}


@pytest.mark.conforms("CT-11")
async def test_lists_and_nested_payloads(room: JoinedCase):
    """A list is a payload, too; what is replied comes back as it is."""
    ref = room.push("echo", [{1: "one"}, ["x", None]])
    assert await room.assert_reply(ref, "ok") == [{"1": "one"}, ["x", None]]


async def test_bytes_are_a_binary_frame(room: JoinedCase):
    """Bytes go in as bytes, and come out as bytes, in pushes, replies and broadcasts."""
    blob = b"\x00\xff"
    assert await room.assert_reply(room.push("echo", blob), "ok") == blob
    room.push("push_me", blob)
    assert await room.assert_push("pushed") == blob
    room.push("shout", blob)
    assert await room.assert_push("shout") == blob
    assert await room.assert_broadcast("shout") == blob


async def test_a_payload_is_optional(room: JoinedCase):
    """No payload is an empty object."""
    assert await room.assert_reply(room.push("echo"), "ok") == {}


@pytest.mark.conforms("CT-33")
async def test_close_ends_the_channel_and_does_nothing_again(case: ChannelCase, room: JoinedCase):
    """Close ends the channel as the end of its connection would; again it does nothing."""
    done: list[Channel] = []
    room.channel.add_done_callback(done.append)

    await room.close()
    await room.close()

    assert room.client.socket.assigns["terminated"] == ["closed"]
    assert done == [room.channel]
    assert not room.channel.is_joined
    await room.assert_closed()
    # The connection goes on, and knows.
    await room.assert_reply(room.push("echo"), "error", {"reason": "unmatched topic"})
    await room.client.join("room:1")


async def test_close_waits_for_the_cleanup(case: ChannelCase):
    """When close returns, an async terminate has ended, too."""
    gate, log = asyncio.Event(), []

    class Tidy(Channel):
        async def terminate(self, reason: Any) -> None:
            await gate.wait()
            log.append(reason)

    room = await case.client(Socket()).join("room:1", channel=Tidy)
    asyncio.get_running_loop().call_later(0, gate.set)
    await room.close()
    assert log == ["closed"]


async def test_leaving_returns_a_ref(room: JoinedCase):
    """A leave is answered like any message."""
    await room.assert_reply(room.leave(), "ok", {})
    await room.assert_closed()
    assert room.client.socket.assigns["terminated"] == ["left"]


# Assertions that hold.


@pytest.mark.conforms("CT-8")
async def test_assert_push_with_a_condition(room: JoinedCase):
    """A push that meets the condition is taken, others are left."""
    for n in (1, 2, 3):
        room.push("push_me", {"n": n})

    assert await room.assert_push("pushed", where=lambda payload: payload["n"] > 1) == {"n": 2}
    assert await room.assert_push("pushed") == {"n": 1}
    assert await room.assert_push("pushed") == {"n": 3}


@pytest.mark.conforms("CT-21")
async def test_assert_reply_with_a_condition(room: JoinedCase):
    """A reply that meets the condition is taken."""
    ref = room.push("echo", {"n": 2})
    with pytest.raises(AssertionError):
        await room.assert_reply(ref, "ok", where=lambda response: response["n"] > 2, timeout=0)
    assert await room.assert_reply(ref, "ok", where=lambda response: response["n"] > 1)


@pytest.mark.conforms("CT-16")
async def test_assert_broadcast_with_a_condition(room: JoinedCase):
    """A broadcast that meets the condition is taken."""
    for n in (1, 2):
        room.push("shout", {"n": n})
    assert await room.assert_broadcast("shout", where=lambda payload: payload["n"] > 1) == {"n": 2}
    assert await room.assert_broadcast("shout") == {"n": 1}


@pytest.mark.conforms("CT-17")
async def test_a_broadcast_from_the_channel_is_seen(room: JoinedCase):
    """The test sees what a channel broadcasts to the others; before, it can refute it."""
    await room.refute_broadcast("shout", timeout=0)
    room.push("shout_from", {"n": 1})
    await room.assert_broadcast("shout", {"n": 1})
    await room.refute_push("shout", timeout=0)


async def test_a_broadcast_from_the_test(case: ChannelCase, room: JoinedCase):
    """The client gets what the test broadcasts; the test does not see its own broadcast_from."""
    room.broadcast_from("shout", {"n": 1})
    await room.assert_push("shout", {"n": 1})
    await room.refute_broadcast("shout", timeout=0)

    case.broadcast("room:1", "shout", {"n": 2})
    await room.assert_push("shout", {"n": 2})
    await room.assert_broadcast("shout", {"n": 2})


async def test_payloads_match_in_part(room: JoinedCase):
    """A pattern names what matters; the payload may have more, at any depth."""
    payload = {"user": {"name": "alice", "age": 7}, "id": 1}
    room.push("push_me", payload)
    room.push("shout", payload)
    ref = room.push("echo", payload)

    part = {"user": {"name": "alice"}}
    assert await room.assert_push("pushed", part) == payload
    assert await room.assert_broadcast("shout", part) == payload
    assert await room.assert_reply(ref, "ok", part) == payload


async def test_assertions_take_what_they_found(room: JoinedCase):
    """To assert the same push twice, there must be two."""
    room.push("push_me")
    await room.assert_push("pushed")
    await room.refute_push("pushed", timeout=0)
    with pytest.raises(AssertionError):
        await room.assert_push("pushed", timeout=0)


async def test_a_room_sees_its_own_topic_and_join_only(case: ChannelCase):
    """Pushes of another topic, and of an older join of the same, are not this one's."""
    alice = await case.connect(UserSocket)
    first, other = await alice.join("room:1"), await alice.join("room:2")
    first.push("push_me", {"n": 1})
    other.push("push_me", {"n": 2})
    again = await alice.join("room:1")

    await again.refute_push("pushed", timeout=0)
    assert await other.assert_push("pushed") == {"n": 2}
    assert await first.assert_push("pushed") == {"n": 1}
    await first.assert_closed()
    await again.refute_push("phx_close", timeout=0)


# Assertions that fail.


Failing = Callable[[JoinedCase], Awaitable[Any]]

FAILURES: dict[str, tuple[Failing, str, str]] = {
    "assert_push": (
        lambda room: room.assert_push("other", timeout=0),
        "no push 'other' on 'room:1' within 0 s; there was:\n  ",
        "payload={'n': 1}",
    ),
    "assert_push, payload": (
        lambda room: room.assert_push("pushed", {"n": 2}, timeout=0),
        "no push 'pushed' on 'room:1'",
        "payload={'n': 1}",
    ),
    "assert_reply": (
        lambda room: room.assert_reply("99", "ok", timeout=0),
        "no 'ok' reply to '99' on 'room:1' within 0 s; there was:\n  ",
        "ref='3'",
    ),
    "assert_reply, status": (
        lambda room: room.assert_reply("3", "error", timeout=0),
        "no 'error' reply to '3' on 'room:1'",
        "status='ok'",
    ),
    "assert_broadcast": (
        lambda room: room.assert_broadcast("other", timeout=0),
        "no broadcast 'other' on 'room:1' within 0 s; there was:\n  Broadcast(",
        "event='shout'",
    ),
    "assert_closed": (
        lambda room: room.assert_closed(timeout=0),
        "no graceful end on 'room:1'",
        "event='pushed'",
    ),
    "assert_errored": (
        lambda room: room.assert_errored(timeout=0),
        "no crash on 'room:1'",
        "event='pushed'",
    ),
    "refute_push": (
        lambda room: room.refute_push("pushed", {"n": 1}, timeout=0),
        "unexpected on 'room:1': Message(",
        "event='pushed'",
    ),
    "refute_reply": (
        lambda room: room.refute_reply("3", "ok", timeout=0),
        "unexpected on 'room:1': Reply(",
        "ref='3'",
    ),
    "refute_broadcast": (
        lambda room: room.refute_broadcast("shout", {"n": 3}, timeout=0),
        "unexpected on 'room:1': Broadcast(",
        "event='shout'",
    ),
    "client.assert_closed": (
        lambda room: room.client.assert_closed(1001, timeout=0),
        "expected the server to close with 1001",
        "got None",
    ),
}


@pytest.mark.parametrize(("assertion", "opening", "detail"), FAILURES.values(), ids=FAILURES)
async def test_a_failed_assertion_says_what_there_was(
    room: JoinedCase, assertion: Failing, opening: str, detail: str
):
    """The message names what was wanted, and lists what came instead."""
    room.push("push_me", {"n": 1})
    room.push("echo", {"n": 2})
    room.push("shout", {"n": 3})

    with pytest.raises(AssertionError) as failed:
        await assertion(room)
    message = str(failed.value)
    assert message.startswith(opening)
    assert detail in message


async def test_a_failed_assertion_says_that_there_was_nothing(room: JoinedCase):
    """Nothing at all is said in words."""
    with pytest.raises(AssertionError, match="there was:\n  nothing"):
        await room.assert_push("pushed", timeout=0)


async def test_another_close_code(case: ChannelCase):
    """The wrong code is named."""
    alice = await case.connect(UserSocket)
    alice.transport.close(1012)
    with pytest.raises(AssertionError, match="to close with 1001, got 1012"):
        await alice.assert_closed(1001)


async def test_a_refutation_that_holds(room: JoinedCase):
    """What doesn't match the whole pattern is no reason to fail."""
    room.push("push_me", {"n": 1})
    await room.refute_push("pushed", {"n": 2}, timeout=0)
    await room.refute_push("other", timeout=0)
    await room.refute_reply("1", "error", timeout=0)
    await room.refute_broadcast("pushed", timeout=0)
    await room.assert_push("pushed", {"n": 1})


def test_a_test_says_how_long_assertions_wait():
    """Assertions return as soon as they hold, refutations take their time; a test says how long."""

    async def scene() -> None:
        clock = asyncio.get_running_loop().time
        endpoint = Endpoint({"/socket": UserSocket})
        async with ChannelCase(endpoint, assert_timeout=3, refute_timeout=2) as case:
            alice = await case.connect(UserSocket)
            room = await alice.join("room:1")

            asyncio.get_running_loop().call_later(1, lambda: room.push("push_me"))
            await room.assert_push("pushed")
            assert clock() == 1

            await room.refute_push("pushed")
            assert clock() == 3

            with pytest.raises(AssertionError, match="within 3 s"):
                await room.assert_push("pushed")
            assert clock() == 6

            asyncio.get_running_loop().call_later(1, lambda: room.push("push_me"))
            with pytest.raises(AssertionError, match="unexpected"):
                await room.refute_push("pushed")
            assert clock() == 7

            with pytest.raises(AssertionError, match="got None"):
                await alice.assert_closed(1001, timeout=5)
            assert clock() == 12

    run_virtually(scene())


async def test_the_default_timeouts():
    """A second for what should come, a tenth for what should not."""
    case = ChannelCase()
    assert (case.assert_timeout, case.refute_timeout) == (1.0, 0.1)


# The end of a test.


async def test_everything_ends_with_the_case():
    """Leaving the case closes its clients and stops the endpoint, after async clean-ups."""
    log: list[Any] = []

    class Tidy(Channel):
        async def terminate(self, reason: Any) -> None:
            await asyncio.sleep(0)
            self.broadcast("gone")
            log.append(reason)

    endpoint = Endpoint({})
    async with ChannelCase(endpoint) as case:
        endpoint.subscribe("room:1", lambda broadcast: log.append(broadcast.event))
        for _ in range(2):
            await case.client(Socket()).join("room:1", channel=Tidy)

    assert sorted(log) == ["closed", "closed", "gone", "gone"]
    assert not endpoint.pubsub.is_running


async def test_an_endpoint_may_be_used_in_one_test_after_another():
    """A module's endpoint is started and stopped by each test; nothing is carried over."""
    endpoint = Endpoint({"/socket": UserSocket})
    for _ in range(2):
        async with ChannelCase(endpoint) as case:
            alice = await case.connect(UserSocket)
            await alice.join("room:1")
            assert len(endpoint.pubsub.subscriptions("room:1")) == 2  # the channel's and the kit's


async def test_presences_run_in_a_case():
    """The endpoint's presences work, and can be waited for."""
    online = Presence()

    class OnlineChannel(Channel):
        async def after_join(self) -> None:
            await online.enter(self, "alice", {"device": "phone"})

    async with ChannelCase(Endpoint({}, presences=[online], pubsub=PubSub())) as case:
        room = await case.client(Socket()).join("room:1", channel=OnlineChannel)
        state = await room.assert_push("presence_state")
        assert [meta["device"] for meta in state["alice"]["metas"]] == ["phone"]
        bob = await case.client(Socket()).join("room:1", channel=OnlineChannel)
        await online.settled()
        await room.assert_push("presence_diff", where=lambda diff: "alice" in diff["joins"])
        await bob.close()
        await online.settled()
        await room.assert_push("presence_diff", where=lambda diff: "alice" in diff["leaves"])
