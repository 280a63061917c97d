"""Django Channels with channels-redis: one consumer, whose groups are the topics.

It speaks the Phoenix format. REDIS is the URL of a redis-server.
"""

from __future__ import annotations

import json
import os
import re

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter
from django.conf import settings
from django.core.asgi import get_asgi_application

settings.configure(
    SECRET_KEY="for the benchmark",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["channels"],
    ROOT_URLCONF=__name__,
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {
                # redis-py has 100 at most by default, and raises when that many clients join.
                "hosts": [{"address": os.environ["REDIS"], "max_connections": 10_000}],
                # Over its capacity a channel loses messages.
                "capacity": 1_000,
            },
        }
    },
)
django = get_asgi_application()
urlpatterns: list[object] = []


def group(topic: str) -> str:
    """Names of groups have no colon."""
    return re.sub(r"[^\w.-]", ".", topic)


class Room(AsyncWebsocketConsumer):  # type: ignore[misc]
    async def connect(self) -> None:
        self.names: set[str] = set()
        await self.accept()

    async def disconnect(self, code: int) -> None:
        for name in self.names:
            await self.channel_layer.group_discard(name, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        join_ref, ref, topic, event, payload = json.loads(text_data or "")
        if event == "shout":
            text = json.dumps([None, None, topic, event, payload])
            await self.channel_layer.group_send(group(topic), {"type": "tell", "text": text})
            return
        if event == "phx_join":
            self.names.add(group(topic))
            await self.channel_layer.group_add(group(topic), self.channel_name)
        response = payload if event == "ping" else {}
        answer = {"status": "ok", "response": response}
        await self.send(text_data=json.dumps([join_ref, ref, topic, "phx_reply", answer]))

    async def tell(self, event: dict[str, str]) -> None:
        await self.send(text_data=event["text"])


app = ProtocolTypeRouter({"http": django, "websocket": Room.as_asgi()})
