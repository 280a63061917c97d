from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from roost import Channel, Route, Socket
from roost.testing import ChannelCase, JoinedCase
from tests.channels.scenes import Join


@pytest.fixture
async def case() -> AsyncIterator[ChannelCase]:
    """An endpoint that runs."""
    async with ChannelCase() as case:
        yield case


@pytest.fixture
def join(case: ChannelCase) -> Join:
    """Connect a client of its own and join a channel."""

    async def join(
        channel: type[Channel[Any]] | Route,
        topic: str = "room:1",
        params: dict[str, Any] | None = None,
    ) -> JoinedCase:
        return await case.client(Socket()).join(topic, params, channel=channel)

    return join
