"""Thousands of clients in one process: ``python -m tests.client.load URL COUNT ROOM_SIZE``.

Each joins a room of ROOM_SIZE, says something and hears the others; then all are cut, and come
back. What that takes is written to stdout.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from typing import Any

import psutil

from roost.cli.limits import raise_file_limit
from roost.client import Channel, Client, Limits, Options

__all__ = ["load"]

CONCURRENCY = 100  # clients that connect at once
PATIENCE = 180.0  # seconds

# One process that does what thousands of machines do takes its time.
PATIENT = Options(open_timeout=PATIENCE, join_timeout=PATIENCE, heartbeat_timeout=PATIENCE)


async def load(url: str, count: int, room_size: int) -> dict[str, float]:
    """Run them; return seconds of each phase, and bytes of memory for a client."""
    took: dict[str, float] = {}
    gc.collect()
    before = psutil.Process().memory_info().rss
    gate = asyncio.Semaphore(CONCURRENCY)
    rooms: list[Channel[dict[str, Any]]] = []
    clients: list[Client] = []

    async def enter(number: int) -> None:
        client = Client(
            url,
            params={"user_id": str(number), "name": str(number)},
            limits=Limits(max_queue_count=10),
            options=PATIENT,
            connect_timeout=PATIENCE,
        )
        clients.append(client)
        async with gate:
            await client.connect()
            rooms.append(await client.join(f"room:{number // room_size}", timeout=PATIENCE))

    began_at = time.monotonic()
    await asyncio.gather(*(enter(number) for number in range(count)))
    took["connect and join"] = time.monotonic() - began_at
    await _until(lambda: all(room.presence.user_count == room_size for room in rooms))
    took["and see each other"] = time.monotonic() - began_at
    gc.collect()
    took["bytes for each"] = (psutil.Process().memory_info().rss - before) / count

    heard = 0

    def hear(_: object) -> None:
        nonlocal heard
        heard += 1

    for room in rooms:
        room.on("shout", hear)
    began_at = time.monotonic()
    for room in rooms:
        room.push_nowait("shout", {"n": 1})
    await _until(lambda: heard >= count * room_size)
    took["each says, all hear"] = time.monotonic() - began_at
    took["messages heard"] = heard

    cpu = psutil.Process().cpu_times()
    await asyncio.sleep(10)
    spent = psutil.Process().cpu_times()
    took["idle, % of a core"] = 10 * (spent.user + spent.system - cpu.user - cpu.system)

    began_at = time.monotonic()
    for client in clients:
        for link in client._links:
            link._connection.abort()  # type: ignore[union-attr]
    await _until(lambda: all(client.connect_count >= 2 for client in clients))
    await _until(lambda: all(room.presence.is_synced for room in rooms))
    took["cut, and come back"] = time.monotonic() - began_at
    began_at = time.monotonic()
    await asyncio.gather(*(client.close() for client in clients))
    took["close"] = time.monotonic() - began_at
    return took


async def _until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    raise_file_limit()
    result = asyncio.run(load(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
    for name, value in result.items():
        sys.stdout.write(f"{name:>22}: {value:,.2f}\n")
