"""docs/sessions.md: its programs run, and keep sessions and presences apart."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from roost import ConnectInfo, ConnectRefused, WebSocket
from roost.testing import ChannelCase, ClientCase, JoinedCase
from tests.clients import connect, refusal
from tests.docs.guide import Guide
from tests.servers import run_uvicorn
from tests.virtual_clock import virtually

GUIDE = Guide("sessions.md")


class Browser:
    """A browser with a session: it logs in and out, and connects with its cookie."""

    def __init__(self, guide: Any, case: ChannelCase) -> None:
        self.pages = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=guide.app), base_url="http://test"
        )
        self._guide = guide
        self._case = case
        self._csrf_token = ""

    async def log_in(self, user_id: str) -> None:
        answer = await self.pages.post(f"/login/{user_id}")
        self._csrf_token = answer.json()["csrf_token"]

    async def log_out(self) -> None:
        await self.pages.post("/logout")

    async def connect(self) -> ClientCase:
        """Connect with the session as the middleware would hand it over."""
        cookie = self.pages.cookies.get("session")
        session = None if cookie is None else json.loads(b64decode(cookie.partition(".")[0]))
        return await self._case.connect(self._guide.UserSocket, {}, ConnectInfo(session=session))


@asynccontextmanager
async def browser(guide: Any, case: ChannelCase, user_id: str) -> AsyncIterator[Browser]:
    """A browser that is logged in."""
    browser = Browser(guide, case)
    async with browser.pages:
        await browser.log_in(user_id)
        yield browser


async def enter(browser: Browser, **options: Any) -> JoinedCase:
    """Connect and join the room."""
    room = await (await browser.connect()).join("room:1", **options)
    await room.assert_push("presence_state")
    return room


async def test_the_session_says_who_it_is():
    """With cookie and token of the page one is in the list; without either one is refused."""
    guide = GUIDE.run(until="Log in, and be present")
    async with run_uvicorn(guide.app) as url:
        async with httpx.AsyncClient() as pages:
            answer = await pages.post(f"{url}/login/alice")
        token = {"_csrf_token": answer.json()["csrf_token"]}
        cookie = {"Cookie": answer.headers["set-cookie"].partition(";")[0]}

        async with connect(url, params=token, additional_headers=cookie) as alice:
            await alice.join("room:1")
            assert list(await alice.receive("presence_state")) == ["alice"]

        for params, headers in (({}, cookie), (token, {}), ({"_csrf_token": "guess"}, cookie)):
            assert (await refusal(url, params=params, additional_headers=headers)).status == 403


async def test_one_user_with_two_sessions():
    """A laptop and a phone are one member with two connections; a second tab is a third."""
    guide = GUIDE.run(until="Log in, and be present")
    async with (
        ChannelCase(guide.endpoint) as case,
        browser(guide, case, "alice") as laptop,
        browser(guide, case, "alice") as phone,
    ):
        for device in (laptop, laptop, phone):
            await enter(device)
        assert guide.online.count_users("room:1") == 1
        assert guide.online.count_connections("room:1") == 3


async def test_a_session_is_no_presence():
    """Whoever is logged in and has no connection is not there; whoever goes stays logged in."""
    guide = GUIDE.run(until="Log in, and be present")
    async with ChannelCase(guide.endpoint) as case, browser(guide, case, "alice") as laptop:
        assert len(guide.sessions) == 1
        assert guide.online.online(["alice"]) == set()
        room = await enter(laptop)
        assert guide.online.online(["alice"]) == {"alice"}
        await room.close()
        assert guide.online.online(["alice"]) == set()
        assert len(guide.sessions) == 1
        await enter(laptop)  # without another login


async def test_a_logout_ends_the_connections_of_its_session():
    """The laptop is disconnected and refused from then on, the phone stays."""
    guide = GUIDE.run(until="Logging out")
    async with (
        ChannelCase(guide.endpoint) as case,
        browser(guide, case, "alice") as laptop,
        browser(guide, case, "alice") as phone,
    ):
        here = [await enter(laptop), await enter(laptop)]
        there = await enter(phone)
        copied = dict(laptop.pages.cookies)

        await laptop.log_out()

        for room in here:
            await room.client.assert_closed(1001)
        await case.settled()
        assert there.channel.is_joined
        assert guide.online.count_connections("room:1") == 1
        laptop.pages.cookies.update(copied)  # a copy of the cookie is of no use
        with pytest.raises(ConnectRefused, match="not logged in"):
            await laptop.connect()
        await laptop.log_out()  # nothing happens the second time


@virtually
async def test_an_expired_session_ends_its_connections():
    """At the minute at which the session expires its connections are closed, not before."""
    guide = GUIDE.run(until="When a session expires")
    async with ChannelCase(guide.endpoint) as case:
        guide.sessions["s1"] = {"user_id": "alice", "expires_at": time.time() + 3600}
        info = ConnectInfo(session={"id": "s1"})
        alice = await case.connect(guide.UserSocket, {}, info)
        room = await alice.join("room:1", channel=guide.ExpiringChannel)
        await room.assert_push("presence_state")

        await asyncio.sleep(3590)
        assert room.channel.is_joined
        await asyncio.sleep(20)
        await alice.assert_closed(1001)
        await case.settled()
        assert guide.online.count_users("room:1") == 0

        guide.sessions["s1"]["expires_at"] = time.time()
        with pytest.raises(ConnectRefused, match="not logged in"):
            await case.connect(guide.UserSocket, {}, info)


def test_the_silence_that_ends_a_connection():
    """It is 60 seconds, as the guide says."""
    assert "silent for 60 seconds" in GUIDE.text.replace("\n", " ")
    assert WebSocket().timeout == 60
