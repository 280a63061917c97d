"""Browser tabs as phoenix.js would have them, on nodes that come and go.

A tab stays in its room whatever happens: it takes presences by phoenix.js's rules, sends
heartbeats, and connects and joins again when its connection ends, as it does in a browser.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from websockets.exceptions import WebSocketException

from tests.clients import Client, Received, Refused, connect
from tests.models.phoenix_presence import ClientPresence

__all__ = ["ROOM", "Life", "Tab"]

ROOM = "room:1"
HEARTBEAT_PERIOD = 15.0  # seconds; 30 in phoenix.js
RETRY_DELAYS = (0.05, 0.1, 0.2, 0.5)  # seconds; about those of phoenix.js
CONNECT_TIMEOUT = 5.0  # seconds

Life = tuple[str, str, int]
"""One connection of one tab: who, which tab, and the how-manieth."""


class Lost(Exception):
    """The connection is of no use any more."""


class Tab:
    """One tab; ``leave`` closes it.

    Args:
        person: Who has it open.
        name: Unlike that of any other tab.
        url: Tells the URL of the server to connect to, at each attempt.
    """

    def __init__(self, person: str, name: str, url: Callable[[], str]) -> None:
        self.person = person
        self.name = name
        self.is_joined = False
        self._url = url
        self._connection_count = 0
        self._join_ref: str | None = None
        self._refs = map(str, itertools.count(1))
        self._presence = ClientPresence(lambda: self._join_ref)
        self._task = asyncio.create_task(self._run(), name=f"tab-{name}")

    @property
    def life(self) -> Life:
        """What others are to see of it while it is joined."""
        return self.person, self.name, self._connection_count

    @property
    def shown(self) -> list[Life]:
        """Whom it shows, each connection of each tab; sorted."""
        return sorted(
            (person, meta["tab"], meta["life"])
            for person, entry in self._presence.state.items()
            for meta in entry["metas"]
        )

    @property
    def is_settled(self) -> bool:
        """Whether it is joined and has its list."""
        return self.is_joined and not self._presence.is_pending

    def check(self) -> None:
        """Raise what ended this tab by mistake, if anything did."""
        if self._task.done():
            self._task.result()

    def stay_away(self) -> None:
        """Close without saying so to anybody; nothing happens if it is closed."""
        self._task.cancel()

    async def leave(self) -> None:
        """Close the tab, and return when its connection is closed."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        attempt = 0
        while True:
            try:
                async with connect(
                    self._url(), open_timeout=CONNECT_TIMEOUT, close_timeout=0.5
                ) as client:
                    attempt = 0
                    await self._stay(client)
            except (Lost, OSError, TimeoutError, WebSocketException, Refused):
                pass
            finally:
                self.is_joined = False
            await asyncio.sleep(RETRY_DELAYS[min(attempt, len(RETRY_DELAYS) - 1)])
            attempt += 1

    async def _stay(self, client: Client) -> None:
        self._connection_count += 1
        self._join_ref = next(self._refs)
        meta = {"tab": self.name, "life": self._connection_count}
        params = {"name": self.person, "meta": meta}
        await client.send(self._join_ref, self._join_ref, ROOM, "phx_join", params)
        loop = asyncio.get_running_loop()
        heartbeat_ref: str | None = None
        heartbeat_at = loop.time() + HEARTBEAT_PERIOD
        while True:
            try:
                message = await client.receive_message(timeout=heartbeat_at - loop.time())
            except TimeoutError:
                if heartbeat_ref is not None:
                    raise Lost from None
                heartbeat_ref = next(self._refs)
                heartbeat_at = loop.time() + HEARTBEAT_PERIOD
                await client.send(None, heartbeat_ref, "phoenix", "heartbeat")
                continue
            if message.ref == heartbeat_ref:
                heartbeat_ref = None
            self._receive(message)

    def _receive(self, message: Received) -> None:
        if message.topic != ROOM or message.join_ref not in (None, self._join_ref):
            return
        payload: Any = message.payload
        match message.event:
            case "phx_reply" if message.ref == self._join_ref:
                if payload["status"] != "ok":
                    raise Lost
                self.is_joined = True
            case "presence_state":
                self._presence.receive_state(payload)
            case "presence_diff":
                self._presence.receive_diff(payload)
            case "phx_close" | "phx_error":
                raise Lost
