"""The pytest plugin: the fixture ``channel_case``.

It needs pytest-asyncio (``pip install roost[testing]``); without it the plugin offers nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

try:
    import pytest_asyncio
except ImportError:
    __all__: list[str] = []
else:
    from roost.asgi.endpoint import Endpoint
    from roost.testing.case import ChannelCase

    __all__ = ["channel_case"]

    @pytest_asyncio.fixture
    async def channel_case() -> AsyncIterator[Callable[[Endpoint | None], Awaitable[ChannelCase]]]:
        """Run an endpoint for one test: ``case = await channel_case(endpoint)``."""
        async with AsyncExitStack() as stack:

            async def start(endpoint: Endpoint | None = None) -> ChannelCase:
                return await stack.enter_async_context(ChannelCase(endpoint))

            yield start
