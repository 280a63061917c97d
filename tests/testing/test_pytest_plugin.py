"""The fixture that roost brings for pytest."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from roost import Channel, Endpoint, Socket
from roost.testing import ChannelCase, pytest_plugin

pytest_plugins = ["pytester"]

Start = Callable[..., Awaitable[ChannelCase]]


async def test_channel_case_runs_an_endpoint(channel_case: Start):
    """The fixture starts the endpoint that it is given, or one of its own; both may run."""
    endpoint = Endpoint({})
    case = await channel_case(endpoint)
    other = await channel_case()

    assert case.endpoint is endpoint
    assert other.endpoint is not endpoint
    for each in (case, other):
        room = await each.client(Socket()).join("room:1", channel=Channel)
        await room.assert_reply(room.push("ping"), "error")


TEST_FILE = """
import pytest
from roost import Channel, Endpoint, Socket, event

pytestmark = pytest.mark.asyncio

class RoomChannel(Channel):
    @event("ping")
    def ping(self, payload):
        return payload

class UserSocket(Socket):
    channels = {"room:*": RoomChannel}

endpoint = Endpoint({"/socket": UserSocket})

async def joined(channel_case):
    case = await channel_case(endpoint)
    client = await case.connect(UserSocket)
    return await client.join("room:1")

async def test_that_passes(channel_case):
    room = await joined(channel_case)
    await room.assert_reply(room.push("ping", {"n": 1}), "ok", {"n": 1})

async def test_that_fails(channel_case):
    room = await joined(channel_case)
    room.push("ping", {"n": 1})
    await room.assert_push("pong", timeout=0)

async def test_that_the_endpoint_was_stopped():
    assert not endpoint.pubsub.is_running
"""


def test_a_users_tests(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Without any configuration the fixture is there; a failure shows what came instead."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makepyfile(TEST_FILE)

    result = pytester.runpytest_subprocess()

    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*AssertionError: no push 'pong' on 'room:1' within 0 s; there was:",
            "*Reply(join_ref='1', ref='2', topic='room:1', status='ok', response={'n': 1})",
        ]
    )


def test_without_pytest_asyncio_there_is_no_fixture(monkeypatch: pytest.MonkeyPatch):
    """The plugin is loaded by every pytest that sees roost: it must not need more than pytest."""
    monkeypatch.setitem(sys.modules, "pytest_asyncio", None)
    names: dict[str, Any] = runpy.run_path(pytest_plugin.__file__)
    assert names["__all__"] == []
    assert "channel_case" not in names
