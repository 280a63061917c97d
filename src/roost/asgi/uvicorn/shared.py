"""What the connections of one server share."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from uvicorn.config import Config
from uvicorn.server import ServerState

from roost.asgi.uvicorn.admission import Admission, Bounds, TrustedProxies
from roost.asgi.uvicorn.turns import Turns

__all__ = ["Shared", "shared_by"]

_NAME: Final = "roost"


class Shared:
    """One for each server.

    Args:
        config: Of the server.
        loop: That it runs on.

    Attributes:
        admission: How many connections there may be.
        turns: Whose turn it is to be read.
    """

    __slots__ = ("admission", "turns")

    def __init__(self, config: Config, loop: asyncio.AbstractEventLoop) -> None:
        proxies = TrustedProxies(config.forwarded_allow_ips if config.proxy_headers else "")
        self.admission = Admission(Bounds.from_environment(os.environ), loop, proxies)
        self.turns = Turns(loop)


def shared_by(server_state: ServerState, config: Config, loop: asyncio.AbstractEventLoop) -> Shared:
    """What the connections of a server share; uvicorn hands its state to each of them."""
    state = vars(server_state)
    shared: Shared | None = state.get(_NAME)
    if shared is None:
        shared = state[_NAME] = Shared(config, loop)
    return shared
