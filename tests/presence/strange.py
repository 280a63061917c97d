"""The strange ways in which code of an application fails."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

__all__ = ["STRANGE", "Stubborn", "raise_base"]


class Stubborn(BaseException):
    """What is no ``Exception``, as test frameworks and other libraries raise it."""


def raise_base() -> Any:
    raise Stubborn


class _Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def _unprintable() -> Any:
    raise _Unprintable


def _stop_iteration() -> Any:
    raise StopIteration("done")


async def _base_later() -> Any:
    await asyncio.sleep(0.1)
    raise Stubborn


async def _generates() -> Any:
    yield 1


def _generates_sync() -> Any:
    yield 1


STRANGE: Final = [
    pytest.param(raise_base, id="no Exception"),
    pytest.param(_base_later, id="no Exception, later"),
    pytest.param(_unprintable, id="has no text"),
    pytest.param(_stop_iteration, id="StopIteration"),
    pytest.param(_generates, id="async generator"),
    pytest.param(_generates_sync, id="generator"),
]
"""For ``parametrize``: what is no ``Exception``, has no text, or runs nothing of what it says."""
