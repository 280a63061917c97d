"""One client connection: what an application says about it and keeps with it."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from roost import Channel, ConnectInfo, ConnectRefused, Presence, Socket
from roost.exceptions import ConfigurationError, InvalidMessage
from roost.testing import ChannelCase
from roost.wire.messages import Message
from tests.channels.scenes import Notes


@pytest.mark.conforms("SKT-2")
def test_a_message_of_a_map():
    """A decoded object becomes a message; a join_ref may be absent, further keys are ignored."""
    fields = {"topic": "room:1", "event": "shout", "payload": {"n": 1}, "ref": "7", "x": 1}
    assert Message.from_map(fields) == Message(None, "7", "room:1", "shout", {"n": 1})
    assert Message.from_map({**fields, "join_ref": "1"}).join_ref == "1"


@pytest.mark.conforms("SKT-3")
@pytest.mark.parametrize("missing", ["topic", "event", "payload", "ref"])
def test_a_map_that_is_no_message(missing: str):
    """Each of the four keys is required; the error names the missing one."""
    fields: dict[str, Any] = {"topic": "room:1", "event": "shout", "payload": {}, "ref": None}
    del fields[missing]
    with pytest.raises(InvalidMessage, match=missing):
        Message.from_map(fields)


@pytest.mark.conforms("SKT-4")
def test_assign_a_key():
    """Assigns are a dict: an item is assigned."""
    socket = Socket()
    socket.assigns["user_id"] = "alice"
    assert socket.assigns == {"user_id": "alice"}


@pytest.mark.conforms("SKT-5")
def test_assign_a_mapping():
    """Several values are assigned by update."""
    socket = Socket()
    socket.assigns.update({"user_id": "alice", "role": "guest"})
    assert socket.assigns == {"user_id": "alice", "role": "guest"}


@pytest.mark.conforms("SKT-6")
def test_what_is_assigned_is_laid_over_what_is_there():
    """What is assigned is laid over what is there, or merged into a new dict."""
    socket = Socket()
    socket.assigns = {"user_id": "alice", "role": "guest"}
    socket.assigns |= {"role": "member"}
    socket.assigns.update(muted=True)
    assert socket.assigns == {"user_id": "alice", "role": "member", "muted": True}


@pytest.mark.conforms("SKT-7")
def test_pairs_and_keywords_may_be_assigned():
    """Pairs will do, and keywords."""
    socket = Socket()
    socket.assigns.update([("user_id", "alice")], role="guest")
    assert socket.assigns == {"user_id": "alice", "role": "guest"}


@pytest.mark.conforms("SKT-8")
def test_assign_what_a_function_makes_of_the_assigns():
    """A function of the assigns gives what is merged over them."""

    def promote(assigns: dict[str, Any]) -> dict[str, Any]:
        return {"level": assigns["level"] + 1}

    socket = Socket()
    socket.assigns["level"] = 1
    socket.assigns.update(promote(socket.assigns))
    assert socket.assigns == {"level": 2}


@pytest.mark.conforms("SKT-12")
async def test_a_disconnect_broadcast_closes_the_connection(case: ChannelCase):
    """Whoever has the id is closed with 1001, and their channels end as disconnected."""
    notes = Notes()

    class RoomChannel(Channel):
        def terminate(self, reason: Any) -> None:
            notes.add((self.assigns["user_id"], reason))

    class UserSocket(Socket):
        channels = {"room:*": RoomChannel}

        def connect(self, params: Any, info: Any) -> None:
            self.assigns["user_id"] = params["user_id"]

        def id(self) -> str:
            return f"users:{self.assigns['user_id']}"

    alice, phone, bob = [
        await case.connect(UserSocket, {"user_id": name}) for name in ("alice", "alice", "bob")
    ]
    for client in (alice, phone, bob):
        await client.join("room:1")

    case.broadcast("users:alice", "another event")
    assert alice.transport.close_code is None
    case.broadcast("users:alice", "disconnect")

    await alice.assert_closed(1001)
    await phone.assert_closed(1001)
    assert [await notes.take(), await notes.take()] == [("alice", "disconnected")] * 2
    assert bob.transport.close_code is None
    assert case.endpoint.pubsub.subscriptions("users:alice") == ()


async def test_a_channel_may_disconnect_its_own_user(case: ChannelCase):
    """The broadcast may come from a handler of the very connection: it finishes first."""
    notes = Notes()

    class RoomChannel(Channel):
        def handle_in(self, event: str, payload: Any) -> Any:
            self.socket.assigns["log_out"]()
            notes.add("handled")
            return {}

        def terminate(self, reason: Any) -> None:
            notes.add(reason)

    class UserSocket(Socket):
        channels = {"room:*": RoomChannel}

        def connect(self, params: Any, info: Any) -> None:
            self.assigns["log_out"] = lambda: case.broadcast("users:alice", "disconnect")

        def id(self) -> str:
            return "users:alice"

    alice = await case.connect(UserSocket)
    room = await alice.join("room:1")
    room.push("log_out")

    await alice.assert_closed(1001)
    assert [await notes.take(), await notes.take()] == ["handled", "disconnected"]


async def test_an_anonymous_connection_has_no_id(case: ChannelCase):
    """Without an id nothing is subscribed to, and there is nothing to disconnect by."""
    alice = await case.connect(Socket)
    assert alice.id is None


async def test_connect_gets_params_and_info(case: ChannelCase):
    """Connect is given what is known of the client, and may be async."""
    notes = Notes()

    class UserSocket(Socket):
        async def connect(self, params: Any, info: ConnectInfo) -> None:
            notes.add((params, info.user_agent, dict(info), len(info)))
            if "token" not in params:
                raise ConnectRefused("no token")

    info = ConnectInfo({"region": "eu"}, user_agent="test")
    await case.connect(UserSocket, {"token": "t0p"}, info)
    with pytest.raises(ConnectRefused, match="no token"):
        await case.connect(UserSocket)

    assert notes.all() == [
        ({"token": "t0p"}, "test", {"region": "eu"}, 1),
        ({}, None, {}, 0),
    ]


async def test_a_socket_keeps_params_and_session(case: ChannelCase):
    """What the client brought is there from `connect` on, for the channels too, as it was given."""
    notes = Notes()

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> None:
            notes.add((self.socket.params, self.socket.session))

    class UserSocket(Socket):
        channels = {"room:*": RoomChannel}

        def connect(self, params: Any, info: ConnectInfo) -> None:
            assert self.params is params
            assert self.session is info.session

    session = {"user_id": "alice"}
    alice = await case.connect(UserSocket, {"token": "t0p"}, ConnectInfo(session=session))
    await alice.join("room:1")
    await (await case.connect(UserSocket)).join("room:1")

    assert notes.all() == [({"token": "t0p"}, session), ({}, None)]


async def test_channels_share_a_store(case: ChannelCase):
    """What one channel stores, the others of its connection find, and nobody else."""

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> dict[str, Any]:
            self.socket.store.update(params)
            return self.socket.store

    class UserSocket(Socket):
        channels = {"room:*": RoomChannel}

    alice, bob = await case.connect(UserSocket), await case.connect(UserSocket)
    await alice.join("room:1", {"name": "alice"})

    assert (await alice.join("room:2")).response == {"name": "alice"}
    assert (await bob.join("room:2")).response == {}


def test_an_unused_store_costs_nothing():
    """A socket makes its store when somebody looks."""
    socket = Socket()
    assert vars(socket).keys() == {"assigns"}
    assert socket.store is socket.store


@pytest.mark.parametrize("given", ["b1", "b" * 64, str(uuid.UUID(int=1))])
def test_a_browser_with_a_name(given: str):
    """The browser is called what the client calls it."""
    socket = Socket()
    socket.params = {"browser_id": given}
    assert socket.browser_id == given


@pytest.mark.parametrize("given", [None, "", "b" * 65, ["b1"], 7, "__proto__"], ids=repr)
def test_a_browser_without_a_name(given: Any):
    """A name that is missing or can't be a presence key is replaced, once for each connection."""
    alice, bob = Socket(), Socket()
    alice.params = bob.params = {} if given is None else {"browser_id": given}
    assert uuid.UUID(alice.browser_id).version == 4
    assert alice.browser_id == alice.browser_id != bob.browser_id


@pytest.mark.parametrize("base", [Channel, Socket])
def test_a_presence_that_can_not_track_channels(base: type):
    """What has no sync start and stop is refused where it is given; the error says what to give."""

    class OnlyStarts:
        def start(self, channel: Any, topic: str) -> None: ...

    for wrong in (Presence(), OnlyStarts(), True):
        with pytest.raises(ConfigurationError, match=r"UserThing\.presence .* TrackJoins"):
            type("UserThing", (base,), {"presence": wrong})
