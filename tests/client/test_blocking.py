"""The client without ``await``: the same names, and a thread behind it."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

import roost.client
from roost.client import ClientClosed, JoinRejected, MessagesDropped, PushRejected, blocking
from roost.client.blocking import Client
from roost.exceptions import WrongThread
from tests.client.app import app
from tests.servers import run_uvicorn


@pytest.fixture
def url() -> Iterator[str]:
    """A server in a thread of its own: the test has no event loop."""
    import asyncio

    started, urls, stop = threading.Event(), [], asyncio.Event()
    loops = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        async with run_uvicorn(app) as url:
            urls.append(url)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(10)
    yield f"{urls[0]}/socket"
    loops[0].call_soon_threadsafe(stop.set)
    thread.join()


def client(url: str, name: str = "alice", **options: Any) -> Client:
    return Client(url, params={"name": name}, **options)


class Meta(msgspec.Struct):
    device: str


def test_a_script(url: str):
    """It joins, pushes, and iterates over what is said and over who is there."""
    with client(url) as alice, client(url, "bob") as bob:
        hers, his = alice.join("room:1", meta=Meta), bob.join("room:1")
        assert hers.push("echo", {"n": 1}) == {"n": 1}
        hers.push_nowait("shout", {"n": 2})
        assert his.receive(5).payload == {"n": 2}
        assert next(iter(hers)).payload == {"n": 2}
        changes = hers.presence.changes()
        presence = hers.presence.synced(5)
        while "bob" not in presence:
            changes.receive(5)
        assert sorted(presence) == ["alice", "bob"]
        assert presence["alice"][0].device == "a"
        assert (presence.user_count, presence.connection_count) == (2, 2)
        with bob.join("room:2") as room:
            assert room.state == "joined"
        assert room.state == "closed"
        alice.close()
        assert list(hers) == []


def test_errors(url: str):
    """They are those of the asyncio client."""
    with client(url) as alice:
        with pytest.raises(JoinRejected):
            alice.join("room:1", {"refuse": True})
        room = alice.join("room:1")
        with pytest.raises(PushRejected):
            room.push("refuse")
        with pytest.raises(TimeoutError):
            room.push("silence", timeout=0.05)
        with pytest.raises(TimeoutError):
            room.messages("nothing").receive(0.05)
        room.leave()
        with pytest.raises(EOFError):
            room.receive(5)
    with pytest.raises(ClientClosed):
        alice.join("room:1")
    alice.close()


def test_callbacks_run_in_the_clients_thread(url: str):
    """There they may push, and not wait: that would be for themselves."""
    with client(url) as alice:
        room = alice.channel("room:1")
        called, errors = threading.Event(), []

        def answer(payload: Any) -> None:
            try:
                room.push("echo", {})
            except WrongThread as error:
                errors.append(error)
            room.push_nowait("shout", {"answer": True})

        def note(payload: Any) -> None:
            if "answer" in payload:
                called.set()

        end = room.on("shout", answer)
        room.on("shout", note)
        room.join()
        room.push_nowait("shout", {})
        assert called.wait(5)
        end()
        assert errors


def test_nothing_runs_after_it(url: str):
    """The thread ends with the client, also with one that never came to be."""
    before = threading.active_count()
    with client(url) as alice:
        alice.join("room:1")
        assert threading.active_count() == before + 1
    with pytest.raises(ConnectionError):
        Client(url, connect_timeout=1).connect()
    assert threading.active_count() == before


@pytest.mark.parametrize("name", ["Client", "Channel", "Presence", "Stream"])
def test_it_has_the_same_names(name: str):
    """Whatever can be called there can be called here, with the same arguments."""
    theirs, ours = getattr(roost.client, name), getattr(blocking, name)
    inner = {  # what the parts of the client call of each other
        "Client": {"now", "check_open", "add", "reply", "settled", "pump", "note_flushed"},
        "Channel": {"joined", "failed", "received", "presence_changed", "ended", "stopped"},
        "Presence": {"changed", "forget", "end"},
        "Stream": {"put", "end"},
    }[name]
    for attribute, function in vars(theirs).items():
        if attribute.startswith("_") or attribute in inner or not inspect.isfunction(function):
            continue
        expected = list(inspect.signature(function).parameters)
        assert list(inspect.signature(getattr(ours, attribute)).parameters) == expected, attribute


def test_what_is_dropped_is_told(url: str):
    """Iterating over a channel can go on after it."""
    limits = roost.client.Limits(max_queue_count=1)
    with client(url, limits=limits) as alice:
        room = alice.join("room:1")
        heard: list[Any] = []
        done = threading.Event()

        def note(payload: Any) -> None:
            heard.append(payload)
            if len(heard) == 3:
                done.set()

        room.on("shout", note)
        for number in range(3):
            room.push_nowait("shout", {"n": number})
        assert done.wait(5)
        with pytest.raises(MessagesDropped):
            next(iter(room))
        assert next(iter(room)).payload == {"n": 2}
