"""What type checkers know of a client: the metas of presences have the type that was named."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SERVICE = """
from typing import Any

from msgspec import Struct

from roost.client import Channel, Client, blocking


class Here(Struct):
    since: int


async def serve(url: str) -> int:
    async with Client(url, token=lambda: "t", params={"a": 1}) as client:
        channel = await client.join("room:1", meta=Here)
        async with client.join("room:2") as other:
            other.presence["alice"][0]["anything"]
        channel.presence["alice"][0].sinse  # wrong
        channel.presence[1]  # wrong
        await channel.push("say", {"body": "hi"}, timeout="soon")  # wrong
        async for message in channel:
            message.evnt  # wrong
        untyped: Channel[dict[str, Any]] = await client.join("room:3")
        wrong: Channel[Here] = await client.join("room:4")  # wrong
        return channel.presence["alice"][0].since


def script(url: str) -> int:
    with blocking.Client(url) as client:
        channel = client.join("room:1", meta=Here)
        channel.presence["alice"][0].sinse  # wrong
        return channel.presence["alice"][0].since
"""


def test_a_wrong_field_is_an_error(tmp_path: Path):
    """mypy, being strict, finds each mistake of a service, and nothing else."""
    service = tmp_path / "service.py"
    service.write_text(SERVICE)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(service)],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    found = {int(line) for line in re.findall(r"service\.py:(\d+): error", done.stdout)}
    wrong = {n for n, line in enumerate(SERVICE.splitlines(), 1) if line.endswith("# wrong")}

    assert found == wrong, done.stdout + done.stderr
