"""The fast path and the front door on uvicorn, which ``roost serve`` uses:
``uvicorn --http roost.asgi.uvicorn:HttpProtocol --ws roost.asgi.uvicorn:Protocol``.

Needs ``pip install "roost[server]"``; the rest of roost imports nothing from here.
"""

from roost.asgi.uvicorn.door import HttpProtocol
from roost.asgi.uvicorn.protocol import DeflateProtocol, Protocol

__all__ = ["DeflateProtocol", "HttpProtocol", "Protocol"]
