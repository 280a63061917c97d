"""Test channels and presences without a network.

>>> import asyncio
>>> from roost import Channel, Endpoint, Socket, event
>>> class RoomChannel(Channel):
...     @event("ping")
...     def ping(self, payload):
...         return payload
>>> class UserSocket(Socket):
...     channels = {"room:*": RoomChannel}
>>> async def test_ping():
...     async with ChannelCase(Endpoint({"/socket": UserSocket})) as case:
...         client = await case.connect(UserSocket, {"user_id": "alice"})
...         room = await client.join("room:1")
...         ref = room.push("ping", {"hello": "there"})
...         return await room.assert_reply(ref, "ok", {"hello": "there"})
>>> asyncio.run(test_ping())
{'hello': 'there'}

With pytest and pytest-asyncio the fixture ``channel_case`` does the same; it comes with the plugin
that roost installs.
"""

from roost.testing.case import ChannelCase, ClientCase, JoinedCase
from roost.testing.matching import matches

__all__ = ["ChannelCase", "ClientCase", "JoinedCase", "matches"]
