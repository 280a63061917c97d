"""Everything here runs on all event loops: their transports differ in small ways."""

import asyncio
from collections.abc import Callable, Mapping

import uvloop
from aiofastnet import patch_loop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What makes the event loop of a test."""
    return {
        "asyncio": asyncio.new_event_loop,
        "uvloop": uvloop.new_event_loop,
        "aiofastnet": lambda: patch_loop(uvloop.new_event_loop()),
    }
