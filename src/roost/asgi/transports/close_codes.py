"""What it means when ASGI's ``send`` raises, and how to close on every server.

ASGI (2.4) lets a server raise an ``OSError`` once the client is gone. Whatever else comes out of
``send`` is the mistake of somebody between us and the server, or the server's refusal.
"""

from __future__ import annotations

import logging
from typing import Final

from roost.asgi.types import Send

__all__ = ["PRIVATE", "RESTART", "close_websocket", "means_gone"]

logger = logging.getLogger("roost.asgi")

RESTART: Final = 1012  # close code: the service restarts, clients come back
PRIVATE: Final = 3000
"""Added to a close code that a server refuses: 1012 becomes 4012, which is free for private use.

Not 1000, which every server takes: phoenix.js never reconnects after it.
"""


def means_gone(error: BaseException) -> bool:
    """Whether an exception of ``send`` says that the client is gone.

    A server raises an ``OSError`` of its own, or what its socket raised. The others of Python's own
    are about files and the like: those come from middleware.
    """
    if not isinstance(error, OSError):
        return False
    kind = type(error)
    return kind is OSError or isinstance(error, ConnectionError) or kind.__module__ != "builtins"


async def close_websocket(send: Send, code: int) -> None:
    """Close a WebSocket that was accepted.

    A server may refuse codes that only servers send: Daphne takes 1000 and 3000 to 4999. It is
    given one that says the same.
    """
    try:
        await send({"type": "websocket.close", "code": code, "reason": ""})
    except Exception as error:
        if means_gone(error):
            raise
        private = code + PRIVATE
        await send({"type": "websocket.close", "code": private, "reason": ""})
        logger.info("the server refuses to close with %d (%s): it was %d", code, error, private)
