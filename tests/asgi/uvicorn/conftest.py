"""Everything here runs on both event loops: their transports differ in small ways."""

import asyncio
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What makes the event loop of a test."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
