"""The fast path on uvicorn: ``uvicorn --ws roost.asgi.uvicorn:Protocol``, or ``roost serve``.

Needs ``pip install "roost[server]"``; the rest of roost imports nothing from here.
"""

from roost.asgi.uvicorn.protocol import Protocol

__all__ = ["Protocol"]
