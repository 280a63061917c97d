"""The README's programs run, and its promises are those of the project."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from roost import Channel, ConnectRefused, Endpoint, Presence, Socket, event
from roost.testing import ChannelCase
from tests.skips import PERMITTED

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The code blocks of the README in one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


async def test_the_server_in_ten_lines_serves():
    """A client of the README's first program sees who is there."""
    names: dict[str, Any] = {}
    exec(compile(blocks("python")[0], "README.md", "exec"), names)

    async with ChannelCase(names["app"]) as case:
        client = await case.connect(names["UserSocket"], {"name": "Alice"})
        room = await client.join("room:lobby")
        assert (await room.assert_push("presence_state")).keys() == {"Alice"}


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_every_python_block_runs(number: int):
    """Each block of the README runs as it stands."""
    exec(compile(blocks("python")[number], "README.md", "exec"), {"__name__": "readme"})


def test_the_readme_names_what_may_be_skipped():
    """The README permits exactly what the test run permits."""
    section = README.split("## What may be skipped")[1].split("\n## ")[0]

    assert set(re.findall(r"^- `([\w-]+)`", section, flags=re.MULTILINE)) == set(PERMITTED)


def test_links_of_the_readme_exist():
    """Each file that the README links to is there."""
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_design_program_runs():
    """The program that the design promises, with FastAPI, as it stands."""

    async def users_by_id(ids: Any) -> dict[str, str]:
        return {id: id.title() for id in ids}

    class Online(Presence):
        async def fetch(self, topic, presences):
            users = await users_by_id(presences)
            return {key: {**entry, "user": users[key]} for key, entry in presences.items()}

    online = Online()

    class RoomChannel(Channel):
        async def join(self, topic, params):
            self.assigns["name"] = params["name"]

        async def after_join(self):
            await online.enter(self, self.assigns["name"], {"online_at": int(time.time())})

        @event("shout")
        def shout(self, payload):
            self.broadcast("shout", payload)

    class UserSocket(Socket):
        channels = {"room:*": RoomChannel}

        async def connect(self, params, info):
            if "user_id" not in params:
                raise ConnectRefused("user_id is missing")
            self.assigns["user_id"] = params["user_id"]

        def id(self):
            return f"users:{self.assigns['user_id']}"

    endpoint = Endpoint({"/": UserSocket}, presences=[online])
    app = FastAPI(lifespan=endpoint.lifespan)
    app.mount("/socket", endpoint)

    async def scene() -> None:
        async with ChannelCase(endpoint) as case:
            with pytest.raises(ConnectRefused):
                await case.connect(UserSocket)
            client = await case.connect(UserSocket, {"user_id": "7"})
            room = await client.join("room:1", {"name": "alice"})
            await room.assert_push("presence_state", {"alice": {"user": "Alice"}})
            room.push("shout", {"body": "hi"})
            await room.assert_push("shout", {"body": "hi"})

    asyncio.run(scene())
