"""A program that is present, to be suspended: ``python -m tests.client.laptop URL NAME``.

It writes who is there whenever its list has come anew.
"""

from __future__ import annotations

import asyncio
import sys

from roost.client import Client

__all__ = ["stay"]


async def stay(url: str, name: str) -> None:
    """Be present, until killed."""
    async with Client(url, params={"name": name}) as client:
        channel = client.channel("room:1")
        presence = channel.presence
        presence.on_sync(lambda: say(" ".join(sorted(presence))))
        await channel.join()
        async for _ in channel:
            pass


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(stay(*sys.argv[1:]))
