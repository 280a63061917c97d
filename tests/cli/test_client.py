"""``roost client``: what it shows and sends, in a pipe."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roost.cli import main
from roost.client import Client
from tests.client.app import app, token
from tests.servers import run_uvicorn

ROOT = Path(__file__).parents[2]
TIMEOUT = 20.0  # seconds


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with run_uvicorn(app) as url:
        yield f"{url}/socket"


async def start(url: str, *options: str, topic: str = "room:1") -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "roost.cli", "client", url, topic, *options),
        cwd=ROOT,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )


async def next_line(process: Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), TIMEOUT)).decode().rstrip("\n")


async def finish(process: Process, typed: str = "") -> tuple[list[str], str]:
    """Its last lines, and what it wrote to stderr."""
    out, err = await asyncio.wait_for(process.communicate(typed.encode()), TIMEOUT)
    return out.decode().splitlines(), err.decode()


async def test_who_is_there_and_what_is_said(url: str):
    """A line for each, and lines that are typed are sent; at the end of the input it leaves."""
    alice = await start(url, "--params", '{"name": "alice"}', "--event", "shout")
    assert await next_line(alice) == "* alice joined"
    async with Client(url, params={"name": "bob"}) as bob:
        room = await bob.join("room:1")
        assert await next_line(alice) == "* bob joined"
        room.push_nowait("shout", {"body": "Grüße\x1b[2J\n"})
        assert await next_line(alice) == 'shout {"body": "Grüße\\u001b[2J\\n"}'
        room.push_nowait("shout", b"\x01\xff")
        assert await next_line(alice) == 'shout "01ff"'

        lines, errors = await finish(alice, 'hello\n\n/shout {"n": 1}\n/shout [\n')

        assert [(await room.receive(TIMEOUT)).payload for _ in range(4)][2:] == [
            {"body": "hello"},
            {"n": 1},
        ]
        assert "not sent" in errors
        assert alice.returncode == 0
        assert "* bob left" not in lines


async def test_json(url: str):
    """An object on each line, for programs."""
    token_of_alice = token("alice")
    alice = await start(url, "--token", token_of_alice, "--json", "--watch")
    assert json.loads(await next_line(alice)) == {"type": "joined", "keys": ["alice"]}
    async with Client(url, params={"name": "bob"}) as bob:
        room = await bob.join("room:1")
        await next_line(alice)
        room.push_nowait("shout", {"n": 1})
        assert json.loads(await next_line(alice)) == {
            "type": "message",
            "event": "shout",
            "payload": {"n": 1},
        }
    assert json.loads(await next_line(alice)) == {"type": "left", "keys": ["bob"]}
    alice.kill()
    await alice.wait()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--params", "{}"], "HTTP 403"),
        (["--params", '{"name":"alice"}', "--join", '{"refuse":true}'], "not you"),
        (["--vsn", "3.0.0"], "vsn must be"),
    ],
    ids=["handshake", "join", "version"],
)
async def test_refusals(url: str, options: list[str], expected: str):
    """A sentence on stderr, and exit status 1."""
    process = await start(url, *options)
    _, errors = await finish(process)

    assert process.returncode == 1
    assert errors.startswith("roost: ")
    assert expected in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize("arguments", [[], ["ws://a"], ["ws://a", "room:1", "--params", "[]"]])
def test_arguments_that_cannot_be(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    """The usage, on stderr, and exit status 2."""
    with pytest.raises(SystemExit, match="2"):
        main(["client", *arguments])

    assert "roost client" in capsys.readouterr().err


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch):
    """The message names what is missing, and the command that installs it."""
    monkeypatch.delitem(sys.modules, "roost.client.websocket", raising=False)
    monkeypatch.setitem(sys.modules, "websockets.asyncio.client", None)

    with pytest.raises(SystemExit, match=r'websockets.*pip install "roost\[client\]"'):
        main(["client", "ws://a/socket", "room:1"])
