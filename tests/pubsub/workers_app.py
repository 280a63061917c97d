"""An app whose workers write down whom they see: served by real servers in tests.

``SEEN`` names a directory; each worker keeps a file there, named by its process id.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from roost.pubsub.auto import AutoAdapter
from roost.pubsub.urls import adapter_for

adapter = adapter_for(os.environ.get("CLUSTER", "auto"))
assert isinstance(adapter, AutoAdapter)


class Notes:
    """Whom this worker sees, and what it heard, as a file."""

    def __init__(self) -> None:
        self.path = Path(os.environ["SEEN"]) / str(os.getpid())
        self.since = time.time()
        self.links: dict[str, str] = {}
        self.heard: set[str] = set()

    def link_up(self, node_name: str, link: str) -> None:
        self.links[link] = node_name
        self.write()
        adapter.publish(adapter.node_name.encode())  # whoever we see hears us

    def link_down(self, link: str) -> None:
        del self.links[link]
        self.write()

    def detached(self) -> None: ...

    def attached(self) -> None: ...

    def hear(self, data: bytes) -> None:
        self.heard.add(data.decode())
        self.write()

    def write(self) -> None:
        assert isinstance(adapter, AutoAdapter)
        note = {
            "chosen": type(adapter.chosen).__name__,
            "node_name": adapter.node_name,
            "sees": sorted(self.links.values()),
            "heard": sorted(self.heard),
            "took": time.time() - self.since,
        }
        written = self.path.with_suffix(".new")
        written.write_text(json.dumps(note))
        written.rename(self.path)


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    if scope["type"] != "lifespan":
        return
    notes = Notes()
    await receive()
    await adapter.start(notes.hear, notes)
    notes.write()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await adapter.close()
    notes.path.unlink()
    await send({"type": "lifespan.shutdown.complete"})
