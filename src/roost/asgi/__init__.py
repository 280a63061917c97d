"""The ASGI side: the endpoint, its lifespan, and the transports to clients."""

from roost.asgi.endpoint import Endpoint
from roost.asgi.handshake.origin import Origin
from roost.asgi.lifecycle.shutdown import Drainer
from roost.asgi.mount import Mount, WebSocket

__all__ = ["Drainer", "Endpoint", "Mount", "Origin", "WebSocket"]
