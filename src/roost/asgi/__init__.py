"""The ASGI side: the endpoint, its lifespan, and the transports to clients."""

from roost.asgi.drainer import Drainer
from roost.asgi.endpoint import Endpoint
from roost.asgi.mount import Mount, WebSocket
from roost.asgi.origin import Origin

__all__ = ["Drainer", "Endpoint", "Mount", "Origin", "WebSocket"]
